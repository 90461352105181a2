//! Membership: the node's life with the coordinators, on a thread and a connection of its own, so that load on the message path
//! never looks like death (C2, C10).
//!
//! ```text
//!   join --> renew every lease / RENEWALS_PER_LEASE  --> LeaseGrant   to the agent
//!        \-> watch the view (long poll)              --> NodeView     to the agent
//!        \-> report released shards, look up sessions   <-- asked by the agent
//!   refused as fenced, anywhere --> MembershipEnd::Fenced: the agent forgets everything and joins as a new incarnation
//! ```
//!
//! **Lease (C2).** The end of a lease is computed from the node's own clock when the renewal was *sent*; the leader starts counting
//! when it has received and confirmed it, which is later. A renewal that is tried again is made anew, and counts from when that one
//! was sent. So the node's end is never after the leader's, whatever the network did in between, and a paused process finds its
//! lease over when it wakes: the end is an instant, not a countdown.
//!
//! **Clock (C6).** Every answer to a renewal also measures this node's clock against the leader's; the next renewal says the result. A
//! node whose clock is off is quarantined: its renewals are answered, but not granted, until its clock is right again or its lease
//! has ended.

use std::{sync::Arc, time::Duration};

use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{DeviceIndex, Incarnation, NodeId, SessionId};
use ringfleet_env::{Env, Instant};
use ringfleet_proto::control::{
    ClockReading, ClockSample, Failure, Joined, Load, NodeAnswer, NodeRequest, NodeView, RefusalCode, Released,
    SessionIdentity,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::coordinators::Coordinators;

/// Renewals within the length of one lease: five may be lost before the sixth must arrive.
pub const RENEWALS_PER_LEASE: u32 = 6;
/// How long one long poll of the view waits.
const WATCH_WAIT: Duration = Duration::from_secs(10);
/// Added to a long poll before it counts as lost.
const WATCH_MARGIN: Duration = Duration::from_secs(2);
/// How long a report or a look-up waits for its answer before it is tried again.
const REQUEST_DEADLINE: Duration = Duration::from_secs(2);
/// Between two tries of something that failed.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Look-ups and reports that may wait for the coordinator. One more waits at the agent.
const REQUESTS_MAX: usize = 1024;
/// Reports that wait while one is being made; each has all shards that were released since the one before.
const REPORTS_MAX: usize = 1024;

/// A lease as the agent needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseGrant {
    /// Its end on the monotonic clock; 0 before the first.
    pub end: Instant,
    /// Its end on the wall clock, for frames to other nodes.
    pub end_wall_ms: u64,
}

/// This node's clock, as it was measured last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockState {
    /// The own clock minus the leader's.
    pub offset_ms: i64,
    /// How wrong that may be; 0: not measured yet.
    pub error_ms: u32,
    /// The own clock minus the cluster's, while this node is quarantined for it.
    pub quarantine_ms: Option<i64>,
}

/// A device's loss or return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceChange {
    /// Which.
    pub device: DeviceIndex,
    /// Its start within this incarnation, from 1: the one that was lost, or the new one.
    pub generation: u32,
    /// Whether it is up.
    pub up: bool,
}

/// What is reported, one after the other.
#[derive(Debug)]
enum Told {
    Released(Vec<Released>),
    Device(DeviceChange),
}

/// What the agent asks of the coordinator.
#[derive(Debug)]
pub enum Request {
    /// These shards are flushed and no longer executed. Repeated until it is heard.
    Released(Vec<Released>),
    /// A device was lost, or is back. Repeated until it is heard, after everything reported before it. What the agent must have done
    /// before it says so stands in `ringfleet_proto::control::node`.
    Device(DeviceChange),
    /// Whose is this session? `Err` says that it is not known or belongs to nobody.
    Session {
        /// The session.
        session: SessionId,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<SessionIdentity, Failure>>,
    },
    /// Leave the cluster for good; answered when the coordinator knows or the deadline has passed.
    Leave {
        /// Told when done.
        answer: oneshot::Sender<()>,
    },
}

