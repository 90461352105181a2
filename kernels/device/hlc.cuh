// The packed hybrid logical clock (C6): 48 bits of milliseconds since 1970, 16 bits of counter. See kernels/abi/src/hlc.rs.
//
// A device keeps one stamp per actor, in the actor's record. A clock per worker would make about 72,000 stamps a
// millisecond at full rate, more than its counter holds; an actor makes a few.
#pragma once
#include "base.cuh"

// Stamps of actors stay below this: the upper bits of a record's stamp are its flags.
static constexpr u64 HLC_MAX = (1ull << 62) - 1;

RF_FN u64 hlc_from_ms(u64 wall_ms) {
    const u64 ms_max = ~0ull >> RINGFLEET_HLC_COUNTER_BITS;
    return (wall_ms > ms_max ? ms_max : wall_ms) << RINGFLEET_HLC_COUNTER_BITS;
}

// max(last, message, now) + 1
RF_FN u64 hlc_after(u64 last, u64 message, u64 now) {
    u64 most = last;
    if (message > most) most = message;
    if (now > most) most = now;
    return most == ~0ull ? most : most + 1;
}

// The last stamp that is not too far ahead of a wall clock.
RF_FN u64 hlc_limit(u64 wall_ms) {
    return hlc_from_ms(wall_ms + RINGFLEET_HLC_AHEAD_MS_MAX) | ((1ull << RINGFLEET_HLC_COUNTER_BITS) - 1);
}
