// Handling one message: the actor's record is read, its handler runs, the record is written, what it sent gets its places.
#pragma once
#include "restarts.cuh"
#include "timers.cuh"

// A verdict for the client that sent message `j` (C4). It is no message.
RF_SLOW void answer_verdict(const Params &p, Shared &s, u32 me, u32 j, u32 verdict, u32 fault) {
    Envelope m, e = {};
    stage_load(s, j, m);
    e.to_key = m.from_key;
    e.from_key = m.to_key;
    e.hlc = hlc_after(0, m.hlc, s.now_hlc);
    e.to_set = m.from_set;
    e.from_set = m.to_set;
    e.kind = (u16)verdict;
    e.bits = (u16)(sizeof(ringfleet_verdict_body) |
                   (RINGFLEET_FLAG_REPLY | RINGFLEET_FLAG_CONTROL) << RINGFLEET_FLAGS_SHIFT);
    ringfleet_verdict_body *body = reinterpret_cast<ringfleet_verdict_body *>(e.payload);
    body->position = s.counters[RF_COUNTER(ingress_done)] + (j - s.in_from[INGRESS]);
    body->fault = fault;
    body->worker = (u16)me;
    body->kind = m.kind;
    send_control(p, s, me, EGRESS, e);
}

// Tells the host that an actor has failed: a control envelope that is no reply, from the actor.
RF_SLOW void tell_failure(const Params &p, Shared &s, u32 me, u32 set, u64 key, u32 fault) {
    Envelope e = {};
    e.from_key = key;
    e.from_set = (u16)set;
    e.hlc = s.now_hlc;
    e.kind = RINGFLEET_STATUS_ACTOR_FAILED;
    e.bits = (u16)(sizeof(u32) | RINGFLEET_FLAG_CONTROL << RINGFLEET_FLAGS_SHIFT);
    *reinterpret_cast<u32 *>(e.payload) = fault;
    send_control(p, s, me, EGRESS, e);
}

// An actor of this set becomes active (1) or inactive (~0u). Several threads of the worker may do so at once.
RF_SLOW void count_live(const Params &p, const SetEntry &set, u64 key, u32 by) {
    u32 shard;
    if (shard_of(set, key, set.dense ? 0 : mix64(key), shard))
        atomicAdd(reinterpret_cast<u32 *>(p.live) + set.route_base + shard, by);
}

RF_FN u32 verdict_for(u32 dead) {
    switch (dead) {
    case RINGFLEET_DEAD_SHARD_FULL: return RINGFLEET_VERDICT_SHARD_FULL;
    case RINGFLEET_DEAD_OVERLOADED: return RINGFLEET_VERDICT_BUSY;
    case RINGFLEET_DEAD_NOT_RESIDENT: return RINGFLEET_VERDICT_NOT_RESIDENT;
    case RINGFLEET_DEAD_ACTOR_FAILED: return RINGFLEET_VERDICT_ACTOR_FAILED;
    case RINGFLEET_DEAD_HANDLER_FAILED: return RINGFLEET_VERDICT_HANDLER_FAILED;
    default: return RINGFLEET_VERDICT_BAD_MESSAGE;
    }
}

// Message `j` is not handled. A client's that was not executed and may be sent again is refused: it was never accepted, and the
// client is told. Anything else is a dead letter; a client that asked is told.
RF_SLOW void bury(const Params &p, Shared &s, u32 me, u32 j, u32 dead, u32 fault) {
    s.record[j] = NONE;
    const Head m = head_of(s, j);
    const bool refused = dead == RINGFLEET_DEAD_SHARD_FULL || dead == RINGFLEET_DEAD_OVERLOADED;
    const bool client = m.from_set == RINGFLEET_SET_CLIENT && is_ingress(s, j);
    if (client && refused) {
        count(s, RF_COUNTER(refused));
        count(s, RF_COUNTER(ingress_in), ~0u); // the sender still owns it
    } else {
        count(s, RF_COUNTER(dead) + dead);
    }
    if (dead == RINGFLEET_DEAD_STAMP_AHEAD) count(s, RF_COUNTER(stamps_ahead));
    if (client && (refused || m.bits >> RINGFLEET_FLAGS_SHIFT & RINGFLEET_FLAG_ASK))
        answer_verdict(p, s, me, j, verdict_for(dead), fault);
}

