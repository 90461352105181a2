//! The observer: looks at the cluster between two steps and asks the checks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ringfleet_abi::{KeySpace, SessionId};
use ringfleet_client::Session;
use ringfleet_coordinator::service::Service;
use ringfleet_coordinator_core::ClusterState;
use ringfleet_link::Role;
use ringfleet_node::shared::Shared;

use crate::actors::{self, Handling, Hop};
use crate::checks::Violation;
use crate::checks::c1_directory::Directory;
use crate::checks::c2_residence::Residence;
use crate::checks::c3_order::Order;
use crate::checks::c6_time::Time;
use crate::checks::c7_conservation::Counted;
use crate::checks::c10_recovery::Recovery;
use crate::checks::raft::{Raft, Seen};
use crate::clock::WALL_START_MS;
use crate::cluster::{BOUNDS, Cluster, SHARDS};
use crate::exec::{HostId, WORLD, lock};
use crate::fence_steps::FenceSteps;
use crate::world::role_of;

/// Steps between two looks at all coordinators. At the one whose code has run it looks after every step.
const LOOK_EVERY: u64 = 8;

/// Steps between two looks at everything that is counted, and at the whole states of coordinators.
const COUNT_EVERY: u64 = 1000;

/// All checks of a run.
#[derive(Default)]
pub struct Checks {
    /// Raft's own.
    pub raft: Mutex<Raft>,
    /// C1.
    pub directory: Mutex<Directory>,
    /// C2.
    pub residence: Mutex<Residence>,
    /// C3.
    pub order: Mutex<Order>,
    /// C6.
    pub time: Mutex<Time>,
    /// C10.
    pub recovery: Mutex<Recovery>,
    /// The last look at the coordinators.
    pub look: Mutex<Look>,
    /// Numbers of the workload's sets, as the log gave them.
    sets: Mutex<BTreeMap<Hop, u16>>,
    /// The sessions of clients, and whether their streams count yet.
    sessions: Mutex<Vec<Session>>,
}

impl Checks {
    /// A session tells streams from now on.
    pub fn follow(&self, session: &Session) {
        lock(&self.sessions).push(session.clone());
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> Vec<Session> {
        lock(&self.sessions).clone()
    }
}

/// Looks at a cluster.
pub struct Observer {
    cluster: Arc<Cluster>,
    checks: Arc<Checks>,
    calls: u64,
    handled: Vec<Handling>,
    /// The incarnation whose device runs in a task.
    executors: BTreeMap<u64, u64>,
    /// What the state of a coordinator says, by its start; looked at when its applied index changes.
    says: BTreeMap<HostId, Says>,
    /// What a trace that is written is told of the log and of devices.
    fence: Option<FenceSteps>,
}

/// What a look at the coordinators says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// A coordinator is in charge.
    pub led: bool,
    /// Every shard of every set is placed, as far as the one in charge knows.
    pub placed: bool,
    /// Sets that it knows.
    pub sets: usize,
    /// Nodes that it takes for alive.
    pub alive: usize,
}

/// What the state of a coordinator says at an applied index.
#[derive(Debug, Clone, Copy)]
struct Says {
    start: u64,
    applied: u64,
    digest: u64,
    placed: bool,
    sets: usize,
    alive: usize,
}

