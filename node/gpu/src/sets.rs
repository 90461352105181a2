//! The sets that a worker knows: how their keys fall into shards, which of them it owns, and where the others are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ringfleet_abi::{ActorKey, KeySpace, RestartBudget, RestartMode, RouteTarget, SetId, ShardId, ShardIndex};
use ringfleet_actor::TypeDescriptor;

use crate::arena::{SlotArena, SlotLayout};
use crate::shard::Shard;

/// Where a shard's messages go: the number of a lane of the worker.
pub(crate) type LaneIndex = u16;
/// No lane: nowhere.
pub(crate) const LANE_NONE: LaneIndex = u16::MAX;

/// Keys to shards, without a division where keys have 32 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardMap {
    keys: KeySpace,
    shards: u16,
    keys_per_shard: u64,
    /// `floor(2^64 / keys_per_shard) + 1` for keys of at most 32 bits, else 0. The upper half of its product with a key
    /// is the quotient: Lemire, Kaser, Kurz, "Faster remainder by direct computation", 2019, theorem 1 with N = 32 and
    /// F = 64.
    reciprocal: u64,
}

impl ShardMap {
    pub(crate) fn new(keys: KeySpace, shards: u16) -> Self {
        let keys_per_shard = keys.keys_per_shard(shards);
        let reciprocal = match keys {
            // A divisor of 1 has no reciprocal of 64 bits.
            KeySpace::Dense { count } if count <= 1 << 32 && keys_per_shard > 1 => u64::MAX / keys_per_shard + 1,
            _ => 0,
        };
        Self { keys, shards, keys_per_shard, reciprocal }
    }

    /// Whether actors are found through tables.
    #[inline]
    pub(crate) fn is_hashed(&self) -> bool {
        self.keys == KeySpace::Hashed
    }

    /// The same as [`KeySpace::shard_of`].
    #[inline]
    pub(crate) fn shard_of(&self, key: ActorKey) -> Option<ShardIndex> {
        match self.keys {
            KeySpace::Hashed => self.keys.shard_of(self.shards, key),
            KeySpace::Dense { count } if key < count => Some(ShardIndex(match self.reciprocal {
                0 => (key / self.keys_per_shard) as u16,
                reciprocal => ((u128::from(key) * u128::from(reciprocal)) >> 64) as u16,
            })),
            KeySpace::Dense { .. } => None,
        }
    }

    /// The first key and the number of keys of a dense shard; `None` for a hashed set.
    pub(crate) fn range(&self, shard: ShardIndex) -> Option<(ActorKey, u64)> {
        let KeySpace::Dense { count } = self.keys else { return None };
        let first = u64::from(shard.0).saturating_mul(self.keys_per_shard).min(count);
        Some((first, self.keys_per_shard.min(count - first)))
    }
}

/// Actors resident in one worker by set: the worker has each counter at hand, the lock is taken when sets come and go and by readers.
pub(crate) type SetCounts = Mutex<BTreeMap<u16, Arc<AtomicU64>>>;

/// One set in one worker.
#[derive(Debug)]
pub(crate) struct SetEntry {
    pub(crate) map: ShardMap,
    /// The type that runs here; `None` if this device only routes to the set.
    pub(crate) ty: Option<&'static TypeDescriptor>,
    pub(crate) restart: RestartBudget,
    pub(crate) actors_per_shard: u32,
    pub(crate) arena: SlotArena,
    /// Lane of each shard.
    pub(crate) routes: Box<[LaneIndex]>,
    /// The shards that this worker owns.
    pub(crate) local: Box<[Option<Box<Shard>>]>,
    pub(crate) resident: u16,
    /// Actors resident in this worker; written by it alone, read by anyone.
    pub(crate) actors: Arc<AtomicU64>,
    pub(crate) tag: u32,
}

impl SetEntry {
    /// Actors have come (or gone).
    pub(crate) fn count_actors(&self, change: i64) {
        // One writer: load and store are no race. Relaxed: a number to be shown.
        let now = self.actors.load(Ordering::Relaxed);
        self.actors.store(now.saturating_add_signed(change), Ordering::Relaxed);
    }
}

/// What [`SetTable::add`] needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSet {
    pub(crate) set: SetId,
    pub(crate) tag: u32,
    pub(crate) ty: Option<&'static TypeDescriptor>,
    pub(crate) keys: KeySpace,
    pub(crate) shards: u16,
    pub(crate) actors_per_shard: u32,
    pub(crate) restart: RestartMode,
}

