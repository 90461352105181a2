//! Who belongs to the group, and changing that (C1).
//!
//! ```text
//!   add:     it answers, with an empty folder --> learner --caught up--> joint consensus --> voter
//!   remove:  joint consensus --> gone; a leader that is to go hands over first, and its heir does it
//! ```
//! A change is refused when the coordinators that answer now would be no quorum afterwards. A change that was interrupted half-way is
//! taken up by asking for it again; a joint configuration is left by whoever leads ([`Group::tend_members`]).
//!
//! The members stand in the log with their addresses, and in every view, so that nodes and clients follow. A coordinator's address is
//! what it says of itself: the leader writes it anew when it has changed.

use super::group::{Group, GroupError};
use super::rpc::{Introduction, Letter, RaftReply, RaftRequest, decode, encode};
use super::types::Types;
use crate::config::{PEERS_MAX, Peer};
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, InitializeError, RaftError};
use openraft::raft::ClientWriteResponse;
use ringfleet_env::Instant;
use ringfleet_proto::control::{ClockReading, ClockSample};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a coordinator may take to say who it is, when members change.
const ANSWER_LIMIT: Duration = Duration::from_millis(600);

/// Why members have not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// Another coordinator leads, or will in a moment. Not changed.
    NotLeader,
    /// Not now: no quorum, or another change is under way.
    Unavailable(String),
    /// The change is under way; ask again.
    Unknown,
    /// It must not be.
    Refused(String),
}

/// A member of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its number.
    pub id: u64,
    /// Its name and address.
    pub peer: Peer,
    /// Whether it votes, or is about to.
    pub voter: bool,
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

