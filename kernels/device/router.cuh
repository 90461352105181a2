// The router: the one block that reads host memory. A PCIe read costs 1.1 us and the whole GPU gets about 33 M of them a
// second, so workers never do. It carries ingress from the host's ring to the workers' rings, and relays the host's words
// (stop, lease, wall clock, version of the tables, heads of the egress rings) to device memory, where workers read them
// every round.
//
// The host has chosen worker and position of each envelope: `dest` beside the slot is worker << 20 | slot of its ingress
// ring, and it never has more outstanding at a worker than that ring has slots. So the router needs no credit and keeps any
// order the host made.
//
// Three jobs, no barrier of the whole block between them:
//   warp 0   reads the host's line of words. A single envelope it finds there whole (bell.cuh), and forwards it at once.
//   warp 1   relays the heads of the egress rings, and tells the host device time.
//   others   carry what is more than one, when warp 0 tells them; it reads the line again meanwhile.
#pragma once
#include "bell.cuh"
#include "rounds.cuh"

struct RouterShared {
    u32 tail[WORKERS]; // of each worker's ingress ring
    u32 added[WORKERS];
    u32 egress_head[WORKERS];
    u32 from, count; // what the carriers carry
    u32 stop;        // read behind a barrier only
};

static constexpr u32 CARRIERS = THREADS - 64;
static constexpr u32 CARRY_LOADS = 8; // that a carrier has under way, 16 bytes each
static constexpr u32 CARRY = CARRIERS * CARRY_LOADS / 4; // envelopes at once
static constexpr u32 RELAY_PAUSE_NS = 200;
static constexpr u32 BAR_CARRY = 1, BAR_CARRIERS = 2;

RF_FN void bar_sync(u32 barrier, u32 threads) {
    __syncwarp(); // it is for whole warps
    asm volatile("bar.sync %0,%1;" ::"r"(barrier), "r"(threads) : "memory");
}
RF_FN uint4 load_host_16(const void *p) { return __ldcv(reinterpret_cast<const uint4 *>(p)); }
RF_FN uint4 *ingress_slot(const Params &p, u32 worker, u32 slot) {
    return reinterpret_cast<uint4 *>(p.ingress) + ((u64)worker * INGRESS_SLOTS + slot) * 4;
}

// Whether the line, of which each of the first eight lanes has 16 bytes, holds the envelope of position `at` whole.
RF_FN bool bell_is_whole(const uint4 &line, u32 at) {
    const u32 lane = threadIdx.x;
    const u64 low = pack64(line.x, line.y), high = pack64(line.z, line.w);
    u64 sum = 0;
    if (lane == 2) sum = BELL_SALT + bell_part(low, 0);
    if (lane >= 4 && lane < 8) sum = bell_part(low, lane * 2 - 7) + bell_part(high, lane * 2 - 6);
#pragma unroll
    for (u32 step = 4; step != 0; step >>= 1) sum += __shfl_xor_sync(~0u, sum, step);
    const bool whole = line.x == at && sum == high;
    return __shfl_sync(~0u, whole, 2);
}

// What warp 0 knows.
struct Watch {
    u32 head = 0;                        // taken of the host's ring
    uint4 last = make_uint4(0, 0, 0, 0); // the line, as it was relayed last
    bool carrying = false;               // the carriers have a part of the ring
    bool owed = false;                   // the host is to be told `head`
    bool torn = false;                   // the last read held parts of different ages
};

RF_FN uint4 read_line(const Params &p) {
    const u32 lane = threadIdx.x;
    return lane < 8 ? load_host_16(reinterpret_cast<const char *>(p.host_page) + lane * 16) : make_uint4(0, 0, 0, 0);
}

