//! Placement as nodes and clients see it (C1, C2).
//!
//! A view is complete: what is not in it does not exist at its index. Nodes pull it by a long poll and apply it as a whole.
//!
//! ```text
//!   shard:  Pending --placed (epoch + 1)--> Resident --planned move--> Releasing --released--> Pending or Resident (epoch + 1)
//!                                              |                           |
//!                                              +-- node or device lost ----+--> Pending or Resident elsewhere, empty
//! ```
//! An incarnation is the index of the log record that admitted it, so a reader knows from its view alone whether an
//! incarnation is alive ([`NodeView::fence`]), without a growing list of dead ones.

use super::document::{Durability, Keys, SetSpec, restart_mode};
use super::limits::{DEVICE_VIEW_BYTES, MEMBER_VIEW_BYTES};
use ringfleet_abi::{
    DeviceIndex, Epoch, Incarnation, NodeId, RestartBudget, RestartMode, SetId, ShardId, ShardIndex, WorkerIndex,
};

wire! {
    /// A live member.
    pub struct MemberView {
        /// Its id; never reused.
        pub node: u32,
        /// Its name, also the one in its certificate.
        pub name: String,
        /// This start of it; never reused.
        pub incarnation: u64,
        /// Where nodes and clients reach it, as `host:port`.
        pub data_addr: String,
        /// Where it serves health and metrics, as `host:port`.
        pub http_addr: String,
        /// Its devices, by index.
        pub devices: Vec<DeviceView>,
    }
}

wire! {
    /// A device of a live member.
    #[derive(Copy)]
    pub struct DeviceView {
        /// Its workers.
        pub workers: u16,
        /// Its start within the incarnation that the log knows last, from 1.
        pub generation: u32,
        /// Whether that one is up. No shard lives on a device that is not.
        pub up: bool,
        /// The log index at which that became so. Residences on it began later.
        pub since_index: u64,
    }
}

impl DeviceView {
    /// A device that came with its node's join.
    #[must_use]
    pub const fn joined(workers: u16, since_index: u64) -> Self {
        Self { workers, generation: 1, up: true, since_index }
    }
}

impl MemberView {
    /// Bytes that a member with these texts and so many devices takes in a view, at most.
    #[must_use]
    pub fn bytes_max(name: &str, data_addr: &str, http_addr: &str, devices: usize) -> usize {
        MEMBER_VIEW_BYTES + name.len() + data_addr.len() + http_addr.len() + devices * DEVICE_VIEW_BYTES
    }

    /// Its id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId(self.node)
    }

    /// Its incarnation.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation)
    }
}

wire! {
    /// What a set is doing.
    #[derive(Copy, Hash)]
    #[serde(rename_all = "lowercase")]
    pub enum SetState {
        /// It takes messages wherever its shards are resident.
        Active,
        /// Its shards are being released; it takes no messages.
        Deleting,
    }
}

wire! {
    /// What becomes of failed actors, in the numbers of [`RestartBudget`]. The default is that they stay failed.
    #[derive(Copy, Default, Hash)]
    pub struct FailureView {
        /// Restarts in a window.
        pub restarts: u32,
        /// The length of a window.
        pub window_ms: u32,
        /// Tag of the parent set's name.
        pub parent: u32,
    }
}

impl FailureView {
    /// What a document says.
    #[must_use]
    pub fn of(spec: &SetSpec) -> Self {
        let RestartBudget { restarts, window_ms, parent } =
            restart_mode(spec.restart, spec.on_failure.as_ref()).budget();
        Self { restarts, window_ms, parent }
    }

    /// What a device is told.
    #[must_use]
    pub fn mode(&self) -> RestartMode {
        RestartBudget { restarts: self.restarts, window_ms: self.window_ms, parent: self.parent }.mode()
    }
}

