//! Assignment, release, routes, lease and stop (C2, C3).

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::*;
use ringfleet_abi::{
    Control, DeadReason, Envelope, Epoch, KeySpace, RouteTarget, SetId, ShardId, ShardIndex, Status, Verdict,
    WorkerIndex,
};
use ringfleet_env::Clock;
use ringfleet_gpu::{CpuDevice, CpuDeviceConfig, Device};

const DENSE: KeySpace = KeySpace::Dense { count: 8 };

fn rig(config: &CpuDeviceConfig) -> Rig {
    Rig::new(config, &[counters(DENSE)])
}

fn shard(index: u16) -> ShardId {
    ShardId::new(COUNTERS, ShardIndex(index))
}

fn add(key: u64) -> Envelope {
    tell::<Counter, _>(COUNTERS, key, &Add { amount: 1 })
}

#[test]
fn a_released_shard_is_empty_and_comes_back_only_at_a_higher_epoch() {
    let mut rig = rig(&tiny(2));
    rig.run(&[add(3)]);
    rig.device.submit(Control::Release { shard: shard(3), epoch: Epoch(9) }).expect("room");
    rig.settle();
    assert!(rig.saw(Status::Released { shard: shard(3), epoch: Epoch(9) }), "that residence never was");
    assert_eq!(rig.total(3), (1, 1), "and the one that is was left alone");

    rig.device.submit(Control::Release { shard: shard(3), epoch: Epoch(1) }).expect("room");
    rig.settle();
    assert!(rig.saw(Status::Released { shard: shard(3), epoch: Epoch(1) }));
    let answer = rig.ask::<Counter, _>(COUNTERS, 3, &Get {});
    assert_eq!(answer.as_verdict().map(|(verdict, _)| verdict), Some(Verdict::NotResident));

    let assign = |epoch, worker| Control::Assign { shard: shard(3), epoch: Epoch(epoch), worker: WorkerIndex(worker) };
    rig.device.submit(assign(1, 1)).expect("room");
    rig.settle();
    assert!(rig.saw(Status::AssignFailed { shard: shard(3), epoch: Epoch(1) }), "C2: epoch 1 has been");
    rig.device.submit(assign(2, 0)).expect("room");
    rig.settle();
    assert!(rig.saw(Status::Assigned { shard: shard(3), epoch: Epoch(2), worker: WorkerIndex(0) }));
    assert_eq!(rig.total(3), (0, 0));
    rig.check_conservation();
}

#[test]
fn a_shard_that_is_leaving_one_worker_is_not_given_to_another() {
    let mut rig = rig(&tiny(2));
    rig.device.submit(Control::Release { shard: shard(1), epoch: Epoch(1) }).expect("room");
    let assign = Control::Assign { shard: shard(1), epoch: Epoch(2), worker: WorkerIndex(0) };
    rig.device.submit(assign).expect("room");
    rig.settle();
    assert!(rig.saw(Status::AssignFailed { shard: shard(1), epoch: Epoch(2) }));
    rig.device.submit(assign).expect("room");
    rig.settle();
    assert!(rig.saw(Status::Assigned { shard: shard(1), epoch: Epoch(2), worker: WorkerIndex(0) }));
}

#[test]
fn what_cannot_be_assigned_is_refused_and_a_repetition_is_answered_again() {
    let mut rig = rig(&tiny(2));
    let wrong = [
        (ShardId::new(SetId(77), ShardIndex(0)), 5, 0),
        (shard(8), 5, 0),
        (shard(0), 5, 0),
        (shard(0), 1, 1),
        (shard(0), 1, 2),
    ];
    for (shard, epoch, worker) in wrong {
        rig.statuses.clear();
        let control = Control::Assign { shard, epoch: Epoch(epoch), worker: WorkerIndex(worker) };
        rig.device.submit(control).expect("room");
        rig.settle();
        assert_eq!(rig.statuses, [Status::AssignFailed { shard, epoch: Epoch(epoch) }], "{control:?}");
    }
    rig.statuses.clear();
    rig.device.submit(Control::Assign { shard: shard(0), epoch: Epoch(1), worker: WorkerIndex(0) }).expect("room");
    rig.settle();
    assert_eq!(rig.statuses, [Status::Assigned { shard: shard(0), epoch: Epoch(1), worker: WorkerIndex(0) }]);
}

