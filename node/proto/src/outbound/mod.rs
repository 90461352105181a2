//! The sending side of channels (C3, C9), the same for a node's incarnation and for a client's session.
//!
//! A source has one channel per target shard; its state machine is drawn in `channel`. This module routes channels by the
//! placement view, bounds what they keep, packs what may be sent into frames, and takes in the answers.
//!
//! ```text
//!   enqueue -> channel --(route, link up, gate open, window)--> ready list of the peer --> poll_frame
//!   handle_answer: Ack drops handled ones; Busy, Moved rewind; ChannelLost breaks
//!   handle_view:   other residence or node lost: breaks; set gone: drops; younger view: opens Moved channels
//! ```
//!
//! **Order.** Sequences of a channel are sent in order within an attempt, on one ordered stream; a rewind begins a new attempt
//! at a lower sequence and the receiver's filter skips what it has accepted and refuses what would leave a gap. So the receiver
//! accepts 1, 2, 3, ... of a generation, each once.
//!
//! **Residences.** A generation lives in one residence of its shard. In this version a shard that changes its epoch begins
//! empty, filters included, so the sender breaks the channel itself when the view shows a higher epoch: what may have been
//! executed at the old residence is reported lost, the rest goes to the new one as a new generation.
//!
//! **Bounds.** `room` is the least of what channel, peer and total have left. An agent cannot refuse what its device has
//! already handed over, so [`Outbound::enqueue_egress`] takes up to [`EGRESS_RESERVE`] more than the bounds, and
//! [`Outbound::can_take_egress`] stops the device as soon as one bound is reached. Two agents that are stopped by each other's
//! backlog would wait for ever, so after [`OVERLOADED_AFTER_MS`] at a bound egress flows again and messages for what is full
//! are refused (`overloaded`, as a device does it).
//!
//! Deliberately absent: a clock (`now` is an argument), per-message timers, and re-ordering by priority.

mod channel;
mod peers;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use ringfleet_abi::{Envelope, Epoch, Incarnation, LostReason, NodeId, ShardId};

use self::channel::{Channel, Gate, Target};
use self::peers::Peers;
use crate::control::view::ShardState;
use crate::control::{NodeView, view::Fence};
use crate::limits::{
    EGRESS_RESERVE, FRAME_ENVELOPES_MAX, GENERATION_MAX, OUTBOUND_CHANNEL_MAX, OUTBOUND_PEER_MAX, OUTBOUND_TOTAL_MAX,
    OVERLOADED_AFTER_MS, PEER_WINDOW, UNDELIVERABLE_AFTER_MS,
};
use crate::map::IdMap;
use crate::now::{NS_PER_MS, Now};
use crate::peer::Source;
use crate::table::ShardTable;
use crate::wire::{Answer, DeliverHeader, DeliverWriter};

/// Bounds of one [`Outbound`] (C9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboundConfig {
    /// Envelopes kept for one channel.
    pub channel_max: usize,
    /// Envelopes kept for all channels to one peer.
    pub peer_max: usize,
    /// Envelopes kept altogether.
    pub total_max: usize,
    /// Envelopes sent to one peer that it has not said to have accepted.
    pub peer_window: usize,
}

impl Default for OutboundConfig {
    fn default() -> Self {
        Self {
            channel_max: OUTBOUND_CHANNEL_MAX,
            peer_max: OUTBOUND_PEER_MAX,
            total_max: OUTBOUND_TOTAL_MAX,
            peer_window: PEER_WINDOW,
        }
    }
}

