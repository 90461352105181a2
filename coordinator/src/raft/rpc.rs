//! Messages between coordinators: 8 bytes of header, then postcard.
//!
//! ```text
//!   0..4 magic `RFR1`   4..6 version   6..8 zero   8.. body
//! ```

use super::types::{LogId, SnapshotMeta, Types, Vote};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"RFR1";
/// The version of the bodies. Coordinators of one cluster run one version.
pub const VERSION: u16 = 1;
const HEADER_BYTES: usize = 8;

/// What one coordinator asks another.
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftRequest {
    /// Records, or a heartbeat.
    Append(AppendEntriesRequest<Types>),
    /// A vote.
    Vote(VoteRequest<Types>),
    /// Whether a vote would be given.
    PreVote(VoteRequest<Types>),
    /// A piece of a snapshot.
    Snapshot(SnapshotPiece),
    /// Stand for election at once.
    TransferLeader(TransferLeaderRequest<Types>),
}

/// A piece of a snapshot, in order; the one that completes it is answered when the snapshot is installed.
#[derive(Debug, Serialize, Deserialize)]
pub struct SnapshotPiece {
    /// The leader's vote.
    pub vote: Vote,
    /// What the snapshot is of.
    pub meta: SnapshotMeta,
    /// Bytes of the whole.
    pub total_bytes: u64,
    /// Where this piece begins.
    pub offset_bytes: u64,
    /// The piece.
    pub bytes: Vec<u8>,
}

impl SnapshotPiece {
    /// What distinguishes this snapshot from others.
    pub fn of(&self) -> (Vote, Option<LogId>, u64) {
        (self.vote, self.meta.last_log_id, self.total_bytes)
    }
}

/// What the other answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum RaftReply {
    /// To an append.
    Append(AppendEntriesResponse<Types>),
    /// To a vote or pre-vote.
    Vote(VoteResponse<Types>),
    /// To a piece that does not complete the snapshot.
    PieceTaken,
    /// To the last piece.
    Snapshot(SnapshotResponse<Types>),
    /// To a transfer.
    TransferLeader(TransferLeaderResponse<Types>),
    /// The other could not do it.
    Failed(String),
}

/// Whether bytes are of the Raft group at all.
#[must_use]
pub fn is_raft(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// The bytes of a message.
///
/// # Errors
/// What postcard said.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    postcard::to_extend(message, bytes).map_err(|e| e.to_string())
}

/// The message in `bytes`. Never panics, whatever they are.
///
/// # Errors
/// What is wrong with them.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err("a message of the raft group ends early".to_owned());
    };
    let [m0, m1, m2, m3, v0, v1, ..] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err("not a message of the raft group".to_owned());
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(format!("the raft group speaks version {version} there and {VERSION} here"));
    }
    postcard::from_bytes(body).map_err(|e| format!("a message of the raft group cannot be read: {e}"))
}
