/* The contract of host and device. Generated from kernels/abi/src; do not edit.
 * Update: RINGFLEET_UPDATE_HEADER=1 cargo test -p ringfleet-abi --test header
 */
#ifndef RINGFLEET_ABI_H
#define RINGFLEET_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define RINGFLEET_ALIGN(bytes) alignas(bytes)
#define RINGFLEET_ALIGN_OF(type) alignof(type)
#define RINGFLEET_ASSERT(condition, text) static_assert(condition, text)
#else
#define RINGFLEET_ALIGN(bytes) _Alignas(bytes)
#define RINGFLEET_ALIGN_OF(type) _Alignof(type)
#define RINGFLEET_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/* Changes with any size, offset, constant or code below. */
#define RINGFLEET_LAYOUT_HASH 0x8faef653e786736dull

#define RINGFLEET_ENVELOPE_BYTES 64u
#define RINGFLEET_PAYLOAD_BYTES_MAX 32u
#define RINGFLEET_STATE_BYTES_MAX 4096u
#define RINGFLEET_STATE_ALIGN 16u
#define RINGFLEET_MAX_SENDS_DEFAULT 8u
#define RINGFLEET_MAX_SENDS_LIMIT 64u
#define RINGFLEET_SHARDS_DEFAULT 256u
#define RINGFLEET_SHARDS_MAX 4096u
#define RINGFLEET_SETS_MAX 65534u
#define RINGFLEET_WORKERS_MAX 512u
#define RINGFLEET_RING_SLOTS_MIN 8u
#define RINGFLEET_RING_SLOTS_MAX 1048576u
#define RINGFLEET_HLC_AHEAD_MS_MAX 250u
#define RINGFLEET_LEASE_GRACE_MS 250u
#define RINGFLEET_OVERLOAD_AFTER_MS 100u
#define RINGFLEET_TIMER_DELAY_MS_MAX 2147483648u
#define RINGFLEET_RESTARTS_MAX 65535u
#define RINGFLEET_RESTARTS_UNLIMITED 4294967295u
#define RINGFLEET_LINE_BYTES 128u
#define RINGFLEET_LEN_MASK 63u
#define RINGFLEET_SLOTS_SHIFT 6u
#define RINGFLEET_SLOTS_MASK 15u
#define RINGFLEET_FLAGS_SHIFT 10u
#define RINGFLEET_FLAG_ASK 1u
#define RINGFLEET_FLAG_REPLY 2u
#define RINGFLEET_FLAG_MARKER 4u
#define RINGFLEET_FLAG_CONTROL 8u
#define RINGFLEET_FLAG_TRACE 16u
#define RINGFLEET_FLAG_SPARE 32u
#define RINGFLEET_KIND_CHILD_FAILED 0u
#define RINGFLEET_SET_NONE 0u
#define RINGFLEET_SET_CLIENT 65535u
#define RINGFLEET_HLC_COUNTER_BITS 16u
#define RINGFLEET_MIX64_FIRST 18397679294719823053ull
#define RINGFLEET_MIX64_SECOND 14181476777654086739ull
#define RINGFLEET_MIX64_SHIFT 33u
#define RINGFLEET_TYPE_NONE 65535u
#define RINGFLEET_TARGET_EGRESS 65535u
#define RINGFLEET_TARGET_NONE 65534u
#define RINGFLEET_BATCH_BUCKETS 16u

/* DeadReason */
#define RINGFLEET_DEAD_NO_SUCH_SET 0u
#define RINGFLEET_DEAD_NO_SUCH_KEY 1u
#define RINGFLEET_DEAD_BAD_MESSAGE 2u
#define RINGFLEET_DEAD_ACTOR_FAILED 3u
#define RINGFLEET_DEAD_HANDLER_FAILED 4u
#define RINGFLEET_DEAD_SHARD_FULL 5u
#define RINGFLEET_DEAD_OVERLOADED 6u
#define RINGFLEET_DEAD_NOT_RESIDENT 7u
#define RINGFLEET_DEAD_CLIENT_GONE 8u
#define RINGFLEET_DEAD_STAMP_AHEAD 9u
#define RINGFLEET_DEAD_NO_REPLY_TO 10u
#define RINGFLEET_DEAD_ACTOR_GONE 11u
#define RINGFLEET_DEAD_COUNT 12u

