//! A cluster of real processes under a plan of faults, which a seed determines; what must hold afterwards is checked from outside, by
//! what clients were told and what metrics say.
//!
//! | what goes wrong | how |
//! |---|---|
//! | a process stands still, ends, comes back | SIGSTOP and SIGCONT or the freezer, SIGKILL or a limit of its memory ([`cgroup`]), and a new start |
//! | a process is cut off from everybody | its namespace's cable is pulled ([`network`]); not on the loopback interface |
//! | what comes in or goes out is dropped, from everybody, coordinators, or all others; bandwidth | filters and queues in its namespace ([`network`]) |
//! | what goes to or from a node is dropped one way, lost, duplicated, corrupted, late, out of order | the proxy in front of it |
//! | its wall clock jumps and drifts, its syncs fail or take long | a library loaded before libc ([`preload`]) |
//! | there is no room for what it keeps or logs | small file systems of their own ([`disks`]) |
//!
//! What is not permitted here is named, and left out ([`machines`]).
//!
//! | what is checked | [`Severity::Gentle`] | [`Severity::Harsh`] |
//! |---|---|---|
//! | C1, operators create, delete and look up sets, open sessions and read the directory ([`history`]) | an order explains every answer | the same |
//! | C2 ([`watch`]) | nobody handles anything after the end of its lease | the same |
//! | C3, streams of stamped messages over two hops | exact | exact where no shard was placed anew; nothing twice or late anywhere; reports of loss name moved shards only |
//! | the flights application | the tables of the serial computation | not run: lost state is missing in them |
//! | C7 | exact; nothing dead-lettered, nothing lost | quiet: nothing stays in flight |
//! | C10 | every shard in effect again | the same within lease + 2 s and the start of a process; then every stream works |
//! | no process panicked or ended by itself, except coordinators that cannot write, with a line that says so | yes | yes |

pub mod cgroup;
pub mod disks;
pub mod history;
pub mod load;
pub mod machines;
pub mod network;
pub mod plan;
pub mod preload;
pub mod watch;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ringfleet::local::{Kind, LocalCluster, Signal};
use ringfleet::proxy::{UdpProxy, Weather};
use ringfleet_env::{Env, Instant};
use ringfleet_proto::control::{AdminAnswer, AdminVerb};

use self::history::History;
use self::machines::Machines;
use self::plan::{ENDED_WITHIN, Event, Fault, Plan, Severity};
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
/// How long the kernel may take to find whom to kill for want of memory.
const KILLED_WITHIN: Duration = Duration::from_secs(20);
/// Operators that work at once.
const OPERATORS: u64 = 2;
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
    /// Every fault once, one after the other, instead of a plan by seed.
    pub each: bool,
}

impl Options {
    /// 3 coordinators and 4 nodes, in namespaces if that is permitted.
    #[must_use]
    pub fn new(seed: u64, severity: Severity, span: Duration) -> Self {
        Self { seed, severity, span, coordinators: 3, nodes: 4, loopback: false, each: false }
    }
}

