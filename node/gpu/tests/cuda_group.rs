//! GPUs of one node that send to each other, each in a device process of its own, as one device. Without two GPUs that reach each other
//! these tests say `not run` and pass; with `RINGFLEET_REQUIRE_GPUS=2` they fail then. Those over NVSHMEM need its host library, too, and fail
//! without it if `RINGFLEET_REQUIRE_NVSHMEM` is set. The device processes are this test's executable, started again with a variable set.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use common::processes::{PART, launch};
use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{
    ActorId, Control, Envelope, Epoch, Flags, KeySpace, RestartMode, RouteTarget, SessionId, SetId, ShardId,
    ShardIndex, Status, WorkerIndex,
};
use ringfleet_actor::TypeDescriptor;
use ringfleet_actor::prelude::*;
use ringfleet_actor::testing::Town;
use ringfleet_env::{Clock, SystemClock};
use ringfleet_gpu::Device;
use ringfleet_gpu::cuda::compile::{compile, nvrtc_version};
use ringfleet_gpu::cuda::look::look;
use ringfleet_gpu::cuda::nvshmem::Nvshmem;
use ringfleet_gpu::cuda::types::device_types;
use ringfleet_gpu::process::{GpuConfig, GroupDevice, GroupFabric, Launch, ProcessDevice, Role, serve, start_group};
use ringfleet_kernels::{Arch, Geometry, Unit, Variant};
use rustix::process::{Pid, Signal, kill_process};

const SET: SetId = SetId(3);
const SHARDS: u16 = 512;
const GPU: &str = "RINGFLEET_TEST_GPU";
/// Nothing here takes so long.
const WAIT_NS: u64 = 60_000_000_000;

/// Puts one more ball into play.
#[message]
pub struct Serve {
    /// How often it is thrown again.
    pub ttl: u32,
    /// The keys are `0..actors`.
    pub actors: u32,
}

/// Goes from player to player.
#[message]
pub struct Ball {
    /// How many its thrower had thrown in this lane before.
    pub number: u32,
    /// Which of the catcher's neighbours threw it.
    pub lane: u32,
    /// How often it is thrown again.
    pub ttl: u32,
    /// The keys are `0..actors`.
    pub actors: u32,
}

/// Asks for [`Score`].
#[message]
pub struct ScoreAsked {}

/// What a player has seen.
#[message]
pub struct Score {
    /// Balls that came.
    pub balls: u64,
    /// Those of them that were not the next of their lane.
    pub wrong: u64,
}

/// Throws to four others, and is thrown to by four others, each in a lane of its own: so numbers in a lane come in order, or order
/// between a pair of actors is broken.
#[actor(name = "test.player", width = lane, max_sends = 1)]
#[derive(Default)]
pub struct Player {
    caught: [u32; 4],
    thrown: [u32; 4],
    balls: u64,
    wrong: u64,
}

#[handlers]
impl Player {
    fn on_serve(&mut self, m: &Serve, ctx: &mut Ctx) {
        self.throw(m.ttl, m.actors, ctx)
    }

    fn on_ball(&mut self, m: &Ball, ctx: &mut Ctx) {
        let lane = (m.lane % 4) as usize;
        if self.caught[lane] != m.number {
            self.wrong += 1;
        }
        self.caught[lane] = m.number.wrapping_add(1);
        self.balls += 1;
        if m.ttl > 0 {
            self.throw(m.ttl - 1, m.actors, ctx)
        }
    }

    fn on_score_asked(&mut self, _m: &ScoreAsked, ctx: &mut Ctx) {
        ctx.reply(&Score { balls: self.balls, wrong: self.wrong })
    }

    fn throw(&mut self, ttl: u32, actors: u32, ctx: &mut Ctx) {
        let mixed = (ctx.key().wrapping_add(self.balls)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let lane = (mixed % 4) as usize;
        let apart = match lane {
            0 => 1,
            1 => actors as u64 / 4 + 3,
            2 => actors as u64 / 3 + 5,
            _ => actors as u64 / 2 + 7,
        };
        let number = self.thrown[lane];
        self.thrown[lane] = number.wrapping_add(1);
        let to = (ctx.key() + apart) % actors as u64;
        ctx.tell(Player::at(to), &Ball { number, lane: lane as u32, ttl, actors })
    }
}

fn types() -> Vec<&'static TypeDescriptor> {
    ringfleet_actor::types![Player]
}

