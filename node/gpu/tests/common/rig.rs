//! A device that a test gives actor sets to, and tells and asks. Nothing waits without a limit.
#![allow(dead_code, missing_docs, clippy::disallowed_methods)] // Real time, for limits.

use std::time::{Duration, Instant};

use ringfleet_abi::hash::fnv1a32;
use ringfleet_abi::{
    ActorId, Control, Envelope, Epoch, Flags, KeySpace, RestartMode, RouteTarget, SessionId, SetId, ShardId,
    ShardIndex, Status, WorkerIndex,
};
use ringfleet_actor::Message;
use ringfleet_gpu::Device;

/// How long nothing may come out of the device.
pub const WAIT: Duration = Duration::from_secs(60);
const SESSION: SessionId = SessionId(7);

/// A device with a lease. `turn` lets it do something.
pub struct Rig<'a, D, T> {
    pub device: &'a mut D,
    turn: T,
    answers: Vec<Envelope>,
    statuses: Vec<Status>,
    asked: u32,
    /// The most that was seen in flight.
    pub in_flight_max: i128,
}

impl<'a, D: Device, T: FnMut(&mut D)> Rig<'a, D, T> {
    pub fn new(device: &'a mut D, lease_deadline_ns: u64, turn: T) -> Self {
        let mut rig = Self { device, turn, answers: Vec::new(), statuses: Vec::new(), asked: 0, in_flight_max: 0 };
        rig.submit(Control::Lease { deadline_ns: lease_deadline_ns });
        rig.until("the lease", |rig| rig.statuses.contains(&Status::Unfenced));
        rig
    }

    fn submit(&mut self, control: Control) {
        let mut left = Some(control);
        self.until("room for a control", |rig| {
            left.take().is_none_or(|control| {
                let taken = rig.device.submit(control).is_ok();
                if !taken {
                    left = Some(control);
                }
                taken
            })
        });
    }

    pub fn deploy(&mut self, set: SetId, name: &str, shards: u16, actors_per_shard: u32) {
        let type_index = ringfleet_actors::types().iter().position(|ty| ty.name == name).map(|at| at as u16);
        let (tag, keys, restart) = (fnv1a32(name.as_bytes()), KeySpace::Hashed, RestartMode::Stop);
        self.submit(Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart });
        for index in 0..shards {
            let (shard, worker) = (ShardId::new(set, ShardIndex(index)), WorkerIndex(index % self.device.workers()));
            self.submit(Control::Assign { shard, epoch: Epoch(1), worker });
            self.submit(Control::Route { shard, target: RouteTarget::Worker(worker) });
        }
        let version = u64::from(set.0);
        self.submit(Control::RouteCommit { version });
        self.until("routes", |rig| rig.statuses.contains(&Status::RouteFlushed { version }));
    }

    /// Lets the device run and takes what it gives, until `done` or nothing has come for too long.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let (mut began, mut out) = (Instant::now(), [Envelope::default(); 256]);
        while !done(self) {
            (self.turn)(self.device);
            self.in_flight_max = self.in_flight_max.max(self.device.total().in_flight());
            let taken = self.device.poll_egress(&mut out);
            self.answers.extend_from_slice(&out[..taken]);
            let statuses = self.statuses.len();
            while let Some(status) = self.device.poll_status() {
                self.statuses.push(status);
            }
            if taken > 0 || self.statuses.len() > statuses {
                began = Instant::now();
            }
            assert!(began.elapsed() < WAIT, "waited too long for {what}: {:?}", self.device.total());
        }
    }

    /// Pushes all, however long the device takes.
    pub fn push(&mut self, envelopes: &[Envelope]) {
        let (mut left, mut began) = (envelopes, Instant::now());
        while !left.is_empty() {
            let taken = self.device.push_ingress(left);
            left = &left[taken..];
            if taken > 0 {
                began = Instant::now();
            }
            assert!(began.elapsed() < WAIT, "{} envelopes are left: {:?}", left.len(), self.device.total());
            let mut looked = false;
            self.until("a turn", |_| std::mem::replace(&mut looked, true));
        }
    }

    /// Tells all, in order, and waits until all of it has been handled; what it sets off may still be under way.
    pub fn tell_all<M: Message>(&mut self, set: SetId, messages: impl IntoIterator<Item = (u64, M)>) {
        let client = ActorId::client(SESSION, 0);
        let envelope = |(key, message): (u64, M)| message.to_envelope(client, ActorId::new(set, key), Flags::NONE);
        let envelopes: Vec<Envelope> = messages.into_iter().map(envelope).collect();
        let done = self.device.total().ingress_done + envelopes.len() as u64;
        self.push(&envelopes);
        self.until("what was told", |rig| rig.device.total().ingress_done >= done);
    }

    /// Waits until nothing is in flight: the counters of workers are read one after the other, so they must say so twice.
    pub fn until_quiet(&mut self) {
        let mut last = None;
        self.until("a quiet device", |rig| {
            let total = rig.device.total();
            let quiet = total.in_flight() == 0 && last == Some(total.handled);
            last = Some(total.handled);
            quiet
        });
    }

    pub fn tell<M: Message>(&mut self, set: SetId, key: u64, message: &M) {
        let envelope = message.to_envelope(ActorId::client(SESSION, 0), ActorId::new(set, key), Flags::NONE);
        self.push(&[envelope]);
    }

    /// The answers, in the order of the questions.
    pub fn ask<M: Message, R: Message>(
        &mut self,
        set: SetId,
        keys: impl IntoIterator<Item = u64>,
        message: &M,
    ) -> Vec<R> {
        let first = self.asked;
        let asks: Vec<Envelope> = keys
            .into_iter()
            .map(|key| {
                self.asked += 1;
                message.to_envelope(ActorId::client(SESSION, self.asked), ActorId::new(set, key), Flags::ASK)
            })
            .collect();
        self.answers.clear();
        self.push(&asks);
        self.until("answers", |rig| rig.answers.len() >= asks.len());
        let mut answers = std::mem::take(&mut self.answers);
        answers.sort_by_key(|answer| answer.to().as_client().expect("to the client").1);
        assert!(answers.iter().zip(first + 1..).all(|(a, n)| a.to().as_client().is_some_and(|(_, it)| it == n)));
        answers.iter().map(|answer| R::from_envelope(answer).expect("a reply")).collect()
    }
}