/// Runs a plan to its end. What happened, in lines of text.
///
/// # Errors
/// What did not hold.
pub async fn run(env: &Env, executable: &str, options: &Options) -> Result<String> {
    let names = |prefix: &str, count: u16| (1..=count).map(|at| format!("{prefix}{at}")).collect::<Vec<_>>();
    let (coordinators, nodes) = (names("c", options.coordinators), names("n", options.nodes));
    let machines = Machines::of(&[coordinators.clone(), nodes.clone()].concat(), options.loopback)?;
    let available = machines.available();
    let plan = if options.each {
        Plan::of_each(options.seed, options.severity, &coordinators, &nodes, &available)
    } else {
        Plan::of(options.seed, options.severity, options.span, &coordinators, &nodes, &available)
    };
    let mut report = format!("seed {}, {:?}, {machines}\n", options.seed, options.severity);
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
            (config.proxied, config.lease_ms, config.hosts) = (true, Some(lease_ms), machines.hosts());
        },
        |local| {
            machines.attach(local)?;
            for node in local.processes().iter().filter(|process| process.kind == Kind::Node) {
                proxies.insert(node.name.clone(), UdpProxy::start(env, node.advertise, node.listen)?);
            }
            Ok(())
        },
    )
    .await?;
    // After an error, too, and before the cluster ends.
    let thawed = machines.thawed_at_last();
    let mut streams = Streams::prepare(&cluster, STREAMS).await?;
    let mut flights = if gentle { Some(load::Flights::prepare(&cluster).await?) } else { None };
    let before = load::shards(&cluster).await?;

    let over = AtomicBool::new(false);
    // The first error ends the others, as the last fault does: none of them waits for anything that another does.
    let end = || over.store(true, Ordering::Relaxed);
    let history = History::default();
    let pages = cluster.local.processes().iter().filter(|process| process.kind == Kind::Node);
    let pages: Vec<_> = pages.map(|node| (node.name.clone(), node.http.to_string())).collect();
    let operator = |number| history.operate(env, &cluster.client, options.seed * OPERATORS + number, &over);
    let mut inflicting = Inflicting {
        env,
        local: &mut cluster.local,
        machines: &machines,
        proxies: &proxies,
        ended: Vec::new(),
        ending: Vec::new(),
    };
    let all = async {
        tokio::join!(
            async { load::send(env, &mut streams, flights.as_mut(), &over).await.inspect_err(|_| end()) },
            async { inflicting.run(&plan, &over).await.inspect(|()| end()).inspect_err(|_| end()) },
            async { watch::watch(env, &pages, &over).await.inspect_err(|_| end()) },
            async { operator(0).await.inspect_err(|_| end()) },
            async { operator(1).await.inspect_err(|_| end()) },
        )
    };
    let all = env.timeout(plan.over() + 2 * PATIENCE, all).await.context("the load to go on after the last fault")?;
    let (sent, inflicted, watched, first, second) = all;
    inflicted?;
    sent?;
    first?;
    second?;
    let (looks, stopped) = (watched?, inflicting.ended);
    for event in &stopped {
        println!("ended by itself, and said why: {event}");
    }
    cluster.local.wait_ready(env.now() + PATIENCE).await.map_err(anyhow::Error::msg)?;
    let healed_at = env.now();
    in_effect(&cluster, options.nodes).await?;
    let placed = env.now() - healed_at;
    let bound = Duration::from_millis(lease_ms.into()) + PLACED_WITHIN + START;
    ensure!(placed < bound, "C10: every shard was in effect {placed:?} after the last fault");
    let sent = streams.sent * STREAMS;
    println!("{sent} stamped messages; every shard in effect {placed:?} after all processes were ready");

    let operations = history.check(env, &cluster.client).await?;
    println!(
        "C1: {operations} operations on sets in an order; C2: {looks} looks at nodes after the end of their leases"
    );
    if options.each {
        let unable =
            plan.events.iter().filter(|event| event.process.starts_with('c') && event.fault.ends_coordinators());
        for event in unable {
            ensure!(stopped.contains(event), "a coordinator went on although it could not write: {event}");
        }
    }
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
    drop(thawed);
    cluster.stop().await?;
    drop(machines);
    Ok(report)
}

/// Lets the events of a plan happen.
struct Inflicting<'a> {
    env: &'a Env,
    local: &'a mut LocalCluster,
    machines: &'a Machines,
    proxies: &'a BTreeMap<String, UdpProxy>,
    /// What made a process end by itself, as it may.
    ended: Vec<Event>,
    /// What is over and may have made a process end all the same: ending takes a while. Until when.
    ending: Vec<(Instant, Event)>,
}

