//! The machines that the processes of a run believe to have, and what can be done to them here.
//!
//! | facility | needs | gives |
//! |---|---|---|
//! | [`Facility::Cables`] | network namespaces | a process cut off from everybody |
//! | [`Facility::Filter`] | those, and `nft` | datagrams dropped one way, all or some, from coordinators or from everybody else |
//! | [`Facility::Throttle`] | those, and `tc` with `tbf` | a bandwidth |
//! | [`Facility::Freezer`] | a control group, version 1 or 2 | a process that stands still with its children |
//! | [`Facility::Memory`] | the same | a process killed for want of memory |
//! | [`Facility::Words`] | `cc` | wall clocks that are wrong, syncs that fail or take long |
//! | [`Facility::Disks`] | `mount` | full disks |
//!
//! What is not permitted is missing from plans, and is named with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use ringfleet::local::{Host, Kind, LocalCluster};

use super::cgroup::{Controller, Group};
use super::disks::Disk;
use super::network::Network;
use super::preload::{Library, Words};

/// Something that can be done to a machine, if it is permitted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Facility {
    /// Cables that can be pulled.
    Cables,
    /// Filters of datagrams.
    Filter,
    /// Bandwidths.
    Throttle,
    /// Freezing.
    Freezer,
    /// Limits of memory.
    Memory,
    /// Wrong clocks and failing syncs.
    Words,
    /// File systems of one's own.
    Disks,
}

impl Facility {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Cables, Self::Filter, Self::Throttle, Self::Freezer, Self::Memory, Self::Words, Self::Disks];

    fn name(self) -> &'static str {
        match self {
            Self::Cables => "network namespaces",
            Self::Filter => "filters (nft)",
            Self::Throttle => "bandwidths (tc tbf)",
            Self::Freezer => "the freezer (cgroup)",
            Self::Memory => "limits of memory (cgroup)",
            Self::Words => "wrong clocks and failing syncs (cc, LD_PRELOAD)",
            Self::Disks => "full disks (mount tmpfs)",
        }
    }
}

/// The machines of a run; gone when dropped, which must be after their processes.
#[derive(Debug)]
pub struct Machines {
    /// How they are connected.
    pub network: Network,
    names: Vec<String>,
    missing: BTreeMap<Facility, String>,
    freezers: BTreeMap<String, Group>,
    memories: BTreeMap<String, Group>,
    words: BTreeMap<String, Words>,
    data: BTreeMap<String, Disk>,
    logs: BTreeMap<String, Disk>,
    _folder: tempfile::TempDir,
}

impl Machines {
    /// One for each process.
    ///
    /// # Errors
    /// If something that is permitted fails all the same.
    pub fn of(names: &[String], loopback: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("ringfleet-machines-").tempdir()?;
        let network = if loopback { Network::Loopback("not wanted".to_owned()) } else { Network::of(names)? };
        let mut missing = BTreeMap::new();
        let mut need = |facility, tried: Result<()>| {
            if let Err(why) = tried {
                missing.insert(facility, format!("{why:#}"));
            }
        };
        need(Facility::Cables, network.has_cables().then_some(()).context("all processes share one interface"));
        let first = names.first().context("no process")?;
        need(Facility::Filter, network.filter(first, &[]));
        need(Facility::Throttle, network.throttle(first, Some(1_000)).and_then(|()| network.throttle(first, None)));
        // Other runs of this process, and other processes, have groups of other names.
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = format!("rf{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let groups = |controller| -> Result<BTreeMap<String, Group>> {
            let group = |name: &String| Ok((name.clone(), Group::make(controller, &format!("{run}-{name}"))?));
            names.iter().map(group).collect()
        };
        let disks = |what: &str| -> Result<BTreeMap<String, Disk>> {
            let disk = |name: &String| Ok((name.clone(), Disk::make(&folder.path().join(format!("{name}-{what}")))?));
            names.iter().map(disk).collect()
        };
        let words = || -> Result<BTreeMap<String, Words>> {
            let library = Library::build(folder.path())?;
            names.iter().map(|name| Ok((name.clone(), library.words(name)?))).collect()
        };
        let mut take = |facility, made: Result<BTreeMap<String, Group>>| {
            made.unwrap_or_else(|why| {
                missing.insert(facility, format!("{why:#}"));
                BTreeMap::new()
            })
        };
        let freezers = take(Facility::Freezer, groups(Controller::Freezer));
        let memories = take(Facility::Memory, groups(Controller::Memory));
        let words = words().unwrap_or_else(|why| {
            missing.insert(Facility::Words, format!("{why:#}"));
            BTreeMap::new()
        });
        let (data, logs) = match disks("data").and_then(|data| Ok((data, disks("log")?))) {
            Ok(disks) => disks,
            Err(why) => {
                missing.insert(Facility::Disks, format!("{why:#}"));
                (BTreeMap::new(), BTreeMap::new())
            }
        };
        let names = names.to_vec();
        Ok(Self { network, names, missing, freezers, memories, words, data, logs, _folder: folder })
    }

