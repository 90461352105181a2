//! What becomes of messages that are not handled: refusals and gates, dead letters, verdicts, and what overload sheds
//! (C3, C4, C7, C9).

use ringfleet_abi::{Consumer, DeadReason, Envelope, Flags, Hlc, Verdict, VerdictBody};

use super::Core;
use super::execute::FIRED;
use crate::memory::HeapRing;

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Ring,
    /// The ingress, with the position that a verdict names.
    Ingress(u64),
}

impl Core {
    /// Overload: dead-letters what other workers sent. Markers are no messages and are noted.
    pub(super) fn shed_ring(&mut self, input: &mut Consumer<HeapRing>, count: u32) -> u32 {
        for at in 0..count {
            let envelope = input.peek_ref(at);
            if self.take_marker(envelope) {
                continue;
            }
            self.out.counters.ring_in += 1;
            if envelope.flags().has(FIRED) {
                self.fired.pop_front();
            }
            self.out.dead(DeadReason::Overloaded);
        }
        input.release(count);
        count
    }

    /// Overload: refuses what clients sent, dead-letters the rest, as long as verdicts have a place.
    pub(super) fn shed_ingress(&mut self, input: &mut Consumer<HeapRing>, count: u32) -> u32 {
        let mut done = 0;
        while done < count && self.out.has_room_for_verdict() {
            let envelope = input.peek_ref(done);
            let origin = self.next_origin();
            if envelope.is_control() {
                self.open_gate(envelope);
            } else if envelope.from_client() && self.is_resident(envelope) {
                self.refuse(envelope, origin, Verdict::Busy);
            } else {
                self.out.counters.ingress_in += 1;
                let reason = self.whereabouts(envelope).err().unwrap_or(DeadReason::Overloaded);
                self.dead_letter(envelope, origin, reason, 0);
            }
            done += 1;
        }
        input.release(done);
        done
    }

    /// A client's ask was handled: without a reply it is told so.
    pub(super) fn answer_silence(&mut self, envelope: &Envelope, origin: Origin) {
        let replied = self.sends.iter().any(|(_, sent)| {
            sent.flags().has(Flags::REPLY) && sent.to_set == envelope.from_set && sent.to_key == envelope.from_key
        });
        if !replied {
            self.verdict(envelope, origin, Verdict::NoReply, 0);
        }
    }

    /// A control envelope of the ingress: a gate marker opens its shard's gate; anything else is no message and is
    /// dropped.
    #[cold]
    pub(super) fn open_gate(&mut self, envelope: &Envelope) {
        let Some(id) = envelope.as_gate_marker() else { return };
        if let Some(entry) = self.sets.get_mut(id.set.0)
            && let Some(Some(shard)) = entry.local.get_mut(id.index.0 as usize)
        {
            shard.gate_closed = false;
        }
    }

    pub(super) fn is_gated(&self, envelope: &Envelope) -> bool {
        self.sets
            .get(envelope.to_set)
            .and_then(|entry| {
                let index = entry.map.shard_of(envelope.to_key)?;
                Some(entry.local[index.0 as usize].as_deref()?.gate_closed)
            })
            .unwrap_or(false)
    }

    pub(super) fn is_resident(&mut self, envelope: &Envelope) -> bool {
        self.shard_mut(envelope).is_some()
    }

    /// Does not accept a client's message, nor any later one for its shard until a gate marker comes (C3).
    #[cold]
    pub(super) fn refuse(&mut self, envelope: &Envelope, origin: Origin, verdict: Verdict) {
        if let Some(shard) = self.shard_mut(envelope) {
            shard.gate_closed = true;
        }
        self.out.counters.refused += 1;
        self.verdict(envelope, origin, verdict, 0);
    }

    /// Ends a message that is not handled; a client that asked is told.
    #[cold]
    pub(super) fn dead_letter(&mut self, envelope: &Envelope, origin: Origin, reason: DeadReason, fault: u32) {
        self.out.dead(reason);
        if origin == Origin::Ring || !envelope.from_client() || !envelope.flags().has(Flags::ASK) {
            return;
        }
        let verdict = match reason {
            DeadReason::ActorFailed => Verdict::ActorFailed,
            DeadReason::HandlerFailed => Verdict::HandlerFailed,
            DeadReason::NotResident => Verdict::NotResident,
            _ => Verdict::BadMessage,
        };
        self.verdict(envelope, origin, verdict, fault);
    }

    pub(super) fn verdict(&mut self, envelope: &Envelope, origin: Origin, verdict: Verdict, fault: u32) {
        let Origin::Ingress(position) = origin else { return };
        let body = VerdictBody { position, fault, worker: self.index, kind: envelope.kind };
        self.out.push_verdict(&Envelope::verdict(envelope, verdict, body, Hlc(self.now_hlc)));
    }
}