#[test]
fn a_route_is_flushed_only_when_everything_sent_before_has_been_consumed() {
    let mut rig = rig(&tiny(2));
    let (w0, w1) = (WorkerIndex(0), WorkerIndex(1));
    // Actor 0 lives in worker 0 and passes 40 messages on to actor 1 in worker 1, which does not run: 8 fill the ring,
    // 32 spill.
    for _ in 0..40 {
        rig.push(&[tell::<Counter, _>(COUNTERS, 0, &Pass { to: 1, amount: 1 })]);
        rig.device.step(w0);
    }
    assert_eq!(rig.device.total().spill_now, 32);
    rig.device.submit(Control::Route { shard: shard(1), target: RouteTarget::Egress }).expect("room");
    rig.device.submit(Control::RouteCommit { version: 2 }).expect("room");
    rig.push(&[tell::<Counter, _>(COUNTERS, 0, &Pass { to: 1, amount: 1 })]);
    for _ in 0..6 {
        rig.device.step(w0);
    }
    rig.drain();
    assert_eq!(rig.out.len(), 1, "the new route leads out");
    assert!(!rig.saw(Status::RouteFlushed { version: 2 }));
    while !rig.saw(Status::RouteFlushed { version: 2 }) {
        let handled = rig.device.counters(w1).handled;
        assert!(rig.device.step_all(), "still on the way at {handled}");
        rig.drain();
    }
    assert_eq!(rig.device.counters(w1).handled, 40);
    rig.settle();
    rig.check_conservation();
}

#[test]
fn a_route_to_nowhere_is_a_dead_letter() {
    let mut rig = rig(&tiny(2));
    rig.device.submit(Control::Route { shard: shard(1), target: RouteTarget::None }).expect("room");
    rig.device.submit(Control::RouteCommit { version: 2 }).expect("room");
    rig.run(&[tell::<Counter, _>(COUNTERS, 0, &Pass { to: 1, amount: 1 })]);
    assert_eq!(rig.device.total().dead[DeadReason::NoSuchSet as usize], 1);
    rig.check_conservation();
}

#[test]
fn a_set_is_forgotten_only_when_no_shard_is_here() {
    let mut rig = rig(&tiny(2));
    rig.device.submit(Control::RemoveSet { set: COUNTERS }).expect("room");
    rig.settle();
    assert_eq!(rig.total(1), (0, 0));
    for index in 0..8 {
        rig.device.submit(Control::Release { shard: shard(index), epoch: Epoch(1) }).expect("room");
    }
    rig.settle();
    rig.device.submit(Control::RemoveSet { set: COUNTERS }).expect("room");
    rig.run(&[add(1)]);
    assert_eq!(rig.device.total().dead[DeadReason::NoSuchSet as usize], 1);
}

#[test]
fn past_its_lease_a_device_keeps_everything_and_goes_on_when_it_is_renewed() {
    let mut rig = rig(&tiny(2));
    let lease = |rig: &Rig, ms: u64| Control::Lease { deadline_ns: rig.clock.monotonic_ns() + ms * 1_000_000 };
    let short = lease(&rig, 10);
    rig.device.submit(short).expect("room");
    rig.run(&[add(1), tell::<Counter, _>(COUNTERS, 2, &Later { amount: 1, delay_ms: 5, times: 1 })]);
    let before = rig.device.total();
    // As after a SIGSTOP: the clock has jumped far beyond the lease.
    rig.advance_ms(60_000);
    rig.run(&[add(1), add(2)]);
    assert_eq!(rig.device.total(), before);
    assert!(rig.saw(Status::Fenced));
    let statuses = rig.statuses.len();
    rig.settle();
    assert_eq!(rig.statuses.len(), statuses, "said once");
    let renewed = lease(&rig, 100_000);
    rig.device.submit(renewed).expect("room");
    rig.settle();
    assert!(rig.saw(Status::Unfenced));
    assert_eq!((rig.total(1), rig.total(2)), ((2, 2), (2, 2)));
    // An earlier deadline than the last fences at once.
    rig.device.submit(Control::Lease { deadline_ns: 0 }).expect("room");
    rig.run(&[add(1)]);
    assert_eq!(rig.device.total().ingress_done, before.ingress_done + 4);
    rig.check_conservation();
}

#[test]
fn controls_are_carried_out_past_the_lease_and_before_a_renewal_takes_effect() {
    let mut rig = rig(&tiny(2));
    rig.run(&[add(1)]);
    rig.device.submit(Control::Lease { deadline_ns: 0 }).expect("room");
    rig.settle();
    rig.push(&[add(1)]);
    rig.device.submit(Control::Release { shard: shard(2), epoch: Epoch(1) }).expect("room");
    rig.settle();
    assert!(rig.saw(Status::Released { shard: shard(2), epoch: Epoch(1) }), "past the lease");
    rig.device.submit(Control::Release { shard: shard(1), epoch: Epoch(1) }).expect("room");
    rig.device.submit(Control::Lease { deadline_ns: u64::MAX }).expect("room");
    rig.settle();
    assert!(rig.saw(Status::Released { shard: shard(1), epoch: Epoch(1) }));
    let total = rig.device.total();
    assert_eq!((total.handled, total.dead[DeadReason::NotResident as usize]), (1, 1), "the stale shard acted");
}

