//! From a configuration to a running agent, incarnation after incarnation.

use std::{future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use ringfleet_actor::TypeRegistry;
use ringfleet_env::Env;
use ringfleet_link::{Alpn, Endpoint, Identity, LinkConfig, Role, RoleSet, code};
use ringfleet_proto::{
    DeviceConfig as ProtoDevice, NodeConfig as ProtoConfig, NodeProto, Now, OutboundConfig,
    control::{ClockSample, DeviceReport, Failure, Joined, NodeAnswer, NodeRequest, RefusalCode, TypeReport},
    limits,
};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    agent::{Agent, AgentParts, Ended, device_index},
    config::NodeConfig,
    coordinators::Coordinators,
    devices::{Devices, StartedDevice},
    error::NodeError,
    http::HealthPort,
    links::{Links, LinksConfig},
    membership::{Membership, measure},
    pump::Pump,
    shared::Shared,
};

/// How long one request to join waits before it is repeated.
const JOIN_TRY: Duration = Duration::from_secs(5);
/// Between two tries of a node that is kept out because of its clock.
const KEPT_OUT_PAUSE: Duration = Duration::from_secs(1);
/// Readings of the leader's clock before a join; the best one counts.
const CLOCK_READINGS: u64 = 4;
/// How long closing connections may take at the end.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);
/// The control connection: a coordinator that says nothing for this long is given up, so that a killed leader is not waited for.
const CONTROL_IDLE: Duration = Duration::from_secs(2);
/// How often a silent control connection is probed.
const CONTROL_KEEP_ALIVE: Duration = Duration::from_millis(500);
/// The roles that may open a data connection; what each may do is in the table of roles and verbs.
const DATA_ROLES: RoleSet = RoleSet::of(&[Role::Node, Role::Client, Role::Operator]);

/// Where a started agent can be reached.
#[derive(Clone, Debug)]
pub struct Started {
    /// Nodes and clients (QUIC over UDP).
    pub data: SocketAddr,
    /// Health and metrics (HTTP over TCP); an address where nobody listens in an environment without TCP.
    pub http: SocketAddr,
    /// What it shows of itself.
    pub shared: Arc<Shared>,
}

/// Runs an agent until `stop` is ready. `started` is called once its ports are open.
///
/// An incarnation that the coordinator has declared lost is given up with everything it held, and the agent joins as a new one.
///
/// # Errors
/// [`NodeError`]: it could not start, was refused, or a device has failed.
pub async fn run(
    env: Env,
    config: NodeConfig,
    types: TypeRegistry,
    started: impl FnOnce(Started),
    stop: impl Future<Output = ()> + Send,
) -> Result<(), NodeError> {
    let load = || {
        Identity::load_files(&*env.disk(), &config.cert, &config.key, &config.ca)
            .map_err(|error| NodeError::Identity { name: config.name.clone(), reason: error.to_string() })
    };
    let identity = load()?;
    check_identity(&config, &identity)?;
    let link_config = LinkConfig::for_addr(config.listen.ip());
    let wrap = |error: ringfleet_link::BindError| NodeError::Bind { reason: error.to_string() };
    let endpoint = Endpoint::bind(&env, config.listen, identity, link_config).map_err(wrap)?;
    let health = HealthPort::open(&env, config.http)?;
    let data = endpoint.local_addr().map_err(|error| NodeError::Bind { reason: error.to_string() })?;
    let http = health.addr();
    let shared = Arc::new(Shared::new(&env, &config.name));
    started(Started { data, http, shared: shared.clone() });
    tracing::info!(node = %config.name, %data, %http, "node started");

    let (joins, joins_rx) = mpsc::channel(1);
    let control = Control { env: env.clone(), config: config.clone(), data, http };
    let control = control.run(load()?, health, shared.clone(), joins_rx);
    let _control = env.spawn_on_own_thread("membership", control).map_err(NodeError::Thread)?.abort_on_drop();

    let devices = Devices::new(&env, &config.devices, &types, config.state.clone());
    let mut node = Node { env: env.clone(), config, types, endpoint: endpoint.clone(), shared, joins, devices };
    let outcome = node.incarnations(stop).await;
    endpoint.close(code::SHUTDOWN, "the node has stopped");
    // Peers that are not told notice by themselves.
    let _ = env.timeout(CLOSE_LIMIT, endpoint.wait_idle()).await;
    outcome
}

