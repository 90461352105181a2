//! What every device is to the process that drives it.
//!
//! **Acknowledgement (C3).** A worker keeps one cumulative counter, [`WorkerCounters::ingress_done`]: how many
//! envelopes of its ingress it is finished with, in order. The driver knows in which order it pushed and, by
//! [`Device::ingress_worker`], to which worker, so this one number acknowledges the messages of all sessions.
//!
//! **Verdicts (C4).** A message of a client that was refused, and an ask that will get no reply, is answered by an
//! envelope from [`Device::poll_egress`] with the flags reply and control ([`Envelope::as_verdict`]). It names its
//! message by the position in the worker's ingress. Every verdict on an envelope counted in `ingress_done` is in the
//! egress ring before the counter says so: read the counter first, drain the egress, then acknowledge what the counter
//! said.
//!
//! **The gate (C3).** After refusing a client's message (`busy`, `shard_full`) a worker refuses every later client
//! message of that shard as `busy`, until it finds the shard's gate marker ([`Envelope::gate_marker`]) in its ingress.
//! Whoever pushes a marker and then the refused messages again, in order, keeps the order of every session.
//!
//! **Sleeping.** A driver with nothing to do sleeps, and the device wakes it, if it can:
//!
//! ```text
//!   driver                                     device
//!   look at everything: nothing                publish egress, ingress_done or a status
//!   watch(waker)                               fence; does the driver sleep? wake it, once
//!   look at everything once more: nothing
//!   sleep, at most until some limit
//! ```
//!
//! A device that [cannot](Device::can_wake), such as a GPU whose memory wakes nobody, is polled: without a pause for a bounded
//! number of looks, then in growing steps. Both are the driver's business; the device only says which.

use std::collections::BTreeMap;
use std::task::Waker;

use ringfleet_abi::{Control, Envelope, SetId, Status, WorkerCounters, WorkerIndex};

/// A queue to the device is full; try again after it has made progress. Nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device's control queue is full")]
pub struct Full;

/// How often a device changed the code that runs its actors, see [`Device::code_changes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeChanges {
    /// How often.
    pub count: u64,
    /// How long nothing ran for it, in sum.
    pub standstill_ns: u64,
}

impl CodeChanges {
    /// Adds those of another device, or of an earlier start.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.standstill_ns += other.standstill_ns;
    }
}

/// A device, as its driver sees it. One thread drives it; no method waits.
pub trait Device: Send {
    /// Hands envelopes to the workers that own their shards and returns how many were taken: a prefix. A marker counts
    /// as an envelope. It stops at the first whose worker has a full ingress ring; a driver that keeps fewer envelopes
    /// outstanding per worker than the ring has slots is never stopped.
    fn push_ingress(&mut self, envelopes: &[Envelope]) -> usize;

    /// The worker whose ingress [`Device::push_ingress`] would put this envelope into now. An envelope of a shard that
    /// is not assigned here goes to worker 0, which answers or dead-letters it.
    fn ingress_worker(&self, envelope: &Envelope) -> WorkerIndex;

    /// Takes messages and verdicts that leave the device, in order per worker, and returns how many. Fewer than there is room for:
    /// everything that had been published before the call was taken, by whichever worker, unless [`Device::egress_is_behind`].
    fn poll_egress(&mut self, envelopes: &mut [Envelope]) -> usize;

    /// Whether the last [`Device::poll_egress`] left something where it was although there was room: too many events wait for
    /// [`Device::poll_status`], or the device is not believed any more. What was read of `ingress_done` before must not be acknowledged
    /// then (C3, C4): the verdicts on it may be among what was left. Polling again at once does not help; the next round may.
    fn egress_is_behind(&self) -> bool {
        false
    }

    /// Queues a control. Controls are carried out in the order submitted, but for assignments of shards whose type's code is still being made:
    /// what follows them goes on, and `Assigned` says when they have been carried out. A route commit that leads to such a shard waits.
    ///
    /// # Errors
    /// [`Full`] if the queue has no room.
    fn submit(&mut self, control: Control) -> Result<(), Full>;

    /// The next event, if there is one. When it is `RouteFlushed`, what was sent to egress before the flush is there to be polled.
    fn poll_status(&mut self) -> Option<Status>;

    /// A copy of a worker's counters. All zero for a worker that the device does not have.
    fn counters(&self, worker: WorkerIndex) -> WorkerCounters;

    /// [`WorkerCounters::ingress_done`] of a worker, without a copy of the rest.
    fn ingress_done(&self, worker: WorkerIndex) -> u64 {
        self.counters(worker).ingress_done
    }

    /// How many workers the device has.
    fn workers(&self) -> u16;

    /// Actors resident now, by set; empty for a device that does not count them by set.
    fn actors_by_set(&self) -> BTreeMap<SetId, u64> {
        BTreeMap::new()
    }

    /// How often the code that runs the actors was changed while they ran, and for how long they stood still for it, since the device started.
    /// Nothing changes where types are part of the program.
    fn code_changes(&self) -> CodeChanges {
        CodeChanges::default()
    }

    /// Looks whether every worker that has something to do comes back from its rounds; what it finds comes as
    /// [`Status::WorkerStalled`] and [`Status::WorkerResumed`]. The driver calls it a few times a second; time in which nobody called
    /// it does not count, so a process that was stopped finds nothing stalled when it goes on.
    fn check_workers(&mut self, now_ns: u64) {
        let _ = now_ns;
    }

    /// Whether [`Device::watch`] does anything. If not, the driver polls.
    fn can_wake(&self) -> bool {
        false
    }

    /// The driver will sleep. From now on the first publication of egress, progress (`ingress_done`) or status wakes it, once,
    /// until it calls again. What was published before the call may not: the driver looks once more after it and sleeps only if
    /// there is nothing. A busy driver never calls this, and a device costs it nothing.
    fn watch(&mut self, waker: &Waker) {
        let _ = waker;
    }

    /// The counters of all workers, added up (C7). Each worker's are of a moment of their own, so the sum balances only where
    /// nothing moves: while messages are handled it may be off either way, even to 0 in flight.
    fn total(&self) -> WorkerCounters {
        let mut total = WorkerCounters::default();
        for worker in 0..self.workers() {
            total.add(&self.counters(WorkerIndex(worker)));
        }
        total
    }
}
