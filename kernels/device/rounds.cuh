// The parts of a worker's round that move whole batches: what is there, taking it, sending on, publishing (C3, C9).
#pragma once
#include "bell_lanes.cuh"
#include "run.cuh"
#include "spill.cuh"

// A worker of any device of the node: where its side of a ring lies. Rings and the tails of what is sent to a worker lie in the
// memory of its device, heads of what it has sent too: each side polls its own memory, and writes the other's, over NVLink if
// that is another device.
struct Peer {
    u32 device, worker;
};
RF_FN Peer peer_of(u32 peer) {
    if (DEVICES == 1) return {0, peer};
    return {peer / WORKERS, peer % WORKERS};
}
RF_FN u32 own_peer(const Params &p, u32 me) { return DEVICES == 1 ? me : p.device * WORKERS + me; }

// Published tails, by sender, of the rings into a worker; the router is the last sender.
RF_FN u32 *tails_of(const Params &p, u32 receiver) { return reinterpret_cast<u32 *>(p.tails) + receiver * TAILS_ROW; }
// Consumed heads, by receiver, of the rings out of a worker; the host is the last receiver.
RF_FN u32 *heads_of(const Params &p, u32 sender) { return reinterpret_cast<u32 *>(p.heads) + sender * ROW; }
RF_FN u32 *tail_at(const Params &p, u32 receiver, u32 me) {
    const Peer peer = peer_of(receiver);
    const u64 tails = DEVICES == 1 ? p.tails : p.peer_tails[peer.device];
    return reinterpret_cast<u32 *>(tails) + peer.worker * TAILS_ROW + own_peer(p, me);
}
// The bell of a worker lies behind its row of tails.
RF_FN uint4 *bell_at(const Params &p, u32 receiver) {
    const Peer peer = peer_of(receiver);
    const u64 tails = DEVICES == 1 ? p.tails : p.peer_tails[peer.device];
    return reinterpret_cast<uint4 *>(reinterpret_cast<u32 *>(tails) + peer.worker * TAILS_ROW + ROW);
}
RF_FN u32 *head_at(const Params &p, u32 sender, u32 me) {
    const Peer peer = peer_of(sender);
    const u64 heads = DEVICES == 1 ? p.heads : p.peer_heads[peer.device];
    return reinterpret_cast<u32 *>(heads) + peer.worker * ROW + own_peer(p, me);
}
RF_FN u64 slots_at(const Params &p, u32 receiver, u32 me) {
    const Peer peer = peer_of(receiver);
    const u64 rings = DEVICES == 1 ? p.rings : p.peer_rings[peer.device];
    return rings + ((u64)peer.worker * PEERS + own_peer(p, me)) * RING_SLOTS * sizeof(Envelope);
}
RF_FN HostPage *host_of(const Params &p) { return reinterpret_cast<HostPage *>(p.host_page); }
RF_FN DevicePage *device_of(const Params &p) { return reinterpret_cast<DevicePage *>(p.device_page); }

// Release of everything that the team has done, behind a barrier; also acquire of what was loaded before (memory.cuh).
RF_FN void fence_round(const Shared &s) {
    if (DEVICES > 1 || s.egress_used) fence_system();
    else fence_gpu();
}

// Behind fence_round(): what was taken of an inbound ring is given back.
RF_FN void publish_inbound(const Params &p, Shared &s, u32 me, u32 ring) {
    const u32 head = s.in_head[ring] + s.in_take[ring];
    s.in_head[ring] = head;
    s.in_take[ring] = 0;
    if (!s.may_publish || head == s.in_published[ring]) return;
    s.in_published[ring] = head;
    // The router needs no heads: the host counts what it has outstanding.
    if (ring != INGRESS) store_peer(head_at(p, ring, me), head);
}

