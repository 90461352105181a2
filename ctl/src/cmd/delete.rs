//! `ringfleet delete SET`

use std::time::Duration;

use clap::Args;
use ringfleet_proto::control::{AdminAnswer, AdminVerb};
use serde::Serialize;

use crate::app::{App, Cluster, unexpected};
use crate::error::{CtlError, CtlResult};
use crate::out;

/// Between two looks at whether a set is gone.
const POLL: Duration = Duration::from_millis(50);

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The set.
    pub set: String,
    /// Return when the coordinators have agreed, without waiting until the set is gone.
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Serialize)]
struct Deleted {
    name: String,
    gone: bool,
}

/// Deletes the set with all its actors.
pub async fn run(app: &App, args: &DeleteArgs) -> CtlResult {
    let cluster = app.cluster()?;
    delete(&cluster, &args.set, !args.no_wait).await?;
    let deleted = Deleted { name: args.set.clone(), gone: !args.no_wait };
    out::print(app.global.output, &deleted, |d| format!("{} {}\n", d.name, if d.gone { "deleted" } else { "deleting" }))
}

/// Deletes a set and, if `wait`, waits until it is gone.
pub async fn delete(cluster: &Cluster, set: &str, wait: bool) -> CtlResult {
    let attempt = format!("deleting {set}");
    match cluster.call(&attempt, AdminVerb::Delete { set: set.to_owned() }).await? {
        AdminAnswer::Set { .. } => {}
        other => return Err(unexpected(&attempt, &other)),
    }
    if !wait {
        return Ok(());
    }
    loop {
        if cluster.set(&attempt, set).await?.is_none() {
            return Ok(());
        }
        if cluster.time_left() <= POLL {
            return Err(CtlError::unreachable(attempt, "its shards are still being released; it will be gone later"));
        }
        cluster.env.sleep(POLL).await;
    }
}
