//! Everything that crosses between host and device, as one table: structs with their offsets, constants, and closed lists with
//! their codes. The table is made from the definitions by the compiler, so there is no second copy to keep. From it come
//! [`LAYOUT_HASH`], by which a kernel and a host recognise each other, and the C header ([`crate::header`]).
//!
//! A struct's entry does not compile if it leaves out a field or gives one another type. A test looks through the sources for
//! structs, limits and lists that are not in the table.

use core::mem::{align_of, offset_of, size_of};

use crate::answer::VerdictBody;
use crate::control::{ControlOp, ControlWord, TARGET_EGRESS, TARGET_NONE, TYPE_NONE};
use crate::envelope::{Envelope, FLAGS_SHIFT, Flags, KIND_CHILD_FAILED, LEN_MASK, SLOTS_MASK, SLOTS_SHIFT};
use crate::hash::{MIX64_FIRST, MIX64_SECOND, MIX64_SHIFT};
use crate::hlc::COUNTER_BITS;
use crate::ids::{SetId, ShardId, ShardIndex};
use crate::reason::{DeadReason, LostReason, Verdict};
use crate::ring::{Position, RingHeader};
use crate::status::{BATCH_BUCKETS, StatusOp, StatusWord, WorkerCounters};
use crate::sync::AtomicU32;
use crate::{limits, limits::PAYLOAD_BYTES_MAX};

/// A field of a [`Struct`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its C type, or that of its elements.
    pub c_type: &'a str,
    /// Elements of an array; 0 if it is none.
    pub count: usize,
    /// Bytes from the begin of the struct.
    pub offset: usize,
}

/// A struct that lies in memory or on a wire which host and device share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struct<'a> {
    /// Its name in Rust.
    pub name: &'a str,
    /// Its name in C.
    pub c_name: &'a str,
    /// Its size.
    pub bytes: usize,
    /// Its alignment in bytes.
    pub align: usize,
    /// Its fields.
    pub fields: &'a [Field<'a>],
}

/// A constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: u64,
}

/// An entry of a [`List`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code<'a> {
    /// The word used everywhere.
    pub name: &'a str,
    /// The number that stands for it.
    pub code: u16,
}

/// A closed list of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<'a> {
    /// Its name in Rust.
    pub name: &'a str,
    /// The prefix of its codes in C.
    pub c_prefix: &'a str,
    /// Its entries.
    pub codes: &'a [Code<'a>],
}

/// The whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout<'a> {
    /// Structs; one that contains another comes after it.
    pub structs: &'a [Struct<'a>],
    /// Constants.
    pub constants: &'a [Constant<'a>],
    /// Closed lists.
    pub lists: &'a [List<'a>],
}

/// A type that a field may have, and what C calls it.
trait CType {
    const NAME: &'static str;
    const COUNT: usize = 0;
}

