//! What a device answers: status events in order, and counters that every worker keeps of itself (C7).

use bytemuck::{Pod, Zeroable};

use crate::ids::{ActorId, Epoch, SetId, ShardId, ShardIndex, WorkerIndex};
use crate::limits::ENVELOPE_BYTES;
use crate::reason::{DeadReason, closed_list};

/// An event of a device. Bounded: when nobody polls, events that can be derived again are merged, never lost silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The device runs, with this many workers and this layout of the contract.
    Started {
        /// Workers.
        workers: u16,
        /// [`crate::LAYOUT_HASH`] of the code that runs; the host refuses another one than its own.
        layout_hash: u64,
    },
    /// The shard is resident and takes messages.
    Assigned {
        /// The shard.
        shard: ShardId,
        /// Its residence.
        epoch: Epoch,
        /// Its worker.
        worker: WorkerIndex,
    },
    /// The shard could not be made resident.
    AssignFailed {
        /// The shard.
        shard: ShardId,
        /// The residence that was asked for.
        epoch: Epoch,
    },
    /// The shard is gone; its worker touches it no more.
    Released {
        /// The shard.
        shard: ShardId,
        /// The residence that ended.
        epoch: Epoch,
    },
    /// Everything that was sent under route tables older than `version` has been consumed.
    RouteFlushed {
        /// The version.
        version: u64,
    },
    /// An actor failed.
    ActorFailed {
        /// Which.
        actor: ActorId,
        /// The fault's code: the class in the lower 16 bits, the user's code in the upper.
        fault: u32,
    },
    /// The device has stopped at the end of its lease; it keeps everything (C2).
    Fenced,
    /// The lease was renewed and the device goes on.
    Unfenced,
    /// A worker ended by a bug. Its shards are lost with it, the rest of the device goes on; the device has to be replaced.
    WorkerLost {
        /// Which.
        worker: WorkerIndex,
    },
    /// All workers have ended.
    Stopped,
    /// A worker has not come back from a round for too long: a bug, or a thread that does not run. What it owns stands still.
    WorkerStalled {
        /// Which.
        worker: WorkerIndex,
    },
    /// A stalled worker does rounds again.
    WorkerResumed {
        /// Which.
        worker: WorkerIndex,
    },
}

/// One status as it lies in a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct StatusWord {
    /// Which status; 0 is none.
    pub op: u16,
    /// A set, or 0.
    pub set: u16,
    /// As the status says.
    pub small: [u16; 2],
    /// As the status says.
    pub words: [u64; 7],
}

const _: () = assert!(size_of::<StatusWord>() == ENVELOPE_BYTES);

closed_list! {
    /// The `op` of a [`StatusWord`]. 0 is none. What each puts where:
    ///
    /// | op | `set` | `small` | `words` |
    /// |---|---|---|---|
    /// | started | | workers | layout hash |
    /// | assigned | set | shard, worker | epoch |
    /// | assign_failed | set | shard | epoch |
    /// | released | set | shard | epoch |
    /// | route_flushed | | | version |
    /// | actor_failed | set | fault's class, user's code | key |
    /// | fenced, unfenced, stopped | | | |
    /// | worker_lost, worker_stalled, worker_resumed | | worker | |
    StatusOp {
        /// [`Status::Started`].
        Started = 1, "started";
        /// [`Status::Assigned`].
        Assigned = 2, "assigned";
        /// [`Status::AssignFailed`].
        AssignFailed = 3, "assign_failed";
        /// [`Status::Released`].
        Released = 4, "released";
        /// [`Status::RouteFlushed`].
        RouteFlushed = 5, "route_flushed";
        /// [`Status::ActorFailed`].
        ActorFailed = 6, "actor_failed";
        /// [`Status::Fenced`].
        Fenced = 7, "fenced";
        /// [`Status::Unfenced`].
        Unfenced = 8, "unfenced";
        /// [`Status::Stopped`].
        Stopped = 9, "stopped";
        /// [`Status::WorkerLost`].
        WorkerLost = 10, "worker_lost";
        /// [`Status::WorkerStalled`].
        WorkerStalled = 11, "worker_stalled";
        /// [`Status::WorkerResumed`].
        WorkerResumed = 12, "worker_resumed";
    }
}

/// A status word that this version does not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadStatus {
    /// The `op` of the word.
    pub op: u16,
}

impl core::fmt::Display for BadStatus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "status word with op {} is malformed or unknown", self.op)
    }
}

impl core::error::Error for BadStatus {}

