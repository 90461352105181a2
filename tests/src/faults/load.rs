//! What runs while things go wrong, and what must hold of it afterwards.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::GzDecoder;
use ringfleet::cmd::demo::flights::results;
use ringfleet_abi::{KeySpace, SetId, ShardId};
use ringfleet_actor::Message as _;
use ringfleet_actors::flights::aircraft::Flight;
use ringfleet_actors::flights::csv;
use ringfleet_actors::flights::names::Names;
use ringfleet_actors::flights::serial::Serial;
use ringfleet_client::{FlushError, Session, Tell};
use ringfleet_env::Env;
use ringfleet_proto::control::{AdminAnswer, AdminVerb, Keys, ShardView};

use crate::actors::{RELAY, SINK, StreamReport};
use crate::cluster::{PATIENCE, TestCluster};
use crate::streams::Streams;

/// Between two rounds of messages: the faults are to meet a busy cluster, not one whose machine is worn out by the load.
const PACE: Duration = Duration::from_millis(2);
/// Events of one round.
const EVENTS: usize = 16;
/// Shards of every set.
const SHARDS: u16 = 24;
/// The real events, gzipped.
const FLIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernels/actors/data/nyc-flights-2013.csv.gz");

/// The flights application, told by a session of its own.
pub struct Flights {
    session: Session,
    set: SetId,
    lines: std::io::Lines<BufReader<GzDecoder<File>>>,
    number: u64,
    names: Names,
    serial: Serial,
}

impl Flights {
    /// Applies the sets.
    pub async fn prepare(cluster: &TestCluster) -> Result<Self> {
        for set in ["flights.aircraft", "flights.carrier", "flights.airport"] {
            cluster.apply(set, Keys::Hashed, SHARDS).await?;
        }
        let session = cluster.session().await?;
        let set = session.set("flights.aircraft").await?;
        let file = File::open(Path::new(FLIGHTS)).with_context(|| format!("opening {FLIGHTS}"))?;
        let mut lines = BufReader::new(GzDecoder::new(file)).lines();
        ensure!(lines.next().transpose()?.is_some_and(|line| csv::is_header(line.as_bytes())), "{FLIGHTS}: no header");
        Ok(Self { session, set, lines, number: 1, names: Names::default(), serial: Serial::new() })
    }

    /// Tells the next events.
    async fn send(&mut self) -> Result<()> {
        let mut batch = Vec::with_capacity(EVENTS);
        for line in self.lines.by_ref().take(EVENTS) {
            self.number += 1;
            let line = line?;
            let event = csv::parse(self.number, line.as_bytes())?;
            self.names.note(&event);
            self.serial.add(&event);
            batch.push((event.aircraft_key(), event.message().to_payload()));
        }
        let bytes = size_of::<Flight>();
        let tell = |(key, payload): &'_ (u64, [u8; 32])| (*key, payload[..bytes].to_vec());
        let batch: Vec<(u64, Vec<u8>)> = batch.iter().map(tell).collect();
        let tells: Vec<Tell<'_>> =
            batch.iter().map(|(key, payload)| Tell { set: self.set, key: *key, kind: Flight::KIND, payload }).collect();
        Ok(self.session.tell_many(&tells).await?)
    }

    /// The tables are those of the serial computation. Gives how many events there were.
    pub async fn check(self, cluster: &TestCluster) -> Result<u64> {
        self.session.flush().await?;
        // What aircraft told carriers and airports is handled when nothing is in flight.
        cluster.conserved().await?;
        let tables = results::ask(&cluster.env, &self.session, &self.names).await.map_err(anyhow::Error::msg)?;
        if let Some(difference) = tables.difference(&self.serial.tables()) {
            bail!("flights: {difference}");
        }
        Ok(self.number - 1)
    }
}

/// Sends until `over`.
pub async fn send(
    env: &Env,
    streams: &mut Streams,
    mut flights: Option<&mut Flights>,
    over: &AtomicBool,
) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        streams.send(1).await?;
        if let Some(flights) = &mut flights {
            flights.send().await?;
        }
        env.sleep(PACE).await;
    }
    Ok(())
}

/// All shards of all sets.
pub async fn shards(cluster: &TestCluster) -> Result<Vec<ShardView>> {
    match cluster.client.call(AdminVerb::Shards { set: None }, PATIENCE).await? {
        AdminAnswer::Shards(shards) => Ok(shards),
        other => bail!("asked for shards, got {other:?}"),
    }
}

