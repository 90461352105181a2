//! The log on disk: one redb file per coordinator, every record sealed (C1).
//!
//! ```text
//!   <data_dir>/lock        held while the coordinator runs
//!   <data_dir>/owner       cluster, name, and the number in the group, drawn when the folder was made: lost data, lost number
//!   <data_dir>/raft.redb   tables: meta (vote, purge mark, snapshot), log (index -> record)
//! ```
//! A record is `version, digest, payload`: redb checks its pages only after a crash, the digest is checked at every
//! start. What is reported as done has been synced; after an error nothing more is written, and the coordinator stops.

mod backend;
mod file;
mod record;
mod writer;

pub use file::{Loaded, Owner, Store, StoreError, Write};
pub use record::{seal, unseal};
pub use writer::Writer;
