//! The observer: looks at the cluster between two steps and asks the checks.

use std::sync::{Arc, Mutex};

use crate::checks::Violation;
use crate::checks::c1_directory::Directory;
use crate::checks::c10_recovery::Recovery;
use crate::checks::raft::{Raft, Seen, digest};
use crate::cluster::Cluster;
use crate::exec::lock;

/// Steps between two looks at the coordinators.
const LOOK_EVERY: u64 = 8;

/// All checks of a run.
#[derive(Default)]
pub struct Checks {
    /// Raft's own.
    pub raft: Mutex<Raft>,
    /// C1.
    pub directory: Mutex<Directory>,
    /// C10.
    pub recovery: Mutex<Recovery>,
}

/// Looks at a cluster.
pub struct Observer {
    cluster: Arc<Cluster>,
    checks: Arc<Checks>,
    calls: u64,
    panics: usize,
}

/// What a look at the coordinators says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// A coordinator is in charge.
    pub led: bool,
    /// Every shard of every set is placed, as far as the one in charge knows.
    pub placed: bool,
}

impl Observer {
    /// Of one cluster.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>, checks: Arc<Checks>) -> Self {
        Self { cluster, checks, calls: 0, panics: 0 }
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
        if !self.calls.is_multiple_of(LOOK_EVERY) {
            return Ok(());
        }
        let panics = self.cluster.world.core.panics();
        if panics.len() > self.panics {
            return Err(panics[self.panics].clone());
        }
        let look = self.look()?;
        // A node that is lost is missed after its lease and the margin of it.
        let lease_ns = u64::from(self.cluster.scenario.lease_ms) * 1_100_000 + 650_000_000;
        lock(&self.checks.recovery).see(self.cluster.world.core.now_ns(), look.led, look.placed, lease_ns)
    }

    /// Looks at every coordinator.
    ///
    /// # Errors
    /// What broke.
    pub fn look(&mut self) -> Result<Look, Violation> {
        let mut raft = lock(&self.checks.raft);
        let mut look = Look::default();
        for (host, start, service) in self.cluster.services() {
            let status = service.group.status();
            let state = service.group.published().state();
            let applied = state.applied_index();
            let digest = match raft.known(host, start, applied) {
                Some(known) => known,
                None => {
                    raft.see_state(host, start, &state)?;
                    digest(&state)
                }
            };
            let in_charge = status.leads && service.leases.term() == Some(status.term);
            let (term, leads) = (status.term, status.leads);
            raft.see(Seen { host, start, term, leads, in_charge, applied, digest })?;
            if in_charge {
                let placed = state.shards().all(|(_, shard)| shard.owner.is_some());
                look = Look { led: true, placed };
            }
        }
        Ok(look)
    }
}
