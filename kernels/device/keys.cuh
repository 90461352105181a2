// From a key to its shard (C1) and to its actor's record. Fixed for ever; see kernels/abi/src/{hash,keyspace}.rs.
//
// A record is 16 bytes of header and the state. Dense sets index records directly. Hashed sets probe a shard's records
// linearly from the key's home; the complement of the key stands in the header, 0 means free, and the one key whose
// complement is 0 has a record of its own behind the table. Only the owner worker touches a shard; two lanes of it may
// claim the same free record, so claiming is a compare-and-swap.
#pragma once
#include "shared.cuh"

RF_FN u64 mix64(u64 x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    return x ^ (x >> 33);
}

RF_SLOW u32 divide_long_key(u64 key, u32 keys_per_shard) { return (u32)(key / keys_per_shard); }

// Dense: key / keys per shard, without a division for keys below 2^32 (Lemire: exact for 32-bit operands). The product of a
// 32-bit key and the 64-bit magic is taken in two halves.
RF_FN bool shard_of(const SetEntry &set, u64 key, u64 mixed, u32 &shard) {
    if (!set.dense) {
        shard = (u32)mul_high(mixed, set.shards);
        return true;
    }
    if (key >= set.key_count) return false;
    const u32 low = (u32)key;
    if (key >> 32) shard = divide_long_key(key, set.keys_per_shard);
    else shard = (u32)(((u64)low * (u32)(set.magic >> 32) + __umulhi(low, (u32)set.magic)) >> 32);
    return true;
}

struct alignas(16) RecordHeader {
    u64 key; // complement of the key; hashed sets only
    u64 hlc; // last stamp | flags; 0: no actor yet
};
static constexpr u64 RECORD_FAILED = 1ull << 63;  // failed, and stays so
static constexpr u64 RECORD_STOPPED = 1ull << 62; // stopped: the next message activates it anew, above this stamp
static_assert(HLC_MAX < RECORD_STOPPED, "flags and stamp share a word");

// The record of `key` in a hashed shard, from the home record `at` on, whose key word is `found`; 0 if the table is full.
RF_FN u64 probe(u64 shard_base, u32 capacity, u32 record_bytes, u64 key, u64 at, u64 found) {
    const u64 wanted = ~key, end = shard_base + (u64)capacity * record_bytes;
    for (u32 tries = 0; tries < capacity; tries++) {
        if (found == wanted) return at;
        if (found == 0) {
            found = atomicCAS(reinterpret_cast<unsigned long long *>(at), 0ull, (unsigned long long)wanted);
            if (found == 0 || found == wanted) return at;
        }
        at += record_bytes;
        if (at == end) at = shard_base;
        found = *reinterpret_cast<volatile u64 *>(at);
    }
    return 0;
}
