//! The whole cluster in one thread and virtual time: real coordinators, nodes and clients, a simulated machine under each, faults
//! by seed, and the contract checked after every step.
//!
//! ```text
//!   Plan (seed, scenario, depth) ──▶ run ──▶ World: hosts ──▶ coordinators, nodes, clients (the shipped code)
//!                                     │        │ executor, clocks, disks, network (ringfleet-env's traits)
//!                                     │        ▼
//!                                     ├─ director: set up, faults, quiet, end
//!                                     └─ Observer: checks ──▶ Report (trace hash, counts, violation, command that repeats it)
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`exec`] | the executor: what runs next is decided by the seed |
//! | [`clock`], [`disk`], [`net`], [`lanes`] | a host's machine |
//! | [`world`], [`identity`], [`crypto`] | hosts and their processes |
//! | [`cluster`] | what runs on which host |
//! | [`faults`] | what goes wrong |
//! | [`mutants`], [`power`] | what must be found, and how soon it is |
//! | [`work`], [`actors`] | what clients do |
//! | [`checks`], [`observe`] | the contract |
//! | [`fence_steps`], [`fence_trace`] | traces as behaviours of `specs/Fence.tla` |
//! | [`scenario`], [`run`](mod@run), [`cli`] | runs |
//! | [`full`], [`ledger`] | the long campaign, and what came of every run |
//!
//! Deliberately absent: a model of the code. What runs is what ships; the one thing that is replaced is the machine.

pub mod actors;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod crypto;
pub mod disk;
pub mod exec;
pub mod faults;
pub mod fence_steps;
pub mod fence_trace;
pub mod full;
pub mod identity;
pub mod lanes;
pub mod ledger;
pub mod mutants;
pub mod net;
pub mod observe;
pub mod power;
pub mod rng;
pub mod run;
pub mod scenario;
pub mod set_calls;
pub mod trace;
pub mod work;
pub mod world;

pub use run::{Depth, Plan, Report, run};
