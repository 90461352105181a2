//! Messages that come out of devices: to other nodes, to clients, verdicts (C3, C4, C7).

use ringfleet_abi::{DeadReason, DeviceIndex, Envelope, LostReason, SetId, Verdict};

use super::NodeProto;
use super::deliver::shard_of;
use crate::action::Action;
use crate::limits::FRAME_REPLIES_MAX;
use crate::outbound::EnqueueError;
use crate::peer::Lane;
use crate::wire::RepliesWriter;

impl NodeProto {
    #[inline]
    pub(super) fn egress(&mut self, device: DeviceIndex, envelope: &Envelope) {
        if envelope.is_control() {
            return self.verdict(device, envelope);
        }
        self.ledger.egress_in += 1;
        if envelope.to_set == SetId::CLIENT.0 {
            if self.reply(envelope) {
                self.ledger.replies_out += 1;
            } else {
                self.dead(DeadReason::ClientGone);
            }
            return;
        }
        let set = SetId(envelope.to_set);
        let Some(entry) = self.sets.get(usize::from(set.0)).copied().flatten() else {
            return self.dead(DeadReason::NoSuchSet);
        };
        let Some(shard) = shard_of(set, entry.keys, entry.shards, envelope.to_key) else {
            return self.dead(DeadReason::NoSuchKey);
        };
        let slot = self.resident_of.of(shard).and_then(|slot| slot.checked_sub(1));
        let resident = slot.and_then(|slot| self.residents[slot as usize].as_ref());
        if resident.is_some_and(|resident| resident.routed && resident.device == device) {
            // Sent under a route table that is being replaced: what was sent after it may have overtaken it already.
            self.ledger.lost[LostReason::ShardRestarted as usize] += 1;
            return;
        }
        match self.outbound.enqueue_egress(shard, envelope) {
            Ok(()) => {}
            Err(EnqueueError::NoRoom) => self.dead(DeadReason::Overloaded),
            Err(EnqueueError::NoSuchShard) => self.dead(DeadReason::NoSuchSet),
        }
    }

    fn dead(&mut self, reason: DeadReason) {
        self.ledger.dead[reason as usize] += 1;
    }

    fn verdict(&mut self, device: DeviceIndex, envelope: &Envelope) {
        let Some((verdict, body)) = envelope.as_verdict() else { return };
        match verdict {
            Verdict::Busy | Verdict::ShardFull => self.refused(device, body),
            _ => {
                if self.reply(envelope) {
                    self.ledger.verdicts_out += 1;
                }
            }
        }
    }

    /// Hands an envelope to the link of the session that it is for. False if there is none.
    pub(super) fn reply(&mut self, envelope: &Envelope) -> bool {
        let Some((session, _)) = envelope.to().as_client() else { return false };
        let Some(&id) = self.clients.get(&session.0) else { return false };
        let Some(link) = self.links.get_mut(&id.0) else { return false };
        if link.replies.is_empty() {
            link.replies = self.spare.pop().unwrap_or_default();
            RepliesWriter::new(&mut link.replies, session, self.lease_end_wall_ms);
            self.replying.push(id);
        }
        let count = RepliesWriter::resume(&mut link.replies).envelope(envelope);
        if count >= FRAME_REPLIES_MAX {
            let frame = std::mem::take(&mut link.replies);
            self.actions.push_back(Action::Send { link: id, lane: Lane::Answers, frame });
        }
        true
    }

    /// The next begun frame of replies.
    pub(super) fn poll_replies(&mut self) -> Option<Action> {
        while let Some(id) = self.replying.pop() {
            let Some(link) = self.links.get_mut(&id.0) else { continue };
            if !link.replies.is_empty() {
                let frame = std::mem::take(&mut link.replies);
                return Some(Action::Send { link: id, lane: Lane::Answers, frame });
            }
        }
        None
    }
}
