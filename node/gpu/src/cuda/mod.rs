//! GPUs (C2, C3, C6, C7, C9): the persistent kernel of `ringfleet-kernels`, compiled, launched and driven.
//!
//! Builds and links without CUDA; the driver and NVRTC are loaded at run time, and a machine without them answers with
//! [`CudaError::Missing`].
//!
//! | module | what it holds |
//! |---|---|
//! | [`driver`] | every call of the driver, behind values that free what they hold |
//! | [`compile`] | NVRTC, and the cache of cubins |
//! | [`memory_map`] | all memory of a device, allocated before the launch |
//! | [`port`] | the host's ends of the rings |
//! | [`kernel`] | load, launch |
//! | [`peers`] | GPUs that send to each other |
//! | `tables`, `ranges` | sets, shards, routes and memory as the host keeps them: no driver call, tested without a GPU |
//! | [`types`] | the device code of actor types |
//! | [`look`], [`doctor`] | what a machine has, without making a context; what is missing |
//! | [`nvshmem`] | the other way to the same: a heap that NVSHMEM makes |
//! | `nvml` | which GPUs have how many NVLinks between them |
//! | [`baseline`] | what a launch costs without all this |
//! | `lease` | the lease and wall time of a device, in its own time |
//! | `engine` | a running kernel with its tables |
//! | `code` | which actor types that kernel has |
//! | [`device`] | [`CudaDevice`]: `trait Device`, in one process |
//! | [`served`] | the same kernel in a device process |
//!
//! GPUs of different processes send to each other, too, where an agent makes a group of them ([`crate::process::group`]).

pub mod baseline;
pub mod compile;
pub mod device;
pub mod doctor;
pub mod driver;
pub mod error;
pub mod kernel;
pub mod look;
pub mod memory_map;
pub mod nvshmem;
pub mod peers;
pub mod port;
pub mod served;
pub mod types;

mod code;
pub(crate) mod engine;
pub(crate) mod lease;
mod nvml;
mod ranges;
#[cfg(test)]
mod stand_in;
mod tables;

pub use device::CudaDevice;
pub use error::CudaError;
pub use kernel::Resident;
