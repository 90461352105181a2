//! Messages of a sender that leaves this source: where they wait, and how they are given up (C3).

use ringfleet_abi::{Envelope, LostReason, ShardId};

use super::Outbound;

/// The last message of a sender in one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    shard: ShardId,
    generation: u32,
    seq: u64,
}

impl Mark {
    /// The shard for which the message is.
    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }
}

impl Outbound {
    /// Finds the last message of each sender in each channel. `sender` gives the numbers, below `senders`, of those that are looked for.
    pub(crate) fn last_of_each(
        &self,
        senders: usize,
        sender: impl Fn(&Envelope) -> Option<usize>,
        mut found: impl FnMut(usize, Mark),
    ) {
        // In which channel each was seen last.
        let mut seen = vec![usize::MAX; senders];
        for (slot, channel) in self.channels.iter().enumerate().filter(|(_, channel)| !channel.free) {
            for (at, envelope) in channel.unacked.iter().enumerate().rev() {
                if let Some(sender) = sender(envelope)
                    && std::mem::replace(&mut seen[sender], slot) != slot
                {
                    let seq = channel.base + at as u64;
                    found(sender, Mark { shard: channel.shard, generation: channel.generation, seq });
                }
            }
        }
    }

    fn slot_of(&self, mark: &Mark) -> Option<u32> {
        self.routes.of(mark.shard).and_then(|route| route.channel.checked_sub(1))
    }

    /// Whether what a mark names may wait under another number now.
    #[must_use]
    pub(crate) fn is_renumbered(&self, mark: &Mark) -> bool {
        self.slot_of(mark).is_some_and(|slot| self.channels[slot as usize].generation != mark.generation)
    }

    /// Whether what a mark names waits to be sent or acknowledged.
    #[must_use]
    pub(crate) fn is_waiting(&self, mark: &Mark) -> bool {
        let Some(slot) = self.slot_of(mark) else { return false };
        let channel = &self.channels[slot as usize];
        channel.generation == mark.generation && channel.base <= mark.seq
    }

    /// Whether somebody runs the shard for which the marked message is.
    #[must_use]
    pub(crate) fn is_open(&self, mark: &Mark) -> bool {
        self.slot_of(mark).is_some_and(|slot| self.channels[slot as usize].open)
    }

    /// Gives up what `of_it` selects of the marked channel, and what may have been executed of that channel: only a generation that
    /// ends tells the receiver that something is missing.
    pub(crate) fn lose(&mut self, mark: &Mark, reason: LostReason, of_it: impl Fn(&Envelope) -> bool) {
        let Some(slot) = self.slot_of(mark) else { return };
        let channel = &self.channels[slot as usize];
        let (before, through) = (channel.in_transit(), channel.maybe_through);
        self.break_channel(slot, reason, through);
        self.transit_changed(slot, before);
        let channel = &mut self.channels[slot as usize];
        let kept = channel.len();
        channel.unacked.retain(|envelope| !of_it(envelope));
        let lost = (kept - channel.len()) as u64;
        self.stats.lost[reason as usize] += lost;
        self.removed(slot, lost);
        self.list(slot);
    }
}
