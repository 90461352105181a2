//! The GPU device keeps what the CPU device keeps. Without a GPU these tests say so and pass; with `RINGFLEET_REQUIRE_GPU=1` they fail
//! then.
#![allow(clippy::disallowed_methods)] // Real time on a real GPU.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringfleet_abi::{
    ActorId, Control, DeadReason, Envelope, Epoch, Flags, KeySpace, RestartMode, RouteTarget, SessionId, SetId,
    ShardId, ShardIndex, Status, Verdict, WorkerCounters, WorkerIndex,
};
use ringfleet_env::{Clock, SystemClock};
use ringfleet_gpu::Device;
use ringfleet_gpu::cuda::compile::compile;
use ringfleet_gpu::cuda::driver::Gpu;
use ringfleet_gpu::cuda::memory_map::Capacity;
use ringfleet_gpu::cuda::{CudaDevice, CudaError};
use ringfleet_kernels::device_type::bench_types;
use ringfleet_kernels::{Arch, DeviceType, Geometry, Kind, Unit, Variant, shipped};

const WAIT: Duration = Duration::from_secs(5);
const COUNTERS: SetId = SetId(5);
const ECHOES: SetId = SetId(9);

fn kind(name: &'static str) -> u16 {
    Kind { name }.number()
}

fn tag(types: &[DeviceType], name: &str) -> u32 {
    types.iter().find(|ty| ty.name == name).expect("a shipped type").tag()
}

fn start() -> Option<CudaDevice> {
    start_with(|geometry| Geometry { spill_slots: 8192, ..geometry }, &shipped())
}

fn start_with(change: impl Fn(Geometry) -> Geometry, types: &[DeviceType]) -> Option<CudaDevice> {
    start_loaded(change, types, types.len())
}

/// With the code of the first `loaded` types.
fn start_loaded(change: impl Fn(Geometry) -> Geometry, types: &[DeviceType], loaded: usize) -> Option<CudaDevice> {
    let gpu = match Gpu::open(0) {
        Ok(gpu) => gpu,
        Err(CudaError::Missing { library, hint }) if std::env::var_os("RINGFLEET_REQUIRE_GPU").is_none() => {
            println!("not run: {library} was not found; {hint}");
            return None;
        }
        Err(error) if std::env::var_os("RINGFLEET_REQUIRE_GPU").is_none() => {
            println!("not run: {error}");
            return None;
        }
        Err(error) => panic!("RINGFLEET_REQUIRE_GPU is set: {error}"),
    };
    let geometry = change(Geometry::for_multiprocessors(gpu.multiprocessors));
    let capacity = Capacity { arena_bytes: 64 << 20, sets: 64, shards: 2048, host_ingress_slots: 1 << 14 };
    let cache = std::env::temp_dir().join("ringfleet-cubin");
    let clock = Arc::new(SystemClock);
    Some(CudaDevice::start_with(gpu, geometry, types, loaded, &capacity, &cache, clock).expect("the device starts"))
}

fn lease(device: &mut CudaDevice, millis: u64) {
    let deadline_ns = SystemClock.monotonic_ns() + millis * 1_000_000;
    device.submit(Control::Lease { deadline_ns }).expect("a lease is always taken");
}

fn await_status(device: &mut CudaDevice, wanted: impl Fn(&Status) -> bool) -> Status {
    let began = Instant::now();
    loop {
        if let Some(status) = device.poll_status()
            && wanted(&status)
        {
            return status;
        }
        assert!(began.elapsed() < WAIT, "no such status in time");
    }
}

fn egress(device: &mut CudaDevice, count: usize) -> Vec<Envelope> {
    let (began, mut all, mut out) = (Instant::now(), Vec::new(), [Envelope::default(); 256]);
    while all.len() < count {
        let taken = device.poll_egress(&mut out);
        all.extend_from_slice(&out[..taken]);
        assert!(began.elapsed() < WAIT, "{} of {count} envelopes came: {:?}", all.len(), device.total());
    }
    all
}

