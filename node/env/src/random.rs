//! Randomness: from the operating system, or from a seed.

use std::{
    fmt::Debug,
    sync::{Mutex, PoisonError},
};

use rand::{RngCore, SeedableRng, rngs::StdRng};

/// A source of random bytes.
pub trait Random: Send + Sync + Debug {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// A cryptographic generator (ChaCha12) started from a seed.
#[derive(Debug)]
pub struct SeededRandom(Mutex<StdRng>);

impl SeededRandom {
    /// The same seed gives the same bytes, for simulation and tests.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// Seeded by the operating system, for real processes.
    pub fn from_os() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // A generator is usable in whatever state a panicking thread left it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sixteen(random: &dyn Random) -> [u8; 16] {
        let mut bytes = [0; 16];
        random.fill(&mut bytes);
        bytes
    }

    #[test]
    fn equal_seeds_give_equal_bytes_and_others_do_not() {
        let (a, b, c) = (SeededRandom::new(7), SeededRandom::new(7), SeededRandom::new(8));
        assert_eq!(sixteen(&a), sixteen(&b));
        assert_ne!(sixteen(&a), sixteen(&c));
        assert_ne!(sixteen(&SeededRandom::from_os()), sixteen(&SeededRandom::from_os()));
    }
}
