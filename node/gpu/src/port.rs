//! The host's side of a CPU device: its ends of all rings, and what it must remember to use them.
//!
//! The port decides which worker an ingress envelope goes to, so it keeps the sets and who owns their shards as the
//! controls it has passed on say. It also refuses assignments that cannot be right before any worker sees them:
//!
//! ```text
//!              Assign(e > last)              Release(e)                 Status::Released polled
//!   Free(last) ───────────────> Owned(w, e) ───────────> Leaving(w, e) ───────────────────────> Free(e)
//!       ^                            │ Status::AssignFailed polled                │
//!       └────────────────────────────┘                    Assign(e' > e, same w) ─┴─> Owned(w, e')
//! ```
//!
//! C2: a shard that is leaving one worker is given to another only after that worker has let it go, and never at an
//! epoch that it has had here before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Waker;

use ringfleet_abi::{
    Consumer, Control, Envelope, Epoch, LAYOUT_HASH, Producer, SetId, ShardId, Status, StatusWord, WorkerCounters,
    WorkerIndex,
};

use crate::device::Full;
use crate::memory::HeapRing;
use crate::parker::publish_fence;
use crate::sets::ShardMap;
use crate::worker::{DevicePage, phase};

/// Events made by the port itself that wait to be polled; at the bound, controls are refused.
const EVENTS_MAX: usize = 4096;

/// The most that one look adds to the time for which a worker is known to be stuck (see [`crate::Device::check_workers`]).
const STUCK_STEP_NS_MAX: u64 = 250_000_000;

/// What is known of a worker's coming back from its rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    rounds: u64,
    stuck_ns: u64,
    stalled: bool,
}

/// The host's ends of one worker's rings.
#[derive(Debug)]
pub(crate) struct WorkerEnds {
    pub(crate) ingress: Producer<HeapRing>,
    pub(crate) egress: Consumer<HeapRing>,
    pub(crate) control: Producer<HeapRing>,
    pub(crate) status: Consumer<HeapRing>,
}

#[derive(Clone, Copy, Debug)]
enum Owner {
    Free { last: Epoch },
    Owned { worker: u16, epoch: Epoch },
    Leaving { worker: u16, epoch: Epoch },
}

#[derive(Debug)]
struct HostSet {
    map: ShardMap,
    runs: bool,
    owners: Box<[Owner]>,
}

/// The host's side.
#[derive(Debug)]
pub(crate) struct Port {
    page: Arc<DevicePage>,
    ends: Vec<WorkerEnds>,
    sets: Vec<Option<HostSet>>,
    types: usize,
    events: VecDeque<Status>,
    /// The worker whose egress is polled first.
    first: usize,
    fenced: bool,
    flushed: u64,
    lost: Vec<bool>,
    watched: Vec<Watched>,
    looked_ns: u64,
    stall_ns: u64,
    stopped: bool,
    /// Which workers got something in the publication under way.
    told: Vec<bool>,
}

impl Port {
    pub(crate) fn new(page: Arc<DevicePage>, ends: Vec<WorkerEnds>, types: usize, stall_ns: u64) -> Self {
        let workers = ends.len();
        let started = Status::Started { workers: workers as u16, layout_hash: LAYOUT_HASH };
        Self {
            page,
            ends,
            sets: Vec::new(),
            types,
            events: VecDeque::from([started]),
            first: 0,
            fenced: true,
            flushed: 0,
            lost: vec![false; workers],
            watched: vec![Watched::default(); workers],
            looked_ns: 0,
            stall_ns,
            stopped: false,
            told: vec![false; workers],
        }
    }

    pub(crate) fn push_ingress(&mut self, envelopes: &[Envelope]) -> usize {
        let mut taken = 0;
        for envelope in envelopes {
            let worker = self.worker_of(envelope);
            if !self.ends[worker as usize].ingress.push(envelope) {
                break;
            }
            taken += 1;
        }
        if taken > 0 {
            self.publish_and_wake(|ends| ends.ingress.publish());
        }
        taken
    }

