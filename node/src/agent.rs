//! The agent's loop: it owns the protocol of one incarnation, feeds it what links, devices, clock and coordinator say, and executes
//! what it wants done.
//!
//! ```text
//!   one turn:  lease, view, link events, frames the protocol has room for
//!              -> NodeProto -> ingress -> pumps -> devices -> pumps -> device events, time
//!              -> NodeProto -> actions, in order -> links, pumps, membership
//! ```
//!
//! Every source of a turn is bounded (`FRAMES_PER_TURN`, the pump's backlog, the links' channels), so no source starves another, and
//! the loop lets the connections' own tasks run between two turns. It turns at least every [`TURN_MAX`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    task::{Wake, Waker},
    time::Duration,
};

use ringfleet_abi::{DeviceIndex, Envelope, LostReason, Status, WorkerCounters};
use ringfleet_env::{Env, Instant};
use ringfleet_gpu::CodeChanges;
use ringfleet_proto::{
    Action, Lane, Ledger, LinkId, NodeProto, Now, PeerIdentity,
    control::{Load, NodeView, Released, limits::HANDOVER_MS},
};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    error::NodeError,
    faults::Faults,
    links::{Link, LinkEvent, Links},
    membership::{Membership, Report, Request},
    pump::{DeviceEvent, Next, Pump, STOP_LIMIT},
    shared::{Shared, TURN_OVERDUE},
};

/// The loop turns at least so often.
pub const TURN_MAX: Duration = Duration::from_millis(250);
/// Data frames taken from one link in one turn.
const FRAMES_PER_TURN: usize = 8;
/// Link events taken in one turn.
const LINK_EVENTS_PER_TURN: usize = 512;
/// Envelopes handed to one device in one turn.
const INGRESS_PER_TURN: usize = 16 << 10;
/// How long the coordinator may take to hear that this node leaves.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);
/// From the stop of the devices to the word that this node leaves.
const HANDOVER: Duration = Duration::from_millis(HANDOVER_MS);
/// How much longer than its own limit a device may take to stop.
const STOP_MARGIN: Duration = Duration::from_secs(1);
// The loop shows itself between the steps of its end, so none of them may look like death.
const _: () = {
    let stop_ms = STOP_LIMIT.as_millis() + STOP_MARGIN.as_millis();
    let overdue_ms = TURN_OVERDUE.as_millis();
    assert!(stop_ms < overdue_ms && HANDOVER.as_millis() < overdue_ms && LEAVE_LIMIT.as_millis() < overdue_ms);
};
/// The loop shows itself to the health port at most so often, and once more this long after it has come to rest.
const SHOW_EVERY: Duration = Duration::from_millis(20);

/// Wakes the loop of whoever waits for this.
struct Notifier(Arc<Notify>);

