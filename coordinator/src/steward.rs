//! What only the leader does: remember leases, declare members lost (C2, C10), name a new cluster.
//!
//! ```text
//!   follower --elected, leadership confirmed--> leader: LeaseTable::elected(now)
//!                                                 |  every TICK: follow the state, propose the loss of who is overdue
//!   follower <--another term, or no longer leader-'  the table is dropped; renewals are answered `NotLeader`
//! ```
//! A tick confirms the leadership first. When the last confirmation is longer ago than `IN_TOUCH`, the process was paused or had no
//! quorum: nobody could have renewed, and that time is not counted.
//!
//! The table is taken only after a confirmation that follows the election: the state then has every member, and "now" is
//! not before the election. See `ringfleet_coordinator_core::leases` for why no lease is cut short.

use crate::raft::{Group, Leadership};
use ringfleet_abi::Incarnation;
use ringfleet_coordinator_core::leases::{LeaseTable, Renewal};
use ringfleet_coordinator_core::{Command, CommandBody, Outcome};
use ringfleet_env::{Env, Instant};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks at the leases.
const TICK: Duration = Duration::from_millis(100);
/// How long a proposal of the leader itself may take.
const PROPOSE_LIMIT: Duration = Duration::from_secs(2);
/// Two confirmations that are further apart than this have a gap between them: several ticks, and less than any lease.
const IN_TOUCH: Duration = Duration::from_millis(500);
/// How long a new leader tries to confirm its leadership before it looks whether it still leads.
const CONFIRM_LIMIT: Duration = Duration::from_secs(1);

/// Whether a renewal is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Yes.
    Granted,
    /// The incarnation has been lost, or its loss is being proposed.
    Fenced,
    /// This coordinator is not, or not yet, in charge of leases.
    NotInCharge,
}

/// The leases of the leader; empty on every other coordinator.
#[derive(Debug, Default)]
pub struct Leases {
    /// The term in which the table was taken, and the table.
    table: Mutex<Option<(u64, LeaseTable)>>,
}

impl Leases {
    fn with<T>(&self, look: impl FnOnce(&mut Option<(u64, LeaseTable)>) -> T) -> T {
        look(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Grants a renewal received at `received_ns`, leadership having been confirmed since then.
    pub fn grant(&self, group: &Group, incarnation: u64, received_ns: u64, now_ns: u64, renewal: Renewal) -> Grant {
        let state = group.published().state();
        if state.live(Incarnation(incarnation)).is_none() {
            return Grant::Fenced;
        }
        self.with(|table| {
            let Some((_, table)) = table.as_mut() else { return Grant::NotInCharge };
            if table.node(incarnation).is_none() {
                table.follow(now_ns, state.alive().map(|member| member.incarnation));
            }
            if table.grant(incarnation, received_ns, renewal) { Grant::Granted } else { Grant::Fenced }
        })
    }

    /// A copy for an answer; `None` while this coordinator is not in charge.
    #[must_use]
    pub fn snapshot(&self) -> Option<LeaseTable> {
        self.with(|table| table.as_ref().map(|(_, table)| table.clone()))
    }

    /// How many leases are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|table| table.as_ref().map_or(0, |(_, table)| table.len()))
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The loop.
pub struct Steward {
    /// Clock and timers.
    pub env: Env,
    /// The group.
    pub group: Arc<Group>,
    /// What it keeps.
    pub leases: Arc<Leases>,
    /// Name and lease of a cluster that is started for the first time.
    pub first: (String, u32),
    /// Where a reason to stop the process goes.
    pub fatal: watch::Sender<Option<String>>,
}

impl Steward {
    /// Runs until the group stops or the process must.
    pub async fn run(self) {
        let mut leadership = self.group.watch_leadership();
        loop {
            let now = leadership.borrow_and_update().clone();
            if let Some(failure) = now.failure {
                self.fatal.send_replace(Some(format!("the raft group stopped: {failure}")));
                return;
            }
            if now.leads && self.take_over(now.term).await {
                tracing::info!(term = now.term, "leads the cluster");
                self.lead(now.term, &mut leadership).await;
                tracing::info!(term = now.term, "no longer leads the cluster");
                self.leases.with(|table| *table = None);
                continue;
            }
            if now.leads {
                // Not confirmed: look again, a little later, whether it still leads.
                let _ = self.env.timeout(TICK, leadership.changed()).await;
                continue;
            }
            if leadership.changed().await.is_err() {
                return;
            }
        }
    }

    /// Confirms the election, names a new cluster, and counts every lease as renewed now.
    async fn take_over(&self, term: u64) -> bool {
        if self.group.confirm(self.env.now() + CONFIRM_LIMIT).await.is_err() {
            return false;
        }
        let (cluster, lease_ms) = self.first.clone();
        let named = self.group.published().state().cluster() == cluster;
        if !named {
            let command = Command::plain(CommandBody::InitCluster { cluster, lease_ms });
            match self.group.propose(command, self.env.now() + PROPOSE_LIMIT).await {
                Ok(Outcome::Refused(refusal)) => {
                    self.fatal.send_replace(Some(refusal.message));
                    return false;
                }
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        let state = self.group.published().state();
        let alive = state.alive().map(|member| member.incarnation);
        let table = LeaseTable::elected(state.lease_ms(), self.env.monotonic_ns(), alive);
        if state.lease_ms() != self.first.1 {
            tracing::warn!(configured_ms = self.first.1, in_effect_ms = state.lease_ms(), "the lease was fixed before");
        }
        self.leases.with(|leases| *leases = Some((term, table)));
        true
    }

    async fn lead(&self, term: u64, leadership: &mut watch::Receiver<Leadership>) {
        let mut in_touch = self.env.now();
        loop {
            let still = {
                let now = leadership.borrow_and_update();
                now.leads && now.term == term && now.failure.is_none()
            };
            if !still {
                return;
            }
            if self.group.confirm(self.env.now() + IN_TOUCH).await.is_ok() {
                self.count_touch(&mut in_touch);
                self.declare_lost().await;
            }
            // A tick or a change of leadership, whichever is first.
            let _ = self.env.timeout(TICK, leadership.changed()).await;
        }
    }

    /// Leadership has just been confirmed: leaves a gap since the last time out of the count.
    fn count_touch(&self, in_touch: &mut Instant) {
        let now = self.env.now();
        let gap = now - std::mem::replace(in_touch, now);
        if gap > IN_TOUCH {
            tracing::warn!(?gap, "was out of touch; the time is not counted against any lease");
            let gap_ns = u64::try_from(gap.as_nanos()).unwrap_or(u64::MAX);
            self.leases.with(|table| {
                if let Some((_, table)) = table.as_mut() {
                    table.skip(gap_ns, now.as_ns());
                }
            });
        }
    }

    async fn declare_lost(&self) {
        for incarnation in self.overdue() {
            tracing::warn!(incarnation, "the lease of a node has ended");
            let command = Command::plain(CommandBody::MemberLost { incarnation });
            if self.group.propose(command, self.env.now() + PROPOSE_LIMIT).await.is_err() {
                // It stays overdue; the next tick proposes again.
                break;
            }
        }
    }

    fn overdue(&self) -> Vec<u64> {
        let now_ns = self.env.monotonic_ns();
        let state = self.group.published().state();
        self.leases.with(|table| {
            table.as_mut().map_or_else(Vec::new, |(_, table)| {
                table.follow(now_ns, state.alive().map(|member| member.incarnation));
                table.doom(now_ns)
            })
        })
    }
}
