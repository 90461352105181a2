// What a handler sees: device twin of kernels/actor/src/ctx.rs. A type's device code is text that defines, in a namespace
// of its own,
//
//   struct State { ... };                        the state: plain data, a multiple of 16 bytes
//   static constexpr u32 MAX_SENDS = n;          tells + replies + timers of one handling, at most
//   RF_FN void init(State &state);               the state of an actor that is activated
//   RF_FN u32 handle(State &state, const Envelope &message, Ctx<MAX_SENDS> &ctx);    0, or the code of a fault
//
// and nothing else. A handler sends through Ctx only, which keeps what was sent until the handler has returned 0: a
// handling that fails sends nothing.
#pragma once
#include "keys.cuh"

// Codes of faults: kernels/actor/src/fault.rs.
static constexpr u32 FAULT_NONE = 0, FAULT_BAD_MESSAGE = 1, FAULT_OVERFLOW = 2, FAULT_DIVIDE_BY_ZERO = 3,
                     FAULT_OUT_OF_BOUNDS = 4, FAULT_TOO_MANY_SENDS = 5, FAULT_OUT_OF_FUEL = 6, FAULT_DELAY_TOO_LONG = 7,
                     FAULT_TIMER_FULL = 8, FAULT_USER = 9;

// How the target of a send is known.
static constexpr u32 TO_TAG = 0, TO_SET = 1, TO_TIMER = 2;

struct Outgoing {
    Envelope envelope;
    u32 how;
    u32 detail; // the tag of the target's set; the delay of a timer
};

template <u32 MAX> struct Ctx {
    const Envelope &message;
    u64 hlc; // stamp of this handling
    u32 sends = 0;
    u32 fault = FAULT_NONE;
    u32 timers = 0; // of the sends
    bool stopped = false, replied = false;
    Outgoing out[MAX > 0 ? MAX : 1];

    RF_FN Ctx(const Envelope &incoming, u64 stamp) : message(incoming), hlc(stamp) {}

    RF_FN u64 key() const { return message.to_key; }
    RF_FN u64 now() const { return hlc; }
    RF_FN u32 fail(u16 code) const { return FAULT_USER | (u32)code << 16; }
    RF_FN void stop() { stopped = true; }

    template <class M> RF_FN void tell(u32 set_tag, u64 to_key, u16 kind, const M &body) {
        send(TO_TAG, set_tag, 0, to_key, kind, 0, body);
    }
    template <class M> RF_FN void reply(u16 kind, const M &body) {
        const u32 ask = flags_of(message) & RINGFLEET_FLAG_ASK;
        replied = true;
        send(TO_SET, 0, message.from_set, message.from_key, kind, ask ? RINGFLEET_FLAG_REPLY : 0, body);
    }
    template <class M> RF_FN void after(u32 delay_ms, u16 kind, const M &body) {
        if (delay_ms > RINGFLEET_TIMER_DELAY_MS_MAX) {
            fault = FAULT_DELAY_TOO_LONG;
            return;
        }
        send(TO_TIMER, delay_ms, message.to_set, message.to_key, kind, 0, body);
        timers++;
    }

  private:
    template <class M>
    RF_FN void send(u32 how, u32 detail, u16 to_set, u64 to_key, u16 kind, u32 flags, const M &body) {
        static_assert(sizeof(M) <= RINGFLEET_PAYLOAD_BYTES_MAX, "a message fits one envelope");
        if (sends >= MAX) {
            fault = FAULT_TOO_MANY_SENDS;
            return;
        }
        Outgoing &o = out[MAX == 1 ? 0 : sends];
        sends++;
        flags |= flags_of(message) & RINGFLEET_FLAG_TRACE;
        o.how = how;
        o.detail = detail;
        o.envelope.to_key = to_key;
        o.envelope.from_key = message.to_key;
        o.envelope.hlc = hlc + sends;
        o.envelope.to_set = to_set;
        o.envelope.from_set = message.to_set;
        o.envelope.kind = kind;
        // A struct without fields has a size in C++, and none in Rust.
        constexpr u32 bytes = __is_empty(M) ? 0 : sizeof(M);
        o.envelope.bits = (u16)(bytes | flags << RINGFLEET_FLAGS_SHIFT);
        union {
            u64 words[4];
            M body;
        } both;
        both.words[0] = both.words[1] = both.words[2] = both.words[3] = 0;
        both.body = body;
        u64 *words = reinterpret_cast<u64 *>(o.envelope.payload);
#pragma unroll
        for (u32 at = 0; at < 4; at++) words[at] = both.words[at];
    }
};

// The body of a message as the struct that its kind names.
template <class M> RF_FN M body_of(const Envelope &message) {
    union {
        u64 words[4];
        M body;
    } both;
    const u64 *words = reinterpret_cast<const u64 *>(message.payload);
#pragma unroll
    for (u32 at = 0; at < 4; at++) both.words[at] = words[at];
    return both.body;
}
