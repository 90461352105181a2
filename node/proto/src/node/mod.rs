//! Everything that one agent decides (C2, C3, C4, C7, C9): where its shards are, what comes in, what goes out.
//!
//! ```text
//!   link --Deliver--> [held?] --> filter --> worker queue --poll_ingress--> device
//!   link <--Answers-- filter <-- runs done <------------- handle_ingress_done
//!   link <--Deliver-- outbound channel <----------------- handle_egress
//!   link <--Replies--------------------------------------/
//!   coordinator --view, lease--> residence --> Device(control)
//! ```
//!
//! **How the shell calls it.** Any `handle_*` in the order in which things happen; then [`NodeProto::poll_ingress`] for each
//! device and [`NodeProto::poll_action`] until there is nothing left; then it waits until [`NodeProto::poll_timeout`]. Three rules
//! carry correctness:
//!
//! 1. *Egress before done.* Workers publish what they send, and verdicts, before they advance `ingress_done`. The shell reads the
//!    counter first, then takes all of the egress, and then reports the counter. So a message is never acknowledged as handled
//!    before the verdict that says that it was refused has been seen.
//! 2. *Egress before flushed.* In the same way it reports a `RouteFlushed` only after all egress that was published before it: what a
//!    shard that leaves has sent is then here (`leaving`).
//! 3. *Controls in order*, and the shell asks [`NodeProto::can_read_data`] before it takes a frame from a data lane.
//!
//! **Lease (C2).** After its end nothing is accepted, sent or answered; everything is kept, and a renewal goes on where it
//! stopped. Frames carry the end of the lease by the wall clock, so a frame that a paused process sends late is refused by
//! who gets it. Devices have the same deadline on the monotonic clock, which they share with the agent.
//!
//! **A device refuses a client's message (C3).** The device refuses message n of a client for a shard (`busy`, `shard_full`) and,
//! by closing the shard's gate, every later message of any client to it. Why nothing overtakes n: (a) in the device, everything
//! of a client behind n is refused until a gate marker comes through the same ingress; (b) the agent takes back what it has not
//! pushed yet and refuses new messages of clients to the shard from the moment it sees the verdict; (c) the marker is pushed only
//! after the worker is done with everything that was pushed before, so every message that was in the ring when the gate closed
//! has been refused, not handled; (d) what is accepted afterwards lies behind the marker, and filters have gone back to n - 1,
//! so it begins with n. Messages of actors pass the gate; for them the device has dead letters, not refusals.
//!
//! **What a client may flood.** A client's messages are accepted only while the backlog to other nodes is below half of its
//! bounds; the other half takes what accepted work still sends. So a link that is cut for a second fills agents, not devices.
//!
//! Deliberately absent: payloads in controls, per-message timers, ordering between different senders, and any retry of
//! replies: a reply whose client has no link here is a dead letter, its ask ends as Unknown at its deadline (C4).

mod deliver;
mod egress;
mod leaving;
mod links;
mod residence;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::VecDeque;

use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{
    Control, DeviceIndex, Envelope, Incarnation, KeySpace, LostReason, NodeId, RouteTarget, SetId, Status, WorkerIndex,
};

use self::leaving::Leaving;
use self::links::{Dial, Link};
use self::residence::{Placed, Resident};
use self::worker::WorkerQueue;
use crate::action::Action;
use crate::control::NodeView;
use crate::control::view::{FailureView, Fence};
use crate::inbound::{Inbound, InboundConfig};
use crate::ledger::Ledger;
use crate::limits::{ACK_INTERVAL_NS, FRAME_ANSWERS_MAX, PENDING_WORKER_MAX, SESSION_IDLE_MS, SPARE_FRAMES_MAX};
use crate::map::IdMap;
use crate::now::Now;
use crate::outbound::{Outbound, OutboundConfig};
use crate::peer::{Lane, LinkId, Source};
use crate::table::ShardTable;
use crate::wire::{Answer, AnswersWriter, Frame, WireError, decode};

