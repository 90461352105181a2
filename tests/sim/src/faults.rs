//! What goes wrong, by seed.
//!
//! A fault begins, lasts for a while and is undone; several may be in force at a time. When the time of faults is over, everything
//! that still is wrong is put right, and the cluster must recover (C10).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::actors;
use crate::cluster::Cluster;
use crate::disk::Ailment;
use crate::exec::{HostId, lock};
use crate::mutants::Mutant;
use crate::net::Weather;
use crate::rng::Rng;
use crate::world::{End, name_of, role_of};
use ringfleet_coordinator::service::Service;
use ringfleet_link::Role;

/// The longest that a single fault lasts.
const LASTS_MAX_MS: u64 = 4_000;
/// After so long without a packet a connection is dead on both sides (`ringfleet_link::LinkConfig::idle_timeout`).
const DEAD_MS: u64 = 10_000;
/// How far a wall clock may be off, either way: half of what the contract allows between two of them.
pub const WALL_OFFSET_MS: u64 = 95;
/// How far the rate of a clock may be off, either way: a cheap crystal in a hot rack, ten times over.
const RATE_PPM: u64 = 1_000;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A process is killed and started again later.
    Kill,
    /// A machine loses power and is started again later.
    PowerLoss,
    /// A process stands still.
    Pause,
    /// A process stands still for about as long as a lease lasts.
    PauseAtLease,
    /// A node's process stands still for about as long as a lease lasts, and its devices go on.
    PauseHost,
    /// The devices of a node stand still, and its process goes on.
    DeviceHang,
    /// A device of a node fails in the middle of a message, with everything on it.
    DeviceFault,
    /// All coordinators lose power at once.
    Blackout,
    /// A host is cut off from all others.
    Isolate,
    /// The hosts are cut into two parts.
    Split,
    /// As a split that lasts until the nodes on the other side were lost and given up.
    LongSplit,
    /// Whoever leads hears the other coordinators no more, or they him, until another one leads; clients reach all of them.
    Depose,
    /// A coordinator loses its disk; an operator takes it out of the group, and back in with an empty one.
    Replace,
    /// A coordinator is killed and started again at once.
    Flap,
    /// Nothing gets from one host to another, or to anybody; the other way is open.
    OneWay,
    /// Nothing gets from a node to another one or to a client, or back, or both, until their connection has died; all else is open.
    CutLink,
    /// Datagrams are lost, delayed, repeated and overtaken.
    Weather,
    /// A wall clock jumps.
    ClockJump,
    /// A clock runs faster or slower.
    ClockRate,
    /// A disk is slow.
    DiskSlow,
    /// A disk is full.
    DiskFull,
    /// A disk fails to sync.
    DiskFailing,
}

impl Kind {
    /// Its name in traces and counts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerLoss => "power-loss",
            Self::Pause => "pause",
            Self::PauseAtLease => "pause-at-lease",
            Self::PauseHost => "pause-host",
            Self::DeviceHang => "device-hang",
            Self::DeviceFault => "device-fault",
            Self::Blackout => "blackout",
            Self::Isolate => "isolate",
            Self::Split => "split",
            Self::LongSplit => "long-split",
            Self::Depose => "depose",
            Self::Replace => "replace",
            Self::Flap => "flap",
            Self::OneWay => "one-way",
            Self::CutLink => "cut-link",
            Self::Weather => "weather",
            Self::ClockJump => "clock-jump",
            Self::ClockRate => "clock-rate",
            Self::DiskSlow => "disk-slow",
            Self::DiskFull => "disk-full",
            Self::DiskFailing => "disk-failing",
        }
    }

    fn is_for(self, role: Role) -> bool {
        match self {
            Self::DiskSlow
            | Self::DiskFull
            | Self::DiskFailing
            | Self::Flap
            | Self::Blackout
            | Self::Depose
            | Self::Replace => role == Role::Coordinator,
            Self::CutLink | Self::PauseHost | Self::DeviceHang | Self::DeviceFault => role == Role::Node,
            _ => true,
        }
    }
}

