// Handling a batch: markers, what may not run, and everything else in its order (C3). Also what a round counts (C7).
#pragma once
#include "rounds.cuh"

// Generated from the list of types (kernels/src/source.rs): runs the handler of the type of `set`.
RF_FN u32 dispatch(const Params &p, Shared &s, u32 me, u32 j, bool chain, u32 set_index, const SetEntry &set, Tally &tally);

// A marker. Route markers are counted; a gate marker opens its shard.
RF_SLOW void take_control(const Params &p, Shared &s, u32 me, u32 j) {
    s.record[j] = NONE;
    Envelope m;
    stage_load(s, j, m);
    const bool ingress = is_ingress(s, j);
    count(s, ingress ? RF_COUNTER(ingress_in) : RF_COUNTER(ring_in), ~0u);
    if (ingress || !(flags_of(m) & RINGFLEET_FLAG_MARKER)) return;
    // A marker of a faster worker may come before this worker has adopted the table that it announces.
    if (m.to_set == RINGFLEET_SET_NONE && atomicAdd(&s.markers[m.to_key & 1], 1) + 1 == PEERS) {
        s.markers[m.to_key & 1] = 0;
        // This worker's own marker is among them, so it has adopted its device's version of that change; the sender's device counts its
        // own. No later change of routes can be adopted before this one is told (tell_what_is_out), when the egress is so far.
        s.flush_due = s.tables_version;
    }
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
    } else if (overload) {
        close_gate(s, j);
    } else if (s.gates == 0 || !behind_a_refusal(s, j)) {
        return false;
    }
    bury(p, s, me, j, dead, 0);
    return true;
}

// Finds out what is to be done with message `j`: flags in `bucket`, and the second of each bucket in `later`. What is put aside
// stays in its chain, for others follow it.
RF_FN void rank_message(const Params &p, Shared &s, u32 me, u32 j, bool overload, bool hot) {
    const u32 bucket = s.bucket[j];
    u32 flags = 0;
#if RF_ORDER
    if (bucket != NONE16) {
        u32 after;
        bool many;
        const u32 rank = rank_of(s, j, after, many);
        s.after[j] = (u16)after;
        if (many) s.hot_next = 1;
        if (rank != 0) flags = NOT_FIRST;
        else if (many && hot) flags = FIRST_OF_MANY;
        if (rank == 1 && !(many && hot)) s.later[atomicAdd(&s.later_count, 1)] = (u16)j;
    }
#else
    if (bucket != NONE16 && s.bucket_head[bucket] != j) flags = NOT_FIRST;
#endif
    if (set_aside(p, s, me, j, overload)) flags |= ASIDE;
    if (bucket != NONE16) s.bucket[j] = (u16)(bucket | flags);
}

// Pass 0 handles the first message of each bucket. Pass 1, behind a barrier that makes the records of pass 0 visible, handles
// the others: one lane per bucket, in their order.
//
// Where some actor got many messages in the last batch, this one is ranked before anything is handled: then the whole chain of a
// bucket with many can begin in pass 0, beside all others, and not behind them.
RF_FN void handle_batch(const Params &p, Shared &s, u32 me, Team team, bool overload) {
    Tally tally = {};
    const bool hot = s.hot != 0 && !team.is_alone();
    if (hot) {
#pragma unroll 1
        for (u32 j = threadIdx.x; j < s.batch; j += team.size) rank_message(p, s, me, j, overload, true);
        team.sync();
    }
#pragma unroll 1
    for (u32 pass = 0; pass < 2; pass++) {
        const u32 end = pass == 0 ? s.batch : s.later_count;
        // In pass 1 neighbours in the list go to different warps.
        const u32 t = threadIdx.x, begin = pass == 0 ? t : (t & 31) * team.warps() + (t >> 5);
#pragma unroll 1
        for (u32 at = begin; at < end; at += team.size) {
            u32 j = pass == 0 ? at : s.later[at];
            bool chain = pass != 0 || !RF_ORDER;
            if (pass == 0) {
                if (!hot) rank_message(p, s, me, j, overload, false);
                const u32 flags = s.bucket[j];
                if (flags & FIRST_OF_MANY && flags != NONE16) chain = true;
                else if (flags & (NOT_FIRST | ASIDE)) continue;
            }
            do {
                const u32 set_index = head_of(s, j).to_set;
                j = dispatch(p, s, me, j, chain, set_index, *set_of(s, set_index), tally);
            } while (j != NONE16);
        }
        team.sync();
        if (s.later_count == 0) break;
    }
    // Read by everyone before the first clears it.
    const bool settle = s.gates != 0;
#if RF_COUNT
    if (team.is_alone()) {
        if (tally.handled != 0) {
            atomicAdd(&s.handled, tally.handled);
            atomicAdd(&s.sent, tally.sent);
            atomicAdd(&s.to_rings, tally.to_rings);
        }
        team.sync();
        if (settle) settle_gates(s, team);
        return;
    }
    tally.handled = __reduce_add_sync(~0u, tally.handled);
    tally.sent = __reduce_add_sync(~0u, tally.sent);
    tally.to_rings = __reduce_add_sync(~0u, tally.to_rings);
    if ((threadIdx.x & 31) == 0 && (tally.handled | tally.sent)) {
        atomicAdd(&s.handled, tally.handled);
        atomicAdd(&s.sent, tally.sent);
        atomicAdd(&s.to_rings, tally.to_rings);
    }
#endif
    team.sync();
    if (settle) settle_gates(s, team);
}

// Clears what a round counts.
RF_FN void open_round(Shared &s) {
    s.later_count = s.handled = s.sent = s.to_rings = 0;
    s.round_began_ns = s.now_ns;
}

// What the round has done, before it is published. One lane.
RF_FN void close_round(Shared &s) {
    s.taken_in = s.in_take[INGRESS];
    s.counters[RF_COUNTER(ingress_done)] += s.taken_in;
    s.ended_ns = timer_ns();
    // C2: what this round did may leave the worker only within the lease.
    s.may_publish = s.ended_ns < s.lease_ns;
}

// Adds the round up, behind close_round(). One lane.
RF_FN void add_round(Shared &s) {
    u64 *c = s.counters;
    c[RF_COUNTER(ingress_in)] += s.taken_in;
    c[RF_COUNTER(ring_in)] += s.batch - s.taken_in - s.timers_take;
    c[RF_COUNTER(ring_out)] += s.to_rings;
    c[RF_COUNTER(handled)] += s.handled;
    c[RF_COUNTER(sent)] += s.sent;
    c[RF_COUNTER(batches)]++;
    c[RF_COUNTER(batch_sizes) + min(31 - __clz(s.batch), RINGFLEET_BATCH_BUCKETS - 1)]++;
    c[RF_COUNTER(busy_ns)] += s.ended_ns - s.round_began_ns;
    s.timers_take = 0;
}

// The counters' page (C7). One warp, behind close_round().
RF_FN void write_counters(const Params &p, Shared &s, u32 me) {
    u64 *page = reinterpret_cast<u64 *>(p.counters) + me * (RF_COUNTERS_STRIDE / 8);
    for (u32 i = threadIdx.x & 31; i < COUNTERS; i += 32) {
        const u64 value = s.counters[i] + (u64)(int64_t)(int32_t)s.counts[i];
        s.counters[i] = value;
        s.counts[i] = 0;
        page[i] = value;
    }
}