// Warp 0: does what a read of the line says. False: the end.
RF_FN bool follow(const Params &p, RouterShared &s, Watch &w, const uint4 &line) {
    HostPage *host = host_of(p);
    DevicePage *page = device_of(p);
    const u32 lane = threadIdx.x;
    const u32 tail = __shfl_sync(~0u, line.x, 0);
    // Bounded mode, and a kernel that makes room for another (CudaEngine::replace_code), end by their workers.
    const bool ended = __any_sync(~0u, load_relaxed(&page->ended) >= WORKERS);
    if (w.carrying) {
        bar_sync(BAR_CARRY, CARRIERS + 32);
        w.head += s.count;
        w.carrying = false;
        w.owed = true;
    }
    const bool changed = lane == 0 ? line.y != w.last.y || line.z != w.last.z || line.w != w.last.w
                                   : lane == 1 && (line.x != w.last.x || line.y != w.last.y || line.z != w.last.z);
    if (__any_sync(~0u, changed) || ended) {
        w.last = line;
        if (__shfl_sync(~0u, line.y, 0) != 0 || ended) return false;
        // Acquire: pairs with the host's release stores of these words. Release: of the tables behind a version.
        fence_system();
        if (lane == 0) store_relaxed(&page->lease_deadline_ns, pack64(line.z, line.w));
        if (lane == 1) store_relaxed(&page->wall_offset_ns, pack64(line.x, line.y));
        if (lane == 1) store_relaxed(&page->tables_version, line.z);
    }
    const u32 waiting = tail - w.head;
    const bool whole = waiting == 1 && bell_is_whole(line, w.head);
    // Parts of different ages: the next read is whole, and sooner there than the carriers.
    if (waiting == 1 && !whole && !w.torn) {
        w.torn = true;
        return true;
    }
    w.torn = false;
    if (whole) {
        const u32 dest = __shfl_sync(~0u, line.y, 2), worker = dest >> SLOT_BITS;
        if (worker < WORKERS && lane >= 4 && lane < 8) ingress_slot(p, worker, dest & (INGRESS_SLOTS - 1))[lane - 4] = line;
        uint4 chunk;
        chunk.x = __shfl_down_sync(~0u, line.x, 4);
        chunk.y = __shfl_down_sync(~0u, line.y, 4);
        chunk.z = __shfl_down_sync(~0u, line.z, 4);
        chunk.w = __shfl_down_sync(~0u, line.w, 4);
        const u64 check = pack64(__shfl_sync(~0u, line.z, 2), __shfl_sync(~0u, line.w, 2));
        if (worker < WORKERS)
            pass_bell(bell_at(p, own_peer(p, worker)), chunk, check, pack64(w.head, dest), INGRESS, s.tail[worker]);
        __syncwarp();
        w.head++;
        w.owed = true;
        if (lane == 0 && worker < WORKERS) {
            // Release: pairs with the worker's acquire of the tail.
            fence_gpu();
            store_relaxed(&tails_of(p, worker)[INGRESS], ++s.tail[worker]);
        }
        __syncwarp();
    } else if (waiting != 0) {
        // Acquire: pairs with the host's release of the tail; the slots below it may be read.
        fence_system();
        if (lane == 0) {
            s.from = w.head;
            s.count = min(waiting, CARRY);
        }
        bar_sync(BAR_CARRY, CARRIERS + 32);
        w.carrying = true;
    }
    // The reads of the slots before `head` are over. Told after the fence above, which would have waited for it.
    if (w.owed && lane == 0) store_system(&host->ingress_head, w.head);
    w.owed = false;
    return true;
}

// Warp 0. One read at a time: each takes the line from the host's cache, and more of them cost the host, which writes there, more than they
// bring (measured: an ask takes 1.3 us longer with two under way).
RF_FN void watch_host(const Params &p, RouterShared &s) {
    static_assert(offsetof(HostPage, ingress_tail) == 0 && offsetof(HostPage, stop) == 4 &&
                      offsetof(HostPage, lease_deadline_ns) == 8 && offsetof(HostPage, wall_offset_ns) == 16 &&
                      offsetof(HostPage, tables_version) == 24 && offsetof(HostPage, bell_position) == 32 &&
                      offsetof(HostPage, bell_dest) == 36 && offsetof(HostPage, bell_check) == 40 &&
                      offsetof(HostPage, bell) == 64,
                  "the host's line: 16 bytes a lane");
    Watch w;
    w.head = load_system(&host_of(p)->ingress_head);
    while (follow(p, s, w, read_line(p))) {}
    // The workers have what was carried last: the kernel after this one begins behind it (C3).
    if (w.owed && threadIdx.x == 0) store_system(&host_of(p)->ingress_head, w.head);
    if (threadIdx.x == 0) {
        store_relaxed(&device_of(p)->stop, 1);
        s.stop = 1;
    }
    bar_sync(BAR_CARRY, CARRIERS + 32);
}