/// The link of a node to itself: its own actors' messages for another of its devices.
const SELF_LINK: LinkId = LinkId(u64::MAX);

/// One device as the protocol sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// How many workers.
    pub workers: u16,
    /// Slots of each worker's ingress ring: what may be outstanding per worker.
    pub ingress_capacity: u32,
}

/// What a node is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// This node.
    pub node: NodeId,
    /// This start of it.
    pub incarnation: Incarnation,
    /// Its devices, by index.
    pub devices: Vec<DeviceConfig>,
    /// Names of the actor types in the devices' type table, by index.
    pub types: Vec<String>,
    /// Actors that one shard may hold.
    pub actors_per_shard: u32,
    /// Bounds of what waits for other nodes.
    pub outbound: OutboundConfig,
    /// Envelopes accepted for one worker and not yet in its ingress ring.
    pub pending_worker_max: usize,
    /// How long a client session may be idle.
    pub session_idle_ms: u64,
}

impl NodeConfig {
    /// A node with these devices and types, and the default bounds.
    #[must_use]
    pub fn new(node: NodeId, incarnation: Incarnation, devices: Vec<DeviceConfig>, types: Vec<String>) -> Self {
        Self {
            node,
            incarnation,
            devices,
            types,
            actors_per_shard: 1 << 16,
            outbound: OutboundConfig::default(),
            pending_worker_max: PENDING_WORKER_MAX,
            session_idle_ms: SESSION_IDLE_MS,
        }
    }
}

/// Why a link must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Not a frame.
    #[error("malformed frame")]
    Wire(#[from] WireError),
    /// The link is not known, or was closed.
    #[error("a frame on a link that is not up")]
    UnknownLink,
    /// The frame is about another source than the link's (C11).
    #[error("a frame of another identity than the link's")]
    WrongSource,
    /// The frame may not travel on this lane or between these peers.
    #[error("a frame of this kind may not travel here")]
    WrongLane,
    /// The shell went on reading data although it was told not to.
    #[error("too many frames wait for the view or the lease")]
    TooManyHeld,
}

#[derive(Clone, Copy, Debug)]
struct SetEntry {
    keys: KeySpace,
    shards: u16,
    /// What devices have been told of failed actors.
    failures: FailureView,
    /// Whether it is being deleted: its shards will live nowhere.
    deleting: bool,
}

/// One device: its queues and what it has been told.
#[derive(Debug)]
struct DevicePort {
    workers: Vec<WorkerQueue>,
    routes: ShardTable<RouteTarget>,
    /// Sets whose routes it has not been told yet.
    new_sets: Vec<SetId>,
    /// Assignments under way.
    assigning: u32,
    /// Shards whose set's routes are being adopted.
    opening: u32,
    /// Version of its route table.
    version: u64,
    /// The version of which it has said that it is flushed.
    flushed: u64,
    /// Whether routes were told since the last commit.
    routes_changed: bool,
    /// Whether a shard leaves: the commit does not wait for assignments.
    urgent: bool,
    /// Where the next turn of `poll_ingress` begins.
    turn: usize,
}

/// The protocol of one agent. See the module's documentation.
#[derive(Debug)]
pub struct NodeProto {
    config: NodeConfig,
    /// The last time that the shell told.
    now: Now,
    ledger: Ledger,
    pending_now: u64,
    /// Envelopes that wait for all workers, at which data is no longer read.
    pending_max: usize,

    // Placement.
    view_index: u64,
    applied_index: u64,
    asked_index: u64,
    live: IdMap<u64, ()>,
    sets: Vec<Option<SetEntry>>,
    placement: ShardTable<Placed>,
    resident_of: ShardTable<u32>,
    residents: Vec<Option<Resident>>,
    residents_free: Vec<u32>,
    /// Live shards that are not yet routed to their worker.
    looping: Vec<u32>,
    /// Shards whose gate for clients is closed.
    gated: Vec<u32>,
    devices: Vec<DevicePort>,

