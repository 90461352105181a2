//! What a node asks of the coordinator.
//!
//! ```text
//!   ReadClock, Join --> Joined{node, incarnation, lease_ms} --> Renew every lease_ms / RENEWALS_PER_LEASE, on a thread and
//!                                                               connection of its own, with the clock as measured last
//!                                                    WatchView, a long poll, all the time
//!                                                    ReportReleased, after a Releasing shard has been flushed
//!   Fenced (any answer) --> stop, forget every shard, Join again
//! ```
//! A node computes the end of its lease from its own monotonic clock when it SENT the renewal, plus `lease_ms`: the
//! leader starts counting later, so the leader's end is never before the node's (C2).
//!
//! **Devices (C2, C3, C10).** (What coordinators take. No agent reports a device yet: one that loses a device leaves with its whole
//! incarnation and joins as a new one.) A device is lost by itself when its process or its memory is gone and the node is not. Its shards are placed
//! elsewhere, at their next epochs, empty; the node's other devices keep theirs. Starts of a device within one incarnation are its
//! *generations*, from 1 with the join:
//!
//! ```text
//!   generation g is gone --> ReportDevice{g, up: false} ... a new process is ready --> ReportDevice{g + 1, up: true} --> shards may come
//! ```
//! Before it reports a loss, the agent must have made sure that generation g does nothing any more that anybody takes notice of, because
//! the next owner may begin as soon as the log has the record:
//! 1. every ring out of the device is closed by its readers, in the agent and in the node's other devices: what a killed process's
//!    kernel still writes is ignored and counted;
//! 2. nothing is accepted for its shards any more: senders are answered `Busy`, and nothing that was accepted is acknowledged;
//! 3. nothing of its shards leaves any more: what the agent still has of their sends and replies is dropped and counted as lost.
//!
//! After the report has been answered `Done{index}`, and its view has that index:
//! 1. residents of the lost device are forgotten at once, without a release: not reported as released, filters and all, so that a sender
//!    that goes on in the old numbering is told `ChannelLost`, also where the shard's next residence is on another device of this node;
//! 2. the node's own channels towards those shards are broken like those to a lost node's (the epoch in the view says so);
//! 3. a new generation starts with no set, no shard and no route: sets are added and routes written as for a device that is new.
//!
//! A residence in a view belongs to the generation in which it began: those on a device whose `since_index` is before the
//! [`DeviceView::since_index`](super::view::DeviceView::since_index) are over. In a view that has the record there are none. Reports may
//! be repeated; what is older than what the log has is passed over.
//!
//! **Clocks (C6).** Every answer to a renewal carries the leader's clock, so that the node can measure its own against it; the next
//! renewal says the result. A node whose clock is off is answered [`NodeAnswer::Quarantined`] instead of `Granted`: nothing else
//! changes for it, and if its clock is right again before its lease has ended, it goes on at the same epochs. Otherwise it is
//! declared lost in the ordinary way, and its next join is refused as `clock_off` until its clock is right.

use super::Role;
use super::clock::{ClockReading, ClockSample};
use super::failure::Failure;
use super::report::{DeviceReport, TypeReport};
use super::view::NodeView;

wire! {
    /// What a node asks.
    pub enum NodeRequest {
        /// Become a member.
        Join {
            /// The cluster that the node believes to join.
            cluster: String,
            /// Its name, the one in its certificate.
            name: String,
            /// A random number of this start of the process. A repeated join with the same number gets the same answer.
            boot: u128,
            /// Where nodes and clients reach it, as `host:port`.
            data_addr: String,
            /// Where it serves health and metrics.
            http_addr: String,
            /// Its devices, by index.
            devices: Vec<DeviceReport>,
            /// Its actor types.
            types: Vec<TypeReport>,
            /// Its clock against the leader's. Absent, or against another coordinator's: the answer is a reading, and the join is to
            /// be repeated.
            clock: Option<ClockSample>,
            /// How long to wait for the answer.
            deadline_ms: u32,
        },
        /// What does the leader's clock show?
        ReadClock,
        /// Keep the lease.
        Renew {
            /// Who.
            incarnation: u64,
            /// The placement index through which everything of this node is in effect.
            applied_index: u64,
            /// Its clock against that of the coordinator which answered the last renewal; absent before the first answer.
            clock: Option<ClockSample>,
            /// What it is carrying.
            load: Load,
            /// How long the answer is of use.
            deadline_ms: u32,
        },
        /// Wait for a view younger than `have_index`.
        WatchView {
            /// Who.
            incarnation: u64,
            /// The index of the view at hand; 0: none.
            have_index: u64,
            /// How long to wait at most.
            wait_ms: u32,
        },
        /// These shards are flushed and no longer executed.
        ReportReleased {
            /// Who.
            incarnation: u64,
            /// Which, with the epochs that ended.
            shards: Vec<Released>,
            /// How long to wait for the answer.
            deadline_ms: u32,
        },
        /// A device was lost, or is back; see the module's documentation.
        ReportDevice {
            /// Who.
            incarnation: u64,
            /// The device.
            device: u16,
            /// Its start within this incarnation, from 1: the one that was lost, or the new one.
            generation: u32,
            /// Whether it is up.
            up: bool,
            /// How long to wait for the answer.
            deadline_ms: u32,
        },
        /// Whose is this session?
        LookupSession {
            /// Who asks.
            incarnation: u64,
            /// The session.
            session: u32,
            /// How long to wait for the answer.
            deadline_ms: u32,
        },
        /// Leave for good: no shard is executed any more.
        Leave {
            /// Who.
            incarnation: u64,
            /// How long to wait for the answer.
            deadline_ms: u32,
        },
    }
}

