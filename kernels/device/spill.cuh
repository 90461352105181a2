// Messages that found no room in their ring (C3, C9). Each waits for the position that it reserved.
//
// What waits for a ring has consecutive positions: the first is the first that had no room, the last is the ring's virtual tail. So a ring
// is drained from its first on, at a cost of what moves and not of what waits: a worker that has fallen behind would otherwise fall behind
// further. In a batch, lanes that find no room put (slot, ring, position) into a list in any order (reserve_spill); between
// batches the list is linked, when a ring has room for more than is in its pages: each position's slot goes to its place in a page of its ring. Pages hold SPILL_PAGE positions and come
// from a stack; a ring has as many as it needs.
#pragma once
#include "send.cuh"

// The page of a ring's position.
RF_FN u16 &page_at(const Params &p, u32 me, u32 ring, u32 position) {
    return reinterpret_cast<u16 *>(p.spill_table)[((u64)me * OUTBOUND + ring) * SPILL_TABLE + (position / SPILL_PAGE & (SPILL_TABLE - 1))];
}
RF_FN u32 *spill_page(const Params &p, u32 me, u32 page) {
    return reinterpret_cast<u32 *>(p.spill_pages) + ((u64)me * SPILL_PAGES + page) * SPILL_PAGE;
}
RF_FN u32 *free_pages_of(const Params &p, u32 me) { return reinterpret_cast<u32 *>(p.spill_free_pages) + (u64)me * SPILL_PAGES; }

// Before the first launch.
RF_SLOW void clear_spill(const Params &p, Shared &s, u32 me) {
#pragma unroll 1
    for (u32 i = threadIdx.x; i < SPILL_SLOTS; i += THREADS) spill_free_of(p, me)[i] = i;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < SPILL_PAGES; i += THREADS) free_pages_of(p, me)[i] = i;
    uint4 *table = reinterpret_cast<uint4 *>(&page_at(p, me, 0, 0));
#pragma unroll 1
    for (u32 i = threadIdx.x; i < OUTBOUND * SPILL_TABLE / 8; i += THREADS) table[i] = make_uint4(~0u, ~0u, ~0u, ~0u);
}

// Puts what was spilled since the last time into the pages. Uniform over the block, between two batches.
RF_SLOW void link_spill(const Params &p, Shared &s, u32 me) {
    const uint2 *fresh = spill_fresh_of(p, me);
    const u32 count = s.spill_fresh;
    __syncthreads();
    if (threadIdx.x == 0) s.spill_fresh = 0;
    // Of its ring each thread adds the pages that are not there.
    const u32 ring = threadIdx.x;
    if (ring < OUTBOUND && s.out_waiting[ring] != s.out_linked[ring]) {
        const u32 end = s.out_tail[ring], first = end - s.out_waiting[ring] + s.out_linked[ring];
        s.out_linked[ring] = s.out_waiting[ring];
#pragma unroll 1
        for (u32 at = first; is_past(end - 1, at); at = (at / SPILL_PAGE + 1) * SPILL_PAGE) {
            u16 &page = page_at(p, me, ring, at);
            if (page == NONE16) page = (u16)free_pages_of(p, me)[atomicSub(&s.spill_free_pages, 1) - 1];
        }
    }
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < count; i += THREADS) {
        const uint2 entry = fresh[i];
        spill_page(p, me, page_at(p, me, entry.x & 1023, entry.y))[entry.y & (SPILL_PAGE - 1)] = entry.x >> 10;
    }
    __syncthreads();
}

// Moves a message to the place in its ring that it has reserved: 16 bytes of it.
RF_FN bool move_spilled(const Params &p, const Shared &s, u32 me, u32 ring, u32 position, u32 slot, u32 q) {
    const uint4 word = reinterpret_cast<const uint4 *>(spill_of(p, me) + (u64)slot * sizeof(Envelope))[q];
    const u32 place = ring << SLOT_BITS | (position & (outbound_slots(ring) - 1));
    reinterpret_cast<uint4 *>(address_of(p, s, me, place))[q] = word;
    return q == 1 && !is_control(word.w >> 16); // it is a message
}

// While little waits, and nothing of it in pages, the list itself is looked through.
static constexpr u32 SHORT_LIST = 2 * THREADS;

