//! A deterministic network of agents and clients: every run is named by its seed.
//!
//! Nodes are real [`super::NodeProto`]s, clients real [`crate::Outbound`]s; devices, links and the coordinator are simulated. After
//! every step the ledgers must balance (C7), queues be within their bounds (C9), and each worker's handling must be in the
//! order sent (C3). `RINGFLEET_SEEDS=n` runs n seeds of each scenario instead of a few.

mod device;
mod leaving;
mod net;
mod scenarios;
mod units;
