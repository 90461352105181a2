//! What a GPU's workers know of sets, shards and routes, as the host keeps it (C1, C2).
//!
//! No driver call is made here: controls become [`TableWrite`]s, which the device copies into its memory, and a new version of
//! the tables. Workers adopt a version between two batches and say so; what a control promises is reported when the
//! workers it concerns have adopted the version that carries it.
//!
//! ```text
//!   version = generation << 1 | route table      every change: generation + 1
//!                                                a route commit: the other route table too, and a marker into every ring
//! ```
//!
//! **Code that is being made.** A set of a type whose code the kernel does not have yet is added at once; only assignments of its shards
//! wait until it has ([`Tables::load`]), and whatever is not about them goes on. Nothing that follows such an assignment may count on it
//! before its `Assigned`, with one exception: a route commit that leads to the worker of a shard whose assignment waits is refused
//! ([`Full`]), so that no worker is sent messages of a shard that it does not have. If the code cannot be made, the assignments fail.
//!
//! A route commit writes the table that no worker reads: it is refused ([`Full`]) until the commit before has been flushed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringfleet_abi::control::{TARGET_EGRESS, TARGET_NONE, TYPE_NONE};
use ringfleet_abi::{
    Control, Envelope, Epoch, KeySpace, RestartBudget, RestartMode, RouteTarget, SetId, ShardId, Status, WorkerIndex,
};
use ringfleet_kernels::device_type::Record;
use ringfleet_kernels::geometry::{SETS_PER_DEVICE_MAX, SHARDS_PER_WORKER_MAX};
use ringfleet_kernels::layout::{SetEntry, ShardEntry};

use super::ranges::Ranges;
use crate::device::Full;

/// Controls whose outcome is not known yet; one more is refused.
const WAITING_MAX: usize = 65_536;

/// A copy into device memory.
#[derive(Clone, Debug)]
pub(crate) enum TableWrite {
    /// A set's entry.
    Set(u16, SetEntry),
    /// Shard entries from this index on.
    Shards(u32, Vec<ShardEntry>),
    /// So many shards from this index on have no active actors.
    NoActors(u32, u32),
    /// A route table.
    Routes(u32, Vec<u16>),
    /// The table of tags.
    Tags(Vec<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Free { last: Epoch },
    Owned { worker: u16, epoch: Epoch, base: u64 },
    Leaving { worker: u16, epoch: Epoch, base: u64 },
}

#[derive(Debug)]
struct HostSet {
    tag: u32,
    keys: KeySpace,
    shards: u16,
    /// Of the table that controls index; `None`: nothing here runs it.
    ty: Option<u16>,
    entry: SetEntry,
    route_base: u32,
    /// Records of a shard, and units of all of them with the one behind the table.
    capacity: u32,
    record_units: u32,
    owners: Vec<Owner>,
}

impl HostSet {
    /// One record more than the capacity, and 8 bytes for the key of each record of a hashed shard.
    fn units(&self) -> u64 {
        let keys = if matches!(self.keys, KeySpace::Hashed) { u64::from(self.capacity) / 4 } else { 0 };
        u64::from(self.record_units) * (u64::from(self.capacity) + 1) + keys
    }
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Assigned { shard: ShardId, epoch: Epoch, worker: WorkerIndex },
    Released { shard: ShardId, epoch: Epoch, worker: WorkerIndex },
}

/// The host's tables.
#[derive(Debug)]
pub(crate) struct Tables {
    workers: u16,
    /// Records by type, of sets that count no restarts and of those that do.
    types: Vec<[Record; 2]>,
    /// Where each type is in the code that is loaded; shards of one that is not there are not assigned before it is.
    loaded: Vec<Option<u16>>,
    /// Types that are not there and that sets want.
    wanted: BTreeSet<u16>,
    /// Assignments that wait for them, in order.
    coming: VecDeque<(ShardId, Epoch, WorkerIndex)>,
    sets: Vec<Option<HostSet>>,
    known: u32,
    tag_slots: usize,
    routes: Vec<u16>,
    next_routes: Vec<(u32, u16)>,
    indices: Ranges,
    arena: Ranges,
    owned: Vec<u32>,
    version: u32,
    changed: bool,
    writes: Vec<TableWrite>,
    /// Shards whose residences begin with the next version.
    begun: Vec<u32>,
    waiting: VecDeque<(u32, Outcome)>,
    /// A route commit that is under way: its number, and the version that carries it.
    commit: Option<(u64, u32)>,
    events: VecDeque<Status>,
}

impl Tables {
    /// Empty tables. `types` are each type's records, of sets that count no restarts and of those that do. No code is loaded.
    pub(crate) fn new(workers: u16, types: Vec<[Record; 2]>, sets: u32, shards: u32, arena_units: u64) -> Self {
        Self {
            workers,
            loaded: vec![None; types.len()],
            types,
            wanted: BTreeSet::new(),
            coming: VecDeque::new(),
            sets: (0..sets).map(|_| None).collect(),
            known: 0,
            tag_slots: (sets as usize * 2).next_power_of_two(),
            routes: vec![TARGET_NONE; shards as usize],
            next_routes: Vec::new(),
            indices: Ranges::new(u64::from(shards)),
            arena: Ranges::new(arena_units),
            owned: vec![0; workers as usize],
            version: 2,
            changed: true,
            // Zeroed memory would send every message to worker 0.
            writes: vec![
                TableWrite::Routes(0, vec![TARGET_NONE; shards as usize]),
                TableWrite::Routes(1, vec![TARGET_NONE; shards as usize]),
            ],
            begun: Vec::new(),
            waiting: VecDeque::new(),
            commit: None,
            events: VecDeque::new(),
        }
    }

