//! What can go wrong with a GPU: always the world's fault, so always a value.

use ringfleet_kernels::GeometryError;

/// Why a GPU cannot be used, or has stopped being usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// A library that is not installed. Nothing of CUDA is linked, so this is how a machine without GPUs answers.
    #[error("the library `{library}` was not found; {hint}")]
    Missing {
        /// Which library.
        library: &'static str,
        /// What brings it.
        hint: &'static str,
    },
    /// A call of the driver failed.
    #[error("{call} failed: {text} ({code})")]
    Driver {
        /// The call.
        call: &'static str,
        /// The driver's number for it.
        code: u32,
        /// The driver's words for it.
        text: String,
    },
    /// The handlers of a type cannot be translated.
    #[error("actor type `{name}` has no device code: {at}: {text}")]
    NoDeviceCode {
        /// The type.
        name: &'static str,
        /// File and line of the user's text.
        at: String,
        /// What is in the way.
        text: String,
    },
    /// NVRTC refused the device code.
    #[error("compiling device code failed: {log}")]
    Compile {
        /// The compiler's log.
        log: String,
    },
    /// The kernel was built from another contract than this program.
    #[error("the device code was built from contract {device:#018x}, this program from {host:#018x}")]
    Layout {
        /// The kernel's layout hash.
        device: u64,
        /// This program's.
        host: u64,
    },
    /// The kernel's blocks cannot all be resident at once.
    #[error("{blocks} blocks are needed at once, the device holds {resident}")]
    Grid {
        /// Blocks of the launch.
        blocks: u32,
        /// Blocks that fit.
        resident: u32,
    },
    /// Devices that were not built to send to each other.
    #[error("the {devices} devices do not have one geometry made for {devices} devices")]
    Peers {
        /// How many there are.
        devices: u32,
    },
    /// The agent did not hand over the other devices of the group.
    #[error("getting to know the other devices of the group: {0}")]
    Fabric(String),
    /// NVSHMEM is not there, or does not do what it is asked.
    #[error("NVSHMEM: {0}")]
    Nvshmem(String),
    /// A size out of its range.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// More memory than the arena has left.
    #[error("{what} needs {needed} bytes of the arena, {left} are left")]
    Arena {
        /// What was to be placed.
        what: &'static str,
        /// Its bytes.
        needed: u64,
        /// What is left.
        left: u64,
    },
    /// No status from the kernel in time.
    #[error("the kernel did not {what} within {millis} ms")]
    Late {
        /// What was waited for.
        what: &'static str,
        /// For how long.
        millis: u64,
    },
}
