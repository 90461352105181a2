//! Pure cluster state: what the coordinators agree on, as a function of the Raft log alone (C1, C2, C10).
//!
//! ```text
//!   log record (index, Command) --> ClusterState::apply --> Outcome        same log, same state, on every replica
//!                                        |
//!              members, sets, shards, sessions, operations                 BTreeMaps only: iteration order is fixed
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`command`] | what can be in the log, and what comes of it |
//! | [`state`] | the state and `apply` |
//! | [`membership`] | nodes and their incarnations |
//! | [`devices`] | devices that are lost and come back while their node lives |
//! | [`sets`] | actor sets: apply, scale, delete |
//! | [`shards`] | residences; the only place where epochs are raised |
//! | [`planner`] | which worker a shard goes to, which shards move when a set is scaled |
//! | [`operations`] | outcomes by operation id, so that a retry gets the same answer (C4) |
//! | [`sessions`] | client sessions and whose they are (C11) |
//! | [`validate`] | what a document and a report must be like |
//! | [`query`] | views, directories and lists |
//! | [`leases`] | the leader's memory of leases; no part of the log |
//! | [`clocks`] | the leader's memory of clocks; no part of the log (C6) |
//! | [`snapshot`] | the state as bytes |
//! | [`invariants`] | what holds after every record |
//!
//! Deliberately absent: clocks, randomness, I/O, and anything that the log does not determine. `leases` and `clocks` are
//! pure too, but take the time as an argument and live outside [`ClusterState`].

/// Derives what every record of the state needs: rkyv for the log and snapshots, serde to be shown.
macro_rules! record {
    ($($item:tt)*) => {
        #[derive(
            Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, serde::Serialize, serde::Deserialize,
        )]
        $($item)*
    };
}

pub mod clocks;
#[allow(missing_docs, reason = "rkyv derives helper structs of enum variants without docs")]
pub mod command;
pub mod devices;
pub mod invariants;
pub mod leases;
pub mod limits;
pub mod membership;
pub mod operations;
pub mod planner;
pub mod query;
pub mod sessions;
pub mod sets;
pub mod shards;
pub mod snapshot;
pub mod state;
pub mod validate;

pub use clocks::{ClockTable, Judgement};
pub use command::{Command, CommandBody, CommandError, Outcome};
pub use devices::DeviceState;
pub use leases::{LeaseTable, NodeLiveness};
pub use membership::{Member, MemberState};
pub use sessions::Session;
pub use sets::SetRecord;
pub use shards::{Residence, ShardRecord};
pub use state::ClusterState;

#[cfg(test)]
mod tests;
