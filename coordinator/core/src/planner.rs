//! Which worker a shard goes to, and which shards move when a set is scaled.
//!
//! Pure arithmetic over counts: no state is read or written here. Four rules:
//! 1. A pending shard goes to the eligible worker that has the fewest shards of its set, so a set that starts empty ends
//!    balanced within one shard per worker. A device weighs as much as it has workers.
//! 2. A set never opens more workers than its bound.
//! 3. Resident shards stay where they are; only `scale` asks for [`releases`], and gets as few as a balanced end allows.
//! 4. A device gets no shard for which its memory has certainly no room ([`Slot::room`]); others get it, or it waits.
//!
//! Ties are broken by fewer workers of the set in the node, then in the island, fewer shards of other sets, then by id: a small set
//! spreads over nodes first, and every replica decides the same. An island is what NVLinks join: the devices of a node whose GPUs have
//! some between them, or a device alone. Within one a small set stays together, on the device that has fewest other shards: what its
//! actors send to each other then stays in rings of one device instead of passing the agent.

use crate::shards::Residence;
use ringfleet_abi::ShardId;
use ringfleet_proto::control::DeviceReport;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A worker that may own shards of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The worker.
    pub worker: Residence,
    /// Shards of other sets that it owns.
    pub others: u32,
    /// The first device of its island.
    pub island: u16,
    /// How many shards of the set its device has room for besides those that it has, at most; the same for all workers of the device.
    pub room: u32,
}

/// The first device of the island of each device: those between whose GPUs there are NVLinks, over whatever others, are one island.
#[must_use]
pub fn islands(devices: &[DeviceReport]) -> Vec<u16> {
    let mut islands: Vec<u16> = (0..devices.len() as u16).collect();
    for (at, device) in devices.iter().enumerate() {
        for link in device.gpus.iter().flat_map(|gpu| &gpu.links).filter(|link| link.nvlinks > 0) {
            let Some(&there) = islands.get(usize::from(link.device)) else { continue };
            let (one, other) = (islands[at].min(there), islands[at].max(there));
            islands.iter_mut().filter(|island| **island == other).for_each(|island| *island = one);
        }
    }
    islands
}

/// Workers that a set occupies, per node and per island, to spread new ones; and per device, to keep them together in an island.
#[derive(Default)]
struct Spread {
    nodes: BTreeMap<u32, u32>,
    islands: BTreeMap<(u32, u16), u32>,
    devices: BTreeMap<(u32, u16), u32>,
    island_of: BTreeMap<(u32, u16), u16>,
}

impl Spread {
    fn of<'a>(slots: &[Slot], workers: impl Iterator<Item = &'a Residence>) -> Self {
        let place = |slot: &Slot| ((slot.worker.node, slot.worker.device), slot.island);
        let mut spread = Self { island_of: slots.iter().map(place).collect(), ..Self::default() };
        workers.for_each(|worker| spread.open(worker));
        spread
    }

    /// A device that takes no shards is an island of its own.
    fn island(&self, worker: &Residence) -> (u32, u16) {
        let device = (worker.node, worker.device);
        (worker.node, self.island_of.get(&device).copied().unwrap_or(worker.device))
    }

    fn open(&mut self, worker: &Residence) {
        *self.nodes.entry(worker.node).or_default() += 1;
        *self.islands.entry(self.island(worker)).or_default() += 1;
        *self.devices.entry((worker.node, worker.device)).or_default() += 1;
    }

    /// Smaller is better: few workers of the set in the node and in the island, many in the device.
    fn rank(&self, worker: &Residence) -> (u32, u32, Reverse<u32>) {
        let of = |counts: &BTreeMap<(u32, u16), u32>, place| counts.get(&place).copied().unwrap_or(0);
        let in_device = of(&self.devices, (worker.node, worker.device));
        let in_node = self.nodes.get(&worker.node).copied().unwrap_or(0);
        (in_node, of(&self.islands, self.island(worker)), Reverse(in_device))
    }
}

/// Where `pending` shards go, one worker each, given the resident shards per worker. Shorter than `pending` only if no worker may take
/// any more.
#[must_use]
pub fn place(slots: &[Slot], resident: &BTreeMap<Residence, u32>, bound: u32, pending: usize) -> Vec<Residence> {
    let mut counts: BTreeMap<Residence, u32> = resident.clone();
    let mut spread = Spread::of(slots, counts.keys());
    let device = |worker: &Residence| (worker.node, worker.device);
    let bounded = slots.iter().any(|slot| slot.room < u32::MAX);
    let mut rooms: BTreeMap<(u32, u16), u32> = slots.iter().map(|slot| (device(&slot.worker), slot.room)).collect();
    let mut placed = Vec::with_capacity(pending);
    for _ in 0..pending {
        let may_open = counts.len() < bound as usize;
        let best = slots
            .iter()
            .filter(|slot| may_open || counts.contains_key(&slot.worker))
            .filter(|slot| !bounded || rooms.get(&device(&slot.worker)).is_some_and(|room| *room > 0))
            .map(|slot| (slot, counts.get(&slot.worker).copied().unwrap_or(0)))
            .min_by_key(|&(slot, count)| {
                let opened = if count == 0 { spread.rank(&slot.worker) } else { (0, 0, Reverse(0)) };
                (count, opened, slot.others, slot.worker)
            });
        let Some((slot, count)) = best else { break };
        if count == 0 {
            spread.open(&slot.worker);
        }
        counts.insert(slot.worker, count + 1);
        rooms.entry(device(&slot.worker)).and_modify(|room| *room = room.saturating_sub(1));
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
    let mut spread = Spread::of(slots, std::iter::empty());
    let mut selected = Vec::with_capacity(wanted);
    while selected.len() < wanted {
        let best = left.iter().copied().min_by_key(|slot| {
            let count = owned.get(&slot.worker).map_or(0, Vec::len);
            (Reverse(count), spread.rank(&slot.worker), slot.others, slot.worker)
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
