//! What runs on which host: the shipped code, started the way its processes start it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use ringfleet_actor::TypeRegistry;
use ringfleet_client::{Client, ClientConfig};
use ringfleet_coordinator::service::Service;
use ringfleet_coordinator::store::StoreError;
use ringfleet_coordinator::{Coordinator, CoordinatorConfig, CoordinatorError, Peer};
use ringfleet_env::Env;
use ringfleet_gpu::CpuDeviceConfig;
use ringfleet_node::shared::Shared;
use ringfleet_node::{DeviceConfig, NodeConfig};

use crate::actors;
use crate::checks::c7_conservation::Bounds;
use crate::exec::{HostId, lock};
use crate::faults;
use crate::identity::CLUSTER;
use crate::mutants::Mutant;
use crate::rng::{Purpose, Rng};
use crate::scenario::Scenario;
use crate::world::{End, World, addr_of, client, coordinator, data_dir, name_of, node, role_of};
use ringfleet_link::{Role, file};

/// How long a process that has stopped by itself stays down, most.
const DOWN_MS_MAX: u64 = 1_500;

/// Shards of each set of the workload.
pub const SHARDS: u16 = 8;
/// Messages that a node keeps for others.
const OUTBOUND_MAX: usize = 4096;
/// The devices of nodes: small, so that bounds are met.
const DEVICE: CpuDeviceConfig = CpuDeviceConfig {
    workers: 2,
    ring_slots: 16,
    ingress_slots: 256,
    egress_slots: 32,
    control_slots: 256,
    status_slots: 256,
    spill_slots: 512,
    batch: 32,
    timers_max: 64,
    spin_ns: 0,
    stall_ns: CpuDeviceConfig::DEFAULT.stall_ns,
};
/// Records between two snapshots of a coordinator: few, so that logs are purged and snapshots are sent.
const SNAPSHOT_EVERY: u64 = 60;
/// Where a node finds its certificate.
const IDENTITY_DIR: &str = "/identity";

/// What may wait at a node.
pub const BOUNDS: Bounds = Bounds {
    outbound: OUTBOUND_MAX as u64,
    pending: DEVICE.workers as u64 * ringfleet_proto::limits::PENDING_WORKER_MAX as u64,
    spill: DEVICE.workers as u64 * DEVICE.spill_slots as u64,
    timers: DEVICE.workers as u64 * DEVICE.timers_max as u64,
};

/// What is counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Faults, by kind.
    pub faults: Mutex<faults::Counts>,
    /// Operations and their outcomes.
    pub ops: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counts {
    /// One more of these.
    pub fn op(&self, name: &'static str) {
        *lock(&self.ops).entry(name).or_default() += 1;
    }
}

/// How far the replacement of a coordinator is that has lost its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replacing {
    /// It is still a member.
    Remove,
    /// It is to become one again, with an empty folder.
    Add,
}

/// The cluster of a run.
pub struct Cluster {
    /// The hosts.
    pub world: Arc<World>,
    /// What it looks like.
    pub scenario: &'static Scenario,
    /// What is wrong on purpose.
    pub mutant: Option<Mutant>,
    /// What is counted.
    pub counts: Counts,
    services: Mutex<BTreeMap<HostId, (u64, Weak<Service>)>>,
    agents: Mutex<BTreeMap<HostId, Weak<Shared>>>,
    starts: Mutex<u64>,
    violations: Mutex<Vec<String>>,
    working: AtomicBool,
    /// The coordinator that is being replaced, and how far that is.
    replacement: Mutex<Option<(HostId, Replacing)>>,
    /// Tellers of whose messages nothing is open.
    pub drained: AtomicU64,
    rng: Mutex<Rng>,
}

impl Cluster {
    /// A cluster of which nothing runs.
    #[must_use]
    pub fn new(world: Arc<World>, scenario: &'static Scenario, seed: u64, mutant: Option<Mutant>) -> Arc<Self> {
        Arc::new(Self {
            world,
            scenario,
            mutant,
            counts: Counts::default(),
            services: Mutex::default(),
            agents: Mutex::default(),
            starts: Mutex::new(0),
            violations: Mutex::default(),
            working: AtomicBool::new(true),
            replacement: Mutex::default(),
            drained: AtomicU64::new(0),
            rng: Mutex::new(Rng::new(seed ^ 0x5eed, Purpose::Faults)),
        })
    }

