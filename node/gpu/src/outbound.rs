//! A lane: a ring to somewhere, and the order-keeping spill in front of it (C3, C9).
//!
//! A worker has one lane per worker, itself included, and one to the host. A push never waits and never fails: what
//! does not fit the ring is spilled. **Order**: once something is spilled, everything later for this ring goes behind
//! it until the spill is drained from its front, so the ring always carries what was pushed in the order it was pushed;
//! markers go through the same door. A full lane holds up no other.
//!
//! Bounds: the worker takes an input only while everything that its handling may push has room in the spill budget it
//! shares over its lanes. Markers stand outside the budget, there is at most one per lane: a newer marker replaces an
//! older one that is still spilled, because it says more (everything before the newer lies before it too).

use std::collections::VecDeque;

use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{Envelope, Producer};

use crate::memory::HeapRing;

/// What a push or a drain did, to be counted by the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Envelopes that went from the spill to the ring, markers not counted.
    pub(crate) envelopes: u32,
    /// Those of them that are messages.
    pub(crate) messages: u32,
    /// Whether anything moved, markers included.
    pub(crate) moved: bool,
}

/// Where a push went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Ring,
    Spill,
}

/// One lane.
#[derive(Debug)]
pub(crate) struct Lane {
    ring: Producer<HeapRing>,
    spill: VecDeque<Envelope>,
    /// Envelopes pushed since the start, and those of them still spilled: how far the lane is, for route flushes.
    pushed: u64,
    /// Positions of spilled verdicts, oldest first (egress only).
    verdicts: VecDeque<u64>,
}

impl Lane {
    pub(crate) fn new(ring: Producer<HeapRing>) -> Self {
        Self { ring, spill: VecDeque::new(), pushed: 0, verdicts: VecDeque::new() }
    }

    /// Appends an envelope.
    #[inline]
    pub(crate) fn push(&mut self, envelope: &Envelope) -> Pushed {
        self.pushed += 1;
        if (self.spill.is_empty() || is_on(Mutant::SpillOvertaken)) && self.ring.push(envelope) {
            return Pushed::Ring;
        }
        self.push_spill(envelope);
        Pushed::Spill
    }

    #[cold]
    fn push_spill(&mut self, envelope: &Envelope) {
        if let Some((_, body)) = envelope.as_verdict() {
            self.verdicts.push_back(body.position);
        }
        self.spill.push_back(*envelope);
    }

    /// Appends a marker, in place of an older one that has not left the spill.
    pub(crate) fn push_marker(&mut self, marker: &Envelope) {
        self.spill.retain(|spilled| !spilled.is_marker());
        if !(self.spill.is_empty() && self.ring.push(marker)) {
            self.spill.push_back(*marker);
        }
    }

    /// Whether a push would go into the ring.
    pub(crate) fn has_room(&mut self) -> bool {
        self.spill.is_empty() && (self.ring.credit() > 0 || self.ring.free() > 0)
    }

    /// Whether anything is spilled.
    #[inline]
    pub(crate) fn is_spilling(&self) -> bool {
        !self.spill.is_empty()
    }

    /// Moves what fits from the spill to the ring, oldest first.
    pub(crate) fn drain(&mut self) -> Drained {
        let mut drained = Drained::default();
        while let Some(envelope) = self.spill.front() {
            if !self.ring.push(envelope) {
                break;
            }
            drained.moved = true;
            if !envelope.is_marker() {
                drained.envelopes += 1;
                drained.messages += u32::from(!envelope.is_control());
                if envelope.is_control() {
                    self.verdicts.pop_front();
                }
            }
            self.spill.pop_front();
        }
        if self.spill.is_empty() && self.spill.capacity() > SPILL_KEPT {
            // A burst is over: its memory goes back.
            self.spill = VecDeque::new();
        }
        drained
    }

