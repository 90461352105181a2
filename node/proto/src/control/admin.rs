//! What an operator, a viewer or a client asks of the coordinator (C1: every answer is linearizable).

use super::document::ActorSet;
use super::failure::Failure;
use super::node::Load;
use super::report::{DeviceReport, TypeReport};
use super::view::{Directory, SetState, ShardView};

wire! {
    /// A request with its identity and its patience.
    pub struct AdminRequest {
        /// Random, chosen by the caller, the same in every retry: a request takes effect at most once.
        pub operation: u128,
        /// How long the caller waits, counted from the arrival. Relative, because clocks differ.
        pub deadline_ms: u32,
        /// What is asked.
        pub verb: AdminVerb,
    }
}

wire! {
    /// What is asked.
    pub enum AdminVerb {
        /// Create a set, or change what may change of one.
        Apply {
            /// The document.
            document: ActorSet,
        },
        /// Change the most workers that a set may occupy.
        Scale {
            /// Its name.
            set: String,
            /// The new bound.
            workers: u32,
            /// Agree that moved shards of a volatile set start empty.
            discard_state: bool,
        },
        /// Delete a set with all its actors.
        Delete {
            /// Its name.
            set: String,
        },
        /// The nodes, live and recently lost.
        Nodes,
        /// The coordinators.
        Coordinators,
        /// Make a coordinator that runs with an empty data folder a member.
        AddCoordinator {
            /// Its name.
            name: String,
            /// Where it listens, as `host:port`.
            addr: String,
        },
        /// Take a coordinator out of the group.
        RemoveCoordinator {
            /// Its name.
            name: String,
        },
        /// The sets.
        Sets,
        /// The shards of one set or of all.
        Shards {
            /// Its name; absent: all.
            set: Option<String>,
        },
        /// The actor types that live nodes report.
        Types,
        /// One set in full.
        DescribeSet {
            /// Its name.
            name: String,
        },
        /// One node in full.
        DescribeNode {
            /// Its name.
            name: String,
        },
        /// Members, sets and placement, for routing.
        Directory {
            /// The index of the directory at hand; 0: none.
            have_index: u64,
            /// How long to wait for a younger one; 0: answer at once.
            wait_ms: u32,
        },
        /// A new client session, bound to the caller's identity.
        OpenSession,
        /// The cluster in one page.
        Status,
    }
}

wire! {
    /// What became of an apply, scale or delete.
    #[derive(Copy, Hash)]
    #[serde(rename_all = "lowercase")]
    pub enum SetChange {
        /// A new set.
        Created,
        /// Something of it changed.
        Changed,
        /// It was like that already.
        Unchanged,
        /// It is being deleted; it is gone when the list of sets no longer has it.
        Deleting,
    }
}

wire! {
    /// What a node is doing.
    #[derive(Copy, Hash)]
    #[serde(rename_all = "lowercase")]
    pub enum NodeState {
        /// A member.
        Alive,
        /// Its lease ended.
        Lost,
        /// It left.
        Left,
    }
}

wire! {
    /// A node in a list.
    pub struct NodeInfo {
        /// Its id.
        pub node: u32,
        /// Its name.
        pub name: String,
        /// Its last incarnation.
        pub incarnation: u64,
        /// What it is doing.
        pub state: NodeState,
        /// Where nodes and clients reach it.
        pub data_addr: String,
        /// Where it serves health and metrics.
        pub http_addr: String,
        /// Its devices.
        pub devices: Vec<DeviceReport>,
        /// Indices of devices that are lost and not back.
        pub devices_lost: Vec<u16>,
        /// Names of its actor types.
        pub types: Vec<String>,
        /// Shards resident on it or being released by it.
        pub shards: u32,
        /// The placement index through which its shards are in effect; 0 if it has not said since the leader's election.
        pub applied_index: u64,
        /// Until the leader would count its lease as ended; 0 if it is not alive.
        pub lease_left_ms: u32,
        /// Its clock minus the cluster's, as measured last (C6).
        pub clock_offset_ms: i64,
        /// How wrong that may be; 0: not measured since the leader's election.
        pub clock_error_ms: u32,
        /// Whether it is quarantined for its clock: it gets no shards, and its lease is not renewed.
        pub quarantined: bool,
        /// What it is carrying.
        pub load: Load,
    }
}

wire! {
    /// A coordinator in a list.
    pub struct CoordinatorInfo {
        /// Its number in the Raft group: drawn with its data folder, never used again.
        pub id: u64,
        /// Its name.
        pub name: String,
        /// Its address.
        pub addr: String,
        /// Whether it leads.
        pub leader: bool,
        /// Whether it votes.
        pub voter: bool,
        /// The log index it is known to have; 0 if unknown.
        pub matched_index: u64,
    }
}

