//! The log as openraft wants it: all in memory, and on disk before it counts.
//!
//! The log is bounded by snapshots (`Group` purges what a snapshot covers), so it is kept in memory as a whole; the disk
//! is read once, at the start. Order: every change goes through the one [`Writer`], so a vote, an append and a truncation
//! reach the disk in the order in which openraft asked for them.

use super::types::{Entry, LogId, Types, Vote};
use crate::store::{Loaded, Write, Writer, seal};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use ringfleet_abi::mutants::{Mutant, is_on};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of records that travel in one message, so that it fits a frame. One record is always sent, and is smaller
/// (`Group::propose`).
pub const BATCH_BYTES_MAX: usize = 512 << 10;

struct Stored {
    entry: Entry,
    bytes: usize,
}

#[derive(Default)]
struct Memory {
    vote: Option<Vote>,
    purged: Option<LogId>,
    log: BTreeMap<u64, Stored>,
}

/// The log of one coordinator.
#[derive(Clone)]
pub struct LogStore {
    memory: Arc<Mutex<Memory>>,
    writer: Writer,
}

/// What postcard makes of it, sealed.
pub fn pack<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map(|payload| seal(&payload)).map_err(io::Error::other)
}

/// The value in an unsealed payload; the error is to follow the name of what it was.
pub fn unpack<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    postcard::from_bytes(payload).map_err(|e| format!("cannot be read: {e}"))
}

impl LogStore {
    /// The log that was found on disk.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(loaded: &Loaded, writer: Writer) -> Result<Self, String> {
        let mut memory = Memory::default();
        if let Some(vote) = &loaded.vote {
            memory.vote = Some(unpack(vote).map_err(|e| format!("the vote {e}"))?);
        }
        if let Some(purged) = &loaded.purged {
            memory.purged = Some(unpack(purged).map_err(|e| format!("the purge mark {e}"))?);
        }
        for (index, payload) in &loaded.log {
            let entry: Entry = unpack(payload).map_err(|e| format!("record {index} {e}"))?;
            if entry.log_id.index != *index {
                return Err(format!("record {index} says that it is record {}", entry.log_id.index));
            }
            memory.log.insert(*index, Stored { entry, bytes: payload.len() });
        }
        Ok(Self { memory: Arc::new(Mutex::new(memory)), writer })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nothing panics while it is held; were it so, the group stops anyway.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.memory().log.range(range).map(|(_, stored)| stored.entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let memory = self.memory();
        let mut bytes = 0;
        let fits = |stored: &&Stored| {
            let first = bytes == 0;
            bytes += stored.bytes;
            first || bytes <= BATCH_BYTES_MAX
        };
        Ok(memory.log.range(start..end).map(|(_, stored)| stored).take_while(fits).map(|s| s.entry.clone()).collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let memory = self.memory();
        let last = memory.log.last_key_value().map(|(_, stored)| stored.entry.log_id());
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: last.or(memory.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if !is_on(Mutant::VoteInMemory) {
            self.writer.write(Write::Vote(pack(vote)?)).await?;
        }
        self.memory().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut memory = self.memory();
            for entry in entries {
                let record = pack(&entry)?;
                let index = entry.index();
                memory.log.insert(index, Stored { entry, bytes: record.len() });
                records.push((index, record));
            }
        }
        if is_on(Mutant::AppendEarly) {
            callback.io_completed(Ok(()));
            return self.writer.submit(Write::Append(records), Box::new(drop)).await;
        }
        self.writer.submit(Write::Append(records), Box::new(|result| callback.io_completed(result))).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let first = last.map_or(0, |id| id.index + 1);
        drop(self.memory().log.split_off(&first));
        self.writer.write(Write::TruncateFrom(first)).await
    }

    async fn purge(&mut self, through: LogId) -> Result<(), io::Error> {
        {
            let mut memory = self.memory();
            memory.log = memory.log.split_off(&(through.index + 1));
            memory.purged = Some(through);
        }
        self.writer.write(Write::Purge { through: through.index, mark: pack(&through)? }).await
    }
}
