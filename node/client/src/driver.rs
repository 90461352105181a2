//! The driver of a session: one task that owns the protocol and the links.
//!
//! ```text
//!   queue of the handles ──take all──▶ Outbound ──frames──▶ one link task per node
//!                                         ▲  │
//!              answers, directory ────────┘  └──events──▶ counters, ends of asks, lost channels
//! ```
//! The driver never waits for a node: frames go into a channel that [`OutboundConfig::peer_window`] bounds, and everything that
//! comes back arrives in one bounded inbox. What a turn of the loop costs is shared by all messages of that turn.
//!
//! C2: replies of a node whose lease has ended more than the grace ago are dropped; their asks end as unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringfleet_abi::limits::LEASE_GRACE_MS;
use ringfleet_abi::{Envelope, Flags, HlcClock, Incarnation, LostReason, ShardId, Verdict};
use ringfleet_env::{Env, Instant, TaskHandle};
use ringfleet_link::Endpoint;
use ringfleet_proto::control::{AdminAnswer, AdminVerb, Directory, MemberView, SetView, ShardView};
use ringfleet_proto::map::IdMap;
use ringfleet_proto::outbound::EnqueueError;
use ringfleet_proto::wire::{Frame, decode};
use ringfleet_proto::{Now, Outbound, OutboundConfig, OutboundEvent, Source};
use tokio::sync::mpsc;

use crate::coordinators::Coordinators;
use crate::error::{AskError, ChannelLost, RefusedReason, TellError, UnknownReason};
use crate::link::{self, LinkTask};
use crate::session::{Counters, Reply, SetRoute, Shared};

/// How long one long poll of the directory waits. Short enough to notice a leader that died meanwhile.
const WATCH_WAIT: Duration = Duration::from_secs(2);
/// Added to a long poll before it counts as lost.
const WATCH_MARGIN: Duration = Duration::from_secs(1);
/// Between two long polls when one failed, and between their beginnings when one brought nothing new.
const WATCH_PAUSE: Duration = Duration::from_millis(100);
/// The first pause before a node is dialled again; each further one in a row is twice as long.
const REDIAL_FIRST: Duration = Duration::from_millis(20);
/// The longest such pause.
const REDIAL_MAX: Duration = Duration::from_millis(500);
/// What waits in the inbox. Beyond it the readers of links wait, and through them the nodes.
const INBOX_MAX: usize = 1024;
/// Inputs handled in one turn, so that the queue of the handles gets its turn, too.
const INPUTS_PER_TURN: usize = 256;
/// Envelopes sent to one node that it has not said to have accepted.
const PEER_WINDOW: usize = ringfleet_proto::limits::PEER_WINDOW;

/// What comes to the driver from its own tasks.
#[derive(Debug)]
pub(crate) enum Input {
    /// A link is up.
    Up {
        /// Which start of a node.
        incarnation: Incarnation,
        /// Which link task.
        link: u64,
    },
    /// A link is down, or did not come up.
    Down {
        /// Which start of a node.
        incarnation: Incarnation,
        /// Which link task.
        link: u64,
        /// Why.
        reason: String,
    },
    /// A frame has come.
    Frame {
        /// From which start of a node.
        incarnation: Incarnation,
        /// Over which link task.
        link: u64,
        /// The frame.
        frame: Bytes,
    },
    /// A younger directory.
    Directory(Directory),
}

/// A node that the session has something for.
#[derive(Debug)]
struct Peer {
    member: MemberView,
    /// The link task and where it takes frames.
    link: Option<LinkTask>,
    is_up: bool,
    redial_at: Instant,
    redial_after: Duration,
}

struct Driver {
    shared: Arc<Shared>,
    env: Env,
    endpoint: Endpoint,
    outbound: Outbound,
    routes: IdMap<u16, SetRoute>,
    /// Every shard of every set.
    shards: Vec<ShardId>,
    members: BTreeMap<Incarnation, MemberView>,
    directory_index: u64,
    peers: BTreeMap<Incarnation, Peer>,
    last_link: u64,
    inbox: mpsc::Receiver<Input>,
    sender: mpsc::Sender<Input>,
    clock: HlcClock,
    /// Where asks lie that have not ended: shard, and position in its channel since the session began.
    asks: IdMap<u32, (ShardId, u64)>,
    /// Messages that have left the front of each channel, by packed shard.
    left: IdMap<u32, u64>,
    /// The queue's other half: swapped with it, so that neither allocates in a steady state.
    taken: Vec<Envelope>,
}

