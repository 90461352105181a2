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
//! **Clocks (C6).** Every [`CLOCKS_EVERY`] the leader measures the other coordinators' clocks against its own, once before it is in charge,
//! so that a node that joins early is judged too. Nodes measure theirs and say so with every renewal. When the log does not say what
//! `ringfleet_coordinator_core::clocks` finds, the leader proposes it: whoever leads next keeps to it.
//!
//! The table is taken only after a confirmation that follows the election: the state then has every member, and "now" is
//! not before the election. See `ringfleet_coordinator_core::leases` for why no lease is cut short.

use crate::raft::{Group, Leadership};
use crate::standing::Ends;
use ringfleet_abi::Incarnation;
use ringfleet_coordinator_core::clocks::ClockOffset;
use ringfleet_coordinator_core::leases::{LeaseTable, Renewal};
use ringfleet_coordinator_core::{Command, CommandBody, Judgement, Outcome};
use ringfleet_env::{Env, Instant};
use ringfleet_proto::control::ClockSample;
use ringfleet_proto::control::limits::CLOCK_OFFSET_MS_MAX;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Between two looks at the leases.
const TICK: Duration = Duration::from_millis(100);
/// How long a proposal of the leader itself may take.
const PROPOSE_LIMIT: Duration = Duration::from_secs(2);
/// Two confirmations that are further apart than this have a gap between them: several ticks, and less than any lease.
const IN_TOUCH: Duration = Duration::from_millis(500);
/// How often a coordinator tries to read its two clocks at one moment.
const OWN_CLOCK_READS: u32 = 3;
/// That moment, ns.
const OWN_CLOCK_READ_NS_MAX: u64 = 2_000_000;
/// Between two measurements of the other coordinators' clocks. Also how long one may take.
pub const CLOCKS_EVERY: Duration = Duration::from_secs(1);
/// How long a new leader waits for the other coordinators' clocks before it is in charge without.
const FIRST_CLOCKS_LIMIT: Duration = Duration::from_millis(200);
/// How long a new leader tries to confirm its leadership before it looks whether it still leads.
const CONFIRM_LIMIT: Duration = Duration::from_secs(1);