// What the host may conclude from the egress ring, whose published end is `tail` (C3, C4): that the ingress is finished with up to
// a position, when every refusal of a message before it can be read; that routes are flushed, when all that was sent by the old ones
// can. While some of it waits in the spill, the words wait too: for the end that the ring had when it was noted what they may say.
RF_SLOW void tell_what_is_out(const Params &p, Shared &s, u32 me, u32 tail) {
    const u64 done = s.counters[RF_COUNTER(ingress_done)];
    const bool refusals = s.egress_used || s.ingress_noted != 0; // perhaps
    u64 tell = s.ingress_told;
    if (tail == s.out_tail[EGRESS]) {
        tell = done;
        s.ingress_noted = 0;
    } else {
        if (s.ingress_noted != 0 && is_past(tail, s.noted_tail)) {
            tell = s.ingress_noted;
            s.ingress_noted = 0;
        }
        if (s.ingress_noted == 0 && tell != done) {
            s.ingress_noted = done;
            s.noted_tail = s.out_tail[EGRESS];
        }
    }
    if (tell != s.ingress_told) {
        // Refusals first, then the count that says they are there.
        if (refusals) fence_system();
        s.ingress_told = tell;
        store_system(&host_of(p)->ingress_done[me], tell);
    }
    if (s.flush_due != 0 && is_past(tail, s.flush_tail)) {
        fence_system();
        store_system(&host_of(p)->routes_flushed[me], s.flush_due);
        s.flush_due = 0;
    }
}

// Behind fence_round(): what was written to an outbound ring is published.
RF_FN void publish_outbound(const Params &p, Shared &s, u32 me, u32 ring) {
    if (!s.may_publish) return;
    const u32 tail = ring_published_tail(s.out_tail[ring], s.out_head[ring], outbound_slots(ring));
    if (tail != s.out_published[ring]) {
        s.out_published[ring] = tail;
        if (ring == EGRESS) store_system(&host_of(p)->egress_tail[me], tail);
        else store_peer(tail_at(p, ring, me), tail);
    }
    if (ring == EGRESS && (s.ingress_told != s.counters[RF_COUNTER(ingress_done)] || s.flush_due != 0))
        tell_what_is_out(p, s, me, tail);
}

// Publishes what the round before has done and reads what the others have done. Thread t looks after the inbound ring
// `ring` and the outbound ring t. Returns what lies ready in that inbound ring.
//
// `dirty`: the block has something to publish, and a barrier since its last write. Then one fence serves both directions
// (memory.cuh). Otherwise only a thread that found something fences.
RF_FN u32 exchange_positions(const Params &p, Shared &s, u32 me, u32 ring, bool dirty) {
    const u32 t = threadIdx.x;
    u32 ready = 0;
    if (t < INBOUND) {
        const u32 tail = load_peer(&tails_of(p, me)[ring]);
        const u32 out_head = load_peer(&heads_of(p, me)[t]);
        ready = ring_ready(tail, s.in_head[ring] + s.in_take[ring]);
        if (dirty) {
            fence_round(s);
            publish_inbound(p, s, me, ring);
            publish_outbound(p, s, me, t);
        } else if (ready != 0) {
            fence_peer();
        }
        if (out_head != s.out_head[t]) {
            s.out_head[t] = out_head;
            const u32 waiting = s.out_waiting[t], tail = s.out_tail[t];
            if (waiting != 0) {
                s.spill_ready = 1;
                const u32 end = ring_published_tail(tail, out_head, outbound_slots(t));
                if (end - (tail - waiting) > s.out_linked[t]) s.spill_link = 1;
            }
        }
    }
    return ready;
}

// The first half of choosing a batch: sums over the lanes of each warp. Returns what lies ready before this thread's ring
// within its warp.
RF_FN u32 scan_ready(Shared &s, u32 ready) {
    const u32 lane = threadIdx.x & 31;
    u32 before = ready;
#pragma unroll
    for (u32 step = 1; step < 32; step <<= 1) {
        const u32 other = __shfl_up_sync(~0u, before, step);
        if (lane >= step) before += other;
    }
    if (lane == 31 && threadIdx.x >> 5 < SCAN_WARPS) s.ready[threadIdx.x >> 5] = before;
    return before - ready;
}

