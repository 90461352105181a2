// A worker: the only executor of its shards' actors (C2). Shared-nothing: handlers need no atomics and no fences.
//
//   exchange positions -> control, lease -> spill -> choose -> stage -> resolve -> first of each bucket -> the others -> send
//        ^                                                                                                            |
//        +------------------------------------------------------------------------------------------------------------+
//
// Every barrier is executed by all threads of the block; what decides a branch around one is read from shared memory behind
// a barrier, so it is uniform.
#pragma once
#include "rounds.cuh"

// Generated from the list of types (kernels/src/source.rs): runs the handler of the type of `set`.
RF_FN u32 dispatch(const Params &p, Shared &s, u32 me, u32 j, bool chain, u32 set_index, const SetEntry &set, u32 &handled,
                   u32 &sent);

// A marker. Route markers are counted; a gate marker opens its shard.
RF_SLOW void take_control(const Params &p, Shared &s, u32 me, u32 j) {
    s.record[j] = NONE;
    Envelope m;
    stage_load(s, j, m);
    const u32 from_ingress = j - s.in_from[INGRESS];
    count(s, from_ingress < s.in_take[INGRESS] ? RF_COUNTER(ingress_in) : RF_COUNTER(ring_in), ~0u);
    // A marker of a faster worker may come before this worker has adopted the table that it announces.
    if (m.to_set == RINGFLEET_SET_NONE && atomicAdd(&s.markers[m.to_key & 1], 1) + 1 == WORKERS) {
        s.markers[m.to_key & 1] = 0;
        store_system(&host_of(p)->routes_flushed[me], (u32)m.to_key);
    }
}

// Message `j`, with `chain` also those behind it in its bucket.
RF_FN void take_messages(const Params &p, Shared &s, u32 me, u32 j, bool chain, u32 &handled, u32 &sent) {
    do {
        const u32 set_index = head_of(s, j).to_set;
        j = dispatch(p, s, me, j, chain, set_index, *set_of(s, set_index), handled, sent);
    } while (j != NONE16);
}

// What is not for an actor, or may not run. False: message `j` is to be handled.
RF_FN bool set_aside(const Params &p, Shared &s, u32 me, u32 j, bool overload) {
    u32 dead = RINGFLEET_DEAD_OVERLOADED;
    if (s.bucket[j] == NONE16) {
        if (s.record[j] == IS_CONTROL) {
            take_control(p, s, me, j);
            return true;
        }
        dead = s.record[j] - NO_RECORD;
    } else if (!overload && (s.gates == 0 || !behind_a_refusal(s, p, j))) {
        return false;
    }
    bury(p, s, me, j, dead, 0);
    return true;
}

// Pass 0 handles the first message of each bucket. Pass 1, behind a barrier that makes the records of pass 0 visible, handles
// the others: one lane per bucket, in their order.
RF_FN void handle_batch(const Params &p, Shared &s, u32 me, bool overload) {
    u32 handled = 0, sent = 0;
#pragma unroll 1
    for (u32 pass = 0; pass < 2; pass++) {
        const u32 end = pass == 0 ? s.batch : s.later_count;
        // In pass 1 neighbours in the list go to different warps.
        const u32 begin = pass == 0 ? threadIdx.x : (threadIdx.x & 31) * WARPS + (threadIdx.x >> 5);
#pragma unroll 1
        for (u32 at = begin; at < end; at += THREADS) {
            u32 j = pass == 0 ? at : s.later[at];
            if (pass == 0) {
                if (set_aside(p, s, me, j, overload)) continue;
#if RF_ORDER
                u32 after;
                const u32 rank = rank_of(s, j, after);
                s.after[j] = (u16)after;
                if (rank == 1) s.later[atomicAdd(&s.later_count, 1)] = (u16)j;
                if (rank != 0) continue;
#else
                if (s.bucket_head[s.bucket[j]] != j) continue;
#endif
            }
            do {
                const u32 set_index = head_of(s, j).to_set;
                j = dispatch(p, s, me, j, pass != 0 || !RF_ORDER, set_index, *set_of(s, set_index), handled, sent);
            } while (j != NONE16);
        }
        __syncthreads();
    }
#if RF_COUNT
    handled = __reduce_add_sync(~0u, handled);
    sent = __reduce_add_sync(~0u, sent);
    if ((threadIdx.x & 31) == 0 && (handled | sent)) {
        atomicAdd(&s.handled, handled);
        atomicAdd(&s.sent, sent);
    }
#endif
    __syncthreads();
    if (s.gates != 0) settle_gates(s);
}