pub(crate) async fn run(shared: Arc<Shared>, endpoint: Endpoint, coordinators: Coordinators, directory: Directory) {
    let (sender, inbox) = mpsc::channel(INBOX_MAX);
    let env = shared.env.clone();
    let window = usize::try_from(shared.window).unwrap_or(usize::MAX);
    // The session's window bounds all of them, so no channel is ever at its bound (asserted at `enqueue`): a tell waits for room
    // as long as it takes, and only its caller gives up.
    let bound = window.saturating_add(1);
    let config = OutboundConfig { channel_max: bound, peer_max: bound, total_max: bound, peer_window: PEER_WINDOW };
    let _watch = watch(&env, coordinators, directory.index, sender.clone());
    // Ends the waits of all handles however this task ends.
    let _ending = Ending(shared.clone());
    let mut driver = Driver {
        outbound: Outbound::new(Source::Client(shared.session), config),
        shared,
        env,
        endpoint,
        routes: IdMap::default(),
        shards: Vec::new(),
        members: BTreeMap::new(),
        directory_index: 0,
        peers: BTreeMap::new(),
        last_link: 0,
        inbox,
        sender,
        clock: HlcClock::default(),
        asks: IdMap::default(),
        left: IdMap::default(),
        taken: Vec::new(),
    };
    driver.adopt(driver.now(), directory);
    driver.run().await;
}

struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end("its driver is gone");
    }
}

/// Follows the directory, whoever leads.
fn watch(env: &Env, coordinators: Coordinators, mut have_index: u64, to: mpsc::Sender<Input>) -> TaskHandle {
    let inner = env.clone();
    let follow = async move {
        let wait_ms = u32::try_from(WATCH_WAIT.as_millis()).unwrap_or(u32::MAX);
        loop {
            let asked = inner.now();
            let verb = AdminVerb::Directory { have_index, wait_ms };
            match coordinators.call(verb, WATCH_WAIT + WATCH_MARGIN).await {
                Ok(AdminAnswer::Directory(directory)) if directory.index > have_index => {
                    have_index = directory.index;
                    if to.send(Input::Directory(directory)).await.is_err() {
                        return;
                    }
                }
                // Usually long past; a coordinator that does not wait is not asked all the time (C9).
                Ok(_) => inner.sleep_until(asked + WATCH_PAUSE).await,
                Err(error) => {
                    tracing::debug!(%error, "the directory cannot be followed");
                    inner.sleep(WATCH_PAUSE).await;
                }
            }
        }
    };
    env.spawn("client directory", follow).abort_on_drop()
}

impl Driver {
    fn now(&self) -> Now {
        Now::new(self.env.monotonic_ns(), self.env.wall_ms())
    }

    async fn run(&mut self) {
        let mut timer = self.env.timer(self.env.now());
        loop {
            // First: an answer has taken messages from the front of its channel at once, and `left` says so only from here on. Where
            // asks lie is told by both together.
            self.handle_events();
            let now = self.now();
            self.take_queue(now);
            self.take_back();
            self.outbound.handle_timeout(now);
            self.dial_wanted(now);
            self.send_frames();
            self.handle_events();
            let redial = self.peers.values().filter(|peer| peer.link.is_none()).map(|peer| peer.redial_at).min();
            let timeout = self.outbound.poll_timeout().map(Instant::from_ns);
            let wake = redial.into_iter().chain(timeout).min().unwrap_or(Instant::FAR_FUTURE);
            timer.as_mut().reset(wake);
            let shared = self.shared.clone();
            let first = tokio::select! {
                biased;
                input = self.inbox.recv() => input,
                () = shared.work.notified() => None,
                () = timer.as_mut() => None,
            };
            let now = self.now();
            let mut input = first;
            for _ in 0..INPUTS_PER_TURN {
                let Some(one) = input else { break };
                self.handle_input(now, one);
                input = self.inbox.try_recv().ok();
            }
            if let Some(last) = input {
                self.handle_input(now, last);
            }
        }
    }