/// What the owner of the messages must know. Each channel is a queue: messages enter at its back by [`Outbound::enqueue`] and
/// leave at its FRONT, by `Handled` and `Lost`, in order; only [`Outbound::give_up`] takes one from the middle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundEvent {
    /// The owner worker is done with these.
    Handled {
        /// The channel.
        shard: ShardId,
        /// How many, from the front.
        count: u64,
    },
    /// Nothing of the channel from the `index`-th waiting message on was executed; it is sent again after a pause, unless
    /// [`Outbound::give_up`] takes it out.
    Busy {
        /// The channel.
        shard: ShardId,
        /// Position in the channel's queue, from 0.
        index: usize,
    },
    /// The same, but the shard lives elsewhere: fetch a younger directory.
    Moved {
        /// The channel.
        shard: ShardId,
        /// Position in the channel's queue, from 0.
        index: usize,
        /// The residence that the refusing node knows of.
        epoch: Epoch,
    },
    /// The channel broke (C3). These messages, from the front, may or may not have been executed. What is behind them was not,
    /// and goes on under a new generation.
    Lost {
        /// The channel.
        shard: ShardId,
        /// The generation that ended.
        generation: u32,
        /// The last sequence of that generation known to be handled; the messages are `after_seq + 1..`.
        after_seq: u64,
        /// Why.
        reason: LostReason,
        /// The messages, possibly none.
        messages: Vec<Envelope>,
    },
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnqueueError {
    /// A bound is reached (C9).
    #[error("the bound on waiting messages is reached")]
    NoRoom,
    /// The view has no such set or shard.
    #[error("no such set or shard")]
    NoSuchShard,
}

/// Why a message cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GiveUpError {
    /// There is no such message.
    #[error("no such message is waiting")]
    NotWaiting,
    /// It may have been executed.
    #[error("the message has been sent and not refused: it may have been executed")]
    MaybeExecuted,
}

#[derive(Clone, Copy, Debug, Default)]
struct Route {
    /// The owner's incarnation, 0: nobody.
    incarnation: u64,
    node: u32,
    epoch: Epoch,
    /// Whether the owner takes messages.
    resident: bool,
    /// Slot of the channel + 1, 0: none.
    channel: u32,
}

/// Counters of one [`Outbound`], cumulative but `queued_now`; in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboundStats {
    /// Acknowledged as handled.
    pub handled: u64,
    /// Reported lost, by reason.
    pub lost: [u64; LostReason::COUNT],
    /// Waiting to be sent or acknowledged.
    pub queued_now: u64,
    /// Sent, every sending counted.
    pub sent: u64,
    /// Channels that broke, in channels.
    pub channels_lost: u64,
    /// Answers that contradict what was sent, in answers. Above 0: a bug of a peer.
    pub impossible_answers: u64,
}

/// All channels of one source.
#[derive(Debug)]
pub struct Outbound {
    source: Source,
    config: OutboundConfig,
    now: Now,
    routes: ShardTable<Route>,
    view_index: u64,
    channels: Vec<Channel>,
    free: Vec<u32>,
    peers: Peers,
    /// The highest generation of any channel.
    generation: u32,
    total: usize,
    total_full_since: Option<u64>,
    /// Channels at their bound.
    full: Vec<u32>,
    /// How many bounds are reached: of channels, of peers, of the total.
    at_bound: u32,
    /// Channels above half of their bound.
    half_full: u32,
    /// Channels that pause after `Busy`, with the end of the pause.
    paused: Vec<(u64, u32)>,
    paused_next: u64,
    stats: OutboundStats,
    events: VecDeque<OutboundEvent>,
    with_events: bool,
}

impl Outbound {
    /// No channels yet. `source` is this node's incarnation or the client's session.
    #[must_use]
    pub fn new(source: Source, config: OutboundConfig) -> Self {
        Self {
            source,
            config,
            now: Now::default(),
            routes: ShardTable::default(),
            view_index: 0,
            channels: Vec::new(),
            free: Vec::new(),
            peers: Peers::default(),
            generation: 1,
            total: 0,
            total_full_since: None,
            full: Vec::new(),
            at_bound: 0,
            half_full: 0,
            paused: Vec::new(),
            paused_next: u64::MAX,
            stats: OutboundStats::default(),
            events: VecDeque::new(),
            with_events: true,
        }
    }

