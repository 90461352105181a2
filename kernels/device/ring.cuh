// Positions of a ring (C3, C9): u32, wrapping; slot = position & (slots - 1). See kernels/abi/src/ring.rs.
//
// On the device a producer numbers what it sends with *virtual* positions: the tail counts every message for a ring, whether
// the ring has room for it or not. Position p has room when p - head < slots; until then the message waits in the spill,
// tagged with (ring, p), and its place in the order is already fixed. So threads reserve with one atomic add, never retry,
// and the order of a ring is the order of reservation however the spill is drained. What may be published is
// published_tail(): everything below it has been written.
#pragma once
#include "base.cuh"

// Whether the slot of position `at` is free, the consumer's head being `head`.
RF_FN bool ring_has_room(u32 at, u32 head, u32 slots) { return at - head < slots; }

// The end of what may be published when everything that has room has been written.
RF_FN u32 ring_published_tail(u32 virtual_tail, u32 head, u32 slots) {
    return ring_has_room(virtual_tail, head, slots) ? virtual_tail : head + slots;
}

// Pages of `page` positions, a power of two, that the positions from `first` up to `end`, which is behind it, lie in.
RF_FN u32 ring_pages(u32 first, u32 end, u32 page) { return (end - 1 - (first & ~(page - 1))) / page + 1; }

// Whether a position that is published up to `tail` lies at `at` or behind it; they are less than 2^31 apart.
RF_FN bool is_past(u32 tail, u32 at) { return tail - at < 1u << 31; }

// Slots that can be read. None if the head is ahead: what came by a bell (bell.cuh) is consumed before its tail is there.
RF_FN u32 ring_ready(u32 tail, u32 head) { return is_past(tail, head) ? tail - head : 0; }

// A position read from the other side that cannot be: the other side is broken and its slots cannot be trusted.
RF_FN bool ring_tail_is_sane(u32 tail, u32 tail_before, u32 head, u32 slots) {
    return tail - head <= slots && tail - head >= tail_before - head;
}
