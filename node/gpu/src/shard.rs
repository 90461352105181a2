//! One resident shard: which actors it holds and where they lie (C2, C6).
//!
//! Dense sets index their slots by key; hashed sets find them through a [`KeyTable`]. Slots are taken block by block
//! from the arena of the set, when the first actor needs one, and stay where they are.
//!
//! C6. `floor` is at least the last stamp of every actor that has left the shard. An actor that is activated starts
//! there, so an actor that comes back never sees its clock go back.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use ringfleet_abi::hash::mix64;
use ringfleet_abi::{ActorKey, Epoch};

use crate::arena::{Keep, SlotArena, SlotLayout, SlotRef};
use crate::table::KeyTable;

/// The shard holds as many actors as it may, or memory has run out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ShardFull;

/// A resident shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) epoch: Epoch,
    /// Refuse the messages of clients until a gate marker comes (C3).
    pub(crate) gate_closed: bool,
    /// Actors it holds.
    pub(crate) live: u32,
    actors_max: u32,
    places: Places,
    blocks: Vec<Option<NonNull<u8>>>,
    floor: u64,
    /// Generation of the last activation: no two activations in one worker share one, whatever residence they belong to.
    generation: u64,
}

// SAFETY: the blocks belong to the arena of the same worker, which moves together with the shard.
unsafe impl Send for Shard {}

#[derive(Debug)]
enum Places {
    Dense { first_key: ActorKey },
    Hashed { table: KeyTable, free: Vec<u32>, fresh: u32 },
}

impl Shard {
    /// A dense shard of `keys` keys from `first_key`.
    pub(crate) fn dense(epoch: Epoch, first_key: ActorKey, keys: u64, actors_max: u32, layout: &SlotLayout) -> Self {
        // Keys beyond 2^32 of one shard are never activated: `actors_max` is smaller, and `index_of` refuses them.
        let indices = keys.min(u64::from(u32::MAX));
        let blocks = if indices == 0 { 0 } else { layout.block_of((indices - 1) as u32) + 1 };
        Self::new(epoch, actors_max, Places::Dense { first_key }, vec![None; blocks])
    }

    /// A hashed shard.
    pub(crate) fn hashed(epoch: Epoch, actors_max: u32) -> Self {
        let places = Places::Hashed { table: KeyTable::default(), free: Vec::new(), fresh: 0 };
        Self::new(epoch, actors_max, places, Vec::new())
    }

    fn new(epoch: Epoch, actors_max: u32, places: Places, blocks: Vec<Option<NonNull<u8>>>) -> Self {
        Self { epoch, gate_closed: false, live: 0, actors_max, places, blocks, floor: 0, generation: 0 }
    }

    /// The slot of `key`, if it may have one. A dense one may be vacant: look at its header.
    #[inline]
    pub(crate) fn locate(&self, layout: &SlotLayout, key: ActorKey) -> Option<SlotRef> {
        let index = match &self.places {
            Places::Dense { first_key } => u32::try_from(key - first_key).ok()?,
            Places::Hashed { table, .. } => table.find(mix64(key), |index| self.has_key(layout, index, key))?,
        };
        self.slot(layout, index)
    }

    /// Where `key` most probably lies, found without looking at any actor. It may be vacant or another's: look at its
    /// header.
    #[inline]
    pub(crate) fn hint(&self, layout: &SlotLayout, key: ActorKey) -> Option<SlotRef> {
        let index = match &self.places {
            Places::Dense { first_key } => u32::try_from(key - first_key).ok()?,
            Places::Hashed { table, .. } => table.hint(mix64(key))?,
        };
        self.slot(layout, index)
    }

    #[inline]
    fn slot(&self, layout: &SlotLayout, index: u32) -> Option<SlotRef> {
        let block = (*self.blocks.get(layout.block_of(index))?)?;
        Some(layout.slot_in(block, index))
    }

    fn has_key(&self, layout: &SlotLayout, index: u32, key: ActorKey) -> bool {
        // SAFETY: slots of this shard's blocks, which only this worker follows.
        self.slot(layout, index).is_some_and(|slot| unsafe { slot.header.as_ref() }.key == key)
    }

    /// The first line of memory that [`Shard::locate`] will read for this key, null if none is worth fetching.
    #[inline]
    pub(crate) fn table_line(&self, key: ActorKey) -> *const u8 {
        match &self.places {
            Places::Dense { .. } => std::ptr::null(),
            Places::Hashed { table, .. } => table.home(mix64(key)),
        }
    }

