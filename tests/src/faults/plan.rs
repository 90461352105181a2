//! What happens when, as a function of a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use ringfleet::proxy::Weather;
use ringfleet_abi::hash::mix64;

use super::machines::Facility;
use super::network::{Filter, Peers};

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGSTOP, and SIGCONT when it is over.
    Stopped,
    /// Frozen with whatever it has started, and thawed.
    Frozen,
    /// SIGKILL, and a new start when it is over.
    Killed,
    /// Killed by the kernel, as its memory is used up, and started anew.
    OutOfMemory,
    /// Its cable is pulled: nothing from or to it arrives.
    Unplugged,
    /// What goes to it or comes from it through its proxy is dropped, duplicated, changed or late. Nodes only.
    Weather(Weather),
    /// What it sends or is sent is dropped, all or some of it.
    Filtered(Filter),
    /// So many kilobits a second.
    Throttled(u64),
    /// Its wall clock is ahead by so many milliseconds, and gains so many millionths.
    Clock(i64, i64),
    /// Its syncs fail. A coordinator stops then.
    SyncsFail,
    /// A sync takes so many milliseconds more.
    SyncsSlow(u64),
    /// There is no room for what it keeps. A coordinator stops then.
    DataFull,
    /// There is no room for what it logs.
    LogFull,
}

impl Fault {
    /// Whether a coordinator may end by itself.
    #[must_use]
    pub fn ends_coordinators(&self) -> bool {
        matches!(self, Self::SyncsFail | Self::DataFull)
    }

    /// For counting.
    fn kind(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Frozen => "frozen",
            Self::Killed => "killed",
            Self::OutOfMemory => "out of memory",
            Self::Unplugged => "unplugged",
            Self::Weather(weather) if weather.drop_to == 1000 || weather.drop_from == 1000 => "one-way",
            Self::Weather(_) => "weather",
            Self::Filtered(filter) if filter.permille == 1000 => "one-way filter",
            Self::Filtered(_) => "loss",
            Self::Throttled(_) => "throttled",
            Self::Clock(..) => "wrong clock",
            Self::SyncsFail => "failing syncs",
            Self::SyncsSlow(_) => "slow syncs",
            Self::DataFull => "full disk",
            Self::LogFull => "full log",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weather(weather) => {
                let Weather { drop_to, drop_from, duplicate, corrupt, delay_max } = weather;
                write!(f, "drops {drop_to}/{drop_from} duplicates {duplicate} corrupts {corrupt} of 1000, ")?;
                write!(f, "late by up to {delay_max:?}")
            }
            Self::Filtered(Filter { inward, permille, peers }) => {
                let way = if *inward { "from" } else { "to" };
                write!(f, "drops {permille} of 1000 {way} {peers:?}")
            }
            Self::Throttled(kbit) => write!(f, "sends {kbit} kbit/s"),
            Self::Clock(ahead_ms, ppm) => write!(f, "clock ahead by {ahead_ms} ms and {ppm} ppm"),
            Self::SyncsSlow(ms) => write!(f, "syncs take {ms} ms more"),
            other => f.write_str(other.kind()),
        }
    }
}

/// What a share of a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Stopped,
    Frozen,
    Killed,
    OutOfMemory,
    Unplugged,
    OneWay,
    Weather,
    FilteredOneWay,
    Loss,
    Throttled,
    Clock,
    SyncsFail,
    SyncsSlow,
    DataFull,
    LogFull,
}

