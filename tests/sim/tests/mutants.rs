//! The power of the simulator: with each mutant some seed finds something, within a bounded number of seeds.

use ringfleet_sim::mutants::Mutant;
use ringfleet_sim::scenario::by_name;
use ringfleet_sim::{Depth, Plan, run};

/// Seeds that are tried.
const SEEDS: u64 = 5;

fn is_found(mutant: Mutant, first: u64, labels: &[&str]) {
    let scenario = by_name(mutant.entry().scenario).expect("the scenario exists");
    let mut findings = Vec::new();
    for seed in first..first + SEEDS {
        let plan = Plan {
            seed,
            scenario,
            depth: Depth::T2,
            seconds: 30,
            mutant: Some(mutant),
            trace: None,
            every_step: false,
        };
        let report = run(&plan).expect("no trace is written");
        match report.violation {
            Some(violation) if labels.iter().any(|label| violation.contains(label)) => return,
            other => findings.extend(other),
        }
    }
    panic!("{} was not found as one of {labels:?} by {SEEDS} seeds, but {findings:?}", mutant.name());
}

#[test]
fn a_disk_that_forgets_syncs_is_found() {
    is_found(Mutant::ForgetfulDisk, 1, &["C1: "]);
}

#[test]
fn a_disk_that_is_as_it_once_was_is_found() {
    // Our check, or in builds with debug assertions openraft's own, whichever a seed meets first.
    is_found(Mutant::OldDisk, 1, &["C1: leader completeness", "log reversion"]);
}

#[test]
fn a_clock_that_stands_still_with_its_process_is_found() {
    is_found(Mutant::StoppedClock, 1, &["C2: "]);
}
