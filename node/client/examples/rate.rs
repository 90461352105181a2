//! Measures one session: tells per second until all are handled, and the round trip of asks.
//!
//! ```text
//! cargo run --release -- dev up && cargo run --release -- apply -f kernels/actors/sets/counter.yaml
//! cargo run --release -p ringfleet-client --example rate -- ~/.local/share/ringfleet/dev/client 2000000 HOST:PORT [HOST:PORT ..]
//! ```
//! Speaks to the set `counter` of 1000 keys; the addresses are those of coordinators.

use std::path::PathBuf;
use std::time::Duration;

use ringfleet_client::{Client, ClientConfig, Tell};
use ringfleet_env::Env;
use ringfleet_link::Identity;

/// `fnv1a16("Add")` and `fnv1a16("Read")`: this crate does not know the actors.
const ADD: u16 = ringfleet_abi::hash::fnv1a16(b"Add");
const READ: u16 = ringfleet_abi::hash::fnv1a16(b"Read");
const KEYS: u64 = 1000;
const BATCH: usize = 512;
const ASKS: usize = 5000;
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: rate IDENTITY_FOLDER TELLS COORDINATOR..";
    let folder = PathBuf::from(args.next().ok_or(usage)?);
    let tells: usize = args.next().ok_or(usage)?.parse()?;
    let coordinators: Vec<String> = args.collect();
    Env::run_tokio(2, |env| measure(env, folder, tells, coordinators))?
}

async fn measure(
    env: Env,
    folder: PathBuf,
    tells: usize,
    coordinators: Vec<String>,
) -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity::load(&*env.disk(), &folder)?;
    let client = Client::new(&env, ClientConfig::new(coordinators, identity))?;
    let session = client.session(LIMIT).await?;
    let set = session.set("counter").await?;
    let payload = 1_i64.to_le_bytes();
    let batch: Vec<Tell<'_>> = (0..BATCH)
        .map(|at| Tell { set, key: (at as u64).wrapping_mul(7919) % KEYS, kind: ADD, payload: &payload })
        .collect();
    // Links are made and everything is resident before the clock runs.
    session.tell_many(&batch).await?;
    session.flush().await?;

    let started = env.now();
    for _ in 0..tells / BATCH {
        session.tell_many(&batch).await?;
    }
    session.flush().await?;
    let took = env.now() - started;
    let told = tells / BATCH * BATCH;
    println!("{told} tells handled in {:.3} s: {:.0}/s", took.as_secs_f64(), told as f64 / took.as_secs_f64());

    let mut trips = Vec::with_capacity(ASKS);
    for at in 0..ASKS {
        let asked = env.now();
        session.ask(set, at as u64 % KEYS, READ, &[], LIMIT).await?;
        trips.push(env.now() - asked);
    }
    trips.sort_unstable();
    let percentile = |share: f64| trips[((ASKS - 1) as f64 * share) as usize].as_micros();
    println!("{ASKS} asks one after the other: p50 {} us, p99 {} us", percentile(0.5), percentile(0.99));
    println!("{:?}", session.counters());
    Ok(())
}