/// Makes a set with all its shards resident, round robin, and routed.
fn deploy(device: &mut CudaDevice, set: SetId, name: &str, keys: KeySpace, shards: u16, actors_per_shard: u32) {
    deploy_of(device, &shipped(), set, name, keys, shards, actors_per_shard, |_| ());
}

#[allow(clippy::too_many_arguments)] // The fields of the control.
fn deploy_of(
    device: &mut CudaDevice,
    types: &[DeviceType],
    set: SetId,
    name: &str,
    keys: KeySpace,
    shards: u16,
    actors_per_shard: u32,
    mut meanwhile: impl FnMut(&mut CudaDevice),
) {
    let type_index = types.iter().position(|ty| ty.name == name).map(|at| at as u16);
    let restart = RestartMode::Stop;
    let tag = tag(types, name);
    let add = Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart };
    let began = Instant::now();
    device.submit(add).expect("taken at once, also while its code is compiled");
    for index in 0..shards {
        let (shard, worker) = (ShardId::new(set, ShardIndex(index)), WorkerIndex(index % device.workers()));
        device.submit(Control::Assign { shard, epoch: Epoch(1), worker }).expect("room");
        device.submit(Control::Route { shard, target: RouteTarget::Worker(worker) }).expect("room");
    }
    let version = u64::from(set.0);
    let (mut assigned, mut committed, mut flushed) = (0, false, false);
    while !flushed || assigned < shards {
        // It leads to shards whose code is being compiled.
        committed = committed || device.submit(Control::RouteCommit { version }).is_ok();
        match device.poll_status() {
            Some(Status::Assigned { .. }) => assigned += 1,
            Some(status) => flushed |= status == Status::RouteFlushed { version },
            None => meanwhile(device),
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{assigned} of {shards} shards, flushed: {flushed}");
    }
}

fn message(number: u32, set: SetId, key: u64, kind: u16, flags: Flags, body: &[u8]) -> Envelope {
    Envelope::new(ActorId::client(SessionId(7), number), ActorId::new(set, key), kind, flags, body).expect("it fits")
}

/// Waits until something is true of the device's counters.
fn until(device: &CudaDevice, done: impl Fn(&WorkerCounters) -> bool) {
    let began = Instant::now();
    while !done(&device.total()) {
        assert!(began.elapsed() < WAIT, "{:?}", device.total());
    }
}

#[test]
fn a_kernel_takes_in_other_types_while_it_works_and_keeps_all_it_has() {
    const HOPS: SetId = SetId(3);
    const ACTORS: u32 = 4096;
    let Some(mut device) = start_loaded(|geometry| geometry, &shipped(), 0) else { return };
    lease(&mut device, 300_000);
    await_status(&mut device, |status| *status == Status::Unfenced);
    deploy(&mut device, HOPS, "hop", KeySpace::Dense { count: u64::from(ACTORS) }, 300, 0);
    // There is always something under way, also when kernels change places.
    let fed = Cell::new(0_u64);
    let feed = |device: &mut CudaDevice| {
        let total = device.total();
        if total.in_flight() > 500 {
            return;
        }
        let steps: Vec<Envelope> = (0..1000_u32)
            .map(|n| {
                let (seed, ttl) = (u64::from(n) + fed.get(), 2000_u32);
                let body = [&seed.to_le_bytes()[..], &ACTORS.to_le_bytes(), &ttl.to_le_bytes()].concat();
                message(0, HOPS, u64::from(n), kind("Step"), Flags::NONE, &body)
            })
            .collect();
        fed.set(fed.get() + device.push_ingress(&steps) as u64);
    };
    let types = shipped();
    let few = KeySpace::Hashed;
    deploy_of(&mut device, &types, COUNTERS, "counter", few, 2, 4, feed);
    // A full shard closes its gate.
    let add = |n: u32, key: u64| message(n, COUNTERS, key, kind("Add"), Flags::NONE, &1_i64.to_le_bytes());
    let fill: Vec<Envelope> = (0..40).map(|n| add(100 + n, 1000 + u64::from(n))).collect();
    assert_eq!(device.push_ingress(&fill), 40);
    until(&device, |total| total.refused > 0 && total.ingress_done == fed.get() + 40);
    let refused = device.total().refused;
    egress(&mut device, refused as usize);
    deploy_of(&mut device, &types, ECHOES, "echo", KeySpace::Dense { count: 10_000 }, 300, 0, feed);
    // It is closed still, until the marker comes.
    assert_eq!(device.push_ingress(&fill[..1]), 1);
    assert_eq!(egress(&mut device, 1)[0].as_verdict().map(|verdict| verdict.0), Some(Verdict::Busy));
    let open: Vec<Envelope> =
        (0..2).map(|shard| Envelope::gate_marker(ShardId::new(COUNTERS, ShardIndex(shard)))).collect();
    assert_eq!(device.push_ingress(&open), 2);
    let before = device.total().handled;
    assert!(before > 0 && device.push_ingress(&fill[..1]) == 1);
    // All three types answer.
    let ask = message(9, ECHOES, 77, kind("Ping"), Flags::ASK, &5_u64.to_le_bytes());
    let read = message(10, COUNTERS, 1000, kind("Read"), Flags::ASK, &[]);
    assert_eq!(device.push_ingress(&[ask, read]), 2);
    let mut answers: Vec<(u16, u8)> = egress(&mut device, 2).iter().map(|a| (a.kind, a.payload[0])).collect();
    answers.sort_unstable();
    let mut right = [(kind("Pong"), 5), (kind("Count"), 2)];
    right.sort_unstable();
    assert_eq!(answers, right);
    // Nothing was lost and nothing came twice.
    let (accepted, wanted) = (40 - refused, fed.get() * 2001);
    until(&device, |total| total.resting() == 0 && total.in_flight() == 0 && total.handled >= wanted + accepted + 3);
    let total = device.total();
    assert_eq!((total.handled, total.dead_total()), (wanted + accepted + 3, 0), "{total:?}");
    println!("{wanted} steps through three kernels");
}