    // Lease.
    lease_end_ns: u64,
    lease_end_wall_ms: u64,
    fenced_for_ever: bool,

    // Messages.
    inbound: Inbound,
    outbound: Outbound,

    // Links.
    links: IdMap<u64, Link>,
    nodes: IdMap<u64, LinkId>,
    clients: IdMap<u32, LinkId>,
    dials: IdMap<u64, Dial>,
    replying: Vec<LinkId>,
    held_links: u32,

    // Effects.
    /// Released shards whose release has not been reported; at most one entry per release under way.
    leaving: Vec<Leaving>,
    actions: VecDeque<Action>,
    spare: Vec<Vec<u8>>,
    answers: Vec<Answer>,
    /// When acknowledgements may be sent again.
    ack_next_ns: u64,
    /// Until when those that only say "accepted" wait for ones that say "handled"; 0 if there are none.
    ack_hold_ns: u64,
    ack_flushing: bool,
}

impl NodeProto {
    /// A node without a view and without a lease: nothing is accepted or sent yet.
    #[must_use]
    pub fn new(now: Now, config: NodeConfig) -> Self {
        let devices: Vec<DevicePort> = config
            .devices
            .iter()
            .map(|device| DevicePort {
                workers: (0..device.workers).map(|_| WorkerQueue::new(device.ingress_capacity)).collect(),
                routes: ShardTable::default(),
                new_sets: Vec::new(),
                assigning: 0,
                opening: 0,
                version: 0,
                flushed: 0,
                routes_changed: false,
                urgent: false,
                turn: 0,
            })
            .collect();
        let workers: usize = devices.iter().map(|device| device.workers.len()).sum();
        // One worker at its bound must not stop the reading, all of them a quarter full must: then the transport holds the
        // senders back and nobody is told Busy.
        let pending_max = config.pending_worker_max + workers.saturating_sub(1) * config.pending_worker_max / 4;
        let source = Source::Node(config.incarnation);
        let mut outbound = Outbound::new(source, config.outbound).without_events();
        outbound.peer_up(now, config.incarnation);
        let inbound =
            Inbound::new(InboundConfig { session_idle_ms: config.session_idle_ms, ..InboundConfig::default() });
        Self {
            config,
            now,
            ledger: Ledger::default(),
            pending_now: 0,
            pending_max,
            view_index: 0,
            applied_index: 0,
            asked_index: 0,
            live: IdMap::default(),
            sets: Vec::new(),
            placement: ShardTable::default(),
            resident_of: ShardTable::default(),
            residents: Vec::new(),
            residents_free: Vec::new(),
            looping: Vec::new(),
            gated: Vec::new(),
            devices,
            lease_end_ns: 0,
            lease_end_wall_ms: 0,
            fenced_for_ever: false,
            inbound,
            outbound,
            links: IdMap::default(),
            nodes: IdMap::default(),
            clients: IdMap::default(),
            dials: IdMap::default(),
            replying: Vec::new(),
            held_links: 0,
            leaving: Vec::new(),
            actions: VecDeque::new(),
            spare: Vec::new(),
            answers: Vec::new(),
            ack_next_ns: 0,
            ack_hold_ns: 0,
            ack_flushing: false,
        }
    }

    // ---- coordinator and devices ----

    /// A view has come from the coordinator. One that is not younger than the last is ignored.
    pub fn handle_view(&mut self, now: Now, view: &NodeView) {
        if view.index <= self.view_index || self.fenced_for_ever {
            return;
        }
        self.view_index = view.index;
        tracing::trace!(target: "fence", incarnation = self.config.incarnation.0, index = view.index, "saw");
        if view.fence(self.config.incarnation) == Fence::Fenced {
            self.fenced_for_ever = true;
            self.actions.push_back(Action::Fenced);
            return;
        }
        self.live = view.members.iter().map(|member| (member.incarnation, ())).collect();
        self.outbound.handle_view(now, view);
        self.inbound.forget_nodes(|incarnation| view.fence(incarnation) == Fence::Fenced);
        self.place(view);
        self.report_left();
        self.meet_members(now, view);
        self.release_held(now);
    }

