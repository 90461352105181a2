//! An application as the demonstration sees it: input, actor sets, a stream that takes a while, results that can be judged.
//!
//! One application is one implementation in a folder of its own, and a name in [`AppName`](super::AppName). All else (the cluster, the death of
//! the leader, cut links, progress, acknowledgements, the conservation sum) is the same for all of them.

use std::time::Duration;

use ringfleet_client::Session;
use ringfleet_env::Env;

use crate::cmd::demo::checks::Checks;
use crate::cmd::demo::half_way::HalfWay;
use crate::cmd::demo::progress::Progress;
use crate::error::CtlResult;

/// What an application works with while it runs.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// Time and tasks.
    pub env: &'a Env,
    /// The session that tells and asks.
    pub session: &'a Session,
    /// Where it says how far it is.
    pub progress: &'a Progress,
    /// Where it waits for what happens half-way.
    pub half_way: &'a HalfWay,
    /// How long the stream takes at least, if it must leave time for something.
    pub span_min: Option<Duration>,
}

/// An application. Its input has been read, as far as that finds errors: a wrong one should not start a cluster.
pub trait Application {
    /// What is known when it has run: what its results are judged by.
    type Told;

    /// The name of the document of its actor sets, and its text.
    const SETS: (&'static str, &'static str);
    /// What its progress counts, in the plural.
    const UNIT: &'static str;

    /// How many of them there will be.
    fn units(&self) -> u64;

    /// Runs it. Half-way calls [`HalfWay::reach`], and before it ends waits for [`HalfWay::wait_done`].
    async fn run(self, stage: &Stage<'_>) -> CtlResult<Self::Told>;

    /// One line on what was told.
    fn summary(told: &Self::Told, took: Duration) -> String;

    /// Asks for the results when nothing is in flight, prints them, and checks them against another computation.
    async fn judge(told: Self::Told, stage: &Stage<'_>, checks: &mut Checks) -> CtlResult;
}