#[test]
fn what_waits_for_the_egress_holds_back_the_acknowledgement_and_the_flush_of_routes() {
    const SLOTS: u64 = 64;
    let small = |geometry| Geometry { workers: 1, ingress_slots: 64, egress_slots: SLOTS as u32, ..geometry };
    let Some(mut device) = start_with(small, &shipped()) else { return };
    lease(&mut device, 60_000);
    deploy(&mut device, ECHOES, "echo", KeySpace::Dense { count: 100 }, 1, 0);
    // Asks of the wrong length: each is answered by a verdict, and nobody takes them.
    // C4: what stands in the spill holds the acknowledgement back, so at some point the ingress stays full.
    let mut sent = 0;
    let mut took = Instant::now();
    while sent < 3 * SLOTS && took.elapsed() < Duration::from_millis(200) {
        let ask = message(sent as u32 + 1, ECHOES, sent % 100, kind("Ping"), Flags::ASK, &[0; 4]);
        if device.push_ingress(&[ask]) != 0 {
            (sent, took) = (sent + 1, Instant::now());
        }
    }
    until(&device, |total| total.dead_total() == sent);
    let done = device.total().ingress_done;
    assert!(sent > SLOTS && done <= SLOTS, "{done} of {sent} acknowledged, {SLOTS} verdicts can be read");
    // C3: the flush of routes is not told before what was sent by the old ones can be read.
    device.submit(Control::RouteCommit { version: 100 }).expect("no commit is under way");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(50) {
        assert!(!matches!(device.poll_status(), Some(Status::RouteFlushed { .. })), "flushed past a full egress");
    }
    let verdicts = egress(&mut device, sent as usize);
    assert!(verdicts.iter().all(|v| v.as_verdict().is_some_and(|verdict| verdict.0 == Verdict::BadMessage)));
    await_status(&mut device, |status| *status == Status::RouteFlushed { version: 100 });
    until(&device, |total| total.ingress_done == sent);
}

