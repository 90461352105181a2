//! A GPU in a device process keeps what threads in one keep (`process.rs`). Without a GPU these tests say `not run` and pass; with
//! `RINGFLEET_REQUIRE_GPU=1` they fail then. The device processes are this test's executable, started again with a variable set.
#![cfg(target_os = "linux")]

mod common;

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::processes::*;
use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{
    ActorId, Control, Envelope, Epoch, Flags, KeySpace, RestartMode, RouteTarget, SessionId, SetId, ShardId,
    ShardIndex, Status, WorkerIndex,
};
use ringfleet_actor::{Message, TypeDescriptor};
use ringfleet_actors::echo::{Ping, Pong};
use ringfleet_actors::hop::Step;
use ringfleet_env::{Clock, SystemClock};
use ringfleet_gpu::Device;
use ringfleet_gpu::cuda::look::look;
use ringfleet_gpu::cuda::port;
use ringfleet_gpu::process::{GpuConfig, Launch, ProcessDevice, Role, Wanted, serve};
use rustix::process::{Pid, Signal, kill_process};

const SET: SetId = SetId(3);

fn types() -> Vec<&'static TypeDescriptor> {
    ringfleet_actor::types![ringfleet_actors::echo::Echo, ringfleet_actors::hop::Hop]
}

fn cache() -> PathBuf {
    std::env::temp_dir().join("ringfleet-cubin")
}

/// Whether there is a GPU to test with.
fn has_gpu() -> bool {
    let seen = look();
    let why = match (&seen.driver, &seen.nvrtc) {
        (Err(why), _) | (_, Err(why)) => why.clone(),
        _ if seen.gpus.is_empty() => "no GPU".to_owned(),
        _ => return true,
    };
    assert!(std::env::var_os("RINGFLEET_REQUIRE_GPU").is_none(), "RINGFLEET_REQUIRE_GPU is set: {why}");
    println!("not run: {why}");
    false
}

/// The main of the executables that the tests start. As a test it does nothing.
#[test]
fn as_a_started_process() {
    let Ok(part) = std::env::var(PART) else { return };
    let socket = || std::io::stdin().as_fd().try_clone_to_owned().expect("standard input");
    match part.as_str() {
        "device" => {
            let role = Role::Gpu { ordinal: 0, cache: cache() };
            if let Err(error) = serve(&role, &types(), Arc::new(SystemClock), socket()) {
                eprintln!("the device process: {error}");
            }
        }
        "agent" => be_an_agent(),
        other => panic!("no part {other}"),
    }
    std::process::exit(0);
}

fn a_launch(part: &str) -> Launch {
    let mut launch = launch(part, Duration::from_secs(60));
    launch.env.push(("CUDA_MODULE_LOADING".into(), "EAGER".into()));
    launch
}

fn start() -> ProcessDevice {
    let wanted = Wanted::Gpu(GpuConfig { arena_bytes: Some(256 << 20), ..GpuConfig::DEFAULT });
    ProcessDevice::start(a_launch("device"), &wanted, &types(), Arc::new(SystemClock)).expect("a device process")
}

fn await_statuses(device: &mut ProcessDevice, what: &str, mut count: u32, wanted: impl Fn(&Status) -> bool) {
    wait(device, what, |device| {
        while let Some(status) = device.poll_status() {
            count -= u32::from(wanted(&status));
        }
        (count == 0).then_some(())
    });
}

/// A set of 4,096 keys named like its type, on all workers.
fn deploy(device: &mut ProcessDevice, name: &str, type_index: u16) {
    let (keys, shards) = (KeySpace::Dense { count: 4096 }, 256);
    let (tag, restart) = (fnv1a32(name.as_bytes()), RestartMode::Stop);
    let type_index = Some(type_index);
    let add = Control::AddSet { set: SET, tag, type_index, keys, shards, actors_per_shard: 16, restart };
    device.submit(add).expect("room");
    for index in 0..shards {
        let (shard, worker) = (ShardId::new(SET, ShardIndex(index)), WorkerIndex(index % device.workers()));
        device.submit(Control::Assign { shard, epoch: Epoch(1), worker }).expect("room");
        device.submit(Control::Route { shard, target: RouteTarget::Worker(worker) }).expect("room");
    }
    device.submit(Control::RouteCommit { version: 1 }).expect("room");
    lease(device, 3_600_000);
    await_statuses(device, "the set", u32::from(shards) + 1, |status| {
        matches!(status, Status::Assigned { .. } | Status::RouteFlushed { .. })
    });
}

fn message<M: Message>(key: u64, ask: u32, message: &M) -> Envelope {
    let flags = if ask == 0 { Flags::NONE } else { Flags::ASK };
    message.to_envelope(ActorId::client(SessionId(5), ask), ActorId::new(SET, key), flags)
}