// The counters' page (C7). One warp, after the round's numbers are complete.
RF_FN void write_counters(const Params &p, Shared &s, u32 me) {
    const u32 lane = threadIdx.x & 31;
    if (lane == 0) {
        u64 *c = s.counters;
        const u32 in = s.in_take[INGRESS];
        c[RF_COUNTER(ingress_done)] += in;
        c[RF_COUNTER(ingress_in)] += in;
        c[RF_COUNTER(ring_in)] += s.batch - in;
        c[RF_COUNTER(handled)] += s.handled;
        c[RF_COUNTER(sent)] += s.sent;
        c[RF_COUNTER(spill_now)] = s.spill_live;
        if (s.batch != 0) {
            c[RF_COUNTER(batches)]++;
            c[RF_COUNTER(batch_sizes) + min(31 - __clz(s.batch), RINGFLEET_BATCH_BUCKETS - 1)]++;
            c[RF_COUNTER(busy_ns)] += timer_ns() - s.round_began_ns;
        }
    }
    __syncwarp();
    for (u32 i = lane; i < COUNTERS; i += 32) {
        s.counters[i] += (u64)(int64_t)(int32_t)s.counts[i];
        s.counts[i] = 0;
    }
    __syncwarp();
    u64 *page = reinterpret_cast<u64 *>(p.counters) + me * (RF_COUNTERS_STRIDE / 8);
    for (u32 i = lane; i < COUNTERS; i += 32) page[i] = s.counters[i];
    // C2: what this round did may leave the worker only within the lease.
    if (lane == 0) s.may_publish = timer_ns() < s.lease_ns;
}

RF_SLOW void start_worker(const Params &p, Shared &s, u32 me) {
    const u32 *save = reinterpret_cast<const u32 *>(p.saves) + me * RF_SAVE_WORDS;
    const bool again = save[0] != 0;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < BUCKETS; i += THREADS) s.bucket_head[i] = NONE;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < SHARDS_KNOWN; i += THREADS) s.shards[i].index = NONE;
    for (u32 i = threadIdx.x; i < INBOUND; i += THREADS) {
        s.in_head[i] = load_relaxed(&heads_row(p, i)[me]);
        s.in_published[i] = s.in_head[i];
        s.in_take[i] = 0;
    }
    for (u32 i = threadIdx.x; i < OUTBOUND; i += THREADS) {
        const u32 published = i == EGRESS ? load_system(&host_of(p)->egress_tail[me]) : load_relaxed(&tails_row(p, i)[me]);
        s.out_published[i] = published;
        s.out_tail[i] = again ? save[4 + i] : published;
        s.out_head[i] = load_relaxed(&heads_row(p, me)[i]);
        s.out_waiting[i] = 0;
        s.out_base[i] = i == EGRESS ? p.egress + (u64)me * EGRESS_SLOTS * sizeof(Envelope)
                                    : p.rings + ((u64)i * WORKERS + me) * RING_SLOTS * sizeof(Envelope);
    }
    for (u32 i = threadIdx.x; i < COUNTERS; i += THREADS) {
        s.counts[i] = 0;
        s.counters[i] = (reinterpret_cast<const u64 *>(p.counters) + me * (RF_COUNTERS_STRIDE / 8))[i];
    }
    if (!again)
#pragma unroll 1
        for (u32 i = threadIdx.x; i < SPILL_SLOTS; i += THREADS) spill_free_of(p, me)[i] = i;
    __syncthreads();
    if (threadIdx.x == 0) {
        s.spill_live = again ? save[1] : 0;
        s.spill_free = again ? save[2] : SPILL_SLOTS;
        s.egress_used = 0;
        s.may_publish = 0;
        s.ingress_told = s.counters[RF_COUNTER(ingress_done)];
        s.tables_version = 0;
        s.tables_wanted = 0;
        s.stop = s.pause = 0;
        s.markers[0] = s.markers[1] = 0;
        s.gates = 0;
        s.spill_ready = s.overload = 0;
        s.batch = 0;
        s.spill_moved_ns = timer_ns();
        for (u32 i = 0; i < 8; i++) s.phase[i] = 0;
    }
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < s.spill_live; i += THREADS) atomicAdd(&s.out_waiting[spill_live_of(p, me)[i].x & 1023], 1);
    if (threadIdx.x == 0 && s.spill_live != 0) s.spill_ready = 1;
    __syncthreads();
    learn_tables(p, s, me);
}

RF_FN void end_worker(const Params &p, Shared &s, u32 me) {
    u32 *save = reinterpret_cast<u32 *>(p.saves) + me * RF_SAVE_WORDS;
    for (u32 i = threadIdx.x; i < OUTBOUND; i += THREADS) save[4 + i] = s.out_tail[i];
    if (threadIdx.x == 0) {
        save[0] = 1;
        save[1] = s.spill_live;
        save[2] = s.spill_free;
        for (u32 i = 0; i < 8; i++) reinterpret_cast<u64 *>(p.profile)[me * 8 + i] = s.phase[i];
    }
}

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