impl Inflicting<'_> {
    /// Lets all of them happen until `over`, and ends every one.
    async fn run(&mut self, plan: &Plan, over: &AtomicBool) -> Result<()> {
        let begun = self.env.now();
        let mut steps: Vec<(Duration, bool, usize)> = Vec::new();
        for (index, event) in plan.events.iter().enumerate() {
            steps.extend([(event.at, true, index), (event.at + event.lasts, false, index)]);
        }
        steps.sort();
        for (at, begins, index) in steps {
            self.env.sleep_until(begun + at).await;
            if over.load(Ordering::Relaxed) {
                // Something else has failed.
                break;
            }
            self.look_after_all()?;
            let event = &plan.events[index];
            self.step(event, begins).await.with_context(|| format!("{event}"))?;
        }
        while !self.ending.is_empty() {
            self.look_after_all()?;
            self.env.sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn look_after_all(&mut self) -> Result<()> {
        for (until, event) in std::mem::take(&mut self.ending) {
            let ended = self.look_after(&event).with_context(|| format!("{event}"))?;
            if !ended && self.env.now() < until {
                self.ending.push((until, event));
            }
        }
        Ok(())
    }

    async fn step(&mut self, event: &Event, begins: bool) -> Result<()> {
        let (local, machines, name) = (&mut *self.local, self.machines, event.process.as_str());
        match (&event.fault, begins) {
            (Fault::Stopped, true) => local.signal(name, Signal::STOP).map_err(anyhow::Error::msg)?,
            (Fault::Stopped, false) => local.signal(name, Signal::CONT).map_err(anyhow::Error::msg)?,
            (Fault::Frozen, begins) => machines.freezer(name)?.freeze(begins)?,
            (Fault::Killed, true) => local.kill(name).await.map_err(anyhow::Error::msg)?,
            (Fault::OutOfMemory, true) => self.exhaust(name).await?,
            (Fault::Killed | Fault::OutOfMemory, false) => local.start(name).map_err(anyhow::Error::msg)?,
            (Fault::Unplugged, begins) => machines.network.plug(name, !begins)?,
            (Fault::Weather(weather), begins) => {
                let proxy = self.proxies.get(name).with_context(|| format!("{name} has no proxy"))?;
                proxy.set_weather(if begins { *weather } else { Weather::default() });
            }
            (Fault::Filtered(filter), true) => machines.network.filter(name, &[*filter])?,
            (Fault::Filtered(_), false) => machines.network.filter(name, &[])?,
            (Fault::Throttled(kbit), begins) => machines.network.throttle(name, begins.then_some(*kbit))?,
            (Fault::Clock(ahead_ms, ppm), begins) => {
                let (ahead_ms, ppm) = if begins { (*ahead_ms, *ppm) } else { (0, 0) };
                machines.words(name)?.set_clock(ahead_ms, ppm, self.env.now().as_ns())?;
            }
            (Fault::SyncsSlow(ms), begins) => machines.words(name)?.slow_syncs(if begins { *ms } else { 0 })?,
            (Fault::SyncsFail, begins) => machines.words(name)?.fail_syncs(begins)?,
            (Fault::DataFull | Fault::LogFull, begins) => {
                let disk = machines.disk(name, event.fault == Fault::LogFull)?;
                if begins { disk.fill()? } else { disk.free()? }
            }
        }
        if !begins && !matches!(event.fault, Fault::Killed | Fault::OutOfMemory) {
            let ended = self.look_after(event)?;
            if !ended && event.fault.ends_coordinators() {
                self.ending.push((self.env.now() + ENDED_WITHIN, event.clone()));
            }
        }
        Ok(())
    }

    /// Uses up the memory of a process until the kernel has killed it.
    async fn exhaust(&mut self, name: &str) -> Result<()> {
        let group = self.machines.memory(name)?;
        let killed = group.killed()?;
        let process = self.local.process(name).map_err(anyhow::Error::msg)?.pid.context("it does not run")?;
        let mut hog = group.exhaust(process)?;
        let deadline = self.env.now() + KILLED_WITHIN;
        let ended = loop {
            match self.local.is_running(name).map_err(anyhow::Error::msg) {
                Ok(true) if self.env.now() < deadline => self.env.sleep(Duration::from_millis(10)).await,
                other => break other,
            }
        };
        let hog = hog.kill().and_then(|()| hog.wait());
        group.limit(None)?;
        hog.context("ending what took the memory")?;
        ensure!(!ended?, "it runs although its memory is used up");
        ensure!(group.killed()? > killed, "it ended, and the kernel did not kill it");
        Ok(())
    }

    /// A process runs on after a fault, or has ended for a reason that its last line says: a coordinator that cannot write, and a node that
    /// has never joined and whose clock is off. Then it is started again; says whether it was.
    fn look_after(&mut self, event: &Event) -> Result<bool> {
        let name = event.process.as_str();
        if self.local.is_running(name).map_err(anyhow::Error::msg)? {
            return Ok(false);
        }
        let process = self.local.process(name).map_err(anyhow::Error::msg)?;
        let log = std::fs::read_to_string(&process.log)?;
        let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let (kind, why) = match event.fault {
            Fault::SyncsFail => (Kind::Coordinator, "Input/output error"),
            Fault::DataFull => (Kind::Coordinator, "No space left on device"),
            Fault::Clock(..) => (Kind::Node, "refused (clock_off)"),
            _ => bail!("it has ended by itself: {last}"),
        };
        ensure!(process.kind == kind && last.contains(why), "it has ended by itself: {last}");
        self.ended.push(event.clone());
        self.local.start(name).map_err(anyhow::Error::msg)?;
        Ok(true)
    }
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
