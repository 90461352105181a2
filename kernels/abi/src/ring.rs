//! The ring: a bounded queue of 64-byte slots between one producer and one consumer (C3, C9).
//!
//! ```text
//!   positions are u32 and wrap; slot = position & (slots - 1)
//!
//!        head (consumer's)            tail (producer's)      write (producer's, unpublished)
//!          |                            |                      |
//!   ...free|  published, not consumed   |  written, unpublished|free...
//! ```
//!
//! * The producer writes any number of slots and publishes them with **one** release store of `tail`.
//!   Pairs with the consumer's acquire load of `tail` in [`Consumer::poll`]; it publishes the slots below the new tail.
//! * The consumer reads any number of slots in place and returns them with one release store of `head`.
//!   Pairs with the producer's acquire load of `head` in [`Producer::free`]; it says that the reads of those slots are over,
//!   so the producer may overwrite them. Without it a slot could be overwritten while it is still being read.
//! * Credit: the producer keeps the last head it saw and looks again only when that credit is used up, so a full batch costs one
//!   cache miss on each side.
//!
//! Neither side ever waits: a full ring is `false`, an empty one is 0 (C9). `head` and `tail` lie on lines of their own, each
//! has a single writer.
//!
//! Each side checks the other: a position that goes back, or that passes the other one, stops the process. Slots beyond such a
//! position would be garbage or would overwrite messages that nobody has read.

use core::marker::PhantomData;

use super::sync::{AtomicU32, Cell, Ordering};
use crate::envelope::Envelope;
use crate::limits::{LINE_BYTES, RING_SLOTS_MAX};

/// A position word on a line of its own.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Position {
    pub(crate) word: AtomicU32,
}

/// The two position words of a ring.
#[derive(Debug, Default)]
#[repr(C)]
pub struct RingHeader {
    /// The end of what is published; written by the producer only.
    pub tail: Position,
    /// The end of what is consumed; written by the consumer only.
    pub head: Position,
}

const _: () = assert!(size_of::<RingHeader>() == 2 * LINE_BYTES);

impl RingHeader {
    /// The header of an empty ring whose positions start at `position` instead of 0.
    #[must_use]
    pub fn starting_at(position: u32) -> Self {
        Self { tail: Position { word: AtomicU32::new(position) }, head: Position { word: AtomicU32::new(position) } }
    }
}

/// One slot.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Slot(Cell<Envelope>);

// SAFETY: a slot is written only by the ring's one producer and read only by its one consumer; the protocol of the module
// documentation orders the two. Only `Producer` and `Consumer` reach the cell.
#[allow(unsafe_code)]
unsafe impl Sync for Slot {}

/// Memory that holds a ring: heap, a shared mapping, or pinned memory.
///
/// # Safety
/// Every call, on the handle and on every clone of it, must return the same header and slots, at addresses that stay valid and
/// unmoved until the last clone is dropped, wherever the handles themselves are moved to. Nothing but the one [`Producer`] and the
/// one [`Consumer`] touches them.
#[allow(unsafe_code)]
pub unsafe trait RingMemory: Clone {
    /// The position words.
    fn header(&self) -> &RingHeader;
    /// The slots.
    fn slots(&self) -> &[Slot];
}

/// Makes the two ends of the ring in `memory`, continuing at the positions that stand in it.
///
/// # Safety
/// No other live producer or consumer of the same memory may exist, in this process or another, and the end of an earlier one
/// happened before this call.
///
/// # Panics
/// If the number of slots is not a power of two of at most [`RING_SLOTS_MAX`].
#[allow(unsafe_code)]
pub unsafe fn split<M: RingMemory>(memory: M) -> (Producer<M>, Consumer<M>) {
    // SAFETY: handed on to our caller.
    unsafe { (Producer::attach(memory.clone()), Consumer::attach(memory)) }
}

fn mask_of(slots: &[Slot]) -> u32 {
    let count = slots.len();
    assert!(count.is_power_of_two() && count <= RING_SLOTS_MAX as usize, "C9: a ring of {count} slots");
    count as u32 - 1
}

/// The sending end. What is not published when it is dropped was never sent.
#[derive(Debug)]
pub struct Producer<M: RingMemory> {
    header: *const RingHeader,
    slots: *const Slot,
    mask: u32,
    /// Where the next slot is written.
    write: u32,
    /// The tail as published.
    published: u32,
    /// The head as last seen.
    head_seen: u32,
    _memory: M,
    _not_sync: PhantomData<*mut ()>,
}

