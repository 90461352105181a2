//! Views, directories and lists: what is told about the state (C1). The caller has made sure that the state is current.

use crate::devices::DeviceState;
use crate::leases::LeaseTable;
use crate::membership::{Member, MemberState};
use crate::sets::SetRecord;
use crate::shards::ShardRecord;
use crate::state::ClusterState;
use ringfleet_abi::{SetId, ShardId};
use ringfleet_proto::control::{
    AdminAnswer, ClusterStatus, CoordinatorView, DeviceReport, DeviceView, FailureView, Load, MemberView, NodeInfo,
    NodeState, NodeView, Refusal, RefusalCode, SetDetail, SetInfo, SetView, ShardState, ShardView, TypeInfo,
};
use std::collections::{BTreeMap, BTreeSet};

/// Shards by what they are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShardCounts {
    /// Without an owner.
    pub pending: u32,
    /// With an owner.
    pub resident: u32,
    /// Being released.
    pub releasing: u32,
    /// Resident, and the node has said that it is in effect.
    pub in_effect: u32,
}

/// What the leader adds to the state when it answers: its leases and the time.
#[derive(Clone, Copy, Debug)]
pub struct Liveness<'a> {
    /// The leader's leases.
    pub leases: &'a LeaseTable,
    /// Now, on the clock of the leases.
    pub now_ns: u64,
}

impl Liveness<'_> {
    fn applied_index(&self, incarnation: u64) -> u64 {
        self.leases.node(incarnation).map_or(0, |node| node.applied_index)
    }

    fn in_effect(&self, record: &ShardRecord) -> bool {
        let owner = record.owner.filter(|_| record.state == ShardState::Resident);
        owner.is_some_and(|owner| self.applied_index(owner.incarnation) >= record.since_index)
    }
}

fn member_view(member: &Member) -> MemberView {
    MemberView {
        node: member.node,
        name: member.name.clone(),
        incarnation: member.incarnation,
        data_addr: member.data_addr.clone(),
        http_addr: member.http_addr.clone(),
        devices: member.devices.iter().zip(&member.device_states).map(device_view).collect(),
    }
}

fn device_view((report, state): (&DeviceReport, &DeviceState)) -> DeviceView {
    let DeviceState { generation, up, since_index } = *state;
    DeviceView { workers: report.workers, generation, up, since_index }
}

fn set_view(record: &SetRecord) -> SetView {
    let spec = &record.document.spec;
    SetView {
        set: record.set,
        name: record.name().to_owned(),
        tag: record.tag,
        actor_type: spec.actor_type.clone(),
        code_hash: record.code_hash,
        layout_hash: record.layout_hash,
        keys: spec.keys,
        shards: spec.shards,
        failures: FailureView::of(spec),
        durability: spec.durability,
        tenant: spec.tenant.clone(),
        state: record.state,
    }
}

fn shard_view(shard: ShardId, record: &ShardRecord) -> ShardView {
    let owner = record.owner;
    ShardView {
        set: shard.set.0,
        index: shard.index.0,
        state: record.state,
        device: owner.map_or(0, |owner| owner.device),
        worker: owner.map_or(0, |owner| owner.worker),
        node: owner.map_or(0, |owner| owner.node),
        incarnation: owner.map_or(0, |owner| owner.incarnation),
        epoch: record.epoch,
        since_index: record.since_index,
    }
}

impl ClusterState {
    /// What nodes and clients need to route and to fence.
    #[must_use]
    pub fn node_view(&self) -> NodeView {
        NodeView {
            index: self.view_index,
            coordinators: self.coordinator_views(),
            members: self.alive().map(member_view).collect(),
            sets: self.sets.values().map(set_view).collect(),
            shards: self.shards().map(|(shard, record)| shard_view(shard, record)).collect(),
        }
    }