impl Wake for Notifier {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

/// Why a loop ended.
#[derive(Debug)]
pub enum Ended {
    /// It was asked to.
    Stopped,
    /// The coordinator has declared this incarnation lost: join anew.
    Fenced,
    /// These devices are gone. Everything else of this incarnation has stopped, and the coordinator knows.
    DeviceLost(Vec<DeviceIndex>),
    /// Something that cannot be mended is broken.
    Failed(NodeError),
}

/// The loop of one incarnation.
pub struct Agent {
    env: Env,
    proto: NodeProto,
    links: BTreeMap<LinkId, Link>,
    link_events: mpsc::Receiver<LinkEvent>,
    dialler: Links,
    pumps: Vec<Pump>,
    /// Where each device stands in the configuration: what is shown of it stays its own when another one is left out.
    places: Vec<usize>,
    membership: Membership,
    notify: Arc<Notify>,
    /// Wakes this loop; what devices have.
    waker: Waker,
    /// When pumps want their turn, at the latest.
    pumps_at: Instant,
    shared: Arc<Shared>,
    view: Option<Arc<NodeView>>,
    applied_index: u64,
    released: Vec<Released>,
    ingress: Vec<Envelope>,
    events: Vec<DeviceEvent>,
    spares: Vec<Vec<u8>>,
    /// Links that have data frames, in this turn.
    with_data: Vec<LinkId>,
    /// What the next renewal says.
    load: Load,
    shown_at: Instant,
    /// Something has happened since.
    unshown: bool,
    faults: Faults,
    fenced: bool,
    /// Devices that have lost a worker.
    lost: BTreeSet<DeviceIndex>,
}

/// What an [`Agent`] is made of.
pub struct AgentParts {
    /// Clocks and tasks.
    pub env: Env,
    /// The protocol of this incarnation.
    pub proto: NodeProto,
    /// Where links are dialled.
    pub dialler: Links,
    /// What links say.
    pub link_events: mpsc::Receiver<LinkEvent>,
    /// One per device.
    pub pumps: Vec<Pump>,
    /// The place of each device among those that are configured.
    pub places: Vec<usize>,
    /// Lease, view and requests.
    pub membership: Membership,
    /// Woken by links and pumps.
    pub notify: Arc<Notify>,
    /// Health and metrics.
    pub shared: Arc<Shared>,
}

impl Agent {
    /// A loop that has not turned.
    #[must_use]
    pub fn new(parts: AgentParts) -> Self {
        let AgentParts { env, proto, dialler, link_events, pumps, places, membership, notify, shared } = parts;
        let shown_at = env.now();
        Self {
            env,
            proto,
            links: BTreeMap::new(),
            link_events,
            dialler,
            pumps,
            places,
            membership,
            waker: Waker::from(Arc::new(Notifier(notify.clone()))),
            pumps_at: Instant::ZERO,
            notify,
            shared,
            view: None,
            applied_index: 0,
            released: Vec::new(),
            ingress: Vec::new(),
            events: Vec::new(),
            spares: Vec::new(),
            with_data: Vec::new(),
            load: Load::default(),
            shown_at,
            unshown: true,
            faults: Faults::default(),
            fenced: false,
            lost: BTreeSet::new(),
        }
    }

    /// Turns until stopped, fenced or failed. Stops the devices at the end.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Ended {
        let env = self.env.clone();
        let mut timer = env.timer(env.now());
        let mut timer_at = Instant::ZERO;
        let ended = loop {
            // First: whoever has been declared lost does nothing more.
            if self.membership.end.borrow().is_some() {
                break Ended::Fenced;
            }
            let progress = self.turn();
            if self.fenced {
                break Ended::Fenced;
            }
            // All of them: each is started again, or suspect, by its own record.
            self.lost.extend(self.pumps.iter_mut().filter_map(|pump| pump.is_dead().then(|| pump.index())));
            if !self.lost.is_empty() {
                break Ended::DeviceLost(self.lost());
            }
            self.unshown |= progress;
            self.show();
            if progress {
                // Whoever drops the other end stops the agent, too.
                if !matches!(stop.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                    break Ended::Stopped;
                }
                tokio::task::yield_now().await;
                continue;
            }
            // A timer that is due earlier costs one turn more; setting it with every wait would cost more.
            let until = self.wake_at();
            if timer_at > until || timer_at <= env.now() {
                timer_at = until;
                timer.as_mut().reset(until);
            }
            tokio::select! {
                biased;
                _ = &mut stop => break Ended::Stopped,
                () = self.notify.notified() => {}
                // `changed` counts as having looked; the turn looks again.
                Ok(()) = self.membership.lease.changed() => self.membership.lease.mark_changed(),
                Ok(()) = self.membership.view.changed() => self.membership.view.mark_changed(),
                Ok(()) = self.membership.end.changed() => {}
                Ok(()) = self.membership.clock.changed() => {}
                () = timer.as_mut() => timer_at = Instant::ZERO,
            }
        };
        self.finish(ended).await
    }

    fn lost(&self) -> Vec<DeviceIndex> {
        self.lost.iter().copied().collect()
    }

