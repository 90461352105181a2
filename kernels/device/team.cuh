// Who does a round's work: the whole block, or its first warp for a handful of messages while the others wait at a barrier. Every
// part of a round is written once, for either: a second copy of the handlers would cost registers and instruction cache.
#pragma once
#include "config.cuh"

struct Team {
    u32 size; // threads, the first of the block

    RF_FN u32 warps() const { return size / 32; }
    RF_FN bool is_alone() const { return size != THREADS; }
    RF_FN void sync() const {
        if (is_alone()) __syncwarp();
        else __syncthreads();
    }
};

// What a warp takes alone: a message a lane, and no more than an empty spill can hold of what is sent.
static constexpr u32 ALONE_ROOM = (SPILL_SLOTS - PEERS) / (MAX_SENDS + 1), ALONE_MOST = BATCH < 32 ? BATCH : 32;
static constexpr u32 ALONE_MAX = ALONE_MOST < ALONE_ROOM ? ALONE_MOST : ALONE_ROOM;
