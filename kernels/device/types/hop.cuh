// `hop` of kernels/actors: 64 bytes of state, all of them written by every message, and one tell to an actor that looks
// random, as long as the message lives.
static constexpr u32 MAX_SENDS = 1;

struct Step {
    u64 seed;
    u32 actors;
    u32 ttl;
};
struct Hops {
    u64 hops;
    u64 seeds;
};
struct State {
    u64 hops;
    u64 seeds;
    u64 lanes[6];
};

RF_FN void init(State &state) {
    state.hops = state.seeds = 0;
    for (u32 at = 0; at < 6; at++) state.lanes[at] = 0;
}

RF_FN u64 next_key(u64 seed, u32 ttl, u32 actors) {
    const u64 x = mix64(seed * 0x9e3779b97f4a7c15ull + ttl);
    return ((x & 0xffffffff) * actors) >> 32;
}

RF_FN u32 handle(State &state, const Envelope &message, Ctx<MAX_SENDS> &ctx) {
    if (message.kind == KIND_Step && len_of(message) == sizeof(Step)) {
        const Step step = body_of<Step>(message);
        state.hops++;
        state.seeds += step.seed;
        state.lanes[0] += step.seed;
        state.lanes[1] ^= step.seed;
        state.lanes[2] += step.ttl;
        state.lanes[3] ^= step.ttl;
        if (step.seed > state.lanes[4]) state.lanes[4] = step.seed;
        state.lanes[5] = step.seed;
        if (step.ttl > 0)
            ctx.tell(OWN_TAG, next_key(step.seed, step.ttl, step.actors), KIND_Step, Step{step.seed, step.actors, step.ttl - 1});
        return FAULT_NONE;
    }
    if (message.kind == KIND_HopsAsked && len_of(message) == 0) {
        ctx.reply(KIND_Hops, Hops{state.hops, state.seeds});
        return FAULT_NONE;
    }
    return FAULT_BAD_MESSAGE;
}
