//! Every bound that host and device share (C9). Each constant says what is bounded and what happens at the bound;
//! the relations between bounds are proved below by the compiler.

/// Bytes of an envelope and of a ring slot.
pub const ENVELOPE_BYTES: usize = 64;
/// Bytes of payload in an envelope. A longer message is refused where it is built.
pub const PAYLOAD_BYTES_MAX: usize = 32;
/// Bytes of an actor's state. A larger state is a compile error of the user's actor.
pub const STATE_BYTES_MAX: usize = 4096;
/// Alignment of an actor's state in its slot.
pub const STATE_ALIGN: usize = 16;
/// Messages that one handling may send if its type does not say otherwise. One more fails the actor.
pub const MAX_SENDS_DEFAULT: usize = 8;
/// The most that a type may ask for with `max_sends`. More is a compile error.
pub const MAX_SENDS_LIMIT: usize = 64;
/// Shards of a set if its document does not say otherwise.
pub const SHARDS_DEFAULT: u16 = 256;
/// Shards of one set. A document that asks for more is refused.
pub const SHARDS_MAX: u16 = 4096;
/// Sets of a cluster, deleted ones counted (ids are never reused). One more is refused.
pub const SETS_MAX: u16 = u16::MAX - 1;
/// Workers of one device. A device with more refuses to start.
pub const WORKERS_MAX: u16 = 512;
/// Slots of a ring, least. A smaller ring is refused when a device is configured.
pub const RING_SLOTS_MIN: u32 = 8;
/// Slots of a ring, most: positions are 32 bits and wrap, so a ring holds far less than half their range.
pub const RING_SLOTS_MAX: u32 = 1 << 20;
/// How far a stamp may be ahead of the local wall clock (C6). Further: refused and counted, never merged.
pub const HLC_AHEAD_MS_MAX: u64 = 250;
/// How long after its node's lease end an act may still be accepted (C2).
pub const LEASE_GRACE_MS: u64 = 250;
/// How long a spill may stand still before its worker consumes inputs without running them.
pub const OVERLOAD_AFTER_MS: u64 = 100;
/// The longest delay of a timer: 24 days. A longer one fails the actor.
pub const TIMER_DELAY_MS_MAX: u32 = 1 << 31;
/// Restarts of one actor in one window that a set may allow. A document that asks for more is refused.
pub const RESTARTS_MAX: u32 = 65_535;
/// What stands for restarts without a limit.
pub const RESTARTS_UNLIMITED: u32 = u32::MAX;
/// Bytes that two writers keep apart.
pub const LINE_BYTES: usize = 128;

const _: () = assert!(RING_SLOTS_MIN.is_power_of_two() && RING_SLOTS_MAX.is_power_of_two());
const _: () = assert!(RING_SLOTS_MIN <= RING_SLOTS_MAX && RING_SLOTS_MAX <= 1 << 30);
const _: () = assert!(STATE_ALIGN.is_power_of_two() && STATE_BYTES_MAX.is_multiple_of(STATE_ALIGN));
const _: () = assert!(LINE_BYTES.is_multiple_of(ENVELOPE_BYTES));
const _: () = assert!(SETS_MAX == u16::MAX - 1, "0 is no set, 65,535 is the pseudo-set of clients");
const _: () = assert!(MAX_SENDS_DEFAULT <= MAX_SENDS_LIMIT);
const _: () = assert!(ENVELOPE_BYTES == 2 * PAYLOAD_BYTES_MAX);
const _: () = assert!(PAYLOAD_BYTES_MAX < 1 << 6, "the envelope has six bits of payload length");
const _: () = assert!(SHARDS_DEFAULT <= SHARDS_MAX && SHARDS_MAX < u16::MAX);
