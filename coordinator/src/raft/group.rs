//! The group as the rest of the coordinator sees it.

use super::gate::{Gate, Round};
use super::log::{BATCH_BYTES_MAX, LogStore};
use super::machine::{Machine, Published};
use super::network::Networks;
use super::rpc::{Letter, RaftReply, RaftRequest, SnapshotPiece, decode, encode};
use super::types::{LogId, Record, Snapshot, Types, Vote};
use crate::config::{Peer, Timing};
use crate::store::{Loaded, Store, Writer};
use crate::transport::Transport;
use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use ringfleet_coordinator_core::{Command, Outcome};
use ringfleet_env::{Env, Instant, TaskHandle};
use ringfleet_proto::control::{CoordinatorInfo, LeaderHint};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Bytes of one command in the log, so that it travels in one frame. A larger one is refused.
pub const COMMAND_BYTES_MAX: usize = 768 << 10;
/// Bytes of a snapshot. A larger one is not taken.
const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
/// Of the records between two snapshots this part is kept behind one, for followers that are a little late.
const LOG_KEPT_PART: u64 = 4;
/// Between two tries to confirm leadership without a quorum.
const RETRY: Duration = Duration::from_millis(50);

/// How long a stopping leader waits for the others to say that they are there.
const HEIR_ANSWER_LIMIT: Duration = Duration::from_millis(200);
/// How long a stopping leader waits for its heir.
const HAND_OVER_LIMIT: Duration = Duration::from_millis(500);

const _: () = assert!(BATCH_BYTES_MAX < COMMAND_BYTES_MAX);

/// Why the group cannot start.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The data cannot be used.
    #[error("{0}")]
    Data(String),
    /// openraft refused to start.
    #[error("starting the raft group: {0}")]
    Start(String),
}

/// Who leads, as far as this coordinator knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term.
    pub term: u64,
    /// Whether this coordinator leads.
    pub leads: bool,
    /// Who leads.
    pub leader: Option<Peer>,
    /// Why the group has stopped; `None` while it runs.
    pub failure: Option<String>,
}

/// Why a command has no outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// Another coordinator leads. Not executed.
    NotLeader,
    /// No quorum in time. Not executed.
    Unavailable,
    /// It may have been executed, now or later.
    Unknown,
    /// Larger than [`COMMAND_BYTES_MAX`]. Not executed.
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// Why a read cannot be linearizable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Another coordinator leads.
    NotLeader,
    /// No quorum in time.
    Unavailable,
}

/// Figures for metrics and status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The term.
    pub term: u64,
    /// Whether this coordinator leads.
    pub leads: bool,
    /// The last record of its log.
    pub last_index: u64,
    /// The last record applied.
    pub applied_index: u64,
    /// The last record covered by a snapshot.
    pub snapshot_index: u64,
    /// The last record purged.
    pub purged_index: u64,
    /// Coordinators that vote.
    pub voters: u32,
}

/// What is received of a snapshot: whose it is, and the bytes so far.
type Incoming = Option<((Vote, Option<LogId>, u64), Vec<u8>)>;

/// One coordinator's part of the group.
pub struct Group {
    pub(super) env: Env,
    pub(super) raft: Raft<Types, Machine>,
    published: Arc<Published>,
    gate: Arc<Gate>,
    pub(super) transport: Arc<dyn Transport>,
    /// This coordinator.
    pub(super) own: Peer,
    /// The coordinators that it was started with, itself included.
    pub(super) started_with: Vec<Peer>,
    /// When a leader was heard last.
    pub(super) heard_ns: AtomicU64,
    /// Why it is not in the group yet; empty: it is.
    pub(super) waiting: Mutex<String>,
    leadership: watch::Receiver<Leadership>,
    incoming: Mutex<Incoming>,
    proposals: AtomicU64,
    writer_task: Mutex<Option<TaskHandle>>,
    /// Behind a lock only because a handle is not `Sync`.
    _tasks: Mutex<[TaskHandle; 2]>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Group({})", self.raft.node_id())
    }
}

