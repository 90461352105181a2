// Runs streams of messages through actor types: on the host (C++17), or, compiled by nvcc, on a GPU with one thread per stream.
// Input, for each stream: type, count, then `count` times an envelope and the stamp of its handling. Output, for each stream: for each
// message its fault or what it did, then the state; handlings behind a fault that failed the actor, or behind its stop, are left out.
// The types come before this text; RUN_TYPES calls them by number.
#include <cstdio>
#include <cstring>
#include <vector>

struct Out {
    unsigned char *at;
    RF_FN void put(const void *bytes, u32 size) {
        const unsigned char *from = static_cast<const unsigned char *>(bytes);
        for (u32 k = 0; k < size; k++) *at++ = from[k];
    }
    RF_FN void word(u32 word) { put(&word, 4); }
};
static constexpr u32 ENTRY_BYTES = 72;

// `tag` is that of the set that is named like the type.
template <class A> RF_SLOW void run(u32 tag, const unsigned char *in, u32 count, Out &out) {
    typename A::State state;
    unsigned char *bytes = reinterpret_cast<unsigned char *>(&state);
    for (u32 k = 0; k < sizeof state; k++) bytes[k] = 0xa5;
    A::init(state);
    Keep keep = {};
    bool over = false;
    for (u32 at = 0; at < count && !over; at++) {
        Envelope message;
        u64 hlc;
        memcpy(&message, in + at * ENTRY_BYTES, 64);
        memcpy(&hlc, in + at * ENTRY_BYTES + 64, 8);
        Ctx<A::MAX_SENDS> ctx(message, hlc);
        ctx.keep = &keep;
        ctx.tag = tag;
        u32 fault = A::handle(state, message, ctx);
        if (fault == FAULT_NONE) fault = ctx.fault;
        out.word(fault);
        if (fault != FAULT_NONE) {
            over = fault != FAULT_BAD_MESSAGE;
            continue;
        }
        out.word(ctx.stopped ? 1 : 0);
        out.word(ctx.sends);
        for (u32 k = 0; k < ctx.sends; k++) {
            out.word(ctx.out[k].how);
            out.word(ctx.out[k].detail);
            out.put(&ctx.out[k].envelope, 64);
        }
        over = ctx.stopped;
    }
    out.put(&state, sizeof state);
}

RF_FN void run_type(u32 type, const unsigned char *in, u32 count, Out &out) {
    switch (type) { RUN_TYPES }
}

// The most that one stream puts out.
static size_t most(u32 count) { return 4096 + 64 + (size_t)count * (12 + 64 * ENTRY_BYTES); }

#if defined(__CUDACC__)
__global__ void run_all(const unsigned char *in, const u64 *from, unsigned char *out, const u64 *to, u32 *lengths, u32 streams) {
    const u32 at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= streams) return;
    const u32 *head = reinterpret_cast<const u32 *>(in + from[at]);
    Out o{out + to[at]};
    run_type(head[0], in + from[at] + 8, head[1], o);
    lengths[at] = (u32)(o.at - (out + to[at]));
}
#endif

int main() {
    std::vector<unsigned char> in;
    unsigned char buffer[65536];
    for (size_t got; (got = std::fread(buffer, 1, sizeof buffer, stdin)) > 0;) in.insert(in.end(), buffer, buffer + got);
    std::vector<u64> from, to;
    u64 end = 0;
    for (size_t at = 0; at < in.size();) {
        u32 count;
        std::memcpy(&count, &in[at + 4], 4);
        from.push_back(at);
        to.push_back(end);
        at += 8 + (size_t)count * ENTRY_BYTES;
        end += most(count);
    }
    std::vector<unsigned char> out(end);
    std::vector<u32> lengths(from.size());
#if defined(__CUDACC__)
    unsigned char *in_d, *out_d;
    u64 *from_d, *to_d;
    u32 *lengths_d;
    cudaDeviceSetLimit(cudaLimitStackSize, 65536);
    cudaMalloc(&in_d, in.size());
    cudaMalloc(&out_d, end);
    cudaMalloc(&from_d, from.size() * 8);
    cudaMalloc(&to_d, to.size() * 8);
    cudaMalloc(&lengths_d, from.size() * 4);
    cudaMemcpy(in_d, in.data(), in.size(), cudaMemcpyHostToDevice);
    cudaMemcpy(from_d, from.data(), from.size() * 8, cudaMemcpyHostToDevice);
    cudaMemcpy(to_d, to.data(), to.size() * 8, cudaMemcpyHostToDevice);
    run_all<<<(u32)(from.size() + 31) / 32, 32>>>(in_d, from_d, out_d, to_d, lengths_d, (u32)from.size());
    const cudaError_t error = cudaDeviceSynchronize();
    if (error != cudaSuccess) {
        std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
        return 1;
    }
    cudaMemcpy(out.data(), out_d, end, cudaMemcpyDeviceToHost);
    cudaMemcpy(lengths.data(), lengths_d, lengths.size() * 4, cudaMemcpyDeviceToHost);
#else
    for (size_t at = 0; at < from.size(); at++) {
        u32 head[2];
        std::memcpy(head, &in[from[at]], 8);
        Out o{&out[to[at]]};
        run_type(head[0], &in[from[at] + 8], head[1], o);
        lengths[at] = (u32)(o.at - &out[to[at]]);
    }
#endif
    for (size_t at = 0; at < from.size(); at++) std::fwrite(&out[to[at]], 1, lengths[at], stdout);
}
