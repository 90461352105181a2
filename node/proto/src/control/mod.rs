//! Messages between the coordinator and everybody who talks to it: nodes, clients and the ctl (C1, C2, C11).
//!
//! One request, one reply, on the ALPN `ringfleet-control`. Every request may be answered by [`Failure`], whose variants
//! say whether the request may be sent again and where (C4):
//!
//! ```text
//!   request --> NotLeader{hint}  follow the hint or ask another coordinator; not executed
//!           --> Refused{code}    final; not executed
//!           --> Unavailable      no quorum by the deadline; not executed
//!           --> Unknown          no answer by the deadline; retry with the SAME operation id
//!           --> the answer
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`codec`] | the envelope of every message: magic, version, kind, length, body |
//! | [`node`] | what a node asks: join, renew, watch, report |
//! | [`clock`] | measuring one clock against another (C6) |
//! | [`admin`] | what an operator, a viewer or a client asks |
//! | [`view`] | placement as nodes and clients see it |
//! | [`report`] | what a node says of itself: devices, actor types |
//! | [`document`] | the actor-set document |
//! | [`failure`] | the closed list of reasons for a refusal |
//! | [`access`] | the one table of roles x verbs (C11) |
//! | [`limits`] | bounds of names and lists (C9) |
//!
//! Ids are plain integers here, because these structs are the wire; the accessors give the newtypes of `ringfleet-abi`.
//! Deliberately absent: deltas of a view (a view is sent whole, bounded by [`limits`]) and anything on the message path.

/// Derives what every struct and enum of this module needs: rkyv for the wire, serde for documents and `-o json`.
macro_rules! wire {
    ($($item:tt)*) => {
        #[derive(
            Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize, serde::Serialize, serde::Deserialize,
        )]
        $($item)*
    };
}

pub mod access;
#[allow(missing_docs, reason = "rkyv derives helper structs of enum variants without docs")]
pub mod admin;
pub mod clock;
pub mod codec;
#[allow(missing_docs, reason = "rkyv derives helper structs of enum variants without docs")]
pub mod document;
#[allow(missing_docs, reason = "rkyv derives helper structs of enum variants without docs")]
pub mod failure;
pub mod limits;
#[allow(missing_docs, reason = "rkyv derives helper structs of enum variants without docs")]
pub mod node;
pub mod report;
pub mod view;

pub use access::{Role, Verb, allowed};
pub use admin::{
    AdminAnswer, AdminReply, AdminRequest, AdminVerb, ClusterStatus, CoordinatorInfo, NodeInfo, NodeState, SetChange,
    SetDetail, SetInfo, TypeInfo,
};
pub use clock::{ClockReading, ClockSample};
pub use codec::{CodecError, ControlMessage, MessageKind, decode, encode, peek_kind};
pub use document::{ActorSet, Durability, Keys, Metadata, Placement, Restart, SetSpec};
pub use failure::{Failure, LeaderHint, Refusal, RefusalCode};
pub use node::{Joined, Load, NodeAnswer, NodeReply, NodeRequest, Released, RenewGranted, SessionIdentity};
pub use report::{DeviceKind, DeviceReport, FieldReport, GpuReport, LinkReport, MessageReport, Scalar, TypeReport};
pub use view::{
    CoordinatorView, DeviceView, Directory, FailureView, Fence, MemberView, NodeView, SetState, SetView, ShardState,
    ShardView,
};
