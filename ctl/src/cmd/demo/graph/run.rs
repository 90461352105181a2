//! The computation, from the edges to the last round.

use std::time::Duration;

use ringfleet_actor::ActorRef;
use ringfleet_actors::graph::list::Graph;
use ringfleet_actors::graph::rounds::{Rounds, Standing, StandingAsked, Start};
use ringfleet_actors::graph::{IDLE, LABEL, RANK, load};
use ringfleet_env::Instant;

use crate::cmd::demo::application::Stage;
use crate::cmd::demo::stream::{BATCH, STALL_PATIENCE, flush, tell_batch};
use crate::error::{CtlError, CtlResult, chain};

/// Between two looks at how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long one look may take. Without an answer there is another look: only what stands still for long is given up.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);
/// What failed if it does.
const ATTEMPT: &str = "computing";

/// What was computed, or how far it came.
pub struct Computed {
    /// The graph.
    pub graph: Graph,
    /// Where it stood still, if it did.
    pub stalled: Option<String>,
    /// By how much all ranks changed in the last round.
    pub moved: u64,
    /// Rounds, those of components included.
    pub closed: u32,
    /// Times that a vertex took part in a round.
    pub begun: u64,
}

/// Tells the edges to their vertices and computes ranks and components.
pub async fn compute(graph: Graph, rounds: u32, stage: &Stage<'_>) -> CtlResult<Computed> {
    let Stage { env, session, progress, half_way, span_min } = *stage;
    let started = env.now();
    let set = session.set("graph.vertex").await.map_err(|error| CtlError::failed(ATTEMPT, chain(&error)))?;
    let mut batch = Vec::with_capacity(BATCH);
    for (vertex, edges) in load::messages(&graph) {
        batch.push((u64::from(vertex), edges));
        if batch.len() == BATCH {
            tell_batch(env, session, ATTEMPT, set, &batch).await?;
            batch.clear();
        }
    }
    tell_batch(env, session, ATTEMPT, set, &batch).await?;
    // Each block's edges leave its vertex before the first round reaches it, so they are there in time (C3).
    flush(env, session, ATTEMPT).await?;
    progress.say(&format!("edges told in {:.1} s", (env.now() - started).as_secs_f64()));

    let mut computed = Computed { graph, stalled: None, moved: 0, closed: 0, begun: 0 };
    computed.start(RANK, rounds, stage).await?;
    progress.say(&format!("ranks after {:.1} s", (env.now() - started).as_secs_f64()));
    half_way.reach();
    half_way.wait_done().await;
    if let Some(span) = span_min {
        env.sleep_until(started + span).await;
    }
    if computed.stalled.is_none() {
        computed.start(LABEL, rounds, stage).await?;
        progress.say(&format!("components after {:.1} s", (env.now() - started).as_secs_f64()));
    }
    // Also what no round waits for.
    flush(env, session, ATTEMPT).await?;
    Ok(computed)
}

impl Computed {
    /// Starts a computation and waits until it has ended or stands still.
    async fn start(&mut self, what: u32, rounds: u32, stage: &Stage<'_>) -> CtlResult {
        let Stage { env, session, progress, half_way, .. } = *stage;
        let counter = ActorRef::<Rounds>::at(0);
        let start = Start { vertices: self.graph.vertices(), rounds, what };
        session.tell_to(counter, &start).await.map_err(|error| CtlError::failed(ATTEMPT, chain(&error)))?;
        // An ask takes the same way as the tell before it, so the first answer knows of the start (C3).
        let mut patience = Patience::new(env.now());
        loop {
            let asked = session.ask_of::<_, _, Standing>(counter, &StandingAsked {}, LOOK_PATIENCE).await;
            if let Err(cause) = patience.look(&asked, env.now()) {
                self.stalled = Some(cause);
                return Ok(());
            }
            if let Ok(stands) = asked {
                (self.closed, self.begun) = (stands.closed, stands.begun);
                progress.told(u64::from(stands.closed.min(rounds + 1)));
                if what == RANK && stands.round > rounds / 2 {
                    half_way.reach();
                }
                if stands.what == IDLE {
                    self.moved = stands.moved;
                    return Ok(());
                }
            }
            env.sleep(LOOK_EVERY).await;
        }
    }
}

/// Tells what goes on slowly from what stands still.
struct Patience {
    last: Standing,
    since: Instant,
}

impl Patience {
    fn new(now: Instant) -> Self {
        Self { last: Standing::default(), since: now }
    }

    /// Takes a look. `Err` with the reason if no group has ended a round for too long.
    fn look<E: std::error::Error>(&mut self, asked: &Result<Standing, E>, now: Instant) -> Result<(), String> {
        if let Ok(stands) = asked {
            if stands.steps != self.last.steps || stands.what != self.last.what {
                self.since = now;
            }
            self.last = *stands;
        }
        if now - self.since < STALL_PATIENCE {
            return Ok(());
        }
        let missed = asked.as_ref().err().map(|error| format!("; {}", chain(error))).unwrap_or_default();
        Err(format!("no group has ended a round for {} s: {:?}{missed}", STALL_PATIENCE.as_secs(), self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_is_given_up_and_what_goes_on_is_not() {
        let at = |seconds: u64| Instant::from_ns(seconds * 1_000_000_000);
        let stands = |steps| Ok::<_, CtlError>(Standing { what: RANK, round: 3, steps, ..Standing::default() });
        let mut patience = Patience::new(at(0));
        for seconds in [1, 50, 100, 150] {
            assert_eq!(patience.look(&stands(seconds as u32), at(seconds)), Ok(()));
        }
        // Once without an answer is nothing; as long as no step is made it is not much more.
        let missed = Err(CtlError::unreachable("asking", "out of time"));
        assert_eq!(patience.look(&missed, at(180)), Ok(()));
        assert_eq!(patience.look(&stands(150), at(209)), Ok(()));
        let ended = patience.look(&stands(150), at(210)).expect_err("a message was lost");
        assert!(
            ended.starts_with("no group has ended a round for 60 s: Standing {") && ended.contains("round: 3"),
            "{ended}"
        );
        assert!(patience.look(&missed, at(211)).expect_err("still").ends_with("asking: out of time"));
        assert_eq!(patience.look(&stands(151), at(212)), Ok(()));
    }
}
