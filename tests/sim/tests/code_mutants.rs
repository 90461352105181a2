//! The power of the simulator over bugs in the code: a quick part of the list, as CI runs it. The whole list is `sim --power`, by hand;
//! its last report is `tests/sim/results/mutants.md`.

use ringfleet_sim::mutants::Mutant;
use ringfleet_sim::scenario::by_name;
use ringfleet_sim::{Depth, Plan, run};

/// Every one of these is found within its bound.
fn are_found(names: &[&str]) {
    for name in names {
        let mutant = Mutant::by_name(name).expect("it is in the list");
        let entry = mutant.entry();
        let found = (1..=entry.seeds).any(|seed| {
            let plan = Plan {
                seed,
                scenario: by_name(entry.scenario).expect("a test looks that it exists"),
                depth: Depth::T2,
                seconds: entry.seconds,
                mutant: Some(mutant),
                trace: None,
                every_step: false,
            };
            run(&plan).expect("no trace is written").violation.is_some()
        });
        assert!(found, "{name} was not found by {} seeds of {}", entry.seeds, entry.scenario);
    }
}

#[test]
fn bugs_of_the_log_are_found() {
    are_found(&["skip-sync", "vote-in-memory", "read-without-index", "session-reused"]);
}

#[test]
fn bugs_of_leases_and_residences_are_found() {
    are_found(&["epoch-not-raised", "incarnation-reused", "release-of-another-epoch"]);
}

#[test]
fn bugs_of_order_and_losses_are_found() {
    are_found(&["batch-reordered", "gap-accepted", "loss-untold", "ask-late"]);
}

#[test]
fn bugs_of_time_are_found() {
    are_found(&["hlc-not-raised", "hlc-forgotten", "handover-early"]);
}

#[test]
fn without_a_mutant_the_same_runs_find_nothing() {
    for scenario in ["peace", "moves"] {
        let scenario = by_name(scenario).expect("the scenario exists");
        let plan =
            Plan { seed: 1, scenario, depth: Depth::T2, seconds: 3, mutant: None, trace: None, every_step: false };
        assert_eq!(run(&plan).expect("no trace is written").violation, None);
    }
}