    /// The same without events: an agent needs the counters only.
    #[must_use]
    pub fn without_events(mut self) -> Self {
        self.with_events = false;
        self
    }

    /// Whose messages these are.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Index of the view in use; goes into every frame.
    #[must_use]
    pub fn view_index(&self) -> u64 {
        self.view_index
    }

    /// What has been counted.
    #[must_use]
    pub fn stats(&self) -> OutboundStats {
        OutboundStats { queued_now: self.total as u64, ..self.stats }
    }

    // ---- placement and links ----

    /// Adopts a view. An older one than the last is ignored.
    pub fn handle_view(&mut self, now: Now, view: &NodeView) {
        self.now = now;
        if view.index < self.view_index {
            return;
        }
        self.view_index = view.index;
        self.adopt_routes(view);
        for member in &view.members {
            self.peers.add(member.incarnation());
        }
        for slot in 0..self.channels.len() as u32 {
            self.retarget(slot, view);
        }
        self.peers.forget(|peer| view.fence(peer) == Fence::Fenced);
    }

    /// A link to this start of a node is up: everything un-handled is sent again.
    pub fn peer_up(&mut self, now: Now, incarnation: Incarnation) {
        self.now = now;
        self.peer_down(incarnation);
        let peer = self.peers.add(incarnation);
        self.peers.of_mut(peer).up = true;
        for slot in 0..self.channels.len() as u32 {
            if self.channels[slot as usize].target.is_some_and(|target| target.peer == peer) {
                self.list(slot);
            }
        }
        // Channels that were listed while the link was down are in the peer's list already.
        self.wake(peer);
    }

    /// The link is down: what was in transit may be lost.
    pub fn peer_down(&mut self, incarnation: Incarnation) {
        let Some(peer) = self.peers.find(incarnation) else { return };
        if !std::mem::take(&mut self.peers.of_mut(peer).up) {
            return;
        }
        for channel in &mut self.channels {
            if channel.target.is_some_and(|target| target.peer == peer) {
                channel.rewind();
            }
        }
        self.peers.of_mut(peer).in_transit = 0;
    }

    /// Whether a link to this peer is up.
    #[must_use]
    pub fn is_up(&self, incarnation: Incarnation) -> bool {
        self.peers.find(incarnation).is_some_and(|peer| self.peers.of(peer).up)
    }

    /// The node that owns a shard by the view in use, if somebody does.
    #[must_use]
    pub fn owner(&self, shard: ShardId) -> Option<(NodeId, Incarnation)> {
        let route = self.routes.of(shard)?;
        route.resident.then_some((NodeId(route.node), Incarnation(route.incarnation)))
    }

    // ---- messages ----

    /// The time of what follows; every `handle_*` tells it too.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

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

    /// Messages of a channel that wait to be sent or acknowledged.
    #[must_use]
    pub fn waiting(&self, shard: ShardId) -> usize {
        let slot = self.routes.of(shard).and_then(|route| route.channel.checked_sub(1));
        slot.map_or(0, |slot| self.channels[slot as usize].len())
    }

    /// Appends a message; returns its position in the channel's queue.
    ///
    /// # Errors
    /// [`EnqueueError`]; the message has not been taken then.
    pub fn enqueue(&mut self, shard: ShardId, envelope: &Envelope) -> Result<usize, EnqueueError> {
        let slot = self.channel_of(shard)?;
        if self.room(shard) == 0 {
            return Err(EnqueueError::NoRoom);
        }
        Ok(self.push(slot, envelope))
    }

