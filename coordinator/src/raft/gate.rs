//! Confirmations of leadership, many callers to one round (C1, C2).
//!
//! A caller is answered by a round that began after it came: the list is taken before the round starts, and who comes
//! while it runs waits for the next. That is what makes a renewal safe to grant and a read linearizable.

use super::machine::Machine;
use super::types::Types;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{Raft, ReadPolicy, ServerState};
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_env::Env;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Callers that wait for one round. One more is told that the group is not available.
const WAITING_MAX: usize = 16_384;
/// How long one round may take, the catching-up of the state included.
const ROUND_LIMIT: Duration = Duration::from_secs(5);

/// What a round said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// This coordinator led after the caller came, and the state has everything that was committed before.
    Confirmed,
    /// It does not lead.
    NotLeader,
    /// No quorum answered.
    NoQuorum,
}

/// The list of who waits.
#[derive(Debug, Default)]
pub struct Gate {
    waiting: Mutex<Vec<oneshot::Sender<Round>>>,
    wake: Notify,
}

impl Gate {
    /// Waits for a round that begins from now on.
    pub async fn pass(&self) -> Round {
        let (tell, told) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= WAITING_MAX {
                return Round::NoQuorum;
            }
            waiting.push(tell);
        }
        self.wake.notify_one();
        told.await.unwrap_or(Round::NoQuorum)
    }

    /// Runs rounds for as long as the group lives.
    pub async fn run(self: Arc<Self>, env: Env, raft: Raft<Types, Machine>) {
        loop {
            self.wake.notified().await;
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if waiting.is_empty() {
                continue;
            }
            if is_on(Mutant::ReadWithoutIndex) && raft.metrics().borrow_watched().state == ServerState::Leader {
                waiting.into_iter().for_each(|tell| tell.send(Round::Confirmed).unwrap_or(()));
                continue;
            }
            let round = match env.timeout(ROUND_LIMIT, raft.ensure_linearizable(ReadPolicy::ReadIndex)).await {
                Ok(Ok(_)) => Round::Confirmed,
                Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => Round::NotLeader,
                Ok(Err(_)) | Err(_) => Round::NoQuorum,
            };
            for tell in waiting {
                // Who gave up waiting needs no answer.
                let _ = tell.send(round);
            }
        }
    }
}