/* LostReason */
#define RINGFLEET_LOST_NODE_LOST 0u
#define RINGFLEET_LOST_SESSION_EXPIRED 1u
#define RINGFLEET_LOST_SHARD_RESTARTED 2u
#define RINGFLEET_LOST_SET_DELETED 3u
#define RINGFLEET_LOST_SENDER_FENCED 4u
#define RINGFLEET_LOST_UNDELIVERABLE 5u
#define RINGFLEET_LOST_COUNT 6u

/* Verdict */
#define RINGFLEET_VERDICT_BUSY 0u
#define RINGFLEET_VERDICT_SHARD_FULL 1u
#define RINGFLEET_VERDICT_BAD_MESSAGE 2u
#define RINGFLEET_VERDICT_ACTOR_FAILED 3u
#define RINGFLEET_VERDICT_HANDLER_FAILED 4u
#define RINGFLEET_VERDICT_NOT_RESIDENT 5u
#define RINGFLEET_VERDICT_NO_REPLY 6u
#define RINGFLEET_VERDICT_COUNT 7u

/* ControlOp */
#define RINGFLEET_CONTROL_ADD_SET 1u
#define RINGFLEET_CONTROL_REMOVE_SET 2u
#define RINGFLEET_CONTROL_ASSIGN 3u
#define RINGFLEET_CONTROL_RELEASE 4u
#define RINGFLEET_CONTROL_ROUTE 5u
#define RINGFLEET_CONTROL_ROUTE_COMMIT 6u
#define RINGFLEET_CONTROL_LEASE 7u
#define RINGFLEET_CONTROL_PAUSE 8u
#define RINGFLEET_CONTROL_RESUME 9u
#define RINGFLEET_CONTROL_STOP 10u
#define RINGFLEET_CONTROL_COUNT 10u

/* StatusOp */
#define RINGFLEET_STATUS_STARTED 1u
#define RINGFLEET_STATUS_ASSIGNED 2u
#define RINGFLEET_STATUS_ASSIGN_FAILED 3u
#define RINGFLEET_STATUS_RELEASED 4u
#define RINGFLEET_STATUS_ROUTE_FLUSHED 5u
#define RINGFLEET_STATUS_ACTOR_FAILED 6u
#define RINGFLEET_STATUS_FENCED 7u
#define RINGFLEET_STATUS_UNFENCED 8u
#define RINGFLEET_STATUS_STOPPED 9u
#define RINGFLEET_STATUS_WORKER_LOST 10u
#define RINGFLEET_STATUS_WORKER_STALLED 11u
#define RINGFLEET_STATUS_WORKER_RESUMED 12u
#define RINGFLEET_STATUS_COUNT 12u

/* ShardId */
typedef struct ringfleet_shard_id {
    RINGFLEET_ALIGN(2) uint16_t set;
    uint16_t index;
} ringfleet_shard_id;
RINGFLEET_ASSERT(sizeof(ringfleet_shard_id) == 4, "size of ringfleet_shard_id");
RINGFLEET_ASSERT(RINGFLEET_ALIGN_OF(ringfleet_shard_id) == 2, "alignment of ringfleet_shard_id");
RINGFLEET_ASSERT(offsetof(ringfleet_shard_id, set) == 0, "offset of ringfleet_shard_id.set");
RINGFLEET_ASSERT(offsetof(ringfleet_shard_id, index) == 2, "offset of ringfleet_shard_id.index");

