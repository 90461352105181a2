//! One channel: the messages of one source to one shard, in order (C3).
//!
//! ```text
//!   sequences:   1 ......... base ........ accepted ....... sent ......... maybe ......... end
//!                handled     |<----------------- unacked: kept ----------------------->|
//!                            |<- need not be sent again ->|<- in transit ->|
//!                            |<------ may have been executed ------>|<- provably not executed ->|
//!
//!   Open --Busy(n)--> BackOff --time--> Open          (rewind to n, attempt + 1)
//!   Open --Moved(n)--> Moved --younger view--> Open   (rewind to n, attempt + 1)
//!   any --link up again--> same, rewind to base, attempt + 1
//!   any --ChannelLost | node lost | other residence | set deleted--> Open, generation + 1, numbering from 1
//! ```
//!
//! **What may have been executed.** `maybe_through` is the highest sequence of this generation that was sent and not refused
//! since. A refusal at n says that the receiver has accepted exactly `..n`, so it lowers `maybe_through` to n - 1. It counts only
//! if it echoes the current attempt, because a refusal of an earlier attempt says nothing about what was sent since; and if the
//! receiver has no memory of the channel any more (the shard left, the session expired), it speaks of this attempt only: what
//! earlier attempts carried there may have been executed before the memory went. When a channel breaks, messages up to `maybe_through` are reported lost; those behind it were provably not executed, so they are
//! kept and numbered anew. The same line decides which message a client may take back.

use std::collections::VecDeque;

use ringfleet_abi::{Envelope, Epoch, ShardId};

use crate::limits::{BACKOFF_MS_FIRST, BACKOFF_MS_MAX};
use crate::now::NS_PER_MS;
use crate::wire::RunHeader;

/// Envelopes of memory that an emptied channel may keep.
const IDLE_CAPACITY: usize = 1024;

/// Where a channel's messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Slot of the peer.
    pub peer: u32,
    /// The residence.
    pub epoch: Epoch,
}

/// Whether a channel may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Yes.
    Open,
    /// After a pause.
    BackOff {
        /// When, in monotonic ns.
        until_ns: u64,
    },
    /// When a view younger than this index, or one with this epoch, still gives a route.
    Moved {
        /// The view when the refusal came.
        view_index: u64,
        /// The residence that the receiver knows of.
        epoch: Epoch,
    },
}

#[derive(Debug)]
pub(super) struct Channel {
    pub shard: ShardId,
    pub generation: u32,
    pub attempt: u32,
    /// Sequence of the first kept message; everything before is handled.
    pub base: u64,
    pub unacked: VecDeque<Envelope>,
    /// Highest sequence sent in this attempt, or base - 1.
    pub sent_through: u64,
    /// Highest sequence that the peer has said to have accepted, or base - 1.
    pub accepted_through: u64,
    /// Highest sequence that may have been accepted, or base - 1.
    pub maybe_through: u64,
    /// `maybe_through` when this attempt began.
    pub carried_through: u64,
    pub target: Option<Target>,
    /// Whether the view gives the route of `target` now.
    pub open: bool,
    pub gate: Gate,
    pub backoff_ms: u64,
    /// Whether it stands in its peer's list of channels with something to send.
    pub listed: bool,
    /// Since when it is at its bound, in monotonic ns.
    pub full_since: Option<u64>,
    /// Whether it is above half of its bound.
    pub half_full: bool,
    /// Whether its slot is free.
    pub free: bool,
}

impl Channel {
    pub fn new(shard: ShardId, generation: u32) -> Self {
        Self {
            shard,
            generation,
            attempt: 1,
            base: 1,
            unacked: VecDeque::new(),
            sent_through: 0,
            accepted_through: 0,
            maybe_through: 0,
            carried_through: 0,
            target: None,
            open: false,
            gate: Gate::Open,
            backoff_ms: 0,
            listed: false,
            full_since: None,
            half_full: false,
            free: false,
        }
    }

    pub fn len(&self) -> usize {
        self.unacked.len()
    }

    /// Sequence of the last kept message, or base - 1.
    pub fn end(&self) -> u64 {
        self.base - 1 + self.unacked.len() as u64
    }

    /// Whether the receiver may have a memory of this generation.
    pub fn used(&self) -> bool {
        self.base > 1 || self.maybe_through >= self.base
    }

    pub fn in_transit(&self) -> u64 {
        self.sent_through.saturating_sub(self.accepted_through)
    }

    pub fn sendable(&self) -> bool {
        self.open && self.gate == Gate::Open && self.sent_through < self.end()
    }