    /// Takes everything that the handles have queued, stamps it and hands it to the protocol.
    fn take_queue(&mut self, now: Now) {
        let mut taken = std::mem::take(&mut self.taken);
        std::mem::swap(&mut self.shared.lock().queue, &mut taken);
        let mut last_owner = Incarnation(0);
        for envelope in &mut taken {
            // C6: stamps of one session only grow.
            envelope.hlc = self.clock.tick(now.wall_ms).0;
            let set = envelope.to().set;
            let route = self.routes.get(&set.0);
            let index = route.and_then(|route| route.keys.shard_of(route.shards, envelope.to_key));
            let shard = ShardId::new(set, index.unwrap_or_default());
            match index.map(|_| self.outbound.enqueue(shard, envelope)) {
                Some(Ok(index)) => self.note_ask(shard, index, envelope),
                Some(Err(EnqueueError::NoRoom)) => panic!("C9: the session's window bounds what its outbound holds"),
                Some(Err(EnqueueError::NoSuchShard)) | None => {
                    self.end_unsent(shard, envelope);
                    continue;
                }
            }
            match self.outbound.owner(shard) {
                Some((_, owner)) if owner != last_owner => {
                    last_owner = owner;
                    self.want(owner);
                }
                _ => {}
            }
        }
        taken.clear();
        self.taken = taken;
    }

    /// Remembers where an ask lies, to take it back at its deadline.
    fn note_ask(&mut self, shard: ShardId, index: usize, envelope: &Envelope) {
        if let Some((_, number @ 1..)) = envelope.from().as_client() {
            let left = self.left.get(&shard.pack()).copied().unwrap_or_default();
            self.asks.insert(number, (shard, left + index as u64));
        }
    }

    /// Takes back asks whose deadline has passed, where they were provably not executed (C4). No event may wait: see `run`; what comes
    /// between there and here makes none.
    fn take_back(&mut self) {
        let given_up = std::mem::take(&mut self.shared.lock().given_up);
        for number in given_up {
            let Some((shard, position)) = self.asks.remove(&number) else { continue };
            let left = self.left.get(&shard.pack()).copied().unwrap_or_default();
            let index = position.checked_sub(left).and_then(|index| usize::try_from(index).ok());
            let taken = index.is_some_and(|index| self.outbound.give_up(shard, index).is_ok());
            if taken {
                // What lay behind it has moved up by one.
                for (other, at) in self.asks.values_mut() {
                    *at -= u64::from(*other == shard && *at > position);
                }
                self.shared.acknowledge(|counters| counters.acked += 1);
            }
            let end = if taken {
                AskError::Refused(RefusedReason::Deadline)
            } else {
                AskError::Unknown(UnknownReason::Deadline)
            };
            self.end_ask(number, Err(end));
        }
    }

    fn end_ask(&mut self, number: u32, end: Result<Reply, AskError>) {
        self.asks.remove(&number);
        self.shared.end_ask(number, end);
    }

    /// Ends a message whose set has left the directory between its taking and its sending.
    fn end_unsent(&mut self, shard: ShardId, envelope: &Envelope) {
        if let Some((_, number @ 1..)) = envelope.from().as_client() {
            let reason = RefusedReason::NotSent(TellError::NoSuchSet { set: shard.set });
            self.end_ask(number, Err(AskError::Refused(reason)));
        }
        let reason = LostReason::SetDeleted;
        self.shared.report_lost(ChannelLost { shard, after_seq: 0, messages: 1, reason });
    }

    /// Makes sure that a node which owns something is, or will be, dialled.
    fn want(&mut self, owner: Incarnation) {
        if self.peers.contains_key(&owner) {
            return;
        }
        if let Some(member) = self.members.get(&owner) {
            let peer = Peer {
                member: member.clone(),
                link: None,
                is_up: false,
                redial_at: Instant::ZERO,
                redial_after: REDIAL_FIRST,
            };
            self.peers.insert(owner, peer);
        }
    }

