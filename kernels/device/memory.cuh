// Loads, stores and fences with scope and order spelled out. Device only.
//
// One fence per round does double duty. The threads that publish execute it after a block barrier, so it is cumulative over
// everything the block wrote (release: pairs with the fence of the receiver's round); and they have loaded the other side's
// positions before it, so what those positions publish may be read after it (acquire: pairs with the sender's fence).
#pragma once
#include "base.cuh"

RF_FN u32 load_relaxed(const u32 *p) {
    u32 v;
    asm volatile("ld.relaxed.gpu.global.u32 %0,[%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
RF_FN u64 load_relaxed(const u64 *p) {
    u64 v;
    asm volatile("ld.relaxed.gpu.global.u64 %0,[%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
}
RF_FN void store_relaxed(u32 *p, u32 v) {
    asm volatile("st.relaxed.gpu.global.u32 [%0],%1;" ::"l"(p), "r"(v) : "memory");
}
RF_FN void store_relaxed(u64 *p, u64 v) {
    asm volatile("st.relaxed.gpu.global.u64 [%0],%1;" ::"l"(p), "l"(v) : "memory");
}
RF_FN u32 load_system(const u32 *p) {
    u32 v;
    asm volatile("ld.relaxed.sys.global.u32 %0,[%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
RF_FN u64 load_system(const u64 *p) {
    u64 v;
    asm volatile("ld.relaxed.sys.global.u64 %0,[%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
}
RF_FN void store_system(u32 *p, u32 v) {
    asm volatile("st.relaxed.sys.global.u32 [%0],%1;" ::"l"(p), "r"(v) : "memory");
}
RF_FN void store_system(u64 *p, u64 v) {
    asm volatile("st.relaxed.sys.global.u64 [%0],%1;" ::"l"(p), "l"(v) : "memory");
}
RF_FN u32 load_acquire(const u32 *p) {
    u32 v;
    asm volatile("ld.acquire.gpu.global.u32 %0,[%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
RF_FN u32 load_acquire_system(const u32 *p) {
    u32 v;
    asm volatile("ld.acquire.sys.global.u32 %0,[%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
RF_FN void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
RF_FN void fence_system() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

// Positions of rings between workers: other GPUs write and read them too, where there are any.
#if RF_DEVICES > 1
RF_FN u32 load_peer(const u32 *p) { return load_system(p); }
RF_FN u32 load_peer_acquire(const u32 *p) { return load_acquire_system(p); }
RF_FN void store_peer(u32 *p, u32 v) { store_system(p, v); }
RF_FN void fence_peer() { fence_system(); }
#else
RF_FN u32 load_peer(const u32 *p) { return load_relaxed(p); }
RF_FN u32 load_peer_acquire(const u32 *p) { return load_acquire(p); }
RF_FN void store_peer(u32 *p, u32 v) { store_relaxed(p, v); }
RF_FN void fence_peer() { fence_gpu(); }
#endif

// 16 bytes that another party may write meanwhile: words of different ages are possible.
RF_FN uint4 load_peer_16(const void *p) {
    uint4 v;
#if RF_DEVICES > 1
    asm volatile("ld.relaxed.sys.global.v4.u32 {%0,%1,%2,%3},[%4];"
#else
    asm volatile("ld.relaxed.gpu.global.v4.u32 {%0,%1,%2,%3},[%4];"
#endif
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "l"(p)
                 : "memory");
    return v;
}
RF_FN void store_system_16(void *p, uint4 v) {
    asm volatile("st.relaxed.sys.global.v4.u32 [%0],{%1,%2,%3,%4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
}

// 16 bytes from global to shared memory without registers; past L1, so never stale.
RF_FN void copy_async_16(void *shared, const void *global) {
    u32 to = (u32)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0],[%1],16;" ::"r"(to), "l"(global) : "memory");
}
RF_FN void copy_async_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }
RF_FN void prefetch_l2(const void *p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// 16 bytes past L1, which may hold what another lane has replaced.
RF_FN ulonglong2 load_keys(const void *p) { return __ldcg(reinterpret_cast<const ulonglong2 *>(p)); }

RF_FN u64 timer_ns() {
    u64 v;
    asm volatile("mov.u64 %0,%globaltimer;" : "=l"(v));
    return v;
}
RF_FN void pause_ns(u32 ns) { __nanosleep(ns); }

RF_FN u64 pack64(u32 low, u32 high) { return (u64)high << 32 | low; }
