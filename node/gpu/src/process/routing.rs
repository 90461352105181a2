//! The agent's copy of who owns which shard: it decides to which worker an envelope is pushed.
//!
//! The device process decides what is possible; this copy only follows the controls that were sent and the statuses that came. A worker
//! that is given an envelope of a shard that it does not own answers or dead-letters it, so a copy that is behind costs nothing but that
//! answer; drivers push to a shard after its `Assigned` anyway.

use ringfleet_abi::{Control, Envelope, Epoch, SetId, ShardId, Status, WorkerIndex};

use crate::sets::ShardMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Free,
    Owned { worker: WorkerIndex, epoch: Epoch },
    Leaving { worker: WorkerIndex, epoch: Epoch },
}

#[derive(Debug)]
struct Set {
    map: ShardMap,
    owners: Box<[Owner]>,
    /// The last residence of each shard that was released.
    last: Box<[Epoch]>,
}

/// What the copy knows of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residence {
    /// Nobody has it; this was the last residence that ended.
    None { last: Epoch },
    /// It has an owner, or had one that has not been told gone.
    At { worker: WorkerIndex, epoch: Epoch, leaving: bool },
}

/// The copy.
#[derive(Debug)]
pub(crate) struct Routing {
    workers: u16,
    sets: Vec<Option<Set>>,
    /// The last route commit that was sent.
    committed: u64,
}

impl Routing {
    pub(crate) fn new(workers: u16) -> Self {
        Self { workers, sets: Vec::new(), committed: 0 }
    }

    /// A control that has been sent.
    pub(crate) fn sent(&mut self, control: &Control) {
        match *control {
            Control::AddSet { set, keys, shards, .. } => {
                let at = usize::from(set.0);
                if self.sets.len() <= at {
                    self.sets.resize_with(at + 1, || None);
                }
                let owners = vec![Owner::Free; usize::from(shards)].into();
                let last = vec![Epoch::NONE; usize::from(shards)].into();
                self.sets[at].get_or_insert(Set { map: ShardMap::new(keys, shards), owners, last });
            }
            Control::RemoveSet { set } => {
                if let Some(place) = self.sets.get_mut(usize::from(set.0))
                    && place.as_ref().is_some_and(|set| set.owners.iter().all(|owner| *owner == Owner::Free))
                {
                    *place = None;
                }
            }
            Control::Assign { shard, epoch, worker } if worker.0 < self.workers => {
                if let Some(owner) = self.owner_mut(shard)
                    && !matches!(owner, Owner::Owned { .. })
                {
                    *owner = Owner::Owned { worker, epoch };
                }
            }
            Control::Release { shard, epoch } => {
                if let Some(owner) = self.owner_mut(shard)
                    && let Owner::Owned { worker, epoch: now } = *owner
                    && now == epoch
                {
                    *owner = Owner::Leaving { worker, epoch };
                }
            }
            Control::RouteCommit { version } => self.committed = self.committed.max(version),
            _ => {}
        }
    }

    /// A status that has come; `false` if it cannot be true.
    pub(crate) fn came(&mut self, status: &Status) -> bool {
        match *status {
            Status::Assigned { worker, .. }
            | Status::WorkerLost { worker }
            | Status::WorkerStalled { worker }
            | Status::WorkerResumed { worker } => worker.0 < self.workers,
            Status::AssignFailed { shard, epoch } => {
                if let Some(owner) = self.owner_mut(shard)
                    && matches!(*owner, Owner::Owned { epoch: now, .. } if now == epoch)
                {
                    *owner = Owner::Free;
                }
                true
            }
            Status::Released { shard, epoch } => {
                if let Some(owner) = self.owner_mut(shard)
                    && matches!(*owner, Owner::Leaving { epoch: now, .. } if now == epoch)
                {
                    *owner = Owner::Free;
                    if let Some(Some(set)) = self.sets.get_mut(usize::from(shard.set.0)) {
                        set.last[usize::from(shard.index.0)] = epoch;
                    }
                }
                true
            }
            Status::RouteFlushed { version } => version <= self.committed,
            _ => true,
        }
    }