// The actor of this key has failed for good: the actor of the same key in the parent set is told to fail, too. That is a message like
// others, so it keeps its place behind what the actor sent there before (C3) and ends somewhere (C7). It is
// counted here, and not in the caller's tally: what that has in registers stays there.
RF_SLOW void escalate(const Params &p, Shared &s, u32 me, u64 key, u64 hlc, u32 flags, u32 set_index, const SetEntry &set) {
    Tally tally = {};
    Outgoing out = {};
    out.how = TO_TAG;
    out.detail = set.parent;
    out.envelope.to_key = out.envelope.from_key = key;
    out.envelope.hlc = hlc;
    out.envelope.from_set = (u16)set_index;
    out.envelope.kind = RINGFLEET_KIND_CHILD_FAILED;
    out.envelope.bits = (u16)((flags & RINGFLEET_FLAG_TRACE) << RINGFLEET_FLAGS_SHIFT);
    count(s, RF_COUNTER(escalations));
    count(s, RF_COUNTER(sent));
    const u32 place = place_of(p, s, me, out, set_index, set, tally);
    if (place != NONE) write_place(p, s, me, place, out.envelope);
    count(s, RF_COUNTER(ring_out), tally.to_rings);
}

RF_FN bool is_child_failed(const Envelope &m) {
    return m.kind == RINGFLEET_KIND_CHILD_FAILED && m.from_set != RINGFLEET_SET_CLIENT && (m.bits & RINGFLEET_LEN_MASK) == 0;
}