/// Asks with 1, 2, ... 512 under way at a time, to actors on all workers: some come to an idle worker alone, some beside others, and the host's
/// memory is read while it is half filled. Each is answered once, with what it asked.
#[test]
fn asks_a_few_at_a_time_are_answered_once_each() {
    const ACTORS: u64 = 100_000;
    const EACH: u32 = 400_000;
    let Some(mut device) = start() else { return };
    lease(&mut device, 600_000);
    deploy(&mut device, ECHOES, "echo", KeySpace::Dense { count: ACTORS }, 300, 0);
    let mut number = 0_u32;
    let mut out = [Envelope::default(); 1024];
    for window in [1_u32, 2, 3, 8, 64, 512] {
        let (first, began) = (number, Instant::now());
        let (mut answered, mut came, mut last) = (vec![false; EACH as usize], 0_u32, Instant::now());
        // A small window is slow: it ends early.
        while came < number - first || (number - first < EACH && began.elapsed() < Duration::from_secs(3)) {
            while number - first < EACH && number - first - came < window && began.elapsed() < Duration::from_secs(3) {
                let ask = number + 1;
                let key = u64::from(ask).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                let body = (u64::from(ask) << 32 | key).to_le_bytes();
                let ping = message(ask, ECHOES, key % ACTORS, kind("Ping"), Flags::ASK, &body);
                if device.push_ingress(&[ping]) == 0 {
                    break;
                }
                number = ask;
            }
            let taken = device.poll_egress(&mut out);
            for answer in &out[..taken] {
                let ask = answer.to().as_client().expect("to the client").1;
                let key = u64::from(ask).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
                assert_eq!(answer.payload[..8], (u64::from(ask) << 32 | key).to_le_bytes(), "{answer:?}");
                let at = ask.wrapping_sub(first + 1) as usize;
                let seen = answered.get_mut(at);
                assert_eq!(
                    seen.as_deref(),
                    Some(&false),
                    "ask {ask} of {first}..{number}, window {window}, {answer:?}"
                );
                answered[at] = true;
                came += 1;
                last = Instant::now();
            }
            if last.elapsed() > Duration::from_secs(1) {
                let lost: Vec<usize> = (0..(number - first) as usize).filter(|at| !answered[*at]).collect();
                panic!("window {window}: no answer to {lost:?} of {}: {:?}", number - first, device.total());
            }
        }
        println!("window {window}: {came} asks answered once each in {:?}", began.elapsed());
    }
    let total = device.total();
    assert_eq!((total.handled, total.dead_total(), total.in_flight()), (u64::from(number), 0, 0), "{total:?}");
}

