// From a key to its actor's record; `mix64` is fixed for ever, see kernels/abi/src/hash.rs.
//
// A record is 16 bytes of header, the state, and in sets that need it a `Keep` (ctx.cuh). Dense sets index records directly. Behind the records of a hashed shard lie
// its keys, 8 bytes for each record: the complement of the key, 0 means free, and the one key whose complement is 0 has a
// record of its own behind the others. Keys are probed in groups of four, one sector, from the key's home group on. Only the
// owner worker touches a shard; two lanes of it may claim the same free place, so claiming is a compare-and-swap.
#pragma once
#include "shared.cuh"
#include "shards.cuh"

RF_FN u64 mix64(u64 x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ (x >> 33);
}

struct alignas(16) RecordHeader {
    u64 generation; // of the actor: how often it has stopped or started anew; what its timers belong to
    u64 hlc;        // last stamp | flags; 0: no actor yet
};
static constexpr u64 RECORD_FAILED = 1ull << 63;  // failed, and stays so
static constexpr u64 RECORD_STOPPED = 1ull << 62; // stopped: the next message activates it anew, above this stamp
static_assert(HLC_MAX < RECORD_STOPPED, "flags and stamp share a word");

static constexpr u32 KEY_GROUP = 4;

struct KeyGroup {
    u64 keys[KEY_GROUP];
};

RF_FN KeyGroup load_group(u64 keys, u32 group) {
    const ulonglong2 a = load_keys(reinterpret_cast<const void *>(keys + (u64)group * sizeof(KeyGroup)));
    const ulonglong2 b = load_keys(reinterpret_cast<const void *>(keys + (u64)group * sizeof(KeyGroup) + 16));
    return {{a.x, a.y, b.x, b.y}};
}

// Where `wanted` stands in the group, or where the group is free first: 0 to 3; 4: neither.
RF_FN u32 place_in_group(const KeyGroup &group, u64 wanted, bool &free) {
    u32 place = KEY_GROUP;
    free = false;
#pragma unroll
    for (u32 k = KEY_GROUP; k-- > 0;)
        if (group.keys[k] == 0) {
            place = k;
            free = true;
        }
#pragma unroll
    for (u32 k = 0; k < KEY_GROUP; k++)
        if (group.keys[k] == wanted) {
            place = k;
            free = false;
        }
    return place;
}

// The index of the record of `wanted` in a hashed shard, claimed if it has none, from the group `at` on; `capacity` if the shard
// is full. Places are never given back, so whoever looks for the same key looks at the same
// places, and finds them taken in the same order.
RF_FN u32 probe(u64 keys, u32 capacity, u64 wanted, u32 at) {
    const u32 groups = capacity / KEY_GROUP;
    KeyGroup group = load_group(keys, at);
    for (u32 tries = 0; tries < groups;) {
        bool free;
        const u32 place = place_in_group(group, wanted, free);
        if (place < KEY_GROUP) {
            const u32 index = at * KEY_GROUP + place;
            if (!free) return index;
            unsigned long long *word = reinterpret_cast<unsigned long long *>(keys) + index;
            const u64 found = atomicCAS(word, 0ull, (unsigned long long)wanted);
            if (found == 0 || found == wanted) return index;
            group = load_group(keys, at); // another lane was first, with another key
            continue;
        }
        at = at + 1 == groups ? 0 : at + 1;
        group = load_group(keys, at);
        tries++;
    }
    return capacity;
}