fn check_identity(config: &NodeConfig, identity: &Identity) -> Result<(), NodeError> {
    let peer = identity.peer();
    let reason = if peer.role() != Role::Node {
        format!("its certificate is of a {}", peer.role())
    } else if peer.name() != config.name {
        format!("its certificate is of node {}", peer.name())
    } else if peer.cluster() != config.cluster {
        format!("its certificate is of cluster {}", peer.cluster())
    } else {
        return Ok(());
    };
    Err(NodeError::Identity { name: config.name.clone(), reason })
}

/// A request to join; the answer is a running membership.
struct Join {
    boot: u128,
    devices: Vec<DeviceReport>,
    types: Vec<TypeReport>,
    /// Whether this process has been a member before: then a wrong clock is waited for.
    again: bool,
    answer: oneshot::Sender<Result<Membership, NodeError>>,
}

/// What runs on the membership's thread.
struct Control {
    env: Env,
    config: NodeConfig,
    data: SocketAddr,
    http: SocketAddr,
}

impl Control {
    async fn run(self, identity: Identity, health: HealthPort, shared: Arc<Shared>, mut joins: mpsc::Receiver<Join>) {
        let serve = self.env.spawn("health", health.serve(shared.clone())).abort_on_drop();
        // Any free port of the address that the node listens on: it only dials.
        let from = SocketAddr::new(self.config.listen.ip(), 0);
        let link_config = LinkConfig {
            idle_timeout: CONTROL_IDLE,
            keep_alive: CONTROL_KEEP_ALIVE,
            ..LinkConfig::for_addr(from.ip())
        };
        let endpoint = Endpoint::bind(&self.env, from, identity, link_config);
        // One for all incarnations: what was learned of the coordinators is not forgotten.
        let coordinators = endpoint.map(|endpoint| Coordinators::new(&self.env, endpoint, &self.config.coordinators));
        while let Some(join) = joins.recv().await {
            let joined = match &coordinators {
                Ok(coordinators) => self.join(coordinators.clone(), &join, &shared).await,
                Err(error) => Err(NodeError::Bind { reason: error.to_string() }),
            };
            // The agent has gone if nobody listens.
            let _ = join.answer.send(joined);
        }
        drop(serve);
    }

    /// The own clock against the leader's, from the best of some readings (C6).
    async fn read_clock(&self, coordinators: &Coordinators) -> Result<ClockSample, Failure> {
        let mut best: Option<ClockSample> = None;
        for number in 1..=CLOCK_READINGS {
            let (mut sent, mut sent_wall_ms) = (self.env.now(), 0);
            let make = || {
                sent = self.env.now();
                sent_wall_ms = self.env.wall_ms();
                NodeRequest::ReadClock
            };
            let answer = coordinators.call_made(make, JOIN_TRY).await?;
            let round_trip = self.env.now().saturating_since(sent);
            let NodeAnswer::Clock(reading) = answer else {
                return Err(Failure::Unknown { message: format!("unexpected answer {answer:?}") });
            };
            // The joined incarnation counts from 1: this one is before all of those.
            let sample = ClockSample { number: 0, ..measure(number, reading, sent_wall_ms, round_trip) };
            let better =
                best.is_none_or(|best| best.coordinator != sample.coordinator || sample.error_ms < best.error_ms);
            best = if better { Some(sample) } else { best };
        }
        best.ok_or_else(|| Failure::Unavailable { message: "the leader's clock was not read".to_owned() })
    }

