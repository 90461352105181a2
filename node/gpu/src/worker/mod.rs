//! A worker: the only executor of its shards (C2, C3, C6, C7, C9).
//!
//! One round of the loop, the same in a thread and under [`crate::SteppedDevice`]:
//!
//! ```text
//!   read the clock ── carry out controls ── lease over or paused? keep everything, end of round
//!        │
//!   drain the spills into their rings, oldest first
//!   fire due timers into the own ring
//!   take a bounded batch from the rings, rotating which comes first:
//!        stage (find the actor, prefetch it) ── handle ── push what was sent
//!        │
//!   lease over? keep everything unpublished, end of round
//!   publish every changed tail once ── publish counters, `ingress_done` last ── wake who sleeps
//! ```
//!
//! **C2, lease.** The deadline is looked at before a batch and before anything of it is published. A worker that finds
//! it passed keeps its rings, spills and actors as they are; what the batch did is seen by nobody until the lease is
//! renewed. Controls are carried out all the same: they come from the host itself and are how stale shards are dropped
//! before a renewal. The deadline is read before the controls, so a worker that sees a renewal has carried out every
//! control submitted before it.
//!
//! **C3, order.** A sends to B through one lane (see `outbound`) or from the host through one ingress ring; rings are
//! taken from their head, messages of one batch are handled in the order taken; staging is only a hint. Hence per pair
//! order, whatever is full. A timer that fires takes the own lane like any message.
//!
//! **C9, no deadlock.** A worker takes n inputs only while n times what one handling may push has room in its spill. So
//! no push fails and nobody waits inside a handling. Where a spill is too full for even one input and nothing leaves it
//! for [`OVERLOAD_AFTER_MS`](ringfleet_abi::limits::OVERLOAD_AFTER_MS), the worker is in **overload** until something
//! leaves: it consumes inputs without running them. Messages of actors are dead-lettered `overloaded`, those of clients
//! refused, which closes their shard's gate. Two workers whose full rings face each other thus free each other's ring.
//! Time in which the worker did not run does not count as standing still.
//!
//! **C6.** Device now is read once per round and never goes back. A handling is stamped max(actor, message, now) + 1, its
//! k-th send that + k, and the actor goes on after its last send, so (from, hlc) names a message. What comes through the
//! ingress with a stamp too far ahead is dead-lettered; between workers stamps are this device's own. Actors that are
//! activated begin at their shard's floor.
//!
//! **C7.** A message is counted where it enters (ingress, or sent by a successful handler) and where it ends; in
//! between it lies in exactly one ring, spill or wheel. Refused messages were never accepted and count only as
//! `refused`.

mod answer;
mod control;
mod execute;
mod round;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use ringfleet_abi::{Consumer, DeadReason, Envelope, Producer, WorkerCounters};
use ringfleet_actor::{SendBuffer, TypeDescriptor};
use ringfleet_env::Clock;

use crate::config::CpuDeviceConfig;
use crate::counters::CountersPage;
use crate::memory::HeapRing;
use crate::outbound::{Lane, Pushed};
use crate::parker::Parker;
use crate::sets::{LANE_NONE, LaneIndex, SetCounts, SetTable};
use crate::timers::TimerWheel;

/// What a worker is doing, as others see it.
pub(crate) mod phase {
    /// No lease, or it has ended.
    pub(crate) const FENCED: u32 = 0;
    /// It acts.
    pub(crate) const RUNNING: u32 = 1;
    /// It has carried out a stop.
    pub(crate) const ENDED: u32 = 2;
    /// It ended by a bug.
    pub(crate) const LOST: u32 = 3;
}

/// What a worker shows the host and the other workers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerPage {
    pub(crate) counters: CountersPage,
    pub(crate) parker: Parker,
    /// The newest route table of which everything older has been consumed here.
    pub(crate) flushed: AtomicU64,
    pub(crate) phase: AtomicU32,
    /// Rounds begun: a worker that is up and begins none is stuck.
    pub(crate) rounds: AtomicU64,
    /// Actors by set.
    pub(crate) sets: SetCounts,
}

/// What host and workers of a device share beside the rings.
#[derive(Debug)]
pub(crate) struct DevicePage {
    /// Absolute end of the lease in device time; 0 before the first (C2).
    pub(crate) lease_ns: AtomicU64,
    /// The device is being dropped.
    pub(crate) stop: AtomicBool,
    pub(crate) workers: Box<[WorkerPage]>,
    /// Where the device's driver sleeps.
    pub(crate) driver: Parker,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    /// It did something; there may be more.
    Worked,
    /// It waits for room in a ring.
    Blocked {
        /// It takes no inputs until then.
        full: bool,
    },
    /// There is nothing to do before this instant of the device's clock, unless something arrives.
    Idle {
        /// When.
        until_ns: u64,
    },
    /// It has ended.
    Ended,
}

/// The ends of rings that make a worker.
#[derive(Debug)]
pub(crate) struct WorkerRings {
    /// From every worker, in order.
    pub(crate) inbound: Vec<Consumer<HeapRing>>,
    pub(crate) ingress: Consumer<HeapRing>,
    /// To every worker, in order.
    pub(crate) outbound: Vec<Producer<HeapRing>>,
    pub(crate) egress: Producer<HeapRing>,
    pub(crate) control: Consumer<HeapRing>,
    pub(crate) status: Producer<HeapRing>,
}