/* Envelope */
typedef struct ringfleet_envelope {
    RINGFLEET_ALIGN(64) uint64_t to_key;
    uint64_t from_key;
    uint64_t hlc;
    uint16_t to_set;
    uint16_t from_set;
    uint16_t kind;
    uint16_t bits;
    uint8_t payload[32];
} ringfleet_envelope;
RINGFLEET_ASSERT(sizeof(ringfleet_envelope) == 64, "size of ringfleet_envelope");
RINGFLEET_ASSERT(RINGFLEET_ALIGN_OF(ringfleet_envelope) == 64, "alignment of ringfleet_envelope");
RINGFLEET_ASSERT(offsetof(ringfleet_envelope, to_key) == 0, "offset of ringfleet_envelope.to_key");
RINGFLEET_ASSERT(offsetof(ringfleet_envelope, from_key) == 8, "offset of ringfleet_envelope.from_key");
RINGFLEET_ASSERT(offsetof(ringfleet_envelope, hlc) == 16, "offset of ringfleet_envelope.hlc");
RINGFLEET_ASSERT(offsetof(ringfleet_envelope, to_set) == 24, "offset of ringfleet_envelope.to_set");
RINGFLEET_ASSERT(offsetof(ringfleet_envelope, from_set) == 26, "offset of ringfleet_envelope.from_set");
RINGFLEET_ASSERT(offsetof(ringfleet_envelope, kind) == 28, "offset of ringfleet_envelope.kind");
RINGFLEET_ASSERT(offsetof(ringfleet_envelope, bits) == 30, "offset of ringfleet_envelope.bits");
RINGFLEET_ASSERT(offsetof(ringfleet_envelope, payload) == 32, "offset of ringfleet_envelope.payload");

/* VerdictBody */
typedef struct ringfleet_verdict_body {
    RINGFLEET_ALIGN(8) uint64_t position;
    uint32_t fault;
    uint16_t worker;
    uint16_t kind;
} ringfleet_verdict_body;
RINGFLEET_ASSERT(sizeof(ringfleet_verdict_body) == 16, "size of ringfleet_verdict_body");
RINGFLEET_ASSERT(RINGFLEET_ALIGN_OF(ringfleet_verdict_body) == 8, "alignment of ringfleet_verdict_body");
RINGFLEET_ASSERT(offsetof(ringfleet_verdict_body, position) == 0, "offset of ringfleet_verdict_body.position");
RINGFLEET_ASSERT(offsetof(ringfleet_verdict_body, fault) == 8, "offset of ringfleet_verdict_body.fault");
RINGFLEET_ASSERT(offsetof(ringfleet_verdict_body, worker) == 12, "offset of ringfleet_verdict_body.worker");
RINGFLEET_ASSERT(offsetof(ringfleet_verdict_body, kind) == 14, "offset of ringfleet_verdict_body.kind");

/* Position */
typedef struct ringfleet_position {
    RINGFLEET_ALIGN(128) uint32_t word;
} ringfleet_position;
RINGFLEET_ASSERT(sizeof(ringfleet_position) == 128, "size of ringfleet_position");
RINGFLEET_ASSERT(RINGFLEET_ALIGN_OF(ringfleet_position) == 128, "alignment of ringfleet_position");
RINGFLEET_ASSERT(offsetof(ringfleet_position, word) == 0, "offset of ringfleet_position.word");

/* RingHeader */
typedef struct ringfleet_ring_header {
    RINGFLEET_ALIGN(128) ringfleet_position tail;
    ringfleet_position head;
} ringfleet_ring_header;
RINGFLEET_ASSERT(sizeof(ringfleet_ring_header) == 256, "size of ringfleet_ring_header");
RINGFLEET_ASSERT(RINGFLEET_ALIGN_OF(ringfleet_ring_header) == 128, "alignment of ringfleet_ring_header");
RINGFLEET_ASSERT(offsetof(ringfleet_ring_header, tail) == 0, "offset of ringfleet_ring_header.tail");
RINGFLEET_ASSERT(offsetof(ringfleet_ring_header, head) == 128, "offset of ringfleet_ring_header.head");

/* ControlWord */
typedef struct ringfleet_control_word {
    RINGFLEET_ALIGN(64) uint16_t op;
    uint16_t set;
    uint16_t small[2];
    uint64_t words[7];
} ringfleet_control_word;
RINGFLEET_ASSERT(sizeof(ringfleet_control_word) == 64, "size of ringfleet_control_word");
RINGFLEET_ASSERT(RINGFLEET_ALIGN_OF(ringfleet_control_word) == 64, "alignment of ringfleet_control_word");
RINGFLEET_ASSERT(offsetof(ringfleet_control_word, op) == 0, "offset of ringfleet_control_word.op");
RINGFLEET_ASSERT(offsetof(ringfleet_control_word, set) == 2, "offset of ringfleet_control_word.set");
RINGFLEET_ASSERT(offsetof(ringfleet_control_word, small) == 4, "offset of ringfleet_control_word.small");
RINGFLEET_ASSERT(offsetof(ringfleet_control_word, words) == 8, "offset of ringfleet_control_word.words");