/// All sets of a worker, by id and by the tag of their name.
#[derive(Debug, Default)]
pub(crate) struct SetTable {
    entries: Vec<Option<Box<SetEntry>>>,
    /// Open addressing over a power of two, at most half full: tag and set; tag 0 is empty (no name has it).
    tags: Vec<(u32, u16)>,
    max_sends: u32,
    /// Entries of the next route table.
    pending: Vec<(ShardId, RouteTarget)>,
}

impl SetTable {
    #[inline]
    pub(crate) fn get(&self, set: u16) -> Option<&SetEntry> {
        self.entries.get(set as usize)?.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, set: u16) -> Option<&mut SetEntry> {
        self.entries.get_mut(set as usize)?.as_deref_mut()
    }

    /// The set whose name has this tag.
    #[inline]
    pub(crate) fn by_tag(&self, tag: u32) -> Option<u16> {
        let mask = self.tags.len().checked_sub(1)?;
        let mut at = tag as usize & mask;
        loop {
            match self.tags[at] {
                (0, _) => return None,
                (found, set) if found == tag => return Some(set),
                _ => at = (at + 1) & mask,
            }
        }
    }

    /// Makes a set known; one that is known already stays as it is, but for a policy that may change.
    pub(crate) fn add(&mut self, new: NewSet, counts: &SetCounts) {
        let at = new.set.0 as usize;
        if self.entries.len() <= at {
            self.entries.resize_with(at + 1, || None);
        }
        if let Some(known) = &mut self.entries[at] {
            if known.restart.mode().may_become(new.restart) {
                known.restart = new.restart.budget();
            }
            return;
        }
        let layout = SlotLayout::new(new.ty.map_or(0, |ty| ty.state_bytes));
        self.entries[at] = Some(Box::new(SetEntry {
            map: ShardMap::new(new.keys, new.shards),
            ty: new.ty,
            restart: new.restart.budget(),
            actors_per_shard: new.actors_per_shard,
            arena: SlotArena::new(layout),
            routes: vec![LANE_NONE; new.shards as usize].into(),
            local: (0..new.shards).map(|_| None).collect(),
            resident: 0,
            actors: counts.lock().unwrap_or_else(PoisonError::into_inner).entry(new.set.0).or_default().clone(),
            tag: new.tag,
        }));
        self.index();
    }

    /// Forgets a set, unless it has a shard here.
    pub(crate) fn remove(&mut self, set: SetId, counts: &SetCounts) {
        if let Some(entry) = self.entries.get_mut(set.0 as usize)
            && entry.as_ref().is_some_and(|entry| entry.resident == 0)
        {
            *entry = None;
            counts.lock().unwrap_or_else(PoisonError::into_inner).remove(&set.0);
            self.index();
        }
    }

    /// One entry of the next route table. Bounded by the sets' shards: a later entry of a shard replaces the earlier
    /// when it is adopted.
    pub(crate) fn stage_route(&mut self, shard: ShardId, target: RouteTarget) {
        if self.pending.len() >= 4096 && self.pending.len() >= 2 * self.shards() {
            let mut seen = std::collections::BTreeSet::new();
            self.pending.reverse();
            self.pending.retain(|(shard, _)| seen.insert(shard.pack()));
            self.pending.reverse();
        }
        self.pending.push((shard, target));
    }

    /// Adopts the staged routes. Lanes are numbered by worker, the egress comes after the last.
    pub(crate) fn adopt_routes(&mut self, workers: u16) {
        for (shard, target) in std::mem::take(&mut self.pending) {
            let lane = match target {
                RouteTarget::Worker(worker) if worker.0 < workers => worker.0,
                RouteTarget::Worker(_) | RouteTarget::None => LANE_NONE,
                RouteTarget::Egress => workers,
            };
            if let Some(route) =
                self.get_mut(shard.set.0).and_then(|entry| entry.routes.get_mut(shard.index.0 as usize))
            {
                *route = lane;
            }
        }
    }

    /// The most messages that one handling of a type that runs here may send.
    #[inline]
    pub(crate) fn max_sends(&self) -> u32 {
        self.max_sends
    }

    fn shards(&self) -> usize {
        self.entries.iter().flatten().map(|entry| entry.routes.len()).sum()
    }