    /// Makes a slot for `key`, which the shard does not hold. The caller writes the state.
    pub(crate) fn activate(&mut self, arena: &mut SlotArena, key: ActorKey) -> Result<SlotRef, ShardFull> {
        if self.live >= self.actors_max {
            return Err(ShardFull);
        }
        let layout = *arena.layout();
        let index = match &mut self.places {
            Places::Dense { first_key } => u32::try_from(key - *first_key).map_err(|_| ShardFull)?,
            Places::Hashed { free, fresh, .. } => match free.pop() {
                Some(index) => index,
                None => {
                    let index = *fresh;
                    if layout.block_of(index) >= self.blocks.len() {
                        self.blocks.push(Some(arena.take().map_err(|_| ShardFull)?));
                    }
                    *fresh += 1;
                    index
                }
            },
        };
        let entry = self.blocks.get_mut(layout.block_of(index)).ok_or(ShardFull)?;
        let block = match entry {
            Some(block) => *block,
            None => *entry.insert(arena.take().map_err(|_| ShardFull)?),
        };
        let slot = layout.slot_in(block, index);
        if let Places::Hashed { table, free, .. } = &mut self.places
            && table.insert(&mut arena.pieces, mix64(key), index).is_err()
        {
            free.push(index);
            return Err(ShardFull);
        }
        self.live += 1;
        self.generation += 1;
        // SAFETY: the slot lies in a block of this shard, and only this worker follows it.
        unsafe {
            let header = &mut *slot.header.as_ptr();
            assert!(!header.is_live(), "C2: a slot is given to one actor");
            header.key = key;
            header.set_hlc(self.floor);
            *slot.keep.as_ptr() = Keep { generation: self.generation, ..Keep::default() };
        }
        Ok(slot)
    }

    /// Numbers the generations of this residence apart from those of all others of its worker.
    pub(crate) fn residence(mut self, number: u64) -> Self {
        // A million million activations of one residence, sixteen million residences.
        self.generation = number << 40;
        self
    }

    /// Gives a live actor a new generation, so that timers of the old one find it gone.
    pub(crate) fn renew(&mut self, slot: SlotRef) {
        self.generation += 1;
        // SAFETY: as in `activate`.
        unsafe { (*slot.keep.as_ptr()).generation = self.generation };
    }

    /// Removes a live actor.
    pub(crate) fn deactivate(&mut self, layout: &SlotLayout, slot: SlotRef) {
        // SAFETY: as in `activate`.
        let header = unsafe { &mut *slot.header.as_ptr() };
        assert!(header.is_live(), "C2: an actor leaves once");
        self.floor = self.floor.max(header.hlc());
        let key = header.key;
        header.vacate();
        self.live -= 1;
        if let Places::Hashed { table, free, .. } = &mut self.places {
            let blocks = &self.blocks;
            let is_it = |index| {
                let block = blocks.get(layout.block_of(index)).copied().flatten();
                block.is_some_and(|block| layout.slot_in(block, index).header == slot.header)
            };
            let index = table.remove(mix64(key), is_it);
            free.push(index.expect("an actor of a hashed shard was entered in its table by `activate`"));
        }
    }

    /// Gives all memory back to the arena.
    pub(crate) fn dissolve(self, arena: &mut SlotArena) {
        if let Places::Hashed { mut table, .. } = self.places {
            table.dissolve(&mut arena.pieces);
        }
        for block in self.blocks.into_iter().flatten() {
            arena.give(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    fn header(slot: SlotRef) -> &'static mut crate::arena::Header {
        // SAFETY: slots of this test's arena, used by one thread.
        unsafe { &mut *slot.header.as_ptr() }
    }

    /// Whether to leave, and who.
    fn ops() -> impl Strategy<Value = Vec<(bool, u64)>> {
        prop::collection::vec((prop::bool::weighted(0.4), 100..164u64), 0..300)
    }

    fn check(dense: bool, ops: Vec<(bool, u64)>) -> Result<(), TestCaseError> {
        let mut arena = SlotArena::new(SlotLayout::new(4096));
        let layout = *arena.layout();
        let mut shard = match dense {
            true => Shard::dense(Epoch(1), 100, 64, 40, &layout),
            false => Shard::hashed(Epoch(1), 40),
        };
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut floor = 0;
        for (at, (leave, key)) in ops.into_iter().enumerate() {
            let stamp = at as u64 + 10;
            let found = shard.locate(&layout, key).filter(|slot| header(*slot).is_live() && header(*slot).key == key);
            prop_assert_eq!(found.is_some(), model.contains_key(&key));
            match found {
                Some(slot) if leave => {
                    floor = floor.max(header(slot).hlc());
                    shard.deactivate(&layout, slot);
                    model.remove(&key);
                }
                Some(slot) => {
                    prop_assert_eq!(header(slot).hlc(), model[&key]);
                    header(slot).set_hlc(stamp);
                    model.insert(key, stamp);
                }
                None => match shard.activate(&mut arena, key) {
                    Ok(slot) => {
                        prop_assert!(header(slot).hlc() >= floor, "C6: an actor comes back before it left");
                        header(slot).set_hlc(stamp);
                        model.insert(key, stamp);
                    }
                    Err(ShardFull) => prop_assert_eq!(model.len(), 40),
                },
            }
            prop_assert_eq!(shard.live as usize, model.len());
        }
        shard.dissolve(&mut arena);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_hashed_shard_holds_what_was_activated_and_not_stopped(ops in ops()) {
            check(false, ops)?;
        }

        #[test]
        fn a_dense_shard_holds_what_was_activated_and_not_stopped(ops in ops()) {
            check(true, ops)?;
        }
    }
}
