// Messages that found no room in their ring (C3, C9). Each waits for the position that it reserved, so the order in which
// they are looked at does not matter; room appears in order of position.
#pragma once
#include "send.cuh"

// Moves what has room now. Uniform over the block; called whenever a ring for which something waits has got room, because
// what is published counts on it.
RF_SLOW void drain_spill(const Params &p, Shared &s, u32 me) {
    uint2 *live = spill_live_of(p, me);
    u32 *free_slots = spill_free_of(p, me);
    const u32 waiting = s.spill_live;
    __syncthreads();
    if (threadIdx.x == 0) s.spill_kept = s.spill_ready = 0;
    __syncthreads();
    for (u32 base = 0; base < waiting; base += THREADS) {
        const u32 i = base + threadIdx.x;
        uint2 entry = make_uint2(0, 0);
        bool keep = false;
        if (i < waiting) {
            entry = live[i];
            const u32 ring = entry.x & 1023, slot = entry.x >> 10, slots = outbound_slots(ring);
            keep = !ring_has_room(entry.y, s.out_head[ring], slots);
            if (!keep) {
                const uint4 *from = reinterpret_cast<const uint4 *>(spill_of(p, me) + (u64)slot * sizeof(Envelope));
                uint4 *to = reinterpret_cast<uint4 *>(address_of(p, s, me, ring << SLOT_BITS | (entry.y & (slots - 1))));
                u32 bits = 0;
                for (u32 q = 0; q < 4; q++) {
                    const uint4 word = from[q];
                    if (q == 1) bits = word.w >> 16;
                    to[q] = word;
                }
                if (!is_control(bits)) {
                    count(s, RF_COUNTER(spill_now), ~0u);
                    count(s, ring == EGRESS ? RF_COUNTER(egress_out) : RF_COUNTER(ring_out));
                }
                free_slots[atomicAdd(&s.spill_free, 1)] = slot;
                atomicSub(&s.out_waiting[ring], 1);
                if (ring == EGRESS) s.egress_used = 1;
            }
        }
        // Entries of this stretch are in registers before any of them is overwritten; kept ones never move up.
        __syncthreads();
        if (keep) live[atomicAdd(&s.spill_kept, 1)] = entry;
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        if (s.spill_kept != waiting) s.spill_moved_ns = s.now_ns;
        s.spill_live = s.spill_kept;
    }
    __syncthreads();
}