#[test]
fn a_gpu_answers_counts_refuses_and_obeys_its_lease() {
    let Some(mut device) = start() else { return };
    lease(&mut device, 60_000);
    await_status(&mut device, |status| *status == Status::Unfenced);
    deploy(&mut device, ECHOES, "echo", KeySpace::Dense { count: 10_000 }, 300, 0);
    deploy(&mut device, COUNTERS, "counter", KeySpace::Hashed, 2, 4);

    // Every ask is answered once, by its handler.
    let asks: Vec<Envelope> = (1..=2000_u32)
        .map(|n| message(n, ECHOES, u64::from(n) * 5 % 10_000, kind("Ping"), Flags::ASK, &u64::from(n).to_le_bytes()))
        .collect();
    assert_eq!(device.push_ingress(&asks), 2000);
    let mut numbers: Vec<u32> = egress(&mut device, 2000)
        .iter()
        .map(|answer| {
            let number = answer.to().as_client().expect("to the client").1;
            assert!(answer.flags().has(Flags::REPLY) && answer.kind == kind("Pong"));
            assert_eq!(answer.payload[..8], u64::from(number).to_le_bytes());
            assert!(answer.stamp().wall_ms().abs_diff(SystemClock.wall_ms()) < 250, "C6: {}", answer.stamp());
            number
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=2000).collect::<Vec<_>>());

    // An actor that fails answers with a verdict, and is failed from then on.
    let add = |n, amount: i64| message(n, COUNTERS, 1, kind("Add"), Flags::NONE, &amount.to_le_bytes());
    let read = |n| message(n, COUNTERS, 1, kind("Read"), Flags::ASK, &[]);
    assert_eq!(device.push_ingress(&[add(1, 40), add(2, 2), read(3), add(4, i64::MAX), read(5)]), 5);
    // Who told is not answered, but the host hears that the actor has failed.
    let answers = egress(&mut device, 2);
    assert_eq!(answers[0].payload[..8], 42_i64.to_le_bytes());
    assert_eq!(answers[1].as_verdict().map(|verdict| verdict.0), Some(Verdict::ActorFailed));
    let failed = Status::ActorFailed { actor: ActorId::new(COUNTERS, 1), fault: 2 };
    await_status(&mut device, |status| *status == failed);

    // No such key; wrong length; no reply.
    let bad = [
        message(6, ECHOES, 10_000, kind("Ping"), Flags::ASK, &[0; 8]),
        message(7, ECHOES, 1, kind("Ping"), Flags::ASK, &[0; 4]),
    ];
    assert_eq!(device.push_ingress(&bad), 2);
    for answer in egress(&mut device, 2) {
        assert_eq!(answer.as_verdict().map(|verdict| verdict.0), Some(Verdict::BadMessage));
    }

    // A full shard closes its gate until the marker comes.
    let fill: Vec<Envelope> = (0..40)
        .map(|n| message(100 + n, COUNTERS, 1000 + u64::from(n), kind("Add"), Flags::NONE, &1_i64.to_le_bytes()))
        .collect();
    assert_eq!(device.push_ingress(&fill), 40);
    let began = Instant::now();
    let refused = loop {
        let total = device.total();
        if total.ingress_done == 2000 + 5 + 2 + 40 && total.refused > 0 {
            break total.refused;
        }
        assert!(began.elapsed() < WAIT, "{total:?}");
    };
    let verdicts = egress(&mut device, refused as usize);
    assert!(
        verdicts.iter().all(|v| matches!(v.as_verdict(), Some((Verdict::ShardFull | Verdict::Busy, _)))),
        "{verdicts:?}"
    );

    // C7, in a quiet device.
    let began = Instant::now();
    while (device.total().in_flight(), device.total().resting()) != (0, 0) {
        assert!(began.elapsed() < WAIT, "{:?}", device.total());
    }

    // C2: past the lease nothing is handled; renewed, all of it is.
    lease(&mut device, 0);
    await_status(&mut device, |status| *status == Status::Fenced);
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(20) {
        std::hint::spin_loop();
    }
    assert_eq!(device.push_ingress(&asks[..100]), 100);
    let (fenced, mut out) = (Instant::now(), [Envelope::default(); 16]);
    while fenced.elapsed() < Duration::from_millis(100) {
        assert_eq!(device.poll_egress(&mut out), 0, "C2: an answer after the lease's end");
    }
    lease(&mut device, 60_000);
    assert_eq!(egress(&mut device, 100).len(), 100);

    // A released shard is gone; messages to it are answered.
    let shard = ShardId::new(ECHOES, ShardIndex(0));
    device.submit(Control::Release { shard, epoch: Epoch(1) }).expect("room");
    await_status(&mut device, |status| *status == Status::Released { shard, epoch: Epoch(1) });
    assert_eq!(device.push_ingress(&[message(9, ECHOES, 0, kind("Ping"), Flags::ASK, &[0; 8])]), 1);
    assert_eq!(egress(&mut device, 1)[0].as_verdict().map(|verdict| verdict.0), Some(Verdict::NotResident));

    device.submit(Control::Stop).expect("always taken");
    await_status(&mut device, |status| *status == Status::Stopped);
}

/// Sets timers, forwards, stops: what the shipped types do not.
const ALARM: &str = r"
static constexpr u32 MAX_SENDS = 4;
struct Set { u32 delay_ms; u32 times; u64 first; };
struct Ring { u64 number; };
struct Forward { u64 to; };
struct Rung { u64 rings; u64 errors; };
struct State { u64 rings; u64 errors; u64 last; u64 padding; };
RF_FN void init(State &state) { state.rings = state.errors = state.last = state.padding = 0; }
RF_FN u32 handle(State &state, const Envelope &message, Ctx<MAX_SENDS> &ctx) {
    if (message.kind == KIND_Set) {
        const Set set = body_of<Set>(message);
        for (u32 k = 0; k < set.times; k++) ctx.after(set.delay_ms, KIND_Ring, Ring{set.first + k});
    } else if (message.kind == KIND_Ring) {
        const u64 number = body_of<Ring>(message).number;
        if (number <= state.last || message.from_key != message.to_key) state.errors++;
        state.last = number;
        state.rings++;
    } else if (message.kind == KIND_Forward) {
        ctx.tell(OWN_TAG, body_of<Forward>(message).to, KIND_Ring, Ring{1});
    } else if (message.kind == KIND_Asked) {
        ctx.reply(KIND_Rung, Rung{state.rings, state.errors});
    } else if (message.kind == KIND_Done) {
        ctx.stop();
    } else {
        return FAULT_BAD_MESSAGE;
    }
    return FAULT_NONE;
}
";