/// A clock that goes on by a step each time it is looked at, so that a lease can end in the midst of a round.
#[derive(Debug, Default)]
struct TickingClock {
    ns: AtomicU64,
    step_ns: AtomicU64,
}

impl Clock for TickingClock {
    fn monotonic_ns(&self) -> u64 {
        self.ns.fetch_add(self.step_ns.load(Ordering::Relaxed), Ordering::Relaxed)
    }
    fn wall_ms(&self) -> u64 {
        WALL_MS
    }
}

#[test]
fn what_a_batch_did_is_seen_by_nobody_if_the_lease_ended_meanwhile() {
    let clock = Arc::new(TickingClock::default());
    let mut device = CpuDevice::stepped(&tiny(1), &types(), clock.clone()).expect("a device");
    make_set(&mut device, counters(DENSE));
    device.submit(Control::RouteCommit { version: 1 }).expect("room");
    device.submit(Control::Lease { deadline_ns: 1 }).expect("room");
    assert!(device.settle(10));
    let before = device.total();
    clock.step_ns.store(1, Ordering::Relaxed);
    device.push_ingress(&[ask::<Counter, _>(COUNTERS, 1, 1, &Get {})]);
    // The round begins at 0, in time, and ends at 1, too late.
    device.step(WorkerIndex(0));
    let mut out = [Envelope::default(); 4];
    assert_eq!((device.poll_egress(&mut out), device.total()), (0, before));
    device.step(WorkerIndex(0));
    assert_eq!((device.poll_egress(&mut out), device.total()), (0, before));
    device.submit(Control::Lease { deadline_ns: u64::MAX }).expect("room");
    device.step(WorkerIndex(0));
    assert_eq!((device.poll_egress(&mut out), device.total().handled, device.total().ingress_done), (1, 1, 1));
}

#[test]
fn a_paused_device_takes_nothing_until_it_is_resumed() {
    let mut rig = rig(&tiny(2));
    rig.device.submit(Control::Pause).expect("room");
    rig.run(&[add(1)]);
    assert_eq!(rig.device.total().ingress_done, 0);
    rig.device.submit(Control::Resume).expect("room");
    rig.settle();
    assert_eq!(rig.total(1), (1, 1));
}

#[test]
fn a_full_control_queue_says_so_and_loses_nothing() {
    let mut rig = rig(&CpuDeviceConfig { control_slots: 32, ..tiny(2) });
    let mut submitted = 0;
    while rig.device.submit(Control::Route { shard: shard(1), target: RouteTarget::Egress }).is_ok() {
        submitted += 1;
    }
    assert_eq!(submitted, 32);
    rig.settle();
    rig.device.submit(Control::RouteCommit { version: 2 }).expect("room again");
    rig.settle();
    assert!(rig.saw(Status::RouteFlushed { version: 2 }));
}

#[test]
fn a_stopped_device_says_so_once() {
    let mut rig = rig(&tiny(2));
    rig.device.submit(Control::Stop).expect("room");
    rig.settle();
    assert_eq!(rig.statuses, [Status::Stopped]);
    rig.settle();
    assert_eq!(rig.statuses, [Status::Stopped]);
}

#[test]
fn actors_are_counted_by_set_as_they_come_and_go() {
    let hashed = SetSpec { set: SetId(8), name: "test.other", ..counters(KeySpace::Hashed) };
    let mut rig = Rig::new(&tiny(2), &[counters(KeySpace::Dense { count: 20 }), hashed]);
    let count = |rig: &Rig, set: SetId| rig.device.actors_by_set().get(&set).copied();
    assert_eq!((count(&rig, COUNTERS), count(&rig, SetId(8))), (Some(0), Some(0)));
    let adds: Vec<Envelope> = (0..15)
        .flat_map(|key| [(COUNTERS, key), (SetId(8), key % 4)])
        .map(|(set, key)| tell::<Counter, _>(set, key, &Add { amount: 1 }))
        .collect();
    rig.run(&adds);
    rig.run(&[tell::<Counter, _>(COUNTERS, 3, &Quit {})]);
    assert_eq!((count(&rig, COUNTERS), count(&rig, SetId(8))), (Some(14), Some(4)));
    let by_set: u64 = rig.device.actors_by_set().values().sum();
    assert_eq!(by_set, rig.device.total().actors_now, "the same by worker");
    for index in 0..hashed.shards {
        let shard = ShardId::new(SetId(8), ShardIndex(index));
        rig.device.submit(Control::Release { shard, epoch: Epoch(1) }).expect("room");
    }
    rig.settle();
    assert_eq!((count(&rig, COUNTERS), count(&rig, SetId(8))), (Some(14), Some(0)));
    rig.device.submit(Control::RemoveSet { set: SetId(8) }).expect("room");
    rig.settle();
    assert_eq!(count(&rig, SetId(8)), None);
}
