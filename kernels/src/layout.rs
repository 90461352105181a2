//! Structs that the launching process and device code share beyond the contract of `ringfleet-abi`: launch parameters, tables,
//! pages. Each is defined here once; device code includes the C text that the definition also makes, with its sizes asserted.

use bytemuck::{Pod, Zeroable};
use ringfleet_abi::KeySpace;
use ringfleet_abi::limits::WORKERS_MAX;

use crate::geometry::DEVICES_MAX;

/// A type that a shared field may have.
trait Field {
    const C: &'static str;
    const COUNT: usize = 0;
}
impl Field for u16 {
    const C: &'static str = "u16";
}
impl Field for u32 {
    const C: &'static str = "u32";
}
impl Field for u64 {
    const C: &'static str = "u64";
}
impl<T: Field, const N: usize> Field for [T; N] {
    const C: &'static str = T::C;
    const COUNT: usize = N;
}

macro_rules! device_structs {
    ($($(#[$doc:meta])* struct $name:ident align($align:literal) { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Pod, Zeroable)]
            #[repr(C, align($align))]
            pub struct $name { $($(#[$fdoc])* pub $field: $type,)* }

            impl Default for $name {
                fn default() -> Self {
                    Zeroable::zeroed()
                }
            }
        )*

        /// The same structs as C++ text; device code includes it as `rf_layout.cuh`.
        #[must_use]
        pub fn c_text() -> String {
            let mut text = String::from("#pragma once\n#include \"base.cuh\"\n");
            $(
                text.push_str(concat!("struct alignas(", stringify!($align), ") ", stringify!($name), " {\n"));
                $(text.push_str(&field_text::<$type>(stringify!($field)));)*
                text.push_str("};\n");
                text.push_str(&format!(
                    concat!("static_assert(sizeof(", stringify!($name), ") == {}, \"size of ", stringify!($name), "\");\n"),
                    size_of::<$name>()
                ));
                $(text.push_str(&format!(
                    concat!("static_assert(offsetof(", stringify!($name), ", ", stringify!($field), ") == {}, \"offset of ",
                        stringify!($name), ".", stringify!($field), "\");\n"),
                    core::mem::offset_of!($name, $field)
                ));)*
            )*
            text
        }
    };
}

fn field_text<T: Field>(name: &str) -> String {
    match T::COUNT {
        0 => format!("    {} {name};\n", T::C),
        count => format!("    {} {name}[{count}];\n", T::C),
    }
}

const WORKERS: usize = WORKERS_MAX as usize;
const DEVICES: usize = DEVICES_MAX as usize;

device_structs! {
    /// What the kernel is launched with. Addresses are the device's; they never leave the process that owns the context.
    struct Params align(16) {
        /// Where actors' records are, in units of 32 bytes from here.
        arena: u64,
        /// Slots of the rings into this device's workers: `[receiver][sender][slot]`, senders of all devices.
        rings: u64,
        /// Published tails of these rings, `[receiver][sender]`, rows of whole lines; the router is the last sender.
        tails: u64,
        /// Consumed heads of the rings out of this device's workers, `[sender][receiver]`, rows of whole lines; the host is the last
        /// receiver.
        heads: u64,
        /// Slots of the router's rings to the workers.
        ingress: u64,
        /// Slots of the workers' rings to the host, in pinned memory.
        egress: u64,
        /// Slots of the host's ring to the router, in pinned memory.
        host_ingress: u64,
        /// Beside each of them: worker << 20 | slot of that worker's ingress ring.
        host_dest: u64,
        /// [`SetEntry`] by set.
        sets: u64,
        /// [`ShardEntry`] by `route_base` + shard.
        shards: u64,
        /// Two route tables, used in turn: u16 by `route_base` + shard.
        routes: u64,
        /// tag | set << 32, open addressing.
        tags: u64,
        /// Slots of the spills.
        spill: u64,
        /// What was spilled last: slot << 10 | ring, position.
        spill_fresh: u64,
        /// Pages of spilled positions: the slot of each.
        spill_pages: u64,
        /// The pages of each ring, u16.
        spill_table: u64,
        /// Stacks of free pages.
        spill_free_pages: u64,
        /// Stacks of free slots.
        spill_free: u64,
        /// When timers are due, and their numbers.
        timer_keys: u64,
        /// What timers tell.
        timer_messages: u64,
        /// Stacks of free timers.
        timer_free: u64,
        /// What workers keep from one launch to the next.
        saves: u64,
        /// `WorkerCounters` by worker, 512 bytes apart.
        counters: u64,
        /// [`DevicePage`].
        device_page: u64,
        /// [`HostPage`], in pinned memory.
        host_page: u64,
        /// Clock ticks by worker and phase, in profiling builds.
        profile: u64,
        /// Sets in `sets`.
        sets_count: u32,
        /// Entries of one route table.
        routes_len: u32,
        /// Entries of `tags` less one.
        tag_mask: u32,
        /// Slots of `host_ingress`, a power of two.
        host_ingress_slots: u32,
        /// Bounded mode: blocks end after so many rounds; 0 is never.
        rounds_max: u32,
        /// Which of the node's devices this is.
        device: u32,
        /// Actors of each shard that are active, u32 by `route_base` + shard; the host begins them at 0 with each residence.
        live: u64,
        /// Must be 0.
        spare: [u32; 4],
        /// `rings` of each device of the node, as this one reaches it.
        peer_rings: [u64; DEVICES],
        /// `tails` of each.
        peer_tails: [u64; DEVICES],
        /// `heads` of each.
        peer_heads: [u64; DEVICES],
    }

    /// A set, as workers see it.
    struct SetEntry align(64) {
        /// Keys of a dense set.
        key_count: u64,
        /// `2^64 / keys_per_shard` rounded up, for dividing keys below 2^32; 0 if it has no 64 bits: keys are divided in full.
        magic: u64,
        /// Keys of each shard of a dense set but the last.
        keys_per_shard: u64,
        /// Where this set's shards begin in routes and shards.
        route_base: u32,
        /// Tag of its name.
        tag: u32,
        /// Bytes of an actor's record in units of 32.
        record_units: u32,
        /// Index of its type in this build, or `TYPE_NONE`.
        type_index: u16,
        /// Shards; 0: there is no such set.
        shards: u16,
        /// 1: dense keys.
        dense: u16,
        /// 1: records have a `Keep` behind the state.
        keeps: u16,
        /// How often a failed actor goes on from its initial state in a window, see `RestartBudget` of the contract.
        restarts: u32,
        /// The length of a window.
        window_ms: u32,
        /// Tag of the parent set's name; 0: there is none.
        parent: u32,
        /// Must be 0.
        spare: [u32; 2],
    }

    /// A shard, as its owner sees it.
    struct ShardEntry align(32) {
        /// Its records, in units of 32 bytes from the arena's begin.
        base: u32,
        /// Records; of a hashed shard a power of two of at least 4. One more lies behind them, and behind it the keys of a hashed shard.
        capacity: u32,
        /// The residence.
        epoch: u64,
        /// The owner; `u32::MAX`: not resident.
        worker: u32,
        /// Owner: lower half of the epoch for which it has emptied the records.
        emptied: u32,
        /// Bytes of a record in units of 32.
        record_units: u32,
        /// All that is emptied, in units of 32 bytes: the records, and of a hashed shard the keys behind them.
        units: u32,
    }

    /// What the router relays to the workers.
    struct DevicePage align(128) {
        /// Not 0: end.
        stop: u32,
        /// Workers that have ended.
        ended: u32,
        /// C2: until when the device may act, in its own time (`%globaltimer`).
        lease_deadline_ns: u64,
        /// Wall clock less device time.
        wall_offset_ns: u64,
        /// Changes when sets, shards or routes have changed; its lowest bit says which route table holds.
        tables_version: u32,
        /// Must be 0.
        spare_word: u32,
        /// Must be 0.
        spare: [u64; 12],
    }

    /// Words between host and device in pinned memory. Each line has one writing side.
    struct HostPage align(128) {
        /// Host: end of what lies in the host's ring.
        ingress_tail: u32,
        /// Host: not 0: end.
        stop: u32,
        /// Host: C2, in device time.
        lease_deadline_ns: u64,
        /// Host: wall clock less device time.
        wall_offset_ns: u64,
        /// Host: see [`DevicePage::tables_version`].
        tables_version: u32,
        /// Must be 0.
        host_spare_word: u32,
        /// Host: position of the envelope in `bell` (`device/bell.cuh`).
        bell_position: u32,
        /// Host: its worker and slot.
        bell_dest: u32,
        /// Host: [`crate::bell::check`] of these and the envelope.
        bell_check: u64,
        /// Must be 0.
        host_spare: [u64; 2],
        /// Host: the newest envelope, if it was published alone.
        bell: [u64; 8],
        /// Router: end of what it has taken.
        ingress_head: u32,
        /// Must be 0.
        router_spare: u32,
        /// Router: device time of its last look.
        device_ns: u64,
        /// Must be 0.
        router_spare_words: [u64; 14],
        /// Host: consumed heads of the egress rings.
        egress_head: [u32; WORKERS],
        /// Workers: published tails of the egress rings.
        egress_tail: [u32; WORKERS],
        /// Workers: ingress envelopes they are finished with.
        ingress_done: [u64; WORKERS],
        /// Workers: version of the tables that they have adopted.
        tables_seen: [u32; WORKERS],
        /// Workers: the last version of which they have had every worker's marker.
        routes_flushed: [u32; WORKERS],
        /// Workers: the newest envelope that one of them published alone (`device/bell_lanes.cuh`).
        egress_bell: [u64; 8],
        /// Workers: its position in the ring of its worker.
        egress_bell_position: u32,
        /// Workers: that worker.
        egress_bell_worker: u32,
        /// Workers: [`crate::bell::check`] of these and the envelope.
        egress_bell_check: u64,
        /// Must be 0.
        egress_bell_spare: [u64; 6],
    }
}

impl SetEntry {
    /// How keys fall into so many shards; the rest is empty.
    #[must_use]
    pub fn of_keys(keys: KeySpace, shards: u16) -> Self {
        let keys_per_shard = keys.keys_per_shard(shards);
        Self {
            key_count: if let KeySpace::Dense { count } = keys { count } else { 0 },
            // A divisor of 1 has no reciprocal of 64 bits.
            magic: if keys_per_shard > 1 { u64::MAX / keys_per_shard + 1 } else { 0 },
            keys_per_shard,
            shards,
            dense: u16::from(matches!(keys, KeySpace::Dense { .. })),
            ..Self::default()
        }
    }
}

const _: () = assert!(size_of::<SetEntry>() == 64 && size_of::<ShardEntry>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_field_with_its_offset() {
        let text = c_text();
        assert!(text.contains("struct alignas(64) SetEntry {"));
        assert!(text.contains("static_assert(offsetof(HostPage, egress_tail) == 2304"), "{text}");
        assert!(text.contains("    u32 egress_head[512];"));
    }
}