wire! {
    /// A set.
    pub struct SetView {
        /// Its id; never reused.
        pub set: u16,
        /// Its name.
        pub name: String,
        /// Hash of the name, by which device code finds the set.
        pub tag: u32,
        /// Its actor type.
        pub actor_type: String,
        /// The type's code.
        pub code_hash: u64,
        /// The type's state layout.
        pub layout_hash: u64,
        /// Its key space.
        pub keys: Keys,
        /// How many shards.
        pub shards: u16,
        /// What becomes of failed actors.
        pub failures: FailureView,
        /// What survives a loss.
        pub durability: Durability,
        /// Whose it is.
        pub tenant: String,
        /// What it is doing.
        pub state: SetState,
    }
}

impl SetView {
    /// Its id.
    #[must_use]
    pub fn set_id(&self) -> SetId {
        SetId(self.set)
    }
}

wire! {
    /// What a shard is doing.
    #[derive(Copy, Hash, PartialOrd, Ord)]
    #[serde(rename_all = "lowercase")]
    pub enum ShardState {
        /// Nobody owns it; `node` is 0.
        Pending,
        /// The owner runs it at `epoch`.
        Resident,
        /// The owner must flush its routes, release it and report; nobody else may run it yet.
        Releasing,
    }
}

wire! {
    /// Where a shard lives.
    #[derive(Copy)]
    pub struct ShardView {
        /// Its set.
        pub set: u16,
        /// Its index in the set.
        pub index: u16,
        /// What it is doing.
        pub state: ShardState,
        /// The owner's device. Meaningless when pending.
        pub device: u16,
        /// The owner's worker on that device. Meaningless when pending.
        pub worker: u16,
        /// The owner, 0 when pending.
        pub node: u32,
        /// The owner's incarnation, 0 when pending.
        pub incarnation: u64,
        /// The number of this residence; of the last one when pending, 0 if there was none.
        pub epoch: u64,
        /// The log index at which this residence, or the lack of it, began.
        pub since_index: u64,
    }
}

impl ShardView {
    /// Which shard.
    #[must_use]
    pub fn shard_id(&self) -> ShardId {
        ShardId::new(SetId(self.set), ShardIndex(self.index))
    }

    /// The number of this residence.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    /// The owner, unless pending.
    #[must_use]
    pub fn owner(&self) -> Option<(NodeId, DeviceIndex, WorkerIndex)> {
        (self.state != ShardState::Pending).then_some((
            NodeId(self.node),
            DeviceIndex(self.device),
            WorkerIndex(self.worker),
        ))
    }
}

wire! {
    /// A coordinator, as nodes and clients reach it.
    pub struct CoordinatorView {
        /// Its name.
        pub name: String,
        /// Its address, as `host:port`.
        pub addr: String,
    }
}

wire! {
    /// Everything that a node must know to route and to fence.
    pub struct NodeView {
        /// The placement index: the last log index that changed anything below.
        pub index: u64,
        /// The coordinators, by name. Who has them needs the list that it was started with no more.
        pub coordinators: Vec<CoordinatorView>,
        /// Live members, by id.
        pub members: Vec<MemberView>,
        /// Sets, by id.
        pub sets: Vec<SetView>,
        /// Every shard of every set, by set and index.
        pub shards: Vec<ShardView>,
    }
}

/// What a view says of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// A live member.
    Live,
    /// It was declared lost, or left: nothing from it is accepted any more (C2).
    Fenced,
    /// Younger than the view: catch up first.
    Unknown,
}

impl NodeView {
    /// Whether acts of `incarnation` may be accepted by who has this view.
    #[must_use]
    pub fn fence(&self, incarnation: Incarnation) -> Fence {
        if self.members.iter().any(|member| member.incarnation == incarnation.0) {
            Fence::Live
        } else if incarnation.0 <= self.index {
            Fence::Fenced
        } else {
            Fence::Unknown
        }
    }
}

/// What a client needs to route: the same as a node.
pub type Directory = NodeView;
