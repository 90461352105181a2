//! The hosts of a run: starting, killing, pausing and cutting off processes.
//!
//! ```text
//!   10.0.0.1 ..   coordinators c1 ..     10.0.0.65 ..  nodes n1 ..     10.0.0.129 ..  clients a1 ..
//! ```
//! Every host is one process with a machine of its own. Clock and disk belong to the machine and survive the process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ringfleet_env::{Env, EnvParts, SeededRandom};
use ringfleet_link::Role;

use crate::clock::HostClock;
use crate::disk::SimDisk;
use crate::exec::{Core, HostExecutor, HostId, Inside, Life, WORLD, lock};
use crate::identity::Authority;
use crate::net::{SimNet, ip_of};
use crate::rng::{Purpose, Rng};
use crate::run::Depth;

/// The port of every process.
pub const PORT: u16 = 7400;

/// The `number`th coordinator, from 1.
#[must_use]
pub fn coordinator(number: u16) -> HostId {
    HostId(number)
}

/// The `number`th node, from 1.
#[must_use]
pub fn node(number: u16) -> HostId {
    HostId(64 + number)
}

/// The `number`th client, from 1.
#[must_use]
pub fn client(number: u16) -> HostId {
    HostId(128 + number)
}

/// The role of a host.
#[must_use]
pub fn role_of(host: HostId) -> Role {
    match host.0 {
        0..=64 => Role::Coordinator,
        65..=128 => Role::Node,
        _ => Role::Operator,
    }
}

/// The name of a host.
#[must_use]
pub fn name_of(host: HostId) -> String {
    match host.0 {
        0 => "world".to_owned(),
        n @ 1..=64 => format!("c{n}"),
        n @ 65..=128 => format!("n{}", n - 64),
        n => format!("a{}", n - 128),
    }
}

/// Where a host listens.
#[must_use]
pub fn addr_of(host: HostId) -> SocketAddr {
    SocketAddr::new(ip_of(host), PORT)
}

/// One process, running.
#[derive(Clone)]
pub struct Process {
    /// Its life.
    pub life: Arc<Life>,
    /// What it runs in.
    pub env: Env,
    executor: Arc<HostExecutor>,
}

/// One machine.
struct Machine {
    clock: Arc<HostClock>,
    disk: Arc<SimDisk>,
    process: Option<Process>,
    starts: u64,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process alone: what it wrote is in the machine's memory and stays.
    Killed,
    /// The machine loses power: only what was synced is sure to stay.
    PowerLost,
}

