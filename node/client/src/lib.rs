//! Host client: calls to the coordinators, and sessions that tell and ask actors.
//!
//! ```text
//!   Client ──call──▶ Coordinators ──▶ whichever coordinator leads        (C1: retried under one operation id)
//!      │
//!      └─session─▶ Session ──tell, ask──▶ queue ──▶ Driver ──frames──▶ nodes    (one task, one connection per node, lazily)
//!                     ▲                               │ owns ringfleet_proto's Outbound: routes, sequences, sending again
//!                     └──── room, replies, losses ────┘
//! ```
//!
//! - **C3** A session's messages to one shard are handled in the order told, without gap or duplicate; where that is impossible
//!   the session is told [`ChannelLost`], and [`Session::flush`] fails. Nothing is lost silently.
//! - **C4** An ask ends exactly once, by its deadline, with a reply, [`AskError::Refused`] (provably not executed),
//!   [`AskError::Failed`] (executed without an answer) or [`AskError::Unknown`].
//! - **C9** Taken and not yet acknowledged messages are bounded by the session's window: `tell` waits for room.
//!
//! Deliberately absent: a cache of sessions across processes (a session is one process's), and blocking calls.

mod client;
mod coordinators;
mod driver;
mod error;
mod link;
mod session;

pub use client::{Client, ClientConfig};
pub use error::{
    AskError, Asked, CallError, ChannelLost, ClientError, FlushError, RefusedReason, TellError, UnknownReason,
};
pub use session::{Counters, Reply, Session, Tell};