/// How often each kind happened.
pub type Counts = BTreeMap<&'static str, u64>;

/// What a fault that lasts is about. A newer fault takes the place of an older one about the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Process(HostId),
    Device(HostId),
    Disk(HostId),
    Weather,
}

/// What makes faults.
pub struct Nemesis {
    cluster: Arc<Cluster>,
    rng: Rng,
    /// The number of the youngest fault about each thing.
    youngest: Arc<Mutex<BTreeMap<About, u64>>>,
}

impl Nemesis {
    /// For one cluster.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, rng: Rng) -> Self {
        Self { cluster, rng, youngest: Arc::default() }
    }

    /// Makes faults for so long.
    pub async fn run(&mut self, lasting: Duration) {
        // A cluster of coordinators has no node whose device could fail.
        let kinds = self.cluster.scenario.faults.iter().copied();
        let kinds: Vec<Kind> = kinds.filter(|kind| !self.targets(*kind).is_empty()).collect();
        let env = self.cluster.world.env().clone();
        let end = env.now() + lasting;
        if kinds.is_empty() {
            env.sleep_until(end).await;
            return;
        }
        let mean_ms = self.cluster.scenario.fault_every_ms;
        loop {
            let gap_ms = self.rng.between(mean_ms / 4, mean_ms * 7 / 4);
            let next = env.now() + Duration::from_millis(gap_ms);
            if next >= end {
                env.sleep_until(end).await;
                return;
            }
            env.sleep_until(next).await;
            let kind = *self.rng.pick(&kinds);
            self.strike(kind);
        }
    }

    /// Whom a fault may meet.
    fn targets(&self, kind: Kind) -> Vec<HostId> {
        self.cluster.servers().into_iter().filter(|host| kind.is_for(role_of(*host))).collect()
    }

    fn strike(&mut self, kind: Kind) {
        let cluster = self.cluster.clone();
        let world = cluster.world.clone();
        let host = *self.rng.pick(&self.targets(kind));
        let mut lasts_ms = match self.rng.below(3) {
            0 => self.rng.between(10, 300),
            1 => self.rng.between(300, 1500),
            _ => self.rng.between(1500, LASTS_MAX_MS),
        };
        let mut what = String::new();
        match kind {
            Kind::Kill | Kind::PowerLoss | Kind::Flap => {
                if !world.is_up(host) {
                    return;
                }
                if kind == Kind::Flap {
                    lasts_ms = self.rng.between(1, 60);
                }
                let end = if kind == Kind::PowerLoss { End::PowerLost } else { End::Killed };
                let mut rng = self.rng.fork();
                let cluster = cluster.clone();
                let world = world.clone();
                // Between two polls: a task of the host itself may be under way here.
                world.core.clone().at(world.core.now_ns(), move || {
                    world.end(host, end, &mut rng);
                    if cluster.mutant == Some(Mutant::OldDisk)
                        && let Some(disk) = world.disk(host)
                    {
                        disk.roll_back();
                    }
                    cluster.start_later(host, lasts_ms);
                });
            }
            Kind::Replace => {
                if !world.is_up(host) || !cluster.begin_replacement(host) {
                    return;
                }
                let mut rng = self.rng.fork();
                let cluster = cluster.clone();
                let world = world.clone();
                world.core.clone().at(world.core.now_ns(), move || {
                    world.end(host, End::Killed, &mut rng);
                    if let Some(disk) = world.disk(host) {
                        disk.wipe();
                    }
                    cluster.start_later(host, lasts_ms);
                });
            }
            Kind::DeviceHang => {
                if !world.is_up(host) {
                    return;
                }
                world.hang_devices(host, true);
                self.later(About::Device(host), lasts_ms, move |cluster| cluster.world.hang_devices(host, false));
            }
            Kind::DeviceFault => {
                if !world.is_up(host) {
                    return;
                }
                // With its next message; a process whose device is gone ends and is started again.
                actors::break_device(host);
            }
            Kind::Blackout => {
                let mut rng = self.rng.fork();
                let cluster = cluster.clone();
                let world = world.clone();
                world.core.clone().at(world.core.now_ns(), move || {
                    for host in cluster.coordinators() {
                        world.end(host, End::PowerLost, &mut rng);
                        cluster.start_later(host, lasts_ms);
                    }
                });
            }
            Kind::Pause | Kind::PauseAtLease | Kind::PauseHost => {
                if kind != Kind::Pause {
                    let lease_ms = u64::from(cluster.scenario.lease_ms);
                    lasts_ms = self.rng.between(lease_ms * 3 / 4, lease_ms * 2 + 500);
                }
                if !world.is_up(host) {
                    return;
                }
                world.pause(host, kind == Kind::PauseHost);
                let clock = world.clock(host).filter(|_| cluster.mutant == Some(Mutant::StoppedClock));
                if let Some(clock) = &clock {
                    clock.set_rate(-999_999);
                }
                self.later(About::Process(host), lasts_ms, move |cluster| {
                    if let Some(clock) = clock {
                        clock.set_rate(0);
                    }
                    cluster.world.resume(host);
                });
            }
            Kind::Isolate => {
                let others = cluster.hosts();
                for other in others.into_iter().filter(|other| *other != host) {
                    self.cut(host, other, lasts_ms);
                    self.cut(other, host, lasts_ms);
                }
            }
            Kind::Split | Kind::LongSplit => {
                if kind == Kind::LongSplit {
                    lasts_ms = self.rng.between(3_000, LASTS_MAX_MS);
                }
                let mut parts = (Vec::new(), Vec::new());
                for host in cluster.hosts() {
                    if self.rng.chance(500_000) { parts.0.push(host) } else { parts.1.push(host) }
                }
                what = parts.0.iter().map(|host| name_of(*host)).collect::<Vec<_>>().join(" ");
                for a in &parts.0 {
                    for b in &parts.1 {
                        self.cut(*a, *b, lasts_ms);
                        self.cut(*b, *a, lasts_ms);
                    }
                }
            }
            Kind::OneWay => {
                let hosts = cluster.hosts();
                let others: Vec<HostId> = hosts.into_iter().filter(|other| *other != host).collect();
                let to_all = self.rng.chance(300_000);
                let outwards = self.rng.chance(500_000);
                let one = *self.rng.pick(&others);
                for other in others.into_iter().filter(|other| to_all || *other == one) {
                    let (from, to) = if outwards { (host, other) } else { (other, host) };
                    self.cut(from, to, lasts_ms);
                }
                what = format!(
                    "{} {}",
                    if outwards { "to" } else { "from" },
                    if to_all { "all".into() } else { name_of(one) }
                );
            }
            Kind::Depose => {
                let leads = |service: &Service| service.group.status().leads;
                let leader = cluster.services().into_iter().find(|(_, _, service)| leads(service));
                let Some((leader, _, _)) = leader else { return };
                lasts_ms = self.rng.between(600, 1500);
                let answers = self.rng.chance(500_000);
                for other in cluster.coordinators().filter(|other| *other != leader) {
                    self.cut(other, leader, lasts_ms);
                    if !answers {
                        self.cut(leader, other, lasts_ms);
                    }
                }
                what = name_of(leader);
            }
            Kind::CutLink => {
                let all = cluster.nodes().chain(cluster.clients().skip(1));
                let others: Vec<HostId> = all.filter(|other| *other != host).collect();
                let one = *self.rng.pick(&others);
                lasts_ms = self.rng.between(DEAD_MS, DEAD_MS + LASTS_MAX_MS);
                // What is handled and never answered is what comes again over the next connection.
                let ways = self.rng.below(3);
                if ways != 1 {
                    self.cut(host, one, lasts_ms);
                }
                if ways != 2 {
                    self.cut(one, host, lasts_ms);
                }
                what = format!("{} {}", ["both ways", "from", "to"][ways as usize], name_of(one));
            }
            Kind::Weather => {
                let weather = Weather {
                    delay_min_ns: 150_000,
                    delay_max_ns: self.rng.between(500_000, 20_000_000),
                    loss_ppm: self.rng.below(300_001) as u32,
                    repeat_ppm: self.rng.below(100_001) as u32,
                    overtaken_ppm: self.rng.below(200_001) as u32,
                    overtaken_ns: self.rng.between(1_000_000, 80_000_000),
                };
                what = format!("{weather:?}");
                world.net.set_weather(weather);
                self.later(About::Weather, lasts_ms, |cluster| cluster.world.net.set_weather(Weather::FINE));
            }
            Kind::ClockJump => {
                let offset = self.rng.between(0, 2 * WALL_OFFSET_MS) as i64 - WALL_OFFSET_MS as i64;
                what = format!("to {offset} ms");
                let Some(clock) = world.clock(host) else { return };
                clock.set_wall_offset_ms(offset);
            }
            Kind::ClockRate => {
                let rate = self.rng.between(0, 2 * RATE_PPM) as i64 - RATE_PPM as i64;
                what = format!("{rate} ppm");
                let Some(clock) = world.clock(host) else { return };
                clock.set_rate(rate);
            }
            Kind::DiskSlow | Kind::DiskFull | Kind::DiskFailing => {
                let ailment = match kind {
                    Kind::DiskSlow => {
                        Ailment { slow_ns: self.rng.between(5_000_000, 400_000_000), ..Ailment::default() }
                    }
                    Kind::DiskFull => Ailment { full: true, ..Ailment::default() },
                    _ => Ailment { failing: true, ..Ailment::default() },
                };
                what = format!("{ailment:?}");
                let Some(disk) = world.disk(host) else { return };
                disk.set_ailment(ailment);
                self.later(About::Disk(host), lasts_ms, move |_| disk.set_ailment(Ailment::default()));
            }
        }
        world.note("fault", host, &format!("{} for {lasts_ms} ms {what}", kind.name()));
        *lock(&cluster.counts.faults).entry(kind.name()).or_default() += 1;
    }

    fn cut(&self, from: HostId, to: HostId, lasts_ms: u64) {
        let world = &self.cluster.world;
        world.net.cut(from, to, world.core.now_ns() + lasts_ms * 1_000_000);
    }

    /// Undoes a fault when it is over, unless a younger one about the same has begun meanwhile.
    fn later(&self, about: About, after_ms: u64, work: impl FnOnce(&Cluster) + Send + 'static) {
        let (cluster, youngest) = (self.cluster.clone(), self.youngest.clone());
        let number = {
            let mut youngest = lock(&youngest);
            let number = youngest.entry(about).or_default();
            *number += 1;
            *number
        };
        let at_ns = self.cluster.world.core.now_ns() + after_ms * 1_000_000;
        self.cluster.world.core.at(at_ns, move || {
            if lock(&youngest).get(&about) == Some(&number) {
                work(&cluster);
            }
        });
    }

    /// Puts right whatever is wrong, and starts whoever does not run.
    pub fn heal(&self) {
        let cluster = &self.cluster;
        let world = &cluster.world;
        world.net.heal();
        world.net.set_weather(Weather::FINE);
        for host in cluster.servers() {
            if let Some(disk) = world.disk(host) {
                disk.set_ailment(Ailment::default());
            }
            if let Some(clock) = world.clock(host) {
                clock.set_rate(0);
            }
            world.resume(host);
            world.hang_devices(host, false);
            actors::mend_device(host);
            cluster.start_if_down(host);
        }
        world.note("healed", crate::exec::WORLD, "");
    }
}
