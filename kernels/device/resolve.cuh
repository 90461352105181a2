// Finding the actor of each staged message, and grouping messages of one actor without losing their order (C3).
#pragma once
#include "keys.cuh"

RF_FN const SetEntry *sets_of(const Params &p) { return reinterpret_cast<const SetEntry *>(p.sets); }
RF_FN const ShardEntry *shards_of(const Params &p) { return reinterpret_cast<const ShardEntry *>(p.shards); }
RF_FN char *arena_of(const Params &p) { return reinterpret_cast<char *>(p.arena); }

// The header half of a staged message.
struct Head {
    u64 to_key, from_key, hlc;
    u16 to_set, from_set, kind, bits;
};

RF_FN Head head_of(const Shared &s, u32 j) {
    union {
        uint4 words[2];
        Head head;
    } both;
    both.words[0] = s.stage[chunk_at(j, 0)];
    both.words[1] = s.stage[chunk_at(j, 1)];
    return both.head;
}

// The set of this id as this batch sees it, or null.
RF_FN const SetEntry *set_of(const Shared &s, u32 set) {
    if (set == RINGFLEET_SET_NONE) return nullptr;
    for (u32 at = set & (SETS_KNOWN - 1);; at = (at + 1) & (SETS_KNOWN - 1)) {
        const u32 known = s.set_known[at];
        if (known == set) return &s.sets[at];
        if (known == 0) return nullptr;
    }
}

// A shard of this worker, or null.
RF_FN KnownShard *shard_here(Shared &s, u32 index) {
    for (u32 at = index & (SHARDS_KNOWN - 1);; at = (at + 1) & (SHARDS_KNOWN - 1)) {
        KnownShard &known = s.shards[at];
        if (known.index == index) return &known;
        if (known.index == NONE) return nullptr;
    }
}

// Where a message's actor should be: its record, or of a hashed set its home record.
struct Home {
    u32 record; // in units, or NO_RECORD + why there is none
    u32 group;  // by which it is grouped
    bool hashed; // the record is where probing begins
    u64 wanted;  // its key word
};

RF_FN Home find_home(const Params &p, Shared &s, u32 j) {
    const Head h = head_of(s, j);
    Home home = {};
    home.wanted = ~h.to_key;
    const u32 flags = h.bits >> RINGFLEET_FLAGS_SHIFT;
    if (flags & (RINGFLEET_FLAG_MARKER | RINGFLEET_FLAG_CONTROL)) {
        home.record = IS_CONTROL;
        return home;
    }
#if RF_HLC
    if (h.hlc > s.limit_hlc) {
        home.record = NO_RECORD + RINGFLEET_DEAD_STAMP_AHEAD;
        return home;
    }
#endif
    const SetEntry *set = set_of(s, h.to_set);
    if (set == nullptr) {
        home.record = NO_RECORD + RINGFLEET_DEAD_NO_SUCH_SET;
        return home;
    }
    const u64 mixed = set->dense ? 0 : mix64(h.to_key);
    u32 shard, index;
    if (!shard_of(*set, h.to_key, mixed, shard)) {
        home.record = NO_RECORD + RINGFLEET_DEAD_NO_SUCH_KEY;
        return home;
    }
    KnownShard *here = shard_here(s, set->route_base + shard);
    if (here == nullptr) {
        home.record = NO_RECORD + RINGFLEET_DEAD_NOT_RESIDENT;
        return home;
    }
    if (h.from_set == RINGFLEET_SET_CLIENT && here->closed && (here->opened == 0 || j < here->opened)) {
        home.record = NO_RECORD + RINGFLEET_DEAD_OVERLOADED; // refused as busy: nothing overtakes what was refused before (C3)
        return home;
    }
    if (set->dense) {
        index = (u32)(h.to_key - (u64)shard * set->keys_per_shard);
        home.group = (u32)h.to_key;
    } else {
        home.hashed = ~h.to_key != 0;
        index = ~h.to_key == 0 ? here->capacity : (u32)mixed & (here->capacity - 1);
        home.group = (u32)(mixed >> 7);
    }
    home.record = here->base + index * set->record_units;
    return home;
}

RF_FN u64 record_address(const Params &p, u32 record) { return p.arena + (u64)record * RECORD_UNIT; }

// Gate markers of this batch, before its messages are resolved: a message behind a marker is not refused.
RF_SLOW void look_for_gate_markers(Shared &s, const Params &p) {
    for (u32 k = threadIdx.x; k < s.in_take[INGRESS]; k += THREADS) {
        const u32 j = s.in_from[INGRESS] + k;
        const Head h = head_of(s, j);
        if (!(h.bits >> RINGFLEET_FLAGS_SHIFT & RINGFLEET_FLAG_MARKER) || h.to_set == RINGFLEET_SET_NONE) continue;
        const SetEntry *set = set_of(s, h.to_set);
        if (set == nullptr || (h.to_key & 0xffff) >= set->shards) continue;
        KnownShard *here = shard_here(s, set->route_base + (u32)(h.to_key & 0xffff));
        if (here == nullptr) continue;
        atomicMax(&here->opened, j + 1);
        s.gates = 1;
    }
    __syncthreads();
}

