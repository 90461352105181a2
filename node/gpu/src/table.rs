//! From key to slot: the open-addressing table of one hashed shard, touched by its worker only.
//!
//! Linear probing over a power of two of 8-byte entries, at most three quarters full. An entry holds the slot and the
//! lower half of the key's hash; the key itself stands in the slot, which a search looks at only where the halves are
//! equal.
//!
//! **Invariant P**: for an entry with home position h that lies at position p, no position from h to p (cyclically, p
//! excluded) is empty. A search may therefore stop at the first empty position, and it does stop, for a quarter of the
//! table is empty.
//!
//! Deletion shifts back instead of leaving a tombstone. The removed position is a hole; the entries after it are looked
//! at in order up to the first empty position. An entry at p with home h moves into the hole at o if and only if o lies
//! cyclically in [h, p): then and only then would the hole break P for it, and at o it keeps P, because what lies
//! between h and o is untouched and full. Its old place is the new hole. When an empty position is reached no entry's
//! way leads over the hole: an entry beyond that position with its home before it would have broken P already. So P
//! holds again and nothing remains of the removed entry: probe chains depend on what the table holds now, not on how
//! many deletions came before.
//!
//! Growth doubles the table and enters everything anew: amortised O(1) per insertion, bounded by the shard's actors
//! (C9). The home comes from the half of the hash that the entry holds, so neither growth nor deletion looks at keys.
#![allow(unsafe_code)]

use std::{io, ptr::NonNull, slice};

use crate::arena::Pieces;

/// The smallest table.
const ENTRIES_MIN: usize = 16;

#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    /// The lower half of the key's hash; its lower bits are the home.
    tag: u32,
    /// Slot + 1; 0 is empty.
    slot: u32,
}

const EMPTY: Entry = Entry { tag: 0, slot: 0 };

/// The table. Hashes are `mix64` of the key; their upper bits have chosen the shard.
#[derive(Debug)]
pub(crate) struct KeyTable {
    entries: NonNull<Entry>,
    capacity: usize,
    len: usize,
}

impl Default for KeyTable {
    fn default() -> Self {
        Self { entries: NonNull::dangling(), capacity: 0, len: 0 }
    }
}

impl KeyTable {
    #[inline]
    fn entries(&self) -> &[Entry] {
        // SAFETY: a piece of this many entries that belongs to this table; zeroes are empty entries. Dangling where
        // there are none.
        unsafe { slice::from_raw_parts(self.entries.as_ptr(), self.capacity) }
    }

    #[inline]
    fn entries_mut(&mut self) -> &mut [Entry] {
        // SAFETY: as above.
        unsafe { slice::from_raw_parts_mut(self.entries.as_ptr(), self.capacity) }
    }

