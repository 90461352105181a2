// Bench and test builds only: puts one message per actor into the rings before the workers start.
#pragma once
#include "rounds.cuh"

struct Seed {
    u64 first, actors, stride;
    u32 set, kind, left, hot, burst, each;
};

extern "C" __global__ void ringfleet_seed(const __grid_constant__ Params p, const __grid_constant__ Seed seed, u64 *placed) {
    const u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= seed.actors * seed.each) return;
    const u64 key = at % seed.actors;
    const SetEntry set = sets_of(p)[seed.set];
    u32 shard;
    if (!shard_of(set, key, set.dense ? 0 : mix64(key), shard)) return;
    // Into rings of this device only, before anything runs: from any peer to a worker here.
    const u32 to = reinterpret_cast<const u16 *>(p.routes)[set.route_base + shard] - p.device * WORKERS;
    const u32 from = (u32)(mix64(at) % PEERS);
    if (to >= WORKERS) return;
    const u32 position = atomicAdd(&tails_of(p, to)[from], 1);
    if (position >= RING_SLOTS) {
        atomicSub(&tails_of(p, to)[from], 1);
        return;
    }
    Envelope e = {};
    e.to_key = key;
    e.to_set = (u16)seed.set;
    e.from_set = (u16)seed.set;
    e.from_key = key;
    e.kind = (u16)seed.kind;
    e.bits = 32;
    u64 *words = reinterpret_cast<u64 *>(e.payload);
    if (seed.stride == 1) { // hop: Step
        e.bits = 16;
        words[0] = mix64(at + seed.first);
        words[1] = pack64((u32)seed.actors, seed.left - 1);
    } else if (seed.stride == 0) { // hotspot: Hop
        words[0] = pack64((u32)at + 1, seed.burst);
        words[1] = seed.actors;
        words[2] = pack64(seed.left, seed.hot);
        words[3] = mix64(at + seed.first);
    } else { // relay
        words[0] = 0;
        words[1] = seed.actors;
        words[2] = seed.stride;
        words[3] = pack64(seed.left, seed.burst);
    }
    uint4 *to_slot = reinterpret_cast<uint4 *>(p.rings) + (((u64)to * PEERS + from) * RING_SLOTS + (position & (RING_SLOTS - 1))) * 4;
    for (u32 q = 0; q < 4; q++) to_slot[q] = reinterpret_cast<uint4 *>(&e)[q];
    atomicAdd(reinterpret_cast<unsigned long long *>(placed), 1ull);
}