RF_FN void drain_list(const Params &p, Shared &s, u32 me) {
    uint2 *list = spill_fresh_of(p, me);
    const u32 waiting = s.spill_fresh;
    __syncthreads();
    if (threadIdx.x == 0) s.spill_fresh = s.spill_ready = 0;
    __syncthreads();
    for (u32 base = 0; base < waiting; base += THREADS) {
        const u32 i = base + threadIdx.x;
        uint2 entry = make_uint2(0, 0);
        bool keep = false;
        if (i < waiting) {
            entry = list[i];
            const u32 ring = entry.x & 1023, slot = entry.x >> 10;
            keep = !ring_has_room(entry.y, s.out_head[ring], outbound_slots(ring));
            if (!keep) {
                bool message = false;
#pragma unroll
                for (u32 q = 0; q < 4; q++) message |= move_spilled(p, s, me, ring, entry.y, slot, q);
                if (message) {
                    count(s, RF_COUNTER(spill_now), ~0u);
                    count(s, ring == EGRESS ? RF_COUNTER(egress_out) : RF_COUNTER(ring_out));
                }
                spill_free_of(p, me)[atomicAdd(&s.spill_free, 1)] = slot;
                atomicSub(&s.out_waiting[ring], 1);
                if (ring == EGRESS) s.egress_used = 1;
            }
        }
        // Entries of this stretch are in registers before any of them is overwritten; kept ones never move up.
        __syncthreads();
        if (keep) list[atomicAdd(&s.spill_fresh, 1)] = entry;
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        if (s.spill_fresh != waiting) s.spill_moved_ns = s.now_ns;
        s.spill_live = s.spill_fresh;
    }
    __syncthreads();
}

// Moves what has room now. Uniform over the block; called whenever a ring for which something waits has got room, because
// what is published counts on it.
RF_SLOW void drain_spill(const Params &p, Shared &s, u32 me) {
    const bool as_list = s.spill_live == s.spill_fresh && s.spill_fresh <= SHORT_LIST;
    // Somewhere more has room than is in pages; or the list is long.
    const bool link = s.spill_link != 0 || s.spill_fresh > SPILL_SLOTS / 8;
    // Every thread has read what the first warps are about to change.
    __syncthreads();
    if (as_list) {
        drain_list(p, s, me);
        return;
    }
    if (link) link_spill(p, s, me);
    u32 *free_slots = spill_free_of(p, me);
    const u32 lane = threadIdx.x & 31, q = lane & 3;
    if (threadIdx.x == 0) s.spill_ready = s.spill_link = 0;
#pragma unroll 1
    for (u32 ring = threadIdx.x >> 5; ring < OUTBOUND; ring += WARPS) {
        const u32 waiting = s.out_waiting[ring], linked = s.out_linked[ring];
        if (waiting == 0) continue;
        const u32 tail = s.out_tail[ring], first = tail - waiting;
        const u32 end = ring_published_tail(tail, s.out_head[ring], outbound_slots(ring)), count_moved = end - first;
        u32 messages = 0;
#pragma unroll 1
        for (u32 k = lane >> 2; k < count_moved; k += 8) {
            const u32 at = first + k, slot = spill_page(p, me, page_at(p, me, ring, at))[at & (SPILL_PAGE - 1)];
            messages += move_spilled(p, s, me, ring, at, slot, q);
            if (q == 0) free_slots[atomicAdd(&s.spill_free, 1)] = slot;
        }
        __syncwarp();
        messages = __reduce_add_sync(~0u, messages);
        // Pages of which nothing is left. What waits still, and is in none, may go by the list.
        const u32 pages = ring_pages(first, end, SPILL_PAGE);
#pragma unroll 1
        for (u32 k = lane; count_moved != 0 && k < pages; k += 32) {
            const u32 at = (first / SPILL_PAGE + k) * SPILL_PAGE;
            if (count_moved != linked && !is_past(end, at + SPILL_PAGE)) continue;
            u16 &page = page_at(p, me, ring, at);
            free_pages_of(p, me)[atomicAdd(&s.spill_free_pages, 1)] = page;
            page = NONE16;
        }
        __syncwarp();
        if (lane == 0 && count_moved != 0) {
            s.out_waiting[ring] = waiting - count_moved;
            s.out_linked[ring] -= count_moved;
            count(s, RF_COUNTER(spill_now), ~messages + 1);
            count(s, ring == EGRESS ? RF_COUNTER(egress_out) : RF_COUNTER(ring_out), messages);
            atomicSub(&s.spill_live, count_moved);
            s.spill_moved_ns = s.now_ns;
            if (ring == EGRESS) s.egress_used = 1;
        }
    }
    __syncthreads();
}
