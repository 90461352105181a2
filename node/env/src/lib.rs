//! Time, randomness, tasks, sockets and disk: the one door to everything impure.
//!
//! Code below this crate decides; it never asks the machine for a clock, a random number, a
//! task, a socket or a file by itself (clippy's `disallowed-methods` refuses it). It is handed an
//! [`Env`], or only the part of one that it needs: a device thread gets an `Arc<dyn Clock>`, a log
//! store an `Arc<dyn Disk>`. That is what lets the same code run in real processes
//! ([`Env::tokio`]) and, under another set of parts given to [`Env::new`], in virtual time.
//!
//! ```text
//!            Env (cheap handle)
//!   ┌──────────┬─────┴────┬──────────┬────────┐
//! Clock     Random    Executor      Net      Disk        traits, no tokio type in any signature
//!   │          │          │          │        │
//! SystemClock Seeded..  tokio tasks  OS     OsDisk       what `Env::tokio` is made of
//! ManualClock  (seed)   (simulated: supplied by the simulator)
//! ```
//!
//! Rules for users of this crate:
//! - Hot paths are passed `now` once per batch; they never read the clock per message.
//! - [`Clock::monotonic_ns`] is the time of leases (C2): it goes on while the machine is suspended
//!   and is the same in all processes of one host, so a deadline may be handed to another process.
//! - [`Clock::wall_ms`] feeds the HLC (C6) and nothing else that decides: it may jump.
//! - [`Disk`] methods block. Async code calls them through [`Env::run_blocking`] or from a thread
//!   of its own.
//!
//! Deliberately absent: a global instance, thread-local time, channels (those of `tokio::sync`
//! work under every executor), process handling, and environment variables.

#[cfg(feature = "tokio")]
mod bounded;
mod clock;
mod disk;
mod env;
mod executor;
mod instant;
mod lanes;
mod net;
mod os_disk;
mod random;
#[cfg(feature = "tokio")]
mod tokio_env;

#[cfg(feature = "tokio")]
pub use bounded::{BoundedStream, BoundedTcp, HTTP_CONNECTIONS_MAX, HTTP_REQUEST_BYTES_MAX, HTTP_REQUEST_LIMIT};
pub use clock::{Clock, ManualClock, SystemClock};
pub use disk::{Disk, DiskFile, DiskLock};
pub use env::{Elapsed, Env, EnvParts, Interval};
pub use executor::{BoxFuture, Executor, Task, TaskEnd, TaskHandle, ThreadHandle, Timer, thread_waker};
pub use instant::{Instant, std_epoch};
pub use lanes::{Lane, LaneConnection, LaneEnd, LaneError, LaneHello, LaneLimits, LaneReader, LaneSocket, LaneWriter};
pub use net::{Datagram, DatagramMeta, DatagramSocket, Net, UdpBinding};
pub use os_disk::OsDisk;
pub use random::{Random, SeededRandom};
