//! `trait Device` and the CPU device (C2, C3, C6, C7, C9).
//!
//! A device runs the actors of the shards assigned to it. The host side is one value that implements [`Device`]: it
//! pushes envelopes in, takes envelopes out, submits controls and polls status; nothing blocks and nothing hands out
//! state, so a kernel on the far side of a PCIe bus and a thread on the next core look the same.
//!
//! ```text
//!   push_ingress ──> ingress ring ──┐                        ┌──> egress ring ──> poll_egress
//!        (one per worker)           v                        │      (one per worker)
//!                              ┌────────── worker 0 ─────────┴┐
//!   submit ──> control ring ──>│ shards, actors, timers       │──> status ring ──> poll_status
//!                              │ spill per target ring        │──> counters page ──> counters
//!                              └──┬──────────────────────▲────┘
//!                       ring 0->1 v  ring 0->0, ...       │ ring 1->0
//!                              ┌────────── worker 1 ─────────┐
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`device`] | the trait: what every device keeps, whoever runs it |
//! | [`config`] | every bound of the CPU device, with its default |
//! | [`cpu`] | [`CpuDevice`]: a thread per worker; [`SteppedDevice`]: the same workers, driven by hand |
//! | [`cuda`] | GPUs: [`cuda::CudaDevice`] |
//! | `port` | the host's ends of all rings; routes ingress to workers |
//! | `worker` | the loop: controls, lease, spill, timers, a batch, publish |
//! | `outbound` | a ring to somewhere with its order-keeping spill |
//! | `sets`, `shard`, `table`, `arena` | where a message's actor lies |
//! | `timers` | the bounded wheel |
//! | `parker` | how an idle worker sleeps and no wake-up is lost |
//!
//! Deliberately absent: any wait without a bound, locks between workers, allocation per message, access to an actor's
//! state from outside its worker, and any knowledge of nodes, sessions or wires.

pub mod config;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod host_memory;
pub mod process;

mod arena;
mod counters;
mod memory;
mod outbound;
mod parker;
mod port;
mod sets;
mod shard;
mod table;
mod timers;
mod worker;

pub use config::{ConfigError, CpuDeviceConfig};
pub use cpu::{CpuDevice, StartError, SteppedDevice};
pub use device::{CodeChanges, Device, Full};