impl Observer {
    /// Of one cluster.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, checks: Arc<Checks>) -> Self {
        let fence = cluster.world.core.trace.is_written().then(FenceSteps::default);
        let (handled, executors, says) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { cluster, checks, calls: 0, handled, executors, says, fence }
    }

    /// Called after every step.
    ///
    /// # Errors
    /// What broke.
    pub fn step(&mut self) -> Result<(), Violation> {
        self.calls += 1;
        if let Some(violation) = self.cluster.take_violation() {
            return Err(violation);
        }
        if let Some(fence) = &mut self.fence {
            fence.look(&self.cluster);
        }
        let core = &self.cluster.world.core;
        let last = core.take_last_host();
        let all = self.calls.is_multiple_of(LOOK_EVERY);
        // First what the log has given, then what was done with it.
        if all {
            self.look()?;
        } else if role_of(last) == Role::Coordinator && last != WORLD {
            self.look_at(last)?;
        }
        actors::take(&mut self.handled);
        if !self.handled.is_empty() {
            self.handle()?;
        }
        if self.calls.is_multiple_of(COUNT_EVERY) {
            self.count()?;
        }
        if !all {
            return Ok(());
        }
        if let Some(panic) = self.cluster.world.core.first_panic() {
            return Err(panic);
        }
        let look = *lock(&self.checks.look);
        // A node that is lost is missed after its lease and the margin of it.
        let lease_ns = u64::from(self.cluster.scenario.lease_ms) * 1_100_000 + 650_000_000;
        lock(&self.checks.recovery).see(self.cluster.world.core.now_ns(), look.led, look.placed, lease_ns)
    }

    /// Looks at every coordinator.
    fn look(&mut self) -> Result<(), Violation> {
        let mut look = Look::default();
        let cluster = self.cluster.clone();
        cluster.each_service(|host, start, service| -> Result<(), Violation> {
            if let Some(in_charge) = self.see(host, start, service)? {
                look = in_charge;
            }
            Ok(())
        })?;
        *lock(&self.checks.look) = look;
        Ok(())
    }

    /// Looks at the coordinator whose code has just run.
    fn look_at(&mut self, host: HostId) -> Result<(), Violation> {
        let Some((start, service)) = self.cluster.service_of(host) else { return Ok(()) };
        if let Some(look) = self.see(host, start, &service)? {
            *lock(&self.checks.look) = look;
        }
        Ok(())
    }

    /// Looks at a coordinator; says what it knows if it is in charge.
    fn see(&mut self, host: HostId, start: u64, service: &Service) -> Result<Option<Look>, Violation> {
        let mut raft = lock(&self.checks.raft);
        let (term, leads) = service.group.standing();
        let state = service.group.published().state();
        let applied = state.applied_index();
        let says = match self.says.get(&host) {
            Some(says) if (says.start, says.applied) == (start, applied) => *says,
            _ => {
                let known = raft.see_state(host, start, &state)?;
                if known.is_new {
                    self.see_shards(&state)?;
                }
                let placed = state.shards().all(|(_, shard)| shard.owner.is_some());
                let (sets, alive) = (state.sets().count(), state.alive().count());
                let says = Says { start, applied, digest: known.digest, placed, sets, alive };
                self.says.insert(host, says);
                says
            }
        };
        drop(state);
        let in_charge = leads && service.leases.term() == Some(term);
        raft.see(Seen { host, start, term, leads, in_charge, applied, digest: says.digest })?;
        let Says { placed, sets, alive, .. } = says;
        Ok(in_charge.then_some(Look { led: true, placed, sets, alive }))
    }

    /// What the log has given to whom.
    fn see_shards(&self, state: &ClusterState) -> Result<(), Violation> {
        lock(&self.checks.directory).opened(|session| state.session(SessionId(session)).is_some())?;
        let mut residence = lock(&self.checks.residence);
        let mut sets = lock(&self.checks.sets);
        for hop in [Hop::Relay, Hop::Sink] {
            if let Some(set) = state.set_named(hop.name()) {
                sets.insert(hop, set.set);
            }
        }
        for member in state.members() {
            residence.admit(member.incarnation, &member.name, member.boot)?;
        }
        for (shard, record) in state.shards() {
            if let Some(owner) = record.owner {
                residence.give((shard.set.0, shard.index.0), record.epoch, owner.incarnation)?;
            }
        }
        Ok(())
    }

    /// What actors have done.
    fn handle(&mut self) -> Result<(), Violation> {
        let true_ms = WALL_START_MS + self.cluster.world.core.now_ns() / 1_000_000;
        let sets = lock(&self.checks.sets).clone();
        let mut residence = lock(&self.checks.residence);
        let mut order = lock(&self.checks.order);
        let mut time = lock(&self.checks.time);
        for handling in self.handled.drain(..) {
            let Handling { hop, key, host, task, of, .. } = handling;
            let Some(set) = sets.get(&hop) else {
                return Err(format!("C2: host {} runs {}, a set that was never applied", host.0, hop.name()));
            };
            if let Some(shard) = KeySpace::Hashed.shard_of(SHARDS, key) {
                let executor = match self.executors.get(&task) {
                    Some(known) => *known,
                    None => {
                        let Some(now) = self.cluster.incarnation_at(host).filter(|incarnation| *incarnation != 0)
                        else {
                            return Err(format!("C2: host {} executes without having joined", host.0));
                        };
                        self.executors.insert(task, now);
                        now
                    }
                };
                residence.execute((*set, shard.0), executor)?;
                if let Some(fence) = &mut self.fence {
                    fence.executed(&self.cluster, host, executor);
                }
            }
            time.handle(&handling, true_ms)?;
            if let Some((session, seq)) = of {
                order.handle(hop, session, key, seq)?;
            }
        }
        Ok(())
    }

    /// Counters of nodes, what sessions say of their losses, and the whole states of coordinators.
    fn count(&self) -> Result<(), Violation> {
        self.cluster.each_service(|host, _, service| {
            lock(&self.checks.raft).see_whole(host, &service.group.published().state())
        })?;
        for (_, shared) in self.cluster.agents() {
            counted(&shared).check(&BOUNDS)?;
        }
        let order = lock(&self.checks.order);
        for session in lock(&self.checks.sessions).iter() {
            order.losses(u64::from(session.id().0), session.counters().lost)?;
        }
        Ok(())
    }
}

/// The counters of a node.
#[must_use]
pub fn counted(shared: &Shared) -> Counted {
    let snapshot = shared.snapshot();
    Counted { node: snapshot.node.clone(), ledger: snapshot.ledger, workers: snapshot.workers() }
}
