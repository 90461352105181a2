// Words that every file here uses. Compiles as CUDA C++ (NVRTC, nvcc) and as plain C++17 (the host test of ring and clock).
#pragma once
#include "ringfleet_abi.h"

typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef ringfleet_envelope Envelope;
typedef ringfleet_worker_counters WorkerCounters;

#if defined(__CUDACC__)
#define RF_FN __device__ __forceinline__
#define RF_SLOW __device__ __noinline__
#else
#define RF_FN inline
#define RF_SLOW inline
#endif

static_assert(sizeof(Envelope) == 64, "an envelope is a ring slot");

RF_FN u32 flags_of(const Envelope &e) { return e.bits >> RINGFLEET_FLAGS_SHIFT; }
RF_FN u32 len_of(const Envelope &e) { return e.bits & RINGFLEET_LEN_MASK; }
