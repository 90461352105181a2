//! A device in a process of its own keeps what a device in the agent's process keeps, and its end is seen and survived. The device
//! processes are this test's executable, started again with a variable set.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod common;

use std::fs;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use common::processes::*;
use common::*;
use ringfleet_abi::{ActorId, Control, Envelope, Flags, KeySpace, RestartMode, SetId, Status, WorkerIndex};
use ringfleet_actor::TypeDescriptor;
use ringfleet_actor::prelude::*;
use ringfleet_env::{Clock, SystemClock};
use ringfleet_gpu::host_memory::HostMemory;
use ringfleet_gpu::process::shape::Shape;
use ringfleet_gpu::process::{Launch, LaunchError, ProcessDevice, Role, Wanted, serve};
use ringfleet_gpu::{CpuDeviceConfig, Device};
use ringfleet_kernels::layout::HostPage;
use rustix::process::{Pid, Signal, kill_process};

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

fn a_launch(part: &str) -> Launch {
    launch(part, Duration::from_secs(30))
}

fn start(config: &CpuDeviceConfig) -> ProcessDevice {
    let wanted = Wanted::Cpu(config.clone());
    ProcessDevice::start(a_launch("device"), &wanted, &all_types(), Arc::new(SystemClock)).expect("a device process")
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
    wait(&mut device, "actors by set", |device| {
        (device.actors_by_set() == std::collections::BTreeMap::from([(COUNTERS, 100)])).then_some(())
    });
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

#[test]
fn a_device_process_that_is_killed_while_it_is_stopped_is_lost_and_one_that_is_dropped_is_not() {
    for kill in [true, false] {
        let mut device = start(&tiny(1));
        let (witness, pid) = (device.witness(), Pid::from_raw(device.pid()).expect("a process"));
        assert!(!witness.is_lost());
        device.submit(Control::Stop).expect("always taken");
        if kill {
            kill_process(pid, Signal::KILL).expect("killed");
            wait(&mut device, "the loss", |_| witness.is_lost().then_some(()));
        }
        await_status(&mut device, Status::Stopped);
        drop(device);
        assert_eq!(witness.is_lost(), kill, "{:?}", witness.why());
    }
}

/// Stops the device process, so that nobody but the test writes its words.
fn stop_process(device: &ProcessDevice) -> Spy {
    let spy = Spy::on(device.pid() as u32, *device.shape());
    kill_process(Pid::from_raw(device.pid()).expect("a process"), Signal::STOP).expect("stopped");
    let deadline = Deadline::new();
    let stat = format!("/proc/{}/stat", device.pid());
    while !fs::read_to_string(&stat).expect("it lives").contains(") T ") {
        deadline.look_again("the device process goes on");
    }
    spy
}

fn kill(device: &ProcessDevice) {
    kill_process(Pid::from_raw(device.pid()).expect("a process"), Signal::KILL).expect("killed");
}

/// Makes the device process say that its first worker is done with so many.
fn say_done(spy: &Spy, count: u64) {
    // SAFETY: within the page and aligned; both sides only use atomic accesses of this size.
    let word = unsafe { AtomicU64::from_ptr(spy.map.host_page().at(offset_of!(HostPage, ingress_done) / 8)) };
    word.store(count, Ordering::Release);
}

#[test]
fn a_device_that_takes_back_what_it_is_done_with_is_lost_and_its_totals_never_fall() {
    let mut device = start(&CpuDeviceConfig { ingress_slots: 256, ..tiny(1) });
    deploy(&mut device, &[counters(KeySpace::Dense { count: 10 })]);
    let spy = stop_process(&device);
    let adds: Vec<Envelope> = (0..128).map(|n| tell::<Counter, _>(COUNTERS, n % 10, &Add { amount: n })).collect();
    assert_eq!(device.push_ingress(&adds), 128);
    let mut totals = Vec::new();
    for count in [100, 50, u64::MAX, 110] {
        say_done(&spy, count);
        totals.extend([device.ingress_done(WorkerIndex(0)), device.counters(WorkerIndex(0)).ingress_done]);
    }
    assert_eq!(totals, [100; 8]);
    assert_eq!(device.push_ingress(&adds[..1]), 0);
    await_status(&mut device, Status::WorkerLost { worker: WorkerIndex(0) });
    let why = device.why_lost().expect("lost");
    assert!(why.contains("a position in a ring of envelopes that cannot be"), "{why}");
    kill(&device);
}

#[test]
fn nothing_is_acknowledged_for_a_device_whose_verdicts_are_not_believed() {
    let mut device = start(&CpuDeviceConfig { ingress_slots: 256, ..tiny(1) });
    deploy(&mut device, &[counters(KeySpace::Dense { count: 10 })]);
    let spy = stop_process(&device);
    assert_eq!(device.push_ingress(&[tell::<Counter, _>(COUNTERS, 1, &Add { amount: 1 })]), 1);
    // SAFETY: within the page and aligned; both sides only use atomic accesses of this size.
    let tail = unsafe { AtomicU32::from_ptr(spy.map.host_page().at(offset_of!(HostPage, egress_tail) / 4)) };
    tail.store(device.shape().egress_slots + 1, Ordering::Release);
    assert_eq!((device.poll_egress(&mut [Envelope::default()]), device.egress_is_behind()), (0, true));
    say_done(&spy, 1);
    assert_eq!(device.ingress_done(WorkerIndex(0)), 0);
    await_status(&mut device, Status::WorkerLost { worker: WorkerIndex(0) });
    kill(&device);
}

#[test]
fn what_a_killed_device_process_was_done_with_comes_with_its_answers() {
    let mut device = start(&tiny(1));
    deploy(&mut device, &[counters(KeySpace::Dense { count: 10 })]);
    let asks: Vec<Envelope> = (0..10).map(|key| ask::<Counter, _>(COUNTERS, key, key as u32 + 1, &Get {})).collect();
    assert_eq!(device.push_ingress(&asks), 10);
    wait(&mut device, "the asks", |device| (device.ingress_done(WorkerIndex(0)) == 10).then_some(()));
    kill(&device);
    await_status(&mut device, Status::WorkerLost { worker: WorkerIndex(0) });
    assert_eq!(device.ingress_done(WorkerIndex(0)), 10);
    assert_eq!((device.poll_egress(&mut [Envelope::default(); 64]), device.egress_is_behind()), (10, false));
}

/// Resident KiB of this process.
fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("the status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("memory");
    resident.trim().trim_end_matches(" kB").parse().expect("a number")
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
    match agents_task().as_str() {
        "start-and-stop" => {
            let round = || {
                let mut device = start(&tiny(2));
                deploy(&mut device, &[counters(KeySpace::Dense { count: 10 })]);
                push(&mut device, &[ask::<Counter, _>(COUNTERS, 1, 1, &Get {})], &mut Vec::new());
            };
            (0..5).for_each(|_| round());
            let (before, kib_before) = (held(), resident_kib());
            (0..100).for_each(|_| round());
            let (after, kib_after) = (held(), resident_kib());
            println!("\nheld {before:?} {kib_before} {after:?} {kib_after} children {}", children());
            let grown = kib_after.saturating_sub(kib_before);
            println!("verdict {}", before == after && grown < 4096 && children() == 0);
        }
        "lease" => {
            let mut device = start(&tiny(2));
            deploy(&mut device, &[spinners()]);
            assert_eq!(device.push_ingress(&[spin(0), spin(5), spin(9)]), 3);
            println!("\npid {}", device.pid());
            renew_until_killed(&mut device);
        }
        other => panic!("no agent does {other}"),
    }
}

#[test]
fn a_hundred_starts_and_stops_leak_nothing() {
    let mut agent = TestAgent::start(a_launch("agent"), "start-and-stop");
    let held = agent.says("held");
    assert_eq!(agent.says("verdict"), "true", "{held}");
}

fn spin_until(deadline_ns: u64) {
    while SystemClock.monotonic_ns() < deadline_ns {
        std::thread::yield_now();
    }
}

#[test]
fn a_stopped_agents_device_is_quiet_when_the_lease_is_over() {
    let mut agent = TestAgent::start(a_launch("agent"), "lease");
    let pid: i32 = agent.says("pid").parse().expect("a number");
    let spy = Spy::on(agent.id(), Shape::of_cpu(&tiny(2)));
    let first = spy.handled();
    let deadline = Deadline::new();
    while spy.handled() <= first {
        deadline.look_again("nothing moves");
    }
    agent.signal(Signal::STOP);
    let deadline_ns = spy.last_deadline_ns();
    let running = spy.handled();
    assert!(SystemClock.monotonic_ns() < deadline_ns, "the machine is too slow to see the device before the deadline");
    spin_until(deadline_ns + 10_000_000);
    let at_the_end = spy.handled();
    assert!(at_the_end > running, "it went on until the deadline");
    spin_until(deadline_ns + 200_000_000);
    assert_eq!(spy.handled(), at_the_end, "it executed past the lease and 10 ms");
    // An agent that goes on renews, and the device goes on.
    agent.signal(Signal::CONT);
    let deadline = Deadline::new();
    while spy.handled() <= at_the_end {
        deadline.look_again("nothing moves after the agent goes on");
    }
    // And one that is killed leaves no device process behind.
    agent.signal(Signal::KILL);
    let gone = |pid: i32| fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    while !gone(pid) {
        deadline.look_again("the device process outlives its agent");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_a_clear_line() {
    let wanted = Wanted::Cpu(tiny(1));
    let try_to = |launch: Launch| {
        ProcessDevice::start(launch, &wanted, &all_types(), Arc::new(SystemClock)).expect_err("refused")
    };
    let error = try_to(a_launch("other-types"));
    assert!(matches!(error, LaunchError::Mismatch(_)), "{error}");
    assert!(error.to_string().contains("has other actor types: 2 of them, this agent has 3"), "{error}");
    let other = |program: &str, args: &[&str], limit: Duration| Launch {
        program: program.into(),
        args: args.iter().map(Into::into).collect(),
        env: Vec::new(),
        limit,
    };
    let (long, short) = (Duration::from_secs(30), Duration::from_millis(200));
    let error = try_to(other("/bin/false", &[], long));
    assert_eq!(error.to_string(), "the device process ended before it was ready (exit status: 1)");
    let error = try_to(other("/bin/sleep", &["600"], short));
    assert!(error.to_string().starts_with("listening to the device process: "), "{error}");
    let error = try_to(other("/nowhere/ringfleet", &[], long));
    assert!(error.to_string().starts_with("starting the device process: No such file"), "{error}");
    let wanted = Wanted::Cpu(CpuDeviceConfig { ring_slots: 3, ..tiny(1) });
    let error = ProcessDevice::start(a_launch("device"), &wanted, &all_types(), Arc::new(SystemClock));
    let error = error.expect_err("an impossible size").to_string();
    assert!(error.contains("gave up: starting the device: ") && error.contains("`ring_slots` is 3"), "{error}");
}