// Behind a barrier: all that lies ready.
RF_FN u32 all_ready(const Shared &s) {
    u32 all = 0;
#pragma unroll
    for (u32 w = 0; w < SCAN_WARPS; w++) all += s.ready[w];
    return all;
}

// The second half: each ring's part of the batch, everything in turn from place `first` up to `limit`. Returns the end of the batch.
RF_FN u32 share_batch(Shared &s, u32 ring, u32 ready, u32 before, u32 first, u32 limit) {
    u32 all = first;
    before += first;
#pragma unroll
    for (u32 w = 0; w < SCAN_WARPS; w++) {
        const u32 part = s.ready[w];
        if (w < threadIdx.x >> 5) before += part;
        all += part;
    }
    if (threadIdx.x < INBOUND) {
        const u32 from = min(before, limit);
        s.in_from[ring] = from;
        s.in_take[ring] = min(before + ready, limit) - from;
    }
    return min(all, limit);
}

RF_FN const char *inbound_base(const Params &p, u32 me, u32 ring) {
    return ring == INGRESS
               ? reinterpret_cast<const char *>(p.ingress) + (u64)me * INGRESS_SLOTS * sizeof(Envelope)
               : reinterpret_cast<const char *>(p.rings) + ((u64)me * PEERS + ring) * RING_SLOTS * sizeof(Envelope);
}

// A warp per ring copies the batch to shared memory; all copies are under way before the first is waited for. Lane l knows
// the l-th ring of its warp, so rings with nothing to take cost nothing.
RF_FN void stage_batch(const Params &p, Shared &s, u32 me) {
    constexpr u32 EACH = (INBOUND + WARPS - 1) / WARPS;
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (u32 first = 0; first < EACH; first += 32) {
        const u32 mine = (first + lane) * WARPS + warp;
        const bool there = first + lane < EACH && mine < INBOUND;
        const u32 my_take = there ? s.in_take[mine] : 0;
        for (u32 left = __ballot_sync(~0u, my_take != 0); left != 0; left &= left - 1) {
            const u32 ring = (first + __ffs(left) - 1) * WARPS + warp;
            const u32 chunks = s.in_take[ring] * 4, from = s.in_from[ring], head = s.in_head[ring];
            const u32 mask = inbound_slots(ring) - 1;
            const char *base = inbound_base(p, me, ring);
            for (u32 c = lane; c < chunks; c += 32)
                copy_async_16(&s.stage[chunk_at(from + (c >> 2), c & 3)],
                              base + (u64)((head + (c >> 2)) & mask) * sizeof(Envelope) + (c & 3) * 16);
        }
    }
    copy_async_wait();
}

// Four lanes carry what each message sent from its place in the batch to its slot; buckets are emptied on the way.
RF_FN void send_batch(const Params &p, Shared &s, u32 me, Team team) {
    for (u32 c = threadIdx.x; c < s.batch * 4; c += team.size) {
        const u32 j = c >> 2, q = c & 3, place = s.record[j];
        if (place != NONE) *reinterpret_cast<uint4 *>(address_of(p, s, me, place) + q * 16) = s.stage[chunk_at(j, q)];
        if (q == 0 && s.bucket[j] != NONE16) s.bucket_head[s.bucket[j] & BUCKET_MASK] = NONE;
    }
}

