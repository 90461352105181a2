// A worker that has little to do (C2, C3, C7): its first warp polls, handles and publishes on its own, while the rest of the
// block waits at a barrier. A message between idle workers meets no barrier of a block, one fence where it is sent and one
// acquire where it is taken.
//
// Only what is plain is done so. Whatever is not (a change of tables, a spill, a timer that is due, the end of the lease, more
// messages than lanes) is left to the block, which finds everything as between two rounds of its own.
#pragma once
#include "handle.cuh"

#if RF_PROFILE
#define RF_PHASE(n)                                                                                                    \
    do {                                                                                                               \
        if (threadIdx.x == 0) {                                                                                        \
            const u64 now = clock64();                                                                                 \
            s.phase[n] += now - phase_began;                                                                           \
            phase_began = now;                                                                                         \
        }                                                                                                              \
    } while (0)
#else
#define RF_PHASE(n)
#endif

// What the router relays, and the time: one lane, once a round.
RF_FN void read_page(const Params &p, Shared &s) {
    const DevicePage *page = device_of(p);
    const u32 stop = load_relaxed(&page->stop), tables = load_relaxed(&page->tables_version);
    const u64 lease_ns = load_relaxed(&page->lease_deadline_ns), offset_ns = load_relaxed(&page->wall_offset_ns);
    s.stop = stop;
    s.tables_wanted = tables;
    s.lease_ns = lease_ns;
    s.wall_offset_ns = offset_ns;
    s.now_ns = timer_ns();
    const u64 now_ms = (s.now_ns + offset_ns) / 1000000;
    s.now_hlc = hlc_from_ms(now_ms);
    s.limit_hlc = hlc_limit(now_ms);
}

// Whether the worker is in no state that a single warp does not know. Read behind a barrier, with nothing unpublished.
RF_FN bool is_plain(const Shared &s) {
    return s.stop == 0 && s.tables_wanted == s.tables_version && s.now_ns < s.lease_ns && s.spill_live == 0 &&
           s.overload == 0 && !timers_are_due(s);
}

static constexpr u32 LANE_RINGS = (INBOUND + 31) / 32; // of a lane: ring k * 32 + lane
static constexpr u32 PAGE_LOOK = 16;                   // polls between two looks at the page and the time
static constexpr u32 IDLE_POLLS = 16;                  // without a find, count as one round of bounded mode

// The batch is staged.
RF_FN void begin_alone(Shared &s, u32 end) {
    if (threadIdx.x == 0) {
        s.batch = end;
        s.egress_used = 0;
        s.spill_moved_ns = s.now_ns;
        open_round(s);
    }
    __syncwarp();
}

// What a batch of one has sent first is told to its receiver at once, if it is the next of its ring that is published. Behind close_round().
RF_SLOW void ring_alone(const Params &p, Shared &s, u32 me) {
    const u32 place = s.batch == 1 && s.may_publish ? s.record[0] : NONE;
    if (place & SPILLED) return; // also NONE
    const u32 ring = place >> SLOT_BITS, position = s.out_published[ring];
    if (((position ^ place) & (outbound_slots(ring) - 1)) != 0) return;
    const uint4 chunk = s.stage[chunk_at(0, threadIdx.x & 3)];
    if (ring == EGRESS) ring_bell(reinterpret_cast<uint4 *>(host_of(p)->egress_bell), chunk, me, position);
    else ring_bell(bell_at(p, ring), chunk, own_peer(p, me), position);
}

