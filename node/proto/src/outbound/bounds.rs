//! What a source may keep, and what happens at each bound (C9).

use ringfleet_abi::{Incarnation, ShardId};

use super::Outbound;
use super::channel::Channel;
use crate::limits::{EGRESS_RESERVE, OVERLOADED_AFTER_MS};
use crate::now::{NS_PER_MS, Now};

impl Outbound {
    /// Envelopes that the channel takes now: the least of what channel, peer and total have left.
    #[must_use]
    pub fn room(&self, shard: ShardId) -> usize {
        let total = self.config.total_max.saturating_sub(self.total);
        let Some(route) = self.routes.of(shard) else { return 0 };
        let channel = route.channel.checked_sub(1).map(|slot| &self.channels[slot as usize]);
        // A channel that is not open yet will lead to where its shard is.
        let peer = match channel {
            Some(channel) => channel.target.map(|target| target.peer),
            None => self.peers.find(Incarnation(route.incarnation)).filter(|_| route.resident),
        };
        let queued = peer.map_or(0, |peer| self.peers.of(peer).queued);
        let waiting = channel.map_or(0, Channel::len);
        total.min(self.config.peer_max.saturating_sub(queued)).min(self.config.channel_max.saturating_sub(waiting))
    }

    /// How many envelopes may be taken from devices now: 0, or [`EGRESS_RESERVE`].
    #[must_use]
    pub fn can_take_egress(&self, now: Now) -> usize {
        let waits =
            |since: Option<u64>| since.is_some_and(|since| now.mono_ns < since + OVERLOADED_AFTER_MS * NS_PER_MS);
        let full = self.at_bound > 0
            && (waits(self.total_full_since)
                || self.full.iter().any(|&slot| waits(self.channels[slot as usize].full_since))
                || self.peers.iter().any(|peer| waits(peer.full_since)));
        if full { 0 } else { EGRESS_RESERVE }
    }

    /// Whether some backlog is above half of its bound: new work of clients is refused then, so that the other half can take
    /// what the work already accepted still sends (C9).
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.half_full > 0
            || self.total * 2 > self.config.total_max
            || self.peers.iter().any(|peer| peer.queued * 2 > self.config.peer_max)
    }

    /// Books `count` messages, already taken out of their channel, out of the bounds.
    pub(super) fn removed(&mut self, slot: u32, count: u64) {
        let count = count as usize;
        self.total -= count;
        if let Some(target) = self.channels[slot as usize].target {
            self.peers.of_mut(target.peer).queued -= count;
        }
        self.weigh(slot);
    }

    /// Notes which bounds of a channel, its peer and the total are reached now.
    #[inline]
    pub(super) fn weigh(&mut self, slot: u32) {
        let now_ns = self.now.mono_ns;
        let config = &self.config;
        let channel = &mut self.channels[slot as usize];
        let half = channel.len() * 2 > config.channel_max;
        if half != channel.half_full {
            channel.half_full = half;
            self.half_full = if half { self.half_full + 1 } else { self.half_full - 1 };
        }
        if mark(&mut channel.full_since, channel.unacked.len() >= config.channel_max, now_ns, &mut self.at_bound) {
            if channel.full_since.is_some() {
                self.full.push(slot);
            } else {
                self.full.retain(|&full| full != slot);
            }
        }
        if let Some(target) = channel.target {
            let peer = self.peers.of_mut(target.peer);
            mark(&mut peer.full_since, peer.queued >= config.peer_max, now_ns, &mut self.at_bound);
        }
        mark(&mut self.total_full_since, self.total >= config.total_max, now_ns, &mut self.at_bound);
    }

    pub(super) fn refuses_egress(&self, slot: u32) -> bool {
        if self.at_bound == 0 {
            return false;
        }
        let channel = &self.channels[slot as usize];
        let overloaded =
            |since: Option<u64>| since.is_some_and(|since| self.now.mono_ns >= since + OVERLOADED_AFTER_MS * NS_PER_MS);
        let peer = channel.target.map(|target| self.peers.of(target.peer));
        let over = |len: usize, max: usize| len >= max + 2 * EGRESS_RESERVE;
        overloaded(channel.full_since)
            || overloaded(self.total_full_since)
            || peer.is_some_and(|peer| overloaded(peer.full_since) || over(peer.queued, self.config.peer_max))
            || over(channel.len(), self.config.channel_max)
            || over(self.total, self.config.total_max)
    }
}

/// Notes whether a bound is reached; returns whether that changed.
#[inline]
pub(super) fn mark(since: &mut Option<u64>, reached: bool, now_ns: u64, at_bound: &mut u32) -> bool {
    if reached == since.is_some() {
        return false;
    }
    if reached {
        *since = Some(now_ns);
        *at_bound += 1;
    } else {
        *since = None;
        *at_bound -= 1;
    }
    true
}