    pub(crate) fn worker_of(&self, envelope: &Envelope) -> u16 {
        let shard = match envelope.as_gate_marker() {
            Some(shard) => Some(shard),
            None => self.set(envelope.to_set).and_then(|set| {
                Some(ShardId::new(ringfleet_abi::SetId(envelope.to_set), set.map.shard_of(envelope.to_key)?))
            }),
        };
        match shard.and_then(|shard| self.owner(shard)) {
            Some(Owner::Owned { worker, .. } | Owner::Leaving { worker, .. }) => *worker,
            Some(Owner::Free { .. }) | None => 0,
        }
    }

    pub(crate) fn poll_egress(&mut self, envelopes: &mut [Envelope]) -> usize {
        let workers = self.ends.len();
        let mut taken = 0;
        for turn in 0..workers {
            let egress = &mut self.ends[(self.first + turn) % workers].egress;
            let count = egress.poll().min(u32::try_from(envelopes.len() - taken).unwrap_or(u32::MAX));
            for at in 0..count {
                envelopes[taken + at as usize] = egress.peek(at);
            }
            egress.release(count);
            taken += count as usize;
        }
        self.first = (self.first + 1) % workers;
        taken
    }

    /// Writes one envelope into the ingress ring of a worker, unpublished, whoever owns its shard; `false` if the ring is full.
    pub(crate) fn push_to(&mut self, worker: WorkerIndex, envelope: &Envelope) -> bool {
        self.ends[worker.0 as usize].ingress.push(envelope)
    }

    /// Publishes what [`Port::push_to`] wrote.
    pub(crate) fn publish_ingress(&mut self) {
        self.publish_and_wake(|ends| ends.ingress.publish());
    }

    /// Takes what one worker sent.
    pub(crate) fn poll_egress_of(&mut self, worker: WorkerIndex, envelopes: &mut [Envelope]) -> usize {
        let egress = &mut self.ends[worker.0 as usize].egress;
        let count = egress.poll().min(u32::try_from(envelopes.len()).unwrap_or(u32::MAX));
        for (at, place) in envelopes[..count as usize].iter_mut().enumerate() {
            *place = egress.peek(at as u32);
        }
        egress.release(count);
        count as usize
    }

    pub(crate) fn submit(&mut self, control: Control) -> Result<(), Full> {
        if self.events.len() >= EVENTS_MAX {
            return Err(Full);
        }
        match control {
            Control::Lease { deadline_ns } => {
                // Release: pairs with the acquire at the begin of a round, which then sees every control submitted
                // before.
                self.page.lease_ns.store(deadline_ns, Ordering::Release);
                self.wake_all();
                Ok(())
            }
            Control::Assign { shard, epoch, worker } => self.assign(shard, epoch, worker),
            Control::Release { shard, epoch } => self.release(shard, epoch),
            Control::AddSet { set, type_index, keys, shards, .. } => {
                self.broadcast(control)?;
                let at = set.0 as usize;
                if self.sets.len() <= at {
                    self.sets.resize_with(at + 1, || None);
                }
                let runs = type_index.is_some_and(|at| (at as usize) < self.types);
                let owners = vec![Owner::Free { last: Epoch::NONE }; shards as usize].into();
                self.sets[at].get_or_insert(HostSet { map: ShardMap::new(keys, shards), runs, owners });
                Ok(())
            }
            Control::RemoveSet { set } => {
                let free = self.set(set.0).is_none_or(|set| set.owners.iter().all(|o| matches!(o, Owner::Free { .. })));
                if free {
                    self.broadcast(control)?;
                    if let Some(place) = self.sets.get_mut(set.0 as usize) {
                        *place = None;
                    }
                }
                Ok(())
            }
            _ => self.broadcast(control),
        }
    }

