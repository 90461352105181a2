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
//! already handed over, so [`Outbound::enqueue_egress`] takes up to [`crate::limits::EGRESS_RESERVE`] more than the bounds, and
//! [`Outbound::can_take_egress`] stops the device as soon as one bound is reached. Two agents that are stopped by each other's
//! backlog would wait for ever, so after [`OVERLOADED_AFTER_MS`] at a bound egress flows again and messages for what is full
//! are refused (`overloaded`, as a device does it).
//!
//! Deliberately absent: a clock (`now` is an argument), per-message timers, and re-ordering by priority.

mod bounds;
mod channel;
mod leaving;
mod peers;
mod placement;
#[cfg(test)]
mod tests;
mod types;

pub(crate) use leaving::Mark;
pub use types::{EnqueueError, GiveUpError, OutboundConfig, OutboundEvent, OutboundStats};

use std::collections::VecDeque;

use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{Envelope, Epoch, Incarnation, LostReason, ShardId};

use self::channel::{Channel, Gate};
use self::peers::Peers;
use crate::limits::{FRAME_ENVELOPES_MAX, GENERATION_MAX, OVERLOADED_AFTER_MS, UNDELIVERABLE_AFTER_MS};
use crate::now::{NS_PER_MS, Now};
use crate::peer::Source;
use crate::table::ShardTable;
use crate::wire::{Answer, DeliverHeader, DeliverWriter};

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

    // ---- messages ----

    /// The time of what follows; every `handle_*` tells it too.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
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
        if peer.up && !(is_on(Mutant::CreditLeak) && after < before) {
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
            if channel.gate == (Gate::BackOff { until_ns }) && !is_on(Mutant::BusyForEver) {
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
        if is_on(Mutant::LossUntold) {
            return;
        }
        self.stats.lost[reason as usize] += messages.len() as u64;
        self.stats.channels_lost += 1;
        self.tell(|| OutboundEvent::Lost { shard, generation, after_seq, reason, messages });
    }
}
