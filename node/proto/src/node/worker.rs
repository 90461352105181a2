//! The queue to one worker: what was accepted for it and what it has been given, in order (C3, C9).
//!
//! ```text
//!   runs:     | done: popped | pushed: in the device | pending: here |
//!   position:        done_total              pushed_total      accepted_total
//! ```
//! A worker finishes its ingress in order, so its one counter acknowledges every channel: what it is done with is a prefix of
//! the runs. A run is a piece of one channel; a message that the agent itself dead-letters is a run without positions, so that it
//! is acknowledged in its turn and not before what was sent ahead of it.

use std::collections::VecDeque;

use ringfleet_abi::{DeadReason, Envelope};

use crate::inbound::FilterId;

/// What a run is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Messages for the worker.
    Messages,
    /// Messages that are dead-lettered by the agent; they have sequences but no positions.
    Dead(DeadReason),
    /// The marker that opens the gate of a shard; it has a position but no sequence.
    Marker,
}

/// Consecutive sequences of one channel, or a marker.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedRun {
    pub what: What,
    /// Slot of the residence.
    pub resident: u32,
    /// Slot of the source.
    pub source: u32,
    pub client: bool,
    pub filter: FilterId,
    pub first_seq: u64,
    pub count: u32,
    /// Ingress position of the first envelope.
    start: u64,
}

impl QueuedRun {
    fn positions(&self) -> u64 {
        if matches!(self.what, What::Dead(_)) { 0 } else { u64::from(self.count) }
    }

    fn end(&self) -> u64 {
        self.start + self.positions()
    }

    /// Its first `count` sequences.
    fn head(&self, count: u64) -> QueuedRun {
        QueuedRun { count: count as u32, ..*self }
    }

    /// What is left behind its first `count` sequences.
    fn tail(&self, count: u64) -> QueuedRun {
        QueuedRun {
            count: self.count - count as u32,
            first_seq: self.first_seq + count,
            start: self.start + count,
            ..*self
        }
    }
}

#[derive(Debug)]
pub(super) struct WorkerQueue {
    capacity: u64,
    pending: VecDeque<Envelope>,
    runs: VecDeque<QueuedRun>,
    pushed_total: u64,
    done_total: u64,
}

impl WorkerQueue {
    pub fn new(capacity: u32) -> Self {
        Self {
            capacity: u64::from(capacity),
            pending: VecDeque::new(),
            runs: VecDeque::new(),
            pushed_total: 0,
            done_total: 0,
        }
    }

    /// Envelopes that wait here.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    pub fn done_total(&self) -> u64 {
        self.done_total
    }

    /// Position behind everything that the device has been given.
    pub fn pushed_total(&self) -> u64 {
        self.pushed_total
    }

    fn accepted_total(&self) -> u64 {
        self.pushed_total + self.pending.len() as u64
    }

    #[inline]
    pub fn push(&mut self, envelope: Envelope) {
        self.pending.push_back(envelope);
    }

    /// Books the envelopes pushed last (`count`; none for a dead run) as a run.
    #[allow(clippy::too_many_arguments)]
    pub fn book(
        &mut self,
        what: What,
        resident: u32,
        source: u32,
        client: bool,
        filter: FilterId,
        first_seq: u64,
        count: u32,
    ) {
        let mut run = QueuedRun { what, resident, source, client, filter, first_seq, count, start: 0 };
        run.start = self.accepted_total() - run.positions();
        if let Some(last) = self.runs.back_mut()
            && last.what == what
            && what != What::Marker
            && last.filter == filter
            && last.first_seq + u64::from(last.count) == first_seq
            && last.count < u32::MAX / 2
        {
            last.count += count;
            return;
        }
        self.runs.push_back(run);
    }

    /// Books the marker pushed last.
    pub fn book_marker(&mut self, resident: u32) {
        let start = self.accepted_total() - 1;
        self.runs.push_back(QueuedRun {
            what: What::Marker,
            resident,
            source: u32::MAX,
            client: false,
            filter: FilterId::NONE,
            first_seq: 0,
            count: 1,
            start,
        });
    }

    /// Hands out up to `room` envelopes for the device, no more than its ring takes.
    pub fn take(&mut self, into: &mut Vec<Envelope>, room: usize) -> usize {
        let free = self.capacity.saturating_sub(self.pushed_total - self.done_total) as usize;
        let count = free.min(room).min(self.pending.len());
        into.extend(self.pending.drain(..count));
        self.pushed_total += count as u64;
        count
    }

    /// The worker's counter. Refused if it goes back or runs ahead of what the device was given.
    pub fn set_done(&mut self, done_total: u64) {
        assert!(
            done_total >= self.done_total && done_total <= self.pushed_total,
            "C7: a worker is done with {done_total} envelopes, after {} of {} given",
            self.done_total,
            self.pushed_total
        );
        self.done_total = done_total;
    }

    /// The next run, or piece of one, that is done.
    pub fn pop_done(&mut self) -> Option<QueuedRun> {
        let front = self.runs.front_mut()?;
        if front.end() <= self.done_total {
            return self.runs.pop_front();
        }
        let count = self.done_total.checked_sub(front.start).filter(|&count| count > 0)?;
        let done = front.head(count);
        *front = front.tail(count);
        Some(done)
    }

    /// The run that holds a position that the device has been given, and the sequence there.
    pub fn at(&self, position: u64) -> Option<(QueuedRun, u64)> {
        if position < self.done_total || position >= self.pushed_total {
            return None;
        }
        let after = self.runs.partition_point(|run| run.start <= position);
        // Dead runs have no positions: step back over those that begin where the wanted run does.
        let run = self.runs.range(..after).rev().find(|run| run.what != What::Marker && run.end() > position)?;
        (run.start <= position).then(|| (*run, run.first_seq + (position - run.start)))
    }

    /// Takes out everything: no worker will be done with it any more.
    pub fn give_up(&mut self) -> VecDeque<QueuedRun> {
        self.pending.clear();
        std::mem::take(&mut self.runs)
    }

    /// Takes out what has not been given to the device and `wanted` selects; gives out each run with its sequences.
    pub fn withdraw(&mut self, wanted: impl Fn(&QueuedRun) -> bool) -> Vec<QueuedRun> {
        let mut out = Vec::new();
        let mut kept_runs = VecDeque::with_capacity(self.runs.len());
        let mut kept = VecDeque::with_capacity(self.pending.len());
        let mut next = self.pushed_total;
        for run in std::mem::take(&mut self.runs) {
            let pushed = self.pushed_total.saturating_sub(run.start).min(run.positions());
            let in_device = matches!(run.what, What::Dead(_)) && run.start < self.pushed_total;
            if (pushed > 0 && pushed == run.positions()) || in_device {
                kept_runs.push_back(run);
                continue;
            }
            let mut rest = run;
            if pushed > 0 {
                kept_runs.push_back(run.head(pushed));
                rest = run.tail(pushed);
            }
            let envelopes = self.pending.drain(..rest.positions() as usize);
            if wanted(&rest) {
                drop(envelopes);
                out.push(rest);
            } else {
                kept.extend(envelopes);
                rest.start = next;
                next += rest.positions();
                kept_runs.push_back(rest);
            }
        }
        self.runs = kept_runs;
        self.pending = kept;
        out
    }
}
