//! The ledger, step by step: postings, and sweeps whose weight must come back.

use std::time::Duration;

use ringfleet_abi::SetId;
use ringfleet_actors::txmon::desk::{Desk, Returned, ReturnedAsked};
use ringfleet_actors::txmon::ledger::Ledger;
use ringfleet_actors::txmon::plan::{Step, steps};
use ringfleet_actors::txmon::{DESKS, WEIGHT};
use ringfleet_env::Instant;

use crate::cmd::demo::application::Stage;
use crate::cmd::demo::ask::ask_all;
use crate::cmd::demo::stream::{BATCH, STALL_PATIENCE, flush, tell_batch};
use crate::error::{CtlError, CtlResult, chain};

/// Between two looks at what has come back.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The share of the transactions, in thousandths, before which the second set must have been used.
const HOLD_AT: u64 = 950;
/// What failed if it does.
const ATTEMPT: &str = "posting the transactions";

/// What was watched, or how far it came.
pub struct Watched {
    /// The transactions.
    pub ledger: Ledger,
    /// How much weight did not come back, if some did not.
    pub stalled: Option<String>,
    /// Sweeps told.
    pub sweeps: u64,
    /// Traces that have ended.
    pub ends: u64,
}

/// Goes through the steps of the plan, each after all of the one before has been handled.
pub async fn watch(ledger: Ledger, stage: &Stage<'_>) -> CtlResult<Watched> {
    let Stage { env, session, progress, half_way, span_min } = *stage;
    let set = session.set("txmon.account").await.map_err(|error| CtlError::failed(ATTEMPT, chain(&error)))?;
    let (started, total) = (env.now(), ledger.transactions.len() as u64);
    let mut watched = Watched { ledger, stalled: None, sweeps: 0, ends: 0 };
    let mut posted = 0_u64;
    for step in steps(&watched.ledger) {
        match step {
            Step::Post(posts) => {
                for posts in posts.chunks(BATCH) {
                    let batch: Vec<_> = posts.iter().map(|(to, post)| (u64::from(*to), *post)).collect();
                    tell_batch(env, session, ATTEMPT, set, &batch).await?;
                    posted += batch.len() as u64;
                    progress.told(posted);
                    if posted >= total / 2 {
                        half_way.reach();
                    }
                    if posted * 1000 >= total * HOLD_AT {
                        half_way.wait_done().await;
                    }
                    if let Some(span) = span_min {
                        env.sleep_until(started + span.mul_f64(posted as f64 / total.max(1) as f64)).await;
                    }
                }
                flush(env, session, ATTEMPT).await?;
            }
            Step::Sweep(sweeps) => {
                let batch: Vec<_> = sweeps.iter().map(|(to, sweep)| (u64::from(*to), *sweep)).collect();
                watched.sweep(set, &batch, stage).await?;
                if watched.stalled.is_some() {
                    break;
                }
            }
        }
    }
    half_way.reach();
    half_way.wait_done().await;
    Ok(watched)
}

impl Watched {
    /// Sweeps some accounts and waits until all their traces have ended, or nothing ends any more.
    async fn sweep<M: ringfleet_actor::Message>(
        &mut self,
        set: SetId,
        batch: &[(u64, M)],
        stage: &Stage<'_>,
    ) -> CtlResult {
        let Stage { env, session, .. } = *stage;
        tell_batch(env, session, ATTEMPT, set, batch).await?;
        flush(env, session, ATTEMPT).await?;
        self.sweeps += batch.len() as u64;
        let mut patience = Patience::new(self.sweeps * u64::from(WEIGHT), env.now());
        loop {
            let desks = (0..DESKS).collect();
            let returned = ask_all::<Desk, _, Returned>(env, session, desks, || ReturnedAsked {}).await?;
            self.ends = returned.iter().map(|desk| desk.ends).sum();
            match patience.look(returned.iter().map(|desk| desk.weight).sum(), env.now()) {
                Ok(true) => return Ok(()),
                Ok(false) => env.sleep(LOOK_EVERY).await,
                Err(cause) => {
                    self.stalled = Some(cause);
                    return Ok(());
                }
            }
        }
    }
}

/// Tells what comes back slowly from what does not come back.
struct Patience {
    told: u64,
    last: u64,
    since: Instant,
}

impl Patience {
    fn new(told: u64, now: Instant) -> Self {
        Self { told, last: 0, since: now }
    }

    /// Whether all weight is back. `Err` with the reason if none has come for too long, or more than was sent.
    fn look(&mut self, returned: u64, now: Instant) -> Result<bool, String> {
        if returned != self.last {
            (self.last, self.since) = (returned, now);
        }
        let Self { told, .. } = *self;
        if returned > told {
            return Err(format!("traces of a weight of {told} came back with {returned}"));
        }
        if returned < told && now - self.since >= STALL_PATIENCE {
            let seconds = STALL_PATIENCE.as_secs();
            return Err(format!("no trace has ended for {seconds} s: {returned} of a weight of {told} came back"));
        }
        Ok(returned == told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_back_is_given_up_and_what_comes_slowly_is_not() {
        let at = |seconds: u64| Instant::from_ns(seconds * 1_000_000_000);
        let mut patience = Patience::new(100, at(0));
        for (returned, seconds) in [(0, 59), (10, 60), (10, 119), (11, 120), (99, 179)] {
            assert_eq!(patience.look(returned, at(seconds)), Ok(false));
        }
        let lost = patience.look(99, at(239)).expect_err("a message was lost");
        assert_eq!(lost, "no trace has ended for 60 s: 99 of a weight of 100 came back");
        assert_eq!(patience.look(100, at(300)), Ok(true));
        assert!(patience.look(101, at(301)).is_err());
    }
}