    /// The slot of the key with this hash for which `is_it` says yes.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(hash, is_it).map(|at| self.entries()[at].slot - 1)
    }

    /// The slot of a key with this hash: nearly always that of the key in question.
    #[inline]
    pub(crate) fn hint(&self, hash: u64) -> Option<u32> {
        self.find(hash, |_| true)
    }

    #[inline]
    fn position(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let (entries, tag) = (self.entries(), hash as u32);
        let mask = entries.len().checked_sub(1)?;
        let mut at = tag as usize & mask;
        loop {
            let entry = entries[at & mask];
            if entry.slot == 0 {
                return None;
            }
            if entry.tag == tag && is_it(entry.slot - 1) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    /// Where a search for `hash` begins, to be prefetched.
    #[inline]
    pub(crate) fn home(&self, hash: u64) -> *const u8 {
        // A table of no entries dangles, and so does what is computed from it: it is only prefetched.
        let mask = self.capacity.saturating_sub(1);
        self.entries.as_ptr().wrapping_add(hash as u32 as usize & mask).cast_const().cast()
    }

    /// Enters a key that is not in the table.
    pub(crate) fn insert(&mut self, pieces: &mut Pieces, hash: u64, slot: u32) -> io::Result<()> {
        if (self.len + 1) * 4 > self.capacity * 3 {
            self.grow(pieces)?;
        }
        self.place(Entry { tag: hash as u32, slot: slot + 1 });
        self.len += 1;
        Ok(())
    }

    /// Takes the key with this hash out for whose slot `is_it` says yes, and returns the slot.
    pub(crate) fn remove(&mut self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut hole = self.position(hash, is_it)?;
        let entries = self.entries_mut();
        let mask = entries.len() - 1;
        let removed = entries[hole].slot - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let entry = entries[at];
            if entry.slot == 0 {
                break;
            }
            let home = entry.tag as usize & mask;
            // The hole lies in [home, at) iff the entry is at least as far from its home as from the hole.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                entries[hole] = entry;
                hole = at;
            }
        }
        entries[hole] = EMPTY;
        self.len -= 1;
        Some(removed)
    }

    /// Gives its memory back.
    pub(crate) fn dissolve(&mut self, pieces: &mut Pieces) {
        if self.capacity > 0 {
            pieces.give(self.entries.cast(), self.capacity * size_of::<Entry>());
        }
        *self = Self::default();
    }

    fn place(&mut self, entry: Entry) {
        let entries = self.entries_mut();
        let mask = entries.len() - 1;
        let mut at = entry.tag as usize & mask;
        while entries[at].slot != 0 {
            at = (at + 1) & mask;
        }
        entries[at] = entry;
    }

    fn grow(&mut self, pieces: &mut Pieces) -> io::Result<()> {
        let capacity = (self.capacity * 2).max(ENTRIES_MIN);
        let entries = pieces.take(capacity * size_of::<Entry>())?.cast();
        let mut old = std::mem::replace(self, Self { entries, capacity, len: self.len });
        for entry in old.entries().iter().filter(|entry| entry.slot != 0) {
            self.place(*entry);
        }
        old.dissolve(pieces);
        Ok(())
    }

    /// Whether invariant P holds everywhere.
    #[cfg(test)]
    fn is_sound(&self) -> bool {
        let entries = self.entries();
        let mask = entries.len().wrapping_sub(1);
        let full = entries.iter().enumerate().filter(|(_, entry)| entry.slot != 0);
        full.clone().count() == self.len
            && full.clone().all(|(at, entry)| {
                let home = entry.tag as usize & mask;
                (0..(at.wrapping_sub(home) & mask)).all(|step| entries[(home + step) & mask].slot != 0)
            })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Remove(u64),
        Find(u64),
    }

    /// Many keys share their home, and some all of the hash that the table keeps.
    fn hash(key: u64) -> u64 {
        match key % 4 {
            0 => 0x7E,
            1 => key << 7 | 0x7E,
            2 => key << 40 | 0x7D,
            _ => ringfleet_abi::hash::mix64(key),
        }
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let key = 0..48u64;
        let op = prop_oneof![
            3 => key.clone().prop_map(Op::Insert),
            2 => key.clone().prop_map(Op::Remove),
            1 => key.prop_map(Op::Find),
        ];
        prop::collection::vec(op, 0..400)
    }

    proptest! {
        #[test]
        fn the_table_is_a_map_and_its_chains_stay_sound(ops in ops()) {
            let mut pieces = Pieces::new();
            let mut table = KeyTable::default();
            // Slot n belongs to the key `keys[n]`, as the slots of a shard hold their keys.
            let mut keys: Vec<u64> = Vec::new();
            let mut model: HashMap<u64, u32> = HashMap::new();
            for op in ops {
                match op {
                    Op::Insert(key) if !model.contains_key(&key) => {
                        let slot = keys.len() as u32;
                        keys.push(key);
                        table.insert(&mut pieces, hash(key), slot).expect("memory");
                        model.insert(key, slot);
                    }
                    Op::Remove(key) => {
                        prop_assert_eq!(table.remove(hash(key), |slot| keys[slot as usize] == key), model.remove(&key));
                    }
                    Op::Insert(key) | Op::Find(key) => {
                        let found = table.find(hash(key), |slot| keys[slot as usize] == key);
                        prop_assert_eq!(found, model.get(&key).copied());
                    }
                }
                prop_assert!(table.is_sound());
                prop_assert_eq!(table.len, model.len());
            }
            for (key, slot) in model {
                prop_assert_eq!(table.find(hash(key), |slot| keys[slot as usize] == key), Some(slot));
            }
        }
    }

    #[test]
    fn endless_turnover_does_not_grow_the_table() {
        let mut pieces = Pieces::new();
        let mut table = KeyTable::default();
        let hash = ringfleet_abi::hash::mix64;
        for key in 0..100_000u64 {
            table.insert(&mut pieces, hash(key), key as u32).expect("memory");
            if key >= 10 {
                assert_eq!(table.remove(hash(key - 10), |slot| u64::from(slot) == key - 10), Some(key as u32 - 10));
            }
        }
        assert_eq!((table.len, table.capacity), (10, 16));
    }
}