    /// A device has said something.
    pub fn handle_status(&mut self, now: Now, device: DeviceIndex, status: Status) {
        self.now = now;
        self.status(now, device, status);
    }

    /// The lease lasts until then, on both clocks (C2). The first one makes the node begin.
    pub fn handle_lease(&mut self, now: Now, end_mono_ns: u64, end_wall_ms: u64) {
        self.lease_end_ns = end_mono_ns;
        self.lease_end_wall_ms = end_wall_ms;
        let incarnation = self.config.incarnation.0;
        tracing::trace!(target: "fence", incarnation, end_ns = end_mono_ns, lease_end_ms = end_wall_ms, "held");
        for device in 0..self.devices.len() as u16 {
            self.submit(DeviceIndex(device), Control::Lease { deadline_ns: end_mono_ns });
        }
        self.release_held(now);
    }

    /// Whether nothing may be accepted or sent now (C2).
    #[must_use]
    pub fn is_fenced(&self, now: Now) -> bool {
        self.fenced_for_ever || now.mono_ns >= self.lease_end_ns && !(is_on(Mutant::NoFence) && self.lease_end_ns > 0)
    }

    /// The placement index of the view in use, and the one through which everything is in effect here.
    #[must_use]
    pub fn indices(&self) -> (u64, u64) {
        (self.view_index, self.applied_index)
    }

    /// Envelopes have come out of a device. They must not be many more than [`NodeProto::can_take_egress`] allowed.
    pub fn handle_egress(&mut self, now: Now, device: DeviceIndex, envelopes: &[Envelope]) {
        self.now = now;
        self.outbound.set_now(now);
        for envelope in envelopes {
            self.egress(device, envelope);
        }
    }

    /// How many envelopes may be taken from the egress of all devices now.
    #[must_use]
    pub fn can_take_egress(&self, now: Now) -> usize {
        if self.is_fenced(now) { 0 } else { self.outbound.can_take_egress(now) }
    }

    /// A worker is done with so many ingress envelopes since it began. Whatever it published to egress before must have been
    /// handed over first.
    pub fn handle_ingress_done(&mut self, now: Now, device: DeviceIndex, worker: WorkerIndex, done_total: u64) {
        self.now = now;
        self.devices[usize::from(device.0)].workers[usize::from(worker.0)].set_done(done_total);
        self.finish_done(device, worker);
    }

    /// Appends up to `room` envelopes for the ingress of `device`, in order for each worker and never more than its ring takes;
    /// they count as pushed. Returns how many.
    pub fn poll_ingress(&mut self, device: DeviceIndex, into: &mut Vec<Envelope>, room: usize) -> usize {
        let port = &mut self.devices[usize::from(device.0)];
        let workers = port.workers.len();
        let mut taken = 0;
        for turn in 0..workers {
            if taken == room {
                break;
            }
            let at = (port.turn + turn) % workers;
            taken += port.workers[at].take(into, room - taken);
        }
        port.turn = (port.turn + 1) % workers.max(1);
        taken
    }

    // ---- frames ----

    /// A frame has come. Ask [`NodeProto::can_read_data`] before reading one from a data lane.
    ///
    /// # Errors
    /// [`ProtocolError`]: the link is down for the protocol now, and an [`Action::Close`] follows.
    pub fn handle_frame(&mut self, now: Now, link: LinkId, lane: Lane, frame: &[u8]) -> Result<(), ProtocolError> {
        if !self.links.contains_key(&link.0) {
            return Err(ProtocolError::UnknownLink);
        }
        let result = self.take_frame(now, link, lane, frame);
        if result.is_err() {
            self.close(now, link, crate::peer::CloseReason::ProtocolError);
        }
        result
    }