/// How a membership ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipEnd {
    /// The coordinator has declared this incarnation lost.
    Fenced,
}

/// What the agent says of itself with every renewal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// The placement index through which everything of this node is in effect.
    pub applied_index: u64,
    /// What it carries.
    pub load: Load,
}

/// The agent's end of a membership.
#[derive(Debug)]
pub struct Membership {
    /// Who the node is.
    pub node: NodeId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// The lease, as renewed.
    pub lease: watch::Receiver<LeaseGrant>,
    /// The youngest view.
    pub view: watch::Receiver<Option<Arc<NodeView>>>,
    /// Where requests go.
    pub requests: mpsc::Sender<Request>,
    /// What renewals say of this node.
    pub report: watch::Sender<Report>,
    /// The end of it.
    pub end: watch::Receiver<Option<MembershipEnd>>,
    /// The own clock, as measured last.
    pub clock: watch::Receiver<ClockState>,
    /// Ends the membership's tasks when the agent drops it.
    _tasks: Vec<ringfleet_env::TaskHandle>,
}

/// The other ends of the channels of [`Membership`].
struct Channels {
    lease: watch::Sender<LeaseGrant>,
    view: watch::Sender<Option<Arc<NodeView>>>,
    report: watch::Receiver<Report>,
    end: watch::Sender<Option<MembershipEnd>>,
    clock: watch::Sender<ClockState>,
}

impl Membership {
    /// Starts renewing, watching and reporting for a member that has joined. Runs on the caller's executor.
    #[must_use]
    pub fn start(env: &Env, coordinators: Coordinators, joined: Joined) -> Self {
        let (lease_tx, lease) = watch::channel(LeaseGrant::default());
        let (view_tx, view) = watch::channel(None);
        let (report, report_rx) = watch::channel(Report::default());
        let (end_tx, end) = watch::channel(None);
        let (clock_tx, clock) = watch::channel(ClockState::default());
        let (requests, requests_rx) = mpsc::channel(REQUESTS_MAX);
        let channels =
            Arc::new(Channels { lease: lease_tx, view: view_tx, report: report_rx, end: end_tx, clock: clock_tx });
        // Look-ups and reports have a connection of their own: a hundred clients at the door do not keep a renewal waiting.
        let apart = coordinators.apart();
        let member = Member { env: env.clone(), coordinators, joined, channels };
        let asking = Member { coordinators: apart, ..member.clone() };
        let (reports, reports_rx) = mpsc::channel(REPORTS_MAX);
        let tasks = vec![
            env.spawn("renew", member.clone().renew()).abort_on_drop(),
            env.spawn("watch-view", member.watch()).abort_on_drop(),
            env.spawn("report-released", asking.clone().report(reports_rx)).abort_on_drop(),
            env.spawn("node-requests", asking.serve(requests_rx, reports)).abort_on_drop(),
        ];
        Self {
            node: NodeId(joined.node),
            incarnation: Incarnation(joined.incarnation),
            lease,
            view,
            requests,
            report,
            end,
            clock,
            _tasks: tasks,
        }
    }
}

#[derive(Clone)]
struct Member {
    env: Env,
    coordinators: Coordinators,
    joined: Joined,
    channels: Arc<Channels>,
}

