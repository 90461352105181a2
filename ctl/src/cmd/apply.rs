//! `ringfleet apply -f FILE`

use std::time::Duration;

use clap::Args;
use ringfleet_proto::control::{ActorSet, AdminAnswer, AdminVerb, SetChange, SetState};
use serde::Serialize;

use crate::app::{App, Cluster, unexpected};
use crate::document;
use crate::error::{CtlError, CtlResult};
use crate::out;

/// Between two looks at whether a set is in effect.
const POLL: Duration = Duration::from_millis(50);

/// Arguments of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// A file of documents, `-` for stdin. May be given several times.
    #[arg(short, long, required = true, value_name = "FILE")]
    pub file: Vec<String>,
    /// Return when the coordinators have agreed, without waiting until every shard takes messages.
    #[arg(long)]
    pub no_wait: bool,
}

/// What became of one document.
#[derive(Debug, Serialize)]
pub struct Applied {
    /// The set.
    pub name: String,
    /// Its id.
    pub set: u16,
    /// What became of it.
    pub change: SetChange,
    /// Whether every shard takes messages.
    pub in_effect: bool,
}

/// Applies every document, in order. All are read before the first is sent.
pub async fn run(app: &App, args: &ApplyArgs) -> CtlResult {
    let mut documents = Vec::new();
    for file in &args.file {
        documents.extend(document::read(file)?);
    }
    let cluster = app.cluster()?;
    let mut done = Vec::new();
    for document in documents {
        let applied = apply(&cluster, document.set, &document.place, !args.no_wait).await;
        done.push(applied?);
    }
    out::print(app.global.output, &done, |done| {
        done.iter().map(|applied| format!("{} {}\n", applied.name, change_word(applied.change))).collect()
    })
}

/// Applies one document, which stands at `place`, and, if `wait`, waits until every shard takes messages.
pub async fn apply(cluster: &Cluster, document: ActorSet, place: &str, wait: bool) -> CtlResult<Applied> {
    let name = document.metadata.name.clone();
    let attempt = format!("applying {name} ({place})");
    let (set, change) = match cluster.call(&attempt, AdminVerb::Apply { document }).await? {
        AdminAnswer::Set { set, change, .. } => (set, change),
        other => return Err(unexpected(&attempt, &other)),
    };
    if wait {
        wait_in_effect(cluster, &name).await.map_err(|error| error.during(attempt))?;
    }
    Ok(Applied { name, set, change, in_effect: wait })
}

/// Waits until every shard of the set takes messages.
pub async fn wait_in_effect(cluster: &Cluster, name: &str) -> CtlResult {
    let attempt = "waiting until every shard takes messages";
    loop {
        let Some(info) = cluster.set(attempt, name).await? else {
            return Err(CtlError::failed(attempt, "the set has been deleted meanwhile"));
        };
        if info.state == SetState::Deleting {
            return Err(CtlError::failed(attempt, "the set is being deleted"));
        }
        let shards = u32::from(info.document.spec.shards);
        if info.in_effect == shards && info.releasing == 0 {
            return Ok(());
        }
        if cluster.time_left() <= POLL {
            let state = format!("{} of {shards} shards do, {} have no worker", info.in_effect, info.pending);
            return Err(CtlError::unreachable(attempt, format!("{state} (the document is applied)")));
        }
        cluster.env.sleep(POLL).await;
    }
}

/// The word for people.
pub fn change_word(change: SetChange) -> &'static str {
    match change {
        SetChange::Created => "created",
        SetChange::Changed => "changed",
        SetChange::Unchanged => "unchanged",
        SetChange::Deleting => "deleting",
    }
}