/// Asks every key once and checks the answers.
fn ask_all(device: &mut ProcessDevice) {
    let asks: Vec<Envelope> = (0..4096_u32).map(|n| message(n.into(), n + 1, &Ping { value: n.into() })).collect();
    let (mut rest, mut answers, mut out) = (&asks[..], Vec::new(), vec![Envelope::default(); 1024]);
    wait(device, "the answers", |device| {
        rest = &rest[device.push_ingress(rest)..];
        let count = device.poll_egress(&mut out);
        answers.extend_from_slice(&out[..count]);
        (answers.len() == asks.len()).then_some(())
    });
    let mut values: Vec<u64> =
        answers.iter().map(|answer| Pong::from_envelope(answer).expect("a pong").value).collect();
    values.sort_unstable();
    assert!(values.iter().copied().eq(0..4096));
}

#[test]
fn a_gpu_answers_through_its_process_and_ends_in_order() {
    if !has_gpu() {
        return;
    }
    let mut device = start();
    println!("{} workers of {}", device.workers(), device.facts().name);
    deploy(&mut device, "echo", 0);
    ask_all(&mut device);
    let total = wait(&mut device, "the counters", |device| {
        let total = device.total();
        (total.handled == 4096 && total.egress_out == 4096).then_some(total)
    });
    assert_eq!((total.in_flight(), total.ingress_done, total.dead_total()), (0, 4096, 0));
    device.submit(Control::Stop).expect("always taken");
    await_statuses(&mut device, "the end", 1, |status| *status == Status::Stopped);
}

#[test]
fn a_killed_gpu_process_is_noticed_within_50_ms_and_back_within_2_s() {
    if !has_gpu() {
        return;
    }
    for round in 0..3 {
        let mut device = start();
        deploy(&mut device, "hop", 1);
        assert_eq!(device.push_ingress(&[message(0, 0, &Step { seed: 7, actors: 4096, ttl: u32::MAX })]), 1);
        let killed = SystemClock.now();
        kill_process(Pid::from_raw(device.pid()).expect("a process"), Signal::KILL).expect("killed");
        await_statuses(&mut device, "the loss", 1, |status| matches!(status, Status::WorkerLost { .. }));
        let noticed = SystemClock.now() - killed;
        drop(device);
        let mut again = start();
        let back = SystemClock.now() - killed;
        deploy(&mut again, "echo", 0);
        ask_all(&mut again);
        println!("round {round}: noticed after {noticed:?}, another was ready after {back:?}");
        assert!(noticed <= Duration::from_millis(50), "noticed after {noticed:?}");
        assert!(back <= Duration::from_secs(2), "ready after {back:?}");
    }
}

fn be_an_agent() {
    match agents_task().as_str() {
        "start-and-stop" => {
            let rounds: u32 = std::env::var("RINGFLEET_TEST_STARTS").map_or(10, |text| text.parse().expect("a number"));
            let round = || {
                let mut device = start();
                let free = device.facts().memory_free_bytes;
                deploy(&mut device, "echo", 0);
                ask_all(&mut device);
                free
            };
            let free_before = round();
            let before = held();
            let mut free_after = 0;
            (0..rounds).for_each(|_| free_after = round());
            println!("\nheld {before:?} {:?}, {rounds} rounds, free memory {free_before} {free_after}", held());
            println!("verdict {}", before == held() && free_after + (64 << 20) > free_before);
        }
        "lease" => {
            let mut device = start();
            deploy(&mut device, "hop", 1);
            let steps: Vec<Envelope> =
                (0..4096).map(|key| message(key, 0, &Step { seed: key, actors: 4096, ttl: u32::MAX })).collect();
            let mut rest = &steps[..];
            wait(&mut device, "room", |device| {
                rest = &rest[device.push_ingress(rest)..];
                rest.is_empty().then_some(())
            });
            println!("\nshape {}", serde_json::to_string(&device.shape()).expect("text"));
            renew_until_killed(&mut device);
        }
        other => panic!("no agent does {other}"),
    }
}

#[test]
fn starts_and_stops_of_gpu_processes_leak_nothing() {
    if !has_gpu() {
        return;
    }
    let mut agent = TestAgent::start(a_launch("agent"), "start-and-stop");
    let held = agent.says("held");
    println!("{held}");
    assert_eq!(agent.says("verdict"), "true", "{held}");
}

#[test]
fn a_stopped_agents_gpu_is_quiet_when_the_lease_is_over() {
    if !has_gpu() {
        return;
    }
    let mut agent = TestAgent::start(a_launch("agent"), "lease");
    let shape = serde_json::from_str(&agent.says("shape")).expect("a shape");
    let spy = Spy::on(agent.id(), shape);
    let first = spy.handled();
    assert!(spy.handled() > first, "nothing moves");
    agent.signal(Signal::STOP);
    let deadline_ns = spy.last_deadline_ns();
    let running = spy.handled();
    // Deadline and clock are the device's own.
    assert!(port::device_ns(&*spy.map) < deadline_ns, "too late to see the device before the deadline");
    spy.await_device_ns(deadline_ns + 10_000_000);
    let at_the_end = spy.handled();
    spy.await_device_ns(deadline_ns + 200_000_000);
    println!(
        "{} messages between two looks before the deadline, {} after it",
        at_the_end - running,
        spy.handled() - at_the_end
    );
    assert!(at_the_end > running, "it went on until the deadline");
    assert_eq!(spy.handled(), at_the_end, "it executed past the lease and 10 ms");
}
