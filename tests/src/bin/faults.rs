//! Runs a cluster of real processes under plans of faults:
//!
//! ```sh
//! cargo build -p ringfleet-tests --bins && cargo run -p ringfleet-tests --bin faults -- --seconds 60 --seeds 20 --harsh
//! ```
//! Needs privileges for network namespaces; without them it says so and uses the loopback interface.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use ringfleet_env::Env;
use ringfleet_tests::faults::{self, Options, plan::Severity};

/// Runs a cluster of real processes under plans of faults, and checks what must hold.
#[derive(Debug, Parser)]
struct Args {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// For how long new faults begin in one run.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Nodes may be lost: what they held is lost and reported. Otherwise everything must be exact.
    #[arg(long)]
    harsh: bool,
    /// Every fault once, one after the other, instead of plans by seed.
    #[arg(long)]
    each: bool,
    /// New seeds, one after the other, for so many minutes instead of so many seeds.
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<u64>,
    /// Use the loopback interface where namespaces are permitted.
    #[arg(long)]
    loopback: bool,
    /// Coordinators.
    #[arg(long, default_value_t = 3)]
    coordinators: u16,
    /// Nodes.
    #[arg(long, default_value_t = 4)]
    nodes: u16,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let env = Env::tokio();
    let begun = env.now();
    let limit = args.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    for seed in args.seed.. {
        let done = limit.map_or(seed >= args.seed + args.seeds, |limit| env.now() - begun >= limit);
        if done {
            break;
        }
        if let Err(error) = run(&args, seed) {
            let options = [(args.harsh, " --harsh"), (args.each, " --each"), (args.loopback, " --loopback")];
            let options: String = options.iter().filter(|option| option.0).map(|option| option.1).collect();
            eprintln!("error: {error:?}\nrun it again: faults --seed {seed} --seconds {}{options}", args.seconds);
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(args: &Args, seed: u64) -> Result<()> {
    let severity = if args.harsh { Severity::Harsh } else { Severity::Gentle };
    let mut options = Options::new(seed, severity, Duration::from_secs(args.seconds));
    (options.coordinators, options.nodes) = (args.coordinators, args.nodes);
    (options.loopback, options.each) = (args.loopback, args.each);
    let own = std::env::current_exe()?;
    let binary = own.parent().context("no folder")?.join("ringfleet-under-test");
    Env::run_tokio(2, |env| async move { faults::run(&env, &binary.display().to_string(), &options).await })??;
    Ok(())
}
