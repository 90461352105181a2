//! A device in a process of its own keeps what a device in the agent's process keeps, and its end is seen and survived. The device
//! processes are this test's executable, started again with a variable set.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use ringfleet_abi::{ActorId, Control, Envelope, Flags, KeySpace, RestartMode, SetId, Status, WorkerIndex};
use ringfleet_actor::TypeDescriptor;
use ringfleet_actor::prelude::*;
use ringfleet_env::{Clock, SystemClock};
use ringfleet_gpu::cuda::port;
use ringfleet_gpu::process::shape::Shape;
use ringfleet_gpu::process::shared::SharedMap;
use ringfleet_gpu::process::{Launch, LaunchError, ProcessDevice, Role, Wanted, serve};
use ringfleet_gpu::{CpuDeviceConfig, Device};
use rustix::process::{Pid, Signal, kill_process};

/// Far longer than anything here takes, even on a busy machine.
const WAIT_NS: u64 = 60_000_000_000;
/// What a started executable is to be: `device`, `other-types`, `agent`.
const PART: &str = "RINGFLEET_TEST_PART";
const SPINNERS: SetId = SetId(9);

/// Sent on and on.
#[message]
pub struct Spin {}

/// Sends one message on and on.
#[actor(name = "test.spinner", width = lane)]
#[derive(Default)]
pub struct Spinner {
    turns: u64,
}

#[handlers]
impl Spinner {
    fn on_spin(&mut self, _m: &Spin, ctx: &mut Ctx) {
        self.turns += 1;
        ctx.tell(Spinner::at((ctx.key() + 1) % 16), &Spin {});
    }
}

fn all_types() -> Vec<&'static TypeDescriptor> {
    let mut all = types();
    all.extend(ringfleet_actor::types![Spinner]);
    all
}

/// The main of the executables that the tests start. As a test it does nothing.
#[test]
fn as_a_started_process() {
    let Ok(part) = std::env::var(PART) else { return };
    let socket = || std::io::stdin().as_fd().try_clone_to_owned().expect("standard input");
    match part.as_str() {
        "device" => serve(&Role::Cpu, &all_types(), Arc::new(SystemClock), socket()).expect("served"),
        "other-types" => {
            let _ = serve(&Role::Cpu, &types(), Arc::new(SystemClock), socket());
        }
        "agent" => be_an_agent(),
        other => panic!("no part {other}"),
    }
    std::process::exit(0);
}

fn launch(part: &str) -> Launch {
    Launch {
        program: std::env::current_exe().expect("the executable"),
        args: ["--exact", "as_a_started_process", "--nocapture"].map(Into::into).into(),
        env: vec![(PART.into(), part.into())],
        limit: Duration::from_secs(30),
    }
}

fn start(config: &CpuDeviceConfig) -> ProcessDevice {
    let wanted = Wanted::Cpu(config.clone());
    ProcessDevice::start(launch("device"), &wanted, &all_types(), Arc::new(SystemClock)).expect("a device process")
}

fn lease(device: &mut ProcessDevice, ms: u64) {
    let deadline_ns = SystemClock.monotonic_ns() + ms * 1_000_000;
    device.submit(Control::Lease { deadline_ns }).expect("always taken");
}

/// Drives the device until the condition holds.
fn wait<T>(device: &mut ProcessDevice, what: &str, mut done: impl FnMut(&mut ProcessDevice) -> Option<T>) -> T {
    let until_ns = SystemClock.monotonic_ns() + WAIT_NS;
    loop {
        if let Some(value) = done(device) {
            return value;
        }
        assert!(SystemClock.monotonic_ns() < until_ns, "waited too long for {what}: {:?}", device.why_lost());
        std::thread::yield_now();
    }
}

fn await_status(device: &mut ProcessDevice, wanted: Status) {
    wait(device, &format!("{wanted:?}"), |device| {
        while let Some(status) = device.poll_status() {
            if status == wanted {
                return Some(());
            }
        }
        None
    });
}

fn deploy(device: &mut ProcessDevice, sets: &[SetSpec]) {
    sets.iter().for_each(|set| make_set(device, *set));
    device.submit(Control::RouteCommit { version: 1 }).expect("room");
    lease(device, 3_600_000);
    await_status(device, Status::RouteFlushed { version: 1 });
}

