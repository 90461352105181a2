//! `sim --full`: the long campaign over all scenarios, in pieces.
//!
//! The runs are a fixed list; [`ledger`](crate::ledger) says which of them are done, so the campaign goes on where it was ended,
//! on whatever commit, and its beginning is a small campaign of the same mixture: in a thousand blocks, each of twenty seeds at T1, one at
//! T2 and one that is run twice.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use ringfleet_env::{Clock, SystemClock};

use crate::exec::lock;
use crate::ledger::{BUILD, Entry, Ledger};
use crate::power::cpu_ns;
use crate::run::{Depth, Plan, run, run_twice};
use crate::scenario::{SCENARIOS, Scenario};

/// Blocks of the campaign.
const BLOCKS: u64 = 1_000;
/// Seeds at T1 in each.
const T1_PER_BLOCK: u64 = 20;
/// Virtual seconds of faults at T1; at T2 they are the scenario's.
const T1_SECONDS: u64 = 120;
/// One in so many pairs is at T2.
const T2_PAIR_EVERY: u64 = 4;

/// One run of the campaign.
#[derive(Debug, Clone, Copy)]
struct Piece {
    scenario: &'static Scenario,
    seed: u64,
    depth: Depth,
    twice: bool,
}

impl Piece {
    /// The `number`th of its kind: the scenarios in turn, then the next seed.
    fn new(number: u64, depth: Depth, twice: bool) -> Self {
        let scenarios = SCENARIOS.len() as u64;
        let scenario = &SCENARIOS[(number % scenarios) as usize];
        Self { scenario, seed: 1 + number / scenarios, depth, twice }
    }

    fn plan(&self) -> Plan {
        let seconds = if self.depth == Depth::T1 { T1_SECONDS } else { self.scenario.seconds };
        let (seed, scenario, depth) = (self.seed, self.scenario, self.depth);
        Plan { seed, scenario, depth, seconds, mutant: None, trace: None, every_step: false }
    }
}

/// All runs, in order.
fn pieces() -> impl Iterator<Item = Piece> {
    (0..BLOCKS).flat_map(|block| {
        let t1 = (0..T1_PER_BLOCK).map(move |at| Piece::new(block * T1_PER_BLOCK + at, Depth::T1, false));
        let depth = if block % T2_PAIR_EVERY == T2_PAIR_EVERY - 1 { Depth::T2 } else { Depth::T1 };
        t1.chain([Piece::new(block, Depth::T2, false), Piece::new(block, depth, true)])
    })
}

/// What a ledger has: a seed counts whatever build it was run with, a pair for its own.
#[derive(Debug, Default)]
struct Done(BTreeSet<(String, u64, &'static str, bool)>);

impl Done {
    fn of(entries: &[Entry]) -> Self {
        let counts = |entry: &&Entry| !entry.twice || entry.build == BUILD;
        let key = |entry: &Entry| (entry.scenario.clone(), entry.seed, entry.depth.name(), entry.twice);
        Self(entries.iter().filter(counts).map(key).collect())
    }

    fn has(&self, piece: &Piece) -> bool {
        self.0.contains(&(piece.scenario.name.to_owned(), piece.seed, piece.depth.name(), piece.twice))
    }
}

/// Goes on with the campaign until it is over or `limit` has passed; runs that have begun are brought to their end. Gives how many runs
/// found something.
///
/// # Errors
/// When the ledger cannot be read or written.
pub fn go_on(path: &Path, commit: &str, jobs: u64, limit: Option<Duration>) -> Result<u64, String> {
    let (ledger, known) = Ledger::open(path)?;
    let done = Done::of(&known);
    let (ledger, found, failure) = (Mutex::new(ledger), Mutex::new(0), Mutex::new(None));
    let left = Mutex::new(pieces().filter(|piece| !done.has(piece)));
    let began_ns = SystemClock.monotonic_ns();
    let is_over = || limit.is_some_and(|limit| SystemClock.monotonic_ns() - began_ns >= limit.as_nanos() as u64);
    let work = || {
        while !is_over() && lock(&failure).is_none() {
            let Some(piece) = lock(&left).next() else { return };
            let (plan, before_ns) = (piece.plan(), cpu_ns());
            let report = if piece.twice { run_twice(&plan) } else { run(&plan) };
            let cpu_ms = (cpu_ns() - before_ns) / 1_000_000 / (1 + u64::from(piece.twice));
            let told = report.map_err(|error| format!("running seed {}: {error}", plan.seed)).and_then(|report| {
                let entry = Entry::of(&report, piece.twice, commit, cpu_ms);
                if let Some(violation) = &report.violation {
                    *lock(&found) += 1;
                    println!("FOUND: {violation}\n  again: {}", report.command());
                }
                lock(&ledger).append(&entry)
            });
            if let Err(why) = told {
                lock(&failure).get_or_insert(why);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner() {
        Ok(None) => Ok(*lock(&found)),
        Ok(Some(why)) => Err(why),
        Err(_) => Err("a run could not be carried to its end".to_owned()),
    }
}

/// How much of the campaign a ledger has.
#[must_use]
pub fn progress(entries: &[Entry]) -> String {
    let done = Done::of(entries);
    let count = |depth: Depth, twice: bool| {
        let is_of = |piece: &Piece| (twice || piece.depth == depth) && piece.twice == twice;
        let all: Vec<Piece> = pieces().filter(is_of).collect();
        (all.iter().filter(|piece| done.has(piece)).count(), all.len())
    };
    let [t1, t2, pairs] = [count(Depth::T1, false), count(Depth::T2, false), count(Depth::T1, true)];
    format!(
        "of the campaign: {} of {} seeds at t1, {} of {} at t2, {} of {} pairs in {BUILD}\n",
        t1.0, t1.1, t2.0, t2.1, pairs.0, pairs.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::entry;

    #[test]
    fn the_campaign_has_its_numbers_and_no_run_twice() {
        let all: Vec<Piece> = pieces().collect();
        let count = |depth, twice| all.iter().filter(|piece| (piece.depth, piece.twice) == (depth, twice)).count();
        assert_eq!((count(Depth::T1, false), count(Depth::T2, false)), (20_000, 1_000));
        assert_eq!((count(Depth::T1, true), count(Depth::T2, true)), (750, 250));
        let distinct: BTreeSet<_> =
            all.iter().map(|piece| (piece.scenario.name, piece.seed, piece.depth.name(), piece.twice)).collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn what_a_ledger_has_is_left_out_and_pairs_count_for_their_build() {
        let pair = Entry { twice: true, ..entry(1, "a") };
        let other = Entry { build: "other".to_owned(), ..pair.clone() };
        let left = |entries: &[Entry]| {
            let done = Done::of(entries);
            pieces().filter(|piece| !done.has(piece)).count()
        };
        let all = left(&[]);
        assert_eq!(left(&[entry(1, "a")]), all - 1);
        assert_eq!(left(&[entry(1, "a"), entry(1, "a"), pair]), all - 2);
        assert_eq!(left(&[other]), all);
        assert!(
            progress(&[entry(1, "a")])
                .starts_with("of the campaign: 1 of 20000 seeds at t1, 0 of 1000 at t2, 0 of 1000")
        );
    }
}
