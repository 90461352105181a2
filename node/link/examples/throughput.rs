//! What one link carries on this machine, over loopback, each end on a thread of its own.
//!
//! ```text
//! cargo run --release -p ringfleet-link --example throughput -- [SECONDS] [ONLY]
//! ```
//! Each line is one setting: frames of 64-byte envelopes one way on one stream for SECONDS, every
//! frame counted and its number checked at the other end, then request and reply of one envelope on
//! one stream, then the same while the link is loaded. ONLY picks the lines that contain a word.

use std::{
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use ringfleet_env::{Env, TaskEnd};
use ringfleet_link::{
    Alpn, ClusterCa, Connection, Endpoint, Expect, Identity, LinkConfig, MTU_BYTES_MIN, Role, RoleSet, Validity,
};
use tokio::sync::oneshot;

const ENVELOPE_BYTES: usize = 64;
const LIMIT: Duration = Duration::from_secs(10);
const ROUND_TRIPS: usize = 5_000;
const ROUND_TRIPS_LIMIT: Duration = Duration::from_secs(2);

/// One setting to measure.
struct Case {
    name: &'static str,
    config: LinkConfig,
    envelopes_per_frame: usize,
}

fn cases() -> Vec<Case> {
    let mtu = |mtu_bytes| LinkConfig { mtu_bytes_initial: mtu_bytes, mtu_bytes_max: mtu_bytes, ..LinkConfig::DEFAULTS };
    let mut cases = vec![
        Case { name: "defaults", config: LinkConfig::DEFAULTS, envelopes_per_frame: 256 },
        Case { name: "mtu 1200", config: mtu(MTU_BYTES_MIN), envelopes_per_frame: 256 },
    ];
    for (name, mtu_bytes) in
        [("mtu 4096", 4096), ("mtu 6500", 6500), ("mtu 16384", 16_384), ("mtu 32768", 32_768), ("mtu 65507", 65_507)]
    {
        cases.push(Case { name, config: mtu(mtu_bytes), envelopes_per_frame: 256 });
    }
    for (name, envelopes_per_frame) in
        [("loopback x1", 1), ("loopback x16", 16), ("loopback x256", 256), ("loopback x1024", 1024)]
    {
        cases.push(Case { name, config: LinkConfig::LOOPBACK, envelopes_per_frame });
    }
    cases
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().map_or(Ok(3.0), |s| s.parse::<f64>());
    let only = args.next().unwrap_or_default();
    let Ok(duration) = seconds.map(Duration::from_secs_f64) else {
        eprintln!("usage: throughput [SECONDS] [ONLY]");
        return ExitCode::from(2);
    };
    println!(
        "{:<16} {:>9} {:>11} {:>8} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8}",
        "setting", "MB/s", "envelopes/s", "frames/s", "rtt p50", "rtt p99", "load p50", "load p99", "mtu", "lost"
    );
    for case in cases().iter().filter(|case| case.name.contains(&only)) {
        let measured = Env::run_tokio(1, |env| measure(env, case, duration));
        let Ok(true) = measured else {
            eprintln!("{}: failed", case.name);
            return ExitCode::FAILURE;
        };
    }
    ExitCode::SUCCESS
}

/// Runs one case; the far end has a thread of its own.
async fn measure(env: Env, case: &Case, duration: Duration) -> bool {
    let day = Validity::from_now(env.wall_ms(), Duration::from_secs(24 * 3600));
    let ca = ClusterCa::create("bench", day).expect("a new authority");
    let identity = |name| ca.issue(Role::Node, name, day).expect("a new certificate");
    let (bound, address) = oneshot::channel();
    let (there, config, inner) = (identity("there"), case.config.clone(), env.clone());
    let server = env
        .spawn_on_own_thread("there", async move { serve(inner, there, config, bound).await })
        .expect("a new thread");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = Endpoint::bind(&env, any, identity("here"), case.config.clone()).expect("a free port");
    let address = address.await.expect("the other thread listens");
    let expect = Expect::named(Role::Node, "there");
    let connection = endpoint.connect(address, Alpn::Data, expect, LIMIT).await.expect("a connection");

    let mut idle = round_trips(&connection).await;
    let (frames, elapsed) = stream_frames(&connection, case.envelopes_per_frame, duration).await;
    let stats = connection.stats();
    let mut load = {
        let loaded = connection.clone();
        let envelopes = case.envelopes_per_frame;
        let load = env.spawn("load", async move {
            stream_frames(&loaded, envelopes, Duration::from_secs(60)).await;
        });
        let measured = round_trips(&connection).await;
        load.abort();
        measured
    };
    let (frames, seconds) = (frames as f64, elapsed.as_secs_f64());
    let bytes = frames * (4 + case.envelopes_per_frame * ENVELOPE_BYTES) as f64;
    println!(
        "{:<16} {:>9.1} {:>11.0} {:>8.0} {:>9} {:>9} {:>9} {:>9} {:>7} {:>8}",
        case.name,
        bytes / seconds / 1e6,
        frames * case.envelopes_per_frame as f64 / seconds,
        frames / seconds,
        percentile(&mut idle, 50),
        percentile(&mut idle, 99),
        percentile(&mut load, 50),
        percentile(&mut load, 99),
        stats.mtu_bytes,
        stats.lost_packets,
    );
    connection.close(0, "done");
    env.timeout(LIMIT, endpoint.wait_idle()).await.is_ok() && server.await == TaskEnd::Completed
}

fn percentile(sorted: &mut [Duration], percent: usize) -> String {
    sorted.sort_unstable();
    let at = sorted[(sorted.len() - 1) * percent / 100];
    format!("{:.0} us", at.as_secs_f64() * 1e6)
}

/// The far end: echoes streams whose first frame is one envelope, counts the frames of others.
async fn serve(env: Env, identity: Identity, config: LinkConfig, bound: oneshot::Sender<SocketAddr>) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let endpoint = Endpoint::bind(&env, any, identity, config).expect("a free port");
    let mut listener = endpoint.listen(&[(Alpn::Data, RoleSet::ALL)]).expect("a listener");
    bound.send(endpoint.local_addr().expect("a bound socket")).expect("the other thread waits");
    let connection = listener.accept().await.expect("a peer");
    while let Ok((mut send, mut recv)) = connection.accept_stream().await {
        let task = async move {
            let Ok(Some(first)) = recv.recv().await else { return };
            if &first[..] == b"echo" {
                while let Ok(Some(frame)) = recv.recv().await {
                    if send.send(&frame).await.is_err() {
                        return;
                    }
                }
                return;
            }
            let mut count = 0_u64;
            while let Ok(Some(frame)) = recv.recv().await {
                let number = frame.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                assert_eq!(number, Some(count), "frames arrive in order");
                count += 1;
            }
            // A sender that was aborted is not there any more.
            let _ = send.send(&count.to_le_bytes()).await;
        };
        env.spawn("stream", task).detach();
    }
}