// What the router relays, and the time: one thread, once a round.
RF_FN void read_page(const Params &p, Shared &s) {
    const DevicePage *page = device_of(p);
    s.stop = load_relaxed(&page->stop);
    s.tables_wanted = load_relaxed(&page->tables_version);
    s.lease_ns = load_relaxed(&page->lease_deadline_ns);
    s.wall_offset_ns = load_relaxed(&page->wall_offset_ns);
    s.now_ns = timer_ns();
    const u64 now_ms = (s.now_ns + s.wall_offset_ns) / 1000000;
    s.now_hlc = hlc_from_ms(now_ms);
    s.limit_hlc = hlc_limit(now_ms);
}

static constexpr u64 OVERLOAD_NS = (u64)RINGFLEET_OVERLOAD_AFTER_MS * 1000000;
static constexpr u32 OTHERS = INBOUND - 1; // rings that take turns
static constexpr u32 STEP = OTHERS > 37 ? 37 : OTHERS > 1 ? 1 : 0;

RF_FN void run_worker(const Params &p, Shared &s, u32 me) {
    start_worker(p, s, me);
#if RF_PROFILE
    u64 phase_began = clock64();
#endif
    u32 idle = 0, start = me % OTHERS;
    bool dirty = true;
    for (u32 round = 0; p.rounds_max == 0 || round < p.rounds_max; round++) {
        // The worker's own ring comes first: what a worker sends to itself would otherwise wait for a turn that a hot worker gives
        // too rarely, fill the spill, and then nobody could empty it. The others rotate, so that none is always left behind.
        start = start + STEP >= OTHERS ? start + STEP - OTHERS : start + STEP;
        const u32 turn = threadIdx.x - 1 + start >= OTHERS ? threadIdx.x - 1 + start - OTHERS : threadIdx.x - 1 + start;
        const u32 ring = threadIdx.x == 0 ? me : turn < me ? turn : turn + 1;
        u32 ready = exchange_positions(p, s, me, ring, dirty);
        // C9: the spill has not moved for long. Inputs are consumed without running them, so that facing full rings dissolve;
        // those of clients stay where they are, because a refusal would need room too.
        const bool overload = s.overload != 0;
        if (overload && ring == INGRESS) ready = 0;
        if (threadIdx.x == THREADS - 1) read_page(p, s);
        const u32 before = scan_ready(s, ready);
        if (s.may_publish) dirty = false;
        __syncthreads();
        RF_PHASE(0);
        if (s.stop != 0) break;
        // C2: past the lease a worker keeps everything and does nothing.
        const bool leased = s.now_ns < s.lease_ns;
        // C9: a round takes only as many inputs as the spill can hold of what they may send.
        const u32 room = s.spill_free > WORKERS ? (s.spill_free - WORKERS) / MAX_SENDS : 0; // a marker for each ring is kept free
        const bool spilled = s.spill_live != 0, drain = s.spill_ready != 0;
        const u32 limit = !leased ? 0 : overload ? BATCH : min(BATCH, room);
        const bool learn = s.tables_wanted != s.tables_version;
        const u32 all = share_batch(s, ring, ready, before, limit);
        if (threadIdx.x == 0) {
            s.may_publish = leased;
            s.batch = min(all, limit);
            s.later_count = s.handled = s.sent = 0;
            s.egress_used = 0;
            s.round_began_ns = s.now_ns;
            if (!spilled) s.spill_moved_ns = s.now_ns;
            if (overload) count(s, RF_COUNTER(overload_rounds));
            s.overload = spilled && room < BATCH && s.now_ns - s.spill_moved_ns > OVERLOAD_NS;
        }
        __syncthreads();
        if (learn) {
            learn_tables(p, s, me);
            dirty = true;
        }
        if (drain) {
            drain_spill(p, s, me);
            dirty = true;
        }
        if (s.batch == 0) {
            // Nothing to do. The wait is bounded and grows, so that idle workers leave the memory to the others.
            idle++;
            if (drain) {
                if (threadIdx.x >= THREADS - 32) write_counters(p, s, me);
                __syncthreads();
            }
            if (idle > 1000) pause_ns(100);
            RF_PHASE(6);
            continue;
        }
        idle = 0;
        dirty = true;
        RF_PHASE(1);
        stage_batch(p, s, me);
        __syncthreads();
        RF_PHASE(2);
        resolve_batch(p, s);
        __syncthreads();
        RF_PHASE(3);
        handle_batch(p, s, me, overload);
        RF_PHASE(4);
        send_batch(p, s, me);
        if (threadIdx.x >= THREADS - 32) write_counters(p, s, me);
        __syncthreads();
        RF_PHASE(5);
    }
    __syncthreads();
    end_worker(p, s, me);
}