// Polls until something is there, and stages it: true. False: there is something for the block, which is untouched. One warp.
RF_SLOW bool stage_alone(const Params &p, Shared &s, u32 me, u32 &round) {
    const u32 lane = threadIdx.x;
    u32 ready[LANE_RINGS], all = 0;
    uint4 bell = make_uint4(0, 0, 0, 0);
    bool rung = false;
    for (u32 idle = 1; all == 0; idle++) {
        // Bounded mode ends in the block's loop.
        if (p.rounds_max != 0 && round >= p.rounds_max) return false;
#pragma unroll
        for (u32 k = 0; k < LANE_RINGS; k++) {
            const u32 ring = k * 32 + lane;
            ready[k] = ring < INBOUND ? load_peer(&tails_of(p, me)[ring]) : 0;
        }
        if (lane < BELL_CHUNKS) bell = load_peer_16(bell_at(p, own_peer(p, me)) + lane);
        const bool look = idle % PAGE_LOOK == 1;
        if (look && lane == 31) read_page(p, s);
        u32 mine = 0;
#pragma unroll
        for (u32 k = 0; k < LANE_RINGS; k++) {
            const u32 ring = k * 32 + lane;
            ready[k] = ring < INBOUND ? ring_ready(ready[k], s.in_head[ring]) : 0;
            mine += ready[k];
        }
        // The bell's position is the next of its ring.
        const bool next = lane == 4 && bell.y < INBOUND && bell.x == s.in_head[bell.y];
        __syncwarp();
        if (look && !is_plain(s)) return false;
        const u32 found = __reduce_or_sync(~0u, (mine != 0 ? 1 : 0) | (next ? 2 : 0));
        if (found & 1) all = __reduce_add_sync(~0u, mine);
        else if (found == 2) rung = bell_is_new(bell, s.now_hlc);
        if (rung) break;
        if (all > ALONE_MAX) return false;
        if (all == 0) {
            round += idle % IDLE_POLLS == 0;
            // The wait is short: it leaves the memory to the others, and costs a message little.
            if (idle > 32768) pause_ns(50);
            __syncwarp();
        }
    }
    round++;
    if (rung) {
        const u32 ring = __shfl_sync(~0u, bell.y, 4);
        if (lane < 4) s.stage[chunk_at(0, lane)] = bell;
        if (lane == 4) {
            s.in_from[ring] = 0;
            s.in_take[ring] = 1;
        }
        begin_alone(s, 1);
        return true;
    }
    // Acquire: pairs with the fence of the sender's round; for the whole warp by the barrier behind it.
    u32 rings = 0;
#pragma unroll
    for (u32 k = 0; k < LANE_RINGS; k++) {
        if (ready[k] != 0) load_peer_acquire(&tails_of(p, me)[k * 32 + lane]);
        rings |= (__any_sync(~0u, ready[k] != 0) ? 1u : 0u) << k;
    }
    __syncwarp();
    u32 end = 0;
#pragma unroll
    for (u32 k = 0; k < LANE_RINGS; k++) {
        if ((rings >> k & 1) == 0) continue;
        for (u32 left = __ballot_sync(~0u, ready[k] != 0); left != 0; left &= left - 1) {
            const u32 from = __ffs(left) - 1, take = __shfl_sync(~0u, ready[k], from), ring = k * 32 + from;
            const u32 head = s.in_head[ring], mask = inbound_slots(ring) - 1;
            const char *base = inbound_base(p, me, ring);
            for (u32 c = lane; c < take * 4; c += 32)
                copy_async_16(&s.stage[chunk_at(end + (c >> 2), c & 3)],
                              base + (u64)((head + (c >> 2)) & mask) * sizeof(Envelope) + (c & 3) * 16);
            if (lane == from) {
                s.in_from[ring] = end;
                s.in_take[ring] = take;
            }
            end += take;
        }
    }
    copy_async_wait();
    begin_alone(s, end);
    return true;
}

// Publishes what the warp has done, if the lease allows it. Behind close_round(). Each lane looks at its rings first, all loads under
// way at once: few have changed.
RF_SLOW void publish_alone(const Params &p, Shared &s, u32 me) {
    if (!s.may_publish) return;
    u32 changed = 0;
#pragma unroll
    for (u32 k = 0; k < LANE_RINGS; k++) {
        const u32 ring = k * 32 + threadIdx.x;
        if (ring < INBOUND && (s.in_take[ring] != 0 || s.out_tail[ring] != s.out_published[ring] || ring == EGRESS))
            changed |= 1u << k;
    }
    fence_round(s);
#pragma unroll 1
    for (; changed != 0; changed &= changed - 1) {
        const u32 ring = (__ffs(changed) - 1) * 32 + threadIdx.x;
        publish_outbound(p, s, me, ring);
        publish_inbound(p, s, me, ring);
    }
    __syncwarp();
}