impl Status {
    /// The word that carries this status.
    #[must_use]
    pub fn encode(&self) -> StatusWord {
        let of_shard = |op: StatusOp, shard: ShardId, epoch: Epoch, second: u16| {
            let mut word =
                StatusWord { op: op.code(), set: shard.set.0, small: [shard.index.0, second], ..Default::default() };
            word.words[0] = epoch.0;
            word
        };
        let plain = |op: StatusOp, first: u16, value: u64| {
            let mut word = StatusWord { op: op.code(), small: [first, 0], ..Default::default() };
            word.words[0] = value;
            word
        };
        match *self {
            Status::Started { workers, layout_hash } => plain(StatusOp::Started, workers, layout_hash),
            Status::Assigned { shard, epoch, worker } => of_shard(StatusOp::Assigned, shard, epoch, worker.0),
            Status::AssignFailed { shard, epoch } => of_shard(StatusOp::AssignFailed, shard, epoch, 0),
            Status::Released { shard, epoch } => of_shard(StatusOp::Released, shard, epoch, 0),
            Status::RouteFlushed { version } => plain(StatusOp::RouteFlushed, 0, version),
            Status::ActorFailed { actor, fault } => StatusWord {
                set: actor.set.0,
                small: [fault as u16, (fault >> 16) as u16],
                ..plain(StatusOp::ActorFailed, 0, actor.key)
            },
            Status::Fenced => plain(StatusOp::Fenced, 0, 0),
            Status::Unfenced => plain(StatusOp::Unfenced, 0, 0),
            Status::Stopped => plain(StatusOp::Stopped, 0, 0),
            Status::WorkerLost { worker } => plain(StatusOp::WorkerLost, worker.0, 0),
            Status::WorkerStalled { worker } => plain(StatusOp::WorkerStalled, worker.0, 0),
            Status::WorkerResumed { worker } => plain(StatusOp::WorkerResumed, worker.0, 0),
        }
    }

    /// The status that a word carries.
    ///
    /// # Errors
    /// [`BadStatus`] if the op is unknown or an unused field is not 0.
    pub fn decode(word: &StatusWord) -> Result<Self, BadStatus> {
        Self::parse(word).filter(|status| status.encode() == *word).ok_or(BadStatus { op: word.op })
    }

    fn parse(word: &StatusWord) -> Option<Self> {
        let [first, second] = word.small;
        let shard = ShardId::new(SetId(word.set), ShardIndex(first));
        let value = word.words[0];
        Some(match StatusOp::from_code(word.op)? {
            StatusOp::Started => Status::Started { workers: first, layout_hash: value },
            StatusOp::Assigned => Status::Assigned { shard, epoch: Epoch(value), worker: WorkerIndex(second) },
            StatusOp::AssignFailed => Status::AssignFailed { shard, epoch: Epoch(value) },
            StatusOp::Released => Status::Released { shard, epoch: Epoch(value) },
            StatusOp::RouteFlushed => Status::RouteFlushed { version: value },
            StatusOp::ActorFailed => Status::ActorFailed {
                actor: ActorId::new(SetId(word.set), value),
                fault: u32::from(first) | (u32::from(second) << 16),
            },
            StatusOp::Fenced => Status::Fenced,
            StatusOp::Unfenced => Status::Unfenced,
            StatusOp::Stopped => Status::Stopped,
            StatusOp::WorkerLost => Status::WorkerLost { worker: WorkerIndex(first) },
            StatusOp::WorkerStalled => Status::WorkerStalled { worker: WorkerIndex(first) },
            StatusOp::WorkerResumed => Status::WorkerResumed { worker: WorkerIndex(first) },
        })
    }
}

/// Buckets of the histogram of batch sizes: bucket b counts batches of 2^b to 2^(b+1)-1 messages.
pub const BATCH_BUCKETS: usize = 16;

