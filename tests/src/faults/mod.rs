//! A cluster of real processes under a plan of faults, which a seed determines; what must hold afterwards is checked from outside, by
//! what clients were told and what metrics say.
//!
//! | what goes wrong | how |
//! |---|---|
//! | a process stands still, ends, comes back | SIGSTOP and SIGCONT, SIGKILL and a new start |
//! | a process is cut off from everybody | its namespace's cable is pulled ([`network`]); not on the loopback interface |
//! | what goes to or from a node is dropped one way, lost, duplicated, corrupted, late, out of order | the proxy in front of it |
//!
//! | what is checked | [`Severity::Gentle`] | [`Severity::Harsh`] |
//! |---|---|---|
//! | C3, streams of stamped messages over two hops | exact | exact where no shard was placed anew; nothing twice or late anywhere; reports of loss name moved shards only |
//! | the flights application | the tables of the serial computation | not run: lost state is missing in them |
//! | C7 | exact; nothing dead-lettered, nothing lost | quiet: nothing stays in flight |
//! | C10 | every shard in effect again | the same within lease + 2 s and the start of a process; then every stream works |
//! | no process panicked or ended by itself | yes | yes |

pub mod load;
pub mod network;
pub mod plan;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ringfleet::local::{Kind, LocalCluster, Signal};
use ringfleet::proxy::{UdpProxy, Weather};
use ringfleet_env::Env;
use ringfleet_proto::control::{AdminAnswer, AdminVerb};

use self::network::Network;
use self::plan::{Fault, Plan, Severity};
use crate::cluster::{PATIENCE, TestCluster};
use crate::streams::Streams;

/// Streams of stamped messages.
const STREAMS: u64 = 64;
/// Leases of gentle runs: longer than anything that happens to a node.
const LEASE_GENTLE_MS: u32 = 10_000;
/// Leases of harsh runs: the default.
const LEASE_HARSH_MS: u32 = 3_000;
/// C10 counts from when all processes run; a start of one under load takes this long at most.
const START: Duration = Duration::from_secs(5);
/// C10: beyond the lease.
const PLACED_WITHIN: Duration = Duration::from_secs(2);

/// A run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Decides what goes wrong.
    pub seed: u64,
    /// How much.
    pub severity: Severity,
    /// For how long new faults begin.
    pub span: Duration,
    /// Coordinators.
    pub coordinators: u16,
    /// Nodes.
    pub nodes: u16,
    /// Whether to use the loopback interface where namespaces are permitted.
    pub loopback: bool,
}

impl Options {
    /// 3 coordinators and 4 nodes, in namespaces if that is permitted.
    #[must_use]
    pub fn new(seed: u64, severity: Severity, span: Duration) -> Self {
        Self { seed, severity, span, coordinators: 3, nodes: 4, loopback: false }
    }
}

