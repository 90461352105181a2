//! Actors and a rig for tests of the CPU device.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::extra_unused_type_parameters)]

#[cfg(target_os = "linux")]
pub mod processes;

use std::sync::Arc;

use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{
    ActorId, Control, Envelope, Epoch, Flags, KeySpace, RestartMode, RouteTarget, SessionId, SetId, ShardId,
    ShardIndex, Status, WorkerIndex,
};
use ringfleet_actor::prelude::*;
use ringfleet_actor::{Handles, TypeDescriptor};
use ringfleet_env::ManualClock;
use ringfleet_gpu::{CpuDevice, CpuDeviceConfig, Device, SteppedDevice};

#[message]
pub struct Add {
    pub amount: u64,
}
#[message]
pub struct Get {}
#[message]
pub struct Total {
    pub sum: u64,
    pub messages: u64,
}
#[message]
pub struct Break {
    pub divisor: u64,
}
#[message]
pub struct Quit {}
#[message]
pub struct Later {
    pub amount: u64,
    pub delay_ms: u32,
    pub times: u32,
}
/// After `delay_ms`, appends a decimal digit to the sum.
#[message]
pub struct DigitLater {
    pub digit: u32,
    pub delay_ms: u32,
}
#[message]
pub struct Digit {
    pub digit: u64,
}
#[message]
pub struct Silent {}
/// Asks for the name of a set that does not exist.
#[message]
pub struct Astray {}
/// Passes `Add` on to `to`.
#[message]
pub struct Pass {
    pub to: u64,
    pub amount: u64,
}

/// Passes `Add` on to `to`, then fails.
#[message]
pub struct Doomed {
    pub to: u64,
}
/// Is answered twice.
#[message]
pub struct Twice {}

/// Adds up what it is told.
#[actor(name = "test.counter", width = lane)]
#[derive(Default)]
pub struct Counter {
    sum: u64,
    messages: u64,
}

#[handlers]
impl Counter {
    fn on_add(&mut self, m: &Add, _ctx: &mut Ctx) {
        self.sum += m.amount;
        self.messages += 1;
    }
    fn on_get(&mut self, _m: &Get, ctx: &mut Ctx) {
        ctx.reply(&Total { sum: self.sum, messages: self.messages });
    }
    fn on_break(&mut self, m: &Break, ctx: &mut Ctx) {
        self.messages += 1;
        ctx.reply(&Total { sum: self.sum / m.divisor, messages: self.messages });
    }
    fn on_quit(&mut self, _m: &Quit, ctx: &mut Ctx) {
        ctx.stop();
    }
    fn on_later(&mut self, m: &Later, ctx: &mut Ctx) {
        for _ in 0..m.times {
            ctx.after(m.delay_ms, &Add { amount: m.amount });
        }
    }
    fn on_digit_later(&mut self, m: &DigitLater, ctx: &mut Ctx) {
        ctx.after(m.delay_ms, &Digit { digit: m.digit as u64 });
    }
    fn on_digit(&mut self, m: &Digit, _ctx: &mut Ctx) {
        self.sum = self.sum * 10 + m.digit;
    }
    fn on_silent(&mut self, _m: &Silent, _ctx: &mut Ctx) {
        self.messages += 1;
    }
    fn on_astray(&mut self, _m: &Astray, ctx: &mut Ctx) {
        ctx.tell(Counter::in_set("nobody", 1), &Add { amount: 1 });
    }
    fn on_doomed(&mut self, m: &Doomed, ctx: &mut Ctx) {
        self.messages += 1;
        ctx.tell(Counter::at(m.to), &Add { amount: 1 });
        ctx.after(1, &Add { amount: 1 });
        ctx.fail(7);
    }
    fn on_twice(&mut self, _m: &Twice, ctx: &mut Ctx) {
        ctx.reply(&Total { sum: self.sum, messages: self.messages });
        ctx.reply(&Total { sum: self.sum, messages: self.messages });
    }
    fn on_pass(&mut self, m: &Pass, ctx: &mut Ctx) {
        ctx.tell(Counter::at(m.to), &Add { amount: m.amount });
    }
}

/// Peers of both sets together.
pub const PEERS: u64 = 64;

#[message]
pub struct Packet {
    pub from: u64,
    pub seed: u64,
    pub seq: u32,
    pub ttl: u32,
}
#[message]
pub struct Report {}
#[message]
pub struct Seen {
    pub received: u64,
    pub sent: u64,
    pub gaps: u64,
    pub stamp: u64,
}

