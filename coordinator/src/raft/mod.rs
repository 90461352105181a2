//! The seam to openraft: nobody outside this folder sees one of its types.
//!
//! ```text
//!   Group (facade) --> openraft --> log::LogStore      --> store::Writer --> disk
//!        ^                 |------> machine::Machine   --> ClusterState (core)
//!        |                 '------> network::Network   --> Transport --> the other coordinators
//!   rpc (bytes in) --------'
//! ```
//! The async runtime of openraft is an [`Env`](ringfleet_env::Env) (`runtime`), so that a simulator can put its own there.
//!
//! Choices, and why:
//! - one leader per term (`leader_id_std`), as in the paper and the specs;
//! - pre-vote is on: a coordinator that was cut off does not raise the term when it comes back;
//! - a restarted leader stands for election like everybody (`enable_leader_restore` is off): its leases are gone;
//! - reads confirm leadership by a fresh heartbeat round (`ReadPolicy::ReadIndex`), never by a leader lease.

mod gate;
mod group;
mod log;
mod machine;
mod members;
mod network;
mod rpc;
mod runtime;
mod types;

pub use group::{COMMAND_BYTES_MAX, Group, GroupError, GroupStatus, Leadership, ProposeError, ReadError};
pub use machine::{Progress, Published};
pub use members::{ChangeError, GroupMember};
pub use rpc::{Introduction, Letter, MAGIC, RaftReply, RaftRequest, decode, encode, is_raft, ping};
pub use runtime::within;

#[cfg(test)]
mod suite;
