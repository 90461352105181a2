//! Measures one node-to-node link and one client, over a cluster of real processes on this machine:
//!
//! ```sh
//! cargo build --release -p ringfleet-tests && cargo run --release -p ringfleet-tests --example link_bench
//! ```
//!
//! * link: one client session tells relays on node 1, each relay tells a sink on node 2; every message is acknowledged as handled, and
//!   relays and sinks check that none is missing, repeated or out of order. Messages per second count the link's messages once.
//! * ask: one client asks a counter and waits for each answer, made by the handler.
//!
//! Baseline of the ask in the same run: a QUIC round trip of the same size without an actor is what `cargo run --release -p ringfleet-link
//! --example throughput` prints.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ringfleet_actor::Message as _;
use ringfleet_actors::counter;
use ringfleet_client::Tell;
use ringfleet_env::Env;
use ringfleet_proto::control::Keys;
use ringfleet_tests::actors::{RELAY, ReadStream, SINK, Stage, Stamped, StreamReport};
use ringfleet_tests::cluster::{PATIENCE, TestCluster};

const STREAMS: u64 = 256;
const ROUNDS: u64 = 4096;
const ASKS: usize = 20_000;

fn main() -> Result<()> {
    Env::run_tokio(2, bench)?
}

async fn bench(env: Env) -> Result<()> {
    let binary = std::env::current_exe()?
        .parent()
        .and_then(|folder| folder.parent())
        .context("no target folder")?
        .join("ringfleet-under-test");
    ensure!(binary.exists(), "{} is missing: build it with cargo build --release -p ringfleet-tests", binary.display());
    let cluster = TestCluster::start(&env, &binary.display().to_string(), |config| {
        (config.coordinators, config.nodes, config.workers) = (1, 2, 1);
    })
    .await?;
    cluster.apply_set(RELAY, "test.stage", Keys::Hashed, 16, &["n1"]).await?;
    cluster.apply_set(SINK, "test.stage", Keys::Hashed, 16, &["n2"]).await?;
    cluster.apply_set("counter", "counter", Keys::Dense { count: 64 }, 4, &["n1"]).await?;
    let session = cluster.session().await?;

    let relays = session.set(RELAY).await?;
    let before = cluster.metric("ringfleet_agent_node_in_total").await?;
    let begun = env.now();
    for seq in 1..=ROUNDS {
        let message = Stamped { seq, behind: 1 };
        let payload = message.to_payload();
        let tell = |key| Tell { set: relays, key, kind: Stamped::KIND, payload: &payload[..size_of::<Stamped>()] };
        session.tell_many(&(0..STREAMS).map(tell).collect::<Vec<_>>()).await?;
    }
    session.flush().await?;
    cluster
        .until("the sinks", async || {
            Ok(cluster.metric("ringfleet_agent_node_in_total").await? - before == i128::from(STREAMS * ROUNDS))
        })
        .await?;
    let took = env.now() - begun;
    let want = StreamReport { handled: ROUNDS, last: ROUNDS, gaps: 0, repeats: 0 };
    for key in 0..STREAMS {
        let report: StreamReport = session.ask_of(Stage::in_set(SINK, key), &ReadStream {}, PATIENCE).await?;
        ensure!(report == want, "C3: sink {key} saw {report:?}");
    }
    let sum = cluster.conserved().await?;
    let messages = STREAMS * ROUNDS;
    println!(
        "link n1 -> n2: {messages} messages in {took:?}: {:.0} messages/s, each also told by the client to n1",
        messages as f64 / took.as_secs_f64()
    );
    println!("  check: every sink saw {ROUNDS} of {ROUNDS} in order; C7 {sum:?}");

    let mut times = Vec::with_capacity(ASKS);
    for at in 0..ASKS {
        let begun = env.now();
        let _count: counter::Count =
            session.ask_of(counter::Counter::at(at as u64 % 64), &counter::Read {}, PATIENCE).await?;
        times.push(env.now() - begun);
    }
    times.sort_unstable();
    let at = |share: f64| times[((ASKS - 1) as f64 * share) as usize];
    println!("ask, one at a time: {ASKS} answers, p50 {:?}, p99 {:?}, max {:?}", at(0.5), at(0.99), times[ASKS - 1]);
    let limit = Duration::from_secs(10);
    cluster.client.close(limit).await;
    cluster.stop().await
}
