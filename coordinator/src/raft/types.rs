//! What openraft is told about our types.

use crate::config::Peer;
use ringfleet_coordinator_core::{Command, Outcome};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The async runtime of openraft.
pub type Runtime = super::runtime::EnvRuntime;

openraft::declare_raft_types!(
    /// The types of the group.
    pub Types:
        D = Record,
        R = Outcome,
        NodeId = u64,
        Node = Peer,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = Runtime,
);

/// A command as it stands in the log and travels: its own checked bytes, whatever carries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record(pub Command);

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.to_bytes().map_err(S::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl serde::de::Visitor<'_> for Bytes {
            type Value = Record;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the bytes of a command")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Record, E> {
                Command::from_bytes(bytes).map(Record).map_err(E::custom)
            }
        }
        deserializer.deserialize_bytes(Bytes).map_err(D::Error::custom)
    }
}

/// A record of the log.
pub type Entry = openraft::alias::EntryOf<Types>;
/// Term and index of a record.
pub type LogId = openraft::alias::LogIdOf<Types>;
/// A vote.
pub type Vote = openraft::alias::VoteOf<Types>;
/// The members, with the record that decided them.
pub type Membership = openraft::alias::StoredMembershipOf<Types>;
/// What a snapshot is of.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
/// A snapshot.
pub type Snapshot = openraft::alias::SnapshotOf<Types, bytes::Bytes>;
