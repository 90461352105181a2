//! A device that handles in order, refuses when it is told to, and sends on.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use ringfleet_abi::{
    ActorId, Control, Envelope, Epoch, Flags, Hlc, KeySpace, RouteTarget, SetId, ShardId, Status, Verdict, VerdictBody,
    WorkerIndex,
};

use super::net::{Rng, fields, payload};

/// What was handled where, and whether it was in order.
#[derive(Debug, Default)]
pub struct Checker {
    /// (sender, target) -> last sequence handled.
    last: HashMap<(u64, u64), u64>,
    pub handled: u64,
    pub gaps: u64,
    pub violations: Vec<String>,
}

impl Checker {
    pub fn handle(&mut self, sender: u64, target: ActorId, seq: u64) {
        self.handled += 1;
        let key = (sender, u64::from(target.set.0) << 48 | target.key);
        let last = self.last.entry(key).or_insert(0);
        if seq <= *last {
            self.violations.push(format!("{target} handled {seq} of {sender:#x} after {last}"));
        } else if seq > *last + 1 {
            self.gaps += 1;
        }
        *last = seq.max(*last);
    }
}

#[derive(Debug, Default)]
struct Worker {
    ingress: VecDeque<Envelope>,
    taken: u64,
    done: u64,
    /// From workers of this device, itself included.
    ring: VecDeque<Envelope>,
    shards: BTreeMap<u32, Epoch>,
    gates: HashSet<u32>,
    /// Controls not carried out yet.
    controls: VecDeque<Control>,
}

/// What a damaged device does to its 100th ingress envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Forgets it, and says that it is done with it.
    Drop,
    /// Handles it twice.
    Repeat,
    /// Handles it after the one behind it.
    Swap,
}

#[derive(Debug)]
pub struct Device {
    token: u64,
    workers: Vec<Worker>,
    sets: HashMap<u16, (KeySpace, u16)>,
    routes: HashMap<u32, RouteTarget>,
    next_routes: Vec<(u32, RouteTarget)>,
    flushing: Option<(u64, u64)>,
    egress: VecDeque<Envelope>,
    statuses: VecDeque<Status>,
    lease_ns: u64,
    sequences: HashMap<(u64, u64), u64>,
    pub sent: u64,
    pub handled: u64,
    pub dead: u64,
    pub refused: u64,
    pub refuse_percent: u64,
    pub slots: u32,
    pub damage: Option<Damage>,
}

impl Device {
    pub fn new(token: u64, workers: u16, slots: u32) -> Self {
        Self {
            token,
            workers: (0..workers).map(|_| Worker::default()).collect(),
            sets: HashMap::new(),
            routes: HashMap::new(),
            next_routes: Vec::new(),
            flushing: None,
            egress: VecDeque::new(),
            statuses: VecDeque::new(),
            lease_ns: 0,
            sequences: HashMap::new(),
            sent: 0,
            handled: 0,
            dead: 0,
            refused: 0,
            refuse_percent: 0,
            slots,
            damage: None,
        }
    }

    fn shard_of(&self, to: ActorId) -> Option<ShardId> {
        let (keys, shards) = self.sets.get(&to.set.0)?;
        Some(ShardId::new(to.set, keys.shard_of(*shards, to.key)?))
    }

    pub fn push(&mut self, envelopes: &[Envelope]) {
        for envelope in envelopes {
            let shard = match envelope.as_gate_marker() {
                Some(shard) => shard,
                None => self.shard_of(envelope.to()).expect("the agent checks the shard"),
            };
            let worker = self
                .workers
                .iter_mut()
                .find(|worker| worker.shards.contains_key(&shard.pack()))
                .unwrap_or_else(|| panic!("C2: ingress for {shard}, which no worker owns"));
            worker.ingress.push_back(*envelope);
            assert!(worker.ingress.len() <= self.slots as usize, "C9: ingress ring overrun");
        }
    }

