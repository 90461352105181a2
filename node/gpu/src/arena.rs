//! Memory of the actors of one set in one worker: blocks of slots, carved from regions that grow.
//!
//! ```text
//!   block:  | header x n (16 bytes each) | keep x n (32) | pad to 64 | state x n (stride) |
//! ```
//!
//! Headers and states lie apart on purpose: a state of 64 bytes then fills exactly one line of the cache, and four
//! headers share one, so that a message to an actor chosen at random costs about one miss to memory instead of two.
//!
//! Blocks are zeroed when they are handed out, and a zero header is a vacant slot. Memory goes back when the set leaves
//! the worker.
#![allow(unsafe_code)]

use std::{collections::BTreeMap, io, ptr, ptr::NonNull};

use ringfleet_abi::limits::{ENVELOPE_BYTES, STATE_ALIGN};
use ringfleet_abi::{ActorKey, Draws};

use crate::memory::Region;

/// About how large a block is: small enough that a shard with one actor is cheap.
const BLOCK_BYTES: usize = 16 << 10;
/// The first region of an arena, and the largest.
const REGION_BYTES_MIN: usize = 64 << 10;
const REGION_BYTES_MAX: usize = 64 << 20;

/// Set in [`Header::stamp`] once an actor has failed. Stamps reach this bit in the year 6429.
const FAILED: u64 = 1 << 63;

/// What a worker keeps of an actor beside its state.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Header {
    /// 0: the slot is vacant. Else the actor's HLC, and [`FAILED`].
    stamp: u64,
    /// The actor.
    pub(crate) key: ActorKey,
}

impl Header {
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.stamp != 0
    }

    #[inline]
    pub(crate) fn has_failed(&self) -> bool {
        self.stamp & FAILED != 0
    }

    /// The last stamp of the actor (C6).
    #[inline]
    pub(crate) fn hlc(&self) -> u64 {
        self.stamp & !FAILED
    }

    /// Sets the stamp of a live actor that has not failed.
    #[inline]
    pub(crate) fn set_hlc(&mut self, hlc: u64) {
        self.stamp = (hlc & !FAILED).max(1);
    }

    pub(crate) fn set_failed(&mut self) {
        self.stamp |= FAILED;
    }

    pub(crate) fn vacate(&mut self) {
        self.stamp = 0;
    }
}

/// What a worker seldom needs of an actor.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Keep {
    /// Which activation or restart this is: what its timers belong to.
    pub(crate) generation: u64,
    /// Its restarts, see [`ringfleet_abi::RestartBudget::take`].
    pub(crate) window: u64,
    /// Its random numbers.
    pub(crate) draws: Draws,
}

/// Where an actor lies. Valid as long as its shard is resident; only the shard's worker follows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotRef {
    pub(crate) header: NonNull<Header>,
    pub(crate) keep: NonNull<Keep>,
    pub(crate) state: NonNull<u8>,
}

/// How slots of one set lie in a block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotLayout {
    shift: u32,
    stride: usize,
    keeps_at: usize,
    states_at: usize,
    block_bytes: usize,
}

impl SlotLayout {
    /// The layout for states of this many bytes.
    pub(crate) fn new(state_bytes: usize) -> Self {
        let stride = state_bytes.next_multiple_of(STATE_ALIGN);
        let per_slot = stride + size_of::<Header>() + size_of::<Keep>();
        let shift = (BLOCK_BYTES / per_slot).max(1).ilog2();
        let slots = 1usize << shift;
        let keeps_at = slots * size_of::<Header>();
        let states_at = (keeps_at + slots * size_of::<Keep>()).next_multiple_of(ENVELOPE_BYTES);
        let block_bytes = (states_at + slots * stride).next_multiple_of(ENVELOPE_BYTES);
        Self { shift, stride, keeps_at, states_at, block_bytes }
    }

    /// Which block slot `index` lies in.
    #[inline]
    pub(crate) fn block_of(&self, index: u32) -> usize {
        (index >> self.shift) as usize
    }

    /// Slot `index` of a shard, in its block.
    #[inline]
    pub(crate) fn slot_in(&self, block: NonNull<u8>, index: u32) -> SlotRef {
        let at = index as usize & ((1 << self.shift) - 1);
        // SAFETY: `at` is below the slots of a block, so all three offsets lie within its `block_bytes`; the parts are
        // aligned because blocks are aligned to 64 and the offsets are multiples of 16, 8 and 16.
        unsafe {
            SlotRef {
                header: block.cast::<Header>().add(at),
                keep: block.add(self.keeps_at).cast::<Keep>().add(at),
                state: block.add(self.states_at + at * self.stride),
            }
        }
    }
}