/// The main of the device processes. As a test it does nothing.
#[test]
fn as_a_started_process() {
    if std::env::var(PART).as_deref() != Ok("device") {
        return;
    }
    let ordinal = std::env::var(GPU).expect("which GPU").parse().expect("a number");
    let cache: PathBuf = std::env::temp_dir().join("ringfleet-cubin");
    let socket = std::io::stdin().as_fd().try_clone_to_owned().expect("standard input");
    if let Err(error) = serve(&Role::Gpu { ordinal, cache }, &types(), Arc::new(SystemClock), socket) {
        eprintln!("the device process: {error}");
    }
    std::process::exit(0);
}

/// Ordinals of two GPUs that reach each other.
fn two_gpus() -> Option<[u32; 2]> {
    let seen = look();
    let pair = seen.gpus.iter().find_map(|one| {
        let other = seen.gpus.iter().find(|other| one.peers.contains(&other.uuid))?;
        Some([one.ordinal, other.ordinal])
    });
    if pair.is_none() || seen.nvrtc.is_err() {
        let why = format!("{} GPUs, driver {:?}, nvrtc {:?}", seen.gpus.len(), seen.driver, seen.nvrtc);
        let required = std::env::var("RINGFLEET_REQUIRE_GPUS").is_ok_and(|count| count.parse() != Ok(1_u32));
        assert!(!required, "RINGFLEET_REQUIRE_GPUS is set: no two GPUs that reach each other: {why}");
        println!("not run: no two GPUs that reach each other: {why}");
        return None;
    }
    pair
}

/// Ordinals of two GPUs that reach each other, where the fabric can be used.
fn two_gpus_over(fabric: GroupFabric) -> Option<[u32; 2]> {
    let gpus = two_gpus()?;
    if fabric == GroupFabric::Nvshmem
        && let Err(error) = Nvshmem::load()
    {
        assert!(std::env::var_os("RINGFLEET_REQUIRE_NVSHMEM").is_none(), "RINGFLEET_REQUIRE_NVSHMEM is set: {error}");
        println!("not run: {error}");
        return None;
    }
    Some(gpus)
}

fn start(gpus: [u32; 2], fabric: GroupFabric) -> GroupDevice<ProcessDevice> {
    let a_launch = |gpu: u32| {
        let mut launch: Launch = launch("device", Duration::from_secs(90));
        launch.env.push(("CUDA_MODULE_LOADING".into(), "EAGER".into()));
        launch.env.push((GPU.into(), gpu.to_string().into()));
        launch
    };
    let config = GpuConfig { arena_bytes: Some(1 << 30), fabric, ..GpuConfig::DEFAULT };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let members = start_group(gpus.map(a_launch).into(), &config, &types(), &clock).expect("a group");
    GroupDevice::new(members)
}

/// Drives the device until the condition holds.
fn wait<T>(
    device: &mut GroupDevice<ProcessDevice>,
    what: &str,
    mut done: impl FnMut(&mut GroupDevice<ProcessDevice>) -> Option<T>,
) -> T {
    let until_ns = SystemClock.monotonic_ns() + WAIT_NS;
    loop {
        if let Some(value) = done(device) {
            return value;
        }
        let why: Vec<_> = device.members().iter().map(ProcessDevice::why_lost).collect();
        assert!(SystemClock.monotonic_ns() < until_ns, "waited too long for {what}: {why:?} {:?}", device.total());
        std::thread::yield_now();
    }
}

fn await_statuses(
    device: &mut GroupDevice<ProcessDevice>,
    what: &str,
    mut count: u32,
    wanted: impl Fn(&Status) -> bool,
) {
    wait(device, what, |device| {
        while let Some(status) = device.poll_status() {
            count -= u32::from(wanted(&status));
        }
        (count == 0).then_some(())
    });
}

fn submit(device: &mut GroupDevice<ProcessDevice>, control: Control) {
    wait(device, "room for a control", |device| device.submit(control).ok());
}

