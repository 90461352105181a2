// `counter` of kernels/actors: adds up what it is told, and tells the sum to whoever asks. Beyond the range of an i64 it fails.
static constexpr u32 MAX_SENDS = 1;

struct Add {
    int64_t amount;
};
struct Count {
    int64_t total;
    u64 adds;
};
struct State {
    int64_t total;
    u64 adds;
};

RF_FN void init(State &state) {
    state.total = 0;
    state.adds = 0;
}

RF_FN u32 handle(State &state, const Envelope &message, Ctx<MAX_SENDS> &ctx) {
    if (message.kind == KIND_Add && len_of(message) == sizeof(Add)) {
        const u64 a = (u64)state.total, b = (u64)body_of<Add>(message).amount, sum = a + b;
        if (((a ^ sum) & (b ^ sum)) >> 63) return FAULT_OVERFLOW;
        state.total = (int64_t)sum;
        state.adds++;
        return FAULT_NONE;
    }
    if (message.kind == KIND_Read && len_of(message) == 0) {
        ctx.reply(KIND_Count, Count{state.total, state.adds});
        return FAULT_NONE;
    }
    return FAULT_BAD_MESSAGE;
}