/// Runs a plan to its end. What happened, in lines of text.
///
/// # Errors
/// What did not hold.
pub async fn run(env: &Env, executable: &str, options: &Options) -> Result<String> {
    let names = |prefix: &str, count: u16| (1..=count).map(|at| format!("{prefix}{at}")).collect::<Vec<_>>();
    let (coordinators, nodes) = (names("c", options.coordinators), names("n", options.nodes));
    let network = if options.loopback {
        Network::Loopback("not wanted".to_owned())
    } else {
        Network::of(&[coordinators.clone(), nodes.clone()].concat())?
    };
    let plan = Plan::of(options.seed, options.severity, options.span, &coordinators, &nodes, network.has_cables());
    let mut report = format!("seed {}, {:?}, {network}\n", options.seed, options.severity);
    for event in &plan.events {
        let _ = writeln!(report, "{event}");
    }
    // What goes wrong is known before it does, so that a run that hangs can be understood.
    println!("{report}{} faults: {:?}", plan.events.len(), plan.kinds());

    let gentle = options.severity == Severity::Gentle;
    let lease_ms = if gentle { LEASE_GENTLE_MS } else { LEASE_HARSH_MS };
    let mut proxies = BTreeMap::new();
    let mut cluster = TestCluster::start_with(
        env,
        executable,
        |config| {
            (config.coordinators, config.nodes) = (options.coordinators, options.nodes);
            (config.proxied, config.lease_ms, config.hosts) = (true, Some(lease_ms), network.hosts());
        },
        |local| {
            for node in local.processes().iter().filter(|process| process.kind == Kind::Node) {
                proxies.insert(node.name.clone(), UdpProxy::start(env, node.advertise, node.listen)?);
            }
            Ok(())
        },
    )
    .await?;
    let mut streams = Streams::prepare(&cluster, STREAMS).await?;
    let mut flights = if gentle { Some(load::Flights::prepare(&cluster).await?) } else { None };
    let before = load::shards(&cluster).await?;

    let over = AtomicBool::new(false);
    let sending = load::send(env, &mut streams, flights.as_mut(), &over);
    let failing = async {
        let done = inflict(env, &mut cluster.local, &network, &proxies, &plan).await;
        over.store(true, Ordering::Relaxed);
        done
    };
    let both = async { tokio::join!(sending, failing) };
    let (sent, inflicted) =
        env.timeout(options.span + 2 * PATIENCE, both).await.context("the load to go on after the last fault")?;
    inflicted?;
    sent.context("the load")?;
    cluster.local.wait_ready(env.now() + PATIENCE).await.map_err(anyhow::Error::msg)?;
    let healed_at = env.now();
    in_effect(&cluster, options.nodes).await?;
    let placed = env.now() - healed_at;
    let bound = Duration::from_millis(lease_ms.into()) + PLACED_WITHIN + START;
    ensure!(placed < bound, "C10: every shard was in effect {placed:?} after the last fault");
    let sent = streams.sent * STREAMS;
    println!("{sent} stamped messages; every shard in effect {placed:?} after all processes were ready");

    if let Some(flights) = flights {
        streams.check(&cluster).await?;
        let events = flights.check(&cluster).await?;
        let sum = cluster.conserved().await?;
        ensure!(sum.dead_lettered == 0 && sum.lost == 0, "{sum:?}");
        println!("exact: {STREAMS} streams, {events} flight events, C7 {sum:?}");
    } else {
        let survivors = load::check_survivors(&cluster, &mut streams, &before).await?;
        println!(
            "{} of {} shards placed anew, {} of {STREAMS} streams exact, {} messages reported lost",
            survivors.moved.len(),
            before.len(),
            survivors.exact,
            survivors.lost
        );
        cluster
            .until("nothing to be in flight (C7)", async || {
                Ok(cluster.metric("ringfleet_messages_in_flight").await? == 0)
            })
            .await?;
    }
    nobody_panicked(&cluster.local)?;
    let (forwarded, dropped) = proxies.values().map(UdpProxy::counts).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    println!("proxies: {forwarded} datagrams forwarded, {dropped} dropped");
    cluster.stop().await?;
    drop(network);
    Ok(report)
}

/// Lets the events of a plan happen, and ends every one of them.
async fn inflict(
    env: &Env,
    local: &mut LocalCluster,
    network: &Network,
    proxies: &BTreeMap<String, UdpProxy>,
    plan: &Plan,
) -> Result<()> {
    let begun = env.now();
    let mut steps: Vec<(Duration, bool, usize)> = Vec::new();
    for (index, event) in plan.events.iter().enumerate() {
        steps.extend([(event.at, true, index), (event.at + event.lasts, false, index)]);
    }
    steps.sort();
    for (at, begins, index) in steps {
        env.sleep_until(begun + at).await;
        let event = &plan.events[index];
        let name = event.process.as_str();
        let fail = |error| anyhow::Error::msg(error).context(format!("{event}"));
        match (&event.fault, begins) {
            (Fault::Stopped, true) => local.signal(name, Signal::STOP).map_err(fail)?,
            (Fault::Stopped, false) => local.signal(name, Signal::CONT).map_err(fail)?,
            (Fault::Killed, true) => local.kill(name).await.map_err(fail)?,
            (Fault::Killed, false) => local.start(name).map_err(fail)?,
            (Fault::Unplugged, begins) => network.plug(name, !begins)?,
            (Fault::Weather(weather), begins) => {
                let proxy = proxies.get(name).with_context(|| format!("{name} has no proxy"))?;
                proxy.set_weather(if begins { *weather } else { Weather::default() });
            }
        }
    }
    Ok(())
}

/// C10: waits until there is a leader, every node is a member and every shard is in effect.
async fn in_effect(cluster: &TestCluster, nodes: u16) -> Result<()> {
    let mut last = None;
    cluster
        .until("every shard to be in effect (C10)", async || {
            // A leader may not be there yet.
            let Ok(AdminAnswer::Status(status)) = cluster.client.call(AdminVerb::Status, PATIENCE).await else {
                return Ok(false);
            };
            let unplaced = status.shards_pending + status.shards_releasing;
            let all = status.shards_in_effect == status.shards_resident && unplaced == 0;
            let done = all && status.nodes_alive == u32::from(nodes);
            last = Some(status);
            Ok(done)
        })
        .await
        .with_context(|| format!("{last:?}"))
}

fn nobody_panicked(local: &LocalCluster) -> Result<()> {
    for process in local.processes() {
        let log = std::fs::read_to_string(&process.log).with_context(|| process.log.display().to_string())?;
        if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
            bail!("{} panicked: {line}", process.name);
        }
    }
    Ok(())
}