    fn wake_at(&self) -> Instant {
        let mut latest = self.pumps_at.min(self.env.now() + TURN_MAX);
        if self.unshown {
            latest = latest.min(self.shown_at + SHOW_EVERY);
        }
        self.proto.poll_timeout().map_or(latest, |ns| latest.min(Instant::from_ns(ns)))
    }

    fn now(&self) -> Now {
        Now::new(self.env.monotonic_ns(), self.env.wall_ms())
    }

    /// One turn; says whether anything happened.
    fn turn(&mut self) -> bool {
        let now = self.now();
        self.shared.turned(now.mono_ns);
        let mut progress = self.take_membership(now);
        progress |= self.take_link_events(now);
        progress |= self.take_frames(now);
        progress |= self.feed_devices();
        progress |= self.turn_pumps();
        progress |= self.take_device_events(now);
        if self.proto.poll_timeout().is_some_and(|at| at <= now.mono_ns) {
            self.proto.handle_timeout(now);
            progress = true;
        }
        progress |= self.act(now);
        // The actions may have made room for egress that the pumps will not announce again.
        progress || (self.proto.can_take_egress(now) > 0 && self.pumps.iter().any(Pump::has_events))
    }

    fn take_membership(&mut self, now: Now) -> bool {
        let mut progress = false;
        if self.membership.lease.has_changed().unwrap_or(false) {
            let lease = *self.membership.lease.borrow_and_update();
            self.proto.handle_lease(now, lease.end.as_ns(), lease.end_wall_ms);
            self.shared.update(|snapshot| snapshot.lease_end = lease.end);
            progress = true;
        }
        if self.membership.view.has_changed().unwrap_or(false) {
            let view = self.membership.view.borrow_and_update().clone();
            if let Some(view) = &view {
                tracing::debug!(index = view.index, members = view.members.len(), "view");
                self.proto.handle_view(now, view);
                let incarnation = self.membership.incarnation.0;
                let owned = view.shards.iter().filter(|shard| shard.incarnation == incarnation).count() as u64;
                self.shared.update(|snapshot| {
                    snapshot.view_index = view.index;
                    snapshot.shards_owned = owned;
                });
            }
            self.view = view;
            progress = true;
        }
        progress
    }

    fn take_link_events(&mut self, now: Now) -> bool {
        let mut taken = 0;
        while taken < LINK_EVENTS_PER_TURN
            && let Ok(event) = self.link_events.try_recv()
        {
            taken += 1;
            match event {
                LinkEvent::Up(link) => {
                    tracing::info!(peer = %link.peer_name, link = %link.id, "link up");
                    self.proto.link_up(now, link.id, link.peer);
                    self.links.insert(link.id, *link);
                }
                LinkEvent::Answers(id, frame) => self.handle_frame(now, id, Lane::Answers, &frame),
                LinkEvent::Down(id, why) => {
                    if let Some(link) = self.links.remove(&id) {
                        tracing::info!(peer = %link.peer_name, link = %id, %why, "link down");
                        self.proto.link_down(now, id);
                    }
                }
                LinkEvent::DialFailed(incarnation, why) => {
                    tracing::debug!(%incarnation, %why, "link not made");
                    self.proto.connect_failed(now, incarnation);
                }
            }
        }
        taken > 0
    }

    fn take_frames(&mut self, now: Now) -> bool {
        let mut progress = false;
        let mut with_data = std::mem::take(&mut self.with_data);
        with_data.extend(self.links.iter().filter(|(_, link)| !link.data.is_empty()).map(|(&id, _)| id));
        for id in with_data.drain(..) {
            for _ in 0..FRAMES_PER_TURN {
                if !self.proto.can_read_data(now, id) {
                    break;
                }
                let Some(Ok(frame)) = self.links.get_mut(&id).map(|link| link.data.try_recv()) else { break };
                self.handle_frame(now, id, Lane::Data, &frame);
                progress = true;
            }
        }
        self.with_data = with_data;
        progress
    }

