// What a worker keeps in shared memory.
#pragma once
#include "team.cuh"
#include "hlc.cuh"

static constexpr u32 NONE = ~0u;
static constexpr u16 NONE16 = 0xffff;

// A message's place: a slot of an outbound ring (ring << 20 | slot), or of the spill (SPILLED | slot), or NONE.
static constexpr u32 SPILLED = 1u << 31;
static constexpr u32 SLOT_BITS = 20;
static_assert(RINGFLEET_RING_SLOTS_MAX <= 1u << SLOT_BITS && RINGFLEET_WORKERS_MAX < 1u << (30 - SLOT_BITS), "places fit");

// In `record`: from here on it is not a record but why there is none.
static constexpr u32 NO_RECORD = 0xffffff00u;
static constexpr u32 IS_CONTROL = NO_RECORD + 0xff; // a marker, not a message

static constexpr u32 SCAN_WARPS = (INBOUND + 31) / 32; // warps that look at inbound rings, a lane per ring
static_assert(INBOUND <= THREADS, "a thread per ring");
static constexpr u32 COUNTERS = sizeof(WorkerCounters) / 8;

// What a worker knows by heart of the tables in device memory; read again when their version changes, between two batches, so
// that a batch sees one state of them.
static constexpr u32 SETS_KNOWN = 64;     // open addressing by id; the host adds at most RF_SETS_MAX
static_assert(RF_SETS_MAX < SETS_KNOWN, "probing ends at an empty place");
static constexpr u32 ROUTES_KNOWN = 4096; // larger tables are read from memory
static constexpr u32 SHARDS_KNOWN = 256;  // of this worker, open addressing; the host assigns at most RF_SHARDS_MAX to a worker
static_assert(RF_SHARDS_MAX < SHARDS_KNOWN, "probing ends at an empty place");

// In `bucket`, beside the bucket's number, when a message has been ranked.
static constexpr u32 BUCKET_MASK = 0x1fff;
static constexpr u32 ASIDE = 0x2000;     // it is not run
static constexpr u32 FIRST_OF_MANY = 0x4000;
static constexpr u32 NOT_FIRST = 0x8000; // of its bucket
static_assert(BUCKETS - 1 <= BUCKET_MASK, "bucket numbers and flags share 16 bits");
static constexpr u32 MANY = 8; // messages of one bucket, all of one actor most likely

struct KnownShard {
    u32 index; // into routes and shards; NONE: empty
    u32 base, capacity;
    u32 keys;     // units from base to the keys of a hashed shard
    u32 fresh;    // units to be emptied before the first message
    u32 closed;   // the gate: messages of clients are refused
    u32 opened;   // 1 + index of the last gate marker in this batch, or 0
    u32 full_from; // index of the first message of this batch that found the shard full, or NONE
};

struct Shared {
    uint4 stage[BATCH * 4];   // the batch, 16-byte chunks swizzled (chunk_at); later, in the same places, what is sent
    u32 bucket_head[BUCKETS]; // grouping: last message of a bucket
    u32 record[BATCH];        // of the target actor, in units; when handled, the place of the first message that it sent
    u16 next[BATCH];          // chain within a bucket
    u16 bucket[BATCH];        // with flags; NONE16: not for an actor
    u16 later[BATCH];         // messages that are the second of their bucket
    u16 after[BATCH];         // the next of the same bucket, in order
    SetEntry sets[SETS_KNOWN];
    u32 set_known[SETS_KNOWN]; // ids; 0: empty
    KnownShard shards[SHARDS_KNOWN];
    u16 routes[ROUTES_KNOWN];
    u32 in_head[INBOUND];     // consumed
    u32 in_take[INBOUND];     // of this batch
    u32 in_from[INBOUND];     // where they lie in the batch
    u32 in_published[INBOUND];
    u32 out_tail[OUTBOUND];   // virtual
    u32 out_head[OUTBOUND];   // as polled
    u32 out_published[OUTBOUND];
    u32 out_waiting[OUTBOUND]; // in the spill
    u32 out_linked[OUTBOUND];  // of these, in pages
    u64 out_base[OUTBOUND];   // slots of the ring
    u64 counters[COUNTERS];
    u32 counts[COUNTERS]; // since they were last added up
    u64 now_hlc, limit_hlc, lease_ns, wall_offset_ns, now_ns, round_began_ns, spill_moved_ns, ingress_told;
    u64 ingress_noted; // may be told when the egress ring is published up to noted_tail; 0: nothing waits for that
    u64 ended_ns;
    u64 timers_next_ms; // when the first timer is due, or before
    u64 timers_set;     // so far: numbers them
    u32 ready[SCAN_WARPS];
    u32 batch, later_count, spill_live, spill_fresh, spill_free, spill_free_pages, spill_ready, tables_version, tables_wanted, stop;
    u32 handled, sent, to_rings, egress_used, may_publish, gates, overload, left_dirty, rounds;
    u32 taken_in; // of the ingress, in this round
    u32 spill_link; // somewhere more has room than is in pages (spill.cuh)
    u32 hot, hot_next; // this batch is ranked first; some bucket has many messages
    u32 timers_free, timers_high, timers_take, timers_due;
    u32 markers[2]; // route markers received, by the table that they announce
    u32 noted_tail, flush_tail; // of the egress
    u32 flush_due; // the version of the routes of which every marker is there, until that is told; 0: none
    u64 phase[8];
};

static_assert(sizeof(Shared) <= 227 * 1024, "C9: shared memory of a block");

// What a lane counts in registers.
struct Tally {
    u32 handled, sent, to_rings;
};

// Consecutive messages' equal chunks fall into different banks: 8 lanes reading chunk q of 8 messages touch all 32.
RF_FN u32 chunk_at(u32 message, u32 q) { return message * 4 + (q ^ (message >> 1 & 3)); }

RF_FN void stage_load(const Shared &s, u32 message, Envelope &e) {
    uint4 *words = reinterpret_cast<uint4 *>(&e);
#pragma unroll
    for (u32 q = 0; q < 4; q++) words[q] = s.stage[chunk_at(message, q)];
}
RF_FN void stage_store(Shared &s, u32 message, const Envelope &e) {
    const uint4 *words = reinterpret_cast<const uint4 *>(&e);
#pragma unroll
    for (u32 q = 0; q < 4; q++) s.stage[chunk_at(message, q)] = words[q];
}

// Counts in the round's own small counters; write_counters() adds them up. Counting down is adding ~0.
RF_FN void count(Shared &s, u32 counter, u32 by = 1) { atomicAdd(&s.counts[counter], by); }
#define RF_COUNTER(field) ((u32)(offsetof(WorkerCounters, field) / 8))
