//! Coordinators of one process over a network in memory, with everything but links: disk, group, steward, services.

use crate::config::{Peer, Timing};
use crate::metrics::Metrics;
use crate::raft::Group;
use crate::run::new_id;
use crate::service::{Caller, Service};
use crate::standing::Standing;
use crate::steward::{Leases, Steward};
use crate::store::{Owner, Store};
use crate::transport::{BoxFuture, Transport, TransportError};
use ringfleet_env::{Clock, Env, SystemClock, TaskHandle};
use ringfleet_proto::control::{
    ActorSet, AdminAnswer, AdminReply, AdminRequest, AdminVerb, ClockSample, DeviceKind, DeviceReport, Failure, Joined,
    Load, NodeAnswer, NodeReply, NodeRequest, Role, TypeReport, decode, encode,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

pub const CLUSTER: &str = "test";
/// What must happen, happens within this time, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const LEASE_MS: u32 = 1000;

#[derive(Debug, Default)]
pub struct Net {
    services: Mutex<BTreeMap<String, Weak<Service>>>,
    /// Who is cut off from everybody else.
    pub cut: Mutex<BTreeSet<String>>,
}

#[derive(Debug)]
struct Wire {
    env: Env,
    own: String,
    net: Arc<Net>,
}

impl Transport for Wire {
    fn follow(&self, _members: &[Peer]) {}

    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        request: Vec<u8>,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        Box::pin(async move {
            let cut = |name: &str| self.net.cut.lock().unwrap().contains(name);
            if cut(&self.own) || cut(&peer.name) {
                self.env.sleep(limit).await;
                return Err(TransportError::Late { peer: peer.name.clone(), limit });
            }
            let service = self.net.services.lock().unwrap().get(&peer.name).and_then(Weak::upgrade);
            let Some(service) = service else {
                let reason = "no such process".to_owned();
                return Err(TransportError::Unreachable { peer: peer.name.clone(), reason });
            };
            let caller = Caller { role: Role::Coordinator, name: self.own.clone() };
            let reply = self.env.timeout(limit, service.handle(&caller, &request)).await;
            let late = || TransportError::Late { peer: peer.name.clone(), limit };
            // The reply of one that was cut off meanwhile is lost.
            reply.ok().filter(|_| !cut(&self.own) && !cut(&peer.name)).ok_or_else(late)
        })
    }
}

/// The machine's clock, with a wrong wall clock.
#[derive(Debug)]
struct Skewed {
    ahead_ms: i64,
}

impl Clock for Skewed {
    fn monotonic_ns(&self) -> u64 {
        SystemClock.monotonic_ns()
    }

    fn wall_ms(&self) -> u64 {
        SystemClock.wall_ms().saturating_add_signed(self.ahead_ms)
    }
}

pub struct Node {
    pub service: Arc<Service>,
    tasks: Vec<TaskHandle>,
    /// Why its process would have to stop.
    fatal: tokio::sync::watch::Receiver<Option<String>>,
}

impl Node {
    /// Why its process has to stop, waited for.
    pub async fn stopped(&self, env: &Env) -> String {
        let mut fatal = self.fatal.clone();
        let told = env.timeout(PATIENCE, fatal.wait_for(Option::is_some)).await.expect("it stops in time");
        told.expect("it still runs").clone().unwrap_or_default()
    }

    /// Ends the steward, and nothing else.
    pub async fn end_steward(&mut self) {
        let steward = self.tasks.remove(0);
        steward.abort();
        let _ = steward.await;
    }

    pub fn group(&self) -> &Arc<Group> {
        &self.service.group
    }
}

pub struct Cluster {
    pub env: Env,
    pub net: Arc<Net>,
    pub peers: Vec<Peer>,
    pub nodes: BTreeMap<String, Node>,
    /// Coordinators whose wall clock is off, by so many ms, from their next start on.
    pub skewed: BTreeMap<String, i64>,
    root: tempfile::TempDir,
}

impl Cluster {
    /// `count` coordinators, c1, c2, ..., all started.
    pub async fn start(env: &Env, count: usize) -> Self {
        let peers = (1..=count).map(|at| Peer { name: format!("c{at}"), addr: format!("c{at}.test:7000") }).collect();
        let root = tempfile::tempdir().unwrap();
        let mut cluster = Self {
            env: env.clone(),
            net: Arc::default(),
            peers,
            nodes: BTreeMap::new(),
            skewed: BTreeMap::new(),
            root,
        };
        for peer in cluster.peers.clone() {
            cluster.boot(&peer.name).await;
        }
        cluster
    }