    /// What can be done here.
    #[must_use]
    pub fn available(&self) -> BTreeSet<Facility> {
        Facility::ALL.into_iter().filter(|facility| !self.missing.contains_key(facility)).collect()
    }

    /// Where the processes run, in the order of their names.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut hosts = self.network.hosts();
        hosts.resize(self.names.len(), Host { ip: here, proxy_ip: here, wrap: Vec::new() });
        for (host, name) in hosts.iter_mut().zip(&self.names) {
            let doors: Vec<String> = [&self.freezers, &self.memories]
                .iter()
                .filter_map(|groups| groups.get(name))
                .map(Group::door)
                .collect();
            if !doors.is_empty() {
                let script = format!("for door in {}; do echo $$ >$door || exit 1; done; exec \"$@\"", doors.join(" "));
                // First: `ip netns exec` mounts another /sys.
                host.wrap.splice(..0, ["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]);
            }
            host.wrap.extend(self.words.get(name).into_iter().flat_map(|words| words.wrap().iter().cloned()));
        }
        hosts
    }

    /// Puts what the processes write on disks of their own; before they are started.
    pub fn attach(&self, local: &LocalCluster) -> Result<()> {
        for process in local.processes() {
            let folder = local.folder().join(&process.name);
            let written = if process.kind == Kind::Coordinator { "data" } else { "state" };
            if let Some(disk) = self.data.get(&process.name) {
                symlink(disk.folder(), folder.join(written))?;
            }
            if let Some(disk) = self.logs.get(&process.name) {
                symlink(disk.folder().join("log"), &process.log)?;
            }
        }
        Ok(())
    }

    /// The freezer of a process.
    pub fn freezer(&self, name: &str) -> Result<&Group> {
        self.freezers.get(name).with_context(|| format!("{name} has no freezer"))
    }

    /// The memory of a process.
    pub fn memory(&self, name: &str) -> Result<&Group> {
        self.memories.get(name).with_context(|| format!("{name} has no limit of memory"))
    }

    /// What a process is told.
    pub fn words(&self, name: &str) -> Result<&Words> {
        self.words.get(name).with_context(|| format!("{name} is told the truth"))
    }

    /// The disk of the log of a process, or of everything else.
    pub fn disk(&self, name: &str, log: bool) -> Result<&Disk> {
        let disks = if log { &self.logs } else { &self.data };
        disks.get(name).with_context(|| format!("{name} has no disk of its own"))
    }

    /// A value whose drop thaws every process: what is frozen cannot be killed. To be dropped before the cluster is.
    #[must_use]
    pub fn thawed_at_last(&self) -> impl Drop + '_ {
        struct Thaw<'a>(&'a Machines);
        impl Drop for Thaw<'_> {
            fn drop(&mut self) {
                for group in self.0.freezers.values() {
                    // A group that is not frozen does not mind.
                    let _ = group.freeze(false);
                }
            }
        }
        Thaw(self)
    }
}

impl fmt::Display for Machines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.network)?;
        for (facility, why) in &self.missing {
            write!(f, "\nnot here: {}: {why}", facility.name())?;
        }
        Ok(())
    }
}
