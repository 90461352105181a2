// Timers of a worker (C7, C9): a bounded pool in device memory; twin of node/gpu/src/timers.rs.
//
// A timer is a message to oneself that waits. It leaves at the begin of the first round at or after its time, straight into
// the batch, before everything else; equal times in the order they were set. A pending timer counts as in flight.
//
// The pool is a stack of free slots and, beside each slot, when it is due and which timer of this worker it is. Lanes set
// timers independently of each other; finding what is due looks at all slots that were ever used, which are few where timers are
// few, and only when `timers_next_ms` says that something is due. So setting costs a lane a few stores, and a firing
// millisecond costs the block one pass over the pool.
//
// A timer belongs to one life of its actor: the generation in the record. Whoever finds the actor stopped, failed or of another
// generation ends the timer in the dead letters as `actor_gone`.
#pragma once
#include "send.cuh"

struct TimerKey {
    u64 due_ms; // in device time; 0: the slot is free
    u64 number;
};

RF_FN TimerKey *timer_keys_of(const Params &p, u32 me) {
    return reinterpret_cast<TimerKey *>(p.timer_keys) + (u64)me * TIMER_SLOTS;
}
RF_FN uint4 *timer_messages_of(const Params &p, u32 me) {
    return reinterpret_cast<uint4 *>(p.timer_messages) + (u64)me * TIMER_SLOTS * 4;
}
RF_FN u32 *timer_free_of(const Params &p, u32 me) {
    return reinterpret_cast<u32 *>(p.timer_free) + (u64)me * TIMER_SLOTS;
}

// Takes `wanted` slots off the stack, all or none; `top` is where the first of them lies.
RF_SLOW bool reserve_timers(Shared &s, u32 wanted, u32 &top) {
    u32 seen = s.timers_free;
    while (seen >= wanted) {
        const u32 found = atomicCAS(&s.timers_free, seen, seen - wanted);
        if (found == seen) {
            top = seen - 1;
            return true;
        }
        seen = found;
    }
    return false;
}

RF_SLOW void set_timer(const Params &p, Shared &s, u32 me, u32 at, const Envelope &message, u32 delay_ms,
                       u64 generation) {
    const u32 slot = timer_free_of(p, me)[at];
    // Rounded up, so that at least the delay passes.
    const u64 due_ms = (s.now_ns + 999999) / 1000000 + delay_ms;
    Envelope e = message;
    e.from_key = generation;
    e.bits |= FLAG_FIRED << RINGFLEET_FLAGS_SHIFT;
    const uint4 *from = reinterpret_cast<const uint4 *>(&e);
    uint4 *to = timer_messages_of(p, me) + (u64)slot * 4;
    for (u32 q = 0; q < 4; q++) to[q] = from[q];
    timer_keys_of(p, me)[slot] = {due_ms, atomicAdd(reinterpret_cast<unsigned long long *>(&s.timers_set), 1ull)};
    atomicMax(&s.timers_high, slot + 1);
    atomicMin(reinterpret_cast<unsigned long long *>(&s.timers_next_ms), (unsigned long long)due_ms);
    count(s, RF_COUNTER(timers_now));
}

RF_FN bool timers_are_due(const Shared &s) { return s.timers_next_ms != ~0ull && s.now_ns / 1000000 >= s.timers_next_ms; }

// Whether a timer is among those due at `due_ms` at the latest, of the last millisecond only those numbered below `number`.
RF_FN bool is_within(const TimerKey &key, u64 due_ms, u64 number) {
    return key.due_ms != 0 && (key.due_ms < due_ms || (key.due_ms == due_ms && key.number < number));
}

RF_FN bool is_before(const TimerKey &a, const TimerKey &b) {
    return a.due_ms < b.due_ms || (a.due_ms == b.due_ms && a.number < b.number);
}

// How many are within a bound. Uniform over the block.
RF_SLOW u32 count_timers(const Params &p, Shared &s, u32 me, u64 due_ms, u64 number) {
    __syncthreads();
    if (threadIdx.x == 0) s.timers_due = 0;
    __syncthreads();
    u32 mine = 0;
    for (u32 slot = threadIdx.x; slot < s.timers_high; slot += THREADS)
        mine += is_within(timer_keys_of(p, me)[slot], due_ms, number);
    if (mine != 0) atomicAdd(&s.timers_due, mine);
    __syncthreads();
    return s.timers_due;
}

static constexpr u32 TIMERS_ONCE = BATCH / 2; // of a batch; the rest of it is where their keys lie meanwhile