    /// The ingress position of the oldest verdict that is still spilled.
    pub(crate) fn oldest_verdict(&self) -> Option<u64> {
        self.verdicts.front().copied()
    }

    /// How many envelopes have been pushed, markers not counted.
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// How many of them have left the spill.
    pub(crate) fn passed(&self) -> u64 {
        self.pushed - self.spill.iter().filter(|envelope| !envelope.is_marker()).count() as u64
    }

    /// Publishes what was written to the ring; says whether there was anything.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        self.ring.publish()
    }

    /// Whether something lies written and unpublished.
    pub(crate) fn is_unpublished(&self) -> bool {
        self.ring.unpublished() > 0
    }

    /// The slot that will be written after `ahead` more.
    #[inline]
    pub(crate) fn slot_address(&self, ahead: u32) -> *const Envelope {
        self.ring.slot_address(ahead)
    }
}

/// Envelopes for which an empty spill keeps memory.
const SPILL_KEPT: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringfleet_abi::WorkerIndex;

    use super::*;

    fn message(key: u64) -> Envelope {
        Envelope { to_key: key, kind: 1, ..Envelope::default() }
    }

    proptest! {
        #[test]
        fn a_lane_delivers_what_was_pushed_in_order(steps in prop::collection::vec((0..20u32, 0..12u32), 1..100)) {
            let (producer, mut consumer) = HeapRing::ends(8).expect("memory");
            let mut lane = Lane::new(producer);
            let (mut sent, mut got, mut spilled) = (0u64, 0u64, 0u64);
            for (pushes, takes) in steps {
                spilled -= u64::from(lane.drain().messages);
                for _ in 0..pushes {
                    if lane.push(&message(sent)) == Pushed::Spill {
                        spilled += 1;
                    }
                    sent += 1;
                }
                lane.publish();
                prop_assert_eq!(lane.passed(), sent - spilled);
                for _ in 0..takes {
                    if let Some(envelope) = consumer.pop() {
                        prop_assert_eq!(envelope.to_key, got);
                        got += 1;
                    }
                }
            }
            while got < sent {
                lane.drain();
                lane.publish();
                prop_assert_eq!(consumer.pop().map(|envelope| envelope.to_key), Some(got));
                got += 1;
            }
        }
    }

    fn drain_all(lane: &mut Lane, consumer: &mut ringfleet_abi::Consumer<HeapRing>) -> Vec<u64> {
        let mut order = Vec::new();
        for _ in 0..4 {
            lane.publish();
            while let Some(envelope) = consumer.pop() {
                order.push(envelope.as_route_marker().map_or(envelope.to_key, |(_, version)| 100 + version));
            }
            lane.drain();
        }
        order
    }

    #[test]
    fn a_newer_marker_replaces_a_spilled_one_and_stays_behind_what_was_spilled() {
        let (producer, mut consumer) = HeapRing::ends(8).expect("memory");
        let mut lane = Lane::new(producer);
        for key in 0..9 {
            lane.push(&message(key));
        }
        lane.push_marker(&Envelope::route_marker(WorkerIndex(0), 1));
        lane.push(&message(9));
        lane.push_marker(&Envelope::route_marker(WorkerIndex(0), 2));
        assert_eq!(drain_all(&mut lane, &mut consumer), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 102]);
    }

    #[test]
    fn a_marker_does_not_overtake_the_spill_when_the_ring_has_room_again() {
        let (producer, mut consumer) = HeapRing::ends(8).expect("memory");
        let mut lane = Lane::new(producer);
        for key in 0..10 {
            lane.push(&message(key));
        }
        lane.publish();
        assert_eq!(consumer.pop().map(|envelope| envelope.to_key), Some(0));
        lane.push_marker(&Envelope::route_marker(WorkerIndex(0), 1));
        assert_eq!(drain_all(&mut lane, &mut consumer), [1, 2, 3, 4, 5, 6, 7, 8, 9, 101]);
    }
}
