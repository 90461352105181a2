//! The same rules with real threads (C3, C7, C9). Waits are for conditions, with a deadline.

mod common;

use std::sync::Arc;

use common::*;
use ringfleet_abi::hash::mix64;
use ringfleet_abi::{Control, Envelope, KeySpace, SetId, Status, WorkerIndex};
use ringfleet_actor::{Code, Ctx, Fault, KindDescriptor, Message, TypeDescriptor, Width};
use ringfleet_env::{Clock, SystemClock};
use ringfleet_gpu::{CpuDevice, CpuDeviceConfig, Device, StartError};

/// Far longer than anything here takes, even on a busy machine.
const DEADLINE_NS: u64 = 60_000_000_000;

struct Live {
    device: CpuDevice,
    out: Vec<Envelope>,
    statuses: Vec<Status>,
    until_ns: u64,
}

impl Live {
    fn new(config: &CpuDeviceConfig, types: &[&'static TypeDescriptor], sets: &[SetSpec]) -> Self {
        let mut device = CpuDevice::start(config, types, Arc::new(SystemClock)).expect("a device");
        sets.iter().for_each(|set| make_set(&mut device, *set));
        device.submit(Control::RouteCommit { version: 1 }).expect("room");
        device.submit(Control::Lease { deadline_ns: u64::MAX }).expect("room");
        let until_ns = SystemClock.monotonic_ns() + DEADLINE_NS;
        let mut live = Self { device, out: Vec::new(), statuses: Vec::new(), until_ns };
        live.wait("routes", |live| live.statuses.contains(&Status::RouteFlushed { version: 1 }));
        live
    }

    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        loop {
            let mut buffer = [Envelope::default(); 64];
            let count = self.device.poll_egress(&mut buffer);
            self.out.extend_from_slice(&buffer[..count]);
            while let Some(status) = self.device.poll_status() {
                self.statuses.push(status);
            }
            if done(self) {
                return;
            }
            assert!(
                SystemClock.monotonic_ns() < self.until_ns,
                "waited too long for {what}: {:?}",
                self.device.total()
            );
            std::thread::yield_now();
        }
    }

    fn push(&mut self, mut envelopes: &[Envelope]) {
        while !envelopes.is_empty() {
            let taken = self.device.push_ingress(envelopes);
            envelopes = &envelopes[taken..];
            self.wait("room in the ingress", |_| true);
        }
    }

    /// Counters of workers that are still running may be of different moments, so rest is when they say so twice.
    fn rest(&mut self, pushed: u64) {
        self.wait("rest", |live| {
            let total = live.device.total();
            total.ingress_done == pushed && total.in_flight() == 0 && live.device.total() == total
        });
    }
}

fn set_of(peer: u64) -> SetId {
    if peer < 32 { PEERS_NEAR } else { PEERS_FAR }
}

#[test]
fn per_pair_order_and_every_message_survive_threads_and_full_rings() {
    let config = CpuDeviceConfig { spill_slots: 1 << 20, ..tiny(3) };
    let mut live = Live::new(&config, &types(), &peers());
    let sparks: Vec<Envelope> = (0..24u64)
        .map(|n| {
            let to = mix64(n) % PEERS;
            tell::<Peer, _>(set_of(to), to, &Packet { from: u64::MAX, seed: mix64(n + 100), seq: 0, ttl: 6 })
        })
        .collect();
    live.push(&sparks);
    live.rest(24);
    let asks: Vec<Envelope> = (0..PEERS).map(|to| ask::<Peer, _>(set_of(to), to, to as u32 + 1, &Report {})).collect();
    live.push(&asks);
    live.wait("reports", |live| live.out.len() as u64 == PEERS);
    let seen: Vec<Seen> = live.out.iter().map(|e| Seen::from_envelope(e).expect("no peer failed")).collect();
    // Each spark is a tree of (4^7 - 1) / 3 packets.
    assert_eq!(seen.iter().map(|seen| seen.received).sum::<u64>(), 24 * 5461);
    assert_eq!(seen.iter().map(|seen| seen.gaps).sum::<u64>(), 0);
    live.rest(24 + PEERS);
    let total = live.device.total();
    assert_eq!((total.failures, total.dead_total()), (0, 0));
    assert!(total.spilled > 0);
    check_conservation(&live.device);
}

#[test]
fn jams_of_threads_come_free_by_overload() {
    let config = CpuDeviceConfig { spill_slots: 70, ..tiny(2) };
    let mut live = Live::new(&config, &types(), &peers());
    let sparks: Vec<Envelope> = (0..16u64)
        .map(|to| tell::<Peer, _>(set_of(to), to, &Packet { from: u64::MAX, seed: mix64(to), seq: 0, ttl: 7 }))
        .collect();
    live.push(&sparks);
    live.rest(16);
    let total = live.device.total();
    assert_eq!(total.failures, 0, "order held for what was handled");
    assert!(total.spilled > 0 && total.handled > 0);
    check_conservation(&live.device);
}

