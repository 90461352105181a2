//! The work on Ringfleet's CPU device.

use std::sync::Arc;
use std::time::Duration;

use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{
    ActorId, Control, Envelope, Epoch, Flags, KeySpace, RestartMode, RouteTarget, SessionId, SetId, ShardId,
    ShardIndex, Status, WorkerIndex,
};
use ringfleet_actor::prelude::*;
use ringfleet_env::SystemClock;
use ringfleet_gpu::{CpuDevice, CpuDeviceConfig, Device};

use crate::{Outcome, now_ns};

#[message]
pub struct HopToken {
    pub left: u64,
    pub actors: u64,
    pub salt: u64,
    pub trail: u64,
}

#[message]
pub struct Hops {}

#[message]
pub struct HopCount {
    pub hops: u64,
}

/// The same 64 bytes and the same steps as `HopState`.
#[actor(name = "peers.hop", width = lane, max_sends = 1)]
#[derive(Default)]
pub struct Hop {
    random: u64,
    hops: u64,
    words: [u64; 6],
}

#[handlers]
impl Hop {
    fn on_token(&mut self, m: &HopToken, ctx: &mut Ctx) {
        let mixed = (self.random ^ m.salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.random = mixed ^ mixed.rotate_left(29);
        self.hops += 1;
        self.words[0] = self.words[0] ^ m.salt;
        self.words[1] = self.words[1].wrapping_add(m.trail);
        self.words[2] = self.words[2] ^ self.words[0];
        self.words[3] = self.words[3].wrapping_add(self.words[1]);
        self.words[4] = self.words[4] ^ self.words[2];
        self.words[5] = self.words[5].wrapping_add(self.words[3]);
        if m.left > 0 {
            let to = ((self.random >> 32) * m.actors) >> 32;
            let token = HopToken { left: m.left - 1, actors: m.actors, salt: self.random, trail: self.hops };
            ctx.tell(Hop::at(to), &token);
        }
    }
    fn on_hops(&mut self, _m: &Hops, ctx: &mut Ctx) {
        ctx.reply(&HopCount { hops: self.hops });
    }
}

const SET: SetId = SetId(1);

fn start(actors: u64, workers: u16) -> CpuDevice {
    let config = CpuDeviceConfig {
        workers,
        ring_slots: u32::try_from(actors.next_power_of_two()).unwrap_or(1 << 20).clamp(1 << 12, 1 << 20),
        spin_ns: 50_000,
        ..CpuDeviceConfig::DEFAULT
    };
    let mut device = CpuDevice::start(&config, &types![Hop], Arc::new(SystemClock)).expect("a device");
    let shards = 256;
    let add = Control::AddSet {
        set: SET,
        tag: fnv1a32(b"peers.hop"),
        type_index: Some(0),
        keys: KeySpace::Dense { count: actors },
        shards,
        actors_per_shard: 1 << 24,
        restart: RestartMode::Stop,
    };
    device.submit(add).expect("room");
    for index in 0..shards {
        let (shard, worker) = (ShardId::new(SET, ShardIndex(index)), WorkerIndex(index % workers));
        device.submit(Control::Assign { shard, epoch: Epoch(1), worker }).expect("room");
        device.submit(Control::Route { shard, target: RouteTarget::Worker(worker) }).expect("room");
    }
    device.submit(Control::RouteCommit { version: 1 }).expect("room");
    device.submit(Control::Lease { deadline_ns: u64::MAX }).expect("room");
    while !matches!(device.poll_status(), Some(Status::RouteFlushed { .. })) {
        std::thread::yield_now();
    }
    device
}

fn push(device: &mut CpuDevice, envelopes: &[Envelope], mut after: impl FnMut(&mut CpuDevice)) {
    for mut chunk in envelopes.chunks(1024) {
        while !chunk.is_empty() {
            let taken = device.push_ingress(chunk);
            chunk = &chunk[taken..];
            after(device);
        }
    }
}

/// Runs it.
pub fn run(actors: u64, hops: u64, workers: u16) -> Outcome {
    let mut device = start(actors, workers);
    let client = |ask| ActorId::client(SessionId(1), ask);
    let tokens: Vec<Envelope> = (0..actors)
        .map(|key| {
            let token = HopToken { left: hops, actors, salt: key + 1, trail: 0 };
            token.to_envelope(client(0), ActorId::new(SET, key), Flags::NONE)
        })
        .collect();
    let begin_ns = now_ns();
    push(&mut device, &tokens, |_| ());
    while device.total().handled < actors * (hops + 1) {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let elapsed_ns = now_ns() - begin_ns;
    let total = device.total();
    assert_eq!((total.handled, total.dead_total(), total.failures), (actors * (hops + 1), 0, 0));
    let asks: Vec<Envelope> = (0..actors)
        .map(|key| Hops {}.to_envelope(client(key as u32 + 1), ActorId::new(SET, key), Flags::ASK))
        .collect();
    let (mut handled, mut answers) = (0, 0);
    let mut out = vec![Envelope::default(); 1024];
    let mut drain = |device: &mut CpuDevice| {
        let count = device.poll_egress(&mut out);
        for answer in &out[..count] {
            handled += HopCount::from_envelope(answer).expect("a count").hops;
            answers += 1;
        }
        answers
    };
    push(&mut device, &asks, |device| {
        drain(device);
    });
    while drain(&mut device) < actors {
        std::thread::yield_now();
    }
    Outcome { handled, elapsed_ns }
}
