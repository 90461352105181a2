// A worker: the only executor of its shards' actors (C2). Shared-nothing: handlers need no atomics and no fences.
//
//   exchange positions -> lease -> spill -> tables -> timers -> choose -> stage -> resolve -> first of each bucket -> the others -> send
//        ^                                                                                                                           |
//        +---------------------------------------------------------------------------------------------------------------------------+
//
// While little comes, one warp does all of it alone (alone.cuh) and the others wait at a barrier: no barrier of the block lies in
// the way of a single message.
//
// Every barrier is executed by all threads of the block; what decides a branch around one is read from shared memory behind
// a barrier, so it is uniform.
#pragma once
#include "alone.cuh"

// Words that a worker keeps from one launch to the next: spill, timers, then these. Whatever has been taken, handled or promised stays so,
// published or not: a kernel may end while its lease is over.
static constexpr u32 SAVE_GATES = 7, SAVE_MARKERS = 8, SAVE_FLUSH_TAIL = 10, SAVE_FLUSH_DUE = 11, SAVE_TABLES = 12, SAVE_PAGES = 13;
static constexpr u32 SAVE_TAILS = 16, SAVE_HEADS = SAVE_TAILS + OUTBOUND, SAVE_WAITING = SAVE_HEADS + INBOUND, SAVE_CLOSED = SAVE_WAITING + OUTBOUND;
static_assert(SAVE_CLOSED + RF_SHARDS_MAX <= RF_SAVE_WORDS, "what is kept has room");

RF_SLOW void start_worker(const Params &p, Shared &s, u32 me) {
    const u32 *save = reinterpret_cast<const u32 *>(p.saves) + me * RF_SAVE_WORDS;
    const bool again = save[0] != 0;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < BUCKETS; i += THREADS) s.bucket_head[i] = NONE;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < SHARDS_KNOWN; i += THREADS) s.shards[i].index = NONE;
    for (u32 i = threadIdx.x; i < INBOUND; i += THREADS) {
        s.in_published[i] = i == INGRESS ? save[SAVE_HEADS + i] : load_peer(head_at(p, i, me));
        s.in_head[i] = again ? save[SAVE_HEADS + i] : s.in_published[i];
        s.in_take[i] = s.in_from[i] = 0;
    }
    for (u32 i = threadIdx.x; i < OUTBOUND; i += THREADS) {
        const u32 published = i == EGRESS ? load_system(&host_of(p)->egress_tail[me]) : load_peer(tail_at(p, i, me));
        s.out_published[i] = published;
        s.out_tail[i] = again ? save[SAVE_TAILS + i] : published;
        s.out_head[i] = load_peer(&heads_of(p, me)[i]);
        s.out_waiting[i] = s.out_linked[i] = again ? save[SAVE_WAITING + i] : 0;
        s.out_base[i] = i == EGRESS ? p.egress + (u64)me * EGRESS_SLOTS * sizeof(Envelope) : slots_at(p, i, me);
    }
    for (u32 i = threadIdx.x; i < COUNTERS; i += THREADS) {
        s.counts[i] = 0;
        s.counters[i] = (reinterpret_cast<const u64 *>(p.counters) + me * (RF_COUNTERS_STRIDE / 8))[i];
    }
    if (!again) clear_spill(p, s, me);
    // Of a ring that begins anew positions come again.
    if (threadIdx.x < BELL_CHUNKS) store_system_16(bell_at(p, own_peer(p, me)) + threadIdx.x, make_uint4(0, 0, 0, 0));
    __syncthreads();
    start_timers(p, s, me, save);
    if (threadIdx.x == 0) {
        s.spill_live = again ? save[1] : 0;
        s.spill_free = again ? save[2] : SPILL_SLOTS;
        s.spill_free_pages = again ? save[SAVE_PAGES] : SPILL_PAGES;
        s.spill_fresh = 0;
        s.spill_ready = s.spill_live != 0;
        s.egress_used = again; // what was written before this launch is published by this one
        s.may_publish = 0;
        s.ingress_told = load_system(&host_of(p)->ingress_done[me]);
        s.ingress_noted = 0;
        s.noted_tail = 0;
        s.flush_tail = save[SAVE_FLUSH_TAIL];
        s.flush_due = save[SAVE_FLUSH_DUE];
        s.tables_version = save[SAVE_TABLES];
        s.tables_wanted = again ? load_relaxed(&device_of(p)->tables_version) : 0;
        s.stop = 0;
        s.markers[0] = save[SAVE_MARKERS];
        s.markers[1] = save[SAVE_MARKERS + 1];
        s.gates = 0;
        s.overload = s.spill_link = s.left_dirty = s.rounds = s.hot = s.hot_next = 0;
        s.batch = 0;
        s.now_ns = s.spill_moved_ns = timer_ns();
        for (u32 i = 0; i < 8; i++) s.phase[i] = 0;
    }
    __syncthreads();
    // Heads have moved since the kernel before; markers come behind what waits.
    if (s.spill_live != 0) drain_spill(p, s, me);
    learn_tables(p, s, me);
