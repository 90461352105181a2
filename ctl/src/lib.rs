//! `ringfleet`: one binary to run, operate and demonstrate a cluster of actors, and a library that is the whole `main` of a
//! user's own build:
//!
//! ```no_run
//! use ringfleet_actor::prelude::*;
//!
//! fn main() -> std::process::ExitCode {
//!     ringfleet::run(ringfleet::types![])
//! }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`args`] | the command line |
//! | [`cmd`] | the verbs, one per file |
//! | [`app`] | what every verb is given; calls to the cluster |
//! | [`config`] | contexts |
//! | [`document`] | YAML to actor sets |
//! | [`message`], [`actor_types`] | JSON to payloads, by the descriptors of actor types |
//! | [`out`], [`error`] | tables, JSON, YAML; one line per failure and its exit code |
//! | [`settings`] | flags over a file over defaults, for processes that stay |
//! | [`mod@bench`] | measurements of one device |
//! | [`devices`] | what a node runs its actors on |
//! | [`local`], [`proxy`] | a cluster of real processes on this machine |
//! | [`metrics`], [`http`] | pages of our processes, the conservation sum (C7) |
//!
//! Data goes to stdout, everything else to stderr. Every verb has a deadline.

pub mod actor_types;
pub mod app;
pub mod args;
pub mod bench;
pub mod cmd;
pub mod config;
pub mod devices;
pub mod document;
pub mod error;
pub mod http;
pub mod local;
pub mod message;
pub mod metrics;
pub mod out;
pub mod proxy;
pub mod settings;
mod start;

pub use ringfleet_actor as actor;
pub use ringfleet_actor::{TypeDescriptor, prelude, types};
pub use start::run;