#[test]
fn an_idle_device_wakes_for_every_message() {
    let config = CpuDeviceConfig { spin_ns: 0, ..tiny(2) };
    let mut live = Live::new(&config, &types(), &[counters(KeySpace::Hashed)]);
    for number in 1..=3000u32 {
        let key = u64::from(number % 50);
        // The first goes on to another actor, mostly in the other worker.
        live.push(&[
            tell::<Counter, _>(COUNTERS, key, &Pass { to: key + 1, amount: 1 }),
            ask::<Counter, _>(COUNTERS, key, number, &Get {}),
        ]);
        live.wait("the answer", |live| live.out.pop().is_some_and(|answer| answer.to_key as u32 == number));
        // The host has woken one worker; the other is woken by that one, or only by its next look after 100 ms.
        live.wait("the message passed on", |live| live.device.total().handled == u64::from(number) * 3);
    }
    live.rest(6000);
    assert_eq!(live.device.total().handled, 9000);
}

#[test]
fn timers_wake_a_sleeping_worker() {
    let config = CpuDeviceConfig { spin_ns: 0, ..tiny(1) };
    let mut live = Live::new(&config, &types(), &[counters(KeySpace::Hashed)]);
    live.push(&[tell::<Counter, _>(COUNTERS, 1, &Later { amount: 1, delay_ms: 30, times: 8 })]);
    live.wait("the timers", |live| live.device.total().handled == 9);
    assert_eq!(live.device.total().in_flight(), 0);
}

#[test]
fn a_lease_that_ends_is_noticed_by_sleeping_workers() {
    let mut live = Live::new(&tiny(2), &types(), &[counters(KeySpace::Hashed)]);
    let deadline_ns = SystemClock.monotonic_ns() + 20_000_000;
    live.device.submit(Control::Lease { deadline_ns }).expect("room");
    live.wait("the fence", |live| live.statuses.contains(&Status::Fenced));
    assert!(SystemClock.monotonic_ns() >= deadline_ns);
    live.device.submit(Control::Lease { deadline_ns: u64::MAX }).expect("room");
    live.push(&[ask::<Counter, _>(COUNTERS, 1, 1, &Get {})]);
    live.wait("the answer", |live| live.out.len() == 1);
}

fn panics(_: &mut [u8], _: &Envelope, _: &mut Ctx<'_>) -> Result<(), Fault> {
    panic!("a bug, made for this test")
}

static BUG: TypeDescriptor = TypeDescriptor {
    name: "test.bug",
    width: Width::Lane,
    state_bytes: 16,
    max_sends: 1,
    code_hash: 0,
    layout_hash: 0,
    state: &[],
    kinds: &[KindDescriptor { name: "Get", kind: Get::KIND, bytes: 0, fields: &[] }],
    sends: &[],
    init: |_| (),
    handle: panics,
    code: Code::NONE,
};

static GATE: std::sync::RwLock<()> = std::sync::RwLock::new(());

fn waits(_: &mut [u8], _: &Envelope, _: &mut Ctx<'_>) -> Result<(), Fault> {
    let _open = GATE.read();
    Ok(())
}

static STUCK: TypeDescriptor = TypeDescriptor { name: "test.stuck", handle: waits, ..BUG };

#[test]
fn a_worker_that_does_not_come_back_is_reported_until_it_does() {
    let mut types = types();
    types.push(&STUCK);
    let stuck =
        SetSpec { set: SetId(9), name: "test.stuck", ty: 2, shards: 2, ..counters(KeySpace::Dense { count: 2 }) };
    let config = CpuDeviceConfig { stall_ns: 300_000_000, ..tiny(2) };
    let mut live = Live::new(&config, &types, &[stuck, counters(KeySpace::Dense { count: 8 })]);
    // An idle device is not stalled, however often and late somebody looks; nor is one that nobody looked at for long.
    for at in 0..100 {
        live.device.check_workers(at * 10_000_000_000);
    }
    let closed = GATE.write().expect("nobody panicked");
    live.push(&[tell::<Counter, _>(SetId(9), 0, &Get {})]);
    live.wait("the worker to be in its handler", |live| live.device.total().ingress_done == 0);
    let mut now_ns = 1_000_000_000_000;
    live.wait("the report", |live| {
        now_ns += 1_000_000;
        live.device.check_workers(now_ns);
        live.statuses.contains(&Status::WorkerStalled { worker: WorkerIndex(0) })
    });
    live.push(&[ask::<Counter, _>(COUNTERS, 1, 1, &Get {})]);
    live.wait("the answer of worker 1", |live| live.out.len() == 1);
    assert!(!live.statuses.contains(&Status::WorkerResumed { worker: WorkerIndex(0) }));
    drop(closed);
    live.wait("the resumption", |live| {
        now_ns += 1_000_000;
        live.device.check_workers(now_ns);
        live.statuses.contains(&Status::WorkerResumed { worker: WorkerIndex(0) })
    });
    // Time runs faster here than for threads: worker 1 may seem stalled while the machine lets it wait.
    let stalls = |status: &&Status| **status == Status::WorkerStalled { worker: WorkerIndex(0) };
    assert_eq!(live.statuses.iter().filter(stalls).count(), 1, "{:?}", live.statuses);
}