/// Checks the order of what every peer sends it and sends on to four others. Peers 0 to 31 live in the set `test.peer`,
/// the others in `test.peer.far`.
#[actor(name = "test.peer", width = lane, max_sends = 4)]
pub struct Peer {
    out: [u32; 64],
    last: [u32; 64],
    received: u64,
    sent: u64,
    gaps: u64,
    stamp: u64,
}

impl Default for Peer {
    fn default() -> Self {
        Self { out: [0; 64], last: [0; 64], received: 0, sent: 0, gaps: 0, stamp: 0 }
    }
}

#[handlers]
impl Peer {
    fn on_packet(&mut self, m: &Packet, ctx: &mut Ctx) {
        let now = ctx.now();
        let stamp = now.wall_ms() * 65536 + now.counter() as u64;
        if stamp <= self.stamp {
            ctx.fail(2);
        }
        self.stamp = stamp;
        if m.from < 64 {
            let last = self.last[m.from as usize];
            if m.seq <= last {
                ctx.fail(1);
            }
            self.gaps += (m.seq - last - 1) as u64;
            self.last[m.from as usize] = m.seq;
        }
        self.received += 1;
        if m.ttl > 0 {
            for n in 0..4 {
                let seed = (m.seed + n).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
                let to = seed % 64;
                let seq = self.out[to as usize] + 1;
                self.out[to as usize] = seq;
                self.sent += 1;
                let packet = Packet { from: ctx.key(), seed: seed, seq: seq, ttl: m.ttl - 1 };
                if to < 32 {
                    ctx.tell(Peer::at(to), &packet);
                } else {
                    ctx.tell(Peer::in_set("test.peer.far", to), &packet);
                }
            }
        }
    }
    fn on_report(&mut self, _m: &Report, ctx: &mut Ctx) {
        ctx.reply(&Seen { received: self.received, sent: self.sent, gaps: self.gaps, stamp: self.stamp });
    }
}

/// The types of all tests.
pub fn types() -> Vec<&'static TypeDescriptor> {
    ringfleet_actor::types![Counter, Peer]
}

pub const COUNTERS: SetId = SetId(1);
pub const PEERS_NEAR: SetId = SetId(2);
pub const PEERS_FAR: SetId = SetId(3);
pub const SESSION: SessionId = SessionId(5);
/// The wall clock of stepped tests.
pub const WALL_MS: u64 = 1_700_000_000_000;

/// A set to be made.
#[derive(Clone, Copy)]
pub struct SetSpec {
    pub set: SetId,
    pub name: &'static str,
    pub ty: u16,
    pub keys: KeySpace,
    pub shards: u16,
    pub actors_per_shard: u32,
    pub restart: RestartMode,
}

pub fn counters(keys: KeySpace) -> SetSpec {
    SetSpec {
        set: COUNTERS,
        name: "test.counter",
        ty: 0,
        keys,
        shards: 8,
        actors_per_shard: 1000,
        restart: RestartMode::Stop,
    }
}

pub fn peers() -> [SetSpec; 2] {
    let near = SetSpec { set: PEERS_NEAR, name: "test.peer", ty: 1, ..counters(KeySpace::Dense { count: 64 }) };
    [near, SetSpec { set: PEERS_FAR, name: "test.peer.far", ..near }]
}

/// Makes a set with its shards spread over all workers and a lease without end.
pub fn make_set(device: &mut impl Device, spec: SetSpec) {
    let tag = fnv1a32(spec.name.as_bytes());
    let add = Control::AddSet {
        set: spec.set,
        tag,
        type_index: Some(spec.ty),
        keys: spec.keys,
        shards: spec.shards,
        actors_per_shard: spec.actors_per_shard,
        restart: spec.restart,
    };
    device.submit(add).expect("room");
    for index in 0..spec.shards {
        let shard = ShardId::new(spec.set, ShardIndex(index));
        let worker = WorkerIndex(index % device.workers());
        device.submit(Control::Assign { shard, epoch: Epoch(1), worker }).expect("room");
        device.submit(Control::Route { shard, target: RouteTarget::Worker(worker) }).expect("room");
    }
}

pub fn tell<A: Handles<M>, M: Message>(set: SetId, key: u64, message: &M) -> Envelope {
    message.to_envelope(ActorId::client(SESSION, 0), ActorId::new(set, key), Flags::NONE)
}

pub fn ask<A: Handles<M>, M: Message>(set: SetId, key: u64, number: u32, message: &M) -> Envelope {
    message.to_envelope(ActorId::client(SESSION, number), ActorId::new(set, key), Flags::ASK)
}

/// A stepped device with a clock that stands still.
pub struct Rig {
    pub device: SteppedDevice,
    pub clock: Arc<ManualClock>,
    pub out: Vec<Envelope>,
    pub statuses: Vec<Status>,
    asked: u32,
}

