// Finding the actor of each staged message, and grouping messages of one actor without losing their order (C3).
#pragma once
#include "keys.cuh"

RF_FN const SetEntry *sets_of(const Params &p) { return reinterpret_cast<const SetEntry *>(p.sets); }
RF_FN const ShardEntry *shards_of(const Params &p) { return reinterpret_cast<const ShardEntry *>(p.shards); }
RF_FN char *arena_of(const Params &p) { return reinterpret_cast<char *>(p.arena); }
RF_FN u64 record_address(const Params &p, u32 record) { return p.arena + (u64)record * RECORD_UNIT; }

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

// A fired timer in the batch; anywhere else the flag is refused. Its `from_key` is the generation that it belongs to.
static constexpr u32 FLAG_FIRED = RINGFLEET_FLAG_SPARE;

// What an envelope of this version may have in its bits.
RF_FN bool bits_are_sane(u32 bits) {
    return (bits & RINGFLEET_LEN_MASK) <= RINGFLEET_PAYLOAD_BYTES_MAX &&
           (bits >> RINGFLEET_SLOTS_SHIFT & RINGFLEET_SLOTS_MASK) == 0 &&
           !(bits >> RINGFLEET_FLAGS_SHIFT & RINGFLEET_FLAG_SPARE);
}

RF_FN bool is_control(u32 bits) {
    return bits >> RINGFLEET_FLAGS_SHIFT & (RINGFLEET_FLAG_MARKER | RINGFLEET_FLAG_CONTROL);
}

// Whether message `j` came through the ingress.
RF_FN bool is_ingress(const Shared &s, u32 j) { return j - s.in_from[INGRESS] < s.in_take[INGRESS]; }

// Where a message's actor is, or of a hashed set where to look for it.
struct Home {
    u32 record;  // in units, or NO_RECORD + why there is none
    u32 bucket;  // by which it is grouped
    u32 group;   // of its shard's keys, where probing begins
    u64 keys;    // of its shard; 0: the record is known
};

RF_FN Home find_home(const Params &p, Shared &s, u32 j) {
    const Head h = head_of(s, j);
    Home home = {};
    if (is_control(h.bits) && j >= s.timers_take) {
        home.record = IS_CONTROL;
        return home;
    }
    u32 dead = NONE, shard, index;
    KnownShard *here = nullptr;
    const SetEntry *set = set_of(s, h.to_set);
    const u64 mixed = set == nullptr || set->dense ? 0 : mix64(h.to_key);
    if (set == nullptr) dead = RINGFLEET_DEAD_NO_SUCH_SET;
    else if (!shard_of(*set, h.to_key, mixed, shard)) dead = RINGFLEET_DEAD_NO_SUCH_KEY;
    else if ((here = shard_here(s, set->route_base + shard)) == nullptr) dead = RINGFLEET_DEAD_NOT_RESIDENT;
    if (here != nullptr && h.from_set == RINGFLEET_SET_CLIENT && here->closed && (here->opened == 0 || j < here->opened))
        dead = RINGFLEET_DEAD_OVERLOADED; // refused as busy: nothing overtakes what was refused before (C3)
    else if (!bits_are_sane(h.bits) && j >= s.timers_take) dead = RINGFLEET_DEAD_BAD_MESSAGE;
#if RF_HLC
    else if (h.hlc > s.limit_hlc && is_ingress(s, j)) dead = RINGFLEET_DEAD_STAMP_AHEAD; // between workers stamps are this node's own
#endif
    if (dead != NONE) {
        home.record = NO_RECORD + dead;
        return home;
    }
    if (set->dense) {
        index = (u32)(h.to_key - (u64)shard * set->keys_per_shard);
        home.bucket = (u32)h.to_key & (BUCKETS - 1);
    } else {
        index = here->capacity;
        home.bucket = (u32)(mixed >> 7) & (BUCKETS - 1);
        if (~h.to_key != 0) {
            home.keys = record_address(p, here->base + here->keys);
            home.group = ((u32)mixed & (here->capacity - 1)) / KEY_GROUP;
            index = 0;
        }
    }
    home.record = here->base + index * set->record_units;
    return home;
}

