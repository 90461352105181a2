//! The counters page of a worker: written by the worker alone, read by anyone (C7).

use std::sync::atomic::{AtomicU64, Ordering};

use ringfleet_abi::WorkerCounters;

const WORDS: usize = size_of::<WorkerCounters>() / size_of::<u64>();
/// `ingress_done` is the first word.
const _: () = assert!(std::mem::offset_of!(WorkerCounters, ingress_done) == 0);

/// Counters on lines of their own.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct CountersPage {
    words: [AtomicU64; WORDS],
}

impl Default for CountersPage {
    fn default() -> Self {
        Self { words: [const { AtomicU64::new(0) }; WORDS] }
    }
}

impl CountersPage {
    /// Copies the worker's counters out.
    pub(crate) fn publish(&self, counters: &WorkerCounters) {
        let words: &[u64; WORDS] = bytemuck::cast_ref(counters);
        for (shared, word) in self.words.iter().zip(words).skip(1) {
            shared.store(*word, Ordering::Relaxed);
        }
        // Release: pairs with the acquire in `read`. The egress tails were published before, so a reader who has seen
        // this count finds every verdict and reply that belongs to it in the egress rings (C3, C4).
        self.words[0].store(words[0], Ordering::Release);
    }

    /// The one number that acknowledges.
    pub(crate) fn ingress_done(&self) -> u64 {
        // Acquire: pairs with the release in `publish`.
        self.words[0].load(Ordering::Acquire)
    }

    /// A copy. Every word is as new as `ingress_done` or newer.
    pub(crate) fn read(&self) -> WorkerCounters {
        let mut words = [0; WORDS];
        // Acquire: pairs with the release in `publish`. First, so that what follows is not older.
        words[0] = self.words[0].load(Ordering::Acquire);
        for (word, shared) in words.iter_mut().zip(&self.words).skip(1) {
            *word = shared.load(Ordering::Relaxed);
        }
        bytemuck::cast(words)
    }
}
