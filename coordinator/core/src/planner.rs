//! Which worker a shard goes to, and which shards move when a set is scaled.
//!
//! Pure arithmetic over counts: no state is read or written here. Three rules:
//! 1. A pending shard goes to the eligible worker that has the fewest shards of its set, so a set that starts empty ends
//!    balanced within one shard per worker. A device weighs as much as it has workers.
//! 2. A set never opens more workers than its bound.
//! 3. Resident shards stay where they are; only `scale` asks for [`releases`], and gets as few as a balanced end allows.
//!
//! Ties are broken by fewer workers of the set in the node, fewer shards of other sets, then by id: a small set spreads
//! over nodes first, and every replica decides the same.

use crate::shards::Residence;
use ringfleet_abi::ShardId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A worker that may own shards of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The worker.
    pub worker: Residence,
    /// Shards of other sets that it owns.
    pub others: u32,
}

/// Workers that a set occupies, per node and per device, to spread new ones.
#[derive(Default)]
struct Spread {
    nodes: BTreeMap<u32, u32>,
    devices: BTreeMap<(u32, u16), u32>,
}

impl Spread {
    fn of<'a>(workers: impl Iterator<Item = &'a Residence>) -> Self {
        let mut spread = Self::default();
        workers.for_each(|worker| spread.open(worker));
        spread
    }

    fn open(&mut self, worker: &Residence) {
        *self.nodes.entry(worker.node).or_default() += 1;
        *self.devices.entry((worker.node, worker.device)).or_default() += 1;
    }

    fn in_node(&self, worker: &Residence) -> u32 {
        self.nodes.get(&worker.node).copied().unwrap_or(0)
    }

    fn in_device(&self, worker: &Residence) -> u32 {
        self.devices.get(&(worker.node, worker.device)).copied().unwrap_or(0)
    }
}

/// Where `pending` shards go, one worker each, given the resident shards per worker. Shorter than `pending` (in fact
/// empty) only if no worker may take any.
#[must_use]
pub fn place(slots: &[Slot], resident: &BTreeMap<Residence, u32>, bound: u32, pending: usize) -> Vec<Residence> {
    let mut counts: BTreeMap<Residence, u32> = resident.clone();
    let mut spread = Spread::of(counts.keys());
    let mut placed = Vec::with_capacity(pending);
    for _ in 0..pending {
        let may_open = counts.len() < bound as usize;
        let best = slots
            .iter()
            .filter(|slot| may_open || counts.contains_key(&slot.worker))
            .map(|slot| (slot, counts.get(&slot.worker).copied().unwrap_or(0)))
            .min_by_key(|&(slot, count)| {
                let opened =
                    if count == 0 { (spread.in_node(&slot.worker), spread.in_device(&slot.worker)) } else { (0, 0) };
                (count, opened, slot.others, slot.worker)
            });
        let Some((slot, count)) = best else { break };
        if count == 0 {
            spread.open(&slot.worker);
        }
        counts.insert(slot.worker, count + 1);
        placed.push(slot.worker);
    }
    placed
}

/// Which resident shards must leave their workers so that all `total` shards can end balanced over at most `bound`
/// workers. As few as possible: the workers that keep shards are those that have most, and those keep most. All of them if no worker
/// may have any.
#[must_use]
pub fn releases(slots: &[Slot], resident: &[(ShardId, Residence)], bound: u32, total: usize) -> Vec<ShardId> {
    let wanted = slots.len().min(bound as usize).min(total);
    if wanted == 0 {
        return resident.iter().map(|&(shard, _)| shard).collect();
    }
    let mut owned: BTreeMap<Residence, Vec<ShardId>> = BTreeMap::new();
    for &(shard, worker) in resident {
        owned.entry(worker).or_default().push(shard);
    }
    let quotas = quotas(&select(slots, &owned, wanted), &owned, total);
    let mut leaving = Vec::new();
    for (worker, mut shards) in owned {
        let keep = quotas.get(&worker).copied().unwrap_or(0);
        shards.sort_unstable();
        leaving.extend(shards.into_iter().skip(keep));
    }
    leaving.sort_unstable();
    leaving
}

/// The workers that the set shall occupy: those with most of its shards first, then spread over nodes.
fn select(slots: &[Slot], owned: &BTreeMap<Residence, Vec<ShardId>>, wanted: usize) -> Vec<Slot> {
    let mut left: BTreeSet<Slot> = slots.iter().copied().collect();
    let mut spread = Spread::default();
    let mut selected = Vec::with_capacity(wanted);
    while selected.len() < wanted {
        let best = left.iter().copied().min_by_key(|slot| {
            let count = owned.get(&slot.worker).map_or(0, Vec::len);
            let opened = (spread.in_node(&slot.worker), spread.in_device(&slot.worker));
            (Reverse(count), opened, slot.others, slot.worker)
        });
        let Some(slot) = best else { break };
        left.remove(&slot);
        spread.open(&slot.worker);
        selected.push(slot);
    }
    selected
}

/// Shards that each selected worker ends with: `total` split evenly, the larger parts to those that have most already.
fn quotas(selected: &[Slot], owned: &BTreeMap<Residence, Vec<ShardId>>, total: usize) -> BTreeMap<Residence, usize> {
    let mut order: Vec<&Slot> = selected.iter().collect();
    order.sort_by_key(|slot| (Reverse(owned.get(&slot.worker).map_or(0, Vec::len)), slot.others, slot.worker));
    let (base, extra) = (total / selected.len(), total % selected.len());
    order.into_iter().enumerate().map(|(at, slot)| (slot.worker, base + usize::from(at < extra))).collect()
}