/// Sends frames for a time, waits for the count of the far end and checks it.
async fn stream_frames(connection: &Connection, envelopes: usize, duration: Duration) -> (u64, Duration) {
    let (mut send, mut recv) = connection.open_stream().await.expect("a stream");
    let mut frame = vec![7_u8; envelopes * ENVELOPE_BYTES];
    send.send(b"count").await.expect("a stream");
    let (start, mut count) = (now(), 0_u64);
    while now() - start < duration {
        while send.queued_bytes() < 64 * 1024 {
            frame[..8].copy_from_slice(&count.to_le_bytes());
            send.queue(&frame).expect("a small frame");
            count += 1;
        }
        send.flush().await.expect("a stream");
    }
    send.finish().await.expect("a stream");
    let counted = recv.recv().await.expect("a stream").expect("a count");
    assert_eq!(counted[..], count.to_le_bytes(), "every frame arrived");
    (count, now() - start)
}

/// Round trips of one envelope, one after the other.
async fn round_trips(connection: &Connection) -> Vec<Duration> {
    let (mut send, mut recv) = connection.open_stream().await.expect("a stream");
    send.send(b"echo").await.expect("a stream");
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    let begin = now();
    while times.len() < ROUND_TRIPS && now() - begin < ROUND_TRIPS_LIMIT {
        let start = now();
        send.send(&[1; ENVELOPE_BYTES]).await.expect("a stream");
        recv.recv().await.expect("a stream").expect("an echo");
        times.push(now() - start);
    }
    times
}

#[allow(clippy::disallowed_methods, reason = "a benchmark measures the machine it runs on")]
fn now() -> Instant {
    Instant::now()
}