    pub fn submit(&mut self, control: Control) {
        match control {
            Control::Lease { deadline_ns } => self.lease_ns = deadline_ns,
            Control::AddSet { set, keys, shards, .. } => {
                self.sets.insert(set.0, (keys, shards));
            }
            Control::RemoveSet { set } => {
                assert!(
                    self.workers
                        .iter()
                        .all(|worker| worker.shards.keys().all(|shard| ShardId::unpack(*shard).set != set)),
                    "a set is removed after its shards"
                );
                self.sets.remove(&set.0);
                self.routes.retain(|shard, _| ShardId::unpack(*shard).set != set);
            }
            Control::Assign { worker, .. } => self.workers[usize::from(worker.0)].controls.push_back(control),
            Control::Release { shard, .. } => {
                let owner = self.workers.iter_mut().find(|worker| {
                    worker.shards.contains_key(&shard.pack())
                        || worker.controls.iter().any(|c| matches!(c, Control::Assign { shard: s, .. } if *s == shard))
                });
                owner.expect("only resident shards are released").controls.push_back(control);
            }
            Control::Route { shard, target } => self.next_routes.push((shard.pack(), target)),
            Control::RouteCommit { version } => {
                for (shard, target) in std::mem::take(&mut self.next_routes) {
                    if let RouteTarget::Worker(WorkerIndex(worker)) = target {
                        assert!(
                            self.workers[usize::from(worker)].shards.contains_key(&shard),
                            "a shard is routed to a worker only after it was assigned"
                        );
                    }
                    self.routes.insert(shard, target);
                }
                let oldest = self.flushing.map_or(0, |(_, oldest)| oldest);
                self.flushing = Some((version, oldest));
            }
            Control::Pause | Control::Resume | Control::Stop => {}
        }
    }

    pub fn poll_status(&mut self) -> Option<Status> {
        self.statuses.pop_front()
    }

    /// Counters first, then egress: the order that the shell must keep.
    pub fn done(&self) -> Vec<u64> {
        self.workers.iter().map(|worker| worker.done).collect()
    }

    pub fn take_egress(&mut self, room: usize) -> Vec<Envelope> {
        let count = room.min(self.egress.len());
        self.egress.drain(..count).collect()
    }

    pub fn egress_len(&self) -> usize {
        self.egress.len()
    }

    pub fn sets_known(&self) -> Vec<u16> {
        let mut sets: Vec<u16> = self.sets.keys().copied().collect();
        sets.sort_unstable();
        sets
    }

    pub fn in_flight(&self) -> u64 {
        let rings: usize = self.workers.iter().map(|worker| worker.ingress.len() + worker.ring.len()).sum();
        (rings + self.egress.len()) as u64
    }

    pub fn step(&mut self, now_ns: u64, wall_ms: u64, rng: &mut Rng, checker: &mut Checker) {
        if now_ns >= self.lease_ns {
            return;
        }
        for at in 0..self.workers.len() {
            while rng.percent(60) {
                let Some(control) = self.workers[at].controls.pop_front() else { break };
                self.carry_out(at, control);
            }
            for _ in 0..rng.below(24) {
                let from_ring = rng.percent(50);
                let worker = &mut self.workers[at];
                if from_ring && let Some(envelope) = worker.ring.pop_front() {
                    self.handle(at, envelope, wall_ms, rng, checker);
                } else if self.egress.len() < 256
                    && let Some(envelope) = self.workers[at].ingress.pop_front()
                {
                    let position = self.workers[at].taken;
                    self.workers[at].taken += 1;
                    self.ingress(at, position, envelope, wall_ms, rng, checker);
                    self.workers[at].done += 1;
                }
            }
        }
        if let Some((version, _)) = self.flushing
            && self.workers.iter().all(|worker| worker.ring.is_empty())
        {
            self.flushing = None;
            self.statuses.push_back(Status::RouteFlushed { version });
        }
    }