    fn take_frame(&mut self, now: Now, id: LinkId, lane: Lane, bytes: &[u8]) -> Result<(), ProtocolError> {
        let Some(link) = self.links.get(&id.0) else { return Err(ProtocolError::UnknownLink) };
        let peer = link.peer;
        match (lane, decode(bytes)?) {
            (Lane::Data, Frame::Deliver(deliver)) => {
                if deliver.header.source != peer.source() {
                    return Err(ProtocolError::WrongSource);
                }
                if !link.held.is_empty() || self.must_hold(now, &deliver) {
                    let index = deliver.header.placement_index;
                    return self.hold(now, id, bytes, index);
                }
                if !self.deliver(now, id, &deliver) {
                    self.refuse_fenced(now, id);
                }
                Ok(())
            }
            (Lane::Answers, Frame::Answers(answers)) => {
                let crate::peer::PeerIdentity::Node { incarnation, .. } = peer else {
                    return Err(ProtocolError::WrongLane);
                };
                if answers.source != self.outbound.source() {
                    return Err(ProtocolError::WrongSource);
                }
                for answer in answers.iter() {
                    self.outbound.handle_answer(now, incarnation, &answer);
                }
                self.report_left();
                Ok(())
            }
            (Lane::Answers, Frame::Goodbye(_)) => {
                self.link_down(now, id);
                Ok(())
            }
            _ => Err(ProtocolError::WrongLane),
        }
    }

    /// Whether the next frame may be read from the data lane of this link. Ask again after any `handle_*`.
    #[must_use]
    pub fn can_read_data(&self, now: Now, link: LinkId) -> bool {
        let idle = self.links.get(&link.0).is_none_or(|link| link.held.is_empty());
        idle && !self.is_fenced(now) && self.pending() < self.pending_max
    }

    fn pending(&self) -> usize {
        self.devices.iter().flat_map(|device| &device.workers).map(WorkerQueue::pending).sum()
    }