// Warp 1.
RF_FN void relay_heads(const Params &p, RouterShared &s) {
    HostPage *host = host_of(p);
    const u32 lane = threadIdx.x & 31;
    while (load_relaxed(&device_of(p)->stop) == 0) {
        if (lane == 0) store_system(&host->device_ns, timer_ns());
        for (u32 w = lane; w < WORKERS; w += 32) {
            const u32 head = load_system(&host->egress_head[w]);
            if (head == s.egress_head[w]) continue;
            s.egress_head[w] = head;
            // The host's reads of the slots before this head are over, also for the worker that reads it here.
            fence_system();
            store_relaxed(&heads_of(p, w)[EGRESS], head);
        }
        pause_ns(RELAY_PAUSE_NS);
    }
}

// The other warps: neighbouring lanes read neighbouring 16 bytes, so that a read of host memory brings whole lines.
RF_FN void carry(const Params &p, RouterShared &s) {
    const u32 t = threadIdx.x - 64;
    while (true) {
        bar_sync(BAR_CARRY, CARRIERS + 32);
        if (s.stop != 0) break;
        const u32 from = s.from, chunks = s.count * 4;
        uint4 word[CARRY_LOADS];
        u32 dest[CARRY_LOADS];
#pragma unroll
        for (u32 k = 0; k < CARRY_LOADS; k++) {
            const u32 c = k * CARRIERS + t, at = (from + (c >> 2)) & (p.host_ingress_slots - 1);
            if (c >= chunks) continue;
            // Past L1. Volatile loads ask for 32 bytes at a time, these for whole lines.
            dest[k] = __ldcg(reinterpret_cast<const u32 *>(p.host_dest) + at);
            word[k] = __ldcg(reinterpret_cast<const uint4 *>(p.host_ingress) + (u64)at * 4 + (c & 3));
        }
#pragma unroll
        for (u32 k = 0; k < CARRY_LOADS; k++) {
            const u32 c = k * CARRIERS + t, worker = dest[k] >> SLOT_BITS;
            if (c >= chunks || worker >= WORKERS) continue;
            ingress_slot(p, worker, dest[k] & (INGRESS_SLOTS - 1))[c & 3] = word[k];
            if ((c & 3) == 0) atomicAdd(&s.added[worker], 1);
        }
        bar_sync(BAR_CARRIERS, CARRIERS);
        for (u32 w = t; w < WORKERS; w += CARRIERS)
            if (s.added[w] != 0) {
                s.tail[w] += s.added[w];
                s.added[w] = 0;
                // Release: pairs with the workers' acquire of the tail; publishes the slots written above.
                fence_gpu();
                store_relaxed(&tails_of(p, w)[INGRESS], s.tail[w]);
            }
        bar_sync(BAR_CARRY, CARRIERS + 32);
    }
}

RF_FN void run_router(const Params &p, RouterShared &s) {
    for (u32 w = threadIdx.x; w < WORKERS; w += THREADS) {
        s.tail[w] = load_relaxed(&tails_of(p, w)[INGRESS]);
        s.added[w] = 0;
        s.egress_head[w] = load_relaxed(&heads_of(p, w)[EGRESS]);
    }
    if (threadIdx.x == 0) s.stop = 0;
    __syncthreads();
    if (threadIdx.x < 32) watch_host(p, s);
    else if (threadIdx.x < 64) relay_heads(p, s);
    else carry(p, s);
}
