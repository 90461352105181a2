//! The work on `ractor`.

use std::sync::atomic::Ordering;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::{Directory, FINISHED, HopState, Outcome, Token, now_ns, runtime, wait_for_tokens};

static ACTORS: Directory<ActorRef<HopMessage>> = Directory::new();

struct Hop;

enum HopMessage {
    Token(Token),
    Hops(RpcReplyPort<u64>),
}

impl Actor for Hop {
    type Msg = HopMessage;
    type State = HopState;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<HopMessage>, (): ()) -> Result<HopState, ActorProcessingErr> {
        Ok(HopState::default())
    }

    async fn handle(
        &self,
        _: ActorRef<HopMessage>,
        message: HopMessage,
        state: &mut HopState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HopMessage::Token(token) => match state.hop(&token) {
                Some((to, token)) => {
                    ACTORS.get().expect("set before the first token")[to].cast(HopMessage::Token(token))?;
                }
                None => {
                    FINISHED.fetch_add(1, Ordering::Release);
                }
            },
            HopMessage::Hops(reply) => reply.send(state.hops())?,
        }
        Ok(())
    }
}

/// Runs it.
pub fn run(actors: u64, hops: u64, threads: u16) -> Outcome {
    let runtime = runtime(threads.into());
    let outcome = runtime.block_on(async {
        let mut made = Vec::with_capacity(actors as usize);
        for _ in 0..actors {
            made.push(Hop::spawn(None, Hop, ()).await.expect("an actor").0);
        }
        assert!(ACTORS.set(made).is_ok(), "one run in a process");
        let all = ACTORS.get().expect("set above");
        FINISHED.store(0, Ordering::Release);
        let begin_ns = now_ns();
        for (salt, actor) in (1..).zip(all) {
            actor.cast(HopMessage::Token(Token { left: hops, actors, salt, trail: 0 })).expect("a mailbox");
        }
        tokio::task::spawn_blocking(move || wait_for_tokens(actors)).await.expect("the wait");
        let elapsed_ns = now_ns() - begin_ns;
        let mut handled = 0;
        for actor in all {
            handled += ractor::call!(actor, HopMessage::Hops).expect("an answer");
        }
        Outcome { handled, elapsed_ns }
    });
    runtime.shutdown_background();
    outcome
}
