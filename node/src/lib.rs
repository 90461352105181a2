//! The agent: the process of a node. One loop that owns the protocol and turns its actions into calls on devices and links.
//!
//! ```text
//!   thread "membership"                      task of the agent                         thread per worker
//!   +--------------------------+   view     +----------------------+   envelopes     +---------+
//!   | join, renew, watch       |----------->| Agent: NodeProto     |<--------------->| device  |
//!   | health and metrics pages |   lease    | links (QUIC), pumps  |   controls      | workers |
//!   +--------------------------+            +----------------------+                 +---------+
//! ```
//!
//! Leases and health have a thread, a socket and a connection of their own, so that load never looks like death (C2, C10).
//!
//! | module | what it does | contract |
//! |---|---|---|
//! | [`agent`] | the loop | C3, C9 |
//! | [`membership`] | join, lease, view, requests to the coordinator | C2 |
//! | [`coordinators`] | calls to whichever coordinator leads | C1 |
//! | [`links`] | connections, handshakes, lanes | C11 |
//! | [`devices`] | start, loss and suspicion of devices | C2, C9 |
//! | [`pump`] | between the loop and a device | C3, C9 |
//! | [`shared`], [`faults`], [`metrics`], [`http`] | what others see of it | C7 |
//!
//! Deliberately absent: decisions. They are in `ringfleet-proto`.

pub mod agent;
pub mod config;
pub mod coordinators;
pub mod devices;
pub mod error;
pub mod faults;
pub mod http;
pub mod links;
pub mod membership;
pub mod metrics;
pub mod pump;
pub mod report;
mod run;
pub mod shared;

pub use config::{DeviceConfig, NodeConfig};
pub use error::NodeError;
pub use run::{Started, run};