/// The counters of one worker, written by it alone. All are cumulative unless they say otherwise; units are messages where
/// nothing else is said. Control envelopes and verdicts are not messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct WorkerCounters {
    /// Envelopes taken from the ingress ring and finished: handled, dead-lettered or refused. Acknowledges ingress in order.
    pub ingress_done: u64,
    /// Messages taken from the ingress ring (refused ones not counted: the sender still owns them).
    pub ingress_in: u64,
    /// Messages handed to the egress ring.
    pub egress_out: u64,
    /// Messages that handlers sent: tells, replies and timers.
    pub sent: u64,
    /// Messages handled.
    pub handled: u64,
    /// Messages dead-lettered, by reason.
    pub dead: [u64; DeadReason::COUNT],
    /// Messages of clients refused with a verdict; not counted as sent.
    pub refused: u64,
    /// Messages that went through the spill.
    pub spilled: u64,
    /// Messages in the spill now.
    pub spill_now: u64,
    /// Timers pending now.
    pub timers_now: u64,
    /// Messages published in rings to workers, itself included. Summed over all workers, less `ring_in`, they lie in rings now.
    pub ring_out: u64,
    /// Messages taken from rings of workers.
    pub ring_in: u64,
    /// Actors resident now.
    pub actors_now: u64,
    /// Actors activated.
    pub activations: u64,
    /// Actors failed.
    pub failures: u64,
    /// Failed actors that were restarted.
    pub restarts: u64,
    /// Failures told to the actor of the same key in the parent set; each of them is a message sent.
    pub escalations: u64,
    /// Rounds in which the worker was in overload: it consumed inputs without running them.
    pub overload_rounds: u64,
    /// Rounds that handled at least one message.
    pub batches: u64,
    /// Nanoseconds in such rounds.
    pub busy_ns: u64,
    /// Stamps refused because they are too far ahead (C6).
    pub stamps_ahead: u64,
    /// Batches by size.
    pub batch_sizes: [u64; BATCH_BUCKETS],
}

impl WorkerCounters {
    /// All dead letters.
    #[must_use]
    pub fn dead_total(&self) -> u64 {
        self.dead.iter().sum()
    }

    /// C7, at one worker or summed over the workers of a device: what came in or was sent, less what was handled, handed out
    /// or dead-lettered. In a quiet device it equals what lies in rings, spills and timers.
    #[must_use]
    pub fn in_flight(&self) -> i128 {
        i128::from(self.ingress_in) + i128::from(self.sent)
            - i128::from(self.handled)
            - i128::from(self.egress_out)
            - i128::from(self.dead_total())
    }

    /// What lies in rings to workers, spills and timers, as counted there; summed over the workers of a device. C7 says that in a
    /// quiet device it equals [`WorkerCounters::in_flight`], which is counted elsewhere: comparing the two is the check.
    #[must_use]
    pub fn resting(&self) -> i128 {
        i128::from(self.ring_out) - i128::from(self.ring_in) + i128::from(self.spill_now) + i128::from(self.timers_now)
    }

    /// Adds another worker's counters.
    pub fn add(&mut self, other: &WorkerCounters) {
        let mine: &mut [u64] = bytemuck::cast_slice_mut(core::slice::from_mut(self));
        let theirs: &[u64] = bytemuck::cast_slice(core::slice::from_ref(other));
        for (sum, value) in mine.iter_mut().zip(theirs) {
            *sum = sum.wrapping_add(*value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_survives_its_word_and_damaged_words_are_refused() {
        let shard = ShardId::new(SetId(3), ShardIndex(9));
        let all = [
            Status::Started { workers: 4, layout_hash: u64::MAX },
            Status::Assigned { shard, epoch: Epoch(5), worker: WorkerIndex(6) },
            Status::AssignFailed { shard, epoch: Epoch(7) },
            Status::Released { shard, epoch: Epoch(8) },
            Status::RouteFlushed { version: 9 },
            Status::ActorFailed { actor: ActorId::new(SetId(10), 11), fault: 12 << 16 | 9 },
            Status::Fenced,
            Status::Unfenced,
            Status::Stopped,
            Status::WorkerLost { worker: WorkerIndex(13) },
            Status::WorkerStalled { worker: WorkerIndex(14) },
            Status::WorkerResumed { worker: WorkerIndex(15) },
        ];
        assert_eq!(all.len(), StatusOp::COUNT);
        for status in all {
            let mut word = status.encode();
            assert_eq!(Status::decode(&word), Ok(status));
            word.words[6] = 1;
            assert_eq!(Status::decode(&word), Err(BadStatus { op: word.op }));
        }
        assert!(Status::decode(&StatusWord::default()).is_err());
    }

    #[test]
    fn counters_add_field_by_field() {
        let mut sum = WorkerCounters { handled: 1, ..Default::default() };
        let mut other = WorkerCounters { handled: 2, egress_out: 3, ..Default::default() };
        other.dead[DeadReason::Overloaded as usize] = 5;
        sum.add(&other);
        assert_eq!((sum.handled, sum.egress_out, sum.dead_total()), (3, 3, 5));
        assert_eq!(sum.in_flight(), -11);
        let held = WorkerCounters { ring_out: 9, ring_in: 4, spill_now: 2, timers_now: 1, ..Default::default() };
        assert_eq!(held.resting(), 8);
    }
}