#pragma unroll 1
    for (u32 i = threadIdx.x; again && i < save[SAVE_GATES]; i += THREADS) {
        KnownShard *here = shard_here(s, save[SAVE_CLOSED + i]);
        if (here != nullptr) here->closed = 1;
    }
    // C7: what was drained here may be the last that this worker does for long.
    if (again && threadIdx.x >= THREADS - 32) write_counters(p, s, me);
    __syncthreads();
}

RF_FN void end_worker(const Params &p, Shared &s, u32 me) {
    u32 *save = reinterpret_cast<u32 *>(p.saves) + me * RF_SAVE_WORDS;
    link_spill(p, s, me);
    for (u32 i = threadIdx.x; i < OUTBOUND; i += THREADS) {
        save[SAVE_WAITING + i] = s.out_waiting[i];
        save[SAVE_TAILS + i] = s.out_tail[i];
        save[SAVE_HEADS + i] = s.in_head[i] + s.in_take[i];
    }
    if (threadIdx.x == 0) s.later_count = 0;
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < SHARDS_KNOWN; i += THREADS)
        if (s.shards[i].index != NONE && s.shards[i].closed) save[SAVE_CLOSED + atomicAdd(&s.later_count, 1)] = s.shards[i].index;
    if (threadIdx.x >= THREADS - 32) write_counters(p, s, me);
    __syncthreads();
    if (threadIdx.x == 0) {
        save[SAVE_GATES] = s.later_count;
        save[SAVE_MARKERS] = s.markers[0];
        save[SAVE_MARKERS + 1] = s.markers[1];
        save[SAVE_FLUSH_TAIL] = s.flush_tail;
        save[SAVE_FLUSH_DUE] = s.flush_due;
        save[SAVE_TABLES] = s.tables_version;
        save[0] = 1;
        save[1] = s.spill_live;
        save[2] = s.spill_free;
        save[SAVE_PAGES] = s.spill_free_pages;
        save_timers(s, save);
        for (u32 i = 0; i < 8; i++) reinterpret_cast<u64 *>(p.profile)[me * 8 + i] = s.phase[i];
        atomicAdd(&device_of(p)->ended, 1);
    }
}

static constexpr u64 OVERLOAD_NS = (u64)RINGFLEET_OVERLOAD_AFTER_MS * 1000000;
static constexpr u32 OTHERS = INBOUND - 1; // rings that take turns
static constexpr u32 STEP = OTHERS > 37 ? 37 : OTHERS > 1 ? 1 : 0;

// In overload inputs are consumed without running them, those of the ingress only while the refusals have room: in the ring to
// the host, or in the spill.
RF_FN u32 room_for_refusals(const Shared &s) {
    const u32 used = s.out_tail[EGRESS] - s.out_head[EGRESS];
    return max(used < EGRESS_SLOTS ? EGRESS_SLOTS - used : 0, s.spill_free > PEERS ? s.spill_free - PEERS : 0);
}