/// Whether a renewal is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Yes.
    Granted,
    /// No, because its clock is off by so much (C6).
    Quarantined {
        /// The node's clock minus the cluster's, ms.
        offset_ms: i64,
    },
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
    ///
    /// `clock` is the node's clock against this coordinator's, if it has measured it; it counts whether the renewal is granted or not.
    pub fn grant(
        &self,
        group: &Group,
        incarnation: u64,
        received_ns: u64,
        now_ns: u64,
        renewal: Renewal,
        clock: Option<ClockSample>,
    ) -> Grant {
        let state = group.published().state();
        let Some(member) = state.live(Incarnation(incarnation)) else {
            return Grant::Fenced;
        };
        self.with(|table| {
            let Some((term, table)) = table.as_mut() else { return Grant::NotInCharge };
            if table.node(incarnation).is_none() {
                table.follow(now_ns, state.alive().map(|member| member.incarnation));
            }
            if let Some(clock) = clock {
                table.clocks_mut().hear_node(incarnation, clock, now_ns);
            }
            if let Some(at_first) = member.quarantine_ms {
                let measured = table.clocks().of(incarnation, now_ns);
                let offset_ms = if measured.error_ms == 0 { at_first } else { measured.offset_ms };
                return Grant::Quarantined { offset_ms };
            }
            if !table.grant(incarnation, received_ns, renewal) {
                return Grant::Fenced;
            }
            let waited_ns = now_ns.saturating_sub(received_ns);
            tracing::trace!(target: "fence", incarnation, term = *term, waited_ns, "granted");
            Grant::Granted
        })
    }

    /// Looks at this coordinator's own clocks; before it hears of others or judges them.
    pub fn look_at_own_clock(&self, env: &Env) {
        // Read under the lock, so that looks are in order.
        self.with(|table| {
            let Some((_, table)) = table.as_mut() else { return };
            // A thread may be held up between two reads: such a pair says nothing. Without another one, the next look finds what was set.
            for _ in 0..OWN_CLOCK_READS {
                let (before_ns, wall_ms, after_ns) = (env.monotonic_ns(), env.wall_ms(), env.monotonic_ns());
                if after_ns - before_ns <= OWN_CLOCK_READ_NS_MAX {
                    table.clocks_mut().look_at_own(wall_ms, before_ns);
                    return;
                }
            }
        });
    }

    /// Whether a node with this clock may join: how far it is off if not. `None`: this coordinator is not, or not yet, in charge, and
    /// cannot say.
    #[must_use]
    pub fn admit(&self, clock: ClockSample, now_ns: u64) -> Option<Result<(), ClockOffset>> {
        self.with(|table| table.as_ref().map(|(_, table)| table.clocks().admit(clock, now_ns)))
    }

    /// As if this coordinator were not in charge yet.
    #[cfg(test)]
    pub(crate) fn forget(&self) {
        self.with(|table| *table = None);
    }

    /// The leader's own clock minus the cluster's, ms; `None` if nobody knows, or this coordinator is not in charge.
    #[must_use]
    pub fn own_clock_offset_ms(&self, now_ns: u64) -> Option<i64> {
        self.with(|table| table.as_ref().and_then(|(_, table)| table.clocks().own_offset_ms(now_ns)))
    }

    fn hear_coordinators(&self, clocks: &[(u64, ClockSample)], now_ns: u64) {
        self.with(|table| {
            if let Some((_, table)) = table.as_mut() {
                for &(coordinator, sample) in clocks {
                    table.clocks_mut().hear_coordinator(coordinator, sample, now_ns);
                }
            }
        });
    }

    /// A copy for an answer; `None` while this coordinator is not in charge.
    #[must_use]
    pub fn snapshot(&self) -> Option<LeaseTable> {
        self.with(|table| table.as_ref().map(|(_, table)| table.clone()))
    }

    /// The term in which this coordinator is in charge of leases; `None` while it is not.
    #[must_use]
    pub fn term(&self) -> Option<u64> {
        self.with(|table| table.as_ref().map(|(term, _)| *term))
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
        let _ends = Ends { what: "steward", fatal: self.fatal.clone() };
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
        // Only measured: what else there is to tend waits until somebody is in charge of leases.
        let clocks = self.group.measure_clocks(FIRST_CLOCKS_LIMIT).await;
        let state = self.group.published().state();
        let alive = state.alive().map(|member| member.incarnation);
        let table = LeaseTable::elected(state.lease_ms(), self.env.monotonic_ns(), alive);
        if state.lease_ms() != self.first.1 {
            tracing::warn!(configured_ms = self.first.1, in_effect_ms = state.lease_ms(), "the lease was fixed before");
        }
        self.leases.with(|leases| *leases = Some((term, table)));
        tracing::trace!(target: "fence", term, "elected");
        drop(state);
        self.leases.look_at_own_clock(&self.env);
        self.leases.hear_coordinators(&clocks, self.env.monotonic_ns());
        true
    }

    async fn lead(&self, term: u64, leadership: &mut watch::Receiver<Leadership>) {
        let clocks = self.env.spawn("clocks", follow_clocks(self.env.clone(), self.group.clone(), self.leases.clone()));
        let _clocks = clocks.abort_on_drop();
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
                self.judge_clocks().await;
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

    /// Has the log say who is quarantined.
    async fn judge_clocks(&self) {
        for judgement in self.judgements() {
            let (incarnation, offset_ms) = match judgement {
                Judgement::Quarantine { incarnation, offset_ms } => {
                    tracing::warn!(incarnation, offset_ms, "the clock of a node is off; it is quarantined");
                    (incarnation, Some(offset_ms))
                }
                Judgement::LetGo { incarnation } => {
                    tracing::info!(incarnation, "the clock of a node is right again");
                    (incarnation, None)
                }
            };
            let command = Command::plain(CommandBody::Quarantine { incarnation, offset_ms });
            if self.group.propose(command, self.env.now() + PROPOSE_LIMIT).await.is_err() {
                // The next tick comes to the same judgement.
                break;
            }
        }
    }

    fn judgements(&self) -> Vec<Judgement> {
        let now_ns = self.env.monotonic_ns();
        let state = self.group.published().state();
        let is_quarantined =
            |incarnation| state.live(Incarnation(incarnation)).is_some_and(|member| member.quarantine_ms.is_some());
        self.leases.with(|table| {
            table.as_ref().map_or_else(Vec::new, |(_, table)| table.clocks().judge(now_ns, is_quarantined))
        })
    }

    fn overdue(&self) -> Vec<u64> {
        let now_ns = self.env.monotonic_ns();
        let state = self.group.published().state();
        self.leases.with(|table| {
            table.as_mut().map_or_else(Vec::new, |(term, table)| {
                table.follow(now_ns, state.alive().map(|member| member.incarnation));
                let doomed = table.doom(now_ns);
                for incarnation in &doomed {
                    tracing::trace!(target: "fence", incarnation, term = *term, "doomed");
                }
                doomed
            })
        })
    }
}

/// Measures the other coordinators' clocks for as long as this one leads, and says when its own is the odd one out.
async fn follow_clocks(env: Env, group: Arc<Group>, leases: Arc<Leases>) {
    let mut odd = false;
    loop {
        env.sleep(CLOCKS_EVERY).await;
        let clocks = group.tend_members(CLOCKS_EVERY).await;
        let now_ns = env.monotonic_ns();
        leases.look_at_own_clock(&env);
        leases.hear_coordinators(&clocks, now_ns);
        let own = leases.own_clock_offset_ms(now_ns);
        let odd_now = own.is_some_and(|own| own.unsigned_abs() > u64::from(CLOCK_OFFSET_MS_MAX));
        if odd_now && !odd {
            tracing::error!(offset_ms = own, "this coordinator's clock is off; nodes are judged by the others'");
        } else if odd && !odd_now {
            tracing::info!("this coordinator's clock is right again");
        }
        odd = odd_now;
    }
}