    /// The coordinators.
    pub fn coordinators(&self) -> impl Iterator<Item = HostId> + use<> {
        (1..=self.scenario.coordinators).map(coordinator)
    }

    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = HostId> + use<> {
        (1..=self.scenario.nodes).map(node)
    }

    /// The clients.
    pub fn clients(&self) -> impl Iterator<Item = HostId> + use<> {
        (1..=self.scenario.clients).map(client)
    }

    /// Coordinators and nodes.
    #[must_use]
    pub fn servers(&self) -> Vec<HostId> {
        self.coordinators().chain(self.nodes()).collect()
    }

    /// All hosts.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostId> {
        self.coordinators().chain(self.nodes()).chain(self.clients()).collect()
    }

    /// Whether clients go on.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.working.load(Ordering::Relaxed)
    }

    /// Clients come to an end.
    pub fn stop_work(&self) {
        self.working.store(false, Ordering::Relaxed);
    }

    /// What broke outside the checks.
    pub fn violation(&self, what: String) {
        lock(&self.violations).push(what);
    }

    /// Takes what broke.
    #[must_use]
    pub fn take_violation(&self) -> Option<String> {
        lock(&self.violations).pop()
    }

    /// The services of the coordinators that run, with the number of their start.
    #[must_use]
    pub fn services(&self) -> Vec<(HostId, u64, Arc<Service>)> {
        let services = lock(&self.services);
        services.iter().filter_map(|(host, (start, service))| Some((*host, *start, service.upgrade()?))).collect()
    }

    /// Calls `see` with every coordinator that runs and the number of its start, until one of them breaks something.
    ///
    /// # Errors
    /// What `see` gives.
    pub fn each_service<E>(&self, mut see: impl FnMut(HostId, u64, &Service) -> Result<(), E>) -> Result<(), E> {
        let services = lock(&self.services);
        services.iter().try_for_each(|(host, (start, service))| match service.upgrade() {
            Some(service) => see(*host, *start, &service),
            None => Ok(()),
        })
    }

    /// The service of a coordinator, if it runs, with the number of its start.
    #[must_use]
    pub fn service_of(&self, host: HostId) -> Option<(u64, Arc<Service>)> {
        let services = lock(&self.services);
        services.get(&host).and_then(|(start, service)| Some((*start, service.upgrade()?)))
    }

    /// What the agents that run show of themselves.
    #[must_use]
    pub fn agents(&self) -> Vec<(HostId, Arc<Shared>)> {
        lock(&self.agents).iter().filter_map(|(host, shared)| Some((*host, shared.upgrade()?))).collect()
    }

    /// A coordinator has lost its disk, unless another one is being replaced: a quorum of three bears one at a time.
    pub fn begin_replacement(&self, host: HostId) -> bool {
        let mut replacement = lock(&self.replacement);
        let free = replacement.is_none();
        replacement.get_or_insert((host, Replacing::Remove));
        free
    }

    /// What an operator has to do about a coordinator.
    #[must_use]
    pub fn replacement(&self) -> Option<(HostId, Replacing)> {
        *lock(&self.replacement)
    }

    /// The next step, `None` at the end.
    pub fn replaced(&self, next: Option<(HostId, Replacing)>) {
        *lock(&self.replacement) = next;
    }

    /// Starts a process if it does not run.
    pub fn start_if_down(self: &Arc<Self>, host: HostId) {
        if self.world.is_up(host) {
            return;
        }
        self.world.note("start", host, "");
        let cluster = self.clone();
        match role_of(host) {
            Role::Coordinator => self.world.start(host, move |env| cluster.run_coordinator(host, env)),
            Role::Node => self.world.start(host, move |env| cluster.run_node(host, env)),
            _ => cluster.violation(format!("nothing to start at {}", name_of(host))),
        }
        if let (Some(Mutant::ForgetfulDisk), Some(disk)) = (self.mutant, self.world.disk(host)) {
            disk.forget_syncs();
        }
    }

    /// Starts a process later.
    pub fn start_later(self: &Arc<Self>, host: HostId, after_ms: u64) {
        let cluster = self.clone();
        let at_ns = self.world.core.now_ns() + after_ms * 1_000_000;
        self.world.core.at(at_ns, move || cluster.start_if_down(host));
    }

    /// A process has stopped by itself: its host is started again a little later, as a supervisor would.
    fn exited(self: &Arc<Self>, host: HostId, why: &str) {
        self.world.note("exit", host, why);
        self.counts.op("exits");
        let (cluster, mut rng) = (self.clone(), lock(&self.rng).fork());
        self.world.core.at(self.world.core.now_ns(), move || {
            cluster.world.end(host, End::Killed, &mut rng);
            cluster.start_later(host, rng.between(50, DOWN_MS_MAX));
        });
    }

    async fn run_coordinator(self: Arc<Self>, host: HostId, env: Env) {
        let peers = self.coordinators().map(|host| Peer { name: name_of(host), addr: addr_of(host).to_string() });
        let identity = self.world.authority.of(host);
        let mut config = CoordinatorConfig::new(&name_of(host), data_dir(), addr_of(host), peers.collect(), identity);
        config.lease_ms = self.scenario.lease_ms;
        config.timing.snapshot_every = SNAPSHOT_EVERY;
        match Coordinator::start(env, config).await {
            Ok(mut running) => {
                let start = {
                    let mut starts = lock(&self.starts);
                    *starts += 1;
                    *starts
                };
                lock(&self.services).insert(host, (start, Arc::downgrade(running.service())));
                let why = running.failed().await;
                running.shutdown().await;
                self.exited(host, &why);
            }
            Err(CoordinatorError::Store(error @ StoreError::Damaged { .. })) => {
                self.violation(format!("C1: {} cannot start after a crash: {error}", name_of(host)));
            }
            Err(error) => self.exited(host, &error.to_string()),
        }
    }

    async fn run_node(self: Arc<Self>, host: HostId, env: Env) {
        let folder = PathBuf::from(IDENTITY_DIR);
        if let Err(error) = self.world.authority.of(host).save(&*env.disk(), &folder) {
            return self.exited(host, &error.to_string());
        }
        let types = match TypeRegistry::new(actors::types()) {
            Ok(types) => types,
            Err(error) => return self.violation(error.to_string()),
        };
        let config = NodeConfig {
            cluster: CLUSTER.to_owned(),
            name: name_of(host),
            listen: addr_of(host),
            advertise: None,
            http: addr_of(host),
            coordinators: self.coordinators().map(|host| addr_of(host).to_string()).collect(),
            ca: folder.join(file::CA_CERTIFICATE),
            cert: folder.join(file::CERTIFICATE),
            key: folder.join(file::KEY),
            devices: vec![DeviceConfig::Cpu(DEVICE)],
            state: None,
            actors_per_shard: 1 << 10,
            outbound_max: OUTBOUND_MAX,
            join_deadline: NodeConfig::JOIN_DEADLINE,
            clients_max: NodeConfig::CLIENTS_MAX,
        };
        let started = |started: ringfleet_node::Started| {
            lock(&self.agents).insert(host, Arc::downgrade(&started.shared));
        };
        let ended = ringfleet_node::run(env, config, types, started, std::future::pending()).await;
        self.exited(host, &ended.err().map_or_else(String::new, |error| error.to_string()));
    }

    /// The incarnation that the agent of a host has joined as, 0 before it has.
    #[must_use]
    pub fn incarnation_at(&self, host: HostId) -> Option<u64> {
        let shared = lock(&self.agents).get(&host)?.upgrade()?;
        Some(shared.snapshot().incarnation)
    }

    /// A client on a client's host.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn client(&self, host: HostId, env: &Env) -> Result<Client, String> {
        let coordinators = self.coordinators().map(|host| addr_of(host).to_string()).collect();
        let config = ClientConfig::new(coordinators, self.world.authority.of(host));
        Client::new(env, config).map_err(|error| error.to_string())
    }
}
