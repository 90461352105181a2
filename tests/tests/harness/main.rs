//! Short runs of the fault harness; longer ones by `cargo run -p ringfleet-tests --bin faults` (docs/testing.md). A program of its own,
//! and one test at a time, so that no other cluster runs beside these.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use ringfleet_tests::faults::{self, Options, plan::Severity};

#[path = "../blackbox/support.rs"]
#[allow(dead_code, unused_imports, reason = "shared with the black-box tests")]
mod support;

use support::{BINARY, run};

/// How long faults begin in one run.
const SPAN: Duration = Duration::from_secs(12);

/// Held by the test that runs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn gentle_faults_change_nothing() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    run(async |env| -> Result<()> {
        faults::run(&env, BINARY, &Options::new(1, Severity::Gentle, SPAN)).await?;
        Ok(())
    });
}

#[test]
fn harsh_faults_lose_what_is_reported_and_nothing_else() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    run(async |env| -> Result<()> {
        let report = faults::run(&env, BINARY, &Options::new(2, Severity::Harsh, SPAN)).await?;
        ensure!(report.contains("killed"), "no process was killed");
        Ok(())
    });
}

/// Also: a coordinator that cannot write ends and says why, and nothing that it had acknowledged is gone; a node that has no room goes
/// on; who is killed for want of memory is declared lost and comes back.
#[test]
fn each_fault_by_itself_does_what_it_should_and_loses_nothing_silently() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    run(async |env| -> Result<()> {
        let options = Options { each: true, ..Options::new(3, Severity::Harsh, SPAN) };
        faults::run(&env, BINARY, &options).await?;
        Ok(())
    });
}
