//! Random numbers of a run: one seed, a stream of its own for every purpose, so that a change in one place (another fault, one
//! more message) does not reshuffle all others.

/// A stream of random numbers (SplitMix64).
#[derive(Debug, Clone)]
pub struct Rng(u64);

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Which ready task runs next.
    Schedule,
    /// What the network does to packets.
    Net,
    /// What disks do, and what a crash leaves of them.
    Disk,
    /// Which faults happen when.
    Faults,
    /// What clients do.
    Work,
    /// Clocks: offsets and rates.
    Clocks,
    /// The randomness that the code itself asks for.
    Inside,
    /// Keys and nonces of TLS.
    Keys,
}

impl Rng {
    /// The stream of this purpose.
    #[must_use]
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut rng = Self(seed ^ (purpose as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        rng.draw();
        rng
    }

    /// A stream that depends on this one's seed and a number.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.draw())
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 where the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// An index below `len`.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Whether something happens that does so `ppm` times in a million.
    pub fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(1_000_000) < u64::from(ppm)
    }

    /// One of them.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let take = |seed, purpose| {
            let mut rng = Rng::new(seed, purpose);
            [rng.draw(), rng.draw(), rng.below(10)]
        };
        assert_eq!(take(1, Purpose::Net), take(1, Purpose::Net));
        assert_ne!(take(1, Purpose::Net), take(1, Purpose::Disk));
        assert_ne!(take(1, Purpose::Net), take(2, Purpose::Net));
        let mut rng = Rng::new(3, Purpose::Work);
        assert!((0..1000).all(|_| rng.between(5, 7) >= 5 && rng.below(3) < 3));
        assert_eq!((0..1000).filter(|_| rng.chance(0)).count(), 0);
    }
}