    fn carry_out(&mut self, at: usize, control: Control) {
        match control {
            Control::Assign { shard, epoch, worker } => {
                self.workers[at].shards.insert(shard.pack(), epoch);
                self.statuses.push_back(Status::Assigned { shard, epoch, worker });
            }
            Control::Release { shard, epoch } => {
                let of = |envelope: &Envelope| envelope.as_gate_marker().or_else(|| self.shard_of(envelope.to()));
                let left = self.workers[at].ingress.iter().any(|envelope| of(envelope) == Some(shard));
                assert!(!left, "C8: {shard} is released with ingress waiting");
                self.workers[at].shards.remove(&shard.pack());
                self.workers[at].gates.remove(&shard.pack());
                self.statuses.push_back(Status::Released { shard, epoch });
            }
            _ => {}
        }
    }

    fn ingress(
        &mut self,
        at: usize,
        position: u64,
        envelope: Envelope,
        wall_ms: u64,
        rng: &mut Rng,
        checker: &mut Checker,
    ) {
        if position >= 100
            && let Some(damage) = self.damage
        {
            match damage {
                Damage::Drop => {
                    self.damage = None;
                    return;
                }
                Damage::Repeat => {
                    self.damage = None;
                    self.handle(at, envelope, wall_ms, rng, checker);
                }
                Damage::Swap => {
                    let same = |next: &Envelope| next.to() == envelope.to() && fields(next).0 == fields(&envelope).0;
                    if let Some(behind) = self.workers[at].ingress.iter().position(same) {
                        self.damage = None;
                        let next = std::mem::replace(&mut self.workers[at].ingress[behind], envelope);
                        return self.handle(at, next, wall_ms, rng, checker);
                    }
                }
            }
        }
        if let Some(shard) = envelope.as_gate_marker() {
            assert!(self.workers[at].gates.remove(&shard.pack()), "a marker opens a closed gate");
            return;
        }
        let shard = self.shard_of(envelope.to()).expect("checked").pack();
        if envelope.from_client() {
            if rng.percent(self.refuse_percent) {
                self.workers[at].gates.insert(shard);
            }
            if self.workers[at].gates.contains(&shard) {
                self.refused += 1;
                let body = VerdictBody { position, fault: 0, worker: at as u16, kind: envelope.kind };
                self.egress.push_back(Envelope::verdict(&envelope, Verdict::Busy, body, Hlc::from_wall_ms(wall_ms)));
                return;
            }
        }
        self.handle(at, envelope, wall_ms, rng, checker);
    }

    fn handle(&mut self, at: usize, envelope: Envelope, wall_ms: u64, rng: &mut Rng, checker: &mut Checker) {
        let to = envelope.to();
        let Some(epoch) = self.shard_of(to).and_then(|shard| self.workers[at].shards.get(&shard.pack()).copied())
        else {
            self.dead += 1;
            return;
        };
        let (sender, seq, hops) = fields(&envelope);
        checker.handle(sender, to, seq);
        self.handled += 1;
        let me = self.token << 40 | u64::from(to.set.0) << 32 | epoch.0 << 20 | to.key;
        if hops > 0 {
            let target = ActorId::new(SetId(1 + rng.below(2) as u16), rng.below(64));
            let seq = self.sequences.entry((me, u64::from(target.set.0) << 32 | target.key)).or_insert(0);
            *seq += 1;
            let body = payload(me, *seq, hops - 1);
            let mut message = Envelope::new(to, target, 9, Flags::NONE, &body).expect("fits");
            message.hlc = Hlc::from_wall_ms(wall_ms).0;
            self.send(message);
        }
        if envelope.flags().has(Flags::ASK) {
            let mut reply = Envelope::new(to, envelope.from(), 8, Flags::REPLY, &[]).expect("fits");
            reply.hlc = Hlc::from_wall_ms(wall_ms).0;
            self.sent += 1;
            self.egress.push_back(reply);
        }
    }

    fn send(&mut self, message: Envelope) {
        self.sent += 1;
        let target = self.shard_of(message.to()).and_then(|shard| self.routes.get(&shard.pack()).copied());
        match target {
            Some(RouteTarget::Worker(worker)) => self.workers[usize::from(worker.0)].ring.push_back(message),
            Some(RouteTarget::Egress) => self.egress.push_back(message),
            Some(RouteTarget::None) | None => self.dead += 1,
        }
    }
}
