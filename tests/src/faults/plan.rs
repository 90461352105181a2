//! What happens when, as a function of a seed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use ringfleet::proxy::Weather;
use ringfleet_abi::hash::mix64;

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGSTOP, and SIGCONT when it is over.
    Stopped,
    /// SIGKILL, and a new start when it is over.
    Killed,
    /// Its cable is pulled: nothing from or to it arrives.
    Unplugged,
    /// What goes to it or comes from it through its proxy is dropped, duplicated, changed or late. Nodes only.
    Weather(Weather),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Killed => f.write_str("killed"),
            Self::Unplugged => f.write_str("unplugged"),
            Self::Weather(weather) => {
                let Weather { drop_to, drop_from, duplicate, corrupt, delay_max } = weather;
                write!(f, "drops {drop_to}/{drop_from} duplicates {duplicate} corrupts {corrupt} of 1000, ")?;
                write!(f, "late by up to {delay_max:?}")
            }
        }
    }
}

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

impl Plan {
    /// The plan of a seed: faults of these processes that begin within `span`.
    #[must_use]
    pub fn of(
        seed: u64,
        severity: Severity,
        span: Duration,
        coordinators: &[String],
        nodes: &[String],
        cables: bool,
    ) -> Self {
        let mut dice = Dice(mix64(seed));
        let mut events: Vec<Event> = Vec::new();
        // One fault of a process at a time; of coordinators, gently, one altogether.
        let mut busy: BTreeMap<&str, Duration> = BTreeMap::new();
        let mut at = Duration::from_millis(300);
        while at < span {
            let node = dice.below(100) < 65;
            let names = if node { nodes } else { coordinators };
            let name = names[dice.below(names.len() as u64) as usize].as_str();
            let group = if node || severity == Severity::Harsh { name } else { "a coordinator" };
            let (fault, lasts) =
                if node { node_fault(&mut dice, severity, cables) } else { coordinator_fault(&mut dice, cables) };
            if busy.get(group).is_none_or(|until| *until <= at) {
                // A killed process takes a while to come back; the next fault of it waits for that.
                busy.insert(group, at + lasts + Duration::from_secs(2));
                events.push(Event { at, lasts, process: name.to_owned(), fault });
            }
            at += dice.ms(100, 900);
        }
        Self { events }
    }

    /// How many faults there are of each kind.
    #[must_use]
    pub fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for event in &self.events {
            let kind = match &event.fault {
                Fault::Weather(weather) if weather.drop_to == 1000 || weather.drop_from == 1000 => "one-way".to_owned(),
                Fault::Weather(_) => "weather".to_owned(),
                other => other.to_string(),
            };
            let who = if event.process.starts_with('c') { "coordinator" } else { "node" };
            *kinds.entry(format!("{who} {kind}")).or_default() += 1;
        }
        kinds
    }
}

fn node_fault(dice: &mut Dice, severity: Severity, cables: bool) -> (Fault, Duration) {
    let harsh = severity == Severity::Harsh;
    // The leases of gentle runs are long enough for the longest of these.
    let short = |dice: &mut Dice| dice.ms(200, if harsh { 6000 } else { 1500 });
    match dice.below(10) {
        0 | 1 => (Fault::Stopped, short(dice)),
        2 | 3 if harsh => (Fault::Killed, dice.ms(100, 4000)),
        2..=4 if cables => (Fault::Unplugged, short(dice)),
        2..=5 => {
            let to = dice.below(2) == 0;
            let (drop_to, drop_from) = if to { (1000, 0) } else { (0, 1000) };
            (Fault::Weather(Weather { drop_to, drop_from, ..Weather::default() }), dice.ms(200, 4000))
        }
        _ => {
            let weather = Weather {
                drop_to: dice.below(150),
                drop_from: dice.below(150),
                duplicate: dice.below(200),
                corrupt: dice.below(50),
                delay_max: dice.ms(0, 60),
            };
            (Fault::Weather(weather), dice.ms(500, 4000))
        }
    }
}

fn coordinator_fault(dice: &mut Dice, cables: bool) -> (Fault, Duration) {
    match dice.below(3) {
        0 => (Fault::Killed, dice.ms(100, 3000)),
        1 if cables => (Fault::Unplugged, dice.ms(200, 3000)),
        _ => (Fault::Stopped, dice.ms(200, 3000)),
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
        let plan = |seed, severity| Plan::of(seed, severity, span, &coordinators, &nodes, true);
        assert_eq!(plan(7, Severity::Harsh), plan(7, Severity::Harsh));
        assert_ne!(plan(7, Severity::Harsh), plan(8, Severity::Harsh));
        for seed in 0..50 {
            let gentle = plan(seed, Severity::Gentle);
            assert!(gentle.events.len() > 20, "seed {seed}: {gentle:?}");
            let of_nodes = |event: &&Event| event.process.starts_with('n');
            assert!(gentle.events.iter().filter(of_nodes).all(|event| event.fault != Fault::Killed));
            let of_coordinators: Vec<&Event> = gentle.events.iter().filter(|event| !of_nodes(event)).collect();
            let alone = |pair: &[&Event]| pair[0].at + pair[0].lasts < pair[1].at;
            assert!(of_coordinators.windows(2).all(alone), "seed {seed}: one coordinator at a time");
            let harsh = plan(seed, Severity::Harsh).kinds();
            assert!(harsh.contains_key("node killed") && harsh.contains_key("coordinator killed"), "{harsh:?}");
        }
    }
}
