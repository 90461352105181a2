//! Timers of actors (C7, C9).

mod common;

use common::*;
use ringfleet_abi::{Control, DeadReason, Epoch, KeySpace, ShardId, ShardIndex, Status, Verdict, WorkerIndex};
use ringfleet_actor::Fault;
use ringfleet_gpu::{CpuDeviceConfig, Device};

fn rig() -> Rig {
    Rig::new(&CpuDeviceConfig { timers_max: 32, ..CpuDeviceConfig::DEFAULT }, &[counters(KeySpace::Hashed)])
}

#[test]
fn a_timer_is_in_flight_until_its_time_and_then_handled() {
    let mut rig = rig();
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Later { amount: 5, delay_ms: 30, times: 2 })]);
    let total = rig.device.total();
    assert_eq!((total.sent, total.timers_now, total.in_flight()), (2, 2, 2));
    rig.advance_ms(29);
    assert_eq!(rig.total(1), (0, 0));
    rig.advance_ms(1);
    rig.settle();
    assert_eq!(rig.total(1), (10, 2));
    assert_eq!((rig.device.total().timers_now, rig.device.total().in_flight()), (0, 0));
    rig.check_conservation();
}

#[test]
fn a_timer_too_many_fails_the_actor_and_sets_none() {
    let mut rig = rig();
    for key in 1..=4 {
        rig.run(&[tell::<Counter, _>(COUNTERS, 4 * 1000 + key, &Later { amount: 1, delay_ms: 1000, times: 8 })]);
    }
    let before = rig.device.total().timers_now;
    // Fill whichever worker still has room, then overfill both.
    for key in 0..40 {
        rig.run(&[tell::<Counter, _>(COUNTERS, key, &Later { amount: 1, delay_ms: 1000, times: 8 })]);
    }
    assert!(before <= 64 && rig.device.total().timers_now == 64);
    let failed = rig.device.total().failures;
    assert!(failed > 0);
    let answer = rig.ask::<Counter, _>(COUNTERS, 999, &Later { amount: 1, delay_ms: 1, times: 1 });
    let (verdict, body) = answer.as_verdict().expect("a verdict");
    assert_eq!((verdict, body.fault), (Verdict::HandlerFailed, Fault::TimerFull.code()));
    rig.check_conservation();
    rig.advance_ms(2000);
    rig.settle();
    assert_eq!(rig.device.total().in_flight(), 0);
}

#[test]
fn timers_of_a_stopped_actor_do_not_reach_its_successor() {
    let mut rig = rig();
    rig.run(&[
        tell::<Counter, _>(COUNTERS, 1, &Later { amount: 5, delay_ms: 10, times: 1 }),
        tell::<Counter, _>(COUNTERS, 1, &Quit {}),
        tell::<Counter, _>(COUNTERS, 1, &Later { amount: 7, delay_ms: 10, times: 1 }),
    ]);
    rig.advance_ms(10);
    rig.settle();
    assert_eq!(rig.total(1), (7, 1));
    assert_eq!(rig.device.total().dead[DeadReason::ActorGone as usize], 1);
    rig.check_conservation();
}

#[test]
fn a_fired_timer_that_waits_in_the_own_ring_finds_a_stopped_actor_gone() {
    let mut rig = rig();
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Later { amount: 5, delay_ms: 0, times: 1 })]);
    let fired = rig.device.total();
    assert_eq!(fired.timers_now, 0, "a delay of 0 is due in the next round");
    assert_eq!(rig.total(1), (5, 1));
    // Due now, and the actor stops in the round in which the timer goes into the own ring.
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Later { amount: 5, delay_ms: 1, times: 1 })]);
    rig.advance_ms(1);
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Quit {})]);
    assert_eq!(rig.device.total().dead[DeadReason::ActorGone as usize], 1);
    assert_eq!(rig.device.total().actors_now, 0);
    rig.check_conservation();
}

#[test]
fn a_released_shard_takes_its_timers_along() {
    let mut rig = rig();
    for key in 0..16 {
        rig.push(&[tell::<Counter, _>(COUNTERS, key, &Later { amount: 5, delay_ms: 10, times: 1 })]);
    }
    rig.settle();
    for index in 0..8 {
        let shard = ringfleet_abi::ShardId::new(COUNTERS, ShardIndex(index));
        rig.device.submit(Control::Release { shard, epoch: Epoch(1) }).expect("room");
    }
    rig.settle();
    assert_eq!(rig.statuses.iter().filter(|status| matches!(status, Status::Released { .. })).count(), 8);
    let total = rig.device.total();
    assert_eq!((total.actors_now, total.timers_now), (0, 0));
    assert_eq!(total.dead[DeadReason::ActorGone as usize], 16);
    rig.check_conservation();
}

#[test]
fn timers_fire_by_time_and_equal_ones_in_the_order_they_were_set() {
    let mut rig = rig();
    for (digit, delay_ms) in [(4, 50), (1, 20), (5, 50), (2, 20), (6, 50), (3, 49), (7, 50)] {
        rig.run(&[tell::<Counter, _>(COUNTERS, 1, &DigitLater { digit, delay_ms })]);
    }
    rig.advance_ms(20);
    rig.settle();
    assert_eq!(rig.total(1).0, 12);
    rig.advance_ms(300);
    rig.settle();
    assert_eq!(rig.total(1).0, 1_234_567);
}

#[test]
fn a_fired_timer_of_an_earlier_residence_does_not_reach_the_actor_of_the_next() {
    let mut rig = Rig::new(&tiny(1), &[counters(KeySpace::Hashed)]);
    let worker = WorkerIndex(0);
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Later { amount: 5, delay_ms: 10, times: 1 })]);
    rig.advance_ms(10);
    // The timer goes into the own ring and stays there for a round.
    rig.device.step(worker);
    assert_eq!(rig.device.total().ring_out - rig.device.total().ring_in, 1);
    let shard = ShardId::new(COUNTERS, KeySpace::Hashed.shard_of(8, 1).expect("hashed"));
    rig.device.submit(Control::Release { shard, epoch: Epoch(1) }).expect("room");
    rig.device.submit(Control::Assign { shard, epoch: Epoch(2), worker }).expect("room");
    rig.device.submit(Control::Pause).expect("room");
    rig.device.step(worker);
    rig.device.submit(Control::Resume).expect("room");
    // The ingress comes first in this round or the next: the actor is there again when the timer arrives, or it is gone.
    rig.run(&[tell::<Counter, _>(COUNTERS, 1, &Add { amount: 1 })]);
    assert_eq!(rig.total(1), (1, 1));
    assert_eq!(rig.device.total().dead[DeadReason::ActorGone as usize], 1);
    rig.check_conservation();
}