    /// Takes a control that changes tables.
    pub(crate) fn submit(&mut self, control: Control) -> Result<(), Full> {
        if self.waiting.len() + self.events.len() + self.coming.len() >= WAITING_MAX {
            return Err(Full);
        }
        match control {
            Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart } => {
                self.add_set(set, tag, type_index, keys, shards, actors_per_shard, restart)
            }
            Control::RemoveSet { set } => self.remove_set(set),
            Control::Assign { shard, epoch, worker } => self.assign(shard, epoch, worker),
            Control::Release { shard, epoch } => self.release(shard, epoch),
            Control::Route { shard, target } => {
                if let Some(index) = self.index_of(shard) {
                    self.next_routes.push((index, target_word(target)));
                }
                Ok(())
            }
            Control::RouteCommit { version } => self.commit(version),
            Control::Lease { .. } | Control::Pause | Control::Resume | Control::Stop => Ok(()),
        }
    }

    /// Whether one more set has a place.
    pub(crate) fn has_place(&self) -> bool {
        self.known < SETS_PER_DEVICE_MAX
    }

    /// The types of the sets that are here, in order.
    pub(crate) fn types_in_use(&self) -> BTreeSet<u16> {
        self.sets.iter().flatten().filter_map(|set| set.ty).collect()
    }

    /// The code that runs from the next launch on: these types, in this order, [all that run](Tables::types_running) among them.
    pub(crate) fn load(&mut self, types: &[u16]) {
        self.loaded.fill(None);
        for (at, ty) in types.iter().enumerate() {
            self.loaded[usize::from(*ty)] = Some(at as u16);
        }
        let mut writes = Vec::new();
        for (id, set) in self.sets.iter_mut().enumerate() {
            let Some(set) = set else { continue };
            let Some(at) = set.ty.and_then(|ty| self.loaded[usize::from(ty)]) else { continue };
            set.entry.type_index = at;
            writes.push(TableWrite::Set(id as u16, set.entry));
        }
        for write in writes {
            self.change(Some(write));
        }
        self.wanted.retain(|ty| self.loaded[usize::from(*ty)].is_none());
        self.try_coming();
    }

    /// There will be no code of these types: nothing here runs their sets.
    pub(crate) fn give_up(&mut self, types: &[u16]) {
        self.wanted.retain(|ty| !types.contains(ty));
        for set in self.sets.iter_mut().flatten() {
            set.ty = set.ty.filter(|ty| !types.contains(ty));
        }
        self.try_coming();
    }

    /// Assigns what waited and need not any more; the rest keeps waiting, in its order.
    fn try_coming(&mut self) {
        for (shard, epoch, worker) in std::mem::take(&mut self.coming) {
            // Never refused: there was room for it when it came.
            let _ = self.assign(shard, epoch, worker);
        }
    }

    /// A type whose code is wanted and not there.
    pub(crate) fn wanted(&self) -> Option<u16> {
        self.wanted.first().copied()
    }

    /// Types of sets that are here whose code is loaded.
    pub(crate) fn types_running(&self) -> BTreeSet<u16> {
        let mut types = self.types_in_use();
        types.retain(|ty| self.loaded[usize::from(*ty)].is_some());
        types
    }

