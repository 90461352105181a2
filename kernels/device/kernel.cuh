// The persistent kernel: workers, and one router block.
#pragma once
#include "router.cuh"
#include "worker.cuh"
#include "rf_types.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 1) ringfleet_device(const __grid_constant__ Params p) {
    extern __shared__ __align__(128) unsigned char block_memory[];
    // The host refuses a kernel that was built from another contract before it sends anything.
    if (blockIdx.x == WORKERS) {
        run_router(p, *reinterpret_cast<RouterShared *>(block_memory));
    } else {
        run_worker(p, *reinterpret_cast<Shared *>(block_memory), blockIdx.x);
    }
}

extern "C" __device__ u64 ringfleet_layout_hash = RINGFLEET_LAYOUT_HASH;
extern "C" __device__ u32 ringfleet_shared_bytes = sizeof(Shared) > sizeof(RouterShared) ? sizeof(Shared) : sizeof(RouterShared);