/// Players on all workers of both GPUs. The routes come in many commits, all of them under way at once for the driver.
fn deploy(device: &mut GroupDevice<ProcessDevice>, actors: u32) {
    let (keys, tag) = (KeySpace::Dense { count: actors.into() }, fnv1a32(b"test.player"));
    let (restart, type_index, actors_per_shard) = (RestartMode::Stop, Some(0), actors / u32::from(SHARDS) + 1);
    submit(device, Control::AddSet { set: SET, tag, type_index, keys, shards: SHARDS, actors_per_shard, restart });
    let deadline_ns = SystemClock.monotonic_ns() + 3_600_000_000_000;
    submit(device, Control::Lease { deadline_ns });
    for index in 0..SHARDS {
        let (shard, worker) = (ShardId::new(SET, ShardIndex(index)), WorkerIndex(index % device.workers()));
        submit(device, Control::Assign { shard, epoch: Epoch(1), worker });
        submit(device, Control::Route { shard, target: RouteTarget::Worker(worker) });
        if index % 64 == 63 {
            submit(device, Control::RouteCommit { version: u64::from(index / 64) + 1 });
        }
    }
    await_statuses(device, "shards and flushes", u32::from(SHARDS) + 8, |status| {
        matches!(status, Status::Assigned { .. } | Status::RouteFlushed { .. })
    });
}

fn message<M: Message>(key: u64, ask: u32, message: &M) -> Envelope {
    let flags = if ask == 0 { Flags::NONE } else { Flags::ASK };
    message.to_envelope(ActorId::client(SessionId(5), ask), ActorId::new(SET, key), flags)
}

fn push_all(device: &mut GroupDevice<ProcessDevice>, envelopes: &[Envelope]) {
    let mut rest = envelopes;
    wait(device, "room", |device| {
        rest = &rest[device.push_ingress(rest)..];
        rest.is_empty().then_some(())
    });
}

/// The scores of all players.
fn scores(device: &mut GroupDevice<ProcessDevice>, actors: u32) -> Vec<Score> {
    let asks: Vec<Envelope> = (0..actors).map(|key| message(key.into(), key + 1, &ScoreAsked {})).collect();
    let (mut rest, mut scores, mut out) = (&asks[..], Vec::new(), vec![Envelope::default(); 4096]);
    wait(device, "the scores", |device| {
        rest = &rest[device.push_ingress(rest)..];
        let count = device.poll_egress(&mut out);
        scores.extend(out[..count].iter().map(|answer| Score::from_envelope(answer).expect("a score")));
        (scores.len() == asks.len()).then_some(())
    });
    scores
}

#[test]
fn actors_on_two_gpus_get_every_message_in_the_order_of_each_pair() {
    every_message_comes_in_the_order_of_its_pair(GroupFabric::Vmm);
}

#[test]
fn actors_on_two_gpus_over_nvshmem_get_every_message_in_the_order_of_each_pair() {
    every_message_comes_in_the_order_of_its_pair(GroupFabric::Nvshmem);
}

fn every_message_comes_in_the_order_of_its_pair(fabric: GroupFabric) {
    let Some(gpus) = two_gpus_over(fabric) else { return };
    let (actors, balls, ttl) = (65_536_u32, 8_u64, 1_999_u32);
    let began_ns = SystemClock.monotonic_ns();
    let mut device = start(gpus, fabric);
    println!("{fabric:?}: started in {} ms", (SystemClock.monotonic_ns() - began_ns) / 1_000_000);
    println!("{} workers of {:?}", device.workers(), device.members().iter().map(|m| m.facts()).collect::<Vec<_>>());
    deploy(&mut device, actors);
    let serves: Vec<Envelope> =
        (0..balls).flat_map(|_| (0..actors).map(|key| message(key.into(), 0, &Serve { ttl, actors }))).collect();
    let began_ns = SystemClock.monotonic_ns();
    push_all(&mut device, &serves);
    let served = balls * u64::from(actors);
    let (caught, asked) = (served * (u64::from(ttl) + 1), u64::from(actors));
    let total = wait(&mut device, "the last ball", |device| {
        let total = device.total();
        (total.handled == served + caught && total.ingress_done == served).then_some(total)
    });
    let seconds = (SystemClock.monotonic_ns() - began_ns) as f64 / 1e9;
    println!("{caught} messages in {seconds:.2} s: {:.2} G/s", caught as f64 / seconds / 1e9);
    assert_eq!((total.in_flight(), total.dead_total()), (0, 0));
    let each = device.workers() / 2;
    for member in 0..2 {
        let handled: u64 = (0..each).map(|w| device.counters(WorkerIndex(member * each + w)).handled).sum();
        println!("member {member} handled {handled}");
        assert!(handled > total.handled / 4, "both take part");
    }
    let scores = scores(&mut device, actors);
    assert_eq!(scores.iter().map(|score| score.wrong).sum::<u64>(), 0, "messages of a pair came out of order");
    assert_eq!(scores.iter().map(|score| score.balls).sum::<u64>(), caught);
    let total = wait(&mut device, "the counters", |device| {
        let total = device.total();
        (total.egress_out == asked && total.ingress_done == served + asked).then_some(total)
    });
    assert_eq!((total.in_flight(), total.dead_total()), (0, 0));
    wait(&mut device, "actors by set", |device| {
        (device.actors_by_set() == BTreeMap::from([(SET, u64::from(actors))])).then_some(())
    });
    let changes = device.code_changes();
    println!("code: {changes:?}");
    assert!(changes.count >= 2 && changes.standstill_ns > 0, "each of them took the players in while it ran");
    submit(&mut device, Control::Stop);
    await_statuses(&mut device, "the end", 1, |status| *status == Status::Stopped);
}