impl Member {
    async fn renew(self) {
        let lease = Duration::from_millis(u64::from(self.joined.lease_ms));
        let period = lease / RENEWALS_PER_LEASE;
        let (mut measured, mut number) = (None, 0);
        loop {
            let (mut sent, mut sent_wall_ms) = (self.env.now(), 0);
            let make = || {
                sent = self.env.now();
                sent_wall_ms = self.env.wall_ms();
                let incarnation = self.joined.incarnation;
                tracing::trace!(target: "fence", incarnation, sent_ns = sent.as_ns(), "renewed");
                let report = *self.channels.report.borrow();
                NodeRequest::Renew {
                    incarnation: self.joined.incarnation,
                    applied_index: report.applied_index,
                    clock: measured,
                    load: report.load,
                    deadline_ms: millis(lease),
                }
            };
            let outcome = self.coordinators.call_made(make, lease).await;
            let answered = self.env.now();
            let mut measure = |reading: ClockReading, quarantine_ms| {
                number += 1;
                let sample = measure(number, reading, sent_wall_ms, answered.saturating_since(sent));
                measured = Some(sample);
                self.show_clock(sample, quarantine_ms);
            };
            match outcome {
                Ok(NodeAnswer::Granted(granted)) => {
                    let length = Duration::from_millis(u64::from(granted.lease_ms));
                    let end_wall_ms = sent_wall_ms + u64::from(granted.lease_ms);
                    let mut grant = LeaseGrant { end: sent + length, end_wall_ms };
                    if is_on(Mutant::LeaseFromAnswer) {
                        let end_wall_ms = self.env.wall_ms() + u64::from(granted.lease_ms);
                        grant = LeaseGrant { end: self.env.now() + length, end_wall_ms };
                    }
                    measure(granted.clock, None);
                    // An answer to an older renewal never takes back what a younger one gave.
                    self.channels.lease.send_if_modified(|lease| {
                        let later = grant.end > lease.end;
                        if later {
                            *lease = grant;
                        }
                        later
                    });
                    self.env.sleep_until(sent + period).await;
                }
                Ok(NodeAnswer::Quarantined { offset_ms, clock }) => {
                    measure(clock, Some(offset_ms));
                    self.env.sleep_until(sent + period).await;
                }
                Ok(other) => {
                    tracing::warn!(?other, "unexpected answer to a renewal");
                    self.env.sleep(RETRY_AFTER).await;
                }
                Err(failure) => {
                    if self.fenced(&failure) {
                        return;
                    }
                    tracing::debug!(%failure, "lease not renewed");
                    self.env.sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    /// Tells the agent, and the log when it is news.
    fn show_clock(&self, sample: ClockSample, quarantine_ms: Option<i64>) {
        let state = ClockState { offset_ms: sample.offset_ms, error_ms: sample.error_ms, quarantine_ms };
        let before = self.channels.clock.send_replace(state);
        match (before.quarantine_ms, quarantine_ms) {
            (None, Some(offset_ms)) => {
                tracing::error!(
                    offset_ms,
                    "quarantined: this node's clock is off; its lease is not renewed until it is set right"
                );
            }
            (Some(_), None) => tracing::info!("no longer quarantined: this node's clock is right again"),
            _ => {}
        }
    }

    async fn watch(self) {
        loop {
            let have_index = self.channels.view.borrow().as_ref().map_or(0, |view| view.index);
            let asked = self.env.now();
            let request = NodeRequest::WatchView {
                incarnation: self.joined.incarnation,
                have_index,
                wait_ms: millis(WATCH_WAIT),
            };
            match self.coordinators.long_poll(&request, WATCH_WAIT + WATCH_MARGIN).await {
                Ok(NodeAnswer::View(view)) if view.index > have_index => {
                    self.coordinators.learn(&view.coordinators);
                    self.channels.view.send_replace(Some(Arc::new(view)));
                }
                // Usually long past; a coordinator that does not wait is not asked all the time.
                Ok(NodeAnswer::View(_) | NodeAnswer::Unchanged { .. }) => {
                    self.env.sleep_until(asked + RETRY_AFTER).await;
                }
                Ok(other) => {
                    tracing::warn!(?other, "unexpected answer to a watch");
                    self.env.sleep(RETRY_AFTER).await;
                }
                Err(failure) => {
                    if self.fenced(&failure) {
                        return;
                    }
                    tracing::debug!(%failure, "view not fetched");
                    self.env.sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    async fn serve(self, mut requests: mpsc::Receiver<Request>, reports: mpsc::Sender<Told>) {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Released(shards) => {
                    // The reporter ends when this incarnation is fenced.
                    let _ = reports.send(Told::Released(shards)).await;
                }
                Request::Device(change) => {
                    let _ = reports.send(Told::Device(change)).await;
                }
                Request::Session { session, answer } => {
                    let member = self.clone();
                    // Look-ups do not wait for each other: a client at the door must not wait for a report.
                    self.env
                        .spawn("session-look-up", async move {
                            // Nobody waits any more if the link has gone.
                            let _ = answer.send(member.look_up(session).await);
                        })
                        .detach();
                }
                Request::Leave { answer } => {
                    let request = NodeRequest::Leave {
                        incarnation: self.joined.incarnation,
                        deadline_ms: millis(REQUEST_DEADLINE),
                    };
                    if let Err(failure) = self.coordinators.call(&request, REQUEST_DEADLINE).await {
                        tracing::warn!(%failure, "leaving without the coordinator knowing; the lease will end");
                    }
                    let _ = answer.send(());
                }
            }
        }
    }

    /// Reports one thing after the other, beside everything else: nobody waits for a report.
    async fn report(self, mut reports: mpsc::Receiver<Told>) {
        let (incarnation, deadline_ms) = (self.joined.incarnation, millis(REQUEST_DEADLINE));
        while let Some(told) = reports.recv().await {
            let requests: Vec<NodeRequest> = match told {
                Told::Released(shards) => shards
                    .chunks(ringfleet_proto::control::limits::RELEASED_MAX)
                    .map(|chunk| NodeRequest::ReportReleased { incarnation, shards: chunk.to_vec(), deadline_ms })
                    .collect(),
                Told::Device(DeviceChange { device, generation, up }) => {
                    vec![NodeRequest::ReportDevice { incarnation, device: device.0, generation, up, deadline_ms }]
                }
            };
            for request in requests {
                if !self.report_until_heard(&request).await {
                    return;
                }
            }
        }
    }

    /// Repeats it until it is heard; `false` if this incarnation is over.
    async fn report_until_heard(&self, request: &NodeRequest) -> bool {
        while let Err(failure) = self.coordinators.call(request, REQUEST_DEADLINE).await {
            if self.fenced(&failure) {
                return false;
            }
            if let Failure::Refused(refusal) = failure {
                tracing::error!(%refusal, verb = %request.verb(), "a report was refused; not reported again");
                return true;
            }
            tracing::debug!(%failure, verb = %request.verb(), "not reported");
            self.env.sleep(RETRY_AFTER).await;
        }
        true
    }

    async fn look_up(&self, session: SessionId) -> Result<SessionIdentity, Failure> {
        let request = NodeRequest::LookupSession {
            incarnation: self.joined.incarnation,
            session: session.0,
            deadline_ms: millis(REQUEST_DEADLINE),
        };
        match self.coordinators.call(&request, REQUEST_DEADLINE).await? {
            NodeAnswer::Session(identity) => Ok(identity),
            other => Err(Failure::Unknown { message: format!("unexpected answer to a session look-up: {other:?}") }),
        }
    }

    /// Whether `failure` says that this incarnation is over; tells the agent if so.
    fn fenced(&self, failure: &Failure) -> bool {
        let fenced = matches!(failure, Failure::Refused(refusal) if refusal.code == RefusalCode::Fenced);
        if fenced {
            self.channels.end.send_replace(Some(MembershipEnd::Fenced));
        }
        fenced
    }
}

/// The own clock, which showed `sent_wall_ms` when a question left, against the reading that came `round_trip` later.
pub(crate) fn measure(number: u64, reading: ClockReading, sent_wall_ms: u64, round_trip: Duration) -> ClockSample {
    let round_trip_us = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX);
    ClockSample::measure(number, reading, sent_wall_ms, round_trip_us)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