// Handles message `j`, and with `chain` also those behind it in its bucket, as long as they are for the same set. The record
// stays in registers from one message of an actor to its next. Returns the first message that is left, or NONE16.
template <class A>
RF_FN u32 run_actor(const Params &p, Shared &s, u32 me, u32 j, bool chain, u32 set_index, const SetEntry &set, Tally &tally) {
    typedef typename A::State State;
    static_assert(sizeof(State) % 16 == 0 && sizeof(State) <= RINGFLEET_STATE_BYTES_MAX, "state is whole 16-byte words");
    static_assert(A::MAX_SENDS <= MAX_SENDS, "the build allows for the type's sends");
    constexpr u32 WORDS = sizeof(State) / 16;
    union {
        uint4 words[WORDS + 1];
        struct {
            RecordHeader header;
            State state;
        };
    } r;
    uint4 *memory = nullptr;
    u32 record = NO_RECORD;
    do {
        if (chain && s.bucket[j] & ASIDE) {
            j = s.after[j];
            continue;
        }
        const u32 wanted = s.record[j];
        Envelope m;
        stage_load(s, j, m);
        if (wanted != record) {
            if (record != NO_RECORD) {
#pragma unroll
                for (u32 w = 0; w <= WORDS; w++) memory[w] = r.words[w];
            }
            record = wanted;
            memory = reinterpret_cast<uint4 *>(record_address(p, record));
#pragma unroll
            for (u32 w = 0; w <= WORDS; w++) r.words[w] = memory[w];
        }
        const u32 this_one = j;
        j = chain ? s.after[j] : NONE16;
        const u64 last = r.header.hlc;
        const bool dormant = last == 0 || last & RECORD_STOPPED;
        if (flags_of(m) & FLAG_FIRED) {
            if (dormant || last & RECORD_FAILED || m.from_key != r.header.generation) {
                bury(p, s, me, this_one, RINGFLEET_DEAD_ACTOR_GONE, 0);
                continue;
            }
            m.from_key = m.to_key;
            m.bits &= (u16)~(FLAG_FIRED << RINGFLEET_FLAGS_SHIFT);
        }
        if (last & RECORD_FAILED) {
            bury(p, s, me, this_one, RINGFLEET_DEAD_ACTOR_FAILED, 0);
            continue;
        }
        if (dormant) A::init(r.state);
#if RF_HLC
        const u64 hlc = hlc_after(last & HLC_MAX, m.hlc, s.now_hlc);
#else
        const u64 hlc = 1;
#endif
        Keep *const keep = reinterpret_cast<Keep *>(memory + WORDS + 1);
        Ctx<A::MAX_SENDS> ctx(m, hlc);
        ctx.keep = keep;
        ctx.tag = set.tag;
        u32 fault = A::handle(r.state, m, ctx);
        if (fault == FAULT_NONE) fault = ctx.fault;
        u32 timers_at = 0;
        if (fault == FAULT_NONE && ctx.timers != 0 && !reserve_timers(s, ctx.timers, timers_at)) fault = FAULT_TIMER_FULL;
        const bool child_failed = fault == FAULT_BAD_MESSAGE && is_child_failed(m);
        if (child_failed) fault = FAULT_CHILD_FAILED;
        if (dormant && fault != FAULT_BAD_MESSAGE) {
            count(s, RF_COUNTER(activations));
            count(s, RF_COUNTER(actors_now));
            count_live(p, set, m.to_key, 1);
        }
        if (fault != FAULT_NONE) {
            // A message that no handler takes leaves the actor as it was, and activates none; any other fault fails it.
            u32 dead = RINGFLEET_DEAD_BAD_MESSAGE;
            if (fault == FAULT_BAD_MESSAGE) {
                if (!dormant) r.header.hlc = hlc;
            } else {
                dead = RINGFLEET_DEAD_HANDLER_FAILED;
                count(s, RF_COUNTER(failures));
                tell_failure(p, s, me, set_index, m.to_key, fault);
                const bool again = may_restart(set.restarts, set.window_ms, keep->window, hlc);
                r.header.hlc = again ? hlc : (hlc + (set.parent != 0)) | RECORD_FAILED;
                if (again) {
                    A::init(r.state);
                    r.header.generation++;
                    count(s, RF_COUNTER(restarts));
                } else if (set.parent != 0) {
                    escalate(p, s, me, m.to_key, hlc + 1, flags_of(m), set_index, set);
                }
                if (child_failed) {
                    // It has done what it was sent for.
                    s.record[this_one] = NONE;
                    tally.handled++;
                    continue;
                }
            }
            bury(p, s, me, this_one, dead, fault);
            continue;
        }
        // Above the stamps of what it sent, so that the next handling's are new.
        r.header.hlc = (hlc + ctx.sends) | (ctx.stopped ? RECORD_STOPPED : 0);
        tally.handled++;
        tally.sent += ctx.sends;
        s.record[this_one] = NONE;
        if (m.from_set == RINGFLEET_SET_CLIENT && flags_of(m) & RINGFLEET_FLAG_ASK && !ctx.replied)
            answer_verdict(p, s, me, this_one, RINGFLEET_VERDICT_NO_REPLY, 0);
        bool first = true;
#pragma unroll 1
        for (u32 k = 0; k < ctx.sends; k++) {
            Outgoing &out = ctx.out[A::MAX_SENDS == 1 ? 0 : k];
            if (out.how == TO_TIMER) {
                const Envelope copy = out.envelope; // so that what was sent stays in registers
                set_timer(p, s, me, timers_at--, copy, out.detail, r.header.generation);
                continue;
            }
            const u32 place = place_of(p, s, me, out, set_index, set, tally);
            if (place == NONE) continue;
            if (first) {
                // The message's own place in the batch is free now; four lanes will carry it from there to its slot.
                s.record[this_one] = place;
                stage_store(s, this_one, out.envelope);
                first = false;
            } else {
                write_place(p, s, me, place, out.envelope);
            }
        }
        if (ctx.stopped) {
            // Nothing of it is left for the actor that the next message activates, as on a CPU.
            if (set.keeps) *keep = {};
            r.header.generation++;
            count(s, RF_COUNTER(actors_now), ~0u);
            count_live(p, set, m.to_key, ~0u);
        }
    } while (j != NONE16 && head_of(s, j).to_set == set_index);
    if (record != NO_RECORD) {
#pragma unroll
        for (u32 w = 0; w <= WORDS; w++) memory[w] = r.words[w];
    }
    return j;
}
