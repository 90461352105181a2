//! What the agent's loop shows to the threads beside it: health and metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ringfleet_abi::{LostReason, WorkerCounters};
use ringfleet_env::{Env, Instant};
use ringfleet_gpu::CodeChanges;
use ringfleet_proto::Ledger;

use crate::devices::DeviceHealth;
use crate::membership::ClockState;

/// A loop that has not turned for so long counts as dead. It turns at least every [`crate::agent::TURN_MAX`].
pub(crate) const TURN_OVERDUE: Duration = Duration::from_secs(5);

/// The agent as its loop last saw it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The node's name.
    pub node: String,
    /// This start of it; 0 before it has joined.
    pub incarnation: u64,
    /// The youngest placement index in effect here.
    pub applied_index: u64,
    /// The youngest placement index seen.
    pub view_index: u64,
    /// The end of the lease; 0 before the first.
    pub lease_end: Instant,
    /// This node's clock, as measured last (C6).
    pub clock: ClockState,
    /// Why the node may not join, while it is kept out for its clock.
    pub kept_out: Option<String>,
    /// Shards that the youngest view gives to this node.
    pub shards_owned: u64,
    /// Links to nodes that are up.
    pub links_node: u64,
    /// Links to clients that are up.
    pub links_client: u64,
    /// The agent's own counters.
    pub ledger: Ledger,
    /// Counters of every worker, by the device's place in the configuration; none of a device that is left out.
    pub devices: Vec<Vec<WorkerCounters>>,
    /// Connections to the health port that were refused or cut.
    pub http_refused: u64,
    /// Links refused because there are too many, of nodes and of clients.
    pub links_refused: [u64; 2],
    /// Failures of actors by the fault's code, of all incarnations.
    pub faults: BTreeMap<u32, u64>,
    /// Actors resident now, by the name of their set.
    pub actors_by_set: BTreeMap<String, u64>,
    /// Changes of the code of each device that runs since its start, by its place in the configuration.
    pub code_changes: BTreeMap<usize, CodeChanges>,
    /// What the incarnations before this one counted.
    pub past: Past,
    /// Workers that do not come back from a round, by the device's place in the configuration and by worker.
    pub stalled: BTreeSet<(usize, u16)>,
    /// This incarnation is ending: the node stops its devices and leaves.
    pub leaving: bool,
    /// Incarnations that this process has been before: it was fenced so many times.
    pub fenced_total: u64,
    /// Losses and suspicion of devices.
    pub device_health: DeviceHealth,
}

/// What incarnations of this process that were fenced have counted: totals go on, and what such an incarnation held ends as lost (C7).
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The agents' counters.
    pub ledger: Ledger,
    /// The workers' counters, by the device's place in the configuration.
    pub devices: Vec<Vec<WorkerCounters>>,
    /// Changes of code, as well.
    pub code_changes: BTreeMap<usize, CodeChanges>,
}

impl Past {
    /// Adds an incarnation that has ended: its agent holds nothing any more, its workers have stopped, and nobody will take what they
    /// still hold. That is counted as lost; gives how many messages it is.
    ///
    /// What they hold follows from what the agent knows: it gave them what they are done with and took what they handed out. So the sum
    /// is exact, too, where the counters of a device that was killed are an old copy; then what was handled since may be counted as lost.
    pub fn bury(&mut self, ledger: &Ledger, devices: &[Vec<WorkerCounters>]) -> u64 {
        let mut sum = WorkerCounters::default();
        devices.iter().flatten().for_each(|worker| sum.add(worker));
        let held = i128::from(sum.sent) + i128::from(ledger.ingress_done)
            - i128::from(sum.handled)
            - i128::from(sum.dead_total())
            - i128::from(ledger.egress_in);
        // Less than nothing: the agent has taken messages that the copy does not know to be sent.
        let unseen = u64::try_from(-held).unwrap_or(0);
        let held = u64::try_from(held).unwrap_or(0);
        self.ledger.add(ledger);
        self.ledger.lost[LostReason::SenderFenced as usize] += held;
        self.devices.resize_with(self.devices.len().max(devices.len()), Vec::new);
        for (past, ended) in self.devices.iter_mut().zip(devices) {
            past.resize(past.len().max(ended.len()), WorkerCounters::default());
            for (past, ended) in past.iter_mut().zip(ended) {
                past.add(ended);
                (past.actors_now, past.spill_now, past.timers_now) = (0, 0, 0);
            }
        }
        if unseen > 0 {
            match self.devices.iter_mut().flatten().next() {
                Some(first) => first.sent += unseen,
                None => self.devices = vec![vec![WorkerCounters { sent: unseen, ..WorkerCounters::default() }]],
            }
        }
        held
    }
}