    async fn join(&self, coordinators: Coordinators, join: &Join, shared: &Shared) -> Result<Membership, NodeError> {
        let config = &self.config;
        let request = |clock| NodeRequest::Join {
            cluster: config.cluster.clone(),
            name: config.name.clone(),
            boot: join.boot,
            data_addr: config.advertise.clone().unwrap_or_else(|| self.data.to_string()),
            http_addr: self.http.to_string(),
            devices: join.devices.clone(),
            types: join.types.clone(),
            clock: Some(clock),
            deadline_ms: u32::try_from(JOIN_TRY.as_millis()).unwrap_or(u32::MAX),
        };
        let deadline = self.env.now() + config.join_deadline;
        let mut told = String::new();
        loop {
            let answer = match self.read_clock(&coordinators).await {
                Ok(clock) => coordinators.call(&request(clock), JOIN_TRY).await,
                Err(failure) => Err(failure),
            };
            let last = match answer {
                Ok(NodeAnswer::Joined(joined)) => {
                    shared.update(|snapshot| snapshot.kept_out = None);
                    return Ok(self.member(coordinators, joined));
                }
                Ok(NodeAnswer::Clock(_)) => "the leader changed between measuring the clock and joining".to_owned(),
                Ok(other) => format!("unexpected answer {other:?}"),
                // A predecessor under this name lives until its lease ends: worth waiting for.
                Err(Failure::Refused(refusal))
                    if refusal.code == RefusalCode::NameInUse && self.env.now() < deadline =>
                {
                    refusal.message
                }
                // A clock may be set right while the process runs; it has nothing to lose by waiting.
                Err(Failure::Refused(refusal)) if refusal.code == RefusalCode::ClockOff && join.again => {
                    shared.update(|snapshot| snapshot.kept_out = Some(refusal.message.clone()));
                    if told.is_empty() {
                        tracing::error!(%refusal, "kept out until the clock is right");
                        told.clone_from(&refusal.message);
                    }
                    self.env.sleep(KEPT_OUT_PAUSE).await;
                    continue;
                }
                Err(Failure::Refused(refusal)) => return Err(self.refused(refusal.to_string())),
                Err(failure) => failure.to_string(),
            };
            if self.env.now() >= deadline {
                let (cluster, name) = (config.cluster.clone(), config.name.clone());
                let (tried, seconds) = (config.coordinators.join(", "), config.join_deadline.as_secs());
                return Err(NodeError::Unreachable { cluster, name, tried, seconds, last });
            }
            tracing::info!(%last, "not joined yet");
            self.env.sleep(Duration::from_millis(200)).await;
        }
    }

    fn member(&self, coordinators: Coordinators, joined: Joined) -> Membership {
        tracing::info!(node = joined.node, incarnation = joined.incarnation, lease_ms = joined.lease_ms, "joined");
        Membership::start(&self.env, coordinators, joined)
    }

    fn refused(&self, reason: String) -> NodeError {
        NodeError::Refused { cluster: self.config.cluster.clone(), name: self.config.name.clone(), reason }
    }
}

/// What runs on the agent's thread.
struct Node {
    env: Env,
    config: NodeConfig,
    types: TypeRegistry,
    endpoint: Endpoint,
    shared: Arc<Shared>,
    joins: mpsc::Sender<Join>,
    devices: Devices,
}

