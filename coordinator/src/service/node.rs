//! Requests of nodes.

use super::{Caller, Service};
use crate::steward::Grant;
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{Incarnation, SessionId};
use ringfleet_coordinator_core::leases::Renewal;
use ringfleet_coordinator_core::{Command, CommandBody, Outcome};
use ringfleet_env::Instant;
use ringfleet_proto::control::limits::CLOCK_OFFSET_MS_MAX;
use ringfleet_proto::control::{
    ClockReading, ClockSample, Failure, Joined, NodeAnswer, NodeRequest, RefusalCode, RenewGranted, SessionIdentity,
};

/// How long a watch may take to confirm that it may be answered, besides its wait.
const WATCH_CONFIRM_MS: u32 = 2_000;

type Answer = Result<NodeAnswer, Failure>;

/// This coordinator's wall clock, and when it was read on the monotonic one.
#[derive(Clone, Copy)]
struct ClockHere {
    wall_ms: u64,
    read_ns: u64,
}

impl Service {
    pub(super) async fn node(&self, caller: &Caller, request: NodeRequest) -> Answer {
        // Before anything else: the lease counts from here.
        let received_ns = self.env.monotonic_ns();
        let clock_here = ClockHere { wall_ms: self.env.wall_ms(), read_ns: self.env.monotonic_ns() };
        match request {
            NodeRequest::Join { cluster, name, boot, data_addr, http_addr, devices, types, clock, deadline_ms } => {
                if name != caller.name {
                    let message = format!("the certificate is of node `{}`, not of `{name}`", caller.name);
                    return Err(Failure::refused(RefusalCode::BadName, message));
                }
                if cluster != self.cluster {
                    let message = format!("this is cluster `{}`, not `{cluster}`", self.cluster);
                    return Err(Failure::refused(RefusalCode::WrongCluster, message));
                }
                let deadline = self.deadline(deadline_ms);
                // Who does not lead knows nothing of clocks.
                self.confirm(deadline, "join").await?;
                let Some(sample) = clock.filter(|sample| sample.coordinator == self.group.id()) else {
                    return Ok(NodeAnswer::Clock(self.reading(clock_here)));
                };
                self.leases.look_at_own_clock(&self.env);
                let Some(admitted) = self.leases.admit(sample, self.env.monotonic_ns()) else {
                    return Err(taking_over("join"));
                };
                if let Err(offset) = admitted {
                    let message = format!(
                        "the clock of node `{name}` is {offset}, at most {CLOCK_OFFSET_MS_MAX} ms are tolerated; set it right (does it follow a time server?)"
                    );
                    return Err(Failure::refused(RefusalCode::ClockOff, message));
                }
                let body = CommandBody::Join { name, boot, data_addr, http_addr, devices, types };
                self.join(body, deadline).await
            }
            NodeRequest::ReadClock => {
                if self.group.leadership().leads {
                    Ok(NodeAnswer::Clock(self.reading(clock_here)))
                } else {
                    Err(self.not_leader())
                }
            }
            NodeRequest::Renew { incarnation, applied_index, clock, load, deadline_ms } => {
                if !is_on(Mutant::RenewUnconfirmed) {
                    self.confirm(self.deadline(deadline_ms), "renew").await?;
                }
                self.own(caller, incarnation)?;
                let clock = clock.filter(|sample| sample.coordinator == self.group.id());
                self.renew(caller, incarnation, received_ns, Renewal { applied_index, load }, clock, clock_here)
            }
            NodeRequest::WatchView { incarnation, have_index, wait_ms } => {
                self.confirm(self.deadline(WATCH_CONFIRM_MS), "watch_view").await?;
                self.own(caller, incarnation)?;
                match self.younger_view(have_index, wait_ms).await? {
                    Some(view) => Ok(NodeAnswer::View(view)),
                    None => {
                        // Nothing came: make sure that nothing could have come.
                        self.confirm(self.deadline(WATCH_CONFIRM_MS), "watch_view").await?;
                        self.own(caller, incarnation)?;
                        let state = self.group.published().state();
                        Ok(if state.view_index() > have_index {
                            NodeAnswer::View(state.node_view())
                        } else {
                            NodeAnswer::Unchanged { index: state.view_index() }
                        })
                    }
                }
            }
            NodeRequest::ReportReleased { incarnation, shards, deadline_ms } => {
                let body = CommandBody::ShardsReleased { incarnation, shards };
                self.act(caller, incarnation, body, self.deadline(deadline_ms)).await
            }
            NodeRequest::ReportDevice { incarnation, device, generation, up, deadline_ms } => {
                let body = CommandBody::DeviceChanged { incarnation, device, generation, up };
                let answer = self.act(caller, incarnation, body, self.deadline(deadline_ms)).await?;
                tracing::warn!(node = caller.name, device, generation, up, "a device was lost or is back");
                Ok(answer)
            }
            NodeRequest::Leave { incarnation, deadline_ms } => {
                let body = CommandBody::Leave { incarnation };
                self.act(caller, incarnation, body, self.deadline(deadline_ms)).await
            }
            NodeRequest::LookupSession { incarnation, session, deadline_ms } => {
                self.confirm(self.deadline(deadline_ms), "lookup_session").await?;
                self.own(caller, incarnation)?;
                let state = self.group.published().state();
                match state.session(SessionId(session)) {
                    Some(found) => {
                        let (role, name) = (found.role, found.name.clone());
                        Ok(NodeAnswer::Session(SessionIdentity { session, role, name }))
                    }
                    None => {
                        Err(Failure::refused(RefusalCode::UnknownSession, format!("session {session} is not known")))
                    }
                }
            }
        }
    }

