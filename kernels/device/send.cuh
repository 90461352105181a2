// Sending: where a message goes, and the place that is reserved for it (C3, C9).
#pragma once
#include "ctx.cuh"
#include "resolve.cuh"
#include "ring.cuh"

RF_FN const u16 *routes_of(const Params &p, const Shared &s) {
    return reinterpret_cast<const u16 *>(p.routes) + (u64)(s.tables_version & 1) * p.routes_len;
}
RF_FN char *spill_of(const Params &p, u32 me) {
    return reinterpret_cast<char *>(p.spill) + (u64)me * SPILL_SLOTS * sizeof(Envelope);
}
// What was spilled since it was last linked (spill.cuh): slot << 10 | ring, position.
RF_FN uint2 *spill_fresh_of(const Params &p, u32 me) {
    return reinterpret_cast<uint2 *>(p.spill_fresh) + (u64)me * SPILL_SLOTS;
}
RF_FN u32 *spill_free_of(const Params &p, u32 me) {
    return reinterpret_cast<u32 *>(p.spill_free) + (u64)me * SPILL_SLOTS;
}

// No room in the ring: a slot of the spill, which is there because a round takes inputs only while all they may send fits.
RF_SLOW u32 reserve_spill(const Params &p, Shared &s, u32 me, u32 ring, u32 position) {
    const u32 slot = spill_free_of(p, me)[atomicSub(&s.spill_free, 1) - 1];
    spill_fresh_of(p, me)[atomicAdd(&s.spill_fresh, 1)] = make_uint2(slot << 10 | ring, position);
    atomicAdd(&s.spill_live, 1);
    atomicAdd(&s.out_waiting[ring], 1);
    return SPILLED | slot;
}

// The next position of a ring. Positions of one thread rise, so what one actor sends to a ring stays in order.
RF_FN u32 reserve(const Params &p, Shared &s, u32 me, u32 ring) {
    const u32 position = atomicAdd(&s.out_tail[ring], 1);
    const u32 slots = outbound_slots(ring);
    if (ring_has_room(position, s.out_head[ring], slots)) return ring << SLOT_BITS | (position & (slots - 1));
    return reserve_spill(p, s, me, ring, position);
}

RF_FN char *address_of(const Params &p, const Shared &s, u32 me, u32 place) {
    if (place & SPILLED) return spill_of(p, me) + (u64)(place & ~SPILLED) * sizeof(Envelope);
    return reinterpret_cast<char *>(s.out_base[place >> SLOT_BITS]) +
           (u64)(place & ((1u << SLOT_BITS) - 1)) * sizeof(Envelope);
}

RF_FN void write_place(const Params &p, const Shared &s, u32 me, u32 place, const Envelope &e) {
    uint4 *to = reinterpret_cast<uint4 *>(address_of(p, s, me, place));
    const uint4 *from = reinterpret_cast<const uint4 *>(&e);
#pragma unroll
    for (u32 q = 0; q < 4; q++) to[q] = from[q];
}

// The set whose name has this tag, or 0. Tags lie in an open-addressing table, at most half full, written by the router.
RF_FN u32 set_by_tag(const Params &p, u32 tag) {
    const u64 *tags = reinterpret_cast<const u64 *>(p.tags);
    for (u32 at = tag & p.tag_mask, tries = 0; tries <= p.tag_mask; at = (at + 1) & p.tag_mask, tries++) {
        const u64 entry = tags[at];
        if ((u32)entry == tag) return (u32)(entry >> 32);
        if (entry == 0) return 0;
    }
    return 0;
}

// The outbound ring of a message to (set, key), or NO_RECORD + why there is none.
RF_FN u32 route_of(const Params &p, const Shared &s, const SetEntry &set, u64 key) {
    u32 shard;
    if (!shard_of(set, key, set.dense ? 0 : mix64(key), shard)) return NO_RECORD + RINGFLEET_DEAD_NO_SUCH_KEY;
    const u32 index = set.route_base + shard;
    const u32 target = index < ROUTES_KNOWN ? s.routes[index] : routes_of(p, s)[index];
    if (target < PEERS) return target;
    return target == RINGFLEET_TARGET_EGRESS ? EGRESS : NO_RECORD + RINGFLEET_DEAD_NO_SUCH_SET;
}

// An envelope that is no message (a verdict, an event, a marker), written straight to its place.
RF_SLOW void send_control(const Params &p, Shared &s, u32 me, u32 ring, const Envelope &e) {
    const u32 place = reserve(p, s, me, ring);
    write_place(p, s, me, place, e);
    if (ring == EGRESS) s.egress_used = 1;
}

// Resolves one send and reserves its place. NONE: it ended in the dead letters.
RF_FN u32 place_of(const Params &p, Shared &s, u32 me, Outgoing &o, u32 own_set, const SetEntry &own, Tally &tally) {
    Envelope &e = o.envelope;
    u32 ring;
    if (o.how == TO_TAG && o.detail == own.tag) {
        e.to_set = (u16)own_set;
        ring = route_of(p, s, own, e.to_key);
    } else if (o.how == TO_SET && e.to_set == RINGFLEET_SET_CLIENT) {
        // Ask number 0 is a tell: nobody waits for an answer.
        ring = (u32)e.to_key != 0 ? EGRESS : NO_RECORD + RINGFLEET_DEAD_NO_REPLY_TO;
    } else {
        if (o.how == TO_TAG) e.to_set = (u16)set_by_tag(p, o.detail);
        const SetEntry *set = set_of(s, e.to_set);
        if (set != nullptr) ring = route_of(p, s, *set, e.to_key);
        else ring = NO_RECORD + (o.how == TO_TAG ? RINGFLEET_DEAD_NO_SUCH_SET : RINGFLEET_DEAD_NO_REPLY_TO);
    }
    if (ring >= NO_RECORD) {
        count(s, RF_COUNTER(dead) + (ring - NO_RECORD));
        return NONE;
    }
    const u32 place = reserve(p, s, me, ring);
    if (place & SPILLED) {
        count(s, RF_COUNTER(spilled));
        count(s, RF_COUNTER(spill_now));
    } else if (ring == EGRESS) {
        count(s, RF_COUNTER(egress_out));
        s.egress_used = 1;
    } else {
        tally.to_rings++;
    }
    return place;
}