/// All hosts.
pub struct World {
    /// The executor.
    pub core: Arc<Core>,
    /// The network.
    pub net: Arc<SimNet>,
    /// Certificates.
    pub authority: &'static Authority,
    seed: u64,
    machines: Mutex<BTreeMap<HostId, Machine>>,
    rngs: Mutex<(Rng, Rng)>,
    own: Process,
    own_disk: Arc<SimDisk>,
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64, depth: Depth) -> Arc<Self> {
        crate::crypto::seed(seed);
        let core = Core::new(seed);
        let net = SimNet::new(core.clone(), depth, Rng::new(seed, Purpose::Net));
        let (mut clocks, mut disks) = (Rng::new(seed, Purpose::Clocks), Rng::new(seed, Purpose::Disk));
        let clock = Arc::new(HostClock::new(core.clone(), 0, 0, 0));
        let own_disk = SimDisk::new(core.clone(), WORLD, disks.fork());
        let own = start(&core, &net, &clock, &own_disk, WORLD, clocks.draw());
        Arc::new(Self {
            core,
            net,
            authority: Authority::get(),
            seed,
            machines: Mutex::default(),
            rngs: Mutex::new((clocks, disks)),
            own,
            own_disk,
        })
    }

    /// The environment of the simulation itself: true time.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.own.env
    }

    /// Notes an event in the trace.
    pub fn note(&self, kind: &str, host: HostId, what: &str) {
        self.core.trace.note(self.core.now_ns(), kind, &[("host", &name_of(host)), ("what", what)]);
    }

    /// Starts the process of a host, on the machine of its earlier lives if there were any. `main` is what runs in it.
    ///
    /// # Panics
    /// When it runs already.
    pub fn start<F: Future<Output = ()> + Send + 'static>(&self, host: HostId, main: impl FnOnce(Env) -> F) {
        let mut machines = lock(&self.machines);
        let machine = machines.entry(host).or_insert_with(|| {
            let mut rngs = lock(&self.rngs);
            let rate = rngs.0.between(0, 200) as i64 - 100;
            let offset = rngs.0.between(0, 100) as i64 - 50;
            let uptime = rngs.0.between(1_000_000_000, 1_000_000_000_000);
            Machine {
                clock: Arc::new(HostClock::new(self.core.clone(), uptime, rate, offset)),
                disk: SimDisk::new(self.core.clone(), host, rngs.1.fork()),
                process: None,
                starts: 0,
            }
        });
        assert!(machine.process.is_none(), "{} runs already", name_of(host));
        machine.starts += 1;
        let seed = self.seed ^ u64::from(host.0) << 48 ^ machine.starts << 32;
        let process = start(&self.core, &self.net, &machine.clock, &machine.disk, host, seed);
        machine.process = Some(process.clone());
        drop(machines);
        let main = {
            let _in = Inside::enter(host);
            main(process.env.clone())
        };
        // It ends with its life.
        drop(self.core.spawn("main", &process.life, &process.env, Box::pin(main)));
    }

    /// Ends the process of a host, if it runs, wherever it is.
    pub fn end(&self, host: HostId, end: End, rng: &mut Rng) {
        let Some((process, disk)) = self.take(host) else { return };
        // Blocking work has got somewhere, and not to its end.
        let work = process.executor.take_under_way();
        disk.die_after(if work.is_empty() { 0 } else { rng.below(24) });
        for work in work {
            let _in = Inside::enter(host);
            ringfleet_coordinator::raft::within(&process.env, work);
        }
        disk.die_after(0);
        self.core.end_life(&process.life);
        process.executor.part();
        if end == End::PowerLost {
            disk.crash();
        }
    }

    fn take(&self, host: HostId) -> Option<(Process, Arc<SimDisk>)> {
        let mut machines = lock(&self.machines);
        let machine = machines.get_mut(&host)?;
        Some((machine.process.take()?, machine.disk.clone()))
    }

    /// The process of a host, if it runs.
    #[must_use]
    pub fn process(&self, host: HostId) -> Option<Process> {
        lock(&self.machines).get(&host).and_then(|machine| machine.process.clone())
    }

    /// Whether the process of a host runs.
    #[must_use]
    pub fn is_up(&self, host: HostId) -> bool {
        self.process(host).is_some()
    }

    /// The clock of a host that was started once.
    #[must_use]
    pub fn clock(&self, host: HostId) -> Option<Arc<HostClock>> {
        lock(&self.machines).get(&host).map(|machine| machine.clock.clone())
    }

    /// The disk of a host that was started once.
    #[must_use]
    pub fn disk(&self, host: HostId) -> Option<Arc<SimDisk>> {
        lock(&self.machines).get(&host).map(|machine| machine.disk.clone())
    }

    /// Stops polling a process, or all of it but its devices; everything around it goes on.
    pub fn pause(&self, host: HostId, devices_go_on: bool) {
        if let Some(process) = self.process(host) {
            self.core.pause(&process.life, devices_go_on);
        }
    }

    /// Its devices stand still, or go on.
    pub fn hang_devices(&self, host: HostId, hang: bool) {
        if let Some(process) = self.process(host) {
            self.core.hang_devices(&process.life, hang);
        }
    }

    /// Lets it go on.
    pub fn resume(&self, host: HostId) {
        if let Some(process) = self.process(host) {
            self.core.resume(&process.life);
        }
    }

    /// Runs a task of the simulation itself.
    pub fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.core.spawn(name, &self.own.life, &self.own.env, Box::pin(task)));
    }

    /// Ends everything: nothing of the run is left in memory.
    pub fn clear(&self) {
        self.own_disk.die_after(0);
        let hosts: Vec<HostId> = lock(&self.machines).keys().copied().collect();
        for host in hosts {
            if let Some((process, disk)) = self.take(host) {
                disk.die_after(0);
                drop(process.executor.take_under_way());
                self.core.end_life(&process.life);
                process.executor.part();
            }
        }
        self.core.clear();
        self.own.executor.part();
    }
}

fn start(
    core: &Arc<Core>,
    net: &Arc<SimNet>,
    clock: &Arc<HostClock>,
    disk: &Arc<SimDisk>,
    host: HostId,
    seed: u64,
) -> Process {
    let life = Core::begin_life(host);
    let executor = Arc::new(HostExecutor::new(core.clone(), life.clone(), clock.clone(), disk.clone()));
    let env = Env::new(EnvParts {
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(Rng::new(seed, Purpose::Inside).draw())),
        executor: executor.clone(),
        net: Arc::new(net.of(&life)),
        disk: disk.mount(),
    });
    executor.belong_to(&env);
    Process { life, env, executor }
}

/// The folder of a process on its disk.
#[must_use]
pub fn data_dir() -> PathBuf {
    PathBuf::from("/data")
}
