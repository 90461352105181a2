//! The state machine as openraft wants it: [`ClusterState`] in memory, its snapshot on disk.
//!
//! After a start the state is that of the last snapshot; what is committed beyond it is applied again as soon as the group
//! tells this coordinator. No read sees the gap: all are behind a ReadIndex.

use super::log::{pack, unpack};
use super::types::{LogId, Membership, Snapshot, SnapshotMeta, Types};
use crate::config::Peer;
use crate::store::{Loaded, Write, Writer, seal};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use ringfleet_coordinator_core::{ClusterState, Outcome};
use ringfleet_env::Env;
use ringfleet_proto::control::CoordinatorView;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::watch;

/// How far the state is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last record applied.
    pub applied_index: u64,
    /// The placement index.
    pub view_index: u64,
}

/// The state as it is shared with everybody who reads it.
#[derive(Debug)]
pub struct Published {
    state: RwLock<ClusterState>,
    progress: watch::Sender<Progress>,
}

impl Published {
    fn new(state: ClusterState) -> Self {
        let (progress, _) = watch::channel(Progress::default());
        let published = Self { state: RwLock::new(state), progress };
        published.announce();
        published
    }

    /// The state. Not held across an await.
    pub fn state(&self) -> RwLockReadGuard<'_, ClusterState> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the progress.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn change<T>(&self, change: impl FnOnce(&mut ClusterState) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn announce(&self) {
        let state = self.state();
        let now = Progress { applied_index: state.applied_index(), view_index: state.view_index() };
        drop(state);
        self.progress.send_if_modified(|progress| std::mem::replace(progress, now) != now);
    }
}

type Current = Arc<Mutex<Option<(SnapshotMeta, Bytes)>>>;

/// The state machine of one coordinator.
pub struct Machine {
    env: Env,
    published: Arc<Published>,
    applied: Option<LogId>,
    membership: Membership,
    current: Current,
    writer: Writer,
}

impl Machine {
    /// The state of the snapshot that was found on disk.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(env: &Env, loaded: &Loaded, writer: Writer) -> Result<Self, String> {
        let mut machine = Self {
            env: env.clone(),
            published: Arc::new(Published::new(ClusterState::default())),
            applied: None,
            membership: Membership::default(),
            current: Current::default(),
            writer,
        };
        if let Some((meta, data)) = &loaded.snapshot {
            let meta: SnapshotMeta = unpack(meta).map_err(|e| format!("the snapshot's meta {e}"))?;
            let state = ClusterState::from_snapshot(data).map_err(|e| format!("the snapshot cannot be read: {e}"))?;
            machine.adopt(meta, Bytes::copy_from_slice(data), state);
        }
        Ok(machine)
    }

    /// What others read.
    #[must_use]
    pub fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    fn adopt(&mut self, meta: SnapshotMeta, data: Bytes, state: ClusterState) {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.published.change(|old| *old = state);
        self.published.announce();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((meta, data));
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            let id = entry.log_id();
            let outcome = match entry.payload {
                EntryPayload::Blank => Outcome::Done,
                EntryPayload::Normal(record) => self.published.change(|state| state.apply(id.index, &record.0)),
                EntryPayload::Membership(membership) => {
                    let view = |(id, peer): (&u64, &Peer)| {
                        (*id, CoordinatorView { name: peer.name.clone(), addr: peer.addr.clone() })
                    };
                    let coordinators = membership.nodes().map(view).collect();
                    self.published.change(|state| state.set_coordinators(id.index, coordinators));
                    self.membership = Membership::new(Some(id), membership);
                    Outcome::Done
                }
            };
            self.applied = Some(id);
            // Readers that wait for an answer's effect find it.
            self.published.announce();
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            env: self.env.clone(),
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
            state: self.published.state().clone(),
            current: self.current.clone(),
            writer: self.writer.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Bytes) -> Result<(), io::Error> {
        let state = ClusterState::from_snapshot(&data).map_err(io::Error::other)?;
        self.writer.write(write(meta, &data)?).await?;
        self.adopt(meta.clone(), data, state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(current.as_ref().map(|(meta, data)| Snapshot { meta: meta.clone(), snapshot: data.clone() }))
    }
}

/// Writes the state as it was when the builder was asked for; records are applied meanwhile.
pub struct Builder {
    env: Env,
    meta: SnapshotMeta,
    state: ClusterState,
    current: Current,
    writer: Writer,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let state = std::mem::take(&mut self.state);
        let data = self.env.run_blocking(move || state.to_snapshot()).await.map_err(io::Error::other)?;
        let data = Bytes::from(data);
        self.writer.write(write(&self.meta, &data)?).await?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|(meta, _)| meta.last_log_id <= self.meta.last_log_id) {
            *current = Some((self.meta.clone(), data.clone()));
        }
        Ok(Snapshot { meta: self.meta.clone(), snapshot: data })
    }
}

fn write(meta: &SnapshotMeta, data: &Bytes) -> io::Result<Write> {
    let index = meta.last_log_id.map_or(0, |id| id.index);
    Ok(Write::Snapshot { index, meta: pack(meta)?, data: seal(data) })
}
