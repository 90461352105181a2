//! The state and the one function that changes it.

use crate::command::{Command, CommandBody, Outcome};
use crate::limits::{LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN};
use crate::membership::Member;
use crate::operations::Operations;
use crate::sessions::Session;
use crate::sets::SetRecord;
use crate::shards::ShardRecord;
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_proto::control::{CoordinatorView, Refusal, RefusalCode};
use std::collections::BTreeMap;

record! {
    /// Everything that the coordinators agree on.
    pub struct ClusterState {
        /// The cluster's name; empty until the first record.
        pub(crate) cluster: String,
        pub(crate) lease_ms: u32,
        /// The last record applied.
        pub(crate) applied_index: u64,
        /// The last record that changed members, sets or shards: the placement index.
        pub(crate) view_index: u64,
        /// Ids given so far; none is given twice.
        pub(crate) last_node: u32,
        pub(crate) last_set: u16,
        pub(crate) last_session: u32,
        /// By number in the Raft group, as its own records say.
        pub(crate) coordinators: BTreeMap<u64, CoordinatorView>,
        /// By node id.
        pub(crate) members: BTreeMap<u32, Member>,
        /// By set id.
        pub(crate) sets: BTreeMap<u16, SetRecord>,
        /// By packed shard id.
        pub(crate) shards: BTreeMap<u32, ShardRecord>,
        /// By session number.
        pub(crate) sessions: BTreeMap<u32, Session>,
        pub(crate) operations: Operations,
    }
}

impl Default for ClusterState {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            lease_ms: LEASE_MS_DEFAULT,
            applied_index: 0,
            view_index: 0,
            last_node: 0,
            last_set: 0,
            last_session: 0,
            coordinators: BTreeMap::new(),
            members: BTreeMap::new(),
            sets: BTreeMap::new(),
            shards: BTreeMap::new(),
            sessions: BTreeMap::new(),
            operations: Operations::default(),
        }
    }
}

impl ClusterState {
    /// Applies the record at `index`. Indexes only grow; the Raft group's own records in between are skipped.
    ///
    /// # Panics
    /// When `index` is not beyond the last one: a bug of the caller that would fork the replicas.
    pub fn apply(&mut self, index: u64, command: &Command) -> Outcome {
        assert!(index > self.applied_index, "C1: record {index} after record {}", self.applied_index);
        self.applied_index = index;
        let Some(operation) = command.operation.filter(|_| !is_on(Mutant::OperationForgotten)) else {
            return self.execute(index, &command.body);
        };
        if let Some(outcome) = self.operations.recall(operation, &command.body) {
            return outcome;
        }
        let outcome = self.execute(index, &command.body);
        self.operations.remember(index, operation, &command.body, outcome.clone());
        outcome
    }

    /// The record at `index` is the Raft group's own, and says who the coordinators are from now on.
    pub fn set_coordinators(&mut self, index: u64, coordinators: BTreeMap<u64, CoordinatorView>) {
        self.applied_index = self.applied_index.max(index);
        if self.coordinators != coordinators {
            self.coordinators = coordinators;
            self.view_index = self.view_index.max(index);
        }
    }

    fn execute(&mut self, index: u64, body: &CommandBody) -> Outcome {
        match body {
            CommandBody::InitCluster { cluster, lease_ms } => self.init_cluster(cluster, *lease_ms),
            CommandBody::Join { name, boot, data_addr, http_addr, devices, types } => {
                self.join(index, name, *boot, data_addr, http_addr, devices, types)
            }
            CommandBody::MemberLost { incarnation } => Ok(self.member_lost(index, *incarnation)),
            CommandBody::Quarantine { incarnation, offset_ms } => Ok(self.quarantine(index, *incarnation, *offset_ms)),
            CommandBody::Leave { incarnation } => Ok(self.leave(index, *incarnation)),
            CommandBody::ApplySet { document } => self.apply_set(index, document),
            CommandBody::ScaleSet { set, workers, discard_state } => {
                self.scale_set(index, set, *workers, *discard_state)
            }
            CommandBody::DeleteSet { set } => self.delete_set(index, set),
            CommandBody::ShardsReleased { incarnation, shards } => self.shards_released(index, *incarnation, shards),
            CommandBody::DeviceChanged { incarnation, device, generation, up } => {
                self.device_changed(index, *incarnation, *device, *generation, *up)
            }
            CommandBody::OpenSession { role, name } => self.open_session(*role, name),
        }
        .into()
    }

    fn init_cluster(&mut self, cluster: &str, lease_ms: u32) -> Result<Outcome, Refusal> {
        if self.cluster.is_empty() {
            crate::validate::name("cluster name", cluster)?;
            self.cluster = cluster.to_owned();
            self.lease_ms = lease_ms.clamp(LEASE_MS_MIN, LEASE_MS_MAX);
            return Ok(Outcome::Done);
        }
        if self.cluster == cluster {
            return Ok(Outcome::Done);
        }
        let message = format!("the data is of cluster `{}`, not of `{cluster}`", self.cluster);
        Err(Refusal::new(RefusalCode::WrongCluster, message))
    }

    /// The cluster's name; empty before the first record.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// How long a lease lasts.
    #[must_use]
    pub const fn lease_ms(&self) -> u32 {
        self.lease_ms
    }

    /// The last record applied.
    #[must_use]
    pub const fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// The placement index: the last record that changed members, sets or shards.
    #[must_use]
    pub const fn view_index(&self) -> u64 {
        self.view_index
    }
}
