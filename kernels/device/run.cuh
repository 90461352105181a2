// Handling one message: the actor's record is read, its handler runs, the record is written, what it sent gets its places.
#pragma once
#include "send.cuh"

// A verdict for the client that sent message `j` (C4): takes the place of what the message sent, or a place of its own.
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
    s.record[j] = reserve(p, s, me, EGRESS);
    stage_store(s, j, e);
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

// Message `j` is not handled. From an actor: a dead letter. From a client: a verdict, and it counts as refused when it was
// not executed and may be sent again.
RF_SLOW void bury(const Params &p, Shared &s, u32 me, u32 j, u32 dead, u32 fault) {
    s.record[j] = NONE;
    const Head m = head_of(s, j);
    const bool refused = dead == RINGFLEET_DEAD_SHARD_FULL || dead == RINGFLEET_DEAD_OVERLOADED;
    const bool client = m.from_set == RINGFLEET_SET_CLIENT;
    if (client && refused) {
        count(s, RF_COUNTER(refused));
        count(s, RF_COUNTER(ingress_in), ~0u); // the sender still owns it
    } else {
        count(s, RF_COUNTER(dead) + dead);
    }
    if (dead == RINGFLEET_DEAD_STAMP_AHEAD) count(s, RF_COUNTER(stamps_ahead));
    if (client) answer_verdict(p, s, me, j, verdict_for(dead), fault);
}

// Handles message `j`, and with `chain` also those behind it in its bucket, as long as they are for the same set. The record
// stays in registers from one message of an actor to its next. Returns the first message that is left, or NONE16.
template <class A>
RF_FN u32 run_actor(const Params &p, Shared &s, u32 me, u32 j, bool chain, u32 set_index, const SetEntry &set, u32 &handled,
                    u32 &sent) {
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
        if (last & RECORD_FAILED) {
            bury(p, s, me, this_one, RINGFLEET_DEAD_ACTOR_FAILED, 0);
            continue;
        }
        if (last == 0 || last & RECORD_STOPPED) {
            A::init(r.state);
            count(s, RF_COUNTER(activations));
            count(s, RF_COUNTER(actors_now));
        }
#if RF_HLC
        const u64 hlc = hlc_after(last & HLC_MAX, m.hlc, s.now_hlc);
#else
        const u64 hlc = 1;
#endif
        Ctx<A::MAX_SENDS> ctx(m, hlc);
        u32 fault = A::handle(r.state, m, ctx);
        if (fault == FAULT_NONE) fault = ctx.fault;
        if (fault != FAULT_NONE) {
            // A message that no handler took leaves the actor as it was; any other fault fails it.
            u32 dead = RINGFLEET_DEAD_BAD_MESSAGE;
            if (fault == FAULT_BAD_MESSAGE) {
                r.header.hlc = hlc;
            } else {
                dead = RINGFLEET_DEAD_HANDLER_FAILED;
                count(s, RF_COUNTER(failures));
                if (set.restart) {
                    A::init(r.state);
                    count(s, RF_COUNTER(restarts));
                }
                r.header.hlc = set.restart ? hlc : hlc | RECORD_FAILED;
            }
            bury(p, s, me, this_one, dead, fault);
            continue;
        }
        // Above the stamps of what it sent, so that the next handling's are new.
        r.header.hlc = (hlc + ctx.sends) | (ctx.stopped ? RECORD_STOPPED : 0);
        if (ctx.stopped) count(s, RF_COUNTER(actors_now), ~0u);
        handled++;
        sent += ctx.sends;
        s.record[this_one] = NONE;
        if (ctx.sends == 0 && m.from_set == RINGFLEET_SET_CLIENT && flags_of(m) & RINGFLEET_FLAG_ASK) {
            answer_verdict(p, s, me, this_one, RINGFLEET_VERDICT_NO_REPLY, 0);
            continue;
        }
        bool first = true;
#pragma unroll 1
        for (u32 k = 0; k < ctx.sends; k++) {
            Outgoing &out = ctx.out[A::MAX_SENDS == 1 ? 0 : k];
            const u32 place = place_of(p, s, me, out, set_index, set);
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
    } while (j != NONE16 && head_of(s, j).to_set == set_index);
#pragma unroll
    for (u32 w = 0; w <= WORDS; w++) memory[w] = r.words[w];
    return j;
}
