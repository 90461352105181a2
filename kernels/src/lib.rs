//! Device code and all that is needed to compile and launch it (C2, C3, C6, C7, C9): data and text, no driver calls.
//!
//! The persistent kernel is in `device/*.cuh`, small files with one job each:
//!
//! | file | what it holds |
//! |---|---|
//! | `base`, `config`, `memory` | words, geometry, loads and fences with their scopes spelled out |
//! | `hlc`, `ring`, `bell` | stamps; positions of rings; the envelope beside the host's words (also compiled for the host, and tested there) |
//! | `team`, `shared` | who does a round's work: the block or a warp; what a worker keeps in shared memory |
//! | `shards` | from a key to its shard (also compiled for the host, and tested there) |
//! | `keys`, `resolve` | from a message to its actor's record; grouping by actor that keeps order |
//! | `ctx`, `run`, `timers` | what a handler sees; handling one message; messages that wait for their time |
//! | `send`, `spill` | routes, places in rings, messages that found no room |
//! | `rounds`, `handle` | the parts of a worker's round |
//! | `alone`, `worker` | the round of a worker with little to do, and that of the whole block |
//! | `router` | the block that reads host memory |
//! | `types/*` | device code of actor types: text that defines `State`, `init`, `handle` |
//!
//! | module | what it holds |
//! |---|---|
//! | [`bell`] | the host's side of `bell` |
//! | [`layout`] | structs that launcher and device code share, with the C text made from them |
//! | [`geometry`] | sizes that are fixed when device code is compiled |
//! | [`device_type`] | the device side of an actor type |
//! | [`source`] | one translation unit: files, options, cache key |
//!
//! Deliberately absent: the CUDA driver and NVRTC themselves (`ringfleet-gpu`), and any hand-written copy of a shared struct.

pub mod bell;
pub mod device_type;
pub mod geometry;
pub mod layout;
pub mod source;

pub use device_type::{DeviceType, Kind, shipped};
pub use geometry::{Geometry, GeometryError};
pub use source::{Arch, Unit, Variant};