    fn handle_frame(&mut self, now: Now, id: LinkId, lane: Lane, frame: &[u8]) {
        if !self.links.contains_key(&id) {
            return;
        }
        if let Err(error) = self.proto.handle_frame(now, id, lane, frame) {
            let peer = self.links.get(&id).map_or("", |link| link.peer_name.as_str());
            tracing::warn!(%peer, link = %id, %error, "link closed");
            self.close(id, &error.to_string());
        }
    }

    fn close(&mut self, id: LinkId, reason: &str) {
        if let Some(link) = self.links.remove(&id) {
            link.close(reason);
        }
    }

    fn take_device_events(&mut self, now: Now) -> bool {
        let mut progress = false;
        for at in 0..self.pumps.len() {
            let room = self.proto.can_take_egress(now);
            progress |= self.take_events_of(at, room, now);
        }
        progress
    }

    fn take_events_of(&mut self, at: usize, egress_room: usize, now: Now) -> bool {
        let pump = &self.pumps[at];
        let (device, place) = (pump.index(), self.places[at]);
        pump.take_events(egress_room, &mut self.events);
        let progress = !self.events.is_empty();
        for event in self.events.drain(..) {
            match event {
                DeviceEvent::Egress(envelopes) => self.proto.handle_egress(now, device, &envelopes),
                DeviceEvent::IngressDone { worker, total } => {
                    self.proto.handle_ingress_done(now, device, worker, total);
                }
                DeviceEvent::Status(status) => {
                    tracing::trace!(%device, ?status, "device");
                    if let Status::WorkerLost { worker } = status {
                        tracing::error!(%device, %worker, "a worker has failed");
                        self.lost.insert(device);
                    }
                    Self::note_stalled(&self.shared, place, status);
                    if let Status::ActorFailed { actor, fault } = status {
                        self.faults.note(actor, fault);
                    }
                    self.proto.handle_status(now, device, status);
                }
            }
        }
        progress
    }

    /// C9: a worker that does not come back from a round makes the node unready until it does.
    fn note_stalled(shared: &Shared, place: usize, status: Status) {
        match status {
            Status::WorkerStalled { worker } => {
                tracing::error!(device = place, %worker, "a worker does not come back from a round; its actors stand still");
                shared.update(|snapshot| _ = snapshot.stalled.insert((place, worker.0)));
            }
            Status::WorkerResumed { worker } => {
                tracing::warn!(device = place, %worker, "a worker that had stalled goes on");
                shared.update(|snapshot| _ = snapshot.stalled.remove(&(place, worker.0)));
            }
            _ => {}
        }
    }

    fn act(&mut self, now: Now) -> bool {
        let mut progress = false;
        while let Some(action) = self.proto.poll_action(now) {
            progress = true;
            match action {
                Action::Send { link, lane, frame } => {
                    let sent = self.links.get(&link).is_none_or(|link| link.send(lane, frame));
                    if !sent {
                        tracing::warn!(%link, "peer does not read what it is sent");
                        self.close(link, "the peer does not read what it is sent");
                        self.proto.link_down(now, link);
                    }
                }
                Action::Connect { node, incarnation, addr } => self.dialler.dial(node, incarnation, addr),
                Action::Close { link, reason } => self.close(link, reason.name()),
                Action::Device { device, control } => self.pumps[usize::from(device.0)].submit(control),
                // The long poll brings every view as soon as there is one; there is nothing to hurry.
                Action::NeedView { index } => tracing::debug!(index, "a peer has seen a younger view"),
                Action::ReportReleased { shard, epoch } => {
                    self.released.push(Released { set: shard.set.0, index: shard.index.0, epoch: epoch.0 });
                }
                Action::ReportApplied { index } => {
                    tracing::debug!(index, "view in effect");
                    self.applied_index = index;
                    self.shared.update(|snapshot| snapshot.applied_index = index);
                    self.report();
                }
                Action::AssignFailed { device, shard, epoch } => {
                    tracing::error!(%device, %shard, %epoch, "a shard could not be made resident");
                }
                Action::Fenced => self.fenced = true,
            }
        }
        self.report_released();
        for link in self.links.values() {
            link.take_spares(&mut self.spares);
        }
        for spare in self.spares.drain(..) {
            self.proto.recycle(spare);
        }
        progress
    }

