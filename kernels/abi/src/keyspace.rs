//! From a key to its shard. Both ends of every route compute this, so it is fixed for ever (C1).

use crate::hash::mix64;
use crate::ids::{ActorKey, ShardIndex};

/// The keys that a set may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySpace {
    /// Any 64-bit key; shards are chosen by a hash, actors found through a table per shard.
    Hashed,
    /// The keys `0..count`; shards are contiguous ranges and actors are indexed directly.
    Dense {
        /// How many keys, at least 1.
        count: u64,
    },
}

impl KeySpace {
    /// Keys of each shard but the last: `ceil(count / shards)`. 0 for a hashed set.
    #[must_use]
    #[inline]
    pub const fn keys_per_shard(self, shards: u16) -> u64 {
        match self {
            KeySpace::Hashed => 0,
            KeySpace::Dense { count } => count.div_ceil(shards as u64),
        }
    }

    /// The shard of `key`, or `None` if the set has no such key. `shards` is at least 1.
    #[must_use]
    #[inline]
    pub const fn shard_of(self, shards: u16, key: ActorKey) -> Option<ShardIndex> {
        match self {
            // The upper half of the product scales a uniform 64-bit number to 0..shards without a division.
            KeySpace::Hashed => Some(ShardIndex(((mix64(key) as u128 * shards as u128) >> 64) as u16)),
            KeySpace::Dense { count } if key < count => Some(ShardIndex((key / self.keys_per_shard(shards)) as u16)),
            KeySpace::Dense { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashed_shards_are_used_evenly() {
        let mut hits = [0u32; 256];
        for key in 0..256_000 {
            hits[KeySpace::Hashed.shard_of(256, key).expect("every key").0 as usize] += 1;
        }
        assert!(hits.iter().all(|&n| (850..1150).contains(&n)), "{hits:?}");
    }

    #[test]
    fn the_shard_of_a_key_is_fixed_for_ever() {
        let shards = [0, 1, 2, 1_000, u64::MAX].map(|key| KeySpace::Hashed.shard_of(256, key).map(|shard| shard.0));
        assert_eq!(shards, [0, 180, 58, 175, 100].map(Some));
    }

    #[test]
    fn every_key_has_a_shard_below_the_number_of_shards_whatever_that_is() {
        for shards in [1, 2, 3, 255, 4096, u16::MAX] {
            for key in [0, 1, 255, 256, u64::MAX - 1, u64::MAX] {
                assert!(KeySpace::Hashed.shard_of(shards, key).expect("every key").0 < shards);
                for count in [1, 2, 256, u64::MAX] {
                    let shard = KeySpace::Dense { count }.shard_of(shards, key);
                    assert_eq!(shard.is_some(), key < count);
                    assert!(shard.is_none_or(|shard| shard.0 < shards));
                }
            }
        }
    }

    #[test]
    fn dense_shards_are_ranges_and_end_at_the_count() {
        let space = KeySpace::Dense { count: 10 };
        let shards: std::vec::Vec<_> = (0..12).map(|key| space.shard_of(4, key).map(|s| s.0)).collect();
        let want = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3].map(Some);
        assert_eq!(shards[..10], want);
        assert_eq!(shards[10..], [None, None]);
    }
}