    fn dial_wanted(&mut self, now: Now) {
        let at = Instant::from_ns(now.mono_ns);
        for (&incarnation, peer) in &mut self.peers {
            if peer.link.is_some() || peer.redial_at > at {
                continue;
            }
            self.last_link += 1;
            peer.link = Some(link::start(link::Target {
                env: self.env.clone(),
                endpoint: self.endpoint.clone(),
                link: self.last_link,
                session: self.shared.session,
                incarnation,
                name: peer.member.name.clone(),
                addr: peer.member.data_addr.clone(),
                placement_index: self.directory_index,
                inbox: self.sender.clone(),
            }));
        }
    }

    fn send_frames(&mut self) {
        let mut frame = Vec::new();
        while let Some(incarnation) = self.outbound.poll_frame(0, &mut frame) {
            let frame = std::mem::take(&mut frame);
            // The link went down meanwhile: `Outbound` learns it from the inbox and sends again.
            if let Some(link) = self.peers.get(&incarnation).and_then(|peer| peer.link.as_ref()) {
                link.send(frame);
            }
        }
    }

    fn handle_events(&mut self) {
        let mut sum = Counters::default();
        while let Some(event) = self.outbound.poll_event() {
            match event {
                OutboundEvent::Handled { shard, count } => {
                    sum.acked += count;
                    *self.left.entry(shard.pack()).or_default() += count;
                }
                OutboundEvent::Busy { .. } => sum.busy_retries += 1,
                OutboundEvent::Moved { .. } => sum.moved += 1,
                OutboundEvent::Lost { shard, generation, after_seq, reason, messages } => {
                    tracing::info!(%shard, generation, after_seq, %reason, messages = messages.len(), "channel lost");
                    let lost = messages.len() as u64;
                    *self.left.entry(shard.pack()).or_default() += lost;
                    for envelope in &messages {
                        if let Some((_, number @ 1..)) = envelope.from().as_client() {
                            let unknown = AskError::Unknown(UnknownReason::ChannelLost(reason));
                            self.end_ask(number, Err(unknown));
                        }
                    }
                    self.shared.report_lost(ChannelLost { shard, after_seq, messages: lost, reason });
                }
            }
        }
        if sum != Counters::default() {
            self.shared.acknowledge(|counters| {
                counters.acked += sum.acked;
                counters.busy_retries += sum.busy_retries;
                counters.moved += sum.moved;
            });
        }
    }

    fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Directory(directory) => self.adopt(now, directory),
            Input::Up { incarnation, link } => {
                let Some(peer) = self.peer_of(incarnation, link) else { return };
                peer.is_up = true;
                peer.redial_after = REDIAL_FIRST;
                self.outbound.peer_up(now, incarnation);
            }
            Input::Down { incarnation, link, reason } => self.handle_down(now, incarnation, link, &reason),
            Input::Frame { incarnation, link, frame } => {
                if self.peer_of(incarnation, link).is_none() {
                    return;
                }
                if let Err(reason) = self.handle_frame(now, incarnation, &frame) {
                    self.handle_down(now, incarnation, link, &reason);
                }
            }
        }
    }

    /// The peer, if this link task is its present one: a late word of an earlier one says nothing.
    fn peer_of(&mut self, incarnation: Incarnation, link: u64) -> Option<&mut Peer> {
        self.peers.get_mut(&incarnation).filter(|peer| peer.link.as_ref().is_some_and(|task| task.id() == link))
    }

    fn handle_down(&mut self, now: Now, incarnation: Incarnation, link: u64, reason: &str) {
        let Some(peer) = self.peer_of(incarnation, link) else { return };
        tracing::debug!(node = %peer.member.name, reason, "link down");
        peer.link = None;
        let was_up = std::mem::take(&mut peer.is_up);
        peer.redial_at = Instant::from_ns(now.mono_ns) + peer.redial_after;
        peer.redial_after = (peer.redial_after * 2).min(REDIAL_MAX);
        if was_up {
            self.outbound.peer_down(incarnation);
        }
        // A node that has nothing of ours is dialled again when there is something.
        if !self.members.contains_key(&incarnation) || !self.has_waiting(incarnation) {
            self.peers.remove(&incarnation);
        }
        self.shared.acknowledge(|counters| counters.reconnects += 1);
    }

    fn has_waiting(&self, owner: Incarnation) -> bool {
        self.waiting().any(|by| by == owner)
    }

    /// The owners of shards for which something waits.
    fn waiting(&self) -> impl Iterator<Item = Incarnation> {
        self.shards
            .iter()
            .filter(|&&shard| self.outbound.waiting(shard) > 0)
            .filter_map(|&shard| self.outbound.owner(shard).map(|(_, owner)| owner))
    }

    fn handle_frame(&mut self, now: Now, incarnation: Incarnation, frame: &[u8]) -> Result<(), String> {
        match decode(frame).map_err(|error| error.to_string())? {
            Frame::Answers(answers) => {
                if answers.source != Source::Client(self.shared.session) {
                    return Err("an answer to somebody else".to_owned());
                }
                answers.iter().for_each(|answer| self.outbound.handle_answer(now, incarnation, &answer));
                Ok(())
            }
            Frame::Replies(replies) => {
                if replies.session != self.shared.session {
                    return Err("a reply to somebody else".to_owned());
                }
                if replies.lease_end_ms.saturating_add(LEASE_GRACE_MS) < now.wall_ms {
                    tracing::warn!(%incarnation, "C2: replies after the end of their node's lease dropped");
                    return Ok(());
                }
                replies.envelopes().for_each(|envelope| self.handle_reply(now, envelope));
                Ok(())
            }
            Frame::Goodbye(reason) => Err(format!("the node closed the link: {}", reason.name())),
            Frame::Hello(_) | Frame::Deliver(_) => Err("a frame that no client is sent".to_owned()),
        }
    }

    fn handle_reply(&mut self, now: Now, envelope: Envelope) {
        // C6: what the session sends after a reply is stamped later than it. A stamp too far ahead is not merged.
        if self.clock.merge(envelope.stamp(), now.wall_ms).is_err() {
            tracing::warn!(stamp = %envelope.stamp(), "C6: the stamp of a reply is too far ahead of the local clock");
        }
        let Some((_, number)) = envelope.to().as_client() else { return };
        let end = if envelope.flags().has(Flags::CONTROL) {
            let Some((verdict, body)) = envelope.as_verdict() else { return };
            Err(match verdict {
                Verdict::HandlerFailed | Verdict::NoReply => {
                    AskError::Failed { actor: Box::new(self.shared.asked(envelope.from())), verdict, fault: body.fault }
                }
                verdict => AskError::Refused(RefusedReason::Verdict(verdict)),
            })
        } else {
            Ok(Reply::new(envelope))
        };
        if number != 0 {
            self.end_ask(number, end);
        } else if end.is_err() {
            self.shared.acknowledge(|counters| counters.refused += 1);
        }
    }

    fn adopt(&mut self, now: Now, directory: Directory) {
        if directory.index < self.directory_index {
            return;
        }
        self.directory_index = directory.index;
        let route = |set: &SetView| (set.set, SetRoute { keys: set.keys.into(), shards: set.shards });
        self.routes = directory.sets.iter().map(route).collect();
        self.shards = directory.shards.iter().map(ShardView::shard_id).collect();
        self.members = directory.members.iter().map(|member| (member.incarnation(), member.clone())).collect();
        self.outbound.handle_view(now, &directory);
        // Links to starts of nodes that are gone say nothing any more.
        let gone: Vec<Incarnation> =
            self.peers.keys().filter(|peer| !self.members.contains_key(peer)).copied().collect();
        for incarnation in gone {
            if self.peers.remove(&incarnation).is_some_and(|peer| peer.is_up) {
                self.outbound.peer_down(incarnation);
            }
        }
        let wanted: BTreeSet<Incarnation> = self.waiting().collect();
        wanted.into_iter().for_each(|owner| self.want(owner));
        self.shared.adopt(&directory);
    }
}