wire! {
    /// A set in a list.
    pub struct SetInfo {
        /// Its id.
        pub set: u16,
        /// Its document, defaults filled in, `workers` as scaled last.
        pub document: ActorSet,
        /// What it is doing.
        pub state: SetState,
        /// Shards without an owner.
        pub pending: u32,
        /// Shards with an owner.
        pub resident: u32,
        /// Shards being released.
        pub releasing: u32,
        /// Resident shards whose node has said that they are in effect.
        pub in_effect: u32,
        /// Workers that own at least one shard.
        pub workers_used: u32,
        /// The type's code.
        pub code_hash: u64,
        /// The type's state layout.
        pub layout_hash: u64,
    }
}

wire! {
    /// A set in full.
    pub struct SetDetail {
        /// As in a list.
        pub info: SetInfo,
        /// The state's layout in words.
        pub layout: String,
        /// Its shards, by index.
        pub shards: Vec<ShardView>,
    }
}

wire! {
    /// An actor type and who reports it.
    pub struct TypeInfo {
        /// The type.
        pub report: TypeReport,
        /// Names of the live nodes that carry it with this code and layout.
        pub nodes: Vec<String>,
    }
}

wire! {
    /// The cluster in one page.
    pub struct ClusterStatus {
        /// Its name.
        pub cluster: String,
        /// Who leads.
        pub leader: String,
        /// The leader's term.
        pub term: u64,
        /// The last log index.
        pub last_index: u64,
        /// The placement index.
        pub index: u64,
        /// Coordinators that vote.
        pub coordinators: u32,
        /// Live nodes.
        pub nodes_alive: u32,
        /// Nodes lost or left that are still remembered.
        pub nodes_gone: u32,
        /// Sets.
        pub sets: u32,
        /// Shards without an owner.
        pub shards_pending: u32,
        /// Shards with an owner.
        pub shards_resident: u32,
        /// Shards being released.
        pub shards_releasing: u32,
        /// Resident shards whose node has said that they are in effect.
        pub shards_in_effect: u32,
        /// How long a lease lasts.
        pub lease_ms: u32,
    }
}

wire! {
    /// What the coordinator answers.
    pub enum AdminAnswer {
        /// To an apply, scale or delete.
        Set {
            /// The set.
            set: u16,
            /// What became of it.
            change: SetChange,
            /// The log index at which the answer was decided.
            index: u64,
        },
        /// To `Nodes`.
        Nodes(Vec<NodeInfo>),
        /// To `Coordinators`.
        Coordinators(Vec<CoordinatorInfo>),
        /// To `AddCoordinator` and `RemoveCoordinator`.
        CoordinatorsChanged {
            /// Whether anything did: asked for again, nothing does.
            changed: bool,
            /// The coordinators now.
            coordinators: Vec<CoordinatorInfo>,
        },
        /// To `Sets`.
        Sets(Vec<SetInfo>),
        /// To `Shards`.
        Shards(Vec<ShardView>),
        /// To `Types`.
        Types(Vec<TypeInfo>),
        /// To `DescribeSet`.
        SetDetail(Box<SetDetail>),
        /// To `DescribeNode`.
        NodeDetail {
            /// As in a list.
            info: Box<NodeInfo>,
            /// Its types in full.
            types: Vec<TypeReport>,
            /// Its shards.
            shards: Vec<ShardView>,
        },
        /// To `Directory`: a younger one.
        Directory(Directory),
        /// To `Directory`: nothing younger within the wait.
        Unchanged {
            /// The placement index.
            index: u64,
        },
        /// To `OpenSession`.
        Session {
            /// The session.
            session: u32,
        },
        /// To `Status`.
        Status(ClusterStatus),
    }
}

wire! {
    /// The reply to an [`AdminRequest`].
    pub enum AdminReply {
        /// The answer.
        Answer(AdminAnswer),
        /// None.
        Failed(Failure),
    }
}

impl From<Result<AdminAnswer, Failure>> for AdminReply {
    fn from(result: Result<AdminAnswer, Failure>) -> Self {
        match result {
            Ok(answer) => Self::Answer(answer),
            Err(failure) => Self::Failed(failure),
        }
    }
}

impl From<AdminReply> for Result<AdminAnswer, Failure> {
    fn from(reply: AdminReply) -> Self {
        match reply {
            AdminReply::Answer(answer) => Ok(answer),
            AdminReply::Failed(failure) => Err(failure),
        }
    }
}