impl Snapshot {
    /// What this incarnation's devices changed of their code is of the past now.
    pub fn bury_changes(&mut self) {
        for (place, ended) in std::mem::take(&mut self.code_changes) {
            self.past.code_changes.entry(place).or_default().add(&ended);
        }
    }

    /// Changes of the code of each device that runs in all incarnations, by its place in the configuration.
    #[must_use]
    pub fn code_changes_total(&self) -> BTreeMap<usize, CodeChanges> {
        let mut total = self.code_changes.clone();
        for (place, total) in &mut total {
            total.add(&self.past.code_changes.get(place).copied().unwrap_or_default());
        }
        total
    }

    /// The agent's counters of all incarnations.
    #[must_use]
    pub fn ledger_total(&self) -> Ledger {
        let mut total = self.ledger;
        total.add(&self.past.ledger);
        total
    }

    /// The counters of every worker in all incarnations, by device; what is "now" is of the present one.
    #[must_use]
    pub fn devices_total(&self) -> Vec<Vec<WorkerCounters>> {
        let mut total = self.past.devices.clone();
        total.resize_with(total.len().max(self.devices.len()), Vec::new);
        for (total, now) in total.iter_mut().zip(&self.devices) {
            total.resize(total.len().max(now.len()), WorkerCounters::default());
            total.iter_mut().zip(now).for_each(|(total, now)| total.add(now));
        }
        total
    }

    /// The counters of all workers together.
    #[must_use]
    pub fn workers(&self) -> WorkerCounters {
        let mut sum = WorkerCounters::default();
        self.devices.iter().flatten().for_each(|worker| sum.add(worker));
        sum
    }
}

/// The meeting place of the loop and the health port.
#[derive(Debug)]
pub struct Shared {
    env: Env,
    snapshot: Mutex<Snapshot>,
    turned_at_ns: AtomicU64,
    /// Connections to the health port that were refused or cut.
    pub http_refused: Arc<AtomicU64>,
    /// Links refused because there are too many, of nodes and of clients.
    pub links_refused: [AtomicU64; 2],
}

impl Shared {
    /// For the node of this name.
    #[must_use]
    pub fn new(env: &Env, node: &str) -> Self {
        let snapshot = Snapshot { node: node.to_owned(), ..Snapshot::default() };
        Self {
            env: env.clone(),
            snapshot: Mutex::new(snapshot),
            turned_at_ns: AtomicU64::new(env.monotonic_ns()),
            http_refused: Arc::default(),
            links_refused: Default::default(),
        }
    }

    /// The loop has turned.
    pub fn turned(&self, now_ns: u64) {
        self.turned_at_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Changes the snapshot.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A copy of the snapshot.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        snapshot.http_refused = self.http_refused.load(Ordering::Relaxed);
        snapshot.links_refused = [0, 1].map(|at: usize| self.links_refused[at].load(Ordering::Relaxed));
        snapshot
    }