    // ---- time and effects ----

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        self.outbound.handle_timeout(now);
        self.inbound.expire(now.mono_ns);
        self.report_left();
        self.settle_routes();
        self.dial(now);
        self.give_up_held(now);
    }

    /// When [`NodeProto::handle_timeout`] has something to do, in monotonic ns.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        // Nothing is answered while the lease is over, so nothing is due either.
        let acks = (self.inbound.has_due() && !self.is_fenced(self.now)).then(|| self.ack_due_ns());
        let dials = self.dials.values().filter_map(Dial::due_ns).min();
        let held = if self.held_links == 0 { None } else { self.links.values().filter_map(Link::held_until_ns).min() };
        let left = self.left_due_ns();
        [self.outbound.poll_timeout(), self.inbound.next_sweep(), acks, dials, held, left].into_iter().flatten().min()
    }

    /// The next thing to do. Nothing is sent while the lease is over.
    pub fn poll_action(&mut self, now: Now) -> Option<Action> {
        self.now = now;
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if self.is_fenced(now) {
                return None;
            }
            if let Some(action) = self.poll_replies() {
                // Acknowledgements ride along: one packet less to send, and one wake-up less for its receiver.
                self.ack_flushing = true;
                return Some(action);
            }
            match self.poll_answers(now) {
                Polled::Action(action) => return Some(action),
                Polled::Looped => continue,
                Polled::Nothing => {}
            }
            match self.poll_data(now) {
                Polled::Action(action) => return Some(action),
                Polled::Looped => continue,
                Polled::Nothing => {}
            }
            return None;
        }
    }

    /// When the acknowledgements that are due are sent.
    fn ack_due_ns(&self) -> u64 {
        if self.inbound.has_urgent() { self.ack_next_ns } else { self.ack_next_ns.max(self.ack_hold_ns) }
    }

    fn poll_answers(&mut self, now: Now) -> Polled {
        if !self.inbound.has_due() {
            self.ack_flushing = false;
            return Polled::Nothing;
        }
        if self.ack_hold_ns == 0 {
            self.ack_hold_ns = now.mono_ns + ACK_INTERVAL_NS;
        }
        if now.mono_ns < self.ack_due_ns() && !self.ack_flushing {
            return Polled::Nothing;
        }
        self.ack_flushing = true;
        let mut answers = std::mem::take(&mut self.answers);
        answers.clear();
        let to = self.inbound.poll_answers(FRAME_ANSWERS_MAX, &mut answers);
        let polled = match to {
            None => {
                self.ack_flushing = false;
                self.ack_next_ns = now.mono_ns + ACK_INTERVAL_NS;
                self.ack_hold_ns = 0;
                Polled::Nothing
            }
            Some((SELF_LINK, _)) => {
                for answer in &answers {
                    self.outbound.handle_answer(now, self.config.incarnation, answer);
                }
                self.settle_routes();
                self.report_left();
                Polled::Looped
            }
            Some((link, source)) => {
                let mut frame = self.spare_frame();
                let mut writer = AnswersWriter::new(&mut frame, source);
                answers.iter().for_each(|answer| writer.answer(answer));
                writer.finish();
                Polled::Action(Action::Send { link, lane: Lane::Answers, frame })
            }
        };
        self.answers = answers;
        polled
    }

    fn poll_data(&mut self, now: Now) -> Polled {
        let mut frame = self.spare_frame();
        let Some(peer) = self.outbound.poll_frame(self.lease_end_wall_ms, &mut frame) else {
            self.recycle(frame);
            return Polled::Nothing;
        };
        if peer == self.config.incarnation {
            if let Ok(Frame::Deliver(deliver)) = decode(&frame) {
                self.deliver(now, SELF_LINK, &deliver);
            }
            self.recycle(frame);
            return Polled::Looped;
        }
        match self.nodes.get(&peer.0) {
            Some(&link) => {
                let (incarnation, lease_end_ms) = (self.config.incarnation.0, self.lease_end_wall_ms);
                tracing::trace!(target: "fence", incarnation, lease_end_ms, "published");
                Polled::Action(Action::Send { link, lane: Lane::Data, frame })
            }
            // Cannot happen while `peer_up` and `nodes` change together; the channel sends it again with the next link.
            None => Polled::Looped,
        }
    }

    /// Gives a sent frame's buffer back for reuse.
    pub fn recycle(&mut self, mut frame: Vec<u8>) {
        if self.spare.len() < SPARE_FRAMES_MAX && frame.capacity() > 0 {
            frame.clear();
            self.spare.push(frame);
        }
    }

    fn spare_frame(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn submit(&mut self, device: DeviceIndex, control: Control) {
        self.actions.push_back(Action::Device { device, control });
    }

    // ---- counters ----

    /// What has been counted (C7).
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let (out, inbound) = (self.outbound.stats(), self.inbound.stats());
        let mut ledger = self.ledger;
        for (sum, lost) in ledger.lost.iter_mut().zip(out.lost) {
            *sum += lost;
        }
        ledger.node_out = out.handled;
        ledger.outbound_now = out.queued_now;
        ledger.pending_now = self.pending_now;
        ledger.channels_lost = out.channels_lost;
        ledger.busy_answers = inbound.busy_answers;
        ledger.moved_answers = inbound.moved_answers;
        ledger.channel_lost_answers = inbound.channel_lost_answers;
        ledger.duplicates = inbound.duplicates;
        ledger.sessions_expired = inbound.expired;
        ledger
    }

    /// This incarnation is fenced or ends: reports what it holds as lost. Returns how many messages. Whatever the devices had
    /// published must have been handed over before; nothing is accepted, sent or answered afterwards (C2, C7).
    pub fn abandon(&mut self, reason: LostReason) -> u64 {
        self.fenced_for_ever = true;
        self.give_up_pending(reason) + self.outbound.abandon(reason)
    }

    /// Shards resident here, in any state.
    #[must_use]
    pub fn resident_shards(&self) -> usize {
        self.residents.iter().flatten().count()
    }
}

enum Polled {
    Action(Action),
    /// Something went from this node to itself: look again.
    Looped,
    Nothing,
}
