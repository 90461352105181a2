//! Residences of shards (C2). The only file that raises an epoch, in `ClusterState::settle`.
//!
//! ```text
//!              settle: epoch + 1                    release
//!   Pending ---------------------> Resident ------------------------> Releasing
//!      ^                              |                                   |
//!      |<-- orphan: node or device gone --- orphan: node or device gone --|
//!      |<---- released: the owner's own word, with the epoch -------------'
//!   (a shard of a set that is being deleted is removed instead of becoming pending)
//! ```
//! At most one owner per epoch: an owner is written only by `settle`, only on a pending shard, with an epoch that is one
//! higher than every earlier one of that shard.

use crate::command::Outcome;
use crate::state::ClusterState;
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{Epoch, SetId, ShardId, ShardIndex};
use ringfleet_proto::control::limits::RELEASED_MAX;
use ringfleet_proto::control::node::Released;
use ringfleet_proto::control::{Refusal, RefusalCode, SetState, ShardState};

record! {
    /// The worker that owns a shard.
    #[derive(Copy, PartialOrd, Ord)]
    pub struct Residence {
        /// The node.
        pub node: u32,
        /// The device of the node.
        pub device: u16,
        /// The worker of the device.
        pub worker: u16,
        /// The start of the node.
        pub incarnation: u64,
    }
}

record! {
    /// One shard.
    #[derive(Copy)]
    pub struct ShardRecord {
        /// What it is doing.
        pub state: ShardState,
        /// The owner, unless pending.
        pub owner: Option<Residence>,
        /// The number of this residence, or of the last one; 0: never resident.
        pub epoch: u64,
        /// The record at which this residence, or the lack of it, began.
        pub since_index: u64,
    }
}

impl ShardRecord {
    /// A shard that was never resident.
    pub(crate) const fn new(index: u64) -> Self {
        Self { state: ShardState::Pending, owner: None, epoch: Epoch::NONE.0, since_index: index }
    }
}

impl ClusterState {
    /// Gives a pending shard its next residence: the one place where an epoch is raised.
    pub(crate) fn settle(&mut self, index: u64, shard: ShardId, owner: Residence) {
        let Some(record) = self.shards.get_mut(&shard.pack()) else {
            panic!("C2: shard {shard} is settled and does not exist");
        };
        assert!(record.state == ShardState::Pending && record.owner.is_none(), "C2: shard {shard} has an owner");
        *record = ShardRecord {
            state: ShardState::Resident,
            owner: Some(owner),
            epoch: if is_on(Mutant::EpochNotRaised) && record.epoch > 0 {
                record.epoch
            } else {
                Epoch(record.epoch).next().0
            },
            since_index: index,
        };
        self.view_index = index;
    }

    /// Asks the owner of a resident shard to flush and release it.
    pub(crate) fn release(&mut self, index: u64, shard: ShardId) {
        if let Some(record) = self.shards.get_mut(&shard.pack())
            && record.state == ShardState::Resident
        {
            record.state = ShardState::Releasing;
            self.view_index = index;
        }
    }

    /// Takes the owner away from a shard; removes the shard if its set is being deleted, and the set with its last shard.
    fn vacate(&mut self, index: u64, shard: ShardId) {
        self.view_index = index;
        if self.sets.get(&shard.set.0).is_some_and(|set| set.state == SetState::Active) {
            if let Some(record) = self.shards.get_mut(&shard.pack()) {
                *record = ShardRecord { state: ShardState::Pending, owner: None, since_index: index, ..*record };
            }
            return;
        }
        self.shards.remove(&shard.pack());
        if self.shards_of(shard.set).next().is_none() {
            self.sets.remove(&shard.set.0);
        }
    }

    /// Vacates everything that a gone incarnation, or a lost device, owned.
    pub(crate) fn orphan_shards(&mut self, index: u64, gone: impl Fn(&Residence) -> bool) {
        let orphans: Vec<ShardId> = self
            .shards
            .iter()
            .filter(|(_, record)| record.owner.as_ref().is_some_and(&gone))
            .map(|(&packed, _)| ShardId::unpack(packed))
            .collect();
        for shard in orphans {
            self.vacate(index, shard);
        }
    }

    /// The owner's word that shards are flushed. What does not match (reported twice, or late) is passed over: the shard
    /// has moved on.
    pub(crate) fn shards_released(
        &mut self,
        index: u64,
        incarnation: u64,
        shards: &[Released],
    ) -> Result<Outcome, Refusal> {
        if shards.len() > RELEASED_MAX {
            let message = format!("{} released shards in one report, at most {RELEASED_MAX}", shards.len());
            return Err(Refusal::new(RefusalCode::LimitExceeded, message));
        }
        for released in shards {
            let shard = ShardId::new(SetId(released.set), ShardIndex(released.index));
            let matches = self.shards.get(&shard.pack()).is_some_and(|record| {
                record.state == ShardState::Releasing
                    && record.epoch == released.epoch
                    && record.owner.is_some_and(|owner| owner.incarnation == incarnation)
                    || is_on(Mutant::ReleaseOfAnotherEpoch) && record.owner.is_some()
            });
            if matches {
                self.vacate(index, shard);
            }
        }
        self.place_pending(index);
        Ok(Outcome::Done)
    }

    /// The shards of a set, by index.
    pub fn shards_of(&self, set: SetId) -> impl Iterator<Item = (ShardId, &ShardRecord)> {
        let first = ShardId::new(set, ShardIndex(0)).pack();
        let last = ShardId::new(set, ShardIndex(u16::MAX)).pack();
        self.shards.range(first..=last).map(|(&packed, record)| (ShardId::unpack(packed), record))
    }

    /// All shards, by set and index.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &ShardRecord)> {
        self.shards.iter().map(|(&packed, record)| (ShardId::unpack(packed), record))
    }

    /// One shard.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<&ShardRecord> {
        self.shards.get(&shard.pack())
    }
}