fn spinners() -> SetSpec {
    SetSpec {
        set: SPINNERS,
        name: "test.spinner",
        ty: 2,
        keys: KeySpace::Dense { count: 16 },
        shards: 8,
        actors_per_shard: 16,
        restart: RestartMode::Stop,
    }
}

fn spin(key: u64) -> Envelope {
    Spin {}.to_envelope(ActorId::client(SESSION, 0), ActorId::new(SPINNERS, key), Flags::NONE)
}

fn push(device: &mut ProcessDevice, mut envelopes: &[Envelope], out: &mut Vec<Envelope>) {
    let mut buffer = [Envelope::default(); 64];
    while !envelopes.is_empty() {
        let taken = device.push_ingress(envelopes);
        envelopes = &envelopes[taken..];
        let count = device.poll_egress(&mut buffer);
        out.extend_from_slice(&buffer[..count]);
        assert_eq!(device.why_lost(), None);
    }
}

#[test]
fn asks_are_answered_through_the_process_and_every_message_is_accounted_for() {
    let config = CpuDeviceConfig { spill_slots: 1 << 16, ..tiny(3) };
    let mut device = start(&config);
    assert_eq!(device.workers(), 3);
    assert_eq!(device.runs().collect::<Vec<_>>(), ["test.counter", "test.peer", "test.spinner"]);
    deploy(&mut device, &[counters(KeySpace::Dense { count: 100 })]);
    let mut out = Vec::new();
    let adds: Vec<Envelope> = (0..20_000).map(|n| tell::<Counter, _>(COUNTERS, n % 100, &Add { amount: n })).collect();
    push(&mut device, &adds, &mut out);
    let asks: Vec<Envelope> = (0..100).map(|key| ask::<Counter, _>(COUNTERS, key, key as u32 + 1, &Get {})).collect();
    push(&mut device, &asks, &mut out);
    let mut buffer = [Envelope::default(); 64];
    wait(&mut device, "replies", |device| {
        let count = device.poll_egress(&mut buffer);
        out.extend_from_slice(&buffer[..count]);
        (out.len() == 100).then_some(())
    });
    let totals: Vec<Total> = out.iter().map(|reply| Total::from_envelope(reply).expect("a total")).collect();
    assert_eq!(totals.iter().map(|total| total.messages).sum::<u64>(), 20_000);
    assert_eq!(totals.iter().map(|total| total.sum).sum::<u64>(), (0..20_000).sum::<u64>());
    let total = wait(&mut device, "rest", |device| {
        let total = device.total();
        (total.ingress_done == 20_100 && total.handled == 20_100).then_some(total)
    });
    assert_eq!((total.in_flight(), total.egress_out, total.dead_total()), (0, 100, 0));
    device.submit(Control::Stop).expect("always taken");
    await_status(&mut device, Status::Stopped);
}

#[test]
fn order_and_stamps_hold_between_actors_behind_the_process() {
    let mut device = start(&CpuDeviceConfig { spill_slots: 1 << 20, ..tiny(2) });
    deploy(&mut device, &peers());
    let set_of = |peer: u64| if peer < 32 { PEERS_NEAR } else { PEERS_FAR };
    let sparks: Vec<Envelope> = (0..8_u64)
        .map(|n| tell::<Peer, _>(set_of(n * 7), n * 7, &Packet { from: u64::MAX, seed: n + 100, seq: 0, ttl: 5 }))
        .collect();
    let mut out = Vec::new();
    push(&mut device, &sparks, &mut out);
    // Each spark is a tree of (4^6 - 1) / 3 packets.
    let total = wait(&mut device, "rest", |device| {
        let total = device.total();
        (total.handled + total.dead_total() == 8 * 1365).then_some(total)
    });
    assert_eq!((total.failures, total.dead_total(), total.in_flight()), (0, 0, 0), "{total:?}");
}