    fn report_released(&mut self) {
        if self.released.is_empty() {
            return;
        }
        // A full queue: kept, and tried again in the next turn.
        if let Ok(permit) = self.membership.requests.try_reserve() {
            permit.send(Request::Released(std::mem::take(&mut self.released)));
        }
    }

    fn feed_devices(&mut self) -> bool {
        let mut progress = false;
        for pump in &self.pumps {
            let taken = self.proto.poll_ingress(pump.index(), &mut self.ingress, INGRESS_PER_TURN);
            progress |= taken > 0;
            pump.push_ingress(&mut self.ingress);
        }
        progress
    }

    /// Lets pumps without a thread of their own carry what there is; afterwards they wake this loop.
    fn turn_pumps(&mut self) -> bool {
        let mut progress = false;
        self.pumps_at = Instant::FAR_FUTURE;
        for pump in &mut self.pumps {
            match pump.turn(&self.waker) {
                Next::Now => progress = true,
                Next::At(at) => self.pumps_at = self.pumps_at.min(at),
                Next::Ended => {}
            }
        }
        progress
    }

    /// The counters of every worker, by the device's place in the configuration.
    fn counters(&self) -> Vec<Vec<WorkerCounters>> {
        let places = self.places.iter().max().map_or(0, |last| last + 1);
        let mut counters = vec![Vec::new(); places];
        self.places.iter().zip(&self.pumps).for_each(|(&place, pump)| counters[place] = pump.counters());
        counters
    }

    /// Changes of the code of each device, by its place in the configuration.
    fn code_changes(&self) -> BTreeMap<usize, CodeChanges> {
        self.places.iter().zip(&self.pumps).map(|(&place, pump)| (place, pump.code_changes())).collect()
    }

    /// Shows the loop's state to the health port and to the next renewal.
    fn show(&mut self) {
        let now = self.env.now();
        if now < self.shown_at + if self.unshown { SHOW_EVERY } else { TURN_MAX } {
            return;
        }
        self.shown_at = now;
        self.unshown = false;
        let ledger = self.proto.ledger();
        let devices = self.counters();
        let code_changes = self.code_changes();
        let mut workers = WorkerCounters::default();
        devices.iter().flatten().for_each(|worker| workers.add(worker));
        self.load = Load {
            actors: workers.actors_now,
            handled: workers.handled,
            in_flight: u64::try_from(workers.in_flight()).unwrap_or(0) + ledger.outbound_now + ledger.pending_now,
            dead_lettered: workers.dead_total() + ledger.dead_total(),
            failures: workers.failures,
            restarts: workers.restarts,
            escalations: workers.escalations,
            memory_used_bytes: 0,
        };
        let is_client = |link: &&Link| matches!(link.peer, PeerIdentity::Client { .. });
        let links_client = self.links.values().filter(is_client).count() as u64;
        let links_node = self.links.len() as u64 - links_client;
        let mut actors: BTreeMap<String, u64> = BTreeMap::new();
        for (set, count) in self.pumps.iter().flat_map(Pump::actors_by_set) {
            let known = self.view.as_ref().and_then(|view| view.sets.iter().find(|known| known.set == set.0));
            *actors.entry(known.map_or_else(|| set.to_string(), |set| set.name.clone())).or_default() += count;
        }
        let faults = &mut self.faults;
        self.shared.update(|snapshot| {
            snapshot.ledger = ledger;
            snapshot.devices = devices;
            snapshot.actors_by_set = actors;
            snapshot.code_changes = code_changes;
            faults.move_to(&mut snapshot.faults);
            snapshot.links_client = links_client;
            snapshot.links_node = links_node;
            snapshot.clock = *self.membership.clock.borrow();
        });
        self.report();
    }

    /// Tells the next renewal.
    fn report(&self) {
        self.membership.report.send_replace(Report { applied_index: self.applied_index, load: self.load });
    }