impl Node {
    async fn incarnations(&mut self, stop: impl Future<Output = ()> + Send) -> Result<(), NodeError> {
        let mut stop = pin!(stop);
        let mut again = false;
        loop {
            let agent = tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                agent = self.join(again) => agent?,
            };
            let (agent, links) = agent;
            let accept = self.accept(links)?;
            let ended = self.run_agent(agent, stop.as_mut()).await;
            // The listener must be gone before there is another one: dropping the handle would not wait for it.
            accept.abort();
            accept.await;
            again = true;
            match ended {
                Ended::Stopped => return Ok(()),
                Ended::Failed(error) => return Err(error),
                // Its incarnation has left, so that its shards were placed anew: the loss of a device is the loss of its incarnation.
                Ended::DeviceLost(lost) => {
                    self.devices.lost(&lost)?;
                    let health = self.devices.health();
                    self.shared.update(|snapshot| {
                        snapshot.device_health = health;
                        snapshot.incarnation = 0;
                    });
                }
                Ended::Fenced => {
                    tracing::warn!(node = %self.config.name, "fenced: this incarnation is given up, joining as a new one");
                    self.shared.update(|snapshot| {
                        snapshot.fenced_total += 1;
                        snapshot.incarnation = 0;
                    });
                }
            }
        }
    }

    /// Runs the loop as a task: on the thread that whoever wakes it runs on, mostly, instead of one that has to be woken for it.
    async fn run_agent(&self, agent: Agent, stop: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>) -> Ended {
        let (ask_to_stop, asked) = oneshot::channel();
        let (tell, mut ended) = oneshot::channel();
        let run = async move {
            // Nobody listens only if the node was dropped, which drops this task, too.
            let _ = tell.send(agent.run(asked).await);
        };
        let task = self.env.spawn("agent", run).abort_on_drop();
        let ended = tokio::select! {
            biased;
            ended = &mut ended => ended,
            () = stop => {
                // An agent that has ended by itself meanwhile needs no word.
                let _ = ask_to_stop.send(());
                // One that was fenced or lost a device meanwhile does not join again.
                ended.await.map(|ended| if matches!(ended, Ended::Fenced | Ended::DeviceLost(_)) { Ended::Stopped } else { ended })
            }
        };
        match ended {
            Ok(ended) => ended,
            // It panicked; its task says no more than that.
            Err(_) => Ended::Failed(NodeError::AgentFailed { end: format!("{:?}", task.await) }),
        }
    }

    /// Joins as a new incarnation, with new devices: whatever the old ones held belongs to nobody.
    async fn join(&mut self, again: bool) -> Result<(Agent, Links), NodeError> {
        // Before the lease begins: a GPU takes its time. They do nothing before it.
        let started = self.devices.start(&self.shared).await?;
        let boot = u128::from(self.env.random_u64()) << 64 | u128::from(self.env.random_u64());
        let (answer, answered) = oneshot::channel();
        let stopped = || NodeError::Thread(std::io::Error::other("the membership thread has ended"));
        let devices = started.iter().map(|device| device.report.clone()).collect();
        let types = self.devices.types_of(&started);
        self.joins.send(Join { boot, devices, types, again, answer }).await.map_err(|_| stopped())?;
        let membership = answered.await.map_err(|_| stopped())??;
        let notify = Arc::new(Notify::new());
        let links_config = LinksConfig {
            node: membership.node,
            incarnation: membership.incarnation,
            view: membership.view.clone(),
            requests: membership.requests.clone(),
            agent: notify.clone(),
            clients_max: self.config.clients_max,
            shared: self.shared.clone(),
        };
        let (dialler, link_events) = Links::new(&self.env, self.endpoint.clone(), links_config);
        let protos = started.iter().map(|device| device.proto).collect();
        let pumps = self.start_pumps(started, &notify)?;
        let places = self.devices.places();
        let proto = NodeProto::new(
            Now::new(self.env.monotonic_ns(), self.env.wall_ms()),
            self.proto_config(&membership, protos),
        );
        // The time of the join was not the loop's.
        self.shared.turned(self.env.monotonic_ns());
        self.shared.update(|snapshot| {
            snapshot.incarnation = membership.incarnation.0;
            snapshot.applied_index = 0;
            snapshot.stalled.clear();
            snapshot.leaving = false;
        });
        let (env, shared) = (self.env.clone(), self.shared.clone());
        let links = dialler.clone();
        let parts = AgentParts { env, proto, dialler, link_events, pumps, places, membership, notify, shared };
        Ok((Agent::new(parts), links))
    }

    fn accept(&self, links: Links) -> Result<ringfleet_env::TaskHandle, NodeError> {
        let mut listener = self
            .endpoint
            .listen(&[(Alpn::Data, DATA_ROLES)])
            .map_err(|error| NodeError::Bind { reason: error.to_string() })?;
        let accept = async move {
            while let Some(connection) = listener.accept().await {
                links.accepted(connection);
            }
        };
        Ok(self.env.spawn("accept", accept).abort_on_drop())
    }

    fn start_pumps(&self, started: Vec<StartedDevice>, notify: &Arc<Notify>) -> Result<Vec<Pump>, NodeError> {
        let start = |(at, started): (usize, StartedDevice)| {
            Pump::start(&self.env, device_index(at), started.device, notify.clone()).map_err(NodeError::Thread)
        };
        started.into_iter().enumerate().map(start).collect()
    }

    fn proto_config(&self, membership: &Membership, devices: Vec<ProtoDevice>) -> ProtoConfig {
        ProtoConfig {
            node: membership.node,
            incarnation: membership.incarnation,
            devices,
            types: self.types.iter().map(|ty| ty.name.to_owned()).collect(),
            actors_per_shard: self.config.actors_per_shard,
            outbound: OutboundConfig {
                channel_max: (self.config.outbound_max / 8).max(1),
                peer_max: (self.config.outbound_max / 2).max(1),
                total_max: self.config.outbound_max.max(1),
                ..OutboundConfig::default()
            },
            pending_worker_max: limits::PENDING_WORKER_MAX,
            session_idle_ms: limits::SESSION_IDLE_MS,
        }
    }
}