fn alarm() -> DeviceType {
    let kinds = ["Set", "Ring", "Forward", "Asked", "Rung", "Done"].into_iter().map(|name| Kind { name }).collect();
    DeviceType { name: "alarm".into(), state_bytes: 32, max_sends: 4, draws: false, kinds, text: ALARM.into() }
}

const ALARMS: SetId = SetId(3);

fn set_timers(actor: u64, delay_ms: u32, times: u32, first: u64) -> Envelope {
    let mut body = [0; 16];
    body[..4].copy_from_slice(&delay_ms.to_le_bytes());
    body[4..8].copy_from_slice(&times.to_le_bytes());
    body[8..].copy_from_slice(&first.to_le_bytes());
    message(0, ALARMS, actor, kind("Set"), Flags::NONE, &body)
}

fn push_all(device: &mut CudaDevice, envelopes: &[Envelope]) {
    let (began, mut pushed) = (Instant::now(), 0);
    while pushed < envelopes.len() {
        pushed += device.push_ingress(&envelopes[pushed..]);
        assert!(began.elapsed() < WAIT, "{pushed} of {} envelopes found room: {:?}", envelopes.len(), device.total());
    }
}

fn await_total(device: &CudaDevice, done: impl Fn(&WorkerCounters) -> bool) -> WorkerCounters {
    let began = Instant::now();
    loop {
        let total = device.total();
        if done(&total) {
            return total;
        }
        assert!(began.elapsed() < WAIT, "{total:?}");
    }
}

fn dead(total: &WorkerCounters, reason: DeadReason) -> u64 {
    total.dead[reason as usize]
}