/// A worker.
#[derive(Debug)]
pub(crate) struct Worker {
    core: Core,
    /// From every worker, then the ingress.
    inputs: Vec<Consumer<HeapRing>>,
    control: Consumer<HeapRing>,
    page: Arc<DevicePage>,
    clock: Arc<dyn Clock>,
    types: Arc<[&'static TypeDescriptor]>,
    /// The input whose turn it is to be first.
    first: usize,
    batch: u32,
    lease_seen_ns: u64,
    running: bool,
    paused: bool,
    ended: bool,
    /// Something happened that the counters page does not show yet.
    counters_changed: bool,
    last_round_ns: u64,
    /// Rounds begun.
    rounds: u64,
    /// How long the spill has been too full and has not moved.
    stalled_ns: u64,
    routes: RouteState,
}

/// Which route tables this worker knows to be flushed.
#[derive(Debug)]
struct RouteState {
    adopted: u64,
    /// Newest marker from each worker.
    received: Vec<u64>,
    /// Envelopes that had been pushed to the egress when the table was adopted.
    egress_pushed: u64,
    flushed: u64,
}

/// What executing a message touches.
#[derive(Debug)]
struct Core {
    index: u16,
    sets: SetTable,
    out: Outbox,
    sends: Box<SendBuffer>,
    timers: TimerWheel,
    /// Timers that fired and lie in the own lane, in its order.
    fired: VecDeque<FiredTimer>,
    status: Producer<HeapRing>,
    /// Envelopes taken from the ingress.
    ingress_taken: u64,
    /// Device now as a stamp; read once per round, never goes back (C6).
    now_hlc: u64,
    /// Stamps of the ingress beyond this are refused (C6).
    hlc_max: u64,
    now_ns: u64,
    /// Shards assigned here so far.
    residences: u64,
    /// Markers found in this round: worker and version.
    markers: Vec<(u16, u64)>,
    /// Something that the driver waits for was published, or will be by the round under way.
    driver_news: bool,
}

#[derive(Clone, Copy, Debug)]
struct FiredTimer {
    shard: u32,
    generation: u64,
}

/// The lanes of a worker with their common spill budget, and its counters.
#[derive(Debug)]
struct Outbox {
    lanes: Vec<Lane>,
    egress: LaneIndex,
    spill_max: u32,
    /// Envelopes in spills, markers not counted.
    spill_used: u32,
    counters: WorkerCounters,
}

impl Outbox {
    /// Sends a message to a lane.
    #[inline(always)]
    fn push(&mut self, lane: LaneIndex, envelope: &Envelope) {
        if lane == LANE_NONE {
            return self.dead(DeadReason::NoSuchSet);
        }
        match self.lanes[lane as usize].push(envelope) {
            Pushed::Ring if lane == self.egress => self.counters.egress_out += 1,
            Pushed::Ring => self.counters.ring_out += 1,
            Pushed::Spill => {
                self.counters.spilled += 1;
                self.counters.spill_now += 1;
                self.spill_used += 1;
            }
        }
    }

    /// Sends a verdict to the host. It is no message (C7).
    fn push_verdict(&mut self, verdict: &Envelope) {
        if self.lanes[self.egress as usize].push(verdict) == Pushed::Spill {
            self.spill_used += 1;
        }
    }

    /// Whether a verdict has a place.
    fn has_room_for_verdict(&mut self) -> bool {
        self.spill_used < self.spill_max || self.lanes[self.egress as usize].has_room()
    }

    #[inline]
    fn dead(&mut self, reason: DeadReason) {
        self.counters.dead[reason as usize] += 1;
    }

    /// Moves what fits from the spills to the rings; says whether anything moved.
    fn drain(&mut self) -> bool {
        let mut moved = false;
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.is_spilling() {
                continue;
            }
            let drained = lane.drain();
            moved |= drained.moved;
            self.spill_used -= drained.envelopes;
            self.counters.spill_now -= u64::from(drained.messages);
            if at == self.egress as usize {
                self.counters.egress_out += u64::from(drained.messages);
            } else {
                self.counters.ring_out += u64::from(drained.messages);
            }
        }
        moved
    }
}

impl Worker {
    /// A worker that has nothing and no lease yet.
    pub(crate) fn new(
        index: u16,
        config: &CpuDeviceConfig,
        rings: WorkerRings,
        types: Arc<[&'static TypeDescriptor]>,
        page: Arc<DevicePage>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let now_ns = clock.monotonic_ns();
        let lanes: Vec<Lane> = rings.outbound.into_iter().chain([rings.egress]).map(Lane::new).collect();
        let mut inputs = rings.inbound;
        inputs.push(rings.ingress);
        let out = Outbox {
            lanes,
            egress: config.workers,
            spill_max: config.spill_slots,
            spill_used: 0,
            counters: WorkerCounters::default(),
        };
        let core = Core {
            index,
            sets: SetTable::default(),
            out,
            sends: Box::default(),
            timers: TimerWheel::new(config.timers_max, now_ns / NS_PER_MS),
            fired: VecDeque::new(),
            status: rings.status,
            ingress_taken: 0,
            now_hlc: 0,
            hlc_max: 0,
            now_ns,
            residences: 0,
            markers: Vec::new(),
            driver_news: true,
        };
        Self {
            core,
            inputs,
            control: rings.control,
            page,
            clock,
            types,
            first: 0,
            batch: config.batch,
            lease_seen_ns: 0,
            running: false,
            paused: false,
            ended: false,
            counters_changed: true,
            last_round_ns: now_ns,
            rounds: 0,
            stalled_ns: 0,
            routes: RouteState { adopted: 0, received: vec![0; config.workers as usize], egress_pushed: 0, flushed: 0 },
        }
    }

    /// Which worker this is.
    pub(crate) fn index(&self) -> u16 {
        self.core.index
    }
}

const NS_PER_MS: u64 = 1_000_000;