// Gate markers of this batch, before its messages are resolved: a message behind a marker is not refused.
RF_SLOW void look_for_gate_markers(Shared &s, Team team) {
    for (u32 k = threadIdx.x; k < s.in_take[INGRESS]; k += team.size) {
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
    team.sync();
}

// The shard takes no more for message `j`. If a client sent it, later ones of clients are refused until a gate marker comes (C3).
RF_SLOW void close_gate(Shared &s, u32 j) {
    const Head h = head_of(s, j);
    if (h.from_set != RINGFLEET_SET_CLIENT) return;
    const SetEntry *set = set_of(s, h.to_set);
    u32 shard;
    shard_of(*set, h.to_key, mix64(h.to_key), shard);
    atomicMin(&shard_here(s, set->route_base + shard)->full_from, j);
    s.gates = 1;
}

// Whether a client's message of this batch stands behind one that its shard did not take.
RF_SLOW bool behind_a_refusal(Shared &s, u32 j) {
    const Head h = head_of(s, j);
    if (h.from_set != RINGFLEET_SET_CLIENT) return false;
    const SetEntry *set = set_of(s, h.to_set);
    u32 shard;
    shard_of(*set, h.to_key, mix64(h.to_key), shard);
    return shard_here(s, set->route_base + shard)->full_from < j;
}

// Behind a batch: what its markers and refusals leave of the gates.
RF_SLOW void settle_gates(Shared &s, Team team) {
    for (u32 i = threadIdx.x; i < SHARDS_KNOWN; i += team.size) {
        KnownShard &known = s.shards[i];
        if (known.full_from != NONE) known.closed = 1;
        else if (known.opened != 0) known.closed = 0;
        known.opened = 0;
        known.full_from = NONE;
    }
    if (threadIdx.x == 0) s.gates = 0;
}

// Hangs a message into the chain of its bucket. A bucket may hold several actors: that costs time, never order. Chains are in
// no order; rank_of() reads the order off the batch indices, which follow the rings.
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

// The record of a hashed set's message that is not in its home group.
RF_SLOW u32 probe_message(Shared &s, u32 j, u64 keys, u32 group, u32 first_record) {
    const Head h = head_of(s, j);
    const SetEntry &set = *set_of(s, h.to_set);
    u32 shard;
    shard_of(set, h.to_key, mix64(h.to_key), shard);
    const u32 capacity = shard_here(s, set.route_base + shard)->capacity;
    const u32 index = probe(keys, capacity, ~h.to_key, group);
    if (index != capacity) return first_record + index * set.record_units;
    close_gate(s, j);
    return NO_RECORD + RINGFLEET_DEAD_SHARD_FULL;
}

// Every lane resolves its messages, one after the other: keeping what belongs to several at once in registers cost more than it
// brought.
RF_FN void resolve_batch(const Params &p, Shared &s, Team team) {
    if (s.in_take[INGRESS] != 0) look_for_gate_markers(s, team);
#pragma unroll 1
    for (u32 j = threadIdx.x; j < s.batch; j += team.size) {
        const Home home = find_home(p, s, j);
        u32 record = home.record;
        if (home.keys != 0) {
            const Head h = head_of(s, j);
            const KeyGroup group = load_group(home.keys, home.group);
            bool free;
            const u32 place = place_in_group(group, ~h.to_key, free);
            if (place < KEY_GROUP && !free) record += (home.group * KEY_GROUP + place) * set_of(s, h.to_set)->record_units;
            else record = probe_message(s, j, home.keys, home.group, record);
        }
        if (record < NO_RECORD) prefetch_l2(reinterpret_cast<void *>(record_address(p, record)));
        group_message(s, j, record, home.bucket);
    }
}

// How many messages of the same bucket come before message `j` (2 stands for all above 1), which comes next, and whether there are
// many. Each message of a chain walks it, all at the same time; so a hot actor costs its chain's length once, not squared.
RF_FN u32 rank_of(const Shared &s, u32 j, u32 &after, bool &many) {
    u32 at = s.bucket_head[s.bucket[j]];
    after = NONE16;
    many = false;
    if (at == j && s.next[j] == NONE16) return 0;
    u32 rank = 0, length = 0;
    while (at != NONE16) {
        rank += at < j;
        if (at > j && at < after) after = at;
        at = s.next[at];
        length++;
    }
    many = length > MANY;
    return min(rank, 2u);
}