    /// Appends a message that a device has handed over already.
    ///
    /// # Errors
    /// `NoRoom` if the message must be dead-lettered `overloaded`.
    #[inline]
    pub fn enqueue_egress(&mut self, shard: ShardId, envelope: &Envelope) -> Result<(), EnqueueError> {
        let slot = self.channel_of(shard)?;
        if self.refuses_egress(slot) {
            return Err(EnqueueError::NoRoom);
        }
        self.push(slot, envelope);
        Ok(())
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

    /// Takes back the `index`-th waiting message of a channel, if it was provably not executed; later ones move up.
    ///
    /// # Errors
    /// [`GiveUpError`] if it may have been executed or does not wait.
    pub fn give_up(&mut self, shard: ShardId, index: usize) -> Result<Envelope, GiveUpError> {
        let slot =
            self.routes.of(shard).and_then(|route| route.channel.checked_sub(1)).ok_or(GiveUpError::NotWaiting)?;
        let channel = &mut self.channels[slot as usize];
        if index >= channel.len() {
            return Err(GiveUpError::NotWaiting);
        }
        // Nothing behind `maybe_through` bears its number outside of this channel: it was never sent, or refused since.
        if channel.base + index as u64 <= channel.maybe_through {
            return Err(GiveUpError::MaybeExecuted);
        }
        let envelope = channel.unacked.remove(index).ok_or(GiveUpError::NotWaiting)?;
        self.removed(slot, 1);
        Ok(envelope)
    }

    // ---- answers ----

    /// An answer about one of our channels has come over the link to `peer`.
    pub fn handle_answer(&mut self, now: Now, peer: Incarnation, answer: &Answer) {
        self.now = now;
        let Some(slot) = self.routes.of(answer.shard()).and_then(|route| route.channel.checked_sub(1)) else { return };
        let channel = &mut self.channels[slot as usize];
        // An answer of an earlier generation or residence says nothing about this one.
        if channel.generation != answer.generation()
            || channel.target.map(|target| target.peer) != self.peers.find(peer)
        {
            return;
        }
        let before = channel.in_transit();
        match *answer {
            Answer::Ack { accepted_through, handled_through, .. } => {
                match channel.acknowledge(accepted_through, handled_through) {
                    Some(count) => self.handled(slot, count),
                    None => self.stats.impossible_answers += 1,
                }
            }
            Answer::Busy { attempt, at, certain, .. } => {
                if channel.refused(attempt, at, certain) {
                    let until_ns = channel.back_off(now.mono_ns);
                    let (shard, index) = (channel.shard, channel.unexecuted());
                    self.pause(until_ns, slot);
                    self.tell(|| OutboundEvent::Busy { shard, index });
                }
            }
            Answer::Moved { attempt, at, certain, epoch, .. } => {
                if channel.refused(attempt, at, certain) {
                    let (shard, index) = (channel.shard, channel.unexecuted());
                    let known = channel.target.map_or(Epoch::NONE, |target| target.epoch);
                    channel.gate = Gate::Moved { view_index: self.view_index, epoch: epoch.max(known.next()) };
                    self.tell(|| OutboundEvent::Moved { shard, index, epoch });
                }
            }
            Answer::ChannelLost { attempt, after_seq, generation_floor, reason, .. } => {
                if attempt == channel.attempt {
                    let through = after_seq.max(channel.carried_through);
                    self.generation = self.generation.max(generation_floor);
                    self.break_channel(slot, reason, through);
                    // A receiver that forgets us again and again must not make us spin.
                    let until_ns = self.channels[slot as usize].back_off(now.mono_ns);
                    self.pause(until_ns, slot);
                }
            }
        }
        self.transit_changed(slot, before);
        self.list(slot);
    }

    // ---- what is to be done ----

    /// Writes the next frame for any peer with a link into the empty `frame` and says for whom it is. `lease_end_ms` is the end
    /// of the sender's lease by the wall clock, 0 for clients; a node whose lease has ended does not call this (C2).
    pub fn poll_frame(&mut self, lease_end_ms: u64, frame: &mut Vec<u8>) -> Option<Incarnation> {
        assert!(frame.is_empty(), "a frame begins in an empty buffer");
        while let Some(peer) = self.peers.next_ready() {
            let window = self.config.peer_window.saturating_sub(self.peers.of(peer).in_transit);
            let mut room = window.min(FRAME_ENVELOPES_MAX);
            if room == 0 || !self.peers.of(peer).up {
                continue;
            }
            let header = DeliverHeader { source: self.source, lease_end_ms, placement_index: self.view_index };
            let mut writer = DeliverWriter::new(frame, &header);
            let mut sent = 0;
            while room > 0 {
                let Some(slot) = self.peers.of_mut(peer).ready.pop_front() else { break };
                let channel = &mut self.channels[slot as usize];
                channel.listed = false;
                let Some(target) = channel.target.filter(|target| target.peer == peer) else {
                    self.list(slot);
                    continue;
                };
                if !channel.sendable() {
                    continue;
                }
                let before = channel.in_transit();
                let (run, pieces) = channel.take_run(room, target.epoch);
                writer.run(&run, pieces);
                room -= run.count as usize;
                sent += u64::from(run.count);
                self.transit_changed(slot, before);
                self.list(slot);
            }
            writer.finish();
            if sent > 0 {
                self.stats.sent += sent;
                self.wake(peer);
                return Some(self.peers.of(peer).incarnation);
            }
            frame.clear();
        }
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<OutboundEvent> {
        self.events.pop_front()
    }

    /// Time has passed: pauses end, channels that were full for too long are given up.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        if now.mono_ns >= self.paused_next {
            self.end_pauses(now.mono_ns);
        }
        let limit = UNDELIVERABLE_AFTER_MS * NS_PER_MS;
        let late = |since: Option<u64>| since.is_some_and(|since| now.mono_ns >= since + limit);
        while let Some(&slot) = self.full.iter().find(|&&slot| late(self.channels[slot as usize].full_since)) {
            let end = self.channels[slot as usize].end();
            let before = self.channels[slot as usize].in_transit();
            self.break_channel(slot, LostReason::Undeliverable, end);
            self.transit_changed(slot, before);
        }
    }

