//! Sans-I/O protocol of nodes, clients and coordinators: time, links and devices come in as arguments, effects go out as data.
//!
//! | module | what it holds | contract |
//! |---|---|---|
//! | [`control`] | control messages between coordinator, nodes, clients and ctl | C1, C2, C11 |
//! | [`wire`] | frames of a data connection, fixed layouts | C3, C9 |
//! | [`outbound`] | the sending side of channels, for a node's incarnation and for a client's session | C3, C9 |
//! | [`inbound`] | the receiving side: order and duplicate filters, expiry of sessions | C3, C9 |
//! | [`node`] | everything that one agent decides: residence, ingress, egress, fencing | C2, C3, C4, C7, C9 |
//! | [`ledger`] | what the agent counts | C7 |
//! | [`limits`] | every bound of this crate | C9 |
//!
//! Methods come in four kinds: getters, `handle_*` and commands (an event has happened), and `poll_*` (what is to be done now).
//! After any `handle_*` the caller polls until there is nothing left; [`Now`] is read once per batch, never per message.
//!
//! Deliberately absent: tokio, clocks, random numbers, files and sockets.
pub mod action;
pub mod control;
pub mod inbound;
pub mod ledger;
pub mod limits;
pub mod map;
pub mod node;
pub mod now;
pub mod outbound;
pub mod peer;
pub mod table;
pub mod wire;

pub use action::Action;
pub use ledger::Ledger;
pub use node::{DeviceConfig, NodeConfig, NodeProto, ProtocolError};
pub use now::Now;
pub use outbound::{Outbound, OutboundConfig, OutboundEvent};
pub use peer::{CloseReason, Lane, LinkId, PeerIdentity, Source};
