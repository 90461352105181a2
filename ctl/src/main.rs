//! The stock build: every actor type that ships with Ringfleet.

fn main() -> std::process::ExitCode {
    ringfleet::run(ringfleet_actors::types())
}