    /// Copies to be made, and the version to be announced when they are done; `None` if nothing has changed.
    pub(crate) fn take_changes(&mut self) -> Option<(Vec<TableWrite>, u32)> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let mut writes = self.no_actors();
        writes.append(&mut self.writes);
        Some((writes, self.version))
    }

    /// What begins is empty; neighbours are written at once.
    fn no_actors(&mut self) -> Vec<TableWrite> {
        let mut begun = std::mem::take(&mut self.begun);
        begun.sort_unstable();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for index in begun {
            match runs.last_mut() {
                Some((first, count)) if *first + *count == index => *count += 1,
                Some((first, count)) if index < *first + *count => {}
                _ => runs.push((index, 1)),
            }
        }
        runs.into_iter().map(|(first, count)| TableWrite::NoActors(first, count)).collect()
    }

    /// The next event, with what the workers say: the version that each has adopted, and the last whose markers it has all had.
    pub(crate) fn poll(
        &mut self,
        seen: impl Fn(WorkerIndex) -> u32,
        flushed: impl Fn(WorkerIndex) -> u32,
    ) -> Option<Status> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        // Outcomes first: whoever has had every marker has adopted everything before the commit, too.
        if let Some(&(version, outcome)) = self.waiting.front() {
            let (Outcome::Assigned { worker, .. } | Outcome::Released { worker, .. }) = outcome;
            if reached(seen(worker), version) {
                self.waiting.pop_front();
                return Some(self.settle(outcome));
            }
        }
        if let Some((number, version)) = self.commit
            && (0..self.workers).all(|worker| reached(flushed(WorkerIndex(worker)), version))
        {
            self.commit = None;
            return Some(Status::RouteFlushed { version: number });
        }
        None
    }

    fn settle(&mut self, outcome: Outcome) -> Status {
        match outcome {
            Outcome::Assigned { shard, epoch, worker } => Status::Assigned { shard, epoch, worker },
            Outcome::Released { shard, epoch, .. } => {
                self.free(shard, epoch);
                Status::Released { shard, epoch }
            }
        }
    }

    /// Actors by set, given those of each shard by its index. What shards counted that have gone from here does not count.
    pub(crate) fn actors_by_set(&self, live: &[u32]) -> BTreeMap<SetId, u64> {
        let of_set = |set: &HostSet| -> u64 {
            let here = set.owners.iter().enumerate().filter(|(_, owner)| !matches!(owner, Owner::Free { .. }));
            here.filter_map(|(shard, _)| live.get(set.route_base as usize + shard)).map(|count| u64::from(*count)).sum()
        };
        let known = self.sets.iter().enumerate().filter_map(|(id, set)| Some((SetId(id as u16), set.as_ref()?)));
        known
            .filter(|(_, set)| set.owners.iter().any(|owner| !matches!(owner, Owner::Free { .. })))
            .map(|(id, set)| (id, of_set(set)))
            .collect()
    }

    /// The worker that an envelope from the host goes to.
    pub(crate) fn worker_of(&self, envelope: &Envelope) -> WorkerIndex {
        let shard = envelope.as_gate_marker().or_else(|| {
            let set = self.set(SetId(envelope.to_set))?;
            Some(ShardId::new(SetId(envelope.to_set), set.keys.shard_of(set.shards, envelope.to_key)?))
        });
        match shard.and_then(|shard| self.owner(shard)) {
            Some(Owner::Owned { worker, .. } | Owner::Leaving { worker, .. }) => WorkerIndex(worker),
            _ => WorkerIndex(0),
        }
    }

    fn change(&mut self, write: Option<TableWrite>) {
        self.writes.extend(write);
        if !self.changed {
            self.changed = true;
            self.version = self.version.wrapping_add(2);
        }
    }

    #[allow(clippy::too_many_arguments)] // The fields of the control.
    fn add_set(
        &mut self,
        set: SetId,
        tag: u32,
        type_index: Option<u16>,
        keys: KeySpace,
        shards: u16,
        actors_per_shard: u32,
        restart: RestartMode,
    ) -> Result<(), Full> {
        let at = set.0 as usize;
        let budget = restart.budget();
        let Some(place) = self.sets.get_mut(at) else { return Ok(()) };
        if let Some(known) = place {
            let SetEntry { restarts, window_ms, parent, .. } = known.entry;
            let now = RestartBudget { restarts, window_ms, parent };
            if now != budget && now.mode().may_become(restart) {
                // The records stay as they are. Workers copy the entry when they adopt this version.
                known.entry.restarts = budget.restarts;
                let entry = known.entry;
                self.change(Some(TableWrite::Set(set.0, entry)));
            }
            return Ok(());
        }
        let ty = type_index.filter(|index| usize::from(*index) < self.types.len());
        let record = ty.map(|index| self.types[usize::from(index)][usize::from(budget.is_counted())]);
        let capacity = match keys {
            KeySpace::Dense { .. } => u32::try_from(keys.keys_per_shard(shards)).ok(),
            // Half full at most, so that probing stays short.
            KeySpace::Hashed => actors_per_shard.max(2).checked_mul(2).and_then(u32::checked_next_power_of_two),
        };
        // C9: without a place it is as a set that nobody added: its shards are not assigned here. To refuse it would hold up what is
        // submitted behind it, which alone could make room.
        if self.known >= SETS_PER_DEVICE_MAX {
            return Ok(());
        }
        let Some(route_base) = self.indices.take(u64::from(shards)) else { return Ok(()) };
        let route_base = route_base as u32;
        let ty = ty.filter(|_| capacity.is_some());
        let loaded = ty.and_then(|index| self.loaded[usize::from(index)]);
        let record = record.unwrap_or(Record { units: 1, keeps: false });
        let entry = SetEntry {
            route_base,
            tag,
            record_units: record.units,
            type_index: loaded.unwrap_or(TYPE_NONE),
            keeps: u16::from(record.keeps),
            restarts: budget.restarts,
            window_ms: budget.window_ms,
            parent: budget.parent,
            ..SetEntry::of_keys(keys, shards)
        };
        self.sets[at] = Some(HostSet {
            tag,
            keys,
            shards,
            ty,
            entry,
            route_base,
            capacity: capacity.unwrap_or(0),
            record_units: record.units,
            owners: vec![Owner::Free { last: Epoch::NONE }; shards as usize],
        });
        self.known += 1;
        self.wanted.extend(ty.filter(|_| loaded.is_none()));
        let tags = self.tags();
        self.change(Some(TableWrite::Set(set.0, entry)));
        self.change(Some(TableWrite::Tags(tags)));
        Ok(())
    }

    fn remove_set(&mut self, set: SetId) -> Result<(), Full> {
        let Some(known) = self.set(set) else { return Ok(()) };
        let is_used = known.owners.iter().any(|owner| !matches!(owner, Owner::Free { .. }))
            || self.coming.iter().any(|(shard, ..)| shard.set == set);
        if is_used || self.commit.is_some() {
            return if self.commit.is_some() { Err(Full) } else { Ok(()) };
        }
        let (base, shards) = (known.route_base, known.shards);
        self.sets[set.0 as usize] = None;
        self.known -= 1;
        let in_use = self.types_in_use();
        self.wanted.retain(|ty| in_use.contains(ty));
        self.indices.give_back(u64::from(base), u64::from(shards));
        self.routes[base as usize..base as usize + shards as usize].fill(TARGET_NONE);
        self.next_routes.retain(|(index, _)| !(base..base + u32::from(shards)).contains(index));
        let tags = self.tags();
        self.change(Some(TableWrite::Set(set.0, SetEntry::default())));
        self.change(Some(TableWrite::Tags(tags)));
        Ok(())
    }

    fn assign(&mut self, shard: ShardId, epoch: Epoch, worker: WorkerIndex) -> Result<(), Full> {
        let failed = Status::AssignFailed { shard, epoch };
        let possible = match (self.set(shard.set), self.owner(shard)) {
            (Some(set), Some(Owner::Free { last })) => set.ty.is_some() && worker.0 < self.workers && epoch > last,
            (_, Some(Owner::Owned { worker: owner, epoch: now, .. })) if owner == worker.0 && now == epoch => {
                self.events.push_back(Status::Assigned { shard, epoch, worker });
                return Ok(());
            }
            _ => false,
        };
        if !possible || self.owned[worker.0 as usize] >= SHARDS_PER_WORKER_MAX {
            self.events.push_back(failed);
            return Ok(());
        }
        if self.set(shard.set).and_then(|set| set.ty).is_some_and(|ty| self.loaded[usize::from(ty)].is_none()) {
            match self.coming.iter().find(|(coming, ..)| *coming == shard) {
                None => self.coming.push_back((shard, epoch, worker)),
                // Said again.
                Some(coming) if *coming == (shard, epoch, worker) => {}
                Some(_) => self.events.push_back(failed),
            }
            return Ok(());
        }
        let Some((units, capacity, record_units, index)) = self
            .set(shard.set)
            .map(|set| (set.units(), set.capacity, set.record_units, set.route_base + u32::from(shard.index.0)))
        else {
            return Ok(());
        };
        let Some(base) = self.arena.take(units) else {
            self.events.push_back(failed);
            return Ok(());
        };
        self.owned[worker.0 as usize] += 1;
        self.set_owner(shard, Owner::Owned { worker: worker.0, epoch, base });
        let entry = ShardEntry {
            base: u32::try_from(base).expect("the arena has at most 2^32 units (`CudaDevice::start`)"),
            capacity,
            epoch: epoch.0,
            worker: u32::from(worker.0),
            // Not the epoch: the worker empties the records before the first message.
            emptied: !(epoch.0 as u32),
            record_units,
            units: u32::try_from(units).expect("no more than the arena has"),
        };
        self.begun.push(index);
        self.change(Some(TableWrite::Shards(index, vec![entry])));
        self.waiting.push_back((self.version, Outcome::Assigned { shard, epoch, worker }));
        Ok(())
    }

    fn release(&mut self, shard: ShardId, epoch: Epoch) -> Result<(), Full> {
        if let Some(at) = self.coming.iter().position(|(coming, of, _)| (*coming, *of) == (shard, epoch)) {
            // It was never here, and is not to be: both are told, and no such residence begins later (C2).
            self.coming.remove(at);
            self.set_owner(shard, Owner::Free { last: epoch });
            self.events.push_back(Status::AssignFailed { shard, epoch });
        }
        match (self.owner(shard), self.index_of(shard)) {
            (Some(Owner::Owned { worker, epoch: now, base }), Some(index)) if now == epoch => {
                self.set_owner(shard, Owner::Leaving { worker, epoch, base });
                self.change(Some(TableWrite::Shards(
                    index,
                    vec![ShardEntry { worker: u32::MAX, ..ShardEntry::default() }],
                )));
                let worker = WorkerIndex(worker);
                self.waiting.push_back((self.version, Outcome::Released { shard, epoch, worker }));
            }
            // On its way already.
            (Some(Owner::Leaving { epoch: now, .. }), _) if now == epoch => {}
            _ => self.events.push_back(Status::Released { shard, epoch }),
        }
        Ok(())
    }

    fn commit(&mut self, version: u64) -> Result<(), Full> {
        if self.commit.is_some() || self.leads_to_coming() {
            return Err(Full);
        }
        for (index, target) in std::mem::take(&mut self.next_routes) {
            self.routes[index as usize] = target;
        }
        self.change(None);
        self.version ^= 1;
        self.writes.push(TableWrite::Routes(self.version & 1, self.routes.clone()));
        self.commit = Some((version, self.version));
        Ok(())
    }

    /// Whether the next routes lead to a worker that waits for the shard.
    fn leads_to_coming(&self) -> bool {
        if self.coming.is_empty() {
            return false;
        }
        let here: BTreeSet<u32> = self.coming.iter().filter_map(|(shard, ..)| self.index_of(*shard)).collect();
        self.next_routes
            .iter()
            .any(|(index, target)| here.contains(index) && *target != TARGET_NONE && *target != TARGET_EGRESS)
    }

    fn free(&mut self, shard: ShardId, epoch: Epoch) {
        if let Some(Owner::Leaving { worker, epoch: leaving, base }) = self.owner(shard)
            && leaving == epoch
        {
            let units = self.set(shard.set).map_or(0, HostSet::units);
            self.arena.give_back(base, units);
            self.owned[worker as usize] -= 1;
            self.set_owner(shard, Owner::Free { last: epoch });
        }
    }

    fn tags(&self) -> Vec<u64> {
        let mut tags = vec![0_u64; self.tag_slots];
        for (id, set) in self.sets.iter().enumerate().filter_map(|(id, set)| Some((id, set.as_ref()?))) {
            let mut at = set.tag as usize & (self.tag_slots - 1);
            while tags[at] != 0 {
                at = (at + 1) & (self.tag_slots - 1);
            }
            tags[at] = u64::from(set.tag) | (id as u64) << 32;
        }
        tags
    }

    fn set(&self, set: SetId) -> Option<&HostSet> {
        self.sets.get(set.0 as usize)?.as_ref()
    }

    fn owner(&self, shard: ShardId) -> Option<Owner> {
        self.set(shard.set)?.owners.get(shard.index.0 as usize).copied()
    }

    fn set_owner(&mut self, shard: ShardId, owner: Owner) {
        if let Some(Some(set)) = self.sets.get_mut(shard.set.0 as usize)
            && let Some(place) = set.owners.get_mut(shard.index.0 as usize)
        {
            *place = owner;
        }
    }

    fn index_of(&self, shard: ShardId) -> Option<u32> {
        let set = self.set(shard.set)?;
        (shard.index.0 < set.shards).then(|| set.route_base + u32::from(shard.index.0))
    }
}