    /// The first start of `count` coordinators, one of which is late.
    pub async fn boot_all_but(&mut self, count: usize, late: &str) {
        self.peers = (1..=count).map(|at| Peer { name: format!("c{at}"), addr: format!("c{at}.test:7000") }).collect();
        for peer in self.peers.clone() {
            if peer.name != late {
                self.boot(&peer.name).await;
            }
        }
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Starts one more coordinator, with an empty folder and a list of all. It is no member yet.
    pub async fn boot_new(&mut self, name: &str) {
        self.peers.push(Peer { name: name.into(), addr: format!("{name}.test:7000") });
        self.boot(name).await;
    }

    /// Takes the data of a coordinator that does not run.
    pub fn wipe(&self, name: &str) {
        std::fs::remove_dir_all(self.folder(name)).unwrap();
    }

    pub async fn boot(&mut self, name: &str) {
        let env = match self.skewed.get(name) {
            Some(&ahead_ms) => self.env.with_clock(Arc::new(Skewed { ahead_ms })),
            None => self.env.clone(),
        };
        let owner = Owner { cluster: CLUSTER.into(), name: name.into() };
        let opened = Store::open(&env.disk(), &self.folder(name), &owner, new_id(&env)).unwrap();
        let wire = Arc::new(Wire { env: env.clone(), own: name.into(), net: self.net.clone() });
        let group = Group::start(&env, CLUSTER, name, &self.peers, Timing::DEFAULTS, opened, wire).await.unwrap();
        let group = Arc::new(group);
        let leases = Arc::new(Leases::default());
        let service = Arc::new(Service {
            env: env.clone(),
            cluster: CLUSTER.into(),
            group: group.clone(),
            leases: leases.clone(),
            metrics: Arc::new(Metrics::new().unwrap()),
        });
        self.net.services.lock().unwrap().insert(name.into(), Arc::downgrade(&service));
        let (fatal, told) = tokio::sync::watch::channel(None);
        let first = (CLUSTER.to_owned(), LEASE_MS);
        let standing = Standing { env: env.clone(), group: group.clone(), fatal: fatal.clone() };
        let steward = Steward { env: env.clone(), group, leases, first, fatal };
        let tasks = vec![
            env.spawn("steward", steward.run()).abort_on_drop(),
            env.spawn("standing", standing.run()).abort_on_drop(),
        ];
        self.nodes.insert(name.into(), Node { service, tasks, fatal: told });
    }

    /// Takes a coordinator away without a word to the others, and waits until its file is closed.
    pub async fn kill(&mut self, name: &str) {
        self.net.services.lock().unwrap().remove(name);
        let node = self.nodes.remove(name).unwrap();
        node.group().shutdown().await;
        for task in node.tasks {
            task.abort();
            let _ = task.await;
        }
        let writer = node.service.group.take_writer().unwrap();
        drop(node.service);
        self.env.timeout(PATIENCE, writer).await.expect("the writer ends with the group");
    }

    pub async fn ask(&self, name: &str, caller: (Role, &str), request: AdminRequest) -> Result<AdminAnswer, Failure> {
        let caller = Caller { role: caller.0, name: caller.1.into() };
        let reply = self.nodes[name].service.handle(&caller, &encode(&request).unwrap()).await;
        decode::<AdminReply>(&reply).unwrap().into()
    }

    pub async fn node_ask(&self, name: &str, caller: &str, request: &NodeRequest) -> Result<NodeAnswer, Failure> {
        let caller = Caller { role: Role::Node, name: caller.into() };
        let reply = self.nodes[name].service.handle(&caller, &encode(request).unwrap()).await;
        decode::<NodeReply>(&reply).unwrap().into()
    }

    /// Asks every coordinator that is reachable until one answers, the way clients do.
    pub async fn operate(&self, operation: u128, verb: AdminVerb) -> Result<AdminAnswer, Failure> {
        let give_up = self.env.now() + PATIENCE;
        let mut last = None;
        while self.env.now() < give_up {
            for name in self.reachable() {
                let request = AdminRequest { operation, deadline_ms: 1000, verb: verb.clone() };
                match self.ask(&name, (Role::Operator, "op"), request).await {
                    Err(Failure::NotLeader { .. } | Failure::Unavailable { .. } | Failure::Unknown { .. }) => {}
                    result => return result,
                }
                last = Some(name);
            }
            self.env.sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody answered, the last was {last:?}");
    }

    pub async fn node_operate(&self, caller: &str, request: NodeRequest) -> Result<NodeAnswer, Failure> {
        let give_up = self.env.now() + PATIENCE;
        while self.env.now() < give_up {
            for name in self.reachable() {
                match self.node_ask(&name, caller, &request).await {
                    Err(Failure::NotLeader { .. } | Failure::Unavailable { .. } | Failure::Unknown { .. }) => {}
                    result => return result,
                }
            }
            self.env.sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody answered");
    }

    fn reachable(&self) -> Vec<String> {
        let cut = self.net.cut.lock().unwrap();
        self.nodes.keys().filter(|name| !cut.contains(*name)).cloned().collect()
    }

    /// The coordinator that leads and is not cut off, once one has confirmed it.
    pub async fn leader(&self) -> String {
        let give_up = self.env.now() + PATIENCE;
        while self.env.now() < give_up {
            for name in self.reachable() {
                let deadline = self.env.now() + Duration::from_millis(500);
                let node = &self.nodes[&name];
                if node.group().confirm(deadline).await.is_ok() && node.service.leases.snapshot().is_some() {
                    return name;
                }
            }
            self.env.sleep(Duration::from_millis(10)).await;
        }
        panic!("no leader");
    }

    pub async fn join(&self, name: &str, boot: u128) -> Result<Joined, Failure> {
        self.join_with_clock(name, boot, 0).await
    }

    /// Joins with a clock that is so much ahead of the leader's.
    pub async fn join_with_clock(&self, name: &str, boot: u128, offset_ms: i64) -> Result<Joined, Failure> {
        let give_up = self.env.now() + PATIENCE;
        while self.env.now() < give_up {
            let NodeAnswer::Clock(reading) = self.node_operate(name, NodeRequest::ReadClock).await? else { panic!() };
            let sample = ClockSample { coordinator: reading.coordinator, number: 0, offset_ms, error_ms: 1 };
            match self.node_operate(name, join(name, boot, Some(sample))).await? {
                NodeAnswer::Joined(joined) => return Ok(joined),
                // Another leader since.
                NodeAnswer::Clock(_) => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("the leader changes all the time");
    }

    pub async fn create(&self, operation: u128, set: &str) -> Result<AdminAnswer, Failure> {
        let mut document = ActorSet::new(set, "t");
        document.spec.shards = 8;
        self.operate(operation, AdminVerb::Apply { document }).await
    }

    /// What every caller sees of the placement.
    pub async fn directory(&self) -> ringfleet_proto::control::Directory {
        match self.operate(0, AdminVerb::Directory { have_index: 0, wait_ms: 0 }).await {
            Ok(AdminAnswer::Directory(directory)) => directory,
            other => panic!("{other:?}"),
        }
    }
}

pub fn join(name: &str, boot: u128, clock: Option<ClockSample>) -> NodeRequest {
    NodeRequest::Join {
        cluster: CLUSTER.into(),
        name: name.into(),
        boot,
        data_addr: format!("{name}.test:1"),
        http_addr: format!("{name}.test:2"),
        devices: vec![DeviceReport {
            index: 0,
            kind: DeviceKind::Cpu,
            workers: 2,
            memory_bytes: 1 << 20,
            gpus: vec![],
        }],
        types: vec![TypeReport {
            name: "t".into(),
            width: "lane".into(),
            code_hash: 1,
            layout_hash: 2,
            state_bytes: 8,
            max_sends: 8,
            layout: "n: u64".into(),
            state: vec![],
            handles: vec![],
            replies: vec![],
        }],
        clock,
        deadline_ms: 1000,
    }
}

pub fn renew(incarnation: u64) -> NodeRequest {
    renew_with_clock(incarnation, None)
}

pub fn renew_with_clock(incarnation: u64, clock: Option<ClockSample>) -> NodeRequest {
    NodeRequest::Renew { incarnation, applied_index: 0, clock, load: Load::default(), deadline_ms: 500 }
}
