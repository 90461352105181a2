//! What becomes of actors that fail, and what they draw: one scenario, on the CPU device stepped by hand and on a GPU, with the same
//! numbers (C3, C6, C7). Without a GPU the test of it says so and passes; with `RINGFLEET_REQUIRE_GPU=1` it fails then.
#![allow(missing_docs)]
#![allow(clippy::disallowed_methods)] // Real time on a real GPU.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Add, Break, Counter, Get, Pass, Total, WALL_MS};
use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{
    ActorId, Control, DeadReason, Draws, Envelope, Epoch, Flags, KeySpace, RestartMode, RouteTarget, SessionId, SetId,
    ShardId, ShardIndex, Status, Verdict, WorkerIndex,
};
use ringfleet_actor::prelude::*;
use ringfleet_actor::{Fault, TypeDescriptor};
use ringfleet_env::{Clock, ManualClock, SystemClock};
use ringfleet_gpu::cuda::CudaDevice;
use ringfleet_gpu::cuda::driver::Gpu;
use ringfleet_gpu::cuda::memory_map::Capacity;
use ringfleet_gpu::cuda::types::device_types;
use ringfleet_gpu::{CpuDevice, CpuDeviceConfig, Device, SteppedDevice};
use ringfleet_kernels::Geometry;

#[message]
pub struct Throw {
    pub sides: u64,
}
#[message]
#[derive(Debug, PartialEq)]
pub struct Thrown {
    pub any: u64,
    pub side: u64,
    pub throws: u64,
}
#[message]
pub struct PutAway {}

/// Draws random numbers.
#[actor(name = "test.dice", width = lane)]
#[derive(Default)]
pub struct Dice {
    throws: u64,
}

#[handlers]
impl Dice {
    fn on_throw(&mut self, m: &Throw, ctx: &mut Ctx) {
        self.throws += 1;
        let any = ctx.random();
        ctx.reply(&Thrown { any: any, side: ctx.random_below(m.sides), throws: self.throws });
    }
    fn on_put_away(&mut self, _m: &PutAway, ctx: &mut Ctx) {
        ctx.stop();
    }
}

fn types() -> Vec<&'static TypeDescriptor> {
    ringfleet_actor::types![Counter, Dice]
}

/// Leaves fail to twigs, twigs to boughs.
const LEAVES: SetId = SetId(1);
const TWIGS: SetId = SetId(2);
const BOUGHS: SetId = SetId(3);
const QUICK: SetId = SetId(4);
const ORPHANS: SetId = SetId(5);
const DISTANT: SetId = SetId(6);
const DICE: SetId = SetId(7);
/// The set that [`Pass`] goes to.
const SUMS: SetId = SetId(8);
const SUMMANDS: SetId = SetId(9);
/// Its policy changes while it runs.
const CHANGED: SetId = SetId(10);

const WINDOW_MS: u32 = 200;
const SHARDS: u16 = 8;

fn tag(name: &str) -> u32 {
    fnv1a32(name.as_bytes())
}