#[test]
fn timers_of_a_gpu_keep_time_order_and_their_bound_and_a_full_spill_sheds() {
    let types = [alarm()];
    let small = |geometry| Geometry { spill_slots: 1024, egress_slots: 64, timer_slots: 96, ..geometry };
    let Some(mut device) = start_with(small, &types) else { return };
    lease(&mut device, 60_000);
    await_status(&mut device, |status| *status == Status::Unfenced);
    // A shard for each worker, ten actors in each.
    let workers = device.workers();
    let count = u64::from(workers) * 10;
    deploy_of(&mut device, &types, ALARMS, "alarm", KeySpace::Dense { count }, workers, 0, |_| ());

    // Four at once of one delay, and four of a shorter one set later: numbers say in which order they must come.
    let began = Instant::now();
    let later: Vec<Envelope> = (0..count).map(|actor| set_timers(actor, 60, 4, 5)).collect();
    let sooner: Vec<Envelope> = (0..count).map(|actor| set_timers(actor, 20, 4, 1)).collect();
    push_all(&mut device, &later);
    push_all(&mut device, &sooner);
    let pending = await_total(&device, |total| total.handled >= 2 * count);
    assert_eq!(
        (pending.timers_now, pending.in_flight(), pending.resting()),
        (8 * count, 8 * i128::from(count), 8 * i128::from(count))
    );
    await_total(&device, |total| total.timers_now == 0 && total.handled == 10 * count);
    assert!(began.elapsed() >= Duration::from_millis(60), "{:?}", began.elapsed());
    let asks: Vec<Envelope> =
        (0..count).map(|actor| message(actor as u32 + 1, ALARMS, actor, kind("Asked"), Flags::ASK, &[])).collect();
    for some in asks.chunks(500) {
        push_all(&mut device, some);
        for answer in egress(&mut device, some.len()) {
            assert_eq!(answer.payload[..16], [8_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat(), "{answer:?}");
        }
    }

    // An actor that has stopped hears no timer of its former life.
    push_all(&mut device, &[set_timers(7, 10, 3, 1), message(0, ALARMS, 7, kind("Done"), Flags::NONE, &[])]);
    let total = await_total(&device, |total| dead(total, DeadReason::ActorGone) == 3 && total.timers_now == 0);
    assert_eq!((total.in_flight(), total.resting()), (0, 0), "{total:?}");

    // The wheel of worker 0 holds 96 timers.
    let full: Vec<Envelope> = (0..25).map(|n| set_timers(n % 5, 3_600_000, 4, 9)).collect();
    push_all(&mut device, &full);
    let mut none = [Envelope::default(); 4];
    let began = Instant::now();
    while !matches!(device.poll_status(), Some(Status::ActorFailed { fault: 8, .. })) {
        // Events come with what leaves the device.
        assert_eq!(device.poll_egress(&mut none), 0);
        assert!(began.elapsed() < WAIT, "no such status in time");
    }
    await_total(&device, |total| total.timers_now == 96 && total.failures == 1);

    // Nobody takes what worker 1 answers: its ring and its spill fill, and after a while it runs nothing more.
    let asks: Vec<Envelope> =
        (0..2000).map(|n| message(n + 1, ALARMS, 10 + u64::from(n) % 10, kind("Asked"), Flags::ASK, &[])).collect();
    push_all(&mut device, &asks);
    await_total(&device, |total| total.spill_now > 800);
    let forwards: Vec<Envelope> = (0..1000)
        .map(|n| message(0, ALARMS, 20 + n % 10, kind("Forward"), Flags::NONE, &(10 + n % 10).to_le_bytes()))
        .collect();
    push_all(&mut device, &forwards);
    await_total(&device, |total| dead(total, DeadReason::Overloaded) == 1000 && total.overload_rounds > 0);
    let answers = egress(&mut device, 2000);
    let busy = answers.iter().filter(|answer| matches!(answer.as_verdict(), Some((Verdict::Busy, _)))).count();
    let replies = answers.iter().filter(|answer| answer.kind == kind("Rung") && answer.as_verdict().is_none()).count();
    assert!(busy > 0 && replies > 800 && busy + replies == 2000, "{busy} busy, {replies} replies");
    // The gate stays closed until the marker comes (C3).
    let ask = |n| message(n, ALARMS, 10, kind("Asked"), Flags::ASK, &[]);
    push_all(&mut device, &[ask(1)]);
    assert!(matches!(egress(&mut device, 1)[0].as_verdict(), Some((Verdict::Busy, _))));
    push_all(&mut device, &[Envelope::gate_marker(ShardId::new(ALARMS, ShardIndex(1))), ask(2)]);
    assert_eq!(egress(&mut device, 1)[0].kind, kind("Rung"));
    let total = await_total(&device, |total| total.in_flight() == 96);
    assert_eq!((total.resting(), total.refused), (96, busy as u64 + 1), "{total:?}");
}

/// The device code compiles for every architecture. Needs NVRTC and no GPU; with `RINGFLEET_REQUIRE_NVRTC=1` it fails without.
#[test]
fn device_code_compiles_for_every_architecture() {
    let types: Vec<DeviceType> = shipped().into_iter().chain(bench_types()).chain([alarm()]).collect();
    for (major, minor) in [(8, 0), (9, 0), (10, 0)] {
        let variant = Variant { seed: true, ..Variant::default() };
        let geometry = Geometry::for_multiprocessors(132);
        let unit = Unit::new(&geometry, Arch { major, minor }, variant, &types).expect("a possible geometry");
        match compile(&unit) {
            Ok(cubin) => assert!(cubin.starts_with(b"\x7fELF"), "sm_{major}{minor}"),
            Err(CudaError::Missing { library, hint }) if std::env::var_os("RINGFLEET_REQUIRE_NVRTC").is_none() => {
                println!("not run: {library} was not found; {hint}");
                return;
            }
            Err(error) => panic!("sm_{major}{minor}: {error}"),
        }
    }
}
