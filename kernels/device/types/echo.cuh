// `echo` of kernels/actors: answers what it is asked, and counts.
static constexpr u32 MAX_SENDS = 1;

struct Ping {
    u64 value;
};
struct Pong {
    u64 value;
    u64 pings;
};
struct State {
    u64 pings;
    u64 padding;
};

RF_FN void init(State &state) { state.pings = state.padding = 0; }

RF_FN u32 handle(State &state, const Envelope &message, Ctx<MAX_SENDS> &ctx) {
    if (message.kind != KIND_Ping || len_of(message) != sizeof(Ping)) return FAULT_BAD_MESSAGE;
    state.pings++;
    ctx.reply(KIND_Pong, Pong{body_of<Ping>(message).value, state.pings});
    return FAULT_NONE;
}