#[test]
fn a_killed_device_process_is_noticed_within_50_ms_and_another_can_start() {
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let mut device = start(&tiny(2));
        deploy(&mut device, &[spinners()]);
        assert_eq!(device.push_ingress(&[spin(0)]), 1);
        let pid = Pid::from_raw(device.pid()).expect("a process");
        let killed = SystemClock.now();
        kill_process(pid, Signal::KILL).expect("killed");
        await_status(&mut device, Status::WorkerLost { worker: WorkerIndex(0) });
        fastest = fastest.min(SystemClock.now() - killed);
        assert_eq!(device.poll_status(), None, "told once");
        assert_eq!(device.push_ingress(&[spin(0)]), 0);
        assert_eq!(device.poll_egress(&mut [Envelope::default()]), 0);
        wait(&mut device, "the reason", |device| device.why_lost().filter(|why| why.contains("signal: 9")));
    }
    // The best of five: a machine that is busy with other things may delay any one of them.
    assert!(fastest <= Duration::from_millis(50), "noticed after {fastest:?}");
}

/// Descriptors, threads and resident KiB of this process.
fn held() -> (usize, usize, usize) {
    let count = |folder: &str| fs::read_dir(folder).expect("a folder").count();
    let status = fs::read_to_string("/proc/self/status").expect("the status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("memory");
    let resident = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    (count("/proc/self/fd"), count("/proc/self/task"), resident)
}

/// Processes whose parent this one is.
fn children() -> usize {
    let mut all = 0;
    for task in fs::read_dir("/proc/self/task").expect("a folder").flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        all += text.split_whitespace().count();
    }
    all
}

/// In a process of its own: other tests beside it start processes, too.
fn be_an_agent() {
    match std::env::var("RINGFLEET_TEST_AGENT").expect("what to do").as_str() {
        "start-and-stop" => {
            let round = || {
                let mut device = start(&tiny(2));
                deploy(&mut device, &[counters(KeySpace::Dense { count: 10 })]);
                push(&mut device, &[ask::<Counter, _>(COUNTERS, 1, 1, &Get {})], &mut Vec::new());
            };
            (0..5).for_each(|_| round());
            let before = held();
            (0..100).for_each(|_| round());
            let after = held();
            println!("\nheld {before:?} {after:?} children {}", children());
            let grown = after.2.saturating_sub(before.2);
            println!("verdict {}", (before.0, before.1) == (after.0, after.1) && grown < 4096 && children() == 0);
        }
        "lease" => {
            let mut device = start(&tiny(2));
            deploy(&mut device, &[spinners()]);
            assert_eq!(device.push_ingress(&[spin(0), spin(5), spin(9)]), 3);
            println!("\npid {}", device.pid());
            wait(&mut device, "nothing, until it is killed", |device| -> Option<()> {
                lease(device, 300);
                while device.poll_status().is_some() {}
                std::thread::park_timeout(Duration::from_millis(20));
                None
            });
        }
        other => panic!("no agent does {other}"),
    }
}

