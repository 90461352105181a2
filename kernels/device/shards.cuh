// From a key to its shard (C1). Fixed for ever; see kernels/abi/src/{hash,keyspace}.rs. Also compiled for the host, and tested there.
#pragma once
#include "base.cuh"
#include "rf_layout.cuh"

RF_SLOW u32 divide_long_key(u64 key, u64 keys_per_shard) { return (u32)(key / keys_per_shard); }

// `mixed`: mix64 of the key, for a hashed set. Dense: key / keys per shard, without a division for keys below 2^32 (Lemire: exact for
// 32-bit operands) unless there is no magic. The product of a 32-bit key and the 64-bit magic is taken in two halves. Never a shard
// that the set does not have.
RF_FN bool shard_of(const SetEntry &set, u64 key, u64 mixed, u32 &shard) {
    if (!set.dense) {
        shard = (u32)mul_high(mixed, set.shards);
        return true;
    }
    if (key >= set.key_count) return false;
    const u32 low = (u32)key;
    if (key >> 32 || set.magic == 0) shard = divide_long_key(key, set.keys_per_shard);
    else shard = (u32)(((u64)low * (u32)(set.magic >> 32) + mul_high32(low, (u32)set.magic)) >> 32);
    return shard < set.shards;
}
