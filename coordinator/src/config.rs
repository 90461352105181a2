//! Settings of a coordinator.

use ringfleet_coordinator_core::limits::{LEASE_MS_DEFAULT, LEASE_MS_MAX, LEASE_MS_MIN};
use ringfleet_coordinator_core::validate;
use ringfleet_link::{Identity, LinkConfig, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Coordinators of a cluster, most. More would make every record slower and nothing safer.
pub const PEERS_MAX: usize = 7;

/// A coordinator, as the others know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, also the one in its certificate.
    pub name: String,
    /// Its address, as `host:port`.
    pub addr: String,
}

/// Times of the Raft group. A dead leader is missed after `election_ms_max` and a random time between the two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between heartbeats. Shorter finds a dead leader earlier and costs packets.
    pub heartbeat_ms: u64,
    /// The least random wait before standing for election.
    pub election_ms_min: u64,
    /// The most, and how long a leader is trusted after it was heard last. Longer rides out a busy machine.
    pub election_ms_max: u64,
    /// Records between two snapshots. Fewer keep the log short, and write the whole state more often.
    pub snapshot_every: u64,
}

impl Timing {
    /// A killed leader is replaced within 2 s on a busy machine of two cores (C10).
    pub const DEFAULTS: Self =
        Self { heartbeat_ms: 100, election_ms_min: 250, election_ms_max: 500, snapshot_every: 2_000 };
}

/// Settings of a coordinator. Each field says what it trades.
#[derive(Debug)]
pub struct CoordinatorConfig {
    /// The cluster's name, also the one in all certificates.
    pub cluster: String,
    /// Who this coordinator is; one of `peers`.
    pub name: String,
    /// Where its log lives. Of one coordinator only.
    pub data_dir: PathBuf,
    /// Where it listens for nodes, clients and other coordinators (UDP).
    pub listen: SocketAddr,
    /// Where it serves health and metrics (TCP); absent: nowhere.
    pub http: Option<SocketAddr>,
    /// All coordinators, itself included. The first start of a cluster takes its members from here. Later it only says where this
    /// coordinator is to be reached, and whom to ask first: who is a member stands in the log.
    pub peers: Vec<Peer>,
    /// Its certificate.
    pub identity: Identity,
    /// How long a lease lasts, in a cluster that is started for the first time. Short places a dead node's shards early,
    /// long rides out a longer absence of the coordinators.
    pub lease_ms: u32,
    /// Times of the Raft group.
    pub timing: Timing,
    /// Settings of links.
    pub link: LinkConfig,
}

impl CoordinatorConfig {
    /// Everything but who and where is as by default.
    #[must_use]
    pub fn new(name: &str, data_dir: PathBuf, listen: SocketAddr, peers: Vec<Peer>, identity: Identity) -> Self {
        Self {
            cluster: identity.peer().cluster().to_owned(),
            name: name.to_owned(),
            data_dir,
            listen,
            http: None,
            peers,
            identity,
            lease_ms: LEASE_MS_DEFAULT,
            timing: Timing::DEFAULTS,
            link: LinkConfig::for_addr(listen.ip()),
        }
    }

    /// What is wrong with it, in one line.
    ///
    /// # Errors
    /// The line.
    pub fn check(&self) -> Result<(), String> {
        let names: BTreeSet<&str> = self.peers.iter().map(|peer| peer.name.as_str()).collect();
        if names.len() != self.peers.len() {
            return Err("two of the coordinators have the same name".to_owned());
        }
        if !names.contains(self.name.as_str()) {
            return Err(format!("coordinator `{}` is not among the peers {}", self.name, list(&names)));
        }
        if self.peers.len() > PEERS_MAX {
            return Err(format!("{} coordinators, at most {PEERS_MAX}", self.peers.len()));
        }
        for Peer { name, addr } in &self.peers {
            validate::name("coordinator name", name).map_err(|refusal| refusal.message)?;
            validate::address("coordinator address", addr).map_err(|refusal| refusal.message)?;
        }
        let own = self.peers.iter().find(|peer| peer.name == self.name);
        if let Some(addr) =
            own.and_then(|own| own.addr.parse::<SocketAddr>().ok()).filter(|own| own.ip().is_unspecified())
        {
            return Err(format!("`{addr}` of coordinator `{}` is no address to dial; give NAME=HOST:PORT", self.name));
        }
        if self.identity.peer().role() != Role::Coordinator {
            return Err(format!("the certificate is of {}, not of a coordinator", self.identity.peer()));
        }
        if self.identity.peer().name() != self.name || self.identity.peer().cluster() != self.cluster {
            return Err(format!(
                "the certificate is of {}, not of coordinator `{}` of cluster `{}`",
                self.identity.peer(),
                self.name,
                self.cluster
            ));
        }
        if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&self.lease_ms) {
            return Err(format!("lease_ms {} must be {LEASE_MS_MIN} to {LEASE_MS_MAX}", self.lease_ms));
        }
        let Timing { heartbeat_ms, election_ms_min, election_ms_max, snapshot_every } = self.timing;
        if snapshot_every == 0 {
            return Err("snapshot_every 0: there must be a record between two snapshots".to_owned());
        }
        if heartbeat_ms == 0 || election_ms_min < 2 * heartbeat_ms || election_ms_max <= election_ms_min {
            return Err(format!(
                "heartbeat_ms {heartbeat_ms}, election_ms_min {election_ms_min}, election_ms_max {election_ms_max}: each must be above the one before, and two heartbeats must fit into the second"
            ));
        }
        Ok(())
    }
}

fn list(names: &BTreeSet<&str>) -> String {
    names.iter().copied().collect::<Vec<_>>().join(", ")
}
