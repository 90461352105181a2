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
pub const VERSION: u16 = 4;
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
    /// Who are you?
    Ping,
}

/// A request with its address. A coordinator that lost its data has another number, and takes part in nothing that is not its own.
#[derive(Debug, Serialize, Deserialize)]
pub struct Letter {
    /// The number of the coordinator that is meant; 0: whoever is there.
    pub to: u64,
    /// What is asked.
    pub request: RaftRequest,
}

/// Who somebody is, and whom it takes for the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where it listens, by its own word.
    pub addr: String,
    /// Its wall clock, ms since 1970.
    pub wall_ms: u64,
    /// Whether its log has anything.
    pub initialized: bool,
    /// Whether it leads, or believes so.
    pub leads: bool,
    /// The record that decided the members that it knows.
    pub members_index: u64,
    /// Numbers and names of the members that it knows.
    pub members: Vec<(u64, String)>,
    /// Names of the coordinators that it was started with.
    pub started_with: Vec<String>,
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
    /// To a ping.
    Pong(Introduction),
    /// It was addressed to another number: this coordinator has other data.
    NotMe {
        /// Its own number.
        id: u64,
    },
    /// The other could not do it.
    Failed(String),
}

/// Whether bytes are of the Raft group at all.
#[must_use]
pub fn is_raft(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// A request that only asks whether somebody is there.
#[must_use]
pub fn ping() -> Vec<u8> {
    // Nothing in it has a way to fail being encoded.
    encode(&Letter { to: 0, request: RaftRequest::Ping }).unwrap_or_default()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::Record;
    use openraft::entry::RaftEntry;
    use openraft::vote::RaftLeaderId;
    use ringfleet_abi::hash::mix64;
    use ringfleet_coordinator_core::{Command, CommandBody};

    fn append() -> Letter {
        let vote = Vote::new_committed(3, 1);
        let id = |index| LogId::new(vote.leader_id.to_committed(), index);
        let record = Record(Command::operation(7, CommandBody::DeleteSet { set: "a".into() }));
        let entries =
            vec![crate::raft::types::Entry::new_normal(id(5), record), crate::raft::types::Entry::new_blank(id(6))];
        let leader_commit = Some(id(4));
        let request =
            RaftRequest::Append(AppendEntriesRequest { vote, prev_log_id: Some(id(4)), entries, leader_commit });
        Letter { to: 9, request }
    }

    #[test]
    fn messages_come_back_as_they_went() {
        let bytes = encode(&append()).unwrap();
        assert!(is_raft(&bytes));
        let back: Letter = decode(&bytes).unwrap();
        assert_eq!(encode(&back).unwrap(), bytes);
        let Letter { to: 9, request: RaftRequest::Append(back) } = back else { panic!() };
        assert_eq!(back.entries.len(), 2);
    }

    #[test]
    fn wrong_headers_and_damaged_bodies_are_errors_and_never_panics() {
        let good = encode(&append()).unwrap();
        assert!(decode::<Letter>(&good[..5]).unwrap_err().contains("ends early"));
        let mut other = good.clone();
        other[4] = 9;
        assert!(decode::<Letter>(&other).unwrap_err().contains("version 9"));
        assert!(decode::<Letter>(b"RFC1____").unwrap_err().contains("not a message"));
        for seed in 0..20_000u64 {
            let mut bytes = good.clone();
            let at = 8 + (mix64(seed) as usize) % (bytes.len() - 8);
            bytes[at] = mix64(!seed) as u8;
            let _ = decode::<Letter>(&bytes);
            let _ = decode::<RaftReply>(&bytes);
            let _ = decode::<Letter>(&bytes[..at]);
        }
    }

    /// A fuzz target, like those of `tests/tests/decoders`: pairs of a place and a byte are put into a message; then bytes as they come.
    #[test]
    fn whatever_is_read_can_be_written_and_read_again() {
        fn check<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
            let Ok(message) = decode::<T>(bytes) else { return };
            let written = encode(&message).expect("what was read can be written");
            let read: T = decode(&written).expect("what was written can be read");
            assert_eq!(encode(&read).expect("again"), written);
        }
        let vote = Vote::new(3, 1);
        let ask = Letter { to: 9, request: RaftRequest::Vote(VoteRequest::new(vote, None)) };
        let reply = RaftReply::Pong(Introduction {
            name: "c1".into(),
            members: vec![(1, "c1".into())],
            ..Introduction::default()
        });
        let letters = [append(), ask].map(|letter| encode(&letter).expect("plain data"));
        assert!(letters.iter().all(|letter| decode::<Letter>(letter).is_ok()), "what is damaged below is a letter");
        let [first, second] = letters;
        let seeds = [first, second, encode(&reply).expect("plain data")];
        assert!(decode::<RaftReply>(&seeds[2]).is_ok(), "and a reply");
        bolero::check!().with_test_time(std::time::Duration::from_secs(5)).with_max_len(256).for_each(
            |plan: &[u8]| {
                for seed in &seeds {
                    let mut bytes = seed.clone();
                    for &[at, byte] in plan.as_chunks().0 {
                        let at = HEADER_BYTES + usize::from(at) % (bytes.len() - HEADER_BYTES);
                        bytes[at] = byte;
                    }
                    check::<Letter>(&bytes);
                    check::<RaftReply>(&bytes);
                }
                let raw = [&seeds[0][..HEADER_BYTES], plan].concat();
                check::<Letter>(&raw);
                check::<RaftReply>(&raw);
            },
        );
    }
}