#[test]
fn a_killed_member_is_named_at_once_and_the_group_starts_again() {
    a_killed_member_is_named_at_once(GroupFabric::Vmm);
}

/// With NVSHMEM the whole group ends with a member, whatever the survivor could still do; the next one has a heap of its own.
#[test]
fn a_killed_member_over_nvshmem_is_named_at_once_and_the_group_starts_again() {
    a_killed_member_is_named_at_once(GroupFabric::Nvshmem);
}

fn a_killed_member_is_named_at_once(fabric: GroupFabric) {
    let Some(gpus) = two_gpus_over(fabric) else { return };
    let actors = 4_096;
    for killed_member in [1_u16, 0] {
        let mut device = start(gpus, fabric);
        deploy(&mut device, actors);
        let serves: Vec<Envelope> =
            (0..actors).map(|key| message(key.into(), 0, &Serve { ttl: u32::MAX, actors })).collect();
        push_all(&mut device, &serves);
        let each = device.workers() / 2;
        let pid = device.members()[usize::from(killed_member)].pid();
        let killed = SystemClock.now();
        kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("killed");
        let lost = wait(&mut device, "the loss", |device| match device.poll_status()? {
            Status::WorkerLost { worker } => Some(worker),
            _ => None,
        });
        let noticed = SystemClock.now() - killed;
        println!("worker {} is lost, noticed after {noticed:?}", lost.0);
        assert_eq!(lost.0 / each, killed_member);
        assert!(noticed <= Duration::from_millis(50), "noticed after {noticed:?}");
        let survivor = &device.members()[usize::from(1 - killed_member)];
        if fabric == GroupFabric::Vmm {
            assert_eq!(survivor.why_lost(), None, "its peer's end harms nobody");
        }
        assert_eq!(device.push_ingress(&serves[..1]), 0);
    }
    let mut device = start(gpus, fabric);
    deploy(&mut device, actors);
    assert_eq!(scores(&mut device, actors).len(), actors as usize);
}

#[test]
fn contrast_players_find_a_ball_that_is_not_the_next_of_its_lane() {
    let actors = 64;
    let mut town = Town::new(TypeRegistry::new(types()).expect("one type"));
    for key in 0..u64::from(actors) {
        town.tell(Player::at(key), &Serve { ttl: 999, actors });
    }
    let sum = |town: &Town, of: fn(&Player) -> u64| {
        (0..u64::from(actors)).filter_map(|key| town.state(key)).map(|player: Player| of(&player)).sum::<u64>()
    };
    assert_eq!((sum(&town, |player| player.balls), sum(&town, |player| player.wrong)), (64_000, 0));
    town.tell(Player::at(0), &Ball { number: u32::MAX, lane: 1, ttl: 0, actors });
    assert_eq!(sum(&town, |player| player.wrong), 1);
}

#[test]
fn device_code_for_groups_compiles() {
    if let Err(error) = nvrtc_version() {
        assert!(std::env::var_os("RINGFLEET_REQUIRE_NVRTC").is_none(), "RINGFLEET_REQUIRE_NVRTC is set: {error}");
        println!("not run: {error}");
        return;
    }
    let types = device_types(&types()).expect("it has device code");
    for devices in [2, 8] {
        let geometry = Geometry::for_group(132, devices);
        let unit = Unit::new(&geometry, Arch { major: 9, minor: 0 }, Variant::default(), &types).expect("possible");
        let cubin = compile(&unit).unwrap_or_else(|error| panic!("{devices} devices: {error}"));
        assert!(cubin.starts_with(b"\x7fELF"), "a cubin is an ELF file");
    }
}
