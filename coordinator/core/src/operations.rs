//! Outcomes by operation id: a retry of a command takes no effect and gets the first outcome (C4).

use crate::command::{CommandBody, Outcome};
use crate::limits::OPERATIONS_KEPT;
use ringfleet_abi::hash::fnv1a64;
use ringfleet_proto::control::RefusalCode;
use std::collections::BTreeMap;

record! {
    /// The outcomes that are still remembered.
    #[derive(Default)]
    pub struct Operations {
        by_id: BTreeMap<u128, Remembered>,
        /// Ids by the log index that decided them; the first is forgotten first.
        by_index: BTreeMap<u64, u128>,
    }
}

record! {
    struct Remembered {
        /// Of the command, so that an id used for something else is noticed.
        fingerprint: u64,
        outcome: Outcome,
    }
}

impl Operations {
    /// What came of this operation before, if it is remembered. Another command under the same id is refused.
    #[must_use]
    pub fn recall(&self, operation: u128, body: &CommandBody) -> Option<Outcome> {
        let remembered = self.by_id.get(&operation)?;
        if remembered.fingerprint == fingerprint(body) {
            return Some(remembered.outcome.clone());
        }
        let message = format!("operation id {operation:032x} was used for another request; choose a new one");
        Some(Outcome::refused(RefusalCode::OperationReused, message))
    }

    /// Remembers an outcome, forgetting the oldest beyond [`OPERATIONS_KEPT`].
    pub fn remember(&mut self, index: u64, operation: u128, body: &CommandBody, outcome: Outcome) {
        let fresh = self.by_id.insert(operation, Remembered { fingerprint: fingerprint(body), outcome });
        assert!(fresh.is_none(), "C4: an operation is decided once");
        self.by_index.insert(index, operation);
        while self.by_index.len() > OPERATIONS_KEPT {
            if let Some((_, oldest)) = self.by_index.pop_first() {
                self.by_id.remove(&oldest);
            }
        }
    }

    /// The youngest of them.
    pub(crate) fn recent(&self, kept: usize) -> Self {
        let by_index: BTreeMap<u64, u128> = self.by_index.iter().rev().take(kept).map(|(at, id)| (*at, *id)).collect();
        let remembered = |id: &u128| Some((*id, self.by_id.get(id)?.clone()));
        Self { by_id: by_index.values().filter_map(remembered).collect(), by_index }
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// Of the archived form, which is the same on every replica.
fn fingerprint(body: &CommandBody) -> u64 {
    // Archiving plain data into memory has no way to fail; were there one, all replicas would share it.
    rkyv::to_bytes::<rkyv::rancor::Error>(body).map_or(0, |bytes| fnv1a64(&bytes))
}
