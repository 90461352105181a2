//! Requests of operators, viewers and clients.

use super::node::odd;
use super::{Caller, Service};
use crate::config::Peer;
use crate::raft::ChangeError;
use ringfleet_coordinator_core::query::Liveness;
use ringfleet_coordinator_core::validate;
use ringfleet_coordinator_core::{ClusterState, Command, CommandBody, LeaseTable, Outcome};
use ringfleet_env::Instant;
use ringfleet_proto::control::{AdminAnswer, AdminRequest, AdminVerb, Failure, RefusalCode};

type Answer = Result<AdminAnswer, Failure>;

impl Service {
    pub(super) async fn admin(&self, caller: &Caller, request: AdminRequest) -> Answer {
        let deadline = self.deadline(request.deadline_ms);
        let operation = request.operation;
        match request.verb {
            AdminVerb::Apply { document } => self.write(operation, CommandBody::ApplySet { document }, deadline).await,
            AdminVerb::Scale { set, workers, discard_state } => {
                self.write(operation, CommandBody::ScaleSet { set, workers, discard_state }, deadline).await
            }
            AdminVerb::Delete { set } => self.write(operation, CommandBody::DeleteSet { set }, deadline).await,
            AdminVerb::OpenSession => {
                let body = CommandBody::OpenSession { role: caller.role, name: caller.name.clone() };
                self.write(operation, body, deadline).await
            }
            AdminVerb::AddCoordinator { name, addr } => {
                validate::name("coordinator name", &name)?;
                validate::address("coordinator address", &addr)?;
                let changed = self.group.add_coordinator(Peer { name, addr }, deadline).await;
                self.changed(changed)
            }
            AdminVerb::RemoveCoordinator { name } => {
                let changed = self.group.remove_coordinator(&name, deadline).await;
                self.changed(changed)
            }
            AdminVerb::Directory { have_index, wait_ms } => self.directory(have_index, wait_ms, deadline).await,
            verb => {
                self.confirm(deadline, verb.verb().name()).await?;
                self.read(verb)
            }
        }
    }

    async fn write(&self, operation: u128, body: CommandBody, deadline: Instant) -> Answer {
        match self.propose(Command::operation(operation, body), deadline).await? {
            Outcome::Set { set, change, index } => Ok(AdminAnswer::Set { set, change, index }),
            Outcome::Session { session } => Ok(AdminAnswer::Session { session }),
            other => Err(odd(&other)),
        }
    }

    fn changed(&self, changed: Result<bool, ChangeError>) -> Answer {
        match changed {
            Ok(changed) => Ok(AdminAnswer::CoordinatorsChanged { changed, coordinators: self.group.coordinators() }),
            Err(ChangeError::NotLeader) => Err(self.not_leader()),
            Err(ChangeError::Unavailable(message)) => Err(Failure::Unavailable { message }),
            Err(ChangeError::Unknown) => {
                let message = "the change of coordinators is under way; ask again".to_owned();
                Err(Failure::Unknown { message })
            }
            Err(ChangeError::Refused(message)) => Err(Failure::refused(RefusalCode::BadMembership, message)),
        }
    }

    async fn directory(&self, have_index: u64, wait_ms: u32, deadline: Instant) -> Answer {
        self.confirm(deadline, "directory").await?;
        if have_index == 0 {
            return Ok(AdminAnswer::Directory(self.group.published().state().node_view()));
        }
        if let Some(view) = self.younger_view(have_index, wait_ms).await? {
            return Ok(AdminAnswer::Directory(view));
        }
        let after_wait = deadline.max(self.deadline(0));
        self.confirm(after_wait, "directory").await?;
        let state = self.group.published().state();
        Ok(if state.view_index() > have_index {
            AdminAnswer::Directory(state.node_view())
        } else {
            AdminAnswer::Unchanged { index: state.view_index() }
        })
    }

    /// Answers from the state, which has just been confirmed to be current.
    fn read(&self, verb: AdminVerb) -> Answer {
        let now_ns = self.env.monotonic_ns();
        let leases = self.leases.snapshot();
        let state = self.group.published().state();
        // A leader that is taking over knows nothing of leases yet.
        let leases = leases.unwrap_or_else(|| {
            LeaseTable::elected(state.lease_ms(), now_ns, state.alive().map(|member| member.incarnation))
        });
        let live = Liveness { leases: &leases, now_ns };
        match verb {
            AdminVerb::Nodes => Ok(AdminAnswer::Nodes(state.node_infos(&live))),
            AdminVerb::Sets => Ok(AdminAnswer::Sets(state.set_infos(&live))),
            AdminVerb::Types => Ok(AdminAnswer::Types(state.type_infos())),
            AdminVerb::Shards { set } => Ok(AdminAnswer::Shards(state.shard_views(set.as_deref())?)),
            AdminVerb::DescribeSet { name } => Ok(AdminAnswer::SetDetail(Box::new(state.set_detail(&name, &live)?))),
            AdminVerb::DescribeNode { name } => Ok(state.node_detail(&name, &live)?),
            AdminVerb::Coordinators => Ok(AdminAnswer::Coordinators(self.group.coordinators())),
            AdminVerb::Status => Ok(self.status(&state, &live)),
            other => Err(Failure::Unknown { message: format!("{} is not a read", other.verb()) }),
        }
    }

    fn status(&self, state: &ClusterState, live: &Liveness<'_>) -> AdminAnswer {
        let mut status = state.status(live);
        let group = self.group.status();
        status.term = group.term;
        status.last_index = group.last_index;
        status.coordinators = group.voters;
        status.leader = self.group.leadership().leader.map(|leader| leader.name).unwrap_or_default();
        AdminAnswer::Status(status)
    }
}