/// A test agent. Killed when dropped.
struct TestAgent {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl TestAgent {
    fn start(what: &str) -> Self {
        let launch = launch("agent");
        let mut child = Command::new(launch.program)
            .args(launch.args)
            .envs(launch.env)
            .env("RINGFLEET_TEST_AGENT", what)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("an agent");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    fn says(&mut self, word: &str) -> String {
        loop {
            let line = self.lines.next().expect("the agent says it").expect("a line");
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the agent lives");
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_hundred_starts_and_stops_leak_nothing() {
    let mut agent = TestAgent::start("start-and-stop");
    let held = agent.says("held");
    assert_eq!(agent.says("verdict"), "true", "{held}");
}

/// The shared memory of an agent, seen from outside: device time, deadline and messages handled.
struct Spy {
    map: SharedMap,
}

impl Spy {
    fn on(agent: &TestAgent) -> Self {
        let folder = format!("/proc/{}/fd", agent.child.id());
        let memory = fs::read_dir(folder).expect("its descriptors").flatten().find(|entry| {
            fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().contains("ringfleet-device"))
        });
        let path = memory.expect("the shared memory").path();
        let file = fs::File::options().read(true).write(true).open(path).expect("opened");
        let map = SharedMap::adopt(file.into(), Shape::of_cpu(&tiny(2))).expect("mapped");
        Self { map }
    }

    /// The sum over all workers, fresh.
    fn handled(&self) -> u64 {
        let until_ns = SystemClock.monotonic_ns() + WAIT_NS;
        let total = |spy: &Self| (0..2).map(|worker| spy.map.read_counters(WorkerIndex(worker)).handled).sum();
        while self.map.counters_are_old() {
            assert!(SystemClock.monotonic_ns() < until_ns, "nobody copies counters");
            std::thread::yield_now();
        }
        self.map.ask_counters();
        while self.map.counters_are_old() {
            assert!(SystemClock.monotonic_ns() < until_ns, "nobody copies counters");
            std::thread::yield_now();
        }
        total(self)
    }

    fn deadline_ns(&self) -> u64 {
        port::lease_deadline(&self.map)
    }
}

fn spin_until(deadline_ns: u64) {
    while SystemClock.monotonic_ns() < deadline_ns {
        std::thread::yield_now();
    }
}

#[test]
fn a_stopped_agents_device_is_quiet_when_the_lease_is_over() {
    let mut agent = TestAgent::start("lease");
    let pid: i32 = agent.says("pid").parse().expect("a number");
    let spy = Spy::on(&agent);
    let first = spy.handled();
    let until_ns = SystemClock.monotonic_ns() + WAIT_NS;
    while spy.handled() <= first {
        assert!(SystemClock.monotonic_ns() < until_ns, "nothing moves");
    }
    agent.signal(Signal::STOP);
    // The stop has taken effect when the word stands still; the last renewal is then a past one.
    let mut deadline_ns = spy.deadline_ns();
    let mut stable_since = SystemClock.monotonic_ns();
    while SystemClock.monotonic_ns() - stable_since < 60_000_000 {
        let now = spy.deadline_ns();
        if now != deadline_ns {
            (deadline_ns, stable_since) = (now, SystemClock.monotonic_ns());
        }
        std::thread::yield_now();
    }
    let running = spy.handled();
    assert!(SystemClock.monotonic_ns() < deadline_ns, "the machine is too slow to see the device before the deadline");
    spin_until(deadline_ns + 10_000_000);
    let at_the_end = spy.handled();
    assert!(at_the_end > running, "it went on until the deadline");
    spin_until(deadline_ns + 200_000_000);
    assert_eq!(spy.handled(), at_the_end, "it executed past the lease and 10 ms");
    // An agent that goes on renews, and the device goes on.
    agent.signal(Signal::CONT);
    let until_ns = SystemClock.monotonic_ns() + WAIT_NS;
    while spy.handled() <= at_the_end {
        assert!(SystemClock.monotonic_ns() < until_ns, "nothing moves after the agent goes on");
    }
    // And one that is killed leaves no device process behind.
    agent.signal(Signal::KILL);
    let gone = |pid: i32| fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    while !gone(pid) {
        assert!(SystemClock.monotonic_ns() < until_ns, "the device process outlives its agent");
        std::thread::yield_now();
    }
}

#[test]
fn what_does_not_fit_is_refused_with_a_clear_line() {
    let wanted = Wanted::Cpu(tiny(1));
    let try_to = |launch: Launch| {
        ProcessDevice::start(launch, &wanted, &all_types(), Arc::new(SystemClock)).expect_err("refused")
    };
    let error = try_to(launch("other-types"));
    assert!(matches!(error, LaunchError::Mismatch(_)), "{error}");
    assert!(error.to_string().contains("has other actor types: 2 of them, this agent has 3"), "{error}");
    let other = |program: &str, args: &[&str]| Launch {
        program: program.into(),
        args: args.iter().map(Into::into).collect(),
        env: Vec::new(),
        limit: Duration::from_millis(200),
    };
    let error = try_to(other("/bin/false", &[]));
    assert_eq!(error.to_string(), "the device process ended before it was ready (exit status: 1)");
    let error = try_to(other("/bin/sleep", &["600"]));
    assert!(error.to_string().starts_with("listening to the device process: "), "{error}");
    let error = try_to(other("/nowhere/ringfleet", &[]));
    assert!(error.to_string().starts_with("starting the device process: No such file"), "{error}");
    let wanted = Wanted::Cpu(CpuDeviceConfig { ring_slots: 3, ..tiny(1) });
    let error = ProcessDevice::start(launch("device"), &wanted, &all_types(), Arc::new(SystemClock));
    let error = error.expect_err("an impossible size").to_string();
    assert!(error.contains("gave up: starting the device: ") && error.contains("`ring_slots` is 3"), "{error}");
}