    /// When [`Outbound::handle_timeout`] has something to do, in monotonic ns.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        // A bound that is reached is looked at again when egress may flow, and when the channel is to be given up.
        let mut next = self.paused_next;
        let mut at_bound = |since: Option<u64>| {
            let Some(since) = since else { return };
            let overloaded = since + OVERLOADED_AFTER_MS * NS_PER_MS;
            let late = since + UNDELIVERABLE_AFTER_MS * NS_PER_MS;
            next = next.min(if self.now.mono_ns < overloaded {
                overloaded
            } else {
                late.max(self.now.mono_ns + NS_PER_MS)
            });
        };
        at_bound(self.total_full_since);
        self.full.iter().for_each(|&slot| at_bound(self.channels[slot as usize].full_since));
        self.peers.iter().for_each(|peer| at_bound(peer.full_since));
        (next != u64::MAX).then_some(next)
    }

    /// Gives everything up: the source is fenced or ends. Returns how many messages were reported lost.
    pub fn abandon(&mut self, reason: LostReason) -> u64 {
        let before = self.total;
        for slot in 0..self.channels.len() as u32 {
            let transit = self.channels[slot as usize].in_transit();
            let end = self.channels[slot as usize].end();
            if end >= self.channels[slot as usize].base {
                self.break_channel(slot, reason, end);
                self.transit_changed(slot, transit);
            }
        }
        before as u64
    }

    // ---- inside ----

    fn tell(&mut self, event: impl FnOnce() -> OutboundEvent) {
        if self.with_events {
            self.events.push_back(event());
        }
    }

    #[inline]
    fn channel_of(&mut self, shard: ShardId) -> Result<u32, EnqueueError> {
        let route = self.routes.of(shard).ok_or(EnqueueError::NoSuchShard)?;
        match route.channel.checked_sub(1) {
            Some(slot) => Ok(slot),
            None => Ok(self.open_channel(shard)),
        }
    }

    fn open_channel(&mut self, shard: ShardId) -> u32 {
        let channel = Channel::new(shard, self.generation);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.channels[slot as usize] = channel;
                slot
            }
            None => {
                self.channels.push(channel);
                (self.channels.len() - 1) as u32
            }
        };
        if let Some(route) = self.routes.of_mut(shard) {
            route.channel = slot + 1;
        }
        self.bind(slot);
        slot
    }

    fn push(&mut self, slot: u32, envelope: &Envelope) -> usize {
        let channel = &mut self.channels[slot as usize];
        let index = channel.len();
        channel.unacked.push_back(*envelope);
        self.total += 1;
        if let Some(target) = channel.target {
            self.peers.of_mut(target.peer).queued += 1;
        }
        self.weigh(slot);
        self.list(slot);
        index
    }

    /// Books `count` messages, already taken out of their channel, out of the bounds.
    fn removed(&mut self, slot: u32, count: u64) {
        let count = count as usize;
        self.total -= count;
        if let Some(target) = self.channels[slot as usize].target {
            self.peers.of_mut(target.peer).queued -= count;
        }
        self.weigh(slot);
    }

    /// Notes which bounds of a channel, its peer and the total are reached now.
    #[inline]
    fn weigh(&mut self, slot: u32) {
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

    fn refuses_egress(&self, slot: u32) -> bool {
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

    fn handled(&mut self, slot: u32, count: u64) {
        if count > 0 {
            self.stats.handled += count;
            self.removed(slot, count);
            let shard = self.channels[slot as usize].shard;
            self.tell(|| OutboundEvent::Handled { shard, count });
        }
    }

    fn transit_changed(&mut self, slot: u32, before: u64) {
        let channel = &self.channels[slot as usize];
        let Some(target) = channel.target else { return };
        let after = channel.in_transit();
        let peer = self.peers.of_mut(target.peer);
        if peer.up {
            peer.in_transit = peer.in_transit + after as usize - before as usize;
        }
        if after < before {
            self.wake(target.peer);
        }
    }

    /// Puts a channel that may send into its peer's list.
    fn list(&mut self, slot: u32) {
        let channel = &mut self.channels[slot as usize];
        let Some(target) = channel.target else { return };
        if !channel.listed && channel.sendable() {
            channel.listed = true;
            self.peers.of_mut(target.peer).ready.push_back(slot);
            self.wake(target.peer);
        }
    }

    fn wake(&mut self, peer: u32) {
        self.peers.wake(peer, self.config.peer_window);
    }

    fn pause(&mut self, until_ns: u64, slot: u32) {
        self.paused.push((until_ns, slot));
        self.paused_next = self.paused_next.min(until_ns);
    }

    fn end_pauses(&mut self, now_ns: u64) {
        let mut ended = Vec::new();
        self.paused.retain(|&(until_ns, slot)| {
            let over = until_ns <= now_ns;
            if over {
                ended.push((until_ns, slot));
            }
            !over
        });
        self.paused_next = self.paused.iter().map(|&(until_ns, _)| until_ns).min().unwrap_or(u64::MAX);
        for (until_ns, slot) in ended {
            let channel = &mut self.channels[slot as usize];
            // A channel that broke, or paused again since, has another gate.
            if channel.gate == (Gate::BackOff { until_ns }) {
                channel.gate = Gate::Open;
                self.list(slot);
            }
        }
    }

    fn break_channel(&mut self, slot: u32, reason: LostReason, lost_through: u64) {
        self.generation = self.generation.saturating_add(1).min(GENERATION_MAX);
        let channel = &mut self.channels[slot as usize];
        let (shard, generation, after_seq) = (channel.shard, channel.generation, channel.base - 1);
        let messages = channel.break_at(lost_through, self.generation);
        self.removed(slot, messages.len() as u64);
        self.stats.lost[reason as usize] += messages.len() as u64;
        self.stats.channels_lost += 1;
        self.tell(|| OutboundEvent::Lost { shard, generation, after_seq, reason, messages });
    }

    fn adopt_routes(&mut self, view: &NodeView) {
        let old = std::mem::take(&mut self.routes);
        for set in &view.sets {
            self.routes.add_set(set.set_id(), set.shards, Route::default());
        }
        let live: IdMap<u64, ()> = view.members.iter().map(|member| (member.incarnation, ())).collect();
        for shard in &view.shards {
            let Some(route) = self.routes.of_mut(shard.shard_id()) else { continue };
            *route = Route {
                incarnation: shard.incarnation,
                node: shard.node,
                epoch: shard.epoch(),
                resident: shard.state == ShardState::Resident && live.contains_key(&shard.incarnation),
                channel: 0,
            };
        }
        for (slot, channel) in self.channels.iter().enumerate() {
            // A freed slot's shard may have a new channel: the old table says which slot is in use.
            if old.of(channel.shard).is_some_and(|route| route.channel == slot as u32 + 1)
                && let Some(route) = self.routes.of_mut(channel.shard)
            {
                route.channel = slot as u32 + 1;
            }
        }
    }

    /// Points a channel to where the view in use has its shard.
    fn retarget(&mut self, slot: u32, view: &NodeView) {
        if self.free.contains(&slot) {
            return;
        }
        let channel = &self.channels[slot as usize];
        let before = channel.in_transit();
        let Some(route) = self.routes.of(channel.shard).copied() else {
            let end = channel.end();
            self.break_channel(slot, LostReason::SetDeleted, end);
            self.transit_changed(slot, before);
            self.unbind(slot);
            self.free.push(slot);
            return;
        };
        if let Some(target) = channel.target {
            let gone = view.fence(self.peers.of(target.peer).incarnation) == Fence::Fenced;
            if gone || route.epoch > target.epoch {
                if channel.used() {
                    let reason = if gone { LostReason::NodeLost } else { LostReason::ShardRestarted };
                    let through = channel.maybe_through;
                    self.break_channel(slot, reason, through);
                } else {
                    self.channels[slot as usize].rewind();
                }
                self.transit_changed(slot, before);
                self.unbind(slot);
            }
        }
        self.bind(slot);
    }

    /// Takes a channel off its peer. Nothing of it is in transit any more.
    fn unbind(&mut self, slot: u32) {
        let channel = &mut self.channels[slot as usize];
        channel.open = false;
        channel.gate = Gate::Open;
        if let Some(target) = channel.target.take() {
            let listed = std::mem::take(&mut channel.listed);
            let peer = self.peers.of_mut(target.peer);
            if listed {
                peer.ready.retain(|&ready| ready != slot);
            }
            peer.queued -= self.channels[slot as usize].len();
            mark(&mut peer.full_since, peer.queued >= self.config.peer_max, self.now.mono_ns, &mut self.at_bound);
        }
    }

    /// Opens or closes a channel by the route of the view in use.
    fn bind(&mut self, slot: u32) {
        let channel = &mut self.channels[slot as usize];
        let Some(route) = self.routes.of(channel.shard).copied() else { return };
        channel.open = route.resident;
        if !route.resident {
            return;
        }
        if channel.target.is_none() {
            let peer = self.peers.add(Incarnation(route.incarnation));
            channel.target = Some(Target { peer, epoch: route.epoch });
            let peer = self.peers.of_mut(peer);
            peer.queued += channel.len();
            mark(&mut peer.full_since, peer.queued >= self.config.peer_max, self.now.mono_ns, &mut self.at_bound);
        }
        if let Gate::Moved { view_index, epoch } = channel.gate
            && (self.view_index > view_index || route.epoch >= epoch)
        {
            channel.gate = Gate::Open;
        }
        self.list(slot);
    }
}

/// Notes whether a bound is reached; returns whether that changed.
#[inline]
fn mark(since: &mut Option<u64>, reached: bool, now_ns: u64, at_bound: &mut u32) -> bool {
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
