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
                     FAULT_TIMER_FULL = 8, FAULT_USER = 9, FAULT_CHILD_FAILED = 10;

// How the target of a send is known.
static constexpr u32 TO_TAG = 0, TO_SET = 1, TO_TIMER = 2;

struct Outgoing {
    Envelope envelope;
    u32 how;
    u32 detail; // the tag of the target's set; the delay of a timer
};

// Behind the state in records of types that draw random numbers and of sets that count restarts.
struct alignas(16) Keep {
    u64 drawn;  // random numbers
    u64 window; // of its restarts, see restarts.cuh
};

// Philox 4x32-10: kernels/abi/src/random.rs.
RF_FN void philox(u32 (&counter)[4], u32 key0, u32 key1) {
#pragma unroll
    for (u32 round = 0; round < 10; round++) {
        const u64 a = (u64)0xd2511f53u * counter[0], b = (u64)0xcd9e8d57u * counter[2];
        counter[0] = (u32)(b >> 32) ^ counter[1] ^ key0;
        counter[1] = (u32)b;
        counter[2] = (u32)(a >> 32) ^ counter[3] ^ key1;
        counter[3] = (u32)a;
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
}

// The next 128 random bits of an actor.
struct Draw {
    u64 low, high;
};
RF_FN Draw draw(u64 &drawn, u32 set_tag, u64 actor) {
    const u64 number = drawn++;
    u32 words[4] = {(u32)number, (u32)(number >> 32), (u32)actor, (u32)(actor >> 32)};
    philox(words, set_tag, 0);
    return {words[0] | (u64)words[1] << 32, words[2] | (u64)words[3] << 32};
}

template <u32 MAX> struct Ctx {
    const Envelope &message;
    u64 hlc; // stamp of this handling
    Keep *keep = nullptr; // the actor's, if its record has one: those of types that draw have
    u32 tag = 0;          // of its set's name
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
    RF_FN u64 random() { return draw(keep->drawn, tag, key()).low; }
    // One part in 2^64 from equally likely, as kernels/abi/src/random.rs says.
    template <class T> RF_FN u32 random_below(u64 bound, T &to) {
        if (bound == 0) return FAULT_DIVIDE_BY_ZERO;
        const Draw bits = draw(keep->drawn, tag, key());
        const u64 product = bits.high * bound, carried = mul_high(bits.low, bound);
        to = mul_high(bits.high, bound) + (product + carried < product);
        return FAULT_NONE;
    }

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
