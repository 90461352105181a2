// A warp's side of bells (bell.cuh): the line of a worker, behind its row of tails, and the line of the host for what comes out.
//
// A message that a worker or the router sends alone is written to the ring as any other, and once more, with its ring and position, to the
// bell of its receiver; the tail follows behind the fence. A receiver with little to do reads its bell with its tails. What it finds there
// whole, at the position that it is to read next of that ring, it takes at once: one read in place of three (tail, acquire, slot), and no
// wait for the sender's fence.
//
// * Nothing is believed but what adds up, so no order of these stores and loads matters, and any number of senders may write one
//   line. A message whose bell was torn or overwritten comes by its tail.
// * C3: a position is taken once, by bell or by tail, and the bell only when everything before it has been taken.
// * C2: a bell is rung only when the round may publish; its tail is published in the same round.
// * A line keeps what was written last. The position repeats after 2^32 messages of a ring, many seconds at any rate; so a worker
//   believes only what was stamped in the last seconds, and the host nothing that it has seen before.
#pragma once
#include "bell.cuh"
#include "hlc.cuh"
#include "memory.cuh"

static constexpr u32 BELL_CHUNKS = 5; // 16 bytes each: an envelope; ring, position and check
static constexpr u64 BELL_AGE_MAX = 4000ull << RINGFLEET_HLC_COUNTER_BITS;

// The sum over the lanes 0 to 4, of which the first four have an envelope's chunks and the last has ring and position.
RF_FN u64 bell_sum(const uint4 &chunk) {
    const u32 lane = threadIdx.x & 31;
    const u64 low = pack64(chunk.x, chunk.y), high = pack64(chunk.z, chunk.w);
    u64 sum = 0;
    if (lane < 4) sum = bell_part(low, lane * 2 + 1) + bell_part(high, lane * 2 + 2);
    if (lane == 4) sum = BELL_SALT + bell_part(low, 0);
#pragma unroll
    for (u32 step = 4; step != 0; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
    return sum;
}

// Lane q < 4 has chunk q of the envelope that lies at this position of this ring, as the reader of the bell numbers it.
RF_FN void ring_bell(uint4 *bell, uint4 chunk, u32 ring, u32 position) {
    const u32 lane = threadIdx.x & 31;
    if (lane == 4) chunk = make_uint4(position, ring, 0, 0);
    const u64 sum = bell_sum(chunk);
    if (lane == 4) chunk = make_uint4(position, ring, (u32)sum, (u32)(sum >> 32));
    if (lane < BELL_CHUNKS) store_system_16(bell + lane, chunk);
}

// The same for an envelope that came by another bell and adds up there: the check is only moved.
RF_FN void pass_bell(uint4 *bell, uint4 chunk, u64 check, u64 was, u32 ring, u32 position) {
    const u32 lane = threadIdx.x & 31;
    const u64 sum = check - bell_part(was, 0) + bell_part(pack64(position, ring), 0);
    if (lane == 4) chunk = make_uint4(position, ring, (u32)sum, (u32)(sum >> 32));
    if (lane < BELL_CHUNKS) store_system_16(bell + lane, chunk);
}

// Whether the line, of which lane q < 5 has chunk q, is whole and new.
RF_FN bool bell_is_new(const uint4 &chunk, u64 now_hlc) {
    const u32 lane = threadIdx.x & 31;
    const bool adds_up = bell_sum(chunk) == pack64(chunk.z, chunk.w); // of lane 4
#if RF_HLC
    const bool young = pack64(chunk.x, chunk.y) + BELL_AGE_MAX > now_hlc; // of lane 1
#else
    const bool young = true;
#endif
    return __all_sync(~0u, (lane != 4 || adds_up) && (lane != 1 || young));
}