    /// The worker that an envelope is pushed to.
    pub(crate) fn worker_of(&self, envelope: &Envelope) -> WorkerIndex {
        let shard = envelope.as_gate_marker().or_else(|| {
            let set = self.set(SetId(envelope.to_set))?;
            Some(ShardId::new(SetId(envelope.to_set), set.map.shard_of(envelope.to_key)?))
        });
        let owner = shard.and_then(|shard| self.set(shard.set)?.owners.get(usize::from(shard.index.0)));
        match owner {
            Some(Owner::Owned { worker, .. } | Owner::Leaving { worker, .. }) => *worker,
            Some(Owner::Free) | None => WorkerIndex(0),
        }
    }

    /// Where a shard is; `None` if it is of no set that is known here.
    pub(crate) fn residence(&self, shard: ShardId) -> Option<Residence> {
        let set = self.set(shard.set)?;
        let at = usize::from(shard.index.0);
        Some(match *set.owners.get(at)? {
            Owner::Free => Residence::None { last: set.last[at] },
            Owner::Owned { worker, epoch } => Residence::At { worker, epoch, leaving: false },
            Owner::Leaving { worker, epoch } => Residence::At { worker, epoch, leaving: true },
        })
    }

    /// Whether some shard of a set has an owner.
    pub(crate) fn is_used(&self, set: SetId) -> bool {
        self.set(set).is_some_and(|set| set.owners.iter().any(|owner| *owner != Owner::Free))
    }

    fn set(&self, set: SetId) -> Option<&Set> {
        self.sets.get(usize::from(set.0))?.as_ref()
    }

    fn owner_mut(&mut self, shard: ShardId) -> Option<&mut Owner> {
        self.sets.get_mut(usize::from(shard.set.0))?.as_mut()?.owners.get_mut(usize::from(shard.index.0))
    }
}

#[cfg(test)]
mod tests {
    use ringfleet_abi::{KeySpace, RestartMode, ShardIndex};

    use super::*;

    const SET: SetId = SetId(3);

    fn to(key: u64) -> Envelope {
        Envelope { to_set: SET.0, to_key: key, ..Envelope::default() }
    }

    #[test]
    fn envelopes_go_where_the_controls_said_until_the_release_is_told() {
        let mut routing = Routing::new(4);
        let keys = KeySpace::Dense { count: 20 };
        let (tag, restart) = (9, RestartMode::Stop);
        routing.sent(&Control::AddSet {
            set: SET,
            tag,
            type_index: Some(0),
            keys,
            shards: 2,
            actors_per_shard: 10,
            restart,
        });
        let shard = ShardId::new(SET, ShardIndex(1));
        assert_eq!(routing.worker_of(&to(15)), WorkerIndex(0));
        routing.sent(&Control::Assign { shard, epoch: Epoch(1), worker: WorkerIndex(2) });
        assert_eq!((routing.worker_of(&to(15)), routing.worker_of(&to(5))), (WorkerIndex(2), WorkerIndex(0)));
        assert_eq!(routing.worker_of(&Envelope::gate_marker(shard)), WorkerIndex(2));
        routing.sent(&Control::Release { shard, epoch: Epoch(1) });
        assert_eq!(routing.worker_of(&to(15)), WorkerIndex(2), "still leaving");
        routing.sent(&Control::RemoveSet { set: SET });
        assert!(routing.came(&Status::Released { shard, epoch: Epoch(1) }));
        assert_eq!(routing.worker_of(&to(15)), WorkerIndex(0));
        routing.sent(&Control::Assign { shard, epoch: Epoch(2), worker: WorkerIndex(3) });
        assert!(routing.came(&Status::AssignFailed { shard, epoch: Epoch(2) }));
        assert_eq!(routing.worker_of(&to(15)), WorkerIndex(0));
    }

    #[test]
    fn statuses_that_cannot_be_are_found() {
        let mut routing = Routing::new(4);
        routing.sent(&Control::RouteCommit { version: 7 });
        assert!(routing.came(&Status::RouteFlushed { version: 7 }));
        assert!(!routing.came(&Status::RouteFlushed { version: 8 }));
        let shard = ShardId::new(SET, ShardIndex(1));
        assert!(!routing.came(&Status::Assigned { shard, epoch: Epoch(1), worker: WorkerIndex(4) }));
        assert!(!routing.came(&Status::WorkerLost { worker: WorkerIndex(512) }));
    }
}