// SAFETY: the pointers lead into memory that `_memory` keeps alive and that is shared by design.
#[allow(unsafe_code)]
unsafe impl<M: RingMemory + Send> Send for Producer<M> {}

#[allow(unsafe_code)]
impl<M: RingMemory> Producer<M> {
    /// The sending end of the ring in `memory`, for the side that does not hold the other end.
    ///
    /// # Safety
    /// No other live producer of the same memory may exist, in this process or another, and the end of an earlier one happened before
    /// this call.
    ///
    /// # Panics
    /// If the number of slots is not a power of two of at most [`RING_SLOTS_MAX`], or the positions are further apart than that number.
    pub unsafe fn attach(memory: M) -> Self {
        let (header, slots) = (memory.header(), memory.slots());
        let mask = mask_of(slots);
        let tail = header.tail.word.load(Ordering::Acquire);
        let head_seen = header.head.word.load(Ordering::Acquire);
        let used = tail.wrapping_sub(head_seen);
        assert!(used <= mask + 1, "C9: a ring's tail is {used} slots ahead of its head");
        let (header, slots): (*const RingHeader, *const Slot) = (header, slots.as_ptr());
        Self { header, slots, mask, write: tail, published: tail, head_seen, _memory: memory, _not_sync: PhantomData }
    }

    fn header(&self) -> &RingHeader {
        // SAFETY: `_memory` keeps the header alive and unmoved (RingMemory's contract).
        unsafe { &*self.header }
    }

    /// Slots of the ring.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.mask + 1
    }

    /// Slots that can be written now by what was last seen of the consumer.
    #[inline]
    #[must_use]
    pub fn credit(&self) -> u32 {
        self.capacity() - self.write.wrapping_sub(self.head_seen)
    }

    /// Looks at the consumer's head and returns the slots that can be written now.
    ///
    /// # Panics
    /// If the head has gone back or has passed the published tail: the other side is broken, and the credit that follows from
    /// such a head would overwrite slots that nobody has read.
    #[inline]
    pub fn free(&mut self) -> u32 {
        let used_before = self.write.wrapping_sub(self.head_seen);
        // Acquire: pairs with the release in `Consumer::release`; the consumer's reads of the returned slots are over.
        let head = self.header().head.word.load(Ordering::Acquire);
        let used = self.write.wrapping_sub(head);
        assert!(
            used <= used_before && used >= self.unpublished(),
            "C9: a ring's head {head} is not between {} and its tail {}",
            self.head_seen,
            self.published
        );
        self.head_seen = head;
        self.credit()
    }

    /// Writes one slot, unpublished; `false` if the ring is full.
    #[inline]
    #[must_use]
    pub fn push(&mut self, envelope: &Envelope) -> bool {
        if self.credit() == 0 && self.free() == 0 {
            return false;
        }
        // SAFETY: the index is masked; the slot is beyond the published tail and not before the consumer's head (credit > 0),
        // so the consumer does not read it until it is published.
        unsafe {
            let slot = &*self.slots.add((self.write & self.mask) as usize);
            write_slot(slot, envelope);
        }
        self.write = self.write.wrapping_add(1);
        true
    }

    /// The address of the slot that is `ahead` places after the next write, for a prefetch. Not to be read or written through.
    #[inline]
    #[must_use]
    pub fn slot_address(&self, ahead: u32) -> *const Envelope {
        // SAFETY: the index is masked, so the address lies within the slots.
        unsafe { self.slots.add((self.write.wrapping_add(ahead) & self.mask) as usize).cast() }
    }

    /// Slots written and not yet published.
    #[inline]
    #[must_use]
    pub fn unpublished(&self) -> u32 {
        self.write.wrapping_sub(self.published)
    }

    /// Publishes what was written; says whether there was anything.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.write == self.published {
            return false;
        }
        self.published = self.write;
        // Release: pairs with the acquire in `Consumer::poll`; publishes the slots below the new tail.
        self.header().tail.word.store(self.published, Ordering::Release);
        true
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct Consumer<M: RingMemory> {
    header: *const RingHeader,
    slots: *const Slot,
    mask: u32,
    head: u32,
    tail_seen: u32,
    _memory: M,
    _not_sync: PhantomData<*mut ()>,
}

// SAFETY: as for `Producer`.
#[allow(unsafe_code)]
unsafe impl<M: RingMemory + Send> Send for Consumer<M> {}

