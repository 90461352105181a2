//! Why something that was asked of the cluster has no answer.

use std::io;
use std::time::Duration;

use ringfleet_abi::{LostReason, SetId, ShardId, Verdict};
use ringfleet_link::{BindError, ConnectError};
use ringfleet_proto::control::Refusal;

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is nobody to call.
    #[error("making a client: no coordinator address is given")]
    NoCoordinator,
    /// The socket could not be opened.
    #[error("making a client")]
    Bind(#[from] BindError),
}

/// Why a call to the coordinators has no answer (C4).
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Refused for good; not executed.
    #[error("{0}")]
    Refused(Refusal),
    /// A coordinator and this process do not accept each other (C11); nothing was sent.
    #[error("{0}")]
    Identity(ConnectError),
    /// No coordinator answered by the deadline, and none can have executed it.
    #[error("no coordinator of {tried} answered within {} ms; last: {last}", .limit.as_millis())]
    Unreachable {
        /// The addresses tried.
        tried: String,
        /// For how long.
        limit: Duration,
        /// The last failure.
        last: String,
    },
    /// The coordinators have no leader or quorum; not executed.
    #[error("the coordinators are not available: {message}")]
    Unavailable {
        /// The last answer.
        message: String,
    },
    /// It was sent, and whether it was executed is not known.
    #[error("the outcome is not known: {message}")]
    Unknown {
        /// The last failure.
        message: String,
    },
    /// Something of this process.
    #[error("{0}")]
    Local(String),
}

/// Why a tell was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The set is not in the directory, also after a moment's wait for a younger one.
    #[error("no set {set} is known to the cluster")]
    NoSuchSet {
        /// The set.
        set: SetId,
    },
    /// A dense set that has no such key.
    #[error("set {set} has no key {key:#x}")]
    NoSuchKey {
        /// The set.
        set: SetId,
        /// The key.
        key: u64,
    },
    /// The payload is over 32 bytes.
    #[error("a payload of {bytes} bytes, 32 are allowed in one message")]
    PayloadLength {
        /// Its length.
        bytes: usize,
    },
    /// The session has ended.
    #[error("the session has ended: {reason}")]
    Ended {
        /// Why.
        reason: String,
    },
}

/// Why messages may not have been handled although they were taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlushError {
    /// Messages were reported lost since the last flush (C3).
    #[error("{messages} messages were reported lost; first: channel to shard {}: {}", .first.shard, .first.reason)]
    Lost {
        /// How many.
        messages: u64,
        /// The first report.
        first: ChannelLost,
    },
    /// The session has ended.
    #[error("the session has ended: {reason}")]
    Ended {
        /// Why.
        reason: String,
    },
}

/// A channel broke: what was sent to this shard after a sequence may not have been handled (C3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelLost {
    /// The shard.
    pub shard: ShardId,
    /// The last sequence that is known to have been handled.
    pub after_seq: u64,
    /// Messages of this session that are lost or whose fate is unknown.
    pub messages: u64,
    /// Why.
    pub reason: LostReason,
}

/// How an ask ended without an answer (C4): exactly one of three ways.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Provably not executed.
    #[error("not executed: {0}")]
    Refused(RefusedReason),
    /// Executed, and the actor did not answer.
    #[error("executed without an answer by {actor}: {verdict}{}", fault_text(*.fault))]
    Failed {
        /// By which actor.
        actor: Box<Asked>,
        /// What became of it.
        verdict: Verdict,
        /// The code of the fault if the handler failed, else 0.
        fault: u32,
    },
    /// Whether it was executed is not known.
    #[error("whether it was executed is not known: {0}")]
    Unknown(UnknownReason),
}

/// Who was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The set's name; its number if the directory does not know it any more.
    pub set: String,
    /// The set's actor type; empty if the directory does not know it any more.
    pub actor_type: String,
    /// The key.
    pub key: u64,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { set, actor_type, key } = self;
        write!(f, "actor {key:#x} of set {set}")?;
        if actor_type.is_empty() || actor_type == set { Ok(()) } else { write!(f, " ({actor_type})") }
    }
}

/// Why an ask was provably not executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedReason {
    /// The owner said no.
    #[error("{0}")]
    Verdict(Verdict),
    /// It was not sent.
    #[error("{0}")]
    NotSent(TellError),
    /// The deadline passed, and it was not sent, or a node had refused it as busy or moved.
    #[error("the deadline passed before a node took it")]
    Deadline,
}

/// Why the fate of an ask is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownReason {
    /// No answer by the deadline.
    #[error("no answer by the deadline")]
    Deadline,
    /// The channel to the shard broke.
    #[error("the channel to its shard broke: {0}")]
    ChannelLost(LostReason),
    /// The session ended.
    #[error("the session has ended: {0}")]
    Ended(String),
}

/// ` (fault)`, or nothing.
fn fault_text(code: u32) -> String {
    match ringfleet_actor::Fault::from_code(code) {
        Some(ringfleet_actor::Fault::User(code)) => format!(" (its code {code})"),
        Some(fault) => format!(" ({fault})"),
        None => String::new(),
    }
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        CallError::Local(error.to_string())
    }
}
