//! The receiving side of channels: order and duplicate filters (C3), their bounds and their expiry (C9).
//!
//! A filter belongs to one (source, resident shard) and knows of one generation how far it has accepted and handled.
//!
//! ```text
//!   no filter --first_seq 1--> accepted 0 --in sequence--> accepted n --worker done--> handled n
//!   no filter --other--> ChannelLost(ShardRestarted)         a session that expired: ChannelLost(SessionExpired)
//!   newer generation --first_seq 1--> begins anew            older generation: ignored, nobody waits for it
//!   sequence <= accepted: skipped, acknowledged again        sequence > accepted + 1: Busy at accepted + 1
//!   refused by the device at n: accepted goes back to n - 1, Busy at n
//! ```
//!
//! **Why nothing overtakes.** `accepted` is the only way in: a message is taken iff it is `accepted + 1`. After a refusal at n
//! (by this agent, by a gap, or by the device) `accepted` is n - 1, so every later message is out of sequence and gets the same
//! answer until n is sent again. The answer is given once per attempt of the sender: answers travel on one ordered reliable
//! stream, and if that breaks the sender begins another attempt by itself.
//!
//! **Why nothing starts fresh unnoticed.** A filter is made only for sequence 1, which a sender uses once per generation. After
//! an expiry the session is remembered with its highest generation (one by one up to [`TOMBSTONES_MAX`], below a floor after
//! that), and only a higher generation is let in: the sender takes one only after it has told its owner `ChannelLost`.
//! Filters of a shard end with its residence, as its actors do; its senders break their channels by the new epoch.

use std::collections::VecDeque;

use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{Incarnation, LostReason, ShardId};

use crate::limits::{FILTERS_MAX, SOURCES_MAX, TOMBSTONES_MAX};
use crate::map::IdMap;
use crate::now::NS_PER_MS;
use crate::peer::{LinkId, Source};
use crate::wire::{Answer, RunHeader};

/// A filter and the use of its slot: a slot is used again, an id is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterId {
    slot: u32,
    version: u32,
}

impl FilterId {
    /// No filter.
    pub const NONE: FilterId = FilterId { slot: u32::MAX, version: 0 };
}

/// What becomes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Take the envelopes from the `skip`-th on, then [`Inbound::accept`] them. Earlier ones are duplicates.
    Take {
        /// The filter.
        filter: FilterId,
        /// How many were accepted before.
        skip: u32,
    },
    /// Nothing to take; duplicates are acknowledged again, an answer has been queued if one is due.
    Done {
        /// How many were duplicates.
        duplicates: u32,
    },
}

/// Bounds of one [`Inbound`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundConfig {
    /// Sources remembered.
    pub sources_max: usize,
    /// Filters remembered.
    pub filters_max: usize,
    /// Expired sessions remembered one by one.
    pub tombstones_max: usize,
    /// How long a client session may be idle.
    pub session_idle_ms: u64,
}

