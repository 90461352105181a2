//! A dense table from shard to value: set ids and shard indices are small and given out in order.

use ringfleet_abi::{SetId, ShardId, ShardIndex};

/// A value for every shard of every known set.
#[derive(Clone, Debug)]
pub struct ShardTable<T> {
    sets: Vec<Vec<T>>,
}

impl<T> Default for ShardTable<T> {
    fn default() -> Self {
        Self { sets: Vec::new() }
    }
}

impl<T: Clone> ShardTable<T> {
    /// The value of `shard`, or `None` if its set is not known or has no such shard.
    #[must_use]
    #[inline]
    pub fn of(&self, shard: ShardId) -> Option<&T> {
        self.sets.get(shard.set.0 as usize)?.get(shard.index.0 as usize)
    }

    /// The value of `shard`, to change it.
    #[inline]
    pub fn of_mut(&mut self, shard: ShardId) -> Option<&mut T> {
        self.sets.get_mut(shard.set.0 as usize)?.get_mut(shard.index.0 as usize)
    }

    /// Makes a set known, every shard with `value`. A known set keeps its values.
    pub fn add_set(&mut self, set: SetId, shards: u16, value: T) {
        let at = set.0 as usize;
        if self.sets.len() <= at {
            self.sets.resize_with(at + 1, Vec::new);
        }
        if self.sets[at].is_empty() {
            self.sets[at] = vec![value; shards as usize];
        }
    }

    /// Forgets a set.
    pub fn remove_set(&mut self, set: SetId) {
        if let Some(shards) = self.sets.get_mut(set.0 as usize) {
            *shards = Vec::new();
        }
    }

    /// All shards with their values, by set and index.
    pub fn iter(&self) -> impl Iterator<Item = (ShardId, &T)> {
        self.sets.iter().enumerate().flat_map(|(set, shards)| {
            shards
                .iter()
                .enumerate()
                .map(move |(index, value)| (ShardId::new(SetId(set as u16), ShardIndex(index as u16)), value))
        })
    }
}
