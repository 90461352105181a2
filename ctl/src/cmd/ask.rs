//! `ringfleet ask SET KEY MESSAGE [JSON]`

use ringfleet_client::AskError;
use serde_json::{Value, json};

use crate::actor_types as types;
use crate::app::App;
use crate::cmd::tell::{TellArgs, open_session, prepare};
use crate::error::{CtlError, CtlResult, chain};
use crate::message;
use crate::out;

/// The arguments of `ask` are those of `tell`.
pub type AskArgs = TellArgs;

/// Asks and prints the reply.
pub async fn run(app: &App, args: &AskArgs) -> CtlResult {
    let attempt = format!("asking {} {}", args.set, args.key);
    let cluster = app.cluster()?;
    let prepared = prepare(app, &cluster, args).await.map_err(|error| error.during(&attempt))?;
    let session = open_session(&cluster).await.map_err(|error| error.during(&attempt))?;
    let set = prepared.set.set_id();
    let reply = session.ask(set, prepared.key, prepared.kind, &prepared.payload, cluster.time_left()).await;
    let reply = reply.map_err(|error| match error {
        AskError::Refused(_) => CtlError::refused(&attempt, chain(&error)),
        AskError::Failed { .. } => CtlError::failed(&attempt, chain(&error)),
        AskError::Unknown(_) => CtlError::unreachable(&attempt, chain(&error)),
    })?;
    let value = match types::answered(&prepared.ty, reply.kind) {
        Some(answer) => {
            let fields =
                message::decode(&answer.fields, reply.payload()).map_err(|error| CtlError::failed(&attempt, error))?;
            json!({ "message": answer.name, "fields": fields })
        }
        // The type does not say what it answers: the bytes are all there is.
        None => {
            let bytes: String = reply.payload().iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "message": format!("{:#06x}", reply.kind), "fields": { "bytes": bytes } })
        }
    };
    out::print(app.global.output, &value, |value| {
        let fields = value["fields"].as_object().cloned().unwrap_or_default();
        let mut text = format!("{}\n", value["message"].as_str().unwrap_or(""));
        for (name, field) in fields {
            let shown = match field {
                Value::String(text) => text,
                other => other.to_string(),
            };
            text += &format!("  {name}: {shown}\n");
        }
        text
    })
}