/// The memory of one set in one worker: pieces of any size, carved from regions that grow. A piece that comes back is
/// used for the next of its size.
#[derive(Debug)]
pub(crate) struct Pieces {
    regions: Vec<Region>,
    /// The unused part of the last region.
    fresh: *mut u8,
    fresh_bytes: usize,
    region_bytes: usize,
    free: BTreeMap<usize, Vec<NonNull<u8>>>,
}

// SAFETY: the pointers lead into `regions`, which are owned here.
unsafe impl Send for Pieces {}

impl Pieces {
    pub(crate) fn new() -> Self {
        Self {
            regions: Vec::new(),
            fresh: ptr::null_mut(),
            fresh_bytes: 0,
            region_bytes: REGION_BYTES_MIN,
            free: BTreeMap::new(),
        }
    }

    /// A piece of zeroes, aligned to a line of the cache.
    pub(crate) fn take(&mut self, bytes: usize) -> io::Result<NonNull<u8>> {
        let bytes = bytes.next_multiple_of(ENVELOPE_BYTES);
        if let Some(piece) = self.free.get_mut(&bytes).and_then(Vec::pop) {
            // SAFETY: a piece of this size that nobody uses.
            unsafe { ptr::write_bytes(piece.as_ptr(), 0, bytes) };
            return Ok(piece);
        }
        if self.fresh_bytes < bytes {
            let region_bytes = self.region_bytes.max(bytes);
            let region = Region::zeroed(region_bytes)?;
            self.fresh = region.base().as_ptr();
            self.fresh_bytes = region_bytes;
            self.regions.push(region);
            self.region_bytes = (self.region_bytes * 4).min(REGION_BYTES_MAX);
        }
        let piece = NonNull::new(self.fresh).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: at least `bytes` are left of the region that `fresh` points into.
        self.fresh = unsafe { self.fresh.add(bytes) };
        self.fresh_bytes -= bytes;
        Ok(piece)
    }

    /// Takes a piece of this size back.
    pub(crate) fn give(&mut self, piece: NonNull<u8>, bytes: usize) {
        self.free.entry(bytes.next_multiple_of(ENVELOPE_BYTES)).or_default().push(piece);
    }
}

/// The blocks and tables of one set in one worker.
#[derive(Debug)]
pub(crate) struct SlotArena {
    layout: SlotLayout,
    pub(crate) pieces: Pieces,
}

impl SlotArena {
    pub(crate) fn new(layout: SlotLayout) -> Self {
        Self { layout, pieces: Pieces::new() }
    }

    #[inline]
    pub(crate) fn layout(&self) -> &SlotLayout {
        &self.layout
    }

    /// A block of zeroes.
    pub(crate) fn take(&mut self) -> io::Result<NonNull<u8>> {
        self.pieces.take(self.layout.block_bytes)
    }

    /// Takes a block back.
    pub(crate) fn give(&mut self, block: NonNull<u8>) {
        self.pieces.give(block, self.layout.block_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_every_state_size_are_aligned_and_do_not_overlap() {
        for state_bytes in [1, 16, 24, 64, 100, 1000, 4096] {
            let mut arena = SlotArena::new(SlotLayout::new(state_bytes));
            let layout = *arena.layout();
            let mut spans = Vec::new();
            for _ in 0..20 {
                let block = arena.take().expect("memory");
                for index in 0..1u32 << layout.shift {
                    let slot = layout.slot_in(block, index);
                    assert_eq!(slot.state.as_ptr().align_offset(STATE_ALIGN), 0);
                    spans.push((slot.header.as_ptr() as usize, size_of::<Header>()));
                    spans.push((slot.keep.as_ptr() as usize, size_of::<Keep>()));
                    spans.push((slot.state.as_ptr() as usize, state_bytes));
                }
            }
            spans.sort_unstable();
            assert!(spans.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "{state_bytes}");
        }
    }

    #[test]
    fn a_block_that_comes_back_is_zeroed_and_used_again() {
        let mut arena = SlotArena::new(SlotLayout::new(64));
        let layout = *arena.layout();
        let block = arena.take().expect("memory");
        let slot = layout.slot_in(block, 3);
        // SAFETY: the block is ours.
        unsafe { (*slot.header.as_ptr()).set_hlc(7) };
        arena.give(block);
        let again = arena.take().expect("memory");
        assert_eq!(again, block);
        // SAFETY: as above.
        assert!(unsafe { !(*layout.slot_in(again, 3).header.as_ptr()).is_live() });
    }

    #[test]
    fn a_state_of_64_bytes_lies_in_one_line() {
        let mut arena = SlotArena::new(SlotLayout::new(64));
        let layout = *arena.layout();
        for index in 0..64 {
            let block = arena.take().expect("memory");
            assert_eq!(layout.slot_in(block, index).state.as_ptr().align_offset(64), 0);
        }
    }
}