// Reads the tables anew, empties shards that have just been assigned, and after a change of routes puts a marker into every
// ring: everything sent by the old routes lies before it (C2, C3). Uniform over the block, between two batches.
RF_SLOW void learn_tables(const Params &p, Shared &s, u32 me) {
    const u32 t = threadIdx.x, version = s.tables_wanted, before = s.tables_version;
    if (t == 0) s.later_count = 0;
    __syncthreads();
    // Gates stay closed over this: their shards are noted in `record`, which is free between batches.
#pragma unroll 1
    for (u32 i = t; i < SHARDS_KNOWN; i += THREADS)
        if (s.shards[i].index != NONE && s.shards[i].closed) s.record[atomicAdd(&s.later_count, 1)] = s.shards[i].index;
    __syncthreads();
    const u32 gates = s.later_count;
#pragma unroll 1
    for (u32 i = t; i < SETS_KNOWN; i += THREADS) s.set_known[i] = 0;
#pragma unroll 1
    for (u32 i = t; i < SHARDS_KNOWN; i += THREADS) s.shards[i].index = NONE;
    if (t == 0) s.tables_version = version;
    // Acquire: pairs with the router's release of the version; the tables that it stands for may be read.
    fence_gpu();
    __syncthreads();
#pragma unroll 1
    for (u32 i = t; i < p.routes_len && i < ROUTES_KNOWN; i += THREADS) s.routes[i] = routes_of(p, s)[i];
#pragma unroll 1
    for (u32 i = t; i < p.routes_len; i += THREADS) {
        const ShardEntry entry = shards_of(p)[i];
        if (entry.worker != me || entry.epoch == 0) continue;
        u32 at = i & (SHARDS_KNOWN - 1);
#pragma unroll 1
        for (u32 tries = 0; tries < SHARDS_KNOWN && atomicCAS(&s.shards[at].index, NONE, i) != NONE; tries++)
            at = (at + 1) & (SHARDS_KNOWN - 1);
        if (s.shards[at].index != i) continue; // the host keeps to RF_SHARDS_MAX, so this is never so
        s.shards[at].closed = s.shards[at].opened = 0;
#pragma unroll 1
        for (u32 k = 0; k < gates; k++)
            if (s.record[k] == i && entry.emptied == (u32)entry.epoch) s.shards[at].closed = 1;
        s.shards[at].full_from = NONE;
        s.shards[at].base = entry.base;
        s.shards[at].capacity = entry.capacity;
        s.shards[at].keys = entry.record_units * (entry.capacity + 1);
        s.shards[at].fresh = entry.emptied != (u32)entry.epoch ? entry.units : 0;
    }
#pragma unroll 1
    for (u32 i = 1 + t; i < p.sets_count; i += THREADS) {
        const SetEntry entry = sets_of(p)[i];
        if (entry.shards == 0) continue;
        u32 at = i & (SETS_KNOWN - 1);
#pragma unroll 1
        for (u32 tries = 0; tries < SETS_KNOWN && atomicCAS(&s.set_known[at], 0, i) != 0; tries++)
            at = (at + 1) & (SETS_KNOWN - 1);
        if (s.set_known[at] == i) s.sets[at] = entry;
    }
    __syncthreads();
    drop_lost_timers(p, s, me);
#pragma unroll 1
    for (u32 at = 0; at < SHARDS_KNOWN; at++) {
        const u32 units = s.shards[at].index == NONE ? 0 : s.shards[at].fresh;
        if (units == 0) continue;
        uint4 *words = reinterpret_cast<uint4 *>(arena_of(p) + (u64)s.shards[at].base * RECORD_UNIT);
#pragma unroll 1
        for (u64 i = t; i < (u64)units * (RECORD_UNIT / 16); i += THREADS) words[i] = make_uint4(0, 0, 0, 0);
        if (t == 0) {
            ShardEntry *entry = reinterpret_cast<ShardEntry *>(p.shards) + s.shards[at].index;
            entry->emptied = (u32)entry->epoch;
        }
    }
    __syncthreads();
    // What was sent to the host by the old routes lies before this.
    if (((version ^ before) & 1) != 0 && t == 0) s.flush_tail = s.out_tail[EGRESS];
    if (((version ^ before) & 1) != 0)
#pragma unroll 1
        for (u32 ring = t; ring < PEERS; ring += THREADS) {
            Envelope marker = {};
            marker.to_key = version;
            marker.from_key = own_peer(p, me);
            marker.bits = (RINGFLEET_FLAG_MARKER | RINGFLEET_FLAG_CONTROL) << RINGFLEET_FLAGS_SHIFT;
            send_control(p, s, me, ring, marker);
        }
    if (t == 0) s.later_count = 0;
    // The host may build on the new state of this worker once it reads this.
    if (t == 0) {
        fence_system();
        store_system(&host_of(p)->tables_seen[me], version);
    }
    __syncthreads();
}
