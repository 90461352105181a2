//! `hop`: the benchmark actor. 64 bytes of state, all of them written by every message, and one tell to an actor that looks
//! random, as long as the message lives.

use ringfleet_actor::prelude::*;

/// Goes from actor to actor.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Chooses the way, together with `ttl`.
    pub seed: u64,
    /// The keys are `0..actors`.
    pub actors: u32,
    /// How many more steps to make.
    pub ttl: u32,
}

/// Asks for [`Hops`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct HopsAsked {}

/// What has passed through an actor.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Hops {
    /// Messages.
    pub hops: u64,
    /// The sum of their seeds, modulo 2^64.
    pub seeds: u64,
}

/// Counts what passes.
#[actor(name = "hop", width = lane, max_sends = 1)]
#[derive(Debug, Default)]
pub struct Hop {
    hops: u64,
    seeds: u64,
    /// Sums that make the state 64 bytes long.
    lanes: [u64; 6],
}

#[handlers]
impl Hop {
    fn on_step(&mut self, m: &Step, ctx: &mut Ctx) {
        self.hops += 1;
        self.seeds = self.seeds.wrapping_add(m.seed);
        self.lanes[0] = self.lanes[0].wrapping_add(m.seed);
        self.lanes[1] ^= m.seed;
        self.lanes[2] = self.lanes[2].wrapping_add(m.ttl as u64);
        self.lanes[3] ^= m.ttl as u64;
        self.lanes[4] = self.lanes[4].max(m.seed);
        self.lanes[5] = m.seed;
        if m.ttl > 0 {
            let next = Self::next(m.seed, m.ttl, m.actors);
            ctx.tell(Hop::at(next), &Step { seed: m.seed, actors: m.actors, ttl: m.ttl - 1 })
        }
    }

    fn on_hops_asked(&mut self, _m: &HopsAsked, ctx: &mut Ctx) {
        ctx.reply(&Hops { hops: self.hops, seeds: self.seeds })
    }

    /// A key in `0..actors`: the finaliser of MurmurHash3, its lower half scaled without a division.
    fn next(seed: u64, ttl: u32, actors: u32) -> u64 {
        let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(ttl as u64);
        x ^= x >> 33;
        x = x.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
        x ^= x >> 33;
        x = x.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
        x ^= x >> 33;
        ((x & 0xFFFF_FFFF) * actors as u64) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfleet_actor::testing::Town;

    #[test]
    fn a_step_visits_ttl_plus_one_actors_within_the_range() {
        let mut town = Town::new(TypeRegistry::new(types![Hop]).expect("one type"));
        town.tell(Hop::at(3), &Step { seed: 42, actors: 16, ttl: 999 });
        assert_eq!((town.handled, town.astray), (1000, 0));
        let hops: Vec<u64> = (0..16).map(|key| town.state::<Hop>(key).map_or(0, |hop| hop.hops)).collect();
        assert_eq!(hops.iter().sum::<u64>(), 1000);
        assert!(hops.iter().all(|&n| n > 30), "{hops:?}");
    }

    #[test]
    fn the_state_is_64_bytes() {
        assert_eq!(size_of::<Hop>(), 64);
    }
}