    /// Ends links, then devices, and only when nothing of this node executes any more tells the coordinator that it leaves (C2).
    async fn finish(mut self, mut ended: Ended) -> Ended {
        let now = self.now();
        self.shared.update(|snapshot| snapshot.leaving = true);
        self.shared.turned(now.mono_ns);
        for (id, link) in std::mem::take(&mut self.links) {
            link.close("the node is leaving");
            self.proto.link_down(now, id);
        }
        let stuck = self.stop_devices().await;
        let stopped_at = self.env.now();
        self.shared.turned(stopped_at.as_ns());
        if let (Some(index), false) = (stuck, matches!(ended, Ended::Stopped)) {
            ended = Ended::Failed(NodeError::DeviceFailed { index: index.0 });
        }
        self.settle_accounts();
        let all_stopped = stuck.is_none();
        for pump in self.pumps.drain(..) {
            // Dropping a device waits for the round that its workers are in.
            self.env.run_blocking(move || drop(pump)).await;
            self.shared.turned(self.env.monotonic_ns());
        }
        if matches!(ended, Ended::Stopped | Ended::DeviceLost(_)) && all_stopped {
            // C6: the coordinator places the shards as soon as it knows.
            self.env.sleep_until(stopped_at + HANDOVER).await;
            self.shared.turned(self.env.monotonic_ns());
            let (answer, left) = oneshot::channel();
            let requests = self.membership.requests.clone();
            let leave = async {
                if requests.send(Request::Leave { answer }).await.is_ok() {
                    let _ = left.await;
                }
            };
            // Without an answer the lease ends by itself, which is what leaving spares the others.
            let _ = self.env.timeout(LEAVE_LIMIT, leave).await;
            self.shared.turned(self.env.monotonic_ns());
        }
        ended
    }
}

impl Agent {
    /// Stops all devices and takes the last that they have for anybody; gives one that does not stop in time.
    async fn stop_devices(&mut self) -> Option<DeviceIndex> {
        self.pumps.iter().for_each(Pump::ask_to_stop);
        let limit = self.env.now() + STOP_LIMIT + STOP_MARGIN;
        loop {
            let mut progress = self.turn_pumps();
            let over = self.pumps.iter_mut().all(Pump::is_dead);
            let now = self.now();
            for at in 0..self.pumps.len() {
                // There is no room to wait for: what finds none is dead-lettered.
                progress |= self.take_events_of(at, usize::MAX, now);
            }
            if over {
                return None;
            }
            if self.env.now() >= limit {
                let stuck = self.pumps.iter_mut().find_map(|pump| (!pump.is_dead()).then(|| pump.index()));
                // Its lease ends, and then it publishes nothing more; but no other incarnation may begin beside it.
                stuck.inspect(|device| tracing::error!(%device, "does not stop"));
                return stuck;
            }
            if !progress {
                // Woken or not: it looks again.
                let _ = self.env.timeout_at(limit.min(self.pumps_at), self.notify.notified()).await;
            }
        }
    }

    /// C7: what this incarnation held is reported lost, and its counters are kept.
    fn settle_accounts(&mut self) {
        let reported = self.proto.abandon(LostReason::SenderFenced);
        let ledger = self.proto.ledger();
        let (devices, code_changes) = (self.counters(), self.code_changes());
        let mut held = 0;
        self.shared.update(|snapshot| {
            held = snapshot.past.bury(&ledger, &devices);
            snapshot.ledger = Ledger::default();
            snapshot.devices = Vec::new();
            snapshot.code_changes = code_changes;
            snapshot.bury_changes();
        });
        if reported + held > 0 {
            tracing::warn!(agent = reported, devices = held, "messages are lost with this incarnation");
        }
    }
}

/// The devices of the protocol's configuration, in the order of their indices.
pub(crate) fn device_index(at: usize) -> DeviceIndex {
    DeviceIndex(u16::try_from(at).unwrap_or(u16::MAX))
}
