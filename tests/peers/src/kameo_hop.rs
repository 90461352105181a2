//! The work on `kameo`.

use std::sync::atomic::Ordering;

use kameo::Actor;
use kameo::actor::{ActorRef, Spawn};
use kameo::mailbox;
use kameo::message::{Context, Message};

use crate::{Directory, FINISHED, HopState, Outcome, Token, now_ns, runtime, wait_for_tokens};

static ACTORS: Directory<ActorRef<Hop>> = Directory::new();

#[derive(Actor, Default)]
struct Hop(HopState);

struct Hops;

impl Message<Token> for Hop {
    type Reply = ();

    async fn handle(&mut self, token: Token, _: &mut Context<Self, Self::Reply>) {
        match self.0.hop(&token) {
            Some((to, token)) => {
                let sent = ACTORS.get().expect("set before the first token")[to].tell(token).try_send();
                assert!(sent.is_ok(), "a mailbox without bound takes every message");
            }
            None => {
                FINISHED.fetch_add(1, Ordering::Release);
            }
        }
    }
}

impl Message<Hops> for Hop {
    type Reply = u64;

    async fn handle(&mut self, _: Hops, _: &mut Context<Self, Self::Reply>) -> u64 {
        self.0.hops()
    }
}

/// Runs it.
pub fn run(actors: u64, hops: u64, threads: u16) -> Outcome {
    let runtime = runtime(threads.into());
    let outcome = runtime.block_on(async {
        let made = (0..actors).map(|_| Hop::spawn_with_mailbox(Hop::default(), mailbox::unbounded())).collect();
        assert!(ACTORS.set(made).is_ok(), "one run in a process");
        let all = ACTORS.get().expect("set above");
        FINISHED.store(0, Ordering::Release);
        let begin_ns = now_ns();
        for (salt, actor) in (1..).zip(all) {
            actor.tell(Token { left: hops, actors, salt, trail: 0 }).try_send().expect("a mailbox without bound");
        }
        tokio::task::spawn_blocking(move || wait_for_tokens(actors)).await.expect("the wait");
        let elapsed_ns = now_ns() - begin_ns;
        let mut handled = 0;
        for actor in all {
            handled += actor.ask(Hops).await.expect("an answer");
        }
        Outcome { handled, elapsed_ns }
    });
    runtime.shutdown_background();
    outcome
}