    fn index(&mut self) {
        // A handling that fails sends nothing but its escalation.
        let sends = |entry: &SetEntry| Some(entry.ty?.max_sends.max(u32::from(entry.restart.parent != 0)));
        self.max_sends = self.entries.iter().flatten().filter_map(|entry| sends(entry)).max().unwrap_or(0);
        let known = self.entries.iter().flatten().count();
        let size = (known * 2 + 1).next_power_of_two();
        self.tags = vec![(0, 0); size];
        for (at, entry) in self.entries.iter().enumerate() {
            let Some(entry) = entry else { continue };
            let mut place = entry.tag as usize & (size - 1);
            while self.tags[place].0 != 0 {
                place = (place + 1) & (size - 1);
            }
            self.tags[place] = (entry.tag, at as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shards_are_those_of_the_key_space(
            count in prop_oneof![1..10_000u64, (1u64 << 32) - 2..(1 << 32) + 3, Just(u64::MAX), 1..u64::MAX],
            shards in 1..4097u16,
            key in prop_oneof![0..12_000u64, any::<u64>()],
            edge in any::<u16>(),
            by in 0..3u64,
        ) {
            let keys = KeySpace::Dense { count };
            let map = ShardMap::new(keys, shards);
            // Where the quotient changes.
            let step = u64::from(edge % shards).saturating_mul(keys.keys_per_shard(shards));
            let step = step.wrapping_add(by).wrapping_sub(1);
            prop_assert_eq!(map.shard_of(step), keys.shard_of(shards, step));
            prop_assert_eq!(map.shard_of(key), keys.shard_of(shards, key));
            if let Some(shard) = map.shard_of(key) {
                let (first, keys) = map.range(shard).expect("dense");
                prop_assert!((first..first + keys).contains(&key));
            }
        }
    }

    fn new_set(set: u16, tag: u32) -> NewSet {
        NewSet {
            set: SetId(set),
            tag,
            ty: None,
            keys: KeySpace::Hashed,
            shards: 4,
            actors_per_shard: 1,
            restart: RestartMode::Stop,
        }
    }

    #[test]
    fn sets_are_found_by_tag_until_they_are_removed() {
        let mut sets = SetTable::default();
        assert_eq!(sets.by_tag(5), None);
        for set in 1..40u16 {
            sets.add(new_set(set, u32::from(set) << 16), &SetCounts::default());
        }
        for set in 1..40u16 {
            assert_eq!(sets.by_tag(u32::from(set) << 16), Some(set));
        }
        sets.remove(SetId(7), &SetCounts::default());
        assert_eq!(sets.by_tag(7 << 16), None);
        assert!(sets.get(7).is_none() && sets.get(8).is_some());
    }

    #[test]
    fn a_set_that_is_known_changes_whether_actors_are_restarted_and_nothing_else() {
        let mut sets = SetTable::default();
        let mut add = |restart| {
            let new = NewSet { shards: if restart == RestartMode::Stop { 4 } else { 8 }, restart, ..new_set(1, 9) };
            sets.add(new, &SetCounts::default());
            let entry = sets.get(1).expect("added");
            (entry.restart.mode(), entry.routes.len())
        };
        assert_eq!(add(RestartMode::Stop), (RestartMode::Stop, 4));
        assert_eq!(add(RestartMode::Restart), (RestartMode::Restart, 4));
        assert_eq!(add(RestartMode::Limited { restarts: 1, window_ms: 1, parent: 0 }), (RestartMode::Restart, 4));
        assert_eq!(add(RestartMode::Escalate { parent: 3 }), (RestartMode::Restart, 4));
        assert_eq!(add(RestartMode::Stop), (RestartMode::Stop, 4));
    }

    #[test]
    fn routes_change_only_when_they_are_adopted() {
        let mut sets = SetTable::default();
        sets.add(new_set(1, 9), &SetCounts::default());
        let shard = ShardId::new(SetId(1), ShardIndex(2));
        sets.stage_route(shard, RouteTarget::Worker(ringfleet_abi::WorkerIndex(0)));
        assert_eq!(sets.get(1).expect("added").routes[2], LANE_NONE);
        sets.adopt_routes(2);
        assert_eq!(sets.get(1).expect("added").routes[2], 0);
        sets.stage_route(shard, RouteTarget::Egress);
        sets.adopt_routes(2);
        assert_eq!(sets.get(1).expect("added").routes[2], 2);
    }
}
