//! `ringfleet scale SET --workers N`

use clap::Args;
use ringfleet_proto::control::{AdminAnswer, AdminVerb};

use crate::app::{App, unexpected};
use crate::cmd::apply::{Applied, change_word, wait_in_effect};
use crate::error::CtlResult;
use crate::out;

/// Arguments of `scale`.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// The set.
    pub set: String,
    /// The most workers that it may occupy.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: u32,
    /// Agree that shards of a volatile set that move start empty.
    #[arg(long)]
    pub discard_state: bool,
    /// Return when the coordinators have agreed, without waiting until every shard takes messages.
    #[arg(long)]
    pub no_wait: bool,
}

/// Changes the bound.
pub async fn run(app: &App, args: &ScaleArgs) -> CtlResult {
    let attempt = format!("scaling {} to {} workers", args.set, args.workers);
    let cluster = app.cluster()?;
    let verb = AdminVerb::Scale { set: args.set.clone(), workers: args.workers, discard_state: args.discard_state };
    let (set, change) = match cluster.call(&attempt, verb).await? {
        AdminAnswer::Set { set, change, .. } => (set, change),
        other => return Err(unexpected(&attempt, &other)),
    };
    if !args.no_wait {
        wait_in_effect(&cluster, &args.set).await.map_err(|error| error.during(&attempt))?;
    }
    let applied = Applied { name: args.set.clone(), set, change, in_effect: !args.no_wait };
    out::print(app.global.output, &applied, |a| format!("{} {}\n", a.name, change_word(a.change)))
}
