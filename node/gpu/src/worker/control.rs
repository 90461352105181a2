//! Controls, each between two batches.

use ringfleet_abi::{Control, ControlWord, DeadReason, Envelope, Epoch, SetId, ShardId, Status, WorkerIndex};

use super::{Core, Worker};
use crate::sets::NewSet;
use crate::shard::Shard;

/// Status slots that one control may need, and that failures of actors leave free.
const STATUS_RESERVE: u32 = 4;

/// A dense shard with more keys than this, and many more than it may hold actors, finds them through a table.
const DENSE_KEYS_INDEXED: u64 = 1 << 16;
/// A dense shard with more keys than this finds them through a table, however many actors it may hold: the index of its
/// blocks would take megabytes before the first actor.
const DENSE_KEYS_INDEXED_MAX: u64 = 1 << 26;

fn dense_keys_max(actors_max: u32) -> u64 {
    DENSE_KEYS_INDEXED.max(4 * u64::from(actors_max)).min(DENSE_KEYS_INDEXED_MAX)
}

impl Worker {
    /// Carries out what has been submitted; says whether there was anything. Bounded by the control ring.
    pub(super) fn take_controls(&mut self) -> bool {
        let count = self.control.poll();
        for done in 0..count {
            // An answer always has room: without it the control stays where it is.
            if self.core.status.credit() < STATUS_RESERVE && self.core.status.free() < STATUS_RESERVE {
                return done > 0;
            }
            let word: ControlWord = bytemuck::cast(self.control.peek(0));
            self.control.release(1);
            match Control::decode(&word) {
                Ok(control) => self.carry_out(control),
                Err(bad) => panic!("C9: the host's port encodes controls, {bad}"),
            }
            self.counters_changed = true;
        }
        count > 0
    }

    fn carry_out(&mut self, control: Control) {
        match control {
            Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart } => {
                let ty = type_index.and_then(|at| self.types.get(at as usize).copied());
                let counts = &self.page.workers[self.core.index as usize].sets;
                self.core.sets.add(NewSet { set, tag, ty, keys, shards, actors_per_shard, restart }, counts);
            }
            Control::RemoveSet { set } => self.core.sets.remove(set, &self.page.workers[self.core.index as usize].sets),
            Control::Assign { shard, epoch, .. } => self.core.assign(shard, epoch),
            Control::Release { shard, epoch } => self.core.release(shard, epoch),
            Control::Route { shard, target } => self.core.sets.stage_route(shard, target),
            Control::RouteCommit { version } => self.adopt_routes(version),
            // The host's port writes the lease into the shared page, where a worker sees it in the midst of a batch.
            Control::Lease { .. } => {}
            Control::Pause => self.paused = true,
            Control::Resume => self.paused = false,
            Control::Stop => self.ended = true,
        }
    }

    fn adopt_routes(&mut self, version: u64) {
        let workers = self.routes.received.len() as u16;
        self.core.sets.adopt_routes(workers);
        self.routes.adopted = version.max(self.routes.adopted);
        let egress = self.core.out.egress as usize;
        self.routes.egress_pushed = self.core.out.lanes[egress].pushed();
        let marker = Envelope::route_marker(WorkerIndex(self.core.index), version);
        for lane in &mut self.core.out.lanes[..workers as usize] {
            lane.push_marker(&marker);
        }
    }
}

impl Core {
    fn assign(&mut self, shard: ShardId, epoch: Epoch) {
        let worker = WorkerIndex(self.index);
        let failed = Status::AssignFailed { shard, epoch };
        let Some(entry) = self.sets.get_mut(shard.set.0).filter(|entry| entry.ty.is_some()) else {
            return self.report(failed);
        };
        let Some(place) = entry.local.get_mut(shard.index.0 as usize).filter(|place| place.is_none()) else {
            return self.report(failed);
        };
        let resident = match entry.map.range(shard.index) {
            Some((first, keys)) if keys <= dense_keys_max(entry.actors_per_shard) => {
                Shard::dense(epoch, first, keys, entry.actors_per_shard, entry.arena.layout())
            }
            _ => Shard::hashed(epoch, entry.actors_per_shard),
        };
        self.residences += 1;
        *place = Some(Box::new(resident.residence(self.residences)));
        entry.resident += 1;
        self.report(Status::Assigned { shard, epoch, worker });
    }

    fn release(&mut self, shard: ShardId, epoch: Epoch) {
        if let Some(entry) = self.sets.get_mut(shard.set.0)
            && let Some(place) = entry.local.get_mut(shard.index.0 as usize)
            && let Some(resident) = place.take_if(|resident| resident.epoch == epoch)
        {
            entry.resident -= 1;
            self.out.counters.actors_now -= u64::from(resident.live);
            entry.count_actors(-i64::from(resident.live));
            resident.dissolve(&mut entry.arena);
            let dropped = self.timers.drop_shard(shard.pack());
            self.out.counters.dead[DeadReason::ActorGone as usize] += u64::from(dropped);
        }
        self.report(Status::Released { shard, epoch });
    }

    /// Answers a control; there is room.
    fn report(&mut self, status: Status) {
        let pushed = self.status.push(&bytemuck::cast(status.encode()));
        assert!(pushed, "C9: a control is taken only while its answer has room");
        self.status.publish();
        self.driver_news = true;
    }

    /// Reports a failed actor, unless the status ring is half full: then it is only counted.
    pub(super) fn report_failure(&mut self, set: u16, key: u64, fault: u32) {
        let half = self.status.capacity() / 2;
        if self.status.credit() > half || self.status.free() > half {
            let actor = ringfleet_abi::ActorId::new(SetId(set), key);
            self.report(Status::ActorFailed { actor, fault });
        }
    }
}