    /// Drops everything through `handled` and skips what the peer has accepted. Returns how many were handled.
    pub fn acknowledge(&mut self, accepted: u64, handled: u64) -> Option<u64> {
        if accepted > self.maybe_through || handled > accepted {
            return None;
        }
        if accepted < self.accepted_through && accepted >= self.base - 1 {
            // The peer accepted more and took it back (its device refused it), and the refusal named an earlier attempt of
            // ours. Without this line nobody would send those messages again.
            self.sent_through = accepted;
            self.accepted_through = accepted;
            self.next_attempt();
        }
        if accepted > self.accepted_through {
            self.accepted_through = accepted;
            self.sent_through = self.sent_through.max(accepted);
            self.backoff_ms = 0;
        }
        let count = (handled + 1).saturating_sub(self.base);
        self.unacked.drain(..count as usize);
        self.base += count;
        self.carried_through = self.carried_through.max(self.base - 1);
        if self.unacked.is_empty() && self.unacked.capacity() > IDLE_CAPACITY {
            self.unacked = VecDeque::new();
        }
        self.check();
        Some(count)
    }

    /// Nothing from `at` on was accepted in this attempt; a receiver that remembers the channel is `certain` that nothing from
    /// `at` on was accepted in earlier ones either.
    pub fn refused(&mut self, attempt: u32, at: u64, certain: bool) -> bool {
        if attempt != self.attempt || at < self.base || at > self.maybe_through + 1 {
            return false;
        }
        self.sent_through = at - 1;
        self.accepted_through = at - 1;
        self.maybe_through = if certain { at - 1 } else { self.carried_through.max(at - 1) };
        self.next_attempt();
        true
    }

    /// Position in the queue of the first message that was provably not executed.
    pub fn unexecuted(&self) -> usize {
        (self.maybe_through + 1 - self.base) as usize
    }

    pub fn back_off(&mut self, now_ns: u64) -> u64 {
        self.backoff_ms = (self.backoff_ms * 2).clamp(BACKOFF_MS_FIRST, BACKOFF_MS_MAX);
        let until_ns = now_ns + self.backoff_ms * NS_PER_MS;
        self.gate = Gate::BackOff { until_ns };
        until_ns
    }

    /// Everything kept must be sent again: what was in transit may be lost with its link.
    pub fn rewind(&mut self) {
        self.sent_through = self.base - 1;
        self.accepted_through = self.base - 1;
        self.next_attempt();
    }

    fn next_attempt(&mut self) {
        self.attempt = self.attempt.wrapping_add(1);
        self.carried_through = self.maybe_through;
        self.check();
    }

    /// Ends this generation; messages through `lost_through` are given out, the others numbered from 1 in `generation`.
    pub fn break_at(&mut self, lost_through: u64, generation: u32) -> Vec<Envelope> {
        let count = (lost_through.min(self.end()) + 1).saturating_sub(self.base);
        let lost = self.unacked.drain(..count as usize).collect();
        self.generation = generation;
        self.base = 1;
        self.sent_through = 0;
        self.accepted_through = 0;
        self.maybe_through = 0;
        self.carried_through = 0;
        self.gate = Gate::Open;
        self.next_attempt();
        lost
    }

    /// The next run of at most `room` envelopes; they count as sent.
    pub fn take_run(&mut self, room: usize, epoch: Epoch) -> (RunHeader, (&[Envelope], &[Envelope])) {
        let first_seq = self.sent_through + 1;
        let from = (first_seq - self.base) as usize;
        let count = (self.unacked.len() - from).min(room);
        self.sent_through += count as u64;
        self.maybe_through = self.maybe_through.max(self.sent_through);
        let header = RunHeader {
            shard: self.shard,
            count: count as u32,
            generation: self.generation,
            attempt: self.attempt,
            epoch,
            first_seq,
        };
        let (head, tail) = self.unacked.as_slices();
        let to = from + count;
        let split = head.len();
        let pieces =
            (&head[from.min(split)..to.min(split)], &tail[from.saturating_sub(split)..to.saturating_sub(split)]);
        (header, pieces)
    }

    /// C3, C4: the order of the marks on which re-sending and taking back rely.
    fn check(&self) {
        let floor = self.base - 1;
        assert!(
            floor <= self.accepted_through
                && self.accepted_through <= self.sent_through
                && self.sent_through <= self.maybe_through
                && self.maybe_through <= self.end(),
            "C3: marks of channel {} out of order: base {} accepted {} sent {} maybe {} end {}",
            self.shard,
            self.base,
            self.accepted_through,
            self.sent_through,
            self.maybe_through,
            self.end(),
        );
    }
}