/* StatusWord */
typedef struct ringfleet_status_word {
    RINGFLEET_ALIGN(64) uint16_t op;
    uint16_t set;
    uint16_t small[2];
    uint64_t words[7];
} ringfleet_status_word;
RINGFLEET_ASSERT(sizeof(ringfleet_status_word) == 64, "size of ringfleet_status_word");
RINGFLEET_ASSERT(RINGFLEET_ALIGN_OF(ringfleet_status_word) == 64, "alignment of ringfleet_status_word");
RINGFLEET_ASSERT(offsetof(ringfleet_status_word, op) == 0, "offset of ringfleet_status_word.op");
RINGFLEET_ASSERT(offsetof(ringfleet_status_word, set) == 2, "offset of ringfleet_status_word.set");
RINGFLEET_ASSERT(offsetof(ringfleet_status_word, small) == 4, "offset of ringfleet_status_word.small");
RINGFLEET_ASSERT(offsetof(ringfleet_status_word, words) == 8, "offset of ringfleet_status_word.words");

/* WorkerCounters */
typedef struct ringfleet_worker_counters {
    RINGFLEET_ALIGN(8) uint64_t ingress_done;
    uint64_t ingress_in;
    uint64_t egress_out;
    uint64_t sent;
    uint64_t handled;
    uint64_t dead[12];
    uint64_t refused;
    uint64_t spilled;
    uint64_t spill_now;
    uint64_t timers_now;
    uint64_t ring_out;
    uint64_t ring_in;
    uint64_t actors_now;
    uint64_t activations;
    uint64_t failures;
    uint64_t restarts;
    uint64_t escalations;
    uint64_t overload_rounds;
    uint64_t batches;
    uint64_t busy_ns;
    uint64_t stamps_ahead;
    uint64_t batch_sizes[16];
} ringfleet_worker_counters;
RINGFLEET_ASSERT(sizeof(ringfleet_worker_counters) == 384, "size of ringfleet_worker_counters");
RINGFLEET_ASSERT(RINGFLEET_ALIGN_OF(ringfleet_worker_counters) == 8, "alignment of ringfleet_worker_counters");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, ingress_done) == 0, "offset of ringfleet_worker_counters.ingress_done");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, ingress_in) == 8, "offset of ringfleet_worker_counters.ingress_in");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, egress_out) == 16, "offset of ringfleet_worker_counters.egress_out");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, sent) == 24, "offset of ringfleet_worker_counters.sent");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, handled) == 32, "offset of ringfleet_worker_counters.handled");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, dead) == 40, "offset of ringfleet_worker_counters.dead");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, refused) == 136, "offset of ringfleet_worker_counters.refused");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, spilled) == 144, "offset of ringfleet_worker_counters.spilled");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, spill_now) == 152, "offset of ringfleet_worker_counters.spill_now");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, timers_now) == 160, "offset of ringfleet_worker_counters.timers_now");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, ring_out) == 168, "offset of ringfleet_worker_counters.ring_out");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, ring_in) == 176, "offset of ringfleet_worker_counters.ring_in");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, actors_now) == 184, "offset of ringfleet_worker_counters.actors_now");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, activations) == 192, "offset of ringfleet_worker_counters.activations");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, failures) == 200, "offset of ringfleet_worker_counters.failures");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, restarts) == 208, "offset of ringfleet_worker_counters.restarts");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, escalations) == 216, "offset of ringfleet_worker_counters.escalations");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, overload_rounds) == 224, "offset of ringfleet_worker_counters.overload_rounds");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, batches) == 232, "offset of ringfleet_worker_counters.batches");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, busy_ns) == 240, "offset of ringfleet_worker_counters.busy_ns");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, stamps_ahead) == 248, "offset of ringfleet_worker_counters.stamps_ahead");
RINGFLEET_ASSERT(offsetof(ringfleet_worker_counters, batch_sizes) == 256, "offset of ringfleet_worker_counters.batch_sizes");

#endif