RF_FN void run_worker(const Params &p, Shared &s, u32 me) {
    start_worker(p, s, me);
#if RF_PROFILE
    u64 phase_began = clock64();
#endif
    const u32 own = own_peer(p, me);
    u32 start = me % OTHERS, round = 0;
    bool dirty = true, parked = false;
    Team team = {THREADS};
    while (true) {
        bool overload = false;
        if (team.is_alone()) {
            if (dirty || !stage_alone(p, s, me, round)) {
                // Back to the block, whose other warps wait here.
                if (threadIdx.x == 0) {
                    s.rounds = round;
                    s.left_dirty = dirty;
                }
                team.size = THREADS;
            }
        }
        if (!team.is_alone()) {
            if (parked) {
                __syncthreads();
                round = s.rounds;
                dirty = s.left_dirty != 0;
                parked = false;
            }
            if (p.rounds_max != 0 && round >= p.rounds_max) break;
            round++;
            // The worker's own ring comes first: what a worker sends to itself would otherwise wait for a turn that a hot worker
            // gives too rarely, fill the spill, and then nobody could empty it. The others rotate, so that none is always left
            // behind.
            start = start + STEP >= OTHERS ? start + STEP - OTHERS : start + STEP;
            const u32 turn =
                threadIdx.x - 1 + start >= OTHERS ? threadIdx.x - 1 + start - OTHERS : threadIdx.x - 1 + start;
            const u32 ring = threadIdx.x == 0 ? own : turn < own ? turn : turn + 1;
            u32 ready = exchange_positions(p, s, me, ring, dirty);
            // C9: the spill has not moved for long.
            overload = s.overload != 0;
            if (overload && ring == INGRESS) ready = min(ready, room_for_refusals(s));
            if (threadIdx.x == THREADS - 1) read_page(p, s);
            const u32 before = scan_ready(s, ready);
            const bool published = s.may_publish != 0;
            if (published) dirty = false;
            __syncthreads();
            RF_PHASE(0);
            if (s.stop != 0) break;
            if (all_ready(s) <= ALONE_MAX && !dirty && is_plain(s)) {
                // One warp goes on alone; the others wait at the barrier above.
                __syncthreads();
                parked = true;
                if (threadIdx.x < 32) team.size = 32;
                continue;
            }
            // C2: past the lease a worker keeps everything and does nothing.
            const bool leased = s.now_ns < s.lease_ns;
            const bool spilled = s.spill_live != 0, drain = s.spill_ready != 0, learn = s.tables_wanted != s.tables_version;
            // C9: a round takes only as many inputs as the spill can hold of what they may send, and of one verdict for each. A
            // marker for each ring is kept free.
            const u32 room = s.spill_free > PEERS ? (s.spill_free - PEERS) / (MAX_SENDS + 1) : 0;
            const u32 limit = !leased ? 0 : overload ? BATCH : min(BATCH, room);
            const bool due = limit != 0 && !overload && timers_are_due(s);
            if (threadIdx.x == 0) {
                if (published) s.egress_used = 0;
                s.may_publish = leased;
                open_round(s);
                s.hot = s.hot_next;
                s.hot_next = 0;
                if (!spilled || !leased || room != 0) s.spill_moved_ns = s.now_ns;
            }
            // Before tables are learned, whose markers would else take room that belongs to what waits (spill.cuh).
            if (drain) {
                drain_spill(p, s, me);
                dirty = true;
            }
            if (learn) {
                learn_tables(p, s, me);
                dirty = true;
            }
            if (due) fire_timers(p, s, me, limit);
            const u32 end = share_batch(s, ring, ready, before, s.timers_take, limit);
            if (threadIdx.x == 0) {
                s.batch = end;
                // C2: emptying the memory of new shards takes time.
                if (end == 0 && (drain || learn)) s.may_publish = timer_ns() < s.lease_ns;
                if (overload && end != 0) count(s, RF_COUNTER(overload_rounds));
                s.overload = leased && s.now_ns - s.spill_moved_ns > OVERLOAD_NS;
            }
            __syncthreads();
            if (end == 0) {
                if (drain || learn) {
                    if (threadIdx.x >= THREADS - 32) write_counters(p, s, me);
                    __syncthreads();
                }
                if (!leased) pause_ns(500);
                RF_PHASE(6);
                continue;
            }
        }
        dirty = true;
        RF_PHASE(1);
        if (!team.is_alone()) {
            stage_batch(p, s, me);
            __syncthreads();
        }
        RF_PHASE(2);
        resolve_batch(p, s, team);
        team.sync();
        RF_PHASE(3);
        handle_batch(p, s, me, team, overload);
        RF_PHASE(4);
        if (team.is_alone()) {
            if (threadIdx.x == 0) close_round(s);
            __syncwarp();
            ring_alone(p, s, me);
        }
        send_batch(p, s, me, team);
        if (threadIdx.x >= team.size - 32) {
            if (threadIdx.x == team.size - 32 && !team.is_alone()) close_round(s);
            __syncwarp();
            if (team.is_alone()) {
                publish_alone(p, s, me);
                dirty = s.may_publish == 0;
            }
            if (threadIdx.x == team.size - 32) add_round(s);
            __syncwarp();
            write_counters(p, s, me);
        }
        team.sync();
        RF_PHASE(5);
    }
    __syncthreads();
    end_worker(p, s, me);
}