/// What became of streams whose actors may have lost their state.
#[derive(Debug, Default)]
pub struct Survivors {
    /// Shards that were placed anew.
    pub moved: BTreeSet<ShardId>,
    /// Streams both of whose actors lived through it, and were exact.
    pub exact: u64,
    /// Messages that the client was told to be lost.
    pub lost: u64,
}

/// C3 after nodes were lost: streams through shards that stayed where they were are exact, on the others nothing came twice or late,
/// and only for them was anything reported lost. Then all of them work.
pub async fn check_survivors(cluster: &TestCluster, streams: &mut Streams, before: &[ShardView]) -> Result<Survivors> {
    let reported = match streams.session.flush().await {
        Ok(()) => 0,
        Err(FlushError::Lost { messages, .. }) => messages,
        Err(ended @ FlushError::Ended { .. }) => return Err(ended.into()),
    };
    let after = shards(cluster).await?;
    let epoch = |shard: ShardId| before.iter().find(|old| old.shard_id() == shard).map(ShardView::epoch);
    let moved: BTreeSet<ShardId> = after
        .iter()
        .filter(|now| epoch(now.shard_id()).is_some_and(|old| old != now.epoch()))
        .map(ShardView::shard_id)
        .collect();
    let mut survivors = Survivors { moved, ..Survivors::default() };
    while let Some(lost) = streams.session.poll_lost() {
        ensure!(survivors.moved.contains(&lost.shard), "C3: {lost:?}, and the shard stayed where it was");
        survivors.lost += lost.messages;
    }
    ensure!(survivors.lost == reported, "C3: {} messages in reports, {reported} in the flush", survivors.lost);

    let (relays, sinks) = (streams.session.set(RELAY).await?, streams.session.set(SINK).await?);
    let shard = |set, key| KeySpace::Hashed.shard_of(SHARDS, key).map(|index| ShardId::new(set, index));
    let stayed = |set, key| shard(set, key).is_some_and(|shard| !survivors.moved.contains(&shard));
    let want = StreamReport { handled: streams.sent, last: streams.sent, gaps: 0, repeats: 0 };
    let mut exact = 0;
    for key in 0..streams.count {
        let relay = streams.at(RELAY, key).await?;
        ensure!(relay.repeats == 0, "C3: relay {key} saw {relay:?}");
        if stayed(relays, key) {
            ensure!(relay == want, "C3: relay {key} stayed where it was and saw {relay:?}, sent were {}", streams.sent);
            if stayed(sinks, key) {
                arrives(cluster, streams, key, want).await?;
                exact += 1;
            }
        }
        let sink = streams.at(SINK, key).await?;
        ensure!(sink.repeats == 0, "C3: sink {key} saw {sink:?}");
    }
    survivors.exact = exact;
    recovered(cluster, streams).await?;
    Ok(survivors)
}

/// C10: every stream takes messages again, without loss, duplicate or reorder.
async fn recovered(cluster: &TestCluster, streams: &mut Streams) -> Result<()> {
    const ROUNDS: u64 = 20;
    // The first message of a stream may follow a gap, at an actor that began anew.
    streams.send(1).await?;
    streams.session.flush().await?;
    let mut before = Vec::new();
    for key in 0..streams.count {
        let relay = streams.at(RELAY, key).await?;
        ensure!(relay.last == streams.sent, "C10: relay {key} saw {relay:?}, sent were {}", streams.sent);
        before.push((relay, arrived(cluster, streams, key).await?));
    }
    streams.send(ROUNDS).await?;
    streams.session.flush().await?;
    let more =
        |report: StreamReport| StreamReport { handled: report.handled + ROUNDS, last: report.last + ROUNDS, ..report };
    for (key, (relay, sink)) in (0..).zip(before) {
        let now = streams.at(RELAY, key).await?;
        ensure!(now == more(relay), "C10: relay {key} saw {now:?} after {relay:?} and {ROUNDS} more messages");
        arrives(cluster, streams, key, more(sink)).await?;
    }
    Ok(())
}

/// Waits until the last message of a stream is at its sink.
async fn arrived(cluster: &TestCluster, streams: &Streams, key: u64) -> Result<StreamReport> {
    let mut seen = streams.at(SINK, key).await?;
    cluster
        .until(&format!("message {} at sink {key}", streams.sent), async || {
            seen = streams.at(SINK, key).await?;
            Ok(seen.last == streams.sent)
        })
        .await
        .with_context(|| format!("{seen:?}"))?;
    Ok(seen)
}

async fn arrives(cluster: &TestCluster, streams: &Streams, key: u64, want: StreamReport) -> Result<()> {
    let seen = arrived(cluster, streams, key).await?;
    ensure!(seen == want, "C3: sink {key} saw {seen:?}, expected {want:?}");
    Ok(())
}
