//! The binary that the black-box tests start: a user's own build, with the actors of [`ringfleet_tests::actors`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ringfleet::run(ringfleet_tests::types())
}
