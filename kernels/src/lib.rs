//! Device code and all that is needed to compile and launch it (C2, C3, C6, C7, C9): data and text, no driver calls.
//!
//! The persistent kernel is in `device/*.cuh`, small files with one job each:
//!
//! | file | what it holds |
//! |---|---|
//! | `base`, `config`, `memory` | words, geometry, loads and fences with their scopes spelled out |
//! | `hlc`, `ring` | stamps; positions of rings (also compiled for the host, and tested there against the contract) |
//! | `keys`, `resolve` | from a message to its actor's record; grouping by actor that keeps order |
//! | `ctx`, `run` | what a handler sees; handling one message |
//! | `send`, `spill` | routes, places in rings, messages that found no room |
//! | `rounds`, `worker` | the parts of a worker's round, and the round |
//! | `router` | the block that reads host memory |
//! | `types/*` | device code of actor types: text that defines `State`, `init`, `handle` |
//!
//! | module | what it holds |
//! |---|---|
//! | [`layout`] | structs that launcher and device code share, with the C text made from them |
//! | [`geometry`] | sizes that are fixed when device code is compiled |
//! | [`device_type`] | the device side of an actor type |
//! | [`source`] | one translation unit: files, options, cache key |
//!
//! Deliberately absent: the CUDA driver and NVRTC themselves (`ringfleet-gpu`), and any hand-written copy of a shared struct.

pub mod device_type;
pub mod geometry;
pub mod layout;
pub mod source;

pub use device_type::{DeviceType, Kind, shipped};
pub use geometry::{Geometry, GeometryError};
pub use source::{Arch, Unit, Variant};
