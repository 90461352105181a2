//! Half-way through the application: the leader is killed, and the cluster must go on.

use std::time::Duration;

use ringfleet_actor::ActorRef;
use ringfleet_actors::counter::{Add, Count, Counter, Read};
use ringfleet_client::Session;

use crate::app::{App, Cluster};
use crate::cmd::apply;
use crate::cmd::demo::half_way::HalfWay;
use crate::cmd::demo::progress::Progress;
use crate::cmd::get;
use crate::document;
use crate::error::{CtlError, CtlResult, chain};
use crate::local::LocalCluster;

/// How long finding the new leader, applying and using the second set may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Counters that are used.
const COUNTERS: u64 = 100;
/// What each of them is told.
const ADDS: i64 = 10;

/// What came of it.
pub struct Meanwhile {
    /// Whether the second set was applied and gave the right answers.
    pub used: bool,
    /// What happened, in words.
    pub what: String,
}

/// Waits for half of the application, kills the leader, applies and uses a second set, and lets the application end.
pub async fn kill_and_go_on(
    app: &App,
    operator: &Cluster,
    cluster: &mut LocalCluster,
    session: &Session,
    half_way: &HalfWay,
    progress: &Progress,
) -> CtlResult<Meanwhile> {
    half_way.reached().await;
    let done = go_on(app, operator, cluster, session, progress).await;
    // Also after a failure: the application would wait for ever.
    half_way.done();
    done
}

async fn go_on(
    app: &App,
    operator: &Cluster,
    cluster: &mut LocalCluster,
    session: &Session,
    progress: &Progress,
) -> CtlResult<Meanwhile> {
    let operator =
        Cluster { client: operator.client.clone(), env: operator.env.clone(), deadline: app.env.now() + PATIENCE };
    let coordinators = get::coordinators(&operator).await?;
    let leader = coordinators.iter().find(|coordinator| coordinator.leader);
    let leader = leader.ok_or_else(|| CtlError::failed("finding the leader", "no coordinator leads"))?;
    if coordinators.len() >= 3 {
        progress.say(&format!("killing the leader {} (SIGKILL)", leader.name));
        cluster.kill(&leader.name).await?;
    } else {
        progress.say("the leader is not killed: nobody could follow it");
    }
    let killed_at = app.env.now();
    let documents = document::parse("counter.yaml", ringfleet_actors::flights::COUNTER_YAML)?;
    for located in documents {
        apply::apply(&operator, located.set, &located.place, true).await?;
    }
    let applied = app.env.now() - killed_at;
    let used = app.env.timeout(PATIENCE, use_counters(session)).await;
    let used = used.map_err(|elapsed| CtlError::unreachable("using the second set", elapsed))??;
    let what = format!(
        "set counter applied {:.1} s after the kill, {COUNTERS} actors {}",
        applied.as_secs_f64(),
        if used { "gave the right sums" } else { "gave WRONG sums" }
    );
    progress.say(&what);
    Ok(Meanwhile { used, what })
}

/// Tells every counter something and asks for the sums. Each ask follows its tells on the same channel (C3).
async fn use_counters(session: &Session) -> CtlResult<bool> {
    let attempt = "using the second set";
    for key in 0..COUNTERS {
        for add in 1..=ADDS {
            let told = session.tell_to(ActorRef::<Counter>::at(key), &Add { amount: add * (key as i64 + 1) }).await;
            told.map_err(|error| CtlError::failed(attempt, chain(&error)))?;
        }
    }
    let mut right = true;
    for key in 0..COUNTERS {
        let count: Count = session
            .ask_of(ActorRef::<Counter>::at(key), &Read {}, PATIENCE)
            .await
            .map_err(|error| CtlError::failed(attempt, chain(&error)))?;
        let total = (key as i64 + 1) * ADDS * (ADDS + 1) / 2;
        right &= count == Count { total, adds: ADDS as u64 };
    }
    Ok(right)
}
