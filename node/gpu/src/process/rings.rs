//! The rings of controls and statuses between an agent and a device process: one sender, one receiver, slots of eight words.
//!
//! The other side is another process, so nothing it writes is trusted (C9): a position that cannot be is [`Broken`], slots are read word
//! by word, and what they say is decoded with a check. (The rings of abi stop the process at such a position; here only the device is
//! given up.)
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::host_memory::HostPart;

/// Words of a slot.
const WORDS: usize = 8;
/// The words before the slots: two lines.
const SLOTS_AT: usize = 256 / 8;

/// The other side has written a position that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a position in shared memory that cannot be")]
pub(crate) struct Broken;

/// A slot.
pub(crate) type Word = [u64; WORDS];

/// Where a ring lies. Valid as long as the memory it was taken from, which its user keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ring {
    part: HostPart,
    slots: u32,
}

impl Ring {
    pub(crate) fn new(part: HostPart, slots: u32) -> Self {
        assert!(slots.is_power_of_two(), "C9: a ring of {slots} slots");
        Self { part, slots }
    }

    fn tail(&self) -> &AtomicU32 {
        // SAFETY: within the part and aligned; both sides only use atomic accesses of this size. The user of the ring keeps its memory.
        unsafe { AtomicU32::from_ptr(self.part.at::<u32>(0)) }
    }

    fn head(&self) -> &AtomicU32 {
        // SAFETY: as above; the second line.
        unsafe { AtomicU32::from_ptr(self.part.at::<u32>(32)) }
    }

    fn slot(&self, position: u32, word: usize) -> &AtomicU64 {
        let at = (position & (self.slots - 1)) as usize;
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.part.at::<u64>(SLOTS_AT + at * WORDS + word)) }
    }
}

/// The sending end.
#[derive(Debug)]
pub(crate) struct Sender {
    ring: Ring,
    tail: u32,
    head_seen: u32,
}

impl Sender {
    /// The end of an empty ring.
    pub(crate) fn new(ring: Ring) -> Self {
        Self { ring, tail: 0, head_seen: 0 }
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&mut self) -> Result<bool, Broken> {
        if self.tail.wrapping_sub(self.head_seen) < self.ring.slots {
            return Ok(true);
        }
        // Acquire: pairs with the release in `pop`; the receiver's reads of the slots that it returned are over.
        let head = self.ring.head().load(Ordering::Acquire);
        if head.wrapping_sub(self.head_seen) > self.tail.wrapping_sub(self.head_seen) {
            return Err(Broken);
        }
        self.head_seen = head;
        Ok(self.tail.wrapping_sub(head) < self.ring.slots)
    }

    /// Sends one; `false` if the ring is full.
    pub(crate) fn push(&mut self, word: &Word) -> Result<bool, Broken> {
        if !self.has_room()? {
            return Ok(false);
        }
        for (at, value) in word.iter().enumerate() {
            self.ring.slot(self.tail, at).store(*value, Ordering::Relaxed);
        }
        self.tail = self.tail.wrapping_add(1);
        // Release: pairs with the acquire in `pop`; publishes the slot.
        self.ring.tail().store(self.tail, Ordering::Release);
        Ok(true)
    }
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Receiver {
    ring: Ring,
    head: u32,
}

impl Receiver {
    /// The end of an empty ring.
    pub(crate) fn new(ring: Ring) -> Self {
        Self { ring, head: 0 }
    }

    /// Takes one, if there is one.
    pub(crate) fn pop(&mut self) -> Result<Option<Word>, Broken> {
        // Acquire: pairs with the release in `push`.
        let ready = self.ring.tail().load(Ordering::Acquire).wrapping_sub(self.head);
        if ready > self.ring.slots {
            return Err(Broken);
        }
        if ready == 0 {
            return Ok(None);
        }
        let mut word = [0; WORDS];
        for (at, value) in word.iter_mut().enumerate() {
            *value = self.ring.slot(self.head, at).load(Ordering::Relaxed);
        }
        self.head = self.head.wrapping_add(1);
        // Release: pairs with the acquire in `has_room`; our reads of the slot are over.
        self.ring.head().store(self.head, Ordering::Release);
        Ok(Some(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::shared::SharedMap;
    use crate::process::shared::tests::SMALL;

    #[test]
    fn words_come_in_order_and_a_full_ring_says_so() {
        let map = SharedMap::create(SMALL).expect("memory");
        let (mut sender, mut receiver) = (Sender::new(map.control()), Receiver::new(map.control()));
        for round in 0..5_u64 {
            for n in 0..16 {
                assert_eq!(sender.push(&[round * 16 + n; 8]), Ok(true));
            }
            assert_eq!(sender.push(&[0; 8]), Ok(false), "a 17th does not fit");
            for n in 0..16 {
                assert_eq!(receiver.pop(), Ok(Some([round * 16 + n; 8])));
            }
            assert_eq!(receiver.pop(), Ok(None));
        }
    }

    #[test]
    fn positions_that_cannot_be_are_refused() {
        let map = SharedMap::create(SMALL).expect("memory");
        let (mut sender, mut receiver) = (Sender::new(map.status()), Receiver::new(map.status()));
        map.status().tail().store(17, Ordering::Relaxed);
        assert_eq!(receiver.pop(), Err(Broken), "17 of 16 slots");
        for _ in 0..16 {
            assert_eq!(sender.push(&[1; 8]), Ok(true));
        }
        map.status().head().store(17, Ordering::Relaxed);
        assert_eq!(sender.push(&[1; 8]), Err(Broken), "more consumed than sent");
    }
}