#[test]
fn a_worker_that_ends_by_a_bug_is_reported_and_the_others_go_on() {
    let mut types = types();
    types.push(&BUG);
    let bugs = SetSpec { set: SetId(9), name: "test.bug", ty: 2, shards: 2, ..counters(KeySpace::Dense { count: 2 }) };
    let mut live = Live::new(&tiny(2), &types, &[bugs, counters(KeySpace::Dense { count: 8 })]);
    live.push(&[tell::<Counter, _>(SetId(9), 0, &Get {})]);
    live.wait("the report", |live| live.statuses.contains(&Status::WorkerLost { worker: WorkerIndex(0) }));
    live.push(&[ask::<Counter, _>(COUNTERS, 1, 1, &Get {})]);
    live.wait("the answer of worker 1", |live| live.out.len() == 1);
    // Dropping it does not hang.
}

#[test]
fn a_device_can_be_dropped_at_any_time_and_an_impossible_one_is_not_made() {
    for sparks in 0..10u64 {
        let mut live = Live::new(&tiny(2), &types(), &peers());
        for seed in 0..sparks {
            live.push(&[tell::<Peer, _>(PEERS_NEAR, 1, &Packet { from: u64::MAX, seed, seq: 0, ttl: 5 })]);
        }
    }
    let none = CpuDevice::start(&CpuDeviceConfig { workers: 0, ..tiny(1) }, &types(), Arc::new(SystemClock));
    assert!(matches!(none, Err(StartError::Config(_))));
}

#[test]
fn a_stopped_device_ends_its_threads() {
    let mut live = Live::new(&tiny(2), &types(), &[]);
    live.device.submit(Control::Stop).expect("room");
    live.wait("the end", |live| live.statuses.contains(&Status::Stopped));
}

/// A driver that sleeps whenever it finds nothing, for far longer than the test may take.
fn sleep_until(live: &mut Live, what: &str, mut done: impl FnMut(&mut Live) -> bool) {
    let waker = ringfleet_env::thread_waker();
    loop {
        live.wait("a look", |_| true);
        if done(live) {
            return;
        }
        live.device.watch(&waker);
        live.wait("another look", |_| true);
        if done(live) {
            return;
        }
        let asleep_ns = SystemClock.monotonic_ns();
        std::thread::park_timeout(std::time::Duration::from_secs(20));
        assert!(SystemClock.monotonic_ns() - asleep_ns < 20_000_000_000, "nobody woke the driver for {what}");
    }
}

#[test]
fn a_sleeping_driver_is_woken_for_egress_progress_and_statuses() {
    let mut live = Live::new(&tiny(2), &types(), &[counters(KeySpace::Dense { count: 8 })]);
    assert!(live.device.can_wake());
    for number in 1..=2000u32 {
        live.push(&[ask::<Counter, _>(COUNTERS, u64::from(number % 8), number, &Get {})]);
        sleep_until(&mut live, "an answer", |live| live.out.pop().is_some());
        live.push(&[tell::<Counter, _>(COUNTERS, u64::from(number % 8), &Add { amount: 1 })]);
        let done = u64::from(number) * 2;
        // By the one counter that acknowledges, which says the same as the whole page.
        let progress = |live: &mut Live| (0..2).map(|w| live.device.ingress_done(WorkerIndex(w))).sum::<u64>() == done;
        sleep_until(&mut live, "progress", progress);
        assert_eq!(live.device.total().ingress_done, done);
    }
    let deadline_ns = SystemClock.monotonic_ns() + 5_000_000;
    live.device.submit(Control::Lease { deadline_ns }).expect("room");
    sleep_until(&mut live, "the fence", |live| live.statuses.contains(&Status::Fenced));
    live.device.submit(Control::Stop).expect("room");
    sleep_until(&mut live, "the end", |live| live.statuses.contains(&Status::Stopped));
}

#[test]
fn less_egress_than_asked_for_is_all_that_was_published() {
    // Three workers publish, with their counters, ever more; a reader with odd buffers must find all that a counter speaks of.
    // Nothing spills: replies in a spill are not published, though their asks are done.
    let config = CpuDeviceConfig { egress_slots: 8192, ..tiny(3) };
    let mut live = Live::new(&config, &types(), &[counters(KeySpace::Dense { count: 48 })]);
    let asks: Vec<Envelope> =
        (1..=6000u32).map(|n| ask::<Counter, _>(COUNTERS, u64::from(n % 48), n, &Get {})).collect();
    let (mut pushed, mut taken) = (0, 0);
    let mut room = 1;
    while taken < asks.len() {
        assert!(SystemClock.monotonic_ns() < live.until_ns, "waited too long: {:?}", live.device.total());
        pushed += live.device.push_ingress(&asks[pushed..asks.len().min(pushed + 64)]);
        // One answer for each ask that is done.
        let done = live.device.total().ingress_done as usize;
        room = room % 37 + 1;
        let mut buffer = vec![Envelope::default(); room];
        loop {
            let count = live.device.poll_egress(&mut buffer);
            taken += count;
            if count < room {
                break;
            }
        }
        assert!(taken >= done, "{done} answers were published, {taken} taken");
    }
    assert_eq!(taken, asks.len());
}
