//! Random numbers of actors: Philox 4x32-10, a function of a key and a counter, so that every device draws the same ones.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the known answers below are those of
//! Random123. Device twin: `kernels/device/ctx.cuh`.
//!
//! ```text
//!   key      tag of the set's name, 0
//!   counter  number of the draw (64 bits), key of the actor (64 bits)
//! ```
//!
//! The number of the draw belongs to the actor and outlives its restarts: what it draws after one does not repeat what it drew before.
//! Deliberately absent: secrecy. Who knows the name of a set and the key of an actor can compute what it draws.

use crate::ids::ActorKey;

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;

/// Philox 4x32-10.
#[must_use]
pub const fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    let mut round = 0;
    while round < ROUNDS {
        let a = MULTIPLIERS[0] as u64 * counter[0] as u64;
        let b = MULTIPLIERS[1] as u64 * counter[2] as u64;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(STEPS[0]), key[1].wrapping_add(STEPS[1])];
        round += 1;
    }
    counter
}

/// What an actor has drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draws {
    /// How often.
    pub drawn: u64,
    /// Tag of the set's name.
    pub tag: u32,
}

impl Draws {
    /// Those of an actor that has just been activated.
    #[must_use]
    pub const fn new(tag: u32) -> Self {
        Self { drawn: 0, tag }
    }

    /// The next 128 bits, lower half first.
    #[inline]
    const fn draw(&mut self, key: ActorKey) -> [u64; 2] {
        let number = self.drawn;
        self.drawn = number.wrapping_add(1);
        let counter = [number as u32, (number >> 32) as u32, key as u32, (key >> 32) as u32];
        let [a, b, c, d] = philox(counter, [self.tag, 0]);
        [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32]
    }

    /// A number, each of 2^64 equally likely.
    #[inline]
    pub const fn random(&mut self, key: ActorKey) -> u64 {
        self.draw(key)[0]
    }

    /// A number below `bound`; `None` if that is 0, which draws nothing. One number may be more likely than another by less than
    /// 2^-64 of its likelihood: 128 random bits are scaled down in one step, for trying again has no bound (C9).
    #[inline]
    pub const fn random_below(&mut self, key: ActorKey, bound: u64) -> Option<u64> {
        if bound == 0 {
            return None;
        }
        let [low, high] = self.draw(key);
        let carried = (low as u128 * bound as u128) >> 64;
        Some(((high as u128 * bound as u128 + carried) >> 64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers_of_random123() {
        let ones = u32::MAX;
        for (counter, key, answer) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([ones; 4], [ones; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox(counter, key), answer);
        }
    }

    #[test]
    fn the_first_draw_of_the_first_actor_of_no_set_is_a_known_answer() {
        let mut draws = Draws::default();
        assert_eq!(draws.random(0), 0xe169_c58d_6627_e8d5);
        assert_eq!(draws, Draws { drawn: 1, tag: 0 });
        // Key, tag and number of the draw each lead to another number.
        let first = [Draws::default().random(1), Draws::new(1).random(0), draws.random(0)];
        assert!(first.iter().all(|number| *number != 0xe169_c58d_6627_e8d5) && first[0] != first[1]);
    }

    #[test]
    fn a_number_below_a_bound_is_the_128_bits_scaled_down() {
        for bound in [1, 2, 10, 1 << 63, u64::MAX] {
            let mut draws = Draws::new(7);
            for _ in 0..1000 {
                let [low, high] = { draws }.draw(3);
                let got = draws.random_below(3, bound).expect("a bound");
                // (high * 2^64 + low) * bound / 2^128, in two halves.
                let (upper, lower) = (u128::from(high) * u128::from(bound), u128::from(low) * u128::from(bound));
                assert_eq!(u128::from(got), (upper + (lower >> 64)) >> 64);
                assert!(got < bound);
            }
        }
        let mut draws = Draws::new(7);
        assert_eq!((draws.random_below(3, 0), draws.drawn), (None, 0));
        let sixes = (0..6000).filter(|_| draws.random_below(3, 6) == Some(5)).count();
        assert!((900..1100).contains(&sixes), "{sixes} of 6000 throws");
    }
}