fn raft_config(cluster: &str, timing: Timing) -> Result<Arc<Config>, GroupError> {
    let config = Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: timing.heartbeat_ms,
        election_timeout_min: timing.election_ms_min,
        election_timeout_max: timing.election_ms_max,
        install_snapshot_timeout: 30_000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(timing.snapshot_every),
        max_in_snapshot_log_to_keep: timing.snapshot_every / LOG_KEPT_PART,
        replication_lag_threshold: timing.snapshot_every + timing.snapshot_every / LOG_KEPT_PART,
        max_payload_entries: 64,
        api_channel_size: Some(1024),
        notification_channel_size: Some(4096),
        backoff: "50ms 100ms 200ms ...500ms".to_owned(),
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|e| GroupError::Start(e.to_string()))
}

impl Group {
    /// Starts this coordinator's part from what was found on disk.
    ///
    /// # Errors
    /// [`GroupError`].
    pub async fn start(
        env: &Env,
        cluster: &str,
        name: &str,
        peers: &[Peer],
        timing: Timing,
        (store, loaded): (Store, Loaded),
        transport: Arc<dyn Transport>,
    ) -> Result<Self, GroupError> {
        let id = store.id();
        let Some(own) = peers.iter().find(|peer| peer.name == name).cloned() else {
            return Err(GroupError::Start(format!("`{name}` is not among its coordinators")));
        };
        let (writer, writer_task) = Writer::start(env, store);
        let log = LogStore::new(&loaded, writer.clone()).map_err(GroupError::Data)?;
        let machine = Machine::new(env, &loaded, writer).map_err(GroupError::Data)?;
        let published = machine.published();
        let networks = Networks { transport: transport.clone() };
        let raft = Raft::new(id, raft_config(cluster, timing)?, networks, log, machine)
            .await
            .map_err(|e| GroupError::Start(e.to_string()))?;
        let gate = Arc::new(Gate::default());
        let (announce, leadership) = watch::channel(Leadership::default());
        let tasks = [
            env.spawn("read-gate", gate.clone().run(env.clone(), raft.clone())).abort_on_drop(),
            env.spawn("leadership", follow(raft.clone(), transport.clone(), announce)).abort_on_drop(),
        ];
        Ok(Self {
            env: env.clone(),
            raft,
            published,
            gate,
            transport,
            own,
            started_with: peers.to_vec(),
            heard_ns: AtomicU64::new(0),
            waiting: Mutex::default(),
            leadership,
            incoming: Mutex::default(),
            proposals: AtomicU64::new(0),
            writer_task: Mutex::new(Some(writer_task)),
            _tasks: Mutex::new(tasks),
        })
    }