    /// Why the process is not live, if it is not. While it joins there is no loop that could turn; joining has a deadline.
    pub fn not_live(&self) -> Option<String> {
        if self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).incarnation == 0 {
            return None;
        }
        let still = self.env.monotonic_ns().saturating_sub(self.turned_at_ns.load(Ordering::Relaxed));
        let still = Duration::from_nanos(still);
        (still > TURN_OVERDUE).then(|| format!("the agent's loop has not turned for {still:?}"))
    }

    /// Why the node is not ready, if it is not.
    pub fn not_ready(&self) -> Option<String> {
        if let Some(why) = self.not_live() {
            return Some(why);
        }
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if snapshot.incarnation == 0 {
            if let Some(why) = &snapshot.kept_out {
                return Some(format!("kept out: {why}"));
            }
            let suspect = &snapshot.device_health.suspect;
            return Some(if suspect.is_empty() {
                "the node has not joined".to_owned()
            } else {
                let names: Vec<&str> = suspect.iter().map(String::as_str).collect();
                format!("the node has not joined; suspect devices: {}", names.join(", "))
            });
        }
        if snapshot.leaving {
            return Some("this incarnation is leaving".to_owned());
        }
        if let Some(offset_ms) = snapshot.clock.quarantine_ms {
            return Some(format!(
                "quarantined: the clock is {offset_ms:+} ms off; the lease is not renewed until it is set right"
            ));
        }
        if snapshot.lease_end <= self.env.now() {
            return Some("the lease has ended".to_owned());
        }
        if let Some((device, worker)) = snapshot.stalled.first() {
            let others = snapshot.stalled.len() - 1;
            return Some(format!(
                "worker {worker} of device {device} does not come back from a round ({others} others likewise)"
            ));
        }
        if snapshot.applied_index < snapshot.view_index {
            return Some(format!("view {} is not in effect yet, {} is", snapshot.view_index, snapshot.applied_index));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_quarantined_or_kept_out_is_not_ready_and_says_why() {
        let env = Env::tokio();
        let shared = Shared::new(&env, "n1");
        shared.turned(env.monotonic_ns());
        shared.update(|snapshot| {
            snapshot.incarnation = 7;
            snapshot.lease_end = env.now() + Duration::from_secs(60);
        });
        assert_eq!(shared.not_ready(), None);
        shared.update(|snapshot| snapshot.clock.quarantine_ms = Some(312));
        let why = shared.not_ready().expect("quarantined");
        assert!(why.contains("quarantined: the clock is +312 ms off"), "{why}");
        shared.update(|snapshot| {
            snapshot.incarnation = 0;
            snapshot.kept_out = Some("the clock of node `n1` is 312 ms ahead".to_owned());
        });
        let why = shared.not_ready().expect("kept out");
        assert!(why.starts_with("kept out: the clock of node `n1`"), "{why}");
    }

    /// What C7 compares, of the incarnations that have ended: sent and given in, handled and accounted for.
    fn sum(past: &Past) -> (u64, u64) {
        let mut workers = WorkerCounters::default();
        past.devices.iter().flatten().for_each(|worker| workers.add(worker));
        let ledger = &past.ledger;
        (
            workers.sent + ledger.client_in,
            workers.handled + workers.dead_total() + ledger.replies_out + ledger.dead_total() + ledger.lost_total(),
        )
    }

    #[test]
    fn the_sum_of_an_incarnation_that_has_ended_is_exact_also_with_counters_of_a_killed_device_that_are_old() {
        // 100 messages of clients, of which 90 are done with; their handlers sent 60, of which 20 went out as replies, 10 wait in rings.
        let mut ledger =
            Ledger { client_in: 100, ingress_done: 90, egress_in: 20, replies_out: 20, ..Ledger::default() };
        ledger.lost[LostReason::SenderFenced as usize] = 10;
        let last = WorkerCounters {
            ingress_done: 90,
            ingress_in: 90,
            sent: 60,
            handled: 120,
            egress_out: 20,
            ring_out: 40,
            ring_in: 30,
            ..WorkerCounters::default()
        };
        let mut past = Past::default();
        let resting = last.resting() + i128::from(last.egress_out) - i128::from(ledger.egress_in);
        assert_eq!(i128::from(past.bury(&ledger, &[vec![last]])), resting, "what they say that they hold");
        assert_eq!(sum(&past), (160, 160));

        // Copies from before most of it was handled, before most of it was sent, and before anything.
        let handled_less = WorkerCounters { handled: 40, ..last };
        let sent_less = WorkerCounters { sent: 5, ring_out: 0, ring_in: 0, egress_out: 0, ..last };
        for old in [handled_less, sent_less, WorkerCounters::default()] {
            let mut past = Past::default();
            past.bury(&ledger, &[vec![old]]);
            let (left, right) = sum(&past);
            assert_eq!(left, right, "C7: {old:?}");
        }
        let mut past = Past::default();
        let took = Ledger { egress_in: 3, replies_out: 3, ..Ledger::default() };
        past.bury(&took, &[]);
        assert_eq!(sum(&past), (3, 3), "also where no counter was ever read");
    }

    #[test]
    fn counters_of_a_device_stay_its_own_while_another_one_is_left_out() {
        let handled = |handled| vec![WorkerCounters { handled, ..WorkerCounters::default() }];
        let mut snapshot = Snapshot::default();
        snapshot.past.bury(&Ledger::default(), &[handled(5), handled(7)]);
        // The first is suspect: nothing of it runs.
        snapshot.devices = vec![Vec::new(), handled(10)];
        let total: Vec<u64> = snapshot.devices_total().iter().map(|device| device[0].handled).collect();
        assert_eq!(total, [5, 17]);
    }

    #[test]
    fn a_node_that_leaves_is_live_and_not_ready() {
        let env = Env::tokio();
        let shared = Shared::new(&env, "n1");
        shared.turned(env.monotonic_ns());
        shared.update(|snapshot| {
            snapshot.incarnation = 7;
            snapshot.lease_end = env.now() + Duration::from_secs(60);
            snapshot.leaving = true;
        });
        assert_eq!(shared.not_live(), None);
        assert_eq!(shared.not_ready().as_deref(), Some("this incarnation is leaving"));
    }
}
