//! What every test of this binary needs.

use std::future::Future;

use anyhow::Result;
use ringfleet_env::Env;
pub use ringfleet_tests::streams::Streams;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_ringfleet-under-test");

/// Runs a test on a runtime of its own.
pub fn run<F: Future<Output = Result<()>>>(test: impl FnOnce(Env) -> F) {
    let outcome = Env::run_tokio(2, test).expect("a runtime");
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}
