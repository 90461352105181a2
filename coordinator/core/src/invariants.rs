//! What holds after every record. Checked by tests after each step of random histories, and by the simulator.

use crate::shards::Residence;
use crate::state::ClusterState;
use ringfleet_abi::{SetId, ShardId};
use ringfleet_proto::control::{SetState, ShardState};
use std::collections::BTreeSet;

impl ClusterState {
    /// The state without its long tails: of sessions and remembered operations only the youngest `kept`. What is compared and kept after
    /// every record costs the same however old the cluster is; records change the rest in no other way than by forgetting it.
    #[must_use]
    pub fn recent(&self, kept: usize) -> Self {
        let sessions = self.sessions.iter().rev().take(kept);
        Self {
            cluster: self.cluster.clone(),
            lease_ms: self.lease_ms,
            applied_index: self.applied_index,
            view_index: self.view_index,
            last_node: self.last_node,
            last_set: self.last_set,
            last_session: self.last_session,
            coordinators: self.coordinators.clone(),
            members: self.members.clone(),
            sets: self.sets.clone(),
            shards: self.shards.clone(),
            sessions: sessions.map(|(number, session)| (*number, session.clone())).collect(),
            operations: self.operations.recent(kept),
        }
    }

    /// Checks everything that can be seen in one state.
    ///
    /// # Errors
    /// The sentence that does not hold, with its contract label.
    pub fn check(&self) -> Result<(), String> {
        self.check_members()?;
        for (shard, record) in self.shards() {
            let context = || format!("shard {shard}: {record:?}");
            let Some(set) = self.sets.get(&shard.set.0) else {
                return Err(format!("C1: a shard without a set, {}", context()));
            };
            if (record.state == ShardState::Pending) != record.owner.is_none() {
                return Err(format!("C2: pending means no owner, {}", context()));
            }
            if record.owner.is_some() && record.epoch == 0 {
                return Err(format!("C2: a residence has an epoch, {}", context()));
            }
            if set.state == SetState::Deleting && record.state != ShardState::Releasing {
                return Err(format!("C1: a deleting set only releases, {}", context()));
            }
            if record.since_index > self.view_index {
                return Err(format!("C1: a change beyond the placement index, {}", context()));
            }
            let Some(owner) = record.owner else { continue };
            let Some(member) = self.alive().find(|member| member.incarnation == owner.incarnation) else {
                return Err(format!("C2: an owner that is not alive, {}", context()));
            };
            let device = member.device_states.get(usize::from(owner.device));
            if !device.is_some_and(|device| device.up && device.since_index <= record.since_index) {
                return Err(format!("C2: an owner on a device that was lost, {}", context()));
            }
            let workers = member.devices.get(usize::from(owner.device)).map_or(0, |device| device.workers);
            let report = member.actor_type(&set.document.spec.actor_type);
            let carries = report.is_some_and(|r| (r.code_hash, r.layout_hash) == (set.code_hash, set.layout_hash));
            let placement = &set.document.spec.placement.nodes;
            let placed = placement.is_empty() || placement.contains(&member.name);
            if record.state == ShardState::Resident && !placed {
                return Err(format!("C1: an owner that the set's placement does not name, {}", context()));
            }
            if member.node != owner.node || owner.worker >= workers || !carries {
                return Err(format!("C1: an owner that cannot run the shard, {}", context()));
            }
        }
        self.check_sets()
    }

    fn check_members(&self) -> Result<(), String> {
        let names: BTreeSet<_> = self.members().map(|member| &member.name).collect();
        let incarnations: BTreeSet<_> = self.members().map(|member| member.incarnation).collect();
        if names.len() != self.members.len() || incarnations.len() != self.members.len() {
            return Err("C2: names and incarnations are unique".to_owned());
        }
        match self.members().find(|member| member.node > self.last_node || member.incarnation > self.view_index) {
            Some(member) => Err(format!("C2: an id that was never given, {member:?}")),
            None => Ok(()),
        }
    }

    fn check_sets(&self) -> Result<(), String> {
        let tags: BTreeSet<u32> = self.sets().map(|set| set.tag).collect();
        if tags.len() != self.sets.len() {
            return Err("C1: tags are unique".to_owned());
        }
        for set in self.sets() {
            let shards = self.shards_of(SetId(set.set)).count();
            let fits = match set.state {
                SetState::Active => shards == usize::from(set.document.spec.shards),
                SetState::Deleting => (1..=usize::from(set.document.spec.shards)).contains(&shards),
            };
            if !fits {
                return Err(format!("C1: set {} has {shards} shards", set.name()));
            }
            let used: BTreeSet<_> = self
                .shards_of(SetId(set.set))
                .filter(|(_, record)| record.state == ShardState::Resident)
                .filter_map(|(_, record)| record.owner)
                .collect();
            if used.len() > set.bound() as usize {
                return Err(format!("C9: set {} occupies {} workers of {}", set.name(), used.len(), set.bound()));
            }
        }
        Ok(())
    }

    /// Checks what must hold between a state and a later one.
    ///
    /// # Errors
    /// The sentence that does not hold, with its contract label.
    pub fn check_since(&self, before: &ClusterState) -> Result<(), String> {
        if self.view_index < before.view_index
            || self.last_set < before.last_set
            || self.last_node < before.last_node
            || self.last_session < before.last_session
        {
            return Err("C1: a counter went back".to_owned());
        }
        let changed = |state: &ClusterState| {
            let mut view = state.node_view();
            view.index = 0;
            view
        };
        if self.view_index == before.view_index && changed(self) != changed(before) {
            return Err("C1: the view changed and the placement index did not".to_owned());
        }
        for (shard, record) in self.shards() {
            let Some(old) = before.shard(shard) else { continue };
            if record.epoch < old.epoch {
                return Err(format!("C2: the epoch of {shard} fell from {} to {}", old.epoch, record.epoch));
            }
            let both_owned = record.owner.is_some() && old.owner.is_some();
            if record.epoch == old.epoch && both_owned && record.owner != old.owner {
                return Err(format!("C2: {shard} has two owners in epoch {}", record.epoch));
            }
            let kept_away = |owner: &Residence| {
                let quarantined = |state: &ClusterState| {
                    state.alive().any(|m| m.incarnation == owner.incarnation && m.quarantine_ms.is_some())
                };
                quarantined(before) && quarantined(self)
            };
            if record.epoch > old.epoch && record.owner.as_ref().is_some_and(kept_away) {
                return Err(format!("C6: {shard} was placed on a quarantined node"));
            }
            if record.epoch == old.epoch && old.owner.is_none() && record.owner.is_some() {
                return Err(format!("C2: {shard} got an owner without a new epoch"));
            }
        }
        match self.shards().find(|(shard, _)| shard.set.0 > before.last_set && shard.set.0 > self.last_set) {
            Some((shard, _)) => Err(format!("C1: a set id that was never given, {}", ShardId::pack(shard))),
            None => Ok(()),
        }
    }
}
