//! Control envelopes: what travels in rings beside messages, and is not one (not counted in C7).
//!
//! | envelope | flags | where | meaning |
//! |---|---|---|---|
//! | verdict | reply, control | egress | a client's message was not handled, or its ask got no reply; `kind` is the [`Verdict`] |
//! | gate marker | marker, control | ingress | the messages of clients to this shard may be handled again (C3) |
//! | route marker | marker, control | between workers | everything sent under older route tables lies before this slot |

use bytemuck::{Pod, Zeroable};

use crate::envelope::{Envelope, Flags};
use crate::hlc::Hlc;
use crate::ids::{SetId, ShardId, WorkerIndex};
use crate::reason::Verdict;

/// The payload of a verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct VerdictBody {
    /// Which envelope of the worker's ingress this answers: how many came before it, from 0 and markers included.
    pub position: u64,
    /// Why the handling failed: the code of the fault; 0 if no handler ran.
    pub fault: u32,
    /// The worker that answers.
    pub worker: u16,
    /// The kind of the message that this answers.
    pub kind: u16,
}

const _: () = assert!(size_of::<VerdictBody>() == 16);

impl Envelope {
    /// The verdict on `message`, addressed to the client that sent it.
    #[must_use]
    pub fn verdict(message: &Envelope, verdict: Verdict, body: VerdictBody, hlc: Hlc) -> Envelope {
        let mut answer = Envelope {
            to_key: message.from_key,
            from_key: message.to_key,
            hlc: hlc.0,
            to_set: message.from_set,
            from_set: message.to_set,
            kind: verdict.code(),
            bits: size_of::<VerdictBody>() as u16,
            payload: [0; 32],
        };
        answer.set_flags(Flags::REPLY.with(Flags::CONTROL));
        answer.payload[..size_of::<VerdictBody>()].copy_from_slice(bytemuck::bytes_of(&body));
        answer
    }

    /// The verdict that this envelope carries, if it is one.
    #[must_use]
    pub fn as_verdict(&self) -> Option<(Verdict, VerdictBody)> {
        if !self.flags().has(Flags::REPLY.with(Flags::CONTROL)) || self.payload_len() != size_of::<VerdictBody>() {
            return None;
        }
        let verdict = Verdict::from_code(self.kind)?;
        Some((verdict, bytemuck::pod_read_unaligned(&self.payload[..size_of::<VerdictBody>()])))
    }

    /// The marker that opens the gate of `shard` for messages of clients.
    #[must_use]
    pub fn gate_marker(shard: ShardId) -> Envelope {
        let mut marker = Envelope { to_set: shard.set.0, to_key: shard.pack() as u64, ..Envelope::default() };
        marker.set_flags(Flags::MARKER.with(Flags::CONTROL));
        marker
    }

    /// The shard whose gate this envelope opens, if it is a gate marker.
    #[must_use]
    pub fn as_gate_marker(&self) -> Option<ShardId> {
        if !self.is_marker() || self.to_set == SetId::NONE.0 {
            return None;
        }
        let shard = ShardId::unpack(u32::try_from(self.to_key).ok()?);
        if shard.set.0 == self.to_set { Some(shard) } else { None }
    }

    /// The marker that `worker` puts into every ring when it has adopted the route table `version`.
    #[must_use]
    pub fn route_marker(worker: WorkerIndex, version: u64) -> Envelope {
        let mut marker = Envelope { to_key: version, from_key: worker.0 as u64, ..Envelope::default() };
        marker.set_flags(Flags::MARKER.with(Flags::CONTROL));
        marker
    }

    /// Worker and version of a route marker, if this envelope is one.
    #[must_use]
    pub fn as_route_marker(&self) -> Option<(WorkerIndex, u64)> {
        if !self.is_marker() || self.to_set != SetId::NONE.0 {
            return None;
        }
        Some((WorkerIndex(u16::try_from(self.from_key).ok()?), self.to_key))
    }

    /// Whether this is a marker of either kind.
    #[must_use]
    #[inline]
    pub const fn is_marker(&self) -> bool {
        self.flags().has(Flags::MARKER.with(Flags::CONTROL))
    }

    /// Whether this is a control envelope: a verdict or a marker, not a message.
    #[must_use]
    #[inline]
    pub const fn is_control(&self) -> bool {
        self.flags().has(Flags::CONTROL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ActorId, SessionId, ShardIndex};

    #[test]
    fn a_verdict_goes_back_to_the_client_and_keeps_its_body() {
        let client = ActorId::client(SessionId(3), 8);
        let message = Envelope::new(client, ActorId::new(SetId(2), 5), 77, Flags::ASK, &[1]).expect("fits");
        let body = VerdictBody { position: u64::MAX - 1, fault: 9 | 4 << 16, worker: 1, kind: 77 };
        let answer = Envelope::verdict(&message, Verdict::Busy, body, Hlc(9));
        assert_eq!(answer.as_verdict(), Some((Verdict::Busy, body)));
        assert_eq!((answer.to(), answer.from()), (client, ActorId::new(SetId(2), 5)));
        assert!(answer.is_control() && !answer.is_marker());
        assert_eq!(message.as_verdict(), None);
    }

    #[test]
    fn the_two_kinds_of_marker_are_told_apart() {
        let shard = ShardId::new(SetId(7), ShardIndex(9));
        let gate = Envelope::gate_marker(shard);
        assert_eq!((gate.as_gate_marker(), gate.as_route_marker()), (Some(shard), None));
        let route = Envelope::route_marker(WorkerIndex(3), 12);
        assert_eq!((route.as_gate_marker(), route.as_route_marker()), (None, Some((WorkerIndex(3), 12))));
        assert_eq!(Envelope::default().as_route_marker(), None);
    }
}
