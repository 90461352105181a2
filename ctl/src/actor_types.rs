//! Actor types by name: those linked into this binary, else those that nodes report.

use ringfleet_abi::hash::fnv1a64;
use ringfleet_proto::control::{AdminAnswer, AdminVerb, MessageReport, TypeInfo, TypeReport};

use crate::app::{App, Cluster, unexpected};
use crate::error::{CtlError, CtlResult};
use crate::message::type_name;

/// The types that nodes report.
pub async fn reported(cluster: &Cluster) -> CtlResult<Vec<TypeInfo>> {
    let attempt = "listing actor types";
    match cluster.call(attempt, AdminVerb::Types).await? {
        AdminAnswer::Types(types) => Ok(types),
        other => Err(unexpected(attempt, &other)),
    }
}

/// The type `name` with the code `code_hash`: as linked here if it is the same code, else as nodes report it.
pub async fn find(app: &App, cluster: &Cluster, name: &str, code_hash: u64) -> CtlResult<TypeReport> {
    let linked = app.types.iter().find(|ty| ty.name == name && ty.code_hash == code_hash);
    if let Some(linked) = linked {
        return Ok(ringfleet_node::report::type_report(linked));
    }
    let types = reported(cluster).await?;
    let same = |info: &&TypeInfo| info.report.name == name && info.report.code_hash == code_hash;
    types.iter().find(same).map(|info| info.report.clone()).ok_or_else(|| {
        let cause = format!("no live node reports actor type `{name}` with the code of the set");
        CtlError::failed("looking up the messages of the set", cause)
    })
}

/// The message `name` that the type handles.
pub fn handled<'a>(ty: &'a TypeReport, name: &str) -> CtlResult<&'a MessageReport> {
    ty.handles.iter().find(|message| message.name == name).ok_or_else(|| {
        let known: Vec<&str> = ty.handles.iter().map(|message| message.name.as_str()).collect();
        let cause = format!("{} has no message `{name}`; it handles {}", ty.name, known.join(", "));
        CtlError::usage("building the message", cause)
    })
}

/// The message with this number that the type answers, or else handles.
pub fn answered(ty: &TypeReport, kind: u16) -> Option<&MessageReport> {
    ty.replies.iter().chain(&ty.handles).find(|message| message.kind == kind)
}

/// `Leg { delay: i32, miles: u32 }`
pub fn signature(message: &MessageReport) -> String {
    if message.fields.is_empty() {
        return message.name.clone();
    }
    let fields: Vec<String> =
        message.fields.iter().map(|field| format!("{}: {}", field.name, type_name(field))).collect();
    format!("{} {{ {} }}", message.name, fields.join(", "))
}

/// How a key on the command line is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyForm {
    /// As the actor type writes its keys; of other types a number as it is, else the hash of the text.
    #[default]
    Auto,
    /// A decimal or 0x number.
    U64,
    /// The hash of the text (FNV-1a, 64 bits), whatever it looks like.
    Text,
}

/// The key that `text` names for actors of the type `actor_type`.
pub fn key(form: KeyForm, actor_type: &str, text: &str) -> CtlResult<u64> {
    let number = || match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(&hex.replace('_', ""), 16).ok(),
        None => text.parse().ok(),
    };
    match form {
        KeyForm::Text => Ok(fnv1a64(text.as_bytes())),
        KeyForm::U64 => number().ok_or_else(|| CtlError::usage(format!("reading the key `{text}`"), "not a number")),
        KeyForm::Auto => {
            Ok(ringfleet_actors::key_of(actor_type, text).or_else(number).unwrap_or_else(|| fnv1a64(text.as_bytes())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbers_or_hashes_of_text() {
        let auto = |text| key(KeyForm::Auto, "some.type", text).expect("every text is a key");
        assert_eq!(auto("17"), 17);
        assert_eq!(auto("0xff"), 255);
        assert_eq!(auto("17a"), fnv1a64(b"17a"));
        assert_eq!(key(KeyForm::Text, "some.type", "17").expect("text"), fnv1a64(b"17"));
        assert!(key(KeyForm::U64, "some.type", "UA").is_err());
    }
}
