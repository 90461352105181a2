//! What the protocol wants done. One loop in the shell executes these in the order given.

use ringfleet_abi::{Control, DeviceIndex, Epoch, Incarnation, NodeId, ShardId};

use crate::peer::{CloseReason, Lane, LinkId};

/// An effect, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write one frame. Frames of one lane are written in order; give the buffer back with [`crate::NodeProto::recycle`].
    Send {
        /// Over which link.
        link: LinkId,
        /// On which of its streams.
        lane: Lane,
        /// The frame, without a length prefix.
        frame: Vec<u8>,
    },
    /// Open a data connection; report [`crate::NodeProto::link_up`] or [`crate::NodeProto::connect_failed`].
    Connect {
        /// To which node.
        node: NodeId,
        /// Which start of it.
        incarnation: Incarnation,
        /// Where, as `host:port`.
        addr: String,
    },
    /// Close a link. It counts as down from now on; no [`crate::NodeProto::link_down`] is needed, though harmless.
    Close {
        /// Which.
        link: LinkId,
        /// Why.
        reason: CloseReason,
    },
    /// Submit a control. Controls of one device are submitted in the order given.
    Device {
        /// To which device.
        device: DeviceIndex,
        /// What.
        control: Control,
    },
    /// A peer has seen a younger view than ours: fetch it.
    NeedView {
        /// An index that would do.
        index: u64,
    },
    /// Tell the coordinator that this shard is flushed and no longer executed.
    ReportReleased {
        /// Which.
        shard: ShardId,
        /// The residence that ended.
        epoch: Epoch,
    },
    /// Tell the coordinator that the view of this index is in effect here.
    ReportApplied {
        /// The placement index.
        index: u64,
    },
    /// A device could not make the shard resident: log it and report it.
    AssignFailed {
        /// The device.
        device: DeviceIndex,
        /// Which shard.
        shard: ShardId,
        /// The residence that failed.
        epoch: Epoch,
    },
    /// The view says that this incarnation is dead (C2). Forget everything and join anew; nothing is accepted or sent any more.
    Fenced,
}
