//! What coordinators answer: one request, one reply (C1, C4, C11).
//!
//! ```text
//!   bytes --> RFR1? only from a coordinator of this group --> Group::handle
//!         --> RFC1: kind, verb --> allowed(role, verb)? --> deadline --> confirm or propose --> answer
//! ```
//! Every request ends by its deadline. Reads are confirmed by a quorum after they came; writes have an outcome in the log.

mod admin;
mod node;

use crate::metrics::Metrics;
use crate::raft::{self, Group, ProposeError, ReadError};
use crate::steward::Leases;
use ringfleet_coordinator_core::{Command, Outcome};
use ringfleet_env::{Env, Instant};
use ringfleet_proto::control::limits::{DEADLINE_MS_MAX, WATCH_WAIT_MS_MAX};
use ringfleet_proto::control::{
    AdminReply, AdminRequest, ControlMessage, Failure, MessageKind, NodeReply, NodeRequest, NodeView, RefusalCode,
    Role, Verb, allowed, decode, encode, peek_kind,
};
use std::sync::Arc;
use std::time::Duration;

/// The deadline of a request that names none.
const DEADLINE_MS_DEFAULT: u32 = 5_000;

/// Who asks, as the certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The role.
    pub role: Role,
    /// The name.
    pub name: String,
}

/// Everything that answers requests.
#[derive(Debug)]
pub struct Service {
    /// Clock and timers.
    pub env: Env,
    /// The cluster's name.
    pub cluster: String,
    /// The group.
    pub group: Arc<Group>,
    /// The leader's leases.
    pub leases: Arc<Leases>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Service {
    /// The reply to a request of `caller`. Never panics, whatever the bytes are.
    pub async fn handle(&self, caller: &Caller, request: &[u8]) -> Vec<u8> {
        if raft::is_raft(request) {
            if !allowed(caller.role, Verb::Raft) {
                tracing::warn!(role = %caller.role, name = caller.name, "a raft message from who is no coordinator here");
                self.metrics.raft_denied.inc();
                return Vec::new();
            }
            let reply = self.group.handle(&caller.name, request).await;
            if reply.is_empty() {
                self.metrics.raft_denied.inc();
            }
            return reply;
        }
        match peek_kind(request) {
            Ok(MessageKind::NodeRequest) => {
                let result = match decode::<NodeRequest>(request) {
                    Ok(request) => match self.admit(caller, request.verb()) {
                        Ok(()) => self.node(caller, request).await,
                        Err(failure) => Err(failure),
                    },
                    Err(e) => Err(Failure::refused(RefusalCode::BadRequest, e.to_string())),
                };
                self.reply(NodeReply::from(result), NodeReply::Failed)
            }
            Ok(MessageKind::AdminRequest) => {
                let result = match decode::<AdminRequest>(request) {
                    Ok(request) => match self.admit(caller, request.verb.verb()) {
                        Ok(()) => self.admin(caller, request).await,
                        Err(failure) => Err(failure),
                    },
                    Err(e) => Err(Failure::refused(RefusalCode::BadRequest, e.to_string())),
                };
                self.reply(AdminReply::from(result), AdminReply::Failed)
            }
            Ok(other) => {
                let failure = Failure::refused(RefusalCode::BadRequest, format!("{other:?} is not a request"));
                self.reply(AdminReply::Failed(failure), AdminReply::Failed)
            }
            Err(e) => {
                let failure = Failure::refused(RefusalCode::BadRequest, e.to_string());
                self.reply(AdminReply::Failed(failure), AdminReply::Failed)
            }
        }
    }

    fn admit(&self, caller: &Caller, verb: Verb) -> Result<(), Failure> {
        self.metrics.requests.with_label_values(&[verb.name()]).inc();
        if allowed(caller.role, verb) {
            return Ok(());
        }
        self.metrics.denied.inc();
        let message = format!("{} `{}` may not {verb}", caller.role, caller.name);
        Err(Failure::refused(RefusalCode::NotAllowed, message))
    }

    fn reply<M: ControlMessage>(&self, reply: M, failed: impl Fn(Failure) -> M) -> Vec<u8> {
        encode(&reply).unwrap_or_else(|e| {
            let failure = Failure::refused(RefusalCode::LimitExceeded, format!("the answer cannot be sent: {e}"));
            encode(&failed(failure)).unwrap_or_default()
        })
    }

    fn deadline(&self, deadline_ms: u32) -> Instant {
        let ms = if deadline_ms == 0 { DEADLINE_MS_DEFAULT } else { deadline_ms.min(DEADLINE_MS_MAX) };
        self.env.now() + Duration::from_millis(u64::from(ms))
    }

    fn not_leader(&self) -> Failure {
        Failure::NotLeader { leader: self.group.hint() }
    }

    /// Makes the state current, or says why that is not possible.
    async fn confirm(&self, deadline: Instant, what: &str) -> Result<(), Failure> {
        self.group.confirm(deadline).await.map_err(|e| match e {
            ReadError::NotLeader => self.not_leader(),
            ReadError::Unavailable => no_quorum(what),
        })
    }

    /// The outcome of a command. A refusal of the state is a failure of the request.
    async fn propose(&self, command: Command, deadline: Instant) -> Result<Outcome, Failure> {
        let what = command.to_string();
        match self.group.propose(command, deadline).await {
            Ok(Outcome::Refused(refusal)) => Err(refusal.into()),
            Ok(outcome) => Ok(outcome),
            Err(ProposeError::NotLeader) => Err(self.not_leader()),
            Err(ProposeError::Unavailable) => Err(no_quorum(&what)),
            Err(ProposeError::Unknown) => {
                let message = format!("{what}: no outcome by the deadline; ask again with the same operation id");
                Err(Failure::Unknown { message })
            }
            Err(ProposeError::TooLarge { bytes }) => {
                Err(Failure::refused(RefusalCode::LimitExceeded, format!("{what}: {bytes} bytes are too large")))
            }
        }
    }

    /// A view younger than `have`, waited for at most `wait_ms`; `None` when there is none. The caller has confirmed.
    async fn younger_view(&self, have: u64, wait_ms: u32) -> Result<Option<NodeView>, Failure> {
        let deadline = self.env.now() + Duration::from_millis(u64::from(wait_ms.min(WATCH_WAIT_MS_MAX)));
        let mut progress = self.group.published().watch();
        let mut leadership = self.group.watch_leadership();
        loop {
            if progress.borrow_and_update().view_index > have {
                return Ok(Some(self.group.published().state().node_view()));
            }
            // A coordinator that no longer leads may wait for ever for what others decide.
            if !leadership.borrow_and_update().leads {
                return Err(self.not_leader());
            }
            let change = async {
                tokio::select! {
                    biased;
                    changed = progress.changed() => changed,
                    changed = leadership.changed() => changed,
                }
            };
            match self.env.timeout_at(deadline, change).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.not_leader()),
                Err(_) => return Ok(None),
            }
        }
    }
}

fn no_quorum(what: &str) -> Failure {
    Failure::Unavailable { message: format!("{what}: no quorum of coordinators answered by the deadline") }
}