impl Default for InboundConfig {
    fn default() -> Self {
        Self {
            sources_max: SOURCES_MAX,
            filters_max: FILTERS_MAX,
            tombstones_max: TOMBSTONES_MAX,
            session_idle_ms: crate::limits::SESSION_IDLE_MS,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Filter {
    source: u32,
    shard: ShardId,
    generation: u32,
    /// Highest attempt seen.
    attempt: u32,
    accepted: u64,
    handled: u64,
    /// The attempt that was last refused, so that each is refused once.
    refused_attempt: Option<u32>,
    /// Whether an acknowledgement is due.
    dirty: bool,
    version: u32,
    live: bool,
}

#[derive(Debug)]
struct Sender {
    source: Source,
    link: Option<LinkId>,
    last_seen_ns: u64,
    filters: Vec<u32>,
    /// Filters whose acknowledgement is due.
    dirty: Vec<u32>,
    /// Answers that are due, in order.
    answers: Vec<Answer>,
    /// Whether it stands in the list of sources with something due.
    listed: bool,
    generation_max: u32,
    /// Accepted and not done.
    outstanding: u64,
    live: bool,
}

/// Counters of one [`Inbound`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboundStats {
    /// Answers `Busy`.
    pub busy_answers: u64,
    /// Answers `Moved`.
    pub moved_answers: u64,
    /// Answers `ChannelLost`.
    pub channel_lost_answers: u64,
    /// Messages skipped as duplicates.
    pub duplicates: u64,
    /// Sessions expired.
    pub expired: u64,
}

/// All filters of one agent.
#[derive(Debug)]
pub struct Inbound {
    config: InboundConfig,
    sources: Vec<Sender>,
    sources_free: Vec<u32>,
    by_source: IdMap<u64, u32>,
    filters: Vec<Filter>,
    filters_free: Vec<u32>,
    by_channel: IdMap<u64, u32>,
    tombstones: IdMap<u32, u32>,
    tombstone_order: VecDeque<u32>,
    session_floor: u32,
    generation_floor: u32,
    due: VecDeque<u32>,
    /// Whether something due is more than that messages were accepted.
    due_urgent: bool,
    next_sweep_ns: u64,
    stats: InboundStats,
    /// Contrast case of the checkers: lets duplicates through.
    #[cfg(test)]
    pub(crate) duplicate_filter_off: bool,
}

fn source_key(source: Source) -> u64 {
    match source {
        Source::Node(incarnation) => incarnation.0 << 1,
        Source::Client(session) => u64::from(session.0) << 1 | 1,
    }
}

fn channel_key(source: u32, shard: ShardId) -> u64 {
    u64::from(source) << 32 | u64::from(shard.pack())
}

impl Inbound {
    /// Nothing remembered.
    #[must_use]
    pub fn new(config: InboundConfig) -> Self {
        Self {
            config,
            sources: Vec::new(),
            sources_free: Vec::new(),
            by_source: IdMap::default(),
            filters: Vec::new(),
            filters_free: Vec::new(),
            by_channel: IdMap::default(),
            tombstones: IdMap::default(),
            tombstone_order: VecDeque::new(),
            session_floor: 0,
            generation_floor: 0,
            due: VecDeque::new(),
            due_urgent: false,
            next_sweep_ns: 0,
            stats: InboundStats::default(),
            #[cfg(test)]
            duplicate_filter_off: false,
        }
    }

    /// What has been counted.
    #[must_use]
    pub fn stats(&self) -> InboundStats {
        self.stats
    }

    /// Sources and filters remembered now.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.by_source.len(), self.by_channel.len())
    }

    // ---- sources ----

    /// The slot of a source whose frames come over `link`, made if there is room.
    pub fn source(&mut self, source: Source, link: LinkId, now_ns: u64) -> Option<u32> {
        if let Some(&slot) = self.by_source.get(&source_key(source)) {
            let sender = &mut self.sources[slot as usize];
            sender.last_seen_ns = now_ns;
            if sender.link != Some(link) {
                self.relink(slot, Some(link));
            }
            return Some(slot);
        }
        if self.by_source.len() >= self.config.sources_max {
            return None;
        }
        let sender = Sender {
            source,
            link: Some(link),
            last_seen_ns: now_ns,
            filters: Vec::new(),
            dirty: Vec::new(),
            answers: Vec::new(),
            listed: false,
            generation_max: 0,
            outstanding: 0,
            live: true,
        };
        let slot = match self.sources_free.pop() {
            Some(slot) => {
                self.sources[slot as usize] = sender;
                slot
            }
            None => {
                self.sources.push(sender);
                (self.sources.len() - 1) as u32
            }
        };
        self.by_source.insert(source_key(source), slot);
        Some(slot)
    }

    /// The link of a source is up or down. What was due over another one is dropped: the sender begins a new attempt, and its
    /// re-sending brings acknowledgements up again.
    pub fn set_link(&mut self, source: Source, link: Option<LinkId>) {
        if let Some(&slot) = self.by_source.get(&source_key(source)) {
            self.relink(slot, link);
        }
    }

    fn relink(&mut self, slot: u32, link: Option<LinkId>) {
        let sender = &mut self.sources[slot as usize];
        sender.link = link;
        sender.answers.clear();
        if link.is_some() && !sender.dirty.is_empty() {
            self.list(slot);
        }
    }

    /// Forgets a node's incarnation that is fenced (C2); the view refuses it from now on.
    pub fn forget_nodes(&mut self, fenced: impl Fn(Incarnation) -> bool) {
        for slot in 0..self.sources.len() as u32 {
            let sender = &self.sources[slot as usize];
            if let Source::Node(incarnation) = sender.source
                && sender.live
                && fenced(incarnation)
            {
                self.forget(slot);
            }
        }
    }

    /// Ends the filters of a shard whose residence here ends. Their last acknowledgements are queued first.
    pub fn forget_shard(&mut self, shard: ShardId) {
        for slot in 0..self.filters.len() as u32 {
            let filter = self.filters[slot as usize];
            if filter.live && filter.shard == shard {
                self.queue(
                    filter.source,
                    Answer::Ack {
                        shard,
                        generation: filter.generation,
                        accepted_through: filter.accepted,
                        handled_through: filter.handled,
                    },
                );
                self.drop_filter(slot);
            }
        }
    }

    /// Forgets client sessions that were idle for too long.
    pub fn expire(&mut self, now_ns: u64) {
        if now_ns < self.next_sweep_ns {
            return;
        }
        let idle_ns = self.config.session_idle_ms * NS_PER_MS;
        self.next_sweep_ns = now_ns + (idle_ns / 16).max(NS_PER_MS);
        for slot in 0..self.sources.len() as u32 {
            let sender = &self.sources[slot as usize];
            let Source::Client(session) = sender.source else { continue };
            // A session with messages in a worker is not idle, however long the worker takes.
            if sender.live && sender.outstanding == 0 && now_ns >= sender.last_seen_ns.saturating_add(idle_ns) {
                if sender.generation_max > 0 {
                    let generation = sender.generation_max;
                    self.bury(session.0, generation);
                    self.stats.expired += 1;
                }
                self.forget(slot);
            }
        }
    }

    /// When [`Inbound::expire`] has something to do, in monotonic ns.
    #[must_use]
    pub fn next_sweep(&self) -> Option<u64> {
        (!self.by_source.is_empty()).then_some(self.next_sweep_ns)
    }

    fn bury(&mut self, session: u32, generation: u32) {
        self.tombstones.insert(session, generation);
        self.tombstone_order.push_back(session);
        while self.tombstone_order.len() > self.config.tombstones_max {
            let Some(oldest) = self.tombstone_order.pop_front() else { break };
            if let Some(generation) = self.tombstones.remove(&oldest) {
                self.session_floor = self.session_floor.max(oldest);
                self.generation_floor = self.generation_floor.max(generation);
            }
        }
    }

    /// The highest generation of an expired session, 0 if it is not known to have expired.
    fn buried(&self, source: Source) -> u32 {
        let Source::Client(session) = source else { return 0 };
        match self.tombstones.get(&session.0) {
            Some(&generation) => generation,
            None if session.0 <= self.session_floor => self.generation_floor,
            None => 0,
        }
    }

    fn forget(&mut self, slot: u32) {
        for filter in std::mem::take(&mut self.sources[slot as usize].filters) {
            self.drop_filter(filter);
        }
        let sender = &mut self.sources[slot as usize];
        sender.live = false;
        sender.answers = Vec::new();
        sender.dirty = Vec::new();
        let key = source_key(sender.source);
        self.by_source.remove(&key);
        self.due.retain(|&due| due != slot);
        if self.sources[slot as usize].outstanding == 0 {
            self.sources_free.push(slot);
        }
    }

    fn drop_filter(&mut self, slot: u32) {
        let filter = &mut self.filters[slot as usize];
        filter.live = false;
        filter.dirty = false;
        filter.version = filter.version.wrapping_add(1);
        let (source, shard) = (filter.source, filter.shard);
        self.by_channel.remove(&channel_key(source, shard));
        let sender = &mut self.sources[source as usize];
        sender.filters.retain(|&of_source| of_source != slot);
        sender.dirty.retain(|&due| due != slot);
        self.filters_free.push(slot);
    }

    // ---- runs ----

    /// Decides on a run of `source` to a shard that is resident here at the run's epoch.
    pub fn admit(&mut self, source: u32, run: &RunHeader) -> Admission {
        let slot = match self.by_channel.get(&channel_key(source, run.shard)) {
            Some(&slot) if self.filters[slot as usize].generation >= run.generation => slot,
            known => {
                let known = known.copied();
                match self.begin(source, run, known) {
                    Some(slot) => slot,
                    None => return Admission::Done { duplicates: 0 },
                }
            }
        };
        let filter = &mut self.filters[slot as usize];
        if filter.generation > run.generation {
            return Admission::Done { duplicates: 0 };
        }
        filter.attempt = run.attempt;
        let next = filter.accepted + 1;
        if run.first_seq > next && is_on(Mutant::GapAccepted) {
            filter.accepted = run.first_seq - 1;
            return Admission::Take { filter: FilterId { slot, version: filter.version }, skip: 0 };
        }
        if run.first_seq > next {
            let answer = busy(run, next, true);
            self.refuse(slot, answer);
            return Admission::Done { duplicates: 0 };
        }
        #[cfg(test)]
        if self.duplicate_filter_off {
            return Admission::Take { filter: FilterId { slot, version: filter.version }, skip: 0 };
        }
        if is_on(Mutant::DuplicateFilterOff) && run.first_seq < next {
            filter.accepted = run.first_seq - 1;
            return Admission::Take { filter: FilterId { slot, version: filter.version }, skip: 0 };
        }
        let skip = (next - run.first_seq).min(u64::from(run.count)) as u32;
        if skip > 0 {
            self.stats.duplicates += u64::from(skip);
            self.due_urgent = true;
            self.mark_dirty(slot);
        }
        if skip == run.count {
            return Admission::Done { duplicates: skip };
        }
        Admission::Take { filter: FilterId { slot, version: self.filters[slot as usize].version }, skip }
    }

    /// Makes the filter of a new generation, or queues the answer that says why not.
    fn begin(&mut self, source: u32, run: &RunHeader, known: Option<u32>) -> Option<u32> {
        let buried = self.buried(self.sources[source as usize].source);
        let lost = |reason, generation_floor| Answer::ChannelLost {
            shard: run.shard,
            generation: run.generation,
            attempt: run.attempt,
            after_seq: run.first_seq - 1,
            generation_floor,
            reason,
        };
        if run.generation <= buried {
            self.queue(source, lost(LostReason::SessionExpired, buried));
            return None;
        }
        if run.first_seq != 1 {
            self.queue(source, lost(LostReason::ShardRestarted, 0));
            return None;
        }
        if known.is_none() && self.by_channel.len() >= self.config.filters_max {
            self.queue(source, busy(run, 1, false));
            return None;
        }
        let sender = &mut self.sources[source as usize];
        sender.generation_max = sender.generation_max.max(run.generation);
        let fresh = Filter {
            source,
            shard: run.shard,
            generation: run.generation,
            attempt: run.attempt,
            accepted: 0,
            handled: 0,
            refused_attempt: None,
            dirty: false,
            version: 0,
            live: true,
        };
        if let Some(slot) = known {
            // The version rises: what is still under way of the old generation does not count for the new one.
            let old = self.filters[slot as usize];
            self.filters[slot as usize] = Filter { version: old.version.wrapping_add(1), dirty: old.dirty, ..fresh };
            return Some(slot);
        }
        let slot = match self.filters_free.pop() {
            Some(slot) => {
                let version = self.filters[slot as usize].version;
                self.filters[slot as usize] = Filter { version, ..fresh };
                slot
            }
            None => {
                self.filters.push(fresh);
                (self.filters.len() - 1) as u32
            }
        };
        self.by_channel.insert(channel_key(source, run.shard), slot);
        self.sources[source as usize].filters.push(slot);
        Some(slot)
    }

    /// The next `count` sequences are in.
    #[inline]
    pub fn accept(&mut self, id: FilterId, count: u32) {
        let filter = &mut self.filters[id.slot as usize];
        assert!(filter.version == id.version, "C3: a run is accepted by the filter that admitted it");
        filter.accepted += u64::from(count);
        if is_on(Mutant::AckBeforeHandled) {
            filter.handled = filter.accepted;
        }
        filter.refused_attempt = None;
        let source = filter.source;
        self.sources[source as usize].outstanding += u64::from(count);
        self.mark_dirty(id.slot);
    }

    /// The sequence that the filter of a channel takes next, and true; the run's own first and false if there is no filter of
    /// its generation.
    #[must_use]
    pub fn next_of(&self, source: u32, run: &RunHeader) -> (u64, bool) {
        let filter = self.by_channel.get(&channel_key(source, run.shard)).map(|&slot| &self.filters[slot as usize]);
        let known = filter.filter(|filter| filter.generation == run.generation);
        known.map_or((run.first_seq, false), |filter| (filter.accepted + 1, true))
    }

    /// The sequence that the filter takes next.
    #[must_use]
    pub fn next_seq(&self, id: FilterId) -> u64 {
        self.filters[id.slot as usize].accepted + 1
    }

    /// The worker is done with `count` sequences up to `through`. Returns how many of them count as handled: those that were
    /// not taken back, and 0 if the filter has gone.
    #[inline]
    pub fn done(&mut self, source: u32, id: FilterId, through: u64, count: u64) -> u64 {
        let sender = &mut self.sources[source as usize];
        assert!(sender.outstanding >= count, "C7: a worker is done with what it was given");
        sender.outstanding -= count;
        if sender.outstanding == 0 && !sender.live {
            self.sources_free.push(source);
        }
        let filter = &mut self.filters[id.slot as usize];
        if filter.version != id.version {
            return count;
        }
        let refused = through.saturating_sub(filter.accepted).min(count);
        let handled = through.min(filter.accepted);
        if handled > filter.handled {
            filter.handled = handled;
            self.due_urgent = true;
            self.mark_dirty(id.slot);
        }
        count - refused
    }

    /// Messages that were accepted leave before a worker has seen them. See [`Inbound::take_back`] for the filter's side.
    pub fn withdraw(&mut self, source: u32, count: u64) {
        let sender = &mut self.sources[source as usize];
        assert!(sender.outstanding >= count, "C7: only what was accepted is withdrawn");
        sender.outstanding -= count;
        if sender.outstanding == 0 && !sender.live {
            self.sources_free.push(source);
        }
    }

    /// The device, or the end of the residence, has refused everything from `at` on that was accepted. Returns whether that was
    /// news.
    pub fn take_back(&mut self, id: FilterId, at: u64) -> bool {
        let filter = &mut self.filters[id.slot as usize];
        if filter.version != id.version || at > filter.accepted {
            return false;
        }
        assert!(
            at > filter.handled || is_on(Mutant::AckBeforeHandled),
            "C4: what was acknowledged as handled is never refused"
        );
        filter.accepted = at - 1;
        filter.refused_attempt = None;
        true
    }

    /// Channel coordinates for an answer: shard, generation, attempt, and the next sequence.
    #[must_use]
    pub fn position(&self, id: FilterId) -> Option<(ShardId, u32, u32, u64)> {
        let filter = &self.filters[id.slot as usize];
        (filter.version == id.version).then_some((filter.shard, filter.generation, filter.attempt, filter.accepted + 1))
    }

    /// Queues a refusal by the filter of its channel, once per attempt.
    pub fn refuse_by(&mut self, id: FilterId, answer: Answer) {
        if self.filters[id.slot as usize].version == id.version {
            self.refuse(id.slot, answer);
        }
    }

    fn refuse(&mut self, slot: u32, answer: Answer) {
        let filter = &mut self.filters[slot as usize];
        let attempt = Some(filter.attempt);
        if filter.refused_attempt != attempt {
            filter.refused_attempt = attempt;
            let source = filter.source;
            self.mark_dirty(slot);
            self.queue(source, answer);
        }
    }

    // ---- answers ----

    /// Queues an answer. It is dropped if the source has no link: its sender begins a new attempt with the next one.
    pub fn queue(&mut self, source: u32, answer: Answer) {
        match answer {
            Answer::Ack { .. } => {}
            Answer::Busy { .. } => self.stats.busy_answers += 1,
            Answer::Moved { .. } => self.stats.moved_answers += 1,
            Answer::ChannelLost { .. } => self.stats.channel_lost_answers += 1,
        }
        let sender = &mut self.sources[source as usize];
        if sender.link.is_some() {
            sender.answers.push(answer);
            self.due_urgent = true;
            self.list(source);
        }
    }

    fn mark_dirty(&mut self, slot: u32) {
        let filter = &mut self.filters[slot as usize];
        if !std::mem::replace(&mut filter.dirty, true) {
            let source = filter.source;
            self.sources[source as usize].dirty.push(slot);
            self.list(source);
        }
    }

    fn list(&mut self, source: u32) {
        let sender = &mut self.sources[source as usize];
        if !std::mem::replace(&mut sender.listed, true) {
            self.due.push_back(source);
        }
    }

    /// Whether some source has an answer due.
    #[must_use]
    pub fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether what is due says more than that messages were accepted, which only their sender's window needs to know, and that not
    /// soon.
    #[must_use]
    pub fn has_urgent(&self) -> bool {
        self.due_urgent && self.has_due()
    }

    /// Takes up to `room` answers for the next source that has some due and a link. Refusals go first, because each says more
    /// than the acknowledgement that follows from it.
    pub fn poll_answers(&mut self, room: usize, into: &mut Vec<Answer>) -> Option<(LinkId, Source)> {
        for _ in 0..self.due.len() {
            let slot = self.due.pop_front()?;
            let sender = &mut self.sources[slot as usize];
            let Some(link) = sender.link else {
                // Acknowledgements stay marked; the sender's re-sending brings them up again.
                sender.listed = false;
                continue;
            };
            let answers = sender.answers.len().min(room);
            into.extend(sender.answers.drain(..answers));
            let acks = sender.dirty.len().min(room - answers);
            for at in sender.dirty.drain(..acks) {
                let filter = &mut self.filters[at as usize];
                filter.dirty = false;
                into.push(Answer::Ack {
                    shard: filter.shard,
                    generation: filter.generation,
                    accepted_through: filter.accepted,
                    handled_through: filter.handled,
                });
            }
            if sender.answers.is_empty() && sender.dirty.is_empty() {
                sender.listed = false;
            } else {
                self.due.push_back(slot);
            }
            if !into.is_empty() {
                return Some((link, sender.source));
            }
        }
        self.due_urgent = false;
        None
    }
}

/// Busy at `at`; `certain` if a filter says so.
#[must_use]
pub fn busy(run: &RunHeader, at: u64, certain: bool) -> Answer {
    Answer::Busy { shard: run.shard, generation: run.generation, attempt: run.attempt, at, certain }
}

#[cfg(test)]
mod tests;
