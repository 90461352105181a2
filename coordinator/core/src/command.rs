//! What can be in the log, and what comes of it.

use ringfleet_abi::hash::fnv1a64;
use ringfleet_proto::control::node::Released;
use ringfleet_proto::control::{ActorSet, DeviceReport, Refusal, RefusalCode, Role, SetChange, TypeReport};

record! {
    /// One record of the log.
    pub struct Command {
        /// The caller's operation id: a record with an id seen before is answered from memory. `None` for commands that
        /// are idempotent by themselves.
        pub operation: Option<u128>,
        /// What to do.
        pub body: CommandBody,
    }
}

record! {
    /// What to do.
    pub enum CommandBody {
        /// Name the cluster and fix its lease. The first one counts.
        InitCluster {
            /// The name.
            cluster: String,
            /// How long a lease lasts.
            lease_ms: u32,
        },
        /// A node becomes a member.
        Join {
            /// Its name.
            name: String,
            /// The random number of this start: the same again is the same join.
            boot: u128,
            /// Where nodes and clients reach it.
            data_addr: String,
            /// Where it serves health and metrics.
            http_addr: String,
            /// Its devices.
            devices: Vec<DeviceReport>,
            /// Its actor types.
            types: Vec<TypeReport>,
        },
        /// The lease of this incarnation has ended.
        MemberLost {
            /// Which.
            incarnation: u64,
        },
        /// The clock of this incarnation is off, or right again (C6). What it owns stays where it is; it gets nothing new meanwhile.
        Quarantine {
            /// Which.
            incarnation: u64,
            /// Its clock minus the cluster's; `None`: right again.
            offset_ms: Option<i64>,
        },
        /// This incarnation executes nothing any more, by its own word.
        Leave {
            /// Which.
            incarnation: u64,
        },
        /// Create a set, or change what may change of one.
        ApplySet {
            /// The document.
            document: ActorSet,
        },
        /// Change the most workers that a set may occupy.
        ScaleSet {
            /// The set's name.
            set: String,
            /// The bound.
            workers: u32,
            /// Whether moved shards may lose their state.
            discard_state: bool,
        },
        /// Delete a set.
        DeleteSet {
            /// The set's name.
            set: String,
        },
        /// Its owner has released these shards.
        ShardsReleased {
            /// The owner.
            incarnation: u64,
            /// Which.
            shards: Vec<Released>,
        },
        /// A device of a member was lost, or is back.
        DeviceChanged {
            /// Whose.
            incarnation: u64,
            /// Which.
            device: u16,
            /// Its start within the incarnation.
            generation: u32,
            /// Whether it is up.
            up: bool,
        },
        /// A new client session.
        OpenSession {
            /// Role in the client's certificate.
            role: Role,
            /// Name in the client's certificate.
            name: String,
        },
    }
}

record! {
    /// What came of a command.
    pub enum Outcome {
        /// Nothing to say: a record of the Raft group itself, or a command without an answer.
        Done,
        /// A join.
        Joined {
            /// The node's id.
            node: u32,
            /// Its incarnation.
            incarnation: u64,
        },
        /// An apply, scale or delete.
        Set {
            /// The set.
            set: u16,
            /// What became of it.
            change: SetChange,
            /// The record that decided it: a retry is told the first one.
            index: u64,
        },
        /// A session.
        Session {
            /// Its number.
            session: u32,
        },
        /// Nothing changed, for this reason.
        Refused(Refusal),
    }
}

impl Outcome {
    /// A refusal.
    #[must_use]
    pub fn refused(code: RefusalCode, message: impl Into<String>) -> Self {
        Self::Refused(Refusal::new(code, message))
    }
}

impl From<Result<Outcome, Refusal>> for Outcome {
    fn from(result: Result<Outcome, Refusal>) -> Self {
        result.unwrap_or_else(Outcome::Refused)
    }
}

