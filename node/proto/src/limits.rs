//! Every bound of the data protocol (C9): what is bounded, and what happens at the bound.

use ringfleet_abi::limits::ENVELOPE_BYTES;

use crate::wire::{DELIVER_HEADER_BYTES, RUN_HEADER_BYTES};

/// Envelopes of one `Deliver` frame. The rest goes into the next frame.
pub const FRAME_ENVELOPES_MAX: usize = 1024;
/// Bytes of one frame of either lane. A longer one is a protocol error; the link layer refuses it by its length prefix.
pub const FRAME_BYTES_MAX: usize = 256 << 10;
/// Answers of one frame. The rest goes into the next frame.
pub const FRAME_ANSWERS_MAX: usize = 2048;
/// Replies of one frame. The rest goes into the next frame.
pub const FRAME_REPLIES_MAX: usize = 1024;

/// Envelopes that a sender keeps for one channel. At the bound the channel has no room.
pub const OUTBOUND_CHANNEL_MAX: usize = 128 << 10;
/// Envelopes that a sender keeps for all channels to one peer. At the bound they have no room.
pub const OUTBOUND_PEER_MAX: usize = 512 << 10;
/// Envelopes that a sender keeps altogether: 64 MiB. At the bound no channel has room.
pub const OUTBOUND_TOTAL_MAX: usize = 1 << 20;
/// Envelopes sent to one peer that it has not yet said to have accepted. At the bound sending waits for acknowledgements.
pub const PEER_WINDOW: usize = 32 << 10;
/// Most envelopes that the shell takes from devices at a time; the sender keeps room for as many beyond every bound.
pub const EGRESS_RESERVE: usize = 8 << 10;
/// How long egress waits for a channel at its bound before further messages to it are dead-lettered `overloaded`.
pub const OVERLOADED_AFTER_MS: u64 = ringfleet_abi::limits::OVERLOAD_AFTER_MS;
/// How long a channel may stay at its bound before it is given up as `undeliverable`.
pub const UNDELIVERABLE_AFTER_MS: u64 = 30_000;

/// The first pause after `Busy`; each further one in a row is twice as long.
pub const BACKOFF_MS_FIRST: u64 = 5;
/// The longest pause after `Busy`.
pub const BACKOFF_MS_MAX: u64 = 250;

/// Envelopes accepted for one worker and not yet in its ingress ring. Beyond it: `Busy`.
pub const PENDING_WORKER_MAX: usize = 8 << 10;
/// Sources that one agent remembers. Beyond it a new one gets `Busy`.
pub const SOURCES_MAX: usize = 64 << 10;
/// Filters, i.e. pairs of source and shard, that one agent remembers. Beyond it a new one gets `Busy`.
pub const FILTERS_MAX: usize = 1 << 20;
/// Expired sessions remembered one by one; older ones are covered by a floor.
pub const TOMBSTONES_MAX: usize = 64 << 10;
/// How long a client session may be idle before its filters are forgotten.
pub const SESSION_IDLE_MS: u64 = 600_000;
/// Frames of one link that wait for a younger view or for the own lease. One more is a protocol error: the shell asks
/// [`crate::NodeProto::can_read_data`] before each.
pub const HELD_FRAMES_MAX: usize = 16;
/// How long a frame waits for the view that its sender has seen before the link is closed.
pub const VIEW_WAIT_MS_MAX: u64 = 5_000;

/// The first pause between two attempts to connect to a peer; each further one in a row is twice as long.
pub const CONNECT_MS_FIRST: u64 = 10;
/// The longest pause between two attempts to connect.
pub const CONNECT_MS_MAX: u64 = 500;
/// Acknowledgements wait so long for more of their kind, unless none was sent for that time. Those that only say "accepted" always wait
/// so long, or until something was handled; with replies all of them go at once.
pub const ACK_INTERVAL_NS: u64 = 200_000;
/// Frame buffers kept for reuse.
pub const SPARE_FRAMES_MAX: usize = 64;
/// Generations of a source. A sender that would pass it stops for good; nobody gets there by honest losses.
pub const GENERATION_MAX: u32 = u32::MAX - 1;

const _: () = assert!(
    DELIVER_HEADER_BYTES + FRAME_ENVELOPES_MAX * (RUN_HEADER_BYTES + ENVELOPE_BYTES) <= FRAME_BYTES_MAX,
    "a frame in which every envelope is a run of its own fits"
);
const _: () = assert!(OUTBOUND_CHANNEL_MAX <= OUTBOUND_PEER_MAX && OUTBOUND_PEER_MAX <= OUTBOUND_TOTAL_MAX);
const _: () = assert!(EGRESS_RESERVE * 2 <= OUTBOUND_CHANNEL_MAX);
const _: () = assert!(PENDING_WORKER_MAX >= FRAME_ENVELOPES_MAX && PEER_WINDOW >= FRAME_ENVELOPES_MAX);
const _: () = assert!(BACKOFF_MS_FIRST <= BACKOFF_MS_MAX && CONNECT_MS_FIRST <= CONNECT_MS_MAX);
