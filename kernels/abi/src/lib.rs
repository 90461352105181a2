//! Contract of host and device: everything that both sides of a ring, a control port or a wire read.
//!
//! The crate has no `std` and knows neither clock nor driver. The C header of the device side is generated from
//! these definitions ([`header`]), a test compares it with the committed text, and [`LAYOUT_HASH`] lets a kernel refuse
//! a host that was built from other definitions.
//!
//! | module | what it holds | contract |
//! |---|---|---|
//! | [`ids`] | who is who: sets, shards, epochs, nodes, incarnations | C2 |
//! | [`hlc`] | packed hybrid logical clocks | C6 |
//! | [`envelope`] | the 64-byte message | C3, C4 |
//! | [`answer`] | control envelopes: verdicts and markers | C3, C4 |
//! | [`keyspace`] | from a key to its shard | C1 |
//! | [`ring`] | the bounded single-producer single-consumer queue | C3, C9 |
//! | [`control`], [`status`] | what the host tells a device, what a device answers | C2, C9 |
//! | [`reason`] | the closed lists of why a message was not handled | C4, C7 |
//! | [`random`] | what actors draw | |
//! | [`limits`] | every bound, with the proof between them | C9 |
//! | [`mutants`] | deliberate bugs for the simulator; none without a feature that nobody turns on by default | |
//! | [`layout`], [`header`] | all of this as one table, its hash, and the C header made from it | |
//!
//! Deliberately absent: allocation, pointers in anything that crosses a boundary, and a second copy of any layout.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod answer;
pub mod control;
pub mod envelope;
pub mod hash;
pub mod header;
pub mod hlc;
pub mod ids;
pub mod keyspace;
pub mod layout;
pub mod limits;
pub mod mutants;
pub mod random;
pub mod reason;
pub mod ring;
pub mod status;
mod sync;

pub use answer::VerdictBody;
pub use control::{Control, ControlWord, RestartBudget, RestartMode, RouteTarget};
pub use envelope::{Envelope, Flags};
pub use hlc::{Hlc, HlcClock, HlcError};
pub use ids::{
    ActorId, ActorKey, DeviceIndex, Epoch, Incarnation, NodeId, SessionId, SetId, ShardId, ShardIndex, WorkerIndex,
};
pub use keyspace::KeySpace;
pub use layout::LAYOUT_HASH;
pub use random::Draws;
pub use reason::{DeadReason, LostReason, Verdict};
pub use ring::{Consumer, Producer, RingMemory};
pub use status::{Status, StatusWord, WorkerCounters};