// Puts what is due first into the batch, at most `most`. Uniform over the block, before anything else is staged.
RF_SLOW void fire_timers(const Params &p, Shared &s, u32 me, u32 most) {
    most = min(most, TIMERS_ONCE);
    const u64 now_ms = s.now_ns / 1000000;
    u64 due_ms = now_ms, number = ~0ull;
    u32 due = count_timers(p, s, me, due_ms, number);
    if (due > most) {
        // Too many at once: the latest bound that takes few enough, first by time, then within one millisecond by number. What is
        // taken are always the first, so timers of one actor keep their order.
        u64 low = s.timers_next_ms - 1, high = now_ms; // `low` takes few enough, `high` does not
        while (high - low > 1) {
            const u64 middle = low + (high - low) / 2;
            if (count_timers(p, s, me, middle, ~0ull) <= most) low = middle;
            else high = middle;
        }
        u64 below = 0, above = s.timers_set;
        while (above - below > 1) {
            const u64 middle = below + (above - below) / 2;
            if (count_timers(p, s, me, high, middle) <= most) below = middle;
            else above = middle;
        }
        due_ms = high;
        number = below;
        due = count_timers(p, s, me, due_ms, number);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        s.timers_due = 0;
        s.timers_next_ms = ~0ull;
    }
    __syncthreads();
    TimerKey *keys = timer_keys_of(p, me);
    TimerKey *found = reinterpret_cast<TimerKey *>(&s.stage[TIMERS_ONCE * 4]);
    u64 next_ms = ~0ull;
    for (u32 slot = threadIdx.x; slot < s.timers_high; slot += THREADS) {
        const TimerKey key = keys[slot];
        if (is_within(key, due_ms, number)) {
            const u32 at = atomicAdd(&s.timers_due, 1);
            found[at] = key;
            s.record[at] = slot;
        } else if (key.due_ms != 0 && key.due_ms < next_ms) {
            next_ms = key.due_ms;
        }
    }
    if (next_ms != ~0ull)
        atomicMin(reinterpret_cast<unsigned long long *>(&s.timers_next_ms), (unsigned long long)next_ms);
    __syncthreads();
    for (u32 at = threadIdx.x; at < due; at += THREADS) {
        const TimerKey mine = found[at];
        u32 rank = 0;
        for (u32 other = 0; other < due; other++) rank += is_before(found[other], mine);
        const u32 slot = s.record[at];
        const uint4 *from = timer_messages_of(p, me) + (u64)slot * 4;
        for (u32 q = 0; q < 4; q++) s.stage[chunk_at(rank, q)] = from[q];
        keys[slot].due_ms = 0;
        timer_free_of(p, me)[atomicAdd(&s.timers_free, 1)] = slot;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        s.timers_take = due;
        count(s, RF_COUNTER(timers_now), ~0u - due + 1);
    }
    __syncthreads();
}

// Drops the timers of shards that are not here any more, or are here anew. Uniform over the block, when tables change.
RF_SLOW void drop_lost_timers(const Params &p, Shared &s, u32 me) {
    for (u32 slot = threadIdx.x; slot < s.timers_high; slot += THREADS) {
        TimerKey &key = timer_keys_of(p, me)[slot];
        if (key.due_ms == 0) continue;
        const uint4 *words = timer_messages_of(p, me) + (u64)slot * 4;
        const u64 to_key = (u64)words[0].y << 32 | words[0].x;
        const SetEntry *set = set_of(s, words[1].z & 0xffff);
        u32 shard;
        if (set != nullptr && shard_of(*set, to_key, mix64(to_key), shard)) {
            const KnownShard *here = shard_here(s, set->route_base + shard);
            if (here != nullptr && here->fresh == 0) continue;
        }
        key.due_ms = 0;
        timer_free_of(p, me)[atomicAdd(&s.timers_free, 1)] = slot;
        count(s, RF_COUNTER(timers_now), ~0u);
        count(s, RF_COUNTER(dead) + RINGFLEET_DEAD_ACTOR_GONE);
    }
    __syncthreads();
}

// Once, when the worker starts.
RF_SLOW void start_timers(const Params &p, Shared &s, u32 me, const u32 *save) {
    const bool again = save[0] != 0;
    if (!again)
        for (u32 i = threadIdx.x; i < TIMER_SLOTS; i += THREADS) timer_free_of(p, me)[i] = TIMER_SLOTS - 1 - i;
    if (threadIdx.x == 0) {
        s.timers_free = again ? save[3] : TIMER_SLOTS;
        s.timers_high = again ? save[4] : 0;
        s.timers_set = again ? (u64)save[6] << 32 | save[5] : 0;
        // The first round looks for itself.
        s.timers_next_ms = s.timers_free == TIMER_SLOTS ? ~0ull : 1;
        s.timers_take = s.timers_due = 0;
    }
    __syncthreads();
}

RF_FN void save_timers(const Shared &s, u32 *save) {
    save[3] = s.timers_free;
    save[4] = s.timers_high;
    save[5] = (u32)s.timers_set;
    save[6] = (u32)(s.timers_set >> 32);
}