/// Whether a worker's version is `wanted` or a later one; the lowest bit is no part of the order.
fn reached(seen: u32, wanted: u32) -> bool {
    (seen >> 1).wrapping_sub(wanted >> 1) < 1 << 30
}

fn target_word(target: RouteTarget) -> u16 {
    match target {
        RouteTarget::Worker(worker) => worker.0,
        RouteTarget::Egress => TARGET_EGRESS,
        RouteTarget::None => TARGET_NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringfleet_abi::ShardIndex;

    const SET: SetId = SetId(3);
    const RECORDS: [Record; 2] = [Record { units: 3, keeps: false }, Record { units: 4, keeps: true }];

    fn shard(index: u16) -> ShardId {
        ShardId::new(SET, ShardIndex(index))
    }

    fn tables() -> Tables {
        let mut tables = Tables::new(4, vec![RECORDS], 16, 64, 1000);
        tables.load(&[0]);
        let add = Control::AddSet {
            set: SET,
            tag: 77,
            type_index: Some(0),
            keys: KeySpace::Dense { count: 100 },
            shards: 10,
            actors_per_shard: 0,
            restart: RestartMode::Stop,
        };
        tables.submit(add).expect("room");
        assert_eq!(
            tables.take_changes().map(|(writes, _)| writes.len()),
            Some(4),
            "two route tables, the set, the tags"
        );
        tables
    }

    #[test]
    fn an_assignment_is_reported_when_its_worker_has_adopted_it() {
        let mut tables = tables();
        let (epoch, worker) = (Epoch(1), WorkerIndex(2));
        tables.submit(Control::Assign { shard: shard(4), epoch, worker }).expect("room");
        let (writes, version) = tables.take_changes().expect("a change");
        assert!(
            matches!(&writes[..], [TableWrite::NoActors(4, 1), TableWrite::Shards(4, entries)] if entries[0].capacity == 10 && entries[0].worker == 2)
        );
        assert_eq!(tables.poll(|_| version - 2, |_| 0), None);
        let only = |worker: WorkerIndex| if worker.0 == 2 { version } else { 0 };
        assert_eq!(tables.poll(only, |_| 0), Some(Status::Assigned { shard: shard(4), epoch, worker }));
        let envelope = Envelope { to_set: SET.0, to_key: 41, ..Envelope::default() };
        assert_eq!(tables.worker_of(&envelope), worker);
    }

    #[test]
    fn actors_are_counted_by_set_where_their_shards_are() {
        let mut tables = tables();
        let add = Control::AddSet {
            set: SetId(5),
            tag: 78,
            type_index: Some(0),
            keys: KeySpace::Hashed,
            shards: 3,
            actors_per_shard: 2,
            restart: RestartMode::Stop,
        };
        tables.submit(add).expect("room");
        let live: Vec<u32> = (0..64).map(|index| 1 << index.min(20)).collect();
        assert_eq!(tables.actors_by_set(&live), BTreeMap::new());
        let (epoch, worker) = (Epoch(1), WorkerIndex(1));
        for index in [4, 2, 3, 7] {
            tables.submit(Control::Assign { shard: shard(index), epoch, worker }).expect("room");
        }
        let other = ShardId::new(SetId(5), ShardIndex(1));
        tables.submit(Control::Assign { shard: other, epoch, worker }).expect("room");
        let (writes, _) = tables.take_changes().expect("a change");
        let begun: Vec<_> = writes
            .iter()
            .filter_map(
                |write| if let TableWrite::NoActors(first, count) = write { Some((*first, *count)) } else { None },
            )
            .collect();
        assert_eq!(begun, [(2, 3), (7, 1), (11, 1)], "the counts of a residence begin at 0");
        let of = |tables: &Tables| {
            tables.actors_by_set(&live).into_iter().map(|(set, count)| (set.0, count)).collect::<Vec<_>>()
        };
        assert_eq!(of(&tables), [(3, 4 + 8 + 16 + 128), (5, 1 << 11)]);
        // One that leaves counts until it is gone.
        tables.submit(Control::Release { shard: other, epoch }).expect("room");
        assert_eq!(of(&tables).len(), 2);
        while tables.poll(|_| u32::MAX >> 2, |_| 0).is_some() {}
        assert_eq!(of(&tables), [(3, 4 + 8 + 16 + 128)]);
        assert_eq!(tables.take_changes().map(|(writes, _)| writes.len()), Some(1), "told once");
    }

    #[test]
    fn a_released_shard_gives_its_memory_back_and_never_returns_at_an_old_epoch() {
        let mut tables = tables();
        for round in 1..100 {
            let (epoch, worker) = (Epoch(round), WorkerIndex(1));
            for index in 0..10 {
                tables.submit(Control::Assign { shard: shard(index), epoch, worker }).expect("room");
            }
            for index in 0..10 {
                assert!(matches!(tables.poll(|_| u32::MAX >> 2, |_| 0), Some(Status::Assigned { .. })), "{index}");
                tables.submit(Control::Release { shard: shard(index), epoch }).expect("room");
            }
            for _ in 0..10 {
                assert!(matches!(tables.poll(|_| u32::MAX >> 2, |_| 0), Some(Status::Released { .. })));
            }
            tables.submit(Control::Assign { shard: shard(0), epoch, worker }).expect("room");
            assert_eq!(tables.poll(|_| 0, |_| 0), Some(Status::AssignFailed { shard: shard(0), epoch }));
        }
    }

    #[test]
    fn a_commit_changes_the_table_and_the_next_one_waits_for_every_marker() {
        let mut tables = tables();
        let target = RouteTarget::Worker(WorkerIndex(3));
        tables.submit(Control::Route { shard: shard(1), target }).expect("room");
        tables.submit(Control::RouteCommit { version: 9 }).expect("the first");
        let (writes, version) = tables.take_changes().expect("a change");
        assert!(matches!(&writes[..], [TableWrite::Routes(1, routes)] if routes[1] == 3 && routes[2] == TARGET_NONE));
        assert_eq!(tables.submit(Control::RouteCommit { version: 10 }), Err(Full));
        assert_eq!(tables.poll(|_| version, |worker| if worker.0 == 0 { 0 } else { version }), None);
        assert_eq!(tables.poll(|_| version, |_| version), Some(Status::RouteFlushed { version: 9 }));
        tables.submit(Control::RouteCommit { version: 10 }).expect("flushed");
        assert_eq!(tables.take_changes().expect("a change").1 & 1, 0);
    }

    #[test]
    fn a_set_without_a_place_holds_nothing_up_and_its_shards_are_not_assigned() {
        let mut tables = Tables::new(1, vec![RECORDS], 64, 64, 1000);
        tables.load(&[0]);
        let add = |tables: &mut Tables, id: u16, shards: u16| {
            let (keys, restart) = (KeySpace::Dense { count: 4 }, RestartMode::Stop);
            let (set, tag, type_index) = (SetId(id), u32::from(id), Some(0));
            let taken =
                tables.submit(Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard: 0, restart });
            assert_eq!(taken, Ok(()), "set {id}");
            let (shard, worker) = (ShardId::new(set, ShardIndex(0)), WorkerIndex(0));
            tables.submit(Control::Assign { shard, epoch: Epoch(1), worker }).expect("room");
            tables.poll(|_| u32::MAX >> 2, |_| 0)
        };
        let assigned = |id| matches!(id, Some(Status::Assigned { .. }));
        assert!(assigned(add(&mut tables, 1, 40)));
        assert!(!assigned(add(&mut tables, 2, 40)), "there are routes for 64 shards");
        for id in 3..40 {
            assert_eq!(assigned(add(&mut tables, id, 1)), id < 3 + 24, "set {id}");
        }
        let release = Control::Release { shard: ShardId::new(SetId(1), ShardIndex(0)), epoch: Epoch(1) };
        tables.submit(release).expect("nothing is held up");
    }

    #[test]
    fn sets_follow_their_type_to_its_place_in_new_code() {
        let plain = |units| [Record { units, keeps: false }, Record { units: units + 1, keeps: true }];
        let mut tables = Tables::new(1, vec![plain(3), plain(5), plain(7)], 16, 64, 1000);
        tables.load(&[2]);
        let add = |tables: &mut Tables, id: u16, ty: u16| {
            let set = SetId(id);
            let (keys, restart) = (KeySpace::Dense { count: 4 }, RestartMode::Stop);
            let tag = u32::from(id);
            let type_index = Some(ty);
            let add = Control::AddSet { set, tag, type_index, keys, shards: 1, actors_per_shard: 0, restart };
            tables.submit(add).expect("room");
            let (writes, _) = tables.take_changes().expect("a change");
            writes.iter().find_map(|write| match write {
                TableWrite::Set(at, entry) if *at == id => Some((entry.type_index, entry.record_units)),
                _ => None,
            })
        };
        assert_eq!(add(&mut tables, 1, 2), Some((0, 7)));
        assert_eq!(add(&mut tables, 2, 1), Some((TYPE_NONE, 5)), "it is not run yet");
        assert_eq!(add(&mut tables, 4, 9), Some((TYPE_NONE, 1)), "nothing here runs it, ever");
        assert_eq!((tables.types_in_use(), tables.types_running()), (BTreeSet::from([1, 2]), BTreeSet::from([2])));
        assert_eq!(tables.wanted(), Some(1));
        tables.load(&[1, 2]);
        assert_eq!(tables.wanted(), None);
        let (writes, _) = tables.take_changes().expect("a change");
        let sets: Vec<_> = writes
            .iter()
            .map(|write| match write {
                TableWrite::Set(set, entry) => (*set, entry.type_index, entry.record_units),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(sets, [(1, 1, 7), (2, 0, 5)]);
        assert_eq!(add(&mut tables, 3, 1), Some((0, 5)));
        assert_eq!(tables.types_in_use(), BTreeSet::from([1, 2]));
    }

    /// A set of a type that is loaded and one of a type that is not.
    fn tables_with_one_to_come() -> (Tables, impl Fn(u16) -> ShardId) {
        let mut tables = Tables::new(2, vec![RECORDS, RECORDS], 16, 64, 1000);
        tables.load(&[0]);
        for (id, ty) in [(3, 0), (5, 1)] {
            let add = Control::AddSet {
                set: SetId(id),
                tag: u32::from(id),
                type_index: Some(ty),
                keys: KeySpace::Hashed,
                shards: 4,
                actors_per_shard: 2,
                restart: RestartMode::Stop,
            };
            tables.submit(add).expect("taken at once");
        }
        (tables, |index| ShardId::new(SetId(5), ShardIndex(index)))
    }

    fn told(tables: &mut Tables) -> Vec<Status> {
        let (commit, most) = (tables.version, u32::MAX >> 2);
        std::iter::from_fn(|| tables.poll(|_| most, |_| commit)).collect()
    }

    #[test]
    fn only_assignments_wait_for_code_and_everything_else_goes_on() {
        let (mut tables, late) = tables_with_one_to_come();
        let (epoch, worker) = (Epoch(1), WorkerIndex(1));
        let assign =
            |tables: &mut Tables, shard| tables.submit(Control::Assign { shard, epoch, worker }).expect("room");
        for index in [2, 0] {
            assign(&mut tables, late(index));
        }
        assign(&mut tables, late(2));
        assign(&mut tables, shard(1));
        // Of another set, and of the same, leading elsewhere.
        let route = |shard, target| Control::Route { shard, target };
        tables.submit(route(shard(1), RouteTarget::Worker(worker))).expect("room");
        tables.submit(route(late(2), RouteTarget::Egress)).expect("room");
        tables.submit(Control::RouteCommit { version: 1 }).expect("it leads to nobody who waits");
        let assigned = |shard| Status::Assigned { shard, epoch, worker };
        assert_eq!(told(&mut tables), [assigned(shard(1)), Status::RouteFlushed { version: 1 }]);
        // Whoever routes before the answer waits with it.
        tables.submit(route(late(0), RouteTarget::Worker(worker))).expect("room");
        assert!(tables.submit(Control::RouteCommit { version: 2 }).is_err());
        tables.load(&[0, 1]);
        assert_eq!(told(&mut tables), [assigned(late(2)), assigned(late(0))], "in their order, each once");
        tables.submit(Control::RouteCommit { version: 2 }).expect("nobody waits");
        assert_eq!(told(&mut tables), [Status::RouteFlushed { version: 2 }]);
    }

    #[test]
    fn a_shard_that_waits_for_code_can_be_released_and_its_set_is_in_use() {
        let (mut tables, late) = tables_with_one_to_come();
        let worker = WorkerIndex(0);
        let assign = |shard, epoch| Control::Assign { shard, epoch: Epoch(epoch), worker };
        let release = |shard, epoch| Control::Release { shard, epoch: Epoch(epoch) };
        tables.submit(assign(late(1), 4)).expect("room");
        tables.submit(Control::RemoveSet { set: SetId(5) }).expect("passed over");
        tables.submit(assign(late(1), 5)).expect("room");
        let failed = |epoch| Status::AssignFailed { shard: late(1), epoch: Epoch(epoch) };
        assert_eq!(told(&mut tables), [failed(5)], "one residence at a time");
        tables.submit(release(late(1), 4)).expect("room");
        assert_eq!(told(&mut tables), [failed(4), Status::Released { shard: late(1), epoch: Epoch(4) }]);
        tables.submit(assign(late(1), 4)).expect("room");
        assert_eq!(told(&mut tables), [failed(4)], "C2: that residence is over");
        tables.load(&[0, 1]);
        assert_eq!(told(&mut tables), []);
        tables.submit(Control::RemoveSet { set: SetId(5) }).expect("room");
        assert_eq!(tables.types_in_use(), BTreeSet::from([0]));
    }

    #[test]
    fn without_code_the_assignments_fail_and_others_still_wait() {
        let (mut tables, late) = tables_with_one_to_come();
        let (epoch, worker) = (Epoch(1), WorkerIndex(1));
        tables.submit(Control::Assign { shard: late(0), epoch, worker }).expect("room");
        tables.give_up(&[0]);
        assert_eq!((told(&mut tables), tables.wanted()), (vec![], Some(1)));
        tables.give_up(&[1]);
        assert_eq!(told(&mut tables), [Status::AssignFailed { shard: late(0), epoch }]);
        tables.submit(Control::Assign { shard: late(1), epoch, worker }).expect("room");
        assert_eq!(told(&mut tables), [Status::AssignFailed { shard: late(1), epoch }]);
        assert_eq!(tables.wanted(), None);
    }

    #[test]
    fn an_arena_without_room_refuses_the_shard() {
        let mut tables = Tables::new(1, vec![RECORDS], 16, 64, 40);
        tables.load(&[0]);
        let add = Control::AddSet {
            set: SET,
            tag: 77,
            type_index: Some(0),
            keys: KeySpace::Hashed,
            shards: 2,
            actors_per_shard: 4,
            restart: RestartMode::Stop,
        };
        tables.submit(add).expect("room");
        for index in 0..2 {
            let assign = Control::Assign { shard: shard(index), epoch: Epoch(1), worker: WorkerIndex(0) };
            tables.submit(assign).expect("room");
        }
        assert_eq!(tables.poll(|_| 0, |_| 0), Some(Status::AssignFailed { shard: shard(1), epoch: Epoch(1) }));
    }

    #[test]
    fn a_set_that_is_known_changes_whether_actors_are_restarted_and_nothing_else() {
        let mut tables = tables();
        let mut again = |restart| {
            let (keys, actors_per_shard) = (KeySpace::Dense { count: 7 }, 9);
            let type_index = Some(0);
            let add = Control::AddSet { set: SET, tag: 78, type_index, keys, shards: 2, actors_per_shard, restart };
            tables.submit(add).expect("room");
            let (writes, _) = tables.take_changes()?;
            let [TableWrite::Set(3, entry)] = &writes[..] else { panic!("{writes:?}") };
            Some((entry.restarts, entry.tag, entry.shards, entry.record_units))
        };
        assert_eq!(again(RestartMode::Stop), None, "as before");
        assert_eq!(again(RestartMode::Restart), Some((u32::MAX, 77, 10, 3)));
        assert_eq!(again(RestartMode::Restart), None);
        assert_eq!(again(RestartMode::Limited { restarts: 1, window_ms: 1, parent: 0 }), None, "records have no room");
        assert_eq!(again(RestartMode::Escalate { parent: 3 }), None, "parents are fixed");
        assert_eq!(again(RestartMode::Stop), Some((0, 77, 10, 3)));
    }

    #[test]
    fn a_set_that_counts_restarts_has_longer_records_and_its_policy_in_its_entry() {
        let entry = |restart| {
            let mut tables = Tables::new(1, vec![RECORDS], 16, 64, 1000);
            tables.load(&[0]);
            let add = Control::AddSet {
                set: SET,
                tag: 77,
                type_index: Some(0),
                keys: KeySpace::Hashed,
                shards: 2,
                actors_per_shard: 4,
                restart,
            };
            tables.submit(add).expect("room");
            let (writes, _) = tables.take_changes().expect("a set has come");
            let mut entries = writes.iter().filter_map(|write| match write {
                TableWrite::Set(_, entry) => Some(*entry),
                _ => None,
            });
            let entry = entries.next_back().expect("its entry");
            (entry.record_units, entry.keeps, entry.restarts, entry.window_ms, entry.parent)
        };
        assert_eq!(entry(RestartMode::Stop), (3, 0, 0, 0, 0));
        assert_eq!(entry(RestartMode::Restart), (3, 0, u32::MAX, 0, 0));
        assert_eq!(entry(RestartMode::Escalate { parent: 9 }), (3, 0, 0, 0, 9));
        assert_eq!(entry(RestartMode::Limited { restarts: 2, window_ms: 50, parent: 9 }), (4, 1, 2, 50, 9));
    }
}