wire! {
    /// What a node is carrying; shown to operators.
    #[derive(Copy, Default)]
    pub struct Load {
        /// Actors in memory.
        pub actors: u64,
        /// Messages handled since the start.
        pub handled: u64,
        /// Messages in flight.
        pub in_flight: u64,
        /// Messages dead-lettered since the start.
        pub dead_lettered: u64,
        /// Actors that failed, since the start.
        pub failures: u64,
        /// Of these, how many were restarted.
        pub restarts: u64,
        /// And how many stayed failed and were told to the parent set.
        pub escalations: u64,
        /// Bytes of actor memory in use.
        pub memory_used_bytes: u64,
    }
}

wire! {
    /// One released shard.
    #[derive(Copy)]
    pub struct Released {
        /// Its set.
        pub set: u16,
        /// Its index.
        pub index: u16,
        /// The residence that ended.
        pub epoch: u64,
    }
}

wire! {
    /// What a new member gets.
    #[derive(Copy)]
    pub struct Joined {
        /// Its id.
        pub node: u32,
        /// This start of it.
        pub incarnation: u64,
        /// How long a lease lasts. The first one counts from the sending of the first renewal, not from the join.
        pub lease_ms: u32,
        /// The placement index.
        pub index: u64,
    }
}

wire! {
    /// A renewed lease.
    #[derive(Copy)]
    pub struct RenewGranted {
        /// How long, counted from the sending of the renewal.
        pub lease_ms: u32,
        /// The placement index. A node that has an older view fetches it.
        pub index: u64,
        /// The leader's clock.
        pub clock: ClockReading,
    }
}

wire! {
    /// Who opened a session (C11).
    pub struct SessionIdentity {
        /// The session.
        pub session: u32,
        /// Role of the certificate.
        pub role: Role,
        /// Name of the certificate.
        pub name: String,
    }
}

wire! {
    /// What the coordinator answers a node.
    pub enum NodeAnswer {
        /// To a join.
        Joined(Joined),
        /// To a renewal.
        Granted(RenewGranted),
        /// To a renewal: not granted, because the node's clock is off.
        Quarantined {
            /// The node's clock minus the cluster's, as measured last.
            offset_ms: i64,
            /// The leader's clock.
            clock: ClockReading,
        },
        /// To `ReadClock`, and to a join that says nothing of the node's clock against this leader's: measure, and join again.
        Clock(ClockReading),
        /// To a watch: a younger view.
        View(NodeView),
        /// To a watch: nothing younger within the wait.
        Unchanged {
            /// The placement index.
            index: u64,
        },
        /// To a report or a leave.
        Done {
            /// The placement index.
            index: u64,
        },
        /// To a look-up.
        Session(SessionIdentity),
    }
}

wire! {
    /// The reply to a [`NodeRequest`].
    pub enum NodeReply {
        /// The answer.
        Answer(NodeAnswer),
        /// None.
        Failed(Failure),
    }
}

impl From<Result<NodeAnswer, Failure>> for NodeReply {
    fn from(result: Result<NodeAnswer, Failure>) -> Self {
        match result {
            Ok(answer) => Self::Answer(answer),
            Err(failure) => Self::Failed(failure),
        }
    }
}

impl From<NodeReply> for Result<NodeAnswer, Failure> {
    fn from(reply: NodeReply) -> Self {
        match reply {
            NodeReply::Answer(answer) => Ok(answer),
            NodeReply::Failed(failure) => Err(failure),
        }
    }
}