impl Rig {
    /// A device with these sets, running.
    pub fn new(config: &CpuDeviceConfig, sets: &[SetSpec]) -> Self {
        let clock = Arc::new(ManualClock::new(1_000_000_000, WALL_MS));
        let mut device = CpuDevice::stepped(config, &types(), clock.clone()).expect("a device");
        for set in sets {
            make_set(&mut device, *set);
        }
        device.submit(Control::RouteCommit { version: 1 }).expect("room");
        device.submit(Control::Lease { deadline_ns: u64::MAX }).expect("room");
        let mut rig = Self { device, clock, out: Vec::new(), statuses: Vec::new(), asked: 0 };
        rig.settle();
        assert!(rig.saw(Status::RouteFlushed { version: 1 }), "{:?}", rig.statuses);
        assert!(rig.saw(Status::Unfenced));
        rig.statuses.clear();
        rig
    }

    /// Steps and drains until nothing is left to do.
    pub fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let worked = self.device.step_all();
            let drained = self.drain();
            if !worked && !drained {
                return;
            }
        }
        panic!("the device did not come to rest: {:?}", self.device.total());
    }

    /// As [`Rig::settle`], and lets time pass until workers that face each other's full rings have come free.
    pub fn settle_jams(&mut self) {
        for _ in 0..100_000 {
            self.settle();
            if self.device.total().spill_now == 0 {
                return;
            }
            self.advance_ms(10);
        }
        panic!("the device stays jammed: {:?}", self.device.total());
    }

    /// Takes what the device gives; says whether there was any.
    pub fn drain(&mut self) -> bool {
        let mut buffer = [Envelope::default(); 64];
        let count = self.device.poll_egress(&mut buffer);
        self.out.extend_from_slice(&buffer[..count]);
        let before = self.statuses.len();
        while let Some(status) = self.device.poll_status() {
            self.statuses.push(status);
        }
        count > 0 || self.statuses.len() > before
    }

    pub fn push(&mut self, envelopes: &[Envelope]) {
        assert_eq!(self.device.push_ingress(envelopes), envelopes.len(), "the ingress has room");
    }

    /// Pushes, and lets the device come to rest.
    pub fn run(&mut self, envelopes: &[Envelope]) {
        self.push(envelopes);
        self.settle();
    }

    /// Asks and gives the answer: a reply or a verdict.
    pub fn ask<A: Handles<M>, M: Message>(&mut self, set: SetId, key: u64, message: &M) -> Envelope {
        self.asked += 1;
        let number = 1_000_000 + self.asked;
        self.run(&[ask::<A, M>(set, key, number, message)]);
        let at = self.out.iter().position(|envelope| envelope.to_key as u32 == number).expect("an answer");
        self.out.remove(at)
    }

    pub fn total(&mut self, key: u64) -> (u64, u64) {
        let answer = self.ask::<Counter, Get>(COUNTERS, key, &Get {});
        let total = Total::from_envelope(&answer).expect("a total");
        (total.sum, total.messages)
    }

    pub fn saw(&self, status: Status) -> bool {
        self.statuses.contains(&status)
    }

    /// C7: what is in flight lies in timers, rings and spills, and nowhere else.
    pub fn check_conservation(&self) {
        check_conservation(&self.device);
    }

    /// C9: no worker holds more than it may.
    pub fn check_bounds(&self, config: &CpuDeviceConfig) {
        for worker in 0..self.device.workers() {
            let counters = self.device.counters(WorkerIndex(worker));
            assert!(counters.spill_now <= u64::from(config.spill_slots), "C9: {counters:?}");
            assert!(counters.timers_now <= u64::from(config.timers_max), "C9: {counters:?}");
        }
    }

    pub fn advance_ms(&self, ms: u64) {
        self.clock.advance(std::time::Duration::from_millis(ms));
    }
}

/// C7, at rest.
pub fn check_conservation(device: &impl Device) {
    let total = device.total();
    let in_rings = total.ring_out - total.ring_in;
    assert_eq!(total.in_flight(), i128::from(total.timers_now + total.spill_now + in_rings), "C7: {total:?}");
}

/// A small device: 8-slot rings, so that everything spills.
pub fn tiny(workers: u16) -> CpuDeviceConfig {
    CpuDeviceConfig {
        workers,
        ring_slots: 8,
        ingress_slots: 64,
        egress_slots: 64,
        control_slots: 256,
        status_slots: 64,
        spill_slots: 4096,
        batch: 16,
        timers_max: 32,
        spin_ns: 1_000,
        stall_ns: 2_000_000_000,
    }
}
