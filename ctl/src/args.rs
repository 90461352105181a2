//! The command line: flags as they are written, before anything is looked up.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cmd;
use crate::out::Format;

/// Actors that live on GPUs, across a cluster.
#[derive(Debug, Parser)]
#[command(
    name = "ringfleet",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 refused, 4 unreachable or out of time."
)]
pub struct Cli {
    /// What holds for every verb.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What holds for every verb.
#[derive(Debug, Clone, Args)]
pub struct GlobalArgs {
    /// The context of the configuration to use instead of the current one.
    #[arg(long, global = true, value_name = "NAME", env = "RINGFLEET_CONTEXT", help_heading = "Global options")]
    pub context: Option<String>,
    /// The file of contexts [default: ~/.config/ringfleet/config.yaml].
    #[arg(long, global = true, value_name = "FILE", env = "RINGFLEET_CONFIG", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// The form of the output.
    #[arg(short, long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    pub output: Format,
    /// How long the verb may take: `10s`, `500ms`, `2m`.
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, default_value = "10s",
          help_heading = "Global options")]
    pub deadline: Duration,
    /// What to log to stderr, as `info` or `ringfleet_node=debug,warn` [default: warn; info for processes that stay].
    #[arg(long, global = true, value_name = "FILTER", env = "RINGFLEET_LOG", help_heading = "Global options")]
    pub log: Option<String>,
    /// The form of the log.
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    pub log_format: LogFormat,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run an application with real data on a cluster of real processes, kill the leader meanwhile, check every result.
    Demo(cmd::demo::DemoArgs),
    /// A local cluster that stays.
    #[command(subcommand)]
    Dev(cmd::dev::DevVerb),
    /// Run a node's agent in the foreground.
    Node(cmd::node::NodeArgs),
    /// What this machine has for GPUs, what is missing, and how to get it.
    Doctor(cmd::doctor::DoctorArgs),
    /// Measure a device of this machine.
    #[command(subcommand)]
    Bench(cmd::bench::BenchVerb),
    /// Devices that a node of this machine does not use.
    #[command(subcommand)]
    Device(cmd::device::DeviceVerb),
    /// Run a coordinator in the foreground.
    Coordinator(cmd::coordinator::CoordinatorArgs),
    /// Add coordinators to the cluster, and remove them.
    #[command(subcommand)]
    Coordinators(cmd::coordinators::CoordinatorsVerb),
    /// Create or change actor sets.
    Apply(cmd::apply::ApplyArgs),
    /// List nodes, coordinators, sets, shards or actors.
    #[command(subcommand)]
    Get(cmd::get::GetVerb),
    /// Show one set, node or actor type in full.
    #[command(subcommand)]
    Describe(cmd::describe::DescribeVerb),
    /// Send a message to an actor and wait until it has been handled.
    Tell(cmd::tell::TellArgs),
    /// Send a message to an actor and print its reply.
    Ask(cmd::ask::AskArgs),
    /// Change how many workers a set may occupy.
    Scale(cmd::scale::ScaleArgs),
    /// Delete a set with all its actors.
    Delete(cmd::delete::DeleteArgs),
    /// The cluster in one page.
    Status,
    /// The actor types of the cluster and of this build.
    #[command(subcommand)]
    Actor(cmd::actor::ActorVerb),
    /// The contexts of the configuration.
    #[command(subcommand)]
    Config(cmd::config::ConfigVerb),
    /// Write a completion script for a shell.
    Completions(cmd::completions::CompletionsArgs),
    /// Versions of this build.
    Version,
}

/// `10s`, `500ms`, `2m`; a bare number is seconds. From 1 ms to one hour.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| "expected a time such as 10s, 500ms or 2m".to_owned())?;
    let ms = match unit {
        "ms" => Some(number),
        "s" | "" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        _ => return Err(format!("unknown unit `{unit}`, expected ms, s or m")),
    };
    match ms {
        Some(ms @ 1..=3_600_000) => Ok(Duration::from_millis(ms)),
        _ => Err("expected a time from 1ms to 60m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "10h", "0", "61m", "-1s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
