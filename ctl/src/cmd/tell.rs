//! `ringfleet tell SET KEY MESSAGE [JSON]`

use clap::Args;
use ringfleet_client::Session;
use ringfleet_proto::control::{SetView, TypeReport};
use serde::Serialize;

use crate::actor_types::{self as types, KeyForm};
use crate::app::{App, Cluster, call_error};
use crate::cmd::get::directory;
use crate::error::{CtlError, CtlResult, chain};
use crate::message;
use crate::out;

/// Which actor, which message. The same for `tell` and `ask`.
#[derive(Debug, Args)]
pub struct TellArgs {
    /// The set.
    pub set: String,
    /// The key of the actor.
    pub key: String,
    /// The name of the message.
    pub message: String,
    /// Its fields as a JSON object; `-` for stdin.
    #[arg(default_value = "{}")]
    pub json: String,
    /// How the key is read.
    #[arg(long, value_enum, default_value_t)]
    pub key_form: KeyForm,
    /// The same as `--key-form u64`.
    #[arg(long, conflicts_with = "key_form")]
    pub key_u64: bool,
}

/// A message that is ready to be sent.
#[derive(Debug)]
pub struct Prepared {
    /// The set, as in the directory.
    pub set: SetView,
    /// The actor type of the set.
    pub ty: TypeReport,
    /// The key of the actor.
    pub key: u64,
    /// The number of the message.
    pub kind: u16,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Looks everything up and encodes the message. Nothing is sent yet.
pub async fn prepare(app: &App, cluster: &Cluster, args: &TellArgs) -> CtlResult<Prepared> {
    let directory = directory(cluster).await?;
    let set = directory.sets.into_iter().find(|set| set.name == args.set);
    let set = set.ok_or_else(|| CtlError::refused("finding the set", format!("no set `{}`", args.set)))?;
    let ty = types::find(app, cluster, &set.actor_type, set.code_hash).await?;
    let form = if args.key_u64 { KeyForm::U64 } else { args.key_form };
    let key = types::key(form, &set.actor_type, &args.key)?;
    let handled = types::handled(&ty, &args.message)?;
    let json = if args.json == "-" { crate::document::read_text("-")?.1 } else { args.json.clone() };
    let payload = message::encode(handled, &json)
        .map_err(|error| CtlError::usage(format!("building the message {}", handled.name), error))?;
    let kind = handled.kind;
    Ok(Prepared { set, ty, key, kind, payload })
}

/// Opens a session for one message.
pub async fn open_session(cluster: &Cluster) -> CtlResult<Session> {
    let opened = cluster.client.session(cluster.time_left()).await;
    opened.map_err(|error| call_error("opening a session", &error))
}

#[derive(Debug, Serialize)]
struct Told {
    set: String,
    key: u64,
    message: String,
    handled: bool,
}

/// Tells, and waits until the owner has handled it.
pub async fn run(app: &App, args: &TellArgs) -> CtlResult {
    let attempt = format!("telling {} {}", args.set, args.key);
    let cluster = app.cluster()?;
    let prepared = prepare(app, &cluster, args).await.map_err(|error| error.during(&attempt))?;
    let session = open_session(&cluster).await.map_err(|error| error.during(&attempt))?;
    let told = async {
        let taken = session.tell(prepared.set.set_id(), prepared.key, prepared.kind, &prepared.payload).await;
        taken.map_err(|error| CtlError::refused(&attempt, chain(&error)))?;
        session.flush().await.map_err(|error| CtlError::failed(&attempt, chain(&error)))
    };
    match cluster.env.timeout_at(cluster.deadline, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error),
        Err(elapsed) => {
            let cause = format!("{elapsed}; it may have been handled");
            return Err(CtlError::unreachable(attempt, cause));
        }
    }
    // The shard was reached and the message was not for it: no handler, or a failed actor.
    if session.counters().refused > 0 {
        return Err(CtlError::refused(attempt, "the message was not handled"));
    }
    let told = Told { set: args.set.clone(), key: prepared.key, message: args.message.clone(), handled: true };
    out::print(app.global.output, &told, |told| format!("{} {} handled {}\n", told.set, args.key, told.message))
}
