//! A device in a process of its own (C2, C3, C9): the agent has no context of a driver, a fault of a device ends only its process, and a
//! process that is gone is replaced.
//!
//! ```text
//!   agent                                   device process (`ringfleet device run`)
//!     ProcessDevice ── sealed shared memory ── engine: threads, or a kernel that reads and writes the memory itself
//!     Held (thread) ── socket pair ─────────── handshake, then only its end matters
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`shape`] | what lies where in the shared memory |
//! | [`shared`] | the memory itself |
//! | `rings` | controls and statuses through it |
//! | [`handshake`] | what the two processes say to each other before traffic |
//! | [`device`] | [`ProcessDevice`]: the agent's side, behind [`crate::Device`] |
//! | [`child`] | starting, watching and ending the process |
//! | [`group`] | [`GroupDevice`]: GPUs that send to each other, as one device |
//! | `hub` | where the processes of a group get to know each other |
//! | [`mod@serve`] | the main of the device process |
//! | `engine` | threads behind the pages that kernels know |
//! | `routing` | the agent's copy of who owns which shard |
//! | [`backoff`] | when a lost device is started again |
//!
//! Deliberately absent: a payload in the socket, a pointer in the shared memory, trust in what the other process wrote there.

pub mod backoff;
pub mod child;
pub mod device;
pub mod group;
pub mod handshake;
pub mod serve;
pub mod shape;
pub mod shared;

pub(crate) mod engine;
mod hub;
mod rings;
mod routing;

pub use child::{Launch, LaunchError, Witness};
pub use device::{GpuConfig, ProcessDevice, Wanted};
pub use group::{GROUP_MAX, GroupDevice, GroupError, start_group};
pub use handshake::{Facts, GroupFabric, Kind};
pub use serve::{Role, ServeError, serve};
