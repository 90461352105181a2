// Whether an actor that has failed goes on: device twin of `RestartBudget` in kernels/abi/src/control.rs.
#pragma once
#include "base.cuh"

// So many restarts in a window of so many milliseconds, for an actor that fails at `hlc`. `window` is its word: milliseconds of the
// first restart in the window, above 16 bits with their number; it is looked at only where restarts are counted.
RF_FN bool may_restart(u32 restarts, u32 window_ms, u64 &window, u64 hlc) {
    if (restarts == 0 || restarts == RINGFLEET_RESTARTS_UNLIMITED) return restarts != 0;
    const u64 ms = hlc >> RINGFLEET_HLC_COUNTER_BITS, began_ms = window >> RINGFLEET_HLC_COUNTER_BITS;
    const u32 so_far = (u32)window & RINGFLEET_RESTARTS_MAX;
    if (so_far == 0 || ms - began_ms >= window_ms) {
        window = ms << RINGFLEET_HLC_COUNTER_BITS | 1;
        return true;
    }
    if (so_far >= restarts) return false;
    window++;
    return true;
}