#[allow(unsafe_code)]
impl<M: RingMemory> Consumer<M> {
    /// The receiving end of the ring in `memory`, for the side that does not hold the other end.
    ///
    /// # Safety
    /// No other live consumer of the same memory may exist, in this process or another, and the end of an earlier one happened before
    /// this call.
    ///
    /// # Panics
    /// If the number of slots is not a power of two of at most [`RING_SLOTS_MAX`].
    pub unsafe fn attach(memory: M) -> Self {
        let (header, slots) = (memory.header(), memory.slots());
        let mask = mask_of(slots);
        let head = header.head.word.load(Ordering::Acquire);
        let (header, slots): (*const RingHeader, *const Slot) = (header, slots.as_ptr());
        Self { header, slots, mask, head, tail_seen: head, _memory: memory, _not_sync: PhantomData }
    }

    fn header(&self) -> &RingHeader {
        // SAFETY: as for `Producer::header`.
        unsafe { &*self.header }
    }

    /// Looks at the producer's tail and returns how many slots can be read.
    ///
    /// # Panics
    /// If the tail has gone back or is more than the ring's slots ahead of the head: the other side is broken, its slots cannot
    /// be trusted.
    #[inline]
    pub fn poll(&mut self) -> u32 {
        let ready_before = self.ready();
        // Acquire: pairs with the release in `Producer::publish`.
        self.tail_seen = self.header().tail.word.load(Ordering::Acquire);
        let ready = self.ready();
        assert!(
            ready >= ready_before && ready <= self.mask + 1,
            "C9: a ring's tail is {ready} slots ahead of its head, after {ready_before}"
        );
        ready
    }

    /// Slots that can be read by what was last seen of the producer.
    #[inline]
    #[must_use]
    pub fn ready(&self) -> u32 {
        self.tail_seen.wrapping_sub(self.head)
    }

    /// A copy of the slot `at` places after the head.
    ///
    /// # Panics
    /// If `at` is not below [`Consumer::ready`].
    #[inline]
    #[must_use]
    pub fn peek(&self, at: u32) -> Envelope {
        assert!(at < self.ready(), "C9: a read beyond the ring's tail");
        // SAFETY: masked index of a published slot that is not yet released: the producer does not write it.
        unsafe { read_slot(&*self.slots.add((self.head.wrapping_add(at) & self.mask) as usize)) }
    }

    /// The slot `at` places after the head, in place.
    ///
    /// # Panics
    /// If `at` is not below [`Consumer::ready`].
    #[inline]
    #[must_use]
    pub fn peek_ref(&self, at: u32) -> &Envelope {
        assert!(at < self.ready(), "C9: a read beyond the ring's tail");
        // SAFETY: as for `peek`; `release` takes `&mut self`, so the reference ends before the slot is given back.
        unsafe { (*self.slots.add((self.head.wrapping_add(at) & self.mask) as usize)).0.with(|envelope| &*envelope) }
    }

    /// Gives back the first `count` readable slots.
    ///
    /// # Panics
    /// If `count` is more than [`Consumer::ready`].
    #[inline]
    pub fn release(&mut self, count: u32) {
        assert!(count <= self.ready(), "C9: a release beyond the ring's tail");
        if count == 0 {
            return;
        }
        self.head = self.head.wrapping_add(count);
        // Release: pairs with the acquire in `Producer::free`; our reads of these slots are over.
        self.header().head.word.store(self.head, Ordering::Release);
    }

    /// Reads and gives back one slot.
    #[inline]
    pub fn pop(&mut self) -> Option<Envelope> {
        if self.ready() == 0 && self.poll() == 0 {
            return None;
        }
        let envelope = self.peek(0);
        self.release(1);
        Some(envelope)
    }
}

/// # Safety
/// The caller is the producer and the slot is unpublished.
#[allow(unsafe_code)]
#[inline]
unsafe fn write_slot(slot: &Slot, envelope: &Envelope) {
    // SAFETY: exclusive by the caller's promise.
    slot.0.with_mut(|place| unsafe { *place = *envelope });
}

/// # Safety
/// The caller is the consumer and the slot is published and not released.
#[allow(unsafe_code)]
#[inline]
unsafe fn read_slot(slot: &Slot) -> Envelope {
    // SAFETY: no writer by the caller's promise.
    slot.0.with(|envelope| unsafe { *envelope })
}
