//! What a handler has sent, until it succeeds.
//!
//! C3, C7, C9. A failed handling sends nothing, so sends wait here until the handler has returned. The buffer belongs to
//! a worker and is used again for every message: nothing is allocated, and its size bounds what one handling can send.

use ringfleet_abi::limits::MAX_SENDS_LIMIT;
use ringfleet_abi::{Envelope, SetId};

use bytemuck::Zeroable;

/// Where a send goes. The envelope holds the rest: the key, and the set unless it is only known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An actor of the set whose name has this tag (`fnv1a32`). The worker resolves it and fills in `to_set`.
    Tag(u32),
    /// An actor of this set, or a client; `to_set` is filled in.
    Set(SetId),
    /// The actor itself, after this many milliseconds; `to_set` is filled in.
    Timer {
        /// The delay.
        delay_ms: u32,
    },
}

/// The sends of one handling, in the order they were made.
#[derive(Clone, Debug)]
pub struct SendBuffer {
    len: usize,
    targets: [Target; MAX_SENDS_LIMIT],
    envelopes: [Envelope; MAX_SENDS_LIMIT],
}

impl Default for SendBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl SendBuffer {
    /// An empty buffer.
    #[must_use]
    pub fn new() -> Self {
        Self { len: 0, targets: [Target::Tag(0); MAX_SENDS_LIMIT], envelopes: [Envelope::zeroed(); MAX_SENDS_LIMIT] }
    }

    /// How many sends it holds.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all sends.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Targets and envelopes, in order and of equal length. The envelopes can be changed: a worker fills in `to_set` where
    /// the target is a [`Target::Tag`].
    #[inline]
    pub fn parts_mut(&mut self) -> (&[Target], &mut [Envelope]) {
        (&self.targets[..self.len], &mut self.envelopes[..self.len])
    }

    /// The sends, in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Target, &Envelope)> {
        self.targets[..self.len].iter().copied().zip(&self.envelopes[..self.len])
    }

    /// Appends a send; `false` if the buffer is full.
    #[inline]
    pub(crate) fn push(&mut self, target: Target, envelope: Envelope) -> bool {
        let at = self.len;
        if at >= MAX_SENDS_LIMIT {
            return false;
        }
        self.targets[at] = target;
        self.envelopes[at] = envelope;
        self.len = at + 1;
        true
    }
}