impl Group {
    /// The members, as this coordinator knows them, by number.
    #[must_use]
    pub fn members(&self) -> Vec<GroupMember> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters = membership.get_joint_config().last().cloned().unwrap_or_default();
        let member =
            |(id, peer): (&u64, &Peer)| GroupMember { id: *id, peer: peer.clone(), voter: voters.contains(id) };
        membership.nodes().map(member).collect()
    }

    /// Whether a coordinator of this name may send messages of the group.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.started_with.iter().any(|peer| peer.name == name)
            || self.members().iter().any(|member| member.peer.name == name)
    }

    /// What this coordinator says of itself.
    #[must_use]
    pub fn introduction(&self) -> Introduction {
        let (initialized, members_index) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let decided = metrics.membership_config.log_id().as_ref().map(|id| id.index);
            (decided.is_some() || metrics.last_log_index.is_some(), decided.unwrap_or(0))
        };
        let mut started_with: Vec<String> = self.started_with.iter().map(|peer| peer.name.clone()).collect();
        started_with.sort();
        Introduction {
            id: self.id(),
            name: self.own.name.clone(),
            addr: self.own.addr.clone(),
            wall_ms: self.env.wall_ms(),
            initialized,
            leads: self.leadership().leads,
            members_index,
            members: self.members().into_iter().map(|member| (member.id, member.peer.name)).collect(),
            started_with,
        }
    }

    /// Whether neither a leader was heard for so long nor this coordinator leads.
    #[must_use]
    pub fn is_unheard(&self, limit: Duration) -> bool {
        let heard = Instant::from_ns(self.heard_ns.load(Ordering::Relaxed));
        !self.leadership().leads && (heard == Instant::ZERO || self.env.now().saturating_since(heard) > limit)
    }

    /// Shows why this coordinator is not in the group yet; empty: it is.
    pub fn set_waiting(&self, why: String) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why this coordinator is not in the group yet, if it is not.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        let why = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (!why.is_empty()).then_some(why)
    }

    /// Everybody in the list that this coordinator was started with, and every member, by name, without itself.
    fn others(&self) -> Vec<Peer> {
        let logged = self.members().into_iter().map(|member| member.peer);
        let by_name = self.started_with.iter().cloned().chain(logged).map(|peer| (peer.name.clone(), peer));
        let mut others: BTreeMap<String, Peer> = by_name.collect();
        others.remove(&self.own.name);
        others.into_values().collect()
    }

    /// Asks all others who they are, at once.
    pub async fn ask_around(&self, limit: Duration) -> Vec<(Peer, Option<Introduction>)> {
        let asked = self.others().into_iter().map(|peer| async move {
            let answer = self.ask_who(&peer, limit).await.map(|(who, _)| who);
            (peer, answer)
        });
        futures_util::future::join_all(asked).await
    }

    /// Who answers there, and its clock minus this one's.
    async fn ask_who(&self, peer: &Peer, limit: Duration) -> Option<(Introduction, ClockSample)> {
        let letter = encode(&Letter { to: 0, request: RaftRequest::Ping }).ok()?;
        let (sent_ns, sent_wall_ms) = (self.env.monotonic_ns(), self.env.wall_ms());
        let reply = self.env.timeout(limit, self.transport.call(peer, letter, limit)).await.ok()?.ok()?;
        let round_trip_us = (self.env.monotonic_ns() - sent_ns) / 1000;
        let Ok(RaftReply::Pong(who)) = decode(&reply) else { return None };
        if who.name != peer.name {
            return None;
        }
        let reading = ClockReading { coordinator: who.id, wall_ms: who.wall_ms, held_us: 0 };
        let own = ClockSample::measure(0, reading, sent_wall_ms, round_trip_us);
        // Measured the other way round: the other's clock minus this one.
        let clock = ClockSample { offset_ms: -own.offset_ms, ..own };
        Some((who, clock))
    }

    /// Asks the other members who they are; who does not answer within `limit` is left out.
    pub(super) async fn ask_members(&self, limit: Duration) -> Vec<(Introduction, ClockSample)> {
        let others = self.members().into_iter().filter(|member| member.id != self.id());
        let asked = others.map(|member| async move {
            self.ask_who(&member.peer, limit).await.filter(|(who, _)| who.id == member.id)
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Gives a group that is started for the first time its members. Done before: nothing.
    ///
    /// # Errors
    /// [`GroupError::Start`].
    pub async fn found(&self, members: BTreeMap<u64, Peer>) -> Result<(), GroupError> {
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(e) => Err(GroupError::Start(e.to_string())),
        }
    }

    /// The other members' clocks against this one's (C6).
    pub async fn measure_clocks(&self, limit: Duration) -> Vec<(u64, ClockSample)> {
        self.ask_members(limit).await.into_iter().map(|(who, clock)| (who.id, clock)).collect()
    }

    /// What a leader does from time to time: measures the other coordinators' clocks (C6), writes addresses that have changed, leaves a
    /// joint configuration that another leader began.
    pub async fn tend_members(&self, limit: Duration) -> Vec<(u64, ClockSample)> {
        let answers = self.ask_members(limit).await;
        if self.leadership().leads {
            self.tend_log(&answers).await;
        }
        answers.into_iter().map(|(who, clock)| (who.id, clock)).collect()
    }

    async fn tend_log(&self, answers: &[(Introduction, ClockSample)]) {
        let (is_joint, voters, settled) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let config = metrics.membership_config.membership().get_joint_config();
            let settled = metrics.membership_config == metrics.committed_membership_config;
            (config.len() > 1, config.last().cloned().unwrap_or_default(), settled)
        };
        if !settled {
            return;
        }
        let own = (self.id(), self.own.addr.as_str());
        let said: BTreeMap<u64, &str> =
            answers.iter().map(|(who, _)| (who.id, who.addr.as_str())).chain([own]).collect();
        let moved: BTreeMap<u64, Peer> = self
            .members()
            .into_iter()
            .filter_map(|member| {
                let addr = said.get(&member.id).filter(|addr| **addr != member.peer.addr && !addr.is_empty())?;
                Some((member.id, Peer { addr: (*addr).to_owned(), ..member.peer }))
            })
            .collect();
        let change = if is_joint {
            ChangeMembers::ReplaceAllVoters(voters)
        } else if !moved.is_empty() {
            ChangeMembers::SetNodes(moved)
        } else {
            return;
        };
        let deadline = self.env.now() + Duration::from_secs(1);
        if let Err(error) = self.change(change, deadline).await {
            tracing::debug!(?error, "members not tended; tried again");
        }
    }

    async fn change(&self, change: ChangeMembers<u64, Peer>, deadline: Instant) -> Result<(), ChangeError> {
        let changed = self.env.timeout_at(deadline, self.raft.change_membership(change, false)).await;
        changed.map_err(|_| ChangeError::Unknown)?.map(drop).map_err(changing)
    }

    /// Confirms leadership, and says who of the voters answers now, this coordinator included.
    async fn prepare_change(&self, deadline: Instant) -> Result<BTreeSet<u64>, ChangeError> {
        self.confirm(deadline).await.map_err(|e| match e {
            super::ReadError::NotLeader => ChangeError::NotLeader,
            super::ReadError::Unavailable => ChangeError::Unavailable("no quorum of coordinators".to_owned()),
        })?;
        let answers = self.ask_members(ANSWER_LIMIT).await;
        Ok(answers.into_iter().map(|(who, _)| who.id).chain([self.id()]).collect())
    }

    /// Makes a coordinator that runs with an empty folder a voter. False: it is one already.
    ///
    /// # Errors
    /// [`ChangeError`], by the deadline.
    pub async fn add_coordinator(&self, peer: Peer, deadline: Instant) -> Result<bool, ChangeError> {
        let live = self.prepare_change(deadline).await?;
        let members = self.members();
        let (name, addr) = (peer.name.clone(), peer.addr.clone());
        if name == self.own.name {
            // It leads, so it is a member; nobody calls himself.
            if addr == self.own.addr {
                return Ok(false);
            }
            return Err(ChangeError::Refused(format!(
                "coordinator `{name}` leads the cluster at {}; where it is reached is what its own --peers says",
                self.own.addr
            )));
        }
        let Some((who, _)) = self.ask_anew(&peer).await else {
            return Err(ChangeError::Refused(format!(
                "coordinator `{name}` does not answer at {addr}; start it there first, with an empty data folder and itself among its --peers"
            )));
        };
        let known = members.iter().find(|member| member.peer.name == name);
        match known {
            Some(member) if member.id != who.id => {
                return Err(ChangeError::Refused(format!(
                    "coordinator `{name}` is a member with other data (number {:x}, the one at {addr} has {:x}); remove it first: `ringfleet coordinators remove {name}`",
                    member.id, who.id
                )));
            }
            Some(member) if member.voter && member.peer.addr == addr => return Ok(false),
            Some(_) => {}
            None if who.initialized => {
                return Err(ChangeError::Refused(format!(
                    "the data folder of coordinator `{name}` at {addr} has been used; start it with an empty one"
                )));
            }
            None => {}
        }
        let voters: BTreeSet<u64> = members.iter().filter(|member| member.voter).map(|member| member.id).collect();
        if !voters.contains(&who.id) {
            let after = voters.len() + 1;
            if after > PEERS_MAX {
                return Err(ChangeError::Refused(format!("the cluster has its {PEERS_MAX} coordinators")));
            }
            let answering = voters.intersection(&live).count() + 1;
            self.check_quorum(&format!("adding `{name}`"), answering, after)?;
        }
        if known.is_none() {
            let added = self.env.timeout_at(deadline, self.raft.add_learner(who.id, peer.clone(), true)).await;
            let _: ClientWriteResponse<Types> = added.map_err(|_| ChangeError::Unknown)?.map_err(changing)?;
            tracing::info!(name, addr, id = who.id, "a coordinator has caught up as a learner");
        } else if known.is_some_and(|member| member.peer.addr != addr) {
            self.change(ChangeMembers::SetNodes(BTreeMap::from([(who.id, peer)])), deadline).await?;
        }
        if !voters.contains(&who.id) {
            self.change(ChangeMembers::AddVoterIds(BTreeSet::from([who.id])), deadline).await?;
            tracing::info!(name, addr, id = who.id, "a coordinator votes from now on");
        }
        Ok(true)
    }

    /// The first call to somebody new finds no connection, and makes one.
    async fn ask_anew(&self, peer: &Peer) -> Option<(Introduction, ClockSample)> {
        let give_up = self.env.now() + 2 * ANSWER_LIMIT;
        loop {
            if let Some(answer) = self.ask_who(peer, ANSWER_LIMIT).await {
                return Some(answer);
            }
            if self.env.now() >= give_up {
                return None;
            }
            self.env.sleep(Duration::from_millis(50)).await;
        }
    }

    fn check_quorum(&self, what: &str, answering: usize, after: usize) -> Result<(), ChangeError> {
        if answering >= quorum(after) {
            return Ok(());
        }
        Err(ChangeError::Refused(format!(
            "{what} would leave {after} coordinators of which {answering} answer, and {} are needed; start the others first",
            quorum(after)
        )))
    }

    /// Takes a coordinator out of the group. False: there is none of that name.
    ///
    /// # Errors
    /// [`ChangeError`], by the deadline.
    pub async fn remove_coordinator(&self, name: &str, deadline: Instant) -> Result<bool, ChangeError> {
        let live = self.prepare_change(deadline).await?;
        let members = self.members();
        let Some(member) = members.iter().find(|member| member.peer.name == name) else { return Ok(false) };
        let after: BTreeSet<u64> =
            members.iter().filter(|other| other.voter && other.id != member.id).map(|other| other.id).collect();
        if after.is_empty() {
            return Err(ChangeError::Refused(format!("`{name}` is the last coordinator")));
        }
        self.check_quorum(&format!("removing `{name}`"), after.intersection(&live).count(), after.len())?;
        if member.id == self.id() {
            self.hand_over().await;
            return Err(ChangeError::NotLeader);
        }
        let ids = BTreeSet::from([member.id]);
        let change = if member.voter { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) };
        self.change(change, deadline).await?;
        tracing::info!(name, id = member.id, "a coordinator is no longer a member");
        Ok(true)
    }
}

fn changing(error: RaftError<Types, ClientWriteError<Types>>) -> ChangeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => ChangeError::NotLeader,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
            ChangeError::Unavailable("another change of coordinators is under way".to_owned())
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(e)) => ChangeError::Refused(e.to_string()),
        // Discarded by a new leader, or the group stopped: it may still come into effect.
        _ => ChangeError::Unknown,
    }
}
