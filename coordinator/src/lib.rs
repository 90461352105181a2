//! The coordinator: a Raft group that knows who is a member, which actor sets there are, and where their shards live.
//!
//! ```text
//!   nodes, clients, ctl --link--> Service --propose/confirm--> Group --> openraft --> log on disk
//!                                    |                            |
//!                                 Leases <----- Steward ----------'---> ClusterState (coordinator-core)
//! ```
//!
//! | module | what it holds | contract |
//! |---|---|---|
//! | [`config`] | settings and their trade-offs | |
//! | [`run`](mod@run) | a coordinator as a whole | |
//! | [`service`] | requests, authorisation, deadlines | C1, C4, C11 |
//! | [`standing`] | founding the group, joining it, having been removed | C1 |
//! | [`steward`] | what only the leader does: leases, losses | C2, C10 |
//! | [`raft`] | the seam to openraft | C1 |
//! | [`store`] | the log on disk | C1 |
//! | [`transport`], [`link`] | calls between coordinators | |
//! | [`http`], [`metrics`] | health and figures | |
//!
//! Never on the message path: without coordinators messages flow until the leases end.

pub mod config;
pub mod http;
pub mod link;
pub mod metrics;
pub mod raft;
pub mod run;
pub mod service;
pub mod standing;
pub mod steward;
pub mod store;
pub mod transport;

pub use config::{CoordinatorConfig, Peer, Timing};
pub use run::{Coordinator, CoordinatorError, run, run_until};

#[cfg(test)]
mod tests;
