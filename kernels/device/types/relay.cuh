// Checks order and stamps (C3, C6). Each actor has one predecessor and one successor in its set; the tokens that it gets carry
// the predecessor's numbers, which must come without gap and in order. Tokens are held back and sent on in bursts.
static constexpr u32 MAX_SENDS = 4;

struct Token {
    u64 number;
    u64 actors;
    u64 stride; // successor = key + stride, modulo actors
    u32 left;   // hops to come
    u32 burst;  // tokens sent at once, at most MAX_SENDS
};
struct State {
    u64 expected; // number of the next token
    u64 next;     // number of the next token sent
    u64 errors;
    u64 held;
    u64 last_hlc;
    u64 hlc_errors;
};

RF_FN void init(State &state) {
    state.expected = state.next = state.errors = state.held = state.last_hlc = state.hlc_errors = 0;
}

RF_FN u32 handle(State &state, const Envelope &message, Ctx<MAX_SENDS> &ctx) {
    if (len_of(message) != sizeof(Token)) return FAULT_BAD_MESSAGE;
    Token token = body_of<Token>(message);
    // C6: after the message, and after everything this actor has seen or sent.
    if (ctx.now() <= message.hlc || ctx.now() <= state.last_hlc) state.hlc_errors++;
    if (message.kind == KIND_Start) {
        state.held += MAX_SENDS;
    } else if (message.kind == KIND_Token) {
        if (token.number != state.expected) state.errors++;
        state.expected = token.number + 1;
        state.held++;
    } else {
        return FAULT_BAD_MESSAGE;
    }
    u32 sends = 0;
    if (token.left > 1 && state.held >= token.burst) {
        u64 to = message.to_key + token.stride;
        if (to >= token.actors) to -= token.actors;
        token.left--;
        while (state.held > 0 && sends < MAX_SENDS) {
            token.number = state.next++;
            ctx.tell(OWN_TAG, to, KIND_Token, token);
            state.held--;
            sends++;
        }
    }
    state.last_hlc = ctx.now() + sends;
    return FAULT_NONE;
}
