//! Bounds of what the control messages carry (C9). At each bound the request is refused with `limit_exceeded` or, for
//! the envelope's own length, not decoded.

/// Bytes of one control message, header included: one frame of a link. A longer one is not decoded; nothing is allocated
/// for it.
pub const CONTROL_BYTES_MAX: usize = 1 << 20;
/// Bytes of a name: node, set, actor type, coordinator, tenant. A longer one is refused.
pub const NAME_BYTES_MAX: usize = 63;
/// Bytes of an address text. A longer one is refused.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Devices of one node. A node that reports more is refused.
pub const DEVICES_MAX: usize = 64;
/// GPUs of all devices of one node together. A node that reports more is refused.
pub const GPUS_MAX: usize = 64;
/// Bytes of a GPU's name or UUID. A node that reports longer ones is refused.
pub const GPU_TEXT_BYTES_MAX: usize = 96;
/// Actor types of one node. A node that reports more is refused.
pub const TYPES_MAX: usize = 256;
/// Messages (handled and replied) of one actor type. A node that reports more is refused.
pub const MESSAGES_MAX: usize = 256;
/// Fields of one message or state. A node that reports more is refused.
pub const FIELDS_MAX: usize = 1024;
/// Bytes of the text of a state layout. A node that reports more is refused.
pub const LAYOUT_BYTES_MAX: usize = 64 << 10;
/// Shards of the whole cluster, so that a view fits into one message. A document beyond it is refused.
pub const SHARDS_TOTAL_MAX: usize = 14 << 10;
/// Sets of the whole cluster at a time, those that are being deleted included, so that a view fits into one message. One more is refused.
pub const SETS_AT_ONCE_MAX: usize = 512;
/// Members of the cluster. One more is refused.
pub const MEMBERS_MAX: usize = 1024;
/// Bytes that all live members take in a view, by [`super::view::MemberView::bytes_max`]: a thousand nodes of one device, half as many of
/// eight. A node with which there would be more is refused.
pub const MEMBERS_VIEW_BYTES_MAX: usize = 176 << 10;
/// Shards in one report of released shards. A longer report is refused.
pub const RELEASED_MAX: usize = 8192;
/// The longest wait of a long poll. A longer one is cut to this.
pub const WATCH_WAIT_MS_MAX: u32 = 30_000;
/// The longest deadline of a request. A longer one is cut to this.
pub const DEADLINE_MS_MAX: u32 = 60_000;
/// How far a node's clock may be off the cluster's (C6). Further: it is quarantined, and a node that wants to join is refused.
pub const CLOCK_OFFSET_MS_MAX: u32 = 100;
/// How wrong a measurement may be to count as a good one: half a round trip. Of a worse one the error is subtracted too, so that
/// nobody is quarantined for a slow network, but it has no voice in what the cluster's time is.
pub const CLOCK_ERROR_MS_MAX: u32 = 25;
/// Measurements in a row that must agree before a node is quarantined, and before it is let go.
pub const CLOCK_STRIKES: u32 = 3;
/// From the last act of a shard's owner to the word that another may have it (C6): how far a stamp may be ahead of a clock, and how far
/// two clocks may differ that nobody quarantines. Afterwards every stamp that is given is above those given here.
pub const HANDOVER_MS: u64 =
    ringfleet_abi::limits::HLC_AHEAD_MS_MAX + 2 * (CLOCK_OFFSET_MS_MAX + CLOCK_ERROR_MS_MAX) as u64 + 1;

/// Bytes that one shard takes in a view, at most: the archived [`super::view::ShardView`].
pub const SHARD_VIEW_BYTES: usize = 48;
/// Bytes that one set takes in a view, at most: the archived [`super::view::SetView`] and its three names.
pub const SET_VIEW_BYTES: usize = 320;
/// Bytes that one live member takes in a view besides its texts and devices, at most: the archived [`super::view::MemberView`].
pub const MEMBER_VIEW_BYTES: usize = 80;
/// Bytes that one device takes in a view, at most: the archived [`super::view::DeviceView`].
pub const DEVICE_VIEW_BYTES: usize = 24;
/// Bytes of a view besides shards, sets and members, at most: its header and the coordinators, also while they are replaced.
pub const VIEW_REST_BYTES: usize = 8 << 10;
const _: () = assert!(
    SHARDS_TOTAL_MAX * SHARD_VIEW_BYTES + SETS_AT_ONCE_MAX * SET_VIEW_BYTES + MEMBERS_VIEW_BYTES_MAX + VIEW_REST_BYTES
        <= CONTROL_BYTES_MAX,
    "C9, C10: a view fits into one message; one that does not would reach nobody, nor any later one"
);
const _: () = assert!(
    MEMBER_VIEW_BYTES + NAME_BYTES_MAX + 2 * ADDRESS_BYTES_MAX + DEVICES_MAX * DEVICE_VIEW_BYTES
        <= MEMBERS_VIEW_BYTES_MAX,
    "C9: a node of any size may be the only one"
);
const _: () = assert!(ringfleet_abi::limits::SHARDS_MAX as usize <= SHARDS_TOTAL_MAX);
const _: () = assert!(
    2 * (CLOCK_OFFSET_MS_MAX + CLOCK_ERROR_MS_MAX) as u64 <= ringfleet_abi::limits::HLC_AHEAD_MS_MAX,
    "C6: of two clocks that nobody quarantines, one off to either side, neither refuses the other's stamps (specs/Hlc.tla)"
);
