// Words that every file here uses. Compiles as CUDA C++ (NVRTC, nvcc) and as plain C++17 (the host tests).
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
// The upper half of a product.
RF_FN u64 mul_high(u64 a, u64 b) { return __umul64hi(a, b); }
RF_FN u32 mul_high32(u32 a, u32 b) { return __umulhi(a, b); }
#else
#define RF_FN inline
#define RF_SLOW inline
RF_FN u64 mul_high(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
RF_FN u32 mul_high32(u32 a, u32 b) { return (u32)((u64)a * b >> 32); }
#endif

static_assert(sizeof(Envelope) == 64, "an envelope is a ring slot");

RF_FN u32 flags_of(const Envelope &e) { return e.bits >> RINGFLEET_FLAGS_SHIFT; }
RF_FN u32 len_of(const Envelope &e) { return e.bits & RINGFLEET_LEN_MASK; }