fn sets() -> [(SetId, &'static str, u16, KeySpace, RestartMode); 10] {
    let (hashed, few) = (KeySpace::Hashed, KeySpace::Dense { count: 100 });
    let long = RestartMode::Limited { restarts: 2, window_ms: 3_600_000, parent: tag("twigs") };
    let short = RestartMode::Limited { restarts: 1, window_ms: WINDOW_MS, parent: 0 };
    let escalate = |parent| RestartMode::Escalate { parent: tag(parent) };
    [
        (LEAVES, "leaves", 0, hashed, long),
        (TWIGS, "twigs", 0, hashed, escalate("boughs")),
        (BOUGHS, "boughs", 0, few, RestartMode::Restart),
        (QUICK, "quick", 0, few, short),
        (ORPHANS, "orphans", 0, hashed, escalate("nobody")),
        (DISTANT, "distant", 0, hashed, escalate("boughs")),
        (DICE, "test.dice", 1, hashed, RestartMode::Restart),
        (SUMS, "test.counter", 0, hashed, RestartMode::Restart),
        (SUMMANDS, "summands", 0, hashed, escalate("test.counter")),
        (CHANGED, "changed", 0, hashed, RestartMode::Stop),
    ]
}

/// A device and its time.
struct Bench<D> {
    device: D,
    pushed: u64,
    answers: Vec<Envelope>,
    /// Lets the device do what there is to do.
    step: fn(&mut D) -> bool,
    pass_ms: Box<dyn Fn(u64)>,
}

impl<D: Device> Bench<D> {
    fn deploy(&mut self, deadline_ns: u64) {
        let device = &mut self.device;
        device.submit(Control::Lease { deadline_ns }).expect("always taken");
        for (set, name, ty, keys, restart) in sets() {
            let (tag, type_index) = (tag(name), Some(ty));
            let add = Control::AddSet { set, tag, type_index, keys, shards: SHARDS, actors_per_shard: 64, restart };
            device.submit(add).expect("room");
            for index in 0..SHARDS {
                let shard = ShardId::new(set, ShardIndex(index));
                // Sets lie apart, so that what fails tells other workers.
                let worker = WorkerIndex((index + set.0) % device.workers());
                device.submit(Control::Assign { shard, epoch: Epoch(1), worker }).expect("room");
                device.submit(Control::Route { shard, target: RouteTarget::Worker(worker) }).expect("room");
            }
        }
        self.commit(1);
    }

    /// Waits until every worker has what was submitted.
    fn commit(&mut self, version: u64) {
        self.device.submit(Control::RouteCommit { version }).expect("room");
        let began = Instant::now();
        loop {
            (self.step)(&mut self.device);
            match self.device.poll_status() {
                Some(Status::RouteFlushed { version: flushed }) if flushed == version => return,
                Some(Status::AssignFailed { shard, .. }) => panic!("{shard:?} was not assigned"),
                _ => assert!(began.elapsed() < Duration::from_secs(20), "the routes are not flushed"),
            }
        }
    }

    /// Says a set again, with another policy.
    fn change(&mut self, of: SetId, restart: RestartMode, version: u64) {
        let (set, name, ty, keys, _) = sets().into_iter().find(|(set, ..)| *set == of).expect("one of the sets");
        let (tag, type_index) = (tag(name), Some(ty));
        let add = Control::AddSet { set, tag, type_index, keys, shards: SHARDS, actors_per_shard: 64, restart };
        self.device.submit(add).expect("room");
        self.commit(version);
    }

    /// Pushes all, and waits until nothing of it is left to do.
    fn run(&mut self, envelopes: &[Envelope]) {
        assert_eq!(self.device.push_ingress(envelopes), envelopes.len(), "the ingress has room");
        self.pushed += envelopes.len() as u64;
        let (began, mut out) = (Instant::now(), [Envelope::default(); 64]);
        loop {
            let worked = (self.step)(&mut self.device);
            let taken = self.device.poll_egress(&mut out);
            self.answers.extend_from_slice(&out[..taken]);
            while self.device.poll_status().is_some() {}
            let total = self.device.total();
            // What a GPU has finished is known at once, its other counters are copied now and then: they must be as new.
            let taken_in = total.ingress_in + total.refused;
            let quiet =
                (total.in_flight(), total.resting(), total.ingress_done, taken_in) == (0, 0, self.pushed, self.pushed);
            if quiet && !worked && taken == 0 {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{total:?}");
        }
    }

    fn tell<M: Message>(&mut self, set: SetId, key: u64, message: &M) {
        self.run(&[to(set, key, 0, message)]);
    }

    fn ask<M: Message>(&mut self, set: SetId, key: u64, message: &M) -> Envelope {
        self.run(&[to(set, key, 9, message)]);
        let at = self.answers.iter().position(|answer| answer.to_key as u32 == 9).expect("an answer");
        self.answers.remove(at)
    }

    fn total(&mut self, set: SetId, key: u64) -> Result<(u64, u64), Verdict> {
        let answer = self.ask(set, key, &Get {});
        match answer.as_verdict() {
            Some((verdict, _)) => Err(verdict),
            None => Ok(Total::from_envelope(&answer).map(|total| (total.sum, total.messages)).expect("a total")),
        }
    }

    /// Fails an actor that lives; gives the fault that is answered.
    fn fail(&mut self, set: SetId, key: u64) -> Fault {
        let (verdict, body) = self.ask(set, key, &Break { divisor: 0 }).as_verdict().expect("a verdict");
        assert_eq!(verdict, Verdict::HandlerFailed);
        Fault::from_code(body.fault).expect("a fault")
    }

    fn counted(&self) -> Counted {
        let total = self.device.total();
        let dead = |reason: DeadReason| total.dead[reason as usize];
        Counted {
            failures: total.failures,
            restarts: total.restarts,
            escalations: total.escalations,
            handled: total.handled,
            sent: total.sent,
            handler_failed: dead(DeadReason::HandlerFailed),
            actor_failed: dead(DeadReason::ActorFailed),
            no_such_set: dead(DeadReason::NoSuchSet),
            no_such_key: dead(DeadReason::NoSuchKey),
            dead: total.dead_total(),
            activations: total.activations,
            actors_now: total.actors_now,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    failures: u64,
    restarts: u64,
    escalations: u64,
    handled: u64,
    sent: u64,
    handler_failed: u64,
    actor_failed: u64,
    no_such_set: u64,
    no_such_key: u64,
    dead: u64,
    activations: u64,
    actors_now: u64,
}

fn to<M: Message>(set: SetId, key: u64, ask: u32, message: &M) -> Envelope {
    let flags = if ask == 0 { Flags::NONE } else { Flags::ASK };
    message.to_envelope(ActorId::client(SessionId(5), ask), ActorId::new(set, key), flags)
}

/// Every policy, in turn.
fn scenario<D: Device>(bench: &mut Bench<D>) {
    // A budget of two, used up; then up two sets, of which the first has no such actor yet and the second restarts its own.
    bench.tell(BOUGHS, 7, &Add { amount: 5 });
    for restarted in 1..=2 {
        bench.tell(LEAVES, 7, &Add { amount: 8 });
        assert_eq!(bench.fail(LEAVES, 7), Fault::DivideByZero);
        assert_eq!(bench.total(LEAVES, 7), Ok((0, 0)), "restart {restarted}");
    }
    assert_eq!(bench.total(BOUGHS, 7), Ok((5, 1)));
    assert_eq!(bench.fail(LEAVES, 7), Fault::DivideByZero);
    assert_eq!(bench.total(LEAVES, 7), Err(Verdict::ActorFailed));
    assert_eq!(bench.total(TWIGS, 7), Err(Verdict::ActorFailed), "it was dormant, and has failed with its leaf");
    assert_eq!(bench.total(BOUGHS, 7), Ok((0, 0)), "it was restarted");
    let expected = Counted {
        failures: 5,
        restarts: 3,
        escalations: 2,
        // Three additions, four answers, two escalations; the escalations are sent, too.
        handled: 3 + 4 + 2,
        sent: 4 + 2,
        handler_failed: 3,
        actor_failed: 2,
        dead: 5,
        activations: 3,
        actors_now: 3,
        ..Counted::default()
    };
    assert_eq!(bench.counted(), expected);

    // A parent that has failed before takes no more; other leaves of the same set have budgets of their own.
    bench.fail(TWIGS, 8);
    for _ in 0..3 {
        bench.fail(LEAVES, 8);
    }
    assert_eq!(bench.total(LEAVES, 8), Err(Verdict::ActorFailed));
    assert_eq!(bench.total(BOUGHS, 8), Ok((0, 0)), "one failure came from below, and it was restarted");
    let before = bench.counted();
    assert_eq!((before.failures, before.restarts, before.escalations), (5 + 5, 3 + 3, 2 + 2));
    assert_eq!(before.actor_failed, 2 + 2, "the escalation of the leaf, and the question");

    // No such parent, and a parent without such a key.
    bench.fail(ORPHANS, 1);
    bench.fail(DISTANT, 500);
    let after = bench.counted();
    assert_eq!((after.no_such_set, after.no_such_key, after.escalations), (1, 1, before.escalations + 2));

    // A window that has ended gives a new budget.
    bench.fail(QUICK, 1);
    (bench.pass_ms)(u64::from(WINDOW_MS));
    bench.tell(QUICK, 1, &Add { amount: 3 });
    bench.run(&[to(QUICK, 1, 0, &Break { divisor: 0 }), to(QUICK, 1, 0, &Add { amount: 4 })]);
    assert_eq!(bench.total(QUICK, 1), Ok((4, 1)));
    bench.run(&[to(QUICK, 2, 0, &Break { divisor: 0 }), to(QUICK, 2, 0, &Break { divisor: 0 })]);
    assert_eq!(bench.total(QUICK, 2), Err(Verdict::ActorFailed), "two failures in one window");

    // What an actor sent its parent comes before its failure (C3).
    bench.run(&[to(SUMMANDS, 3, 0, &Pass { to: 3, amount: 9 }), to(SUMMANDS, 3, 0, &Break { divisor: 0 })]);
    assert_eq!(bench.total(SUMS, 3), Ok((0, 0)), "the sum was restarted behind its summand");

    // What no actor sent is no escalation, whatever it looks like.
    let mut forged = to(BOUGHS, 7, 9, &Get {});
    forged.kind = ringfleet_abi::envelope::KIND_CHILD_FAILED;
    bench.tell(BOUGHS, 7, &Add { amount: 1 });
    bench.run(&[forged]);
    let answer = bench.answers.pop().expect("an answer");
    assert_eq!(answer.as_verdict().map(|(verdict, _)| verdict), Some(Verdict::BadMessage));
    assert_eq!(bench.total(BOUGHS, 7), Ok((1, 1)));

    // A policy that changes holds for failures from then on: who has failed stays so, and the others' state stays.
    bench.tell(CHANGED, 3, &Add { amount: 6 });
    bench.fail(CHANGED, 1);
    bench.change(CHANGED, RestartMode::Restart, 2);
    assert_eq!(bench.total(CHANGED, 1), Err(Verdict::ActorFailed));
    assert_eq!(bench.total(CHANGED, 3), Ok((6, 1)));
    bench.fail(CHANGED, 2);
    assert_eq!(bench.total(CHANGED, 2), Ok((0, 0)), "it was restarted");
    bench.change(CHANGED, RestartMode::Escalate { parent: tag("boughs") }, 3);
    bench.fail(CHANGED, 2);
    assert_eq!(bench.total(CHANGED, 2), Ok((0, 0)), "a parent does not come later");
    bench.change(CHANGED, RestartMode::Stop, 4);
    bench.fail(CHANGED, 2);
    assert_eq!(bench.total(CHANGED, 2), Err(Verdict::ActorFailed));

    // Every actor draws its own sequence: a restart goes on with it, an actor that stops begins it again.
    for key in [0, 11, u64::MAX] {
        let mut draws = Draws::new(tag("test.dice"));
        for throws in 1..=3 {
            let answer = bench.ask(DICE, key, &Throw { sides: 6 });
            let any = draws.random(key);
            let thrown = Thrown { any, side: draws.random_below(key, 6).expect("six"), throws };
            assert_eq!(Thrown::from_envelope(&answer), Some(thrown), "key {key}, throw {throws}");
        }
        bench.tell(DICE, key, &Throw { sides: 0 });
        draws.random(key);
        let answer = bench.ask(DICE, key, &Throw { sides: u64::MAX });
        let any = draws.random(key);
        let side = draws.random_below(key, u64::MAX).expect("a bound");
        assert_eq!(Thrown::from_envelope(&answer), Some(Thrown { any, side, throws: 1 }), "key {key}, restarted");
        bench.tell(DICE, key, &PutAway {});
        let answer = bench.ask(DICE, key, &Throw { sides: 6 });
        let first = Draws::new(tag("test.dice")).random(key);
        assert_eq!(Thrown::from_envelope(&answer).map(|thrown| thrown.any), Some(first), "key {key}, come back");
    }
    let total = bench.device.total();
    assert_eq!((total.in_flight(), total.resting()), (0, 0), "C7: {total:?}");
}

fn on_cpu() -> (Bench<SteppedDevice>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1_000_000_000, WALL_MS));
    let device = CpuDevice::stepped(&CpuDeviceConfig::DEFAULT, &types(), clock.clone()).expect("a device");
    let time = clock.clone();
    let pass_ms = Box::new(move |ms| time.advance(Duration::from_millis(ms)));
    let mut bench = Bench { device, pushed: 0, answers: Vec::new(), step: |device| device.step_all(), pass_ms };
    bench.deploy(u64::MAX);
    (bench, clock)
}

#[test]
fn failed_actors_are_restarted_stopped_and_escalated_as_their_sets_say() {
    scenario(&mut on_cpu().0);
}

#[test]
fn a_window_ends_to_the_millisecond() {
    // HLC milliseconds: a failure in the last one of the window is refused, one in the next is not.
    for (passed_ms, restarted) in [(0, false), (WINDOW_MS - 1, false), (WINDOW_MS, true), (WINDOW_MS + 1, true)] {
        let (mut bench, _clock) = on_cpu();
        bench.fail(QUICK, 1);
        (bench.pass_ms)(u64::from(passed_ms));
        bench.fail(QUICK, 1);
        let expected = if restarted { Ok((0, 0)) } else { Err(Verdict::ActorFailed) };
        assert_eq!(bench.total(QUICK, 1), expected, "{passed_ms} ms");
    }
}

#[test]
fn a_parent_set_that_goes_leaves_its_children_failed() {
    let (mut bench, _clock) = on_cpu();
    bench.fail(TWIGS, 1);
    assert_eq!(bench.counted().no_such_set, 0);
    for index in 0..SHARDS {
        let shard = ShardId::new(BOUGHS, ShardIndex(index));
        bench.device.submit(Control::Release { shard, epoch: Epoch(1) }).expect("room");
    }
    bench.run(&[]);
    bench.device.submit(Control::RemoveSet { set: BOUGHS }).expect("room");
    bench.run(&[]);
    bench.fail(TWIGS, 2);
    assert_eq!(bench.total(TWIGS, 2), Err(Verdict::ActorFailed));
    assert_eq!((bench.counted().no_such_set, bench.counted().escalations), (1, 2));
}

#[test]
fn a_failure_reaches_a_parent_on_another_node_as_a_message_does() {
    let ((mut here, _), (mut there, _)) = (on_cpu(), on_cpu());
    for index in 0..SHARDS {
        let shard = ShardId::new(BOUGHS, ShardIndex(index));
        here.device.submit(Control::Route { shard, target: RouteTarget::Egress }).expect("room");
    }
    here.device.submit(Control::RouteCommit { version: 2 }).expect("room");
    here.run(&[]);
    there.tell(BOUGHS, 5, &Add { amount: 8 });
    let before = there.counted();
    here.tell(TWIGS, 5, &Break { divisor: 0 });
    let [told] = here.answers[..] else { panic!("one envelope leaves: {:?}", here.answers) };
    assert!(told.is_child_failed() && told.check().is_ok() && !told.is_control(), "{told:?}");
    assert_eq!((told.from(), told.to()), (ActorId::new(TWIGS, 5), ActorId::new(BOUGHS, 5)));
    assert_eq!((here.device.total().egress_out, here.device.total().sent), (1, 1));
    there.run(&[told]);
    assert_eq!(there.total(BOUGHS, 5), Ok((0, 0)), "restarted");
    let after = there.counted();
    assert_eq!((after.failures, after.restarts, after.dead), (before.failures + 1, before.restarts + 1, before.dead));
}

#[test]
fn a_gpu_does_with_failed_actors_what_a_cpu_does() {
    let gpu = match Gpu::open(0) {
        Ok(gpu) => gpu,
        Err(error) => {
            assert!(std::env::var_os("RINGFLEET_REQUIRE_GPU").is_none(), "RINGFLEET_REQUIRE_GPU is set: {error}");
            println!("not run: {error}");
            return;
        }
    };
    let device_types = device_types(&types()).expect("types have device code");
    let geometry = Geometry { spill_slots: 8192, ..Geometry::for_multiprocessors(gpu.multiprocessors) };
    let capacity = Capacity { arena_bytes: 64 << 20, sets: 64, shards: 2048, host_ingress_slots: 1 << 14 };
    let cache = std::env::temp_dir().join("ringfleet-cubin");
    let clock = Arc::new(SystemClock);
    let device = CudaDevice::start(gpu, geometry, &device_types, &capacity, &cache, clock).expect("the device starts");
    let pass_ms = Box::new(|ms| {
        let began = Instant::now();
        // A little more: the device reads the wall clock, which may be adjusted meanwhile.
        while began.elapsed() < Duration::from_millis(ms + 20) {
            std::hint::spin_loop();
        }
    });
    let mut bench = Bench { device, pushed: 0, answers: Vec::new(), step: |_| false, pass_ms };
    bench.deploy(SystemClock.monotonic_ns() + 120_000_000_000);
    scenario(&mut bench);

    let mut cpu = on_cpu().0;
    scenario(&mut cpu);
    assert_eq!(bench.counted(), cpu.counted());
}
