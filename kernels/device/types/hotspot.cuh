// Bench only: as `hop`, but one message in 32 goes to one of a few actors.
static constexpr u32 MAX_SENDS = 1;

struct Hop {
    u32 value;
    u32 stride; // between two hot actors
    u64 actors; // of the set; the next target is one of them
    u32 left;   // handlings to come, this one included
    u32 hot;    // 0, or: one hop in 32 goes to one of so many actors
    u64 salt;
};
struct State {
    u64 count;
    u64 sum;
    u64 words[4];
};

RF_FN void init(State &state) {
    state.count = state.sum = 0;
    for (u32 at = 0; at < 4; at++) state.words[at] = 0;
}

RF_FN u32 handle(State &state, const Envelope &message, Ctx<MAX_SENDS> &ctx) {
    if (message.kind != KIND_Hop || len_of(message) != sizeof(Hop)) return FAULT_BAD_MESSAGE;
    Hop hop = body_of<Hop>(message);
    state.count++;
    state.sum += hop.value;
    state.words[0] += hop.left;
    state.words[1] ^= hop.salt;
    state.words[2] += state.count;
    state.words[3] += message.from_key;
    if (hop.left > 1) {
        const u64 mixed = mix64(hop.salt * 0x9e3779b97f4a7c15ull + hop.left);
        u64 to = mul_high(mixed << 16 | mixed >> 48, hop.actors);
        if (hop.hot != 0 && (mixed >> 20 & 31) == 0) to = (u64)((u32)(mixed >> 32) % hop.hot) * hop.stride;
        hop.left--;
        ctx.tell(OWN_TAG, to, KIND_Hop, hop);
    }
    return FAULT_NONE;
}
