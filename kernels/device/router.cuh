// The router: the one block that reads host memory. A PCIe read costs 1.1 us and the whole GPU gets about 33 M of them a
// second, so workers never do. It carries ingress from the host's ring to the workers' rings, and relays the host's words
// (stop, lease, wall clock, version of the tables, heads of the egress rings) to device memory, where workers read them
// every round.
//
// The host has chosen worker and position of each envelope: `dest` beside the slot is worker << 20 | slot of its ingress
// ring, and it never has more outstanding at a worker than that ring has slots. So the router needs no credit and keeps any
// order the host made.
#pragma once
#include "rounds.cuh"

struct RouterShared {
    u32 tail[WORKERS]; // of each worker's ingress ring
    u32 added[WORKERS];
    u32 egress_head[WORKERS];
    u32 ingress_tail, stop;
};

static constexpr u32 EGRESS_LOOK = 4; // rounds between two looks at the heads of the egress rings
static constexpr u32 CLOCK_LOOK = 64; // rounds between two words of device time to the host

RF_FN uint4 load_host_16(const void *p) { return __ldcv(reinterpret_cast<const uint4 *>(p)); }

// The host's line of words; what changed is passed on. One warp, a lane per word, so that it is one read.
RF_FN void relay_words(const Params &p, RouterShared &s, u64 &last) {
    HostPage *host = host_of(p);
    DevicePage *page = device_of(p);
    u64 word = 0;
    if (threadIdx.x < 4) word = load_system(reinterpret_cast<const u64 *>(host) + threadIdx.x);
    if (threadIdx.x == 0) {
        s.ingress_tail = (u32)word;
        s.stop = (u32)(word >> 32);
    }
    if (word == last) return;
    // Acquire: pairs with the host's release stores of these words. Release: of the tables behind a version.
    fence_system();
    last = word;
    if (threadIdx.x == 1) store_relaxed(&page->lease_deadline_ns, word);
    if (threadIdx.x == 2) store_relaxed(&page->wall_offset_ns, word);
    if (threadIdx.x == 3) store_relaxed(&page->tables_version, (u32)word);
}

RF_FN void run_router(const Params &p, RouterShared &s) {
    HostPage *host = host_of(p);
    static_assert(offsetof(HostPage, stop) == 4 && offsetof(HostPage, lease_deadline_ns) == 8 &&
                      offsetof(HostPage, wall_offset_ns) == 16 && offsetof(HostPage, tables_version) == 24,
                  "relay_words reads these four words");
    const u32 t = threadIdx.x;
    for (u32 w = t; w < WORKERS; w += THREADS) {
        s.tail[w] = load_relaxed(&tails_row(p, w)[INGRESS]);
        s.added[w] = 0;
        s.egress_head[w] = load_relaxed(&heads_row(p, w)[EGRESS]);
    }
    __syncthreads();
    u32 head = load_system(&host->ingress_head);
    u64 last = 0;
    for (u32 round = 0; p.rounds_max == 0 || round < p.rounds_max; round++) {
        if (t < 32) {
            relay_words(p, s, last);
        } else if (round % EGRESS_LOOK == 0) {
            for (u32 w = t - 32; w < WORKERS; w += THREADS - 32) {
                const u32 egress_head = load_system(&host->egress_head[w]);
                if (egress_head != s.egress_head[w]) {
                    s.egress_head[w] = egress_head;
                    store_relaxed(&heads_row(p, w)[EGRESS], egress_head);
                }
            }
        }
        if (t == THREADS - 1 && round % CLOCK_LOOK == 0) store_system(&host->device_ns, timer_ns());
        __syncthreads();
        if (s.stop != 0) break;
        const u32 ready = min(s.ingress_tail - head, THREADS);
        if (ready == 0) {
            // Lane 0 writes the tail again in the next round.
            __syncthreads();
            continue;
        }
        if (t < ready) {
            const u32 at = (head + t) & (p.host_ingress_slots - 1);
            const u32 dest = __ldcv(reinterpret_cast<const u32 *>(p.host_dest) + at);
            const uint4 *from = reinterpret_cast<const uint4 *>(p.host_ingress) + (u64)at * 4;
            const uint4 a = load_host_16(from), b = load_host_16(from + 1), c = load_host_16(from + 2), d = load_host_16(from + 3);
            const u32 worker = dest >> SLOT_BITS, slot = dest & (INGRESS_SLOTS - 1);
            if (worker < WORKERS) {
                uint4 *to = reinterpret_cast<uint4 *>(p.ingress) + ((u64)worker * INGRESS_SLOTS + slot) * 4;
                to[0] = a;
                to[1] = b;
                to[2] = c;
                to[3] = d;
                atomicAdd(&s.added[worker], 1);
            }
        }
        __syncthreads();
        head += ready;
        for (u32 w = t; w < WORKERS; w += THREADS)
            if (s.added[w] != 0) {
                s.tail[w] += s.added[w];
                s.added[w] = 0;
                // Release: pairs with the workers' fence in exchange_positions; publishes the slots written above.
                fence_gpu();
                store_relaxed(&tails_row(p, w)[INGRESS], s.tail[w]);
            }
        // The barrier above ended all reads of these slots.
        if (t == 0) store_system(&host->ingress_head, head);
    }
    if (t == 0) store_relaxed(&device_of(p)->stop, 1);
}