macro_rules! c_types {
    ($($rust:ty => $c:literal),* $(,)?) => { $(impl CType for $rust { const NAME: &'static str = $c; })* };
}

c_types! {
    u8 => "uint8_t",
    u16 => "uint16_t",
    u32 => "uint32_t",
    u64 => "uint64_t",
    SetId => "uint16_t",
    ShardIndex => "uint16_t",
    AtomicU32 => "uint32_t",
    Position => "ringfleet_position",
}

impl<T: CType, const N: usize> CType for [T; N] {
    const NAME: &'static str = T::NAME;
    const COUNT: usize = N;
}

macro_rules! structure {
    ($name:ident as $c_name:literal { $($field:ident: $type:ty),* $(,)? }) => {{
        // Does not compile if a field is missing above or has another type.
        const _: fn(&$name) = |all| {
            let $name { $($field),* } = all;
            $(let _: &$type = $field;)*
        };
        Struct {
            name: stringify!($name),
            c_name: $c_name,
            bytes: size_of::<$name>(),
            align: align_of::<$name>(),
            fields: &[$(Field {
                name: stringify!($field),
                c_type: <$type as CType>::NAME,
                count: <$type as CType>::COUNT,
                offset: offset_of!($name, $field),
            }),*],
        }
    }};
}

macro_rules! constants {
    ($($name:ident = $value:expr),* $(,)?) => {
        &[$(Constant { name: stringify!($name), value: $value as u64 }),*]
    };
}

/// Entries of [`limits`], under their own names.
macro_rules! limit_constants {
    ($($name:ident),* $(,)?) => { constants!($($name = limits::$name),*) };
}

macro_rules! list {
    ($name:ident as $c_prefix:literal) => {{
        const CODES: [Code<'static>; $name::COUNT] = {
            let mut codes = [Code { name: "", code: 0 }; $name::COUNT];
            let mut at = 0;
            while at < codes.len() {
                codes[at] = Code { name: $name::ALL[at].name(), code: $name::ALL[at].code() };
                at += 1;
            }
            codes
        };
        List { name: stringify!($name), c_prefix: $c_prefix, codes: &CODES }
    }};
}

const LIMITS: &[Constant<'static>] = limit_constants![
    ENVELOPE_BYTES,
    PAYLOAD_BYTES_MAX,
    STATE_BYTES_MAX,
    STATE_ALIGN,
    MAX_SENDS_DEFAULT,
    MAX_SENDS_LIMIT,
    SHARDS_DEFAULT,
    SHARDS_MAX,
    SETS_MAX,
    WORKERS_MAX,
    RING_SLOTS_MIN,
    RING_SLOTS_MAX,
    HLC_AHEAD_MS_MAX,
    LEASE_GRACE_MS,
    OVERLOAD_AFTER_MS,
    TIMER_DELAY_MS_MAX,
    RESTARTS_MAX,
    RESTARTS_UNLIMITED,
    LINE_BYTES,
];

const WORDS: &[Constant<'static>] = constants![
    LEN_MASK = LEN_MASK,
    SLOTS_SHIFT = SLOTS_SHIFT,
    SLOTS_MASK = SLOTS_MASK,
    FLAGS_SHIFT = FLAGS_SHIFT,
    FLAG_ASK = Flags::ASK.bits(),
    FLAG_REPLY = Flags::REPLY.bits(),
    FLAG_MARKER = Flags::MARKER.bits(),
    FLAG_CONTROL = Flags::CONTROL.bits(),
    FLAG_TRACE = Flags::TRACE.bits(),
    FLAG_SPARE = Flags::SPARE.bits(),
    KIND_CHILD_FAILED = KIND_CHILD_FAILED,
    SET_NONE = SetId::NONE.0,
    SET_CLIENT = SetId::CLIENT.0,
    HLC_COUNTER_BITS = COUNTER_BITS,
    MIX64_FIRST = MIX64_FIRST,
    MIX64_SECOND = MIX64_SECOND,
    MIX64_SHIFT = MIX64_SHIFT,
    TYPE_NONE = TYPE_NONE,
    TARGET_EGRESS = TARGET_EGRESS,
    TARGET_NONE = TARGET_NONE,
    BATCH_BUCKETS = BATCH_BUCKETS,
];

const CONSTANTS: [Constant<'static>; LIMITS.len() + WORDS.len()] = {
    let mut all = [Constant { name: "", value: 0 }; LIMITS.len() + WORDS.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < LIMITS.len() { LIMITS[at] } else { WORDS[at - LIMITS.len()] };
        at += 1;
    }
    all
};

/// The table of this build.
pub const LAYOUT: Layout<'static> = Layout {
    structs: &[
        structure!(ShardId as "ringfleet_shard_id" { set: SetId, index: ShardIndex }),
        structure!(Envelope as "ringfleet_envelope" {
            to_key: u64,
            from_key: u64,
            hlc: u64,
            to_set: u16,
            from_set: u16,
            kind: u16,
            bits: u16,
            payload: [u8; PAYLOAD_BYTES_MAX],
        }),
        structure!(VerdictBody as "ringfleet_verdict_body" { position: u64, fault: u32, worker: u16, kind: u16 }),
        structure!(Position as "ringfleet_position" { word: AtomicU32 }),
        structure!(RingHeader as "ringfleet_ring_header" { tail: Position, head: Position }),
        structure!(ControlWord as "ringfleet_control_word" { op: u16, set: u16, small: [u16; 2], words: [u64; 7] }),
        structure!(StatusWord as "ringfleet_status_word" { op: u16, set: u16, small: [u16; 2], words: [u64; 7] }),
        structure!(WorkerCounters as "ringfleet_worker_counters" {
            ingress_done: u64,
            ingress_in: u64,
            egress_out: u64,
            sent: u64,
            handled: u64,
            dead: [u64; DeadReason::COUNT],
            refused: u64,
            spilled: u64,
            spill_now: u64,
            timers_now: u64,
            ring_out: u64,
            ring_in: u64,
            actors_now: u64,
            activations: u64,
            failures: u64,
            restarts: u64,
            escalations: u64,
            overload_rounds: u64,
            batches: u64,
            busy_ns: u64,
            stamps_ahead: u64,
            batch_sizes: [u64; BATCH_BUCKETS],
        }),
    ],
    constants: &CONSTANTS,
    lists: &[
        list!(DeadReason as "DEAD"),
        list!(LostReason as "LOST"),
        list!(Verdict as "VERDICT"),
        list!(ControlOp as "CONTROL"),
        list!(StatusOp as "STATUS"),
    ],
};

/// The hash of [`LAYOUT`]. A device reports the one it was built with at its start ([`crate::Status::Started`]); a host refuses
/// another one than its own.
pub const LAYOUT_HASH: u64 = hash(&LAYOUT);

/// FNV-1a over every name and number of a table. Lengths go in too, so that nothing can move from one entry to the next.
#[must_use]
pub const fn hash(layout: &Layout<'_>) -> u64 {
    let mut hash = crate::hash::fnv1a64(b"ringfleet layout 1");
    hash = number(hash, layout.structs.len() as u64);
    let mut at = 0;
    while at < layout.structs.len() {
        hash = structure(hash, &layout.structs[at]);
        at += 1;
    }
    hash = number(hash, layout.constants.len() as u64);
    let mut at = 0;
    while at < layout.constants.len() {
        hash = text(hash, layout.constants[at].name);
        hash = number(hash, layout.constants[at].value);
        at += 1;
    }
    hash = number(hash, layout.lists.len() as u64);
    let mut at = 0;
    while at < layout.lists.len() {
        hash = list(hash, &layout.lists[at]);
        at += 1;
    }
    hash
}

const fn structure(mut hash: u64, structure: &Struct<'_>) -> u64 {
    hash = text(hash, structure.name);
    hash = text(hash, structure.c_name);
    hash = number(hash, structure.bytes as u64);
    hash = number(hash, structure.align as u64);
    hash = number(hash, structure.fields.len() as u64);
    let mut at = 0;
    while at < structure.fields.len() {
        let field = &structure.fields[at];
        hash = text(hash, field.name);
        hash = text(hash, field.c_type);
        hash = number(hash, field.count as u64);
        hash = number(hash, field.offset as u64);
        at += 1;
    }
    hash
}

const fn list(mut hash: u64, list: &List<'_>) -> u64 {
    hash = text(hash, list.name);
    hash = text(hash, list.c_prefix);
    hash = number(hash, list.codes.len() as u64);
    let mut at = 0;
    while at < list.codes.len() {
        hash = text(hash, list.codes[at].name);
        hash = number(hash, list.codes[at].code as u64);
        at += 1;
    }
    hash
}

const fn text(hash: u64, text: &str) -> u64 {
    crate::hash::fnv1a64_from(number(hash, text.len() as u64), text.as_bytes())
}

const fn number(hash: u64, number: u64) -> u64 {
    crate::hash::fnv1a64_from(hash, &number.to_le_bytes())
}