/// What each needs, and how often it is drawn: for nodes in gentle plans, for nodes in harsh ones, for coordinators.
const SHARES: [(Sort, Option<Facility>, u64, u64, u64); 15] = [
    (Sort::Stopped, None, 3, 3, 3),
    (Sort::Frozen, Some(Facility::Freezer), 2, 2, 2),
    (Sort::Killed, None, 0, 4, 4),
    (Sort::OutOfMemory, Some(Facility::Memory), 0, 2, 1),
    (Sort::Unplugged, Some(Facility::Cables), 3, 3, 3),
    (Sort::OneWay, None, 3, 2, 0),
    (Sort::Weather, None, 6, 6, 0),
    (Sort::FilteredOneWay, Some(Facility::Filter), 3, 4, 3),
    (Sort::Loss, Some(Facility::Filter), 2, 2, 2),
    (Sort::Throttled, Some(Facility::Throttle), 1, 1, 1),
    (Sort::Clock, Some(Facility::Words), 2, 2, 2),
    (Sort::SyncsFail, Some(Facility::Words), 1, 1, 2),
    (Sort::SyncsSlow, Some(Facility::Words), 1, 1, 2),
    (Sort::DataFull, Some(Facility::Disks), 1, 1, 2),
    (Sort::LogFull, Some(Facility::Disks), 1, 1, 1),
];

/// A fault of one process for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since the beginning.
    pub at: Duration,
    /// How long.
    pub lasts: Duration,
    /// Whose.
    pub process: String,
    /// What.
    pub fault: Fault,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, lasts, process, fault } = self;
        write!(f, "{:6.2} s  {process} {fault}, for {lasts:?}", at.as_secs_f64())
    }
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing that costs state: no node is lost, the coordinators keep a majority. Everything must be exact.
    Gentle,
    /// Nodes are killed, and stopped or unplugged for longer than their leases. What they held is lost, and reported.
    Harsh,
}

/// What happens in one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The events, by time.
    pub events: Vec<Event>,
}

/// Random numbers of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix64(self.0) % bound
    }

    fn ms(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// How long after its fault a process may end that could not write: it says goodbye to everybody first.
pub const ENDED_WITHIN: Duration = Duration::from_secs(5);
/// How long a fault lasts of which one is shown at a time: long enough to be noticed.
const SHOWN_FOR: Duration = Duration::from_millis(1600);
/// How long one of those that must end a coordinator lasts: it must write something meanwhile, also if a leader is elected first.
const SHOWN_UNTIL_ENDED: Duration = Duration::from_secs(3);
/// Between two of them: a killed process is back, and nodes that were lost have joined anew.
const SHOWN_APART: Duration = Duration::from_millis(1000);

impl Plan {
    /// The plan of a seed: faults of these processes that begin within `span`.
    #[must_use]
    pub fn of(
        seed: u64,
        severity: Severity,
        span: Duration,
        coordinators: &[String],
        nodes: &[String],
        available: &BTreeSet<Facility>,
    ) -> Self {
        let mut dice = Dice(mix64(seed));
        let mut events: Vec<Event> = Vec::new();
        // One fault of a process at a time; one clock of a node, as two may be further apart than stamps may; of coordinators,
        // gently, one altogether.
        let mut busy: BTreeMap<&str, Duration> = BTreeMap::new();
        let mut at = Duration::from_millis(300);
        while at < span {
            let node = dice.below(100) < 65;
            let names = if node { nodes } else { coordinators };
            let name = names[dice.below(names.len() as u64) as usize].as_str();
            let sort = pick(&mut dice, node, severity, available);
            let (fault, lasts) = draw(&mut dice, sort, node, severity);
            let mut groups = vec![if node || severity == Severity::Harsh { name } else { "a coordinator" }];
            if node && sort == Sort::Clock {
                groups.push("a clock");
            }
            if groups.iter().all(|group| busy.get(group).is_none_or(|until| *until <= at)) {
                // A killed process takes a while to come back, and one that cannot write to end; the next fault of it waits for that.
                let rest = if !node && fault.ends_coordinators() { ENDED_WITHIN } else { Duration::ZERO };
                let until = at + lasts + rest + Duration::from_secs(2);
                busy.extend(groups.into_iter().map(|group| (group, until)));
                events.push(Event { at, lasts, process: name.to_owned(), fault });
            }
            at += dice.ms(100, 900);
        }
        Self { events }
    }

    /// Every fault that is available here, of a coordinator and of a node, one after the other.
    #[must_use]
    pub fn of_each(
        seed: u64,
        severity: Severity,
        coordinators: &[String],
        nodes: &[String],
        available: &BTreeSet<Facility>,
    ) -> Self {
        let mut dice = Dice(mix64(seed));
        let mut events: Vec<Event> = Vec::new();
        let mut at = Duration::from_millis(300);
        // A process has its next fault when it has long got over the last one.
        let first = dice.below(100) as usize;
        for (row, (sort, ..)) in SHARES.into_iter().enumerate() {
            let mut longest = SHOWN_FOR;
            // At once: what one of them does is no matter of the other.
            for node in [false, true] {
                if share(sort, node, severity, available) > 0 {
                    let names = if node { nodes } else { coordinators };
                    let process = names[(first + row) % names.len()].clone();
                    let (fault, _) = draw(&mut dice, sort, node, severity);
                    let lasts = if !node && fault.ends_coordinators() { SHOWN_UNTIL_ENDED } else { SHOWN_FOR };
                    longest = longest.max(lasts);
                    events.push(Event { at, lasts, process, fault });
                }
            }
            at += longest + SHOWN_APART;
        }
        Self { events }
    }

    /// How many faults there are of each kind.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for event in &self.events {
            let who = if event.process.starts_with('c') { "coordinator" } else { "node" };
            *kinds.entry(format!("{who} {}", event.fault.kind())).or_default() += 1;
        }
        kinds
    }

    /// When the last fault is over.
    #[must_use]
    pub fn over(&self) -> Duration {
        self.events.iter().map(|event| event.at + event.lasts).max().unwrap_or_default()
    }
}