    fn coordinator_views(&self) -> Vec<CoordinatorView> {
        let mut views: Vec<CoordinatorView> = self.coordinators.values().cloned().collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// The shards of one set or of all.
    ///
    /// # Errors
    /// `unknown_set`.
    pub fn shard_views(&self, set: Option<&str>) -> Result<Vec<ShardView>, Refusal> {
        let set = match set {
            Some(name) => Some(self.set_named(name).ok_or_else(|| self.no_set(name))?.set),
            None => None,
        };
        let wanted = self.shards().filter(|(shard, _)| set.is_none_or(|set| shard.set == SetId(set)));
        Ok(wanted.map(|(shard, record)| shard_view(shard, record)).collect())
    }

    /// Counts shards, of one set or of all.
    #[must_use]
    pub fn shard_counts(&self, set: Option<SetId>, live: &Liveness<'_>) -> ShardCounts {
        let mut counts = ShardCounts::default();
        for (_, record) in self.shards().filter(|(shard, _)| set.is_none_or(|set| shard.set == set)) {
            match record.state {
                ShardState::Pending => counts.pending += 1,
                ShardState::Resident => counts.resident += 1,
                ShardState::Releasing => counts.releasing += 1,
            }
            counts.in_effect += u32::from(live.in_effect(record));
        }
        counts
    }

    fn node_info(&self, member: &Member, live: &Liveness<'_>) -> NodeInfo {
        let owned = |(_, record): &(ShardId, &ShardRecord)| {
            record.owner.is_some_and(|owner| owner.incarnation == member.incarnation)
        };
        let known = live.leases.node(member.incarnation);
        let clock = live.leases.clocks().of(member.incarnation, live.now_ns);
        NodeInfo {
            node: member.node,
            name: member.name.clone(),
            incarnation: member.incarnation,
            state: match member.state {
                MemberState::Alive => NodeState::Alive,
                MemberState::Lost => NodeState::Lost,
                MemberState::Left => NodeState::Left,
            },
            data_addr: member.data_addr.clone(),
            http_addr: member.http_addr.clone(),
            devices: member.devices.clone(),
            devices_lost: member.devices.iter().map(|d| d.index).filter(|&device| !member.is_up(device)).collect(),
            types: member.types.iter().map(|report| report.name.clone()).collect(),
            shards: self.shards().filter(owned).count() as u32,
            applied_index: live.applied_index(member.incarnation),
            lease_left_ms: if member.is_alive() { live.leases.left_ms(member.incarnation, live.now_ns) } else { 0 },
            clock_offset_ms: clock.offset_ms,
            clock_error_ms: clock.error_ms,
            quarantined: member.is_alive() && member.quarantine_ms.is_some(),
            load: known.map_or(Load::default(), |node| node.load),
        }
    }

    /// All nodes that are remembered, by id.
    #[must_use]
    pub fn node_infos(&self, live: &Liveness<'_>) -> Vec<NodeInfo> {
        self.members().map(|member| self.node_info(member, live)).collect()
    }

    /// One node in full.
    ///
    /// # Errors
    /// `unknown_node`.
    pub fn node_detail(&self, name: &str, live: &Liveness<'_>) -> Result<AdminAnswer, Refusal> {
        let Some(member) = self.members().find(|member| member.name == name) else {
            let known: Vec<&str> = self.members().map(|member| member.name.as_str()).collect();
            let message = format!("there is no node `{name}`; known nodes: {}", known.join(", "));
            return Err(Refusal::new(RefusalCode::UnknownNode, message));
        };
        let owned = self
            .shards()
            .filter(|(_, record)| record.owner.is_some_and(|owner| owner.incarnation == member.incarnation));
        Ok(AdminAnswer::NodeDetail {
            info: Box::new(self.node_info(member, live)),
            types: member.types.clone(),
            shards: owned.map(|(shard, record)| shard_view(shard, record)).collect(),
        })
    }

    fn set_info(&self, record: &SetRecord, live: &Liveness<'_>) -> SetInfo {
        let counts = self.shard_counts(Some(SetId(record.set)), live);
        let workers: BTreeSet<_> = self.shards_of(SetId(record.set)).filter_map(|(_, shard)| shard.owner).collect();
        SetInfo {
            set: record.set,
            document: record.document.clone(),
            state: record.state,
            pending: counts.pending,
            resident: counts.resident,
            releasing: counts.releasing,
            in_effect: counts.in_effect,
            workers_used: workers.len() as u32,
            code_hash: record.code_hash,
            layout_hash: record.layout_hash,
        }
    }

    /// All sets, by id.
    #[must_use]
    pub fn set_infos(&self, live: &Liveness<'_>) -> Vec<SetInfo> {
        self.sets.values().map(|record| self.set_info(record, live)).collect()
    }

    /// One set in full.
    ///
    /// # Errors
    /// `unknown_set`.
    pub fn set_detail(&self, name: &str, live: &Liveness<'_>) -> Result<SetDetail, Refusal> {
        let record = self.set_named(name).ok_or_else(|| self.no_set(name))?;
        Ok(SetDetail {
            info: self.set_info(record, live),
            layout: record.layout.clone(),
            shards: self.shard_views(Some(name))?,
        })
    }

    /// The actor types that live nodes report, one entry per code and layout.
    #[must_use]
    pub fn type_infos(&self) -> Vec<TypeInfo> {
        let mut types: BTreeMap<(&str, u64, u64), TypeInfo> = BTreeMap::new();
        for member in self.alive() {
            for report in &member.types {
                let key = (report.name.as_str(), report.layout_hash, report.code_hash);
                let info = types.entry(key).or_insert_with(|| TypeInfo { report: report.clone(), nodes: Vec::new() });
                info.nodes.push(member.name.clone());
            }
        }
        types.into_values().collect()
    }

    /// The cluster in one page; what the Raft group knows (leader, term, last index, voters) is the caller's to fill in.
    #[must_use]
    pub fn status(&self, live: &Liveness<'_>) -> ClusterStatus {
        let counts = self.shard_counts(None, live);
        let alive = self.alive().count();
        ClusterStatus {
            cluster: self.cluster.clone(),
            leader: String::new(),
            term: 0,
            last_index: self.applied_index,
            index: self.view_index,
            coordinators: 0,
            nodes_alive: alive as u32,
            nodes_gone: (self.members.len() - alive) as u32,
            sets: self.sets.len() as u32,
            shards_pending: counts.pending,
            shards_resident: counts.resident,
            shards_releasing: counts.releasing,
            shards_in_effect: counts.in_effect,
            lease_ms: self.lease_ms,
        }
    }
}