    /// The incarnation is alive and is the caller's own (C11).
    fn own(&self, caller: &Caller, incarnation: u64) -> Result<(), Failure> {
        let state = self.group.published().state();
        match state.live(Incarnation(incarnation)) {
            Some(member) if member.name == caller.name => Ok(()),
            _ => Err(fenced(caller, incarnation)),
        }
    }

    async fn join(&self, body: CommandBody, deadline: Instant) -> Answer {
        match self.propose(Command::plain(body), deadline).await? {
            Outcome::Joined { node, incarnation } => {
                let state = self.group.published().state();
                let (lease_ms, index) = (state.lease_ms(), state.view_index());
                Ok(NodeAnswer::Joined(Joined { node, incarnation, lease_ms, index }))
            }
            other => Err(odd(&other)),
        }
    }

    /// What this coordinator's clock showed when the request came.
    fn reading(&self, here: ClockHere) -> ClockReading {
        let held_us = (self.env.monotonic_ns() - here.read_ns) / 1000;
        ClockReading { coordinator: self.group.id(), wall_ms: here.wall_ms, held_us }
    }

    /// Leadership has been confirmed since the receipt.
    fn renew(
        &self,
        caller: &Caller,
        incarnation: u64,
        received_ns: u64,
        renewal: Renewal,
        clock: Option<ClockSample>,
        here: ClockHere,
    ) -> Answer {
        let now_ns = self.env.monotonic_ns();
        self.leases.look_at_own_clock(&self.env);
        match self.leases.grant(&self.group, incarnation, received_ns, now_ns, renewal, clock) {
            Grant::Granted => {
                self.metrics.renewals.inc();
                let state = self.group.published().state();
                Ok(NodeAnswer::Granted(RenewGranted {
                    lease_ms: state.lease_ms(),
                    index: state.view_index(),
                    clock: self.reading(here),
                }))
            }
            Grant::Quarantined { offset_ms } => {
                self.metrics.quarantined_renewals.inc();
                Ok(NodeAnswer::Quarantined { offset_ms, clock: self.reading(here) })
            }
            Grant::Fenced => Err(fenced(caller, incarnation)),
            Grant::NotInCharge => Err(taking_over("renew")),
        }
    }

    async fn act(&self, caller: &Caller, incarnation: u64, body: CommandBody, deadline: Instant) -> Answer {
        self.confirm(deadline, "report").await?;
        self.own(caller, incarnation)?;
        self.propose(Command::plain(body), deadline).await?;
        Ok(NodeAnswer::Done { index: self.group.published().state().view_index() })
    }
}

fn taking_over(what: &str) -> Failure {
    Failure::Unavailable { message: format!("{what}: a new leader is taking over") }
}

fn fenced(caller: &Caller, incarnation: u64) -> Failure {
    let message = format!("incarnation {incarnation} of node `{}` is not alive; join again", caller.name);
    Failure::refused(RefusalCode::Fenced, message)
}

pub(super) fn odd(outcome: &Outcome) -> Failure {
    Failure::Unknown { message: format!("the log answered another request: {outcome}") }
}