/// The first two bytes of a command as bytes; the second is the version of the archive's layout.
const RECORD_MAGIC: [u8; 2] = [b'C', 2];

/// Why bytes are not a command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Another magic or version.
    #[error("not a command of this version")]
    Magic,
    /// The archive is not the one that was written.
    #[error("command is damaged: its digest is not the one that was written with it")]
    Damaged,
    /// The archive cannot be written or read.
    #[error("archiving a command")]
    Archive(#[source] rkyv::rancor::Error),
}

impl Command {
    /// The command as bytes, for the log.
    ///
    /// # Errors
    /// [`CommandError::Archive`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, CommandError> {
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(self).map_err(CommandError::Archive)?;
        let mut bytes = Vec::with_capacity(RECORD_MAGIC.len() + size_of::<u64>() + archive.len());
        bytes.extend_from_slice(&RECORD_MAGIC);
        bytes.extend_from_slice(&fnv1a64(&archive).to_le_bytes());
        bytes.extend_from_slice(&archive);
        Ok(bytes)
    }

    /// The command in `bytes`. Never panics, whatever they are.
    ///
    /// The digest is checked first: an archive's root lies at its end, so a truncated one may be the archive of another command.
    ///
    /// # Errors
    /// Every variant of [`CommandError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CommandError> {
        let rest = bytes.strip_prefix(&RECORD_MAGIC).ok_or(CommandError::Magic)?;
        let (digest, body) = rest.split_first_chunk().ok_or(CommandError::Damaged)?;
        if u64::from_le_bytes(*digest) != fnv1a64(body) {
            return Err(CommandError::Damaged);
        }
        let mut archive: rkyv::util::AlignedVec = rkyv::util::AlignedVec::with_capacity(body.len());
        archive.extend_from_slice(body);
        rkyv::from_bytes::<Self, rkyv::rancor::Error>(&archive).map_err(CommandError::Archive)
    }

    /// A command that is idempotent by itself.
    #[must_use]
    pub const fn plain(body: CommandBody) -> Self {
        Self { operation: None, body }
    }

    /// A command of an operation.
    #[must_use]
    pub const fn operation(operation: u128, body: CommandBody) -> Self {
        Self { operation: Some(operation), body }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.body {
            CommandBody::InitCluster { cluster, .. } => write!(f, "init_cluster {cluster}"),
            CommandBody::Join { name, .. } => write!(f, "join {name}"),
            CommandBody::MemberLost { incarnation } => write!(f, "member_lost {incarnation}"),
            CommandBody::Quarantine { incarnation, offset_ms: Some(offset_ms) } => {
                write!(f, "quarantine {incarnation} for {offset_ms} ms")
            }
            CommandBody::Quarantine { incarnation, offset_ms: None } => write!(f, "let {incarnation} go"),
            CommandBody::Leave { incarnation } => write!(f, "leave {incarnation}"),
            CommandBody::ApplySet { document } => write!(f, "apply_set {}", document.metadata.name),
            CommandBody::ScaleSet { set, workers, .. } => write!(f, "scale_set {set} to {workers}"),
            CommandBody::DeleteSet { set } => write!(f, "delete_set {set}"),
            CommandBody::ShardsReleased { incarnation, shards } => {
                write!(f, "shards_released {} by {incarnation}", shards.len())
            }
            CommandBody::DeviceChanged { incarnation, device, generation, up } => {
                let what = if *up { "back" } else { "lost" };
                write!(f, "device {device} of {incarnation} is {what}, generation {generation}")
            }
            CommandBody::OpenSession { role, name } => write!(f, "open_session {role}/{name}"),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Done => f.write_str("done"),
            Outcome::Joined { node, incarnation } => write!(f, "joined as node {node}, incarnation {incarnation}"),
            Outcome::Set { set, change, .. } => write!(f, "set {set} {change:?}"),
            Outcome::Session { session } => write!(f, "session {session}"),
            Outcome::Refused(refusal) => refusal.fmt(f),
        }
    }
}