    /// The state and its progress.
    #[must_use]
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// Follows who leads.
    #[must_use]
    pub fn watch_leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Who leads, as far as this coordinator knows.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.borrow().clone()
    }

    /// Whom to ask instead.
    #[must_use]
    pub fn hint(&self) -> Option<LeaderHint> {
        let leadership = self.leadership.borrow();
        let leader = leadership.leader.as_ref().filter(|_| !leadership.leads)?;
        Some(LeaderHint { name: leader.name.clone(), addr: leader.addr.clone() })
    }

    /// Waits until it is certain that this coordinator leads at some moment after the call, and that the state has
    /// everything committed before it.
    ///
    /// # Errors
    /// [`ReadError`], by the deadline.
    pub async fn confirm(&self, deadline: Instant) -> Result<(), ReadError> {
        loop {
            match self.env.timeout_at(deadline, self.gate.pass()).await {
                Ok(Round::Confirmed) => return Ok(()),
                Ok(Round::NotLeader) => return Err(ReadError::NotLeader),
                Ok(Round::NoQuorum) if self.env.now() + RETRY < deadline => self.env.sleep(RETRY).await,
                Ok(Round::NoQuorum) | Err(_) => return Err(ReadError::Unavailable),
            }
        }
    }

    /// Puts a command into the log and waits for its outcome. Leadership is confirmed first, so that without a quorum
    /// nothing enters the log and the answer is certain.
    ///
    /// # Errors
    /// [`ProposeError`], by the deadline.
    pub async fn propose(&self, command: Command, deadline: Instant) -> Result<Outcome, ProposeError> {
        let bytes = command.to_bytes().map_or(usize::MAX, |bytes| bytes.len());
        if bytes > COMMAND_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes });
        }
        self.confirm(deadline).await.map_err(|e| match e {
            ReadError::NotLeader => ProposeError::NotLeader,
            ReadError::Unavailable => ProposeError::Unavailable,
        })?;
        self.proposals.fetch_add(1, Ordering::Relaxed);
        match self.env.timeout_at(deadline, self.raft.client_write(Record(command))).await {
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Err(ProposeError::NotLeader),
            // Discarded by a new leader, or the group stopped: it may still have been committed.
            Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// This coordinator's number in the group.
    #[must_use]
    pub fn id(&self) -> u64 {
        *self.raft.node_id()
    }

    /// Answers another coordinator.
    ///
    /// `from` is a coordinator of this cluster by its certificate. Who is not in the group, and not in the list that this one was started
    /// with, may ask who this is, and nothing else; it gets an empty answer (C11).
    pub async fn handle(&self, from: &str, request: &[u8]) -> Vec<u8> {
        let letter = decode::<Letter>(request);
        let may_ask = matches!(letter, Ok(Letter { request: RaftRequest::Ping, .. })) || self.knows(from);
        if !may_ask {
            tracing::warn!(name = from, "a message of the group from a coordinator that is not in it");
            return Vec::new();
        }
        let reply = match letter {
            Ok(Letter { to, .. }) if to != 0 && to != self.id() => RaftReply::NotMe { id: self.id() },
            Ok(letter) => self.answer(letter.request).await.unwrap_or_else(RaftReply::Failed),
            Err(reason) => RaftReply::Failed(reason),
        };
        encode(&reply).unwrap_or_default()
    }

    async fn answer(&self, request: RaftRequest) -> Result<RaftReply, String> {
        match request {
            RaftRequest::Append(request) => {
                self.heard_ns.store(self.env.monotonic_ns(), Ordering::Relaxed);
                self.raft.append_entries(request).await.map(RaftReply::Append).map_err(|e| e.to_string())
            }
            RaftRequest::Vote(request) => self.raft.vote(request).await.map(RaftReply::Vote).map_err(|e| e.to_string()),
            RaftRequest::PreVote(request) => {
                self.raft.pre_vote(request).await.map(RaftReply::Vote).map_err(|e| e.to_string())
            }
            RaftRequest::TransferLeader(request) => {
                let answer = self.raft.handle_transfer_leader(request).await.map_err(|e| e.to_string())?;
                Ok(RaftReply::TransferLeader(answer))
            }
            RaftRequest::Snapshot(piece) => self.take_piece(piece).await,
            RaftRequest::Ping => Ok(RaftReply::Pong(self.introduction())),
        }
    }

    async fn take_piece(&self, piece: SnapshotPiece) -> Result<RaftReply, String> {
        let (vote, meta) = (piece.vote, piece.meta.clone());
        let Some(data) = self.collect(piece)? else { return Ok(RaftReply::PieceTaken) };
        // openraft panics on a snapshot that it cannot take; what cannot be read is refused before.
        ringfleet_coordinator_core::ClusterState::from_snapshot(&data).map_err(|e| e.to_string())?;
        let snapshot = Snapshot { meta, snapshot: Bytes::from(data) };
        self.raft.install_full_snapshot(vote, snapshot).await.map(RaftReply::Snapshot).map_err(|e| e.to_string())
    }

    /// The whole, when this piece completes it.
    fn collect(&self, piece: SnapshotPiece) -> Result<Option<Vec<u8>>, String> {
        if piece.total_bytes > SNAPSHOT_BYTES_MAX {
            return Err(format!("a snapshot of {} bytes, at most {SNAPSHOT_BYTES_MAX}", piece.total_bytes));
        }
        let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        let of = piece.of();
        if piece.offset_bytes == 0 {
            *incoming = Some((of, Vec::new()));
        }
        let Some((current, data)) = incoming.as_mut().filter(|(current, _)| *current == of) else {
            return Err("a piece of a snapshot that is not being received".to_owned());
        };
        debug_assert_eq!(*current, of);
        if data.len() as u64 != piece.offset_bytes {
            return Err(format!("a piece at {} where {} comes next", piece.offset_bytes, data.len()));
        }
        data.extend_from_slice(&piece.bytes);
        if (data.len() as u64) < piece.total_bytes {
            return Ok(None);
        }
        Ok(incoming.take().map(|(_, data)| data))
    }

    /// Figures for metrics and status.
    #[must_use]
    pub fn status(&self) -> GroupStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        GroupStatus {
            term: metrics.current_term,
            leads: metrics.state == ServerState::Leader,
            last_index: metrics.last_log_index.unwrap_or(0),
            applied_index: index(metrics.last_applied),
            snapshot_index: index(metrics.snapshot),
            purged_index: index(metrics.purged),
            voters: metrics.membership_config.membership().voter_ids().count() as u32,
        }
    }

    /// Its term, and whether it leads in it: of [`Self::status`] what changes with a vote.
    #[must_use]
    pub fn standing(&self) -> (u64, bool) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.current_term, metrics.state == ServerState::Leader)
    }

    /// Commands put into the log by this coordinator.
    #[must_use]
    pub fn proposals(&self) -> u64 {
        self.proposals.load(Ordering::Relaxed)
    }

    /// The coordinators, as the leader knows them.
    #[must_use]
    pub fn coordinators(&self) -> Vec<CoordinatorInfo> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let info = |(id, peer): (&u64, &Peer)| {
            let own = (*id == metrics.id).then(|| metrics.last_log_index.unwrap_or(0));
            let matched = metrics.replication.as_ref().and_then(|all| all.get(id).copied().flatten());
            CoordinatorInfo {
                id: *id,
                name: peer.name.clone(),
                addr: peer.addr.clone(),
                leader: metrics.current_leader == Some(*id),
                voter: membership.voter_ids().any(|voter| voter == *id),
                matched_index: own.or(matched.map(|log: LogId| log.index)).unwrap_or(0),
            }
        };
        let mut all: Vec<CoordinatorInfo> = membership.nodes().map(info).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Takes a snapshot now, and purges what it covers.
    pub async fn snapshot_now(&self) {
        // The group has stopped: nothing is left to do.
        let _ = self.raft.trigger().snapshot().await;
    }

    /// Gives leadership to the coordinator that has most of the log, of those that answer, so that a planned stop costs no election
    /// timeout. Does its best, for less than a second.
    pub async fn hand_over(&self) {
        if !self.leadership().leads {
            return;
        }
        let there = self.ask_members(HEIR_ANSWER_LIMIT).await;
        let heir = self.coordinators().into_iter().filter(|info| info.voter && !info.leader);
        let heir = heir.filter(|info| there.iter().any(|(who, _)| who.id == info.id));
        let Some(heir) = heir.max_by_key(|info| info.matched_index).filter(|_| self.leadership().leads) else { return };
        let mut leadership = self.watch_leadership();
        if self.raft.trigger().transfer_leader(heir.id).await.is_ok() {
            let gone = leadership.wait_for(|now| !now.leads);
            // Not in time: the others will miss this one as if it had been killed.
            let _ = self.env.timeout(HAND_OVER_LIMIT, gone).await;
        }
    }

    /// Stops the group and closes the file.
    pub async fn shutdown(&self) {
        if let Err(e) = self.raft.shutdown().await {
            tracing::warn!(error = %e, "the raft group did not stop by itself");
        }
    }

    /// Makes the core panic.
    #[cfg(test)]
    pub(crate) async fn break_core(&self) {
        // It cannot answer any more.
        let _ = self.raft.with_raft_state(|_| -> () { panic!("a test breaks the core") }).await;
    }

    /// The task that writes the file; it ends after the group is dropped.
    #[must_use]
    pub fn take_writer(&self) -> Option<TaskHandle> {
        self.writer_task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Translates openraft's metrics into [`Leadership`].
async fn follow(raft: Raft<Types, Machine>, transport: Arc<dyn Transport>, announce: watch::Sender<Leadership>) {
    let mut metrics = raft.metrics();
    let mut members: Vec<Peer> = Vec::new();
    loop {
        let now = {
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            let members_now: Vec<Peer> = membership.nodes().map(|(_, peer)| peer.clone()).collect();
            if members_now != members {
                transport.follow(&members_now);
                members = members_now;
            }
            let known = |id: u64| membership.get_node(&id).cloned();
            Leadership {
                term: metrics.current_term,
                leads: metrics.state == ServerState::Leader,
                leader: metrics.current_leader.and_then(known),
                failure: metrics.running_state.as_ref().err().map(ToString::to_string),
            }
        };
        announce.send_if_modified(|leadership| {
            let changed = *leadership != now;
            *leadership = now;
            changed
        });
        if metrics.changed().await.is_err() {
            // Nobody is left to say anything else: the core is gone, perhaps by a panic, and said nothing itself.
            announce.send_modify(|leadership| {
                leadership.leads = false;
                leadership.failure.get_or_insert_with(|| "its core ended".to_owned());
            });
            return;
        }
    }
}