    pub(crate) fn poll_status(&mut self) -> Option<Status> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        for ends in &mut self.ends {
            let Some(envelope) = ends.status.pop() else { continue };
            let word: StatusWord = bytemuck::cast(envelope);
            let status = Status::decode(&word).expect("a worker of this build encodes its statuses");
            self.follow(&status);
            return Some(status);
        }
        self.poll_derived()
    }

    pub(crate) fn counters(&self, worker: WorkerIndex) -> WorkerCounters {
        self.page.workers.get(worker.0 as usize).map(|page| page.counters.read()).unwrap_or_default()
    }

    pub(crate) fn actors_by_set(&self) -> BTreeMap<SetId, u64> {
        let mut sum = BTreeMap::new();
        for worker in &self.page.workers {
            for (set, actors) in &*worker.sets.lock().unwrap_or_else(PoisonError::into_inner) {
                *sum.entry(SetId(*set)).or_default() += actors.load(Ordering::Relaxed);
            }
        }
        sum
    }

    pub(crate) fn ingress_done(&self, worker: WorkerIndex) -> u64 {
        self.page.workers.get(worker.0 as usize).map_or(0, |page| page.counters.ingress_done())
    }

    pub(crate) fn workers(&self) -> u16 {
        self.ends.len() as u16
    }

    /// C9: a round ends. A worker that is neither asleep nor at its end, and begins no round, is stuck in one, or its thread does not
    /// run.
    pub(crate) fn check_workers(&mut self, now_ns: u64) {
        let since_ns = now_ns.saturating_sub(std::mem::replace(&mut self.looked_ns, now_ns)).min(STUCK_STEP_NS_MAX);
        for (at, (page, watched)) in self.page.workers.iter().zip(&mut self.watched).enumerate() {
            let worker = WorkerIndex(at as u16);
            let over = matches!(page.phase.load(Ordering::Relaxed), phase::ENDED | phase::LOST);
            let rounds = page.rounds.load(Ordering::Relaxed);
            if over || page.parker.is_asleep() || rounds != watched.rounds {
                if watched.stalled && !over {
                    self.events.push_back(Status::WorkerResumed { worker });
                }
                *watched = Watched { rounds, ..Watched::default() };
                continue;
            }
            watched.stuck_ns += since_ns;
            if watched.stuck_ns >= self.stall_ns && !watched.stalled {
                watched.stalled = true;
                self.events.push_back(Status::WorkerStalled { worker });
            }
        }
    }

    /// The driver is about to sleep: see [`crate::Device::watch`].
    pub(crate) fn watch(&self, waker: &Waker) {
        self.page.driver.settle(waker);
        self.page.driver.lie_down();
    }

    pub(crate) fn page(&self) -> &Arc<DevicePage> {
        &self.page
    }

    /// Wakes every worker that sleeps, after something was published for it.
    pub(crate) fn wake_all(&self) {
        publish_fence();
        for worker in &self.page.workers {
            worker.parker.wake();
        }
    }

    /// What follows from the pages of the workers: merged when nobody polls, never lost.
    fn poll_derived(&mut self) -> Option<Status> {
        let phases = self.page.workers.iter().map(|page| page.phase.load(Ordering::Acquire));
        let (mut running, mut over) = (false, true);
        let mut newly_lost = None;
        for (at, now) in phases.enumerate() {
            running |= now == phase::RUNNING;
            over &= now == phase::ENDED || now == phase::LOST;
            if now == phase::LOST && !self.lost[at] {
                newly_lost = newly_lost.or(Some(at));
            }
        }
        if let Some(at) = newly_lost {
            self.lost[at] = true;
            return Some(Status::WorkerLost { worker: WorkerIndex(at as u16) });
        }
        let flushed = self.page.workers.iter().map(|page| page.flushed.load(Ordering::Acquire)).min().unwrap_or(0);
        if flushed > self.flushed {
            self.flushed = flushed;
            return Some(Status::RouteFlushed { version: flushed });
        }
        if over {
            return (!std::mem::replace(&mut self.stopped, true)).then_some(Status::Stopped);
        }
        if running == self.fenced {
            self.fenced = !running;
            return Some(if running { Status::Unfenced } else { Status::Fenced });
        }
        None
    }

    fn assign(&mut self, shard: ShardId, epoch: Epoch, worker: WorkerIndex) -> Result<(), Full> {
        let workers = self.workers();
        let runs = self.set(shard.set.0).is_some_and(|set| set.runs);
        let possible = match self.owner(shard) {
            _ if !runs || worker.0 >= workers => false,
            None => false,
            Some(Owner::Free { last }) => epoch > *last,
            Some(Owner::Leaving { worker: from, epoch: last }) => epoch > *last && worker.0 == *from,
            Some(Owner::Owned { worker: owner, epoch: now }) => {
                // Said twice: answered twice.
                let same = *owner == worker.0 && *now == epoch;
                self.events.push_back(match same {
                    true => Status::Assigned { shard, epoch, worker },
                    false => Status::AssignFailed { shard, epoch },
                });
                return Ok(());
            }
        };
        if !possible {
            self.events.push_back(Status::AssignFailed { shard, epoch });
            return Ok(());
        }
        self.tell(worker.0, Control::Assign { shard, epoch, worker })?;
        self.set_owner(shard, Owner::Owned { worker: worker.0, epoch });
        Ok(())
    }

    fn release(&mut self, shard: ShardId, epoch: Epoch) -> Result<(), Full> {
        match self.owner(shard).copied() {
            Some(Owner::Owned { worker, epoch: now }) if now == epoch => {
                self.tell(worker, Control::Release { shard, epoch })?;
                self.set_owner(shard, Owner::Leaving { worker, epoch });
            }
            // On its way already; the worker will answer.
            Some(Owner::Leaving { epoch: now, .. }) if now == epoch => {}
            // That residence has ended, or never was.
            _ => self.events.push_back(Status::Released { shard, epoch }),
        }
        Ok(())
    }

    /// Keeps up with what a worker has answered.
    fn follow(&mut self, status: &Status) {
        match *status {
            Status::Released { shard, epoch } => {
                if let Some(Owner::Leaving { epoch: leaving, .. }) = self.owner(shard)
                    && *leaving == epoch
                {
                    self.set_owner(shard, Owner::Free { last: epoch });
                }
            }
            Status::AssignFailed { shard, epoch } => {
                if let Some(Owner::Owned { epoch: owned, .. }) = self.owner(shard)
                    && *owned == epoch
                {
                    self.set_owner(shard, Owner::Free { last: epoch });
                }
            }
            _ => {}
        }
    }

    fn set(&self, set: u16) -> Option<&HostSet> {
        self.sets.get(set as usize)?.as_ref()
    }

    fn owner(&self, shard: ShardId) -> Option<&Owner> {
        self.set(shard.set.0)?.owners.get(shard.index.0 as usize)
    }

    fn set_owner(&mut self, shard: ShardId, owner: Owner) {
        if let Some(Some(set)) = self.sets.get_mut(shard.set.0 as usize)
            && let Some(place) = set.owners.get_mut(shard.index.0 as usize)
        {
            *place = owner;
        }
    }

    fn tell(&mut self, worker: u16, control: Control) -> Result<(), Full> {
        let ring = &mut self.ends[worker as usize].control;
        if !ring.push(&bytemuck::cast(control.encode())) {
            return Err(Full);
        }
        self.publish_and_wake(|ends| ends.control.publish());
        Ok(())
    }

    /// Tells every worker, or none.
    fn broadcast(&mut self, control: Control) -> Result<(), Full> {
        if self.ends.iter_mut().any(|ends| ends.control.credit() == 0 && ends.control.free() == 0) {
            return Err(Full);
        }
        let word: Envelope = bytemuck::cast(control.encode());
        for ends in &mut self.ends {
            let pushed = ends.control.push(&word);
            assert!(pushed, "C9: every control ring had room a moment ago and only this port fills it");
        }
        self.publish_and_wake(|ends| ends.control.publish());
        Ok(())
    }

    /// Publishes to every worker and wakes those that got something.
    fn publish_and_wake(&mut self, publish: impl Fn(&mut WorkerEnds) -> bool) {
        let workers = &self.page.workers;
        let mut any = false;
        for (ends, told) in self.ends.iter_mut().zip(&mut self.told) {
            *told = publish(ends);
            any |= *told;
        }
        if any {
            publish_fence();
            for (worker, told) in workers.iter().zip(&self.told) {
                if *told {
                    worker.parker.wake();
                }
            }
        }
    }
}
