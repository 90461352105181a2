//! The simulator's command; see `docs/testing.md`.

fn main() -> std::process::ExitCode {
    ringfleet_sim::cli::main()
}
