// Geometry, fixed when the device code is compiled for a device. Every RF_ name is an option of that compilation
// (kernels/src/geometry.rs).
#pragma once
#include "memory.cuh"
#include "rf_layout.cuh"

static constexpr u32 WORKERS = RF_WORKERS;             // worker blocks of a device; block WORKERS is the router
static constexpr u32 DEVICES = RF_DEVICES;             // of this node, each with as many workers
static constexpr u32 PEERS = DEVICES * WORKERS;        // all workers; worker w of device d is peer d * WORKERS + w
static constexpr u32 THREADS = RF_THREADS;             // threads of a block
static constexpr u32 WARPS = THREADS / 32;
static constexpr u32 BATCH = RF_BATCH;                 // messages of one round, at most
static constexpr u32 BUCKETS = RF_BUCKETS;             // of the grouping table, a power of two
static constexpr u32 RING_SLOTS = RF_RING_SLOTS;       // worker to worker
static constexpr u32 INGRESS_SLOTS = RF_INGRESS_SLOTS; // router to worker
static constexpr u32 EGRESS_SLOTS = RF_EGRESS_SLOTS;   // worker to host
static constexpr u32 SPILL_SLOTS = RF_SPILL_SLOTS;     // of a worker
static constexpr u32 SPILL_PAGE = RF_SPILL_PAGE;       // positions of a page of the spill
static constexpr u32 SPILL_PAGES = RF_SPILL_PAGES;     // of a worker
static constexpr u32 SPILL_TABLE = RF_SPILL_TABLE;     // pages that one ring may span
static constexpr u32 TIMER_SLOTS = RF_TIMER_SLOTS;     // timers pending in a worker
static constexpr u32 MAX_SENDS = RF_MAX_SENDS;         // of any type in this build

static constexpr u32 INBOUND = PEERS + 1;  // rings into a worker: of every worker (itself too), of the router
static constexpr u32 OUTBOUND = PEERS + 1; // rings out of a worker: to every worker, to the host
static constexpr u32 INGRESS = PEERS;      // index of the router's ring among the inbound
static constexpr u32 EGRESS = PEERS;       // index of the host's ring among the outbound
static constexpr u32 ROW = (PEERS + 1 + 31) / 32 * 32; // words of a row of positions: whole lines
static constexpr u32 BELL_WORDS = 32;                  // a line
static constexpr u32 TAILS_ROW = ROW + BELL_WORDS;     // tails into a worker, and its bell
static_assert(INBOUND == OUTBOUND, "one thread looks after an inbound and an outbound ring");

static constexpr u32 RECORD_UNIT = 32; // bytes; records are counted in units, so that 32 bits reach 128 GiB

static_assert(THREADS % 32 == 0 && THREADS >= 96 && THREADS <= 1024, "whole warps, and the router needs three");
static_assert((BUCKETS & (BUCKETS - 1)) == 0, "buckets are the lower bits of a hash");
static_assert(BATCH <= 16384, "batch indices are 16 bits with a sentinel");
static_assert((RING_SLOTS & (RING_SLOTS - 1)) == 0 && (INGRESS_SLOTS & (INGRESS_SLOTS - 1)) == 0 &&
                  (EGRESS_SLOTS & (EGRESS_SLOTS - 1)) == 0,
              "rings have a power of two of slots");
static_assert(WORKERS <= RINGFLEET_WORKERS_MAX, "C9: workers");
static_assert(DEVICES <= RF_DEVICES_MAX && PEERS < 1023, "C9: a ring's number has ten bits");
static_assert(SPILL_SLOTS >= MAX_SENDS + 1 + PEERS && SPILL_SLOTS <= (1u << 20), "C9: one input can always be taken");
static_assert(TIMER_SLOTS >= 1 && TIMER_SLOTS <= (1u << 20), "C9: timers");

static_assert((SPILL_PAGE & (SPILL_PAGE - 1)) == 0 && (SPILL_TABLE & (SPILL_TABLE - 1)) == 0 && SPILL_TABLE >= 8 &&
                  SPILL_TABLE >= SPILL_SLOTS / SPILL_PAGE + 2,
              "C9: all that waits may wait for one ring");
static_assert(SPILL_PAGES >= SPILL_SLOTS / SPILL_PAGE + 2 * OUTBOUND && SPILL_PAGES < 0xffff, "C9: the last pages of each ring");

RF_FN u32 inbound_slots(u32 ring) { return ring == INGRESS ? INGRESS_SLOTS : RING_SLOTS; }
RF_FN u32 outbound_slots(u32 ring) { return ring == EGRESS ? EGRESS_SLOTS : RING_SLOTS; }