/// How often a sort is drawn; 0 where it is not available.
fn share(sort: Sort, node: bool, severity: Severity, available: &BTreeSet<Facility>) -> u64 {
    let row = SHARES.iter().find(|row| row.0 == sort && row.1.is_none_or(|facility| available.contains(&facility)));
    row.map_or(0, |&(_, _, gentle, harsh, coordinator)| match (node, severity) {
        (false, _) => coordinator,
        (true, Severity::Gentle) => gentle,
        (true, Severity::Harsh) => harsh,
    })
}

fn pick(dice: &mut Dice, node: bool, severity: Severity, available: &BTreeSet<Facility>) -> Sort {
    let all: u64 = SHARES.iter().map(|row| share(row.0, node, severity, available)).sum();
    let mut at = dice.below(all);
    for (sort, ..) in SHARES {
        let share = share(sort, node, severity, available);
        if at < share {
            return sort;
        }
        at -= share;
    }
    Sort::Stopped
}

fn draw(dice: &mut Dice, sort: Sort, node: bool, severity: Severity) -> (Fault, Duration) {
    let harsh = severity == Severity::Harsh;
    // The leases of gentle runs are long enough for the longest of these.
    let silent = dice.ms(
        200,
        if !node {
            3000
        } else if harsh {
            6000
        } else {
            1500
        },
    );
    let noisy = dice.ms(500, 4000);
    let one_way = |inward, peers| Fault::Filtered(Filter { inward, permille: 1000, peers });
    match sort {
        Sort::Stopped => (Fault::Stopped, silent),
        Sort::Frozen => (Fault::Frozen, silent),
        Sort::Unplugged => (Fault::Unplugged, silent),
        Sort::Killed => (Fault::Killed, silent),
        Sort::OutOfMemory => (Fault::OutOfMemory, silent),
        Sort::OneWay => {
            let to = dice.below(2) == 0;
            let (drop_to, drop_from) = if to { (1000, 0) } else { (0, 1000) };
            (Fault::Weather(Weather { drop_to, drop_from, ..Weather::default() }), noisy)
        }
        Sort::Weather => {
            let weather = Weather {
                drop_to: dice.below(150),
                drop_from: dice.below(150),
                duplicate: dice.below(200),
                corrupt: dice.below(50),
                delay_max: dice.ms(0, 60),
            };
            (Fault::Weather(weather), noisy)
        }
        Sort::FilteredOneWay => {
            let peers = [Peers::All, Peers::Coordinators, Peers::Coordinators, Peers::Others][dice.below(4) as usize];
            (one_way(dice.below(2) == 0, peers), silent)
        }
        Sort::Loss => {
            let filter = Filter { inward: dice.below(2) == 0, permille: 50 + dice.below(250), peers: Peers::All };
            (Fault::Filtered(filter), noisy)
        }
        Sort::Throttled => (Fault::Throttled(300 + dice.below(3000)), noisy),
        Sort::Clock => {
            let sign = if dice.below(2) == 0 { 1 } else { -1 };
            // A coordinator's wall clock decides nothing. A node's must be within 100 ms, or it gets no lease; that of a harsh plan is
            // beyond, where everything but the quarantine lets it pass: a stamp may be 250 ms ahead.
            let (from, to) = if !node {
                (0, 10_000)
            } else if harsh {
                (120, 200)
            } else {
                (0, 60)
            };
            let drift = if harsh || !node { 5_000 } else { 2_000 };
            let ppm = dice.below(2 * drift) as i64 - drift as i64;
            (Fault::Clock(sign * (from + dice.below(to - from)) as i64, ppm), noisy)
        }
        Sort::SyncsFail => (Fault::SyncsFail, noisy),
        Sort::SyncsSlow => (Fault::SyncsSlow(20 + dice.below(180)), noisy),
        Sort::DataFull => (Fault::DataFull, noisy),
        Sort::LogFull => (Fault::LogFull, noisy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_plan_and_gentle_plans_lose_no_node() {
        let coordinators = ["c1", "c2", "c3"].map(str::to_owned);
        let nodes = ["n1", "n2", "n3", "n4"].map(str::to_owned);
        let span = Duration::from_secs(60);
        let all = BTreeSet::from(Facility::ALL);
        let plan = |seed, severity| Plan::of(seed, severity, span, &coordinators, &nodes, &all);
        assert_eq!(plan(7, Severity::Harsh), plan(7, Severity::Harsh));
        assert_ne!(plan(7, Severity::Harsh), plan(8, Severity::Harsh));
        for seed in 0..50 {
            let gentle = plan(seed, Severity::Gentle);
            assert!(gentle.events.len() > 20, "seed {seed}: {gentle:?}");
            let of_nodes = |event: &&Event| event.process.starts_with('n');
            let kills = |event: &Event| matches!(event.fault, Fault::Killed | Fault::OutOfMemory);
            assert!(!gentle.events.iter().filter(of_nodes).any(kills));
            let of_coordinators: Vec<&Event> = gentle.events.iter().filter(|event| !of_nodes(event)).collect();
            let alone = |pair: &[&Event]| pair[0].at + pair[0].lasts < pair[1].at;
            assert!(of_coordinators.windows(2).all(alone), "seed {seed}: one coordinator at a time");
        }
        let kinds =
            |severity| (0..50).flat_map(|seed| plan(seed, severity).kinds().into_keys()).collect::<BTreeSet<_>>();
        let (gentle, harsh) = (kinds(Severity::Gentle), kinds(Severity::Harsh));
        assert_eq!(
            harsh.len(),
            2 * SHARES.len() - 2,
            "every sort, but for the two of proxies of coordinators: {harsh:?}"
        );
        assert_eq!(gentle.len(), harsh.len() - 2, "no node is killed: {gentle:?}");
    }

    #[test]
    fn what_is_not_available_is_in_no_plan_and_everything_else_is_shown() {
        let (coordinators, nodes) = (["c1"].map(str::to_owned), ["n1"].map(str::to_owned));
        let each = |available: &[Facility]| {
            let available = available.iter().copied().collect();
            Plan::of_each(1, Severity::Harsh, &coordinators, &nodes, &available).kinds()
        };
        let (none, all) = (each(&[]), each(&Facility::ALL));
        let names: Vec<&str> = none.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "coordinator killed",
                "coordinator stopped",
                "node killed",
                "node one-way",
                "node stopped",
                "node weather"
            ]
        );
        // Each sort of nodes, and all but the two of proxies of coordinators.
        assert_eq!(all.len(), 2 * SHARES.len() - 2, "{all:?}");
    }
}