// The shard is full for message `j`. If a client sent it, later ones of clients are refused until a gate marker comes (C3).
RF_SLOW void close_gate(const Params &p, Shared &s, u32 j) {
    const Head h = head_of(s, j);
    if (h.from_set != RINGFLEET_SET_CLIENT) return;
    const SetEntry *set = set_of(s, h.to_set);
    u32 shard;
    shard_of(*set, h.to_key, mix64(h.to_key), shard);
    atomicMin(&shard_here(s, set->route_base + shard)->full_from, j);
    s.gates = 1;
}

// Whether a client's message of this batch stands behind one that found its shard full.
RF_SLOW bool behind_a_refusal(Shared &s, const Params &p, u32 j) {
    const Head h = head_of(s, j);
    if (h.from_set != RINGFLEET_SET_CLIENT) return false;
    const SetEntry *set = set_of(s, h.to_set);
    u32 shard;
    shard_of(*set, h.to_key, mix64(h.to_key), shard);
    return shard_here(s, set->route_base + shard)->full_from < j;
}

// Behind a batch: what its markers and refusals leave of the gates.
RF_SLOW void settle_gates(Shared &s) {
    for (u32 i = threadIdx.x; i < SHARDS_KNOWN; i += THREADS) {
        KnownShard &known = s.shards[i];
        if (known.full_from != NONE) known.closed = 1;
        else if (known.opened != 0) known.closed = 0;
        known.opened = 0;
        known.full_from = NONE;
    }
    if (threadIdx.x == 0) s.gates = 0;
}

// Every thread resolves its messages and hangs them into the chain of their bucket. A bucket may hold several actors: that
// costs time, never order. Chains are in no order; rank_of() and next_in_order() read the order off the batch indices, which
// follow the rings.
//
// The key words of hashed records are loaded for all messages of a thread before the first is looked at.
RF_FN void group_message(Shared &s, u32 j, u32 record, u32 bucket) {
    s.record[j] = record;
    if (record < NO_RECORD) {
        s.bucket[j] = (u16)bucket;
        s.next[j] = (u16)atomicExch(&s.bucket_head[bucket], j);
#if !RF_ORDER
        s.after[j] = s.next[j];
#endif
    } else {
        s.bucket[j] = NONE16;
    }
}

// The record of a hashed set's message whose home record belongs to another key, or to none.
RF_SLOW u32 probe_message(const Params &p, Shared &s, u32 j, u64 found) {
    const Head h = head_of(s, j);
    const SetEntry &set = *set_of(s, h.to_set);
    u32 shard;
    shard_of(set, h.to_key, mix64(h.to_key), shard);
    const KnownShard &here = *shard_here(s, set.route_base + shard);
    const u64 at = probe(record_address(p, here.base), here.capacity, set.record_units * RECORD_UNIT, h.to_key,
                         record_address(p, s.record[j]), found);
    if (at != 0) {
        prefetch_l2(reinterpret_cast<void *>(at));
        return (u32)((at - p.arena) / RECORD_UNIT);
    }
    close_gate(p, s, j);
    return NO_RECORD + RINGFLEET_DEAD_SHARD_FULL;
}

RF_FN void resolve_batch(const Params &p, Shared &s) {
    if (s.in_take[INGRESS] != 0) look_for_gate_markers(s, p);
    constexpr u32 EACH = (BATCH + THREADS - 1) / THREADS;
    u64 found[EACH], wanted[EACH];
#pragma unroll
    for (u32 k = 0; k < EACH; k++) {
        const u32 j = k * THREADS + threadIdx.x;
        found[k] = wanted[k] = 0;
        if (j < s.batch) {
            const Home home = find_home(p, s, j);
            const u32 bucket = home.group & (BUCKETS - 1);
            if (home.hashed) {
                wanted[k] = home.wanted;
                found[k] = *reinterpret_cast<volatile u64 *>(record_address(p, home.record));
                s.record[j] = home.record;
                s.bucket[j] = (u16)bucket;
            } else {
                if (home.record < NO_RECORD) prefetch_l2(reinterpret_cast<void *>(record_address(p, home.record)));
                group_message(s, j, home.record, bucket);
            }
        }
    }
#pragma unroll
    for (u32 k = 0; k < EACH; k++) {
        const u32 j = k * THREADS + threadIdx.x;
        if (wanted[k] == 0) continue;
        const u32 record = found[k] == wanted[k] ? s.record[j] : probe_message(p, s, j, found[k]);
        group_message(s, j, record, s.bucket[j]);
    }
}

// How many messages of the same bucket come before message `j` (2 stands for all above 1), and which comes next. Each
// message of a chain walks it, all at the same time; so a hot actor costs its chain's length once, not squared.
RF_FN u32 rank_of(const Shared &s, u32 j, u32 &after) {
    u32 at = s.bucket_head[s.bucket[j]];
    after = NONE16;
    if (at == j && s.next[j] == NONE16) return 0;
    u32 rank = 0;
    while (at != NONE16) {
        rank += at < j;
        if (at > j && at < after) after = at;
        at = s.next[at];
    }
    return min(rank, 2u);
}
