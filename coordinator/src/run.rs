//! A coordinator as a whole: folder, socket, group, services.

use crate::config::CoordinatorConfig;
use crate::http;
use crate::link::LinkTransport;
use crate::metrics::Metrics;
use crate::raft::{Group, GroupError};
use crate::service::{Caller, Service};
use crate::standing::Standing;
use crate::steward::{Leases, Steward};
use crate::store::{Owner, Store, StoreError};
use ringfleet_env::{Env, TaskHandle};
use ringfleet_link::{Alpn, BindError, Connection, Endpoint, Listener, RoleSet};
use ringfleet_proto::control::Role;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Told to peers when this coordinator stops.
const STOPPING: &str = "the coordinator stops";
/// How long the group may take to stop, and peers to hear that this coordinator stops.
const GOODBYE_LIMIT: Duration = Duration::from_millis(500);

/// Why a coordinator does not start, or stopped. One line each.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// A setting that cannot work.
    #[error("coordinator settings: {0}")]
    Config(String),
    /// The data folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The UDP port cannot be had, or the certificate not be used.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The TCP port cannot be had.
    #[error("opening tcp port {addr} for health and metrics")]
    Http {
        /// The address asked for.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The Raft group cannot start.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// It ran, and had to stop.
    #[error("coordinator stopped: {0}")]
    Stopped(String),
}

/// A running coordinator.
#[derive(Debug)]
pub struct Coordinator {
    env: Env,
    group: Arc<Group>,
    service: Arc<Service>,
    endpoint: Endpoint,
    addr: SocketAddr,
    http_addr: Option<SocketAddr>,
    fatal: watch::Receiver<Option<String>>,
    tasks: Vec<TaskHandle>,
}

/// Runs a coordinator until it has to stop. Dropping the future stops it.
///
/// # Errors
/// [`CoordinatorError`], one line.
pub async fn run(env: Env, config: CoordinatorConfig) -> Result<(), CoordinatorError> {
    run_until(env, config, std::future::pending()).await
}

/// Runs a coordinator until `stop` is ready or it has to stop. A planned stop hands leadership over first.
///
/// # Errors
/// [`CoordinatorError`], one line; a planned stop is none.
pub async fn run_until(
    env: Env,
    config: CoordinatorConfig,
    stop: impl Future<Output = ()>,
) -> Result<(), CoordinatorError> {
    let mut coordinator = Coordinator::start(env, config).await?;
    let reason = tokio::select! {
        biased;
        reason = coordinator.failed() => Some(reason),
        () = stop => None,
    };
    if reason.is_none() {
        coordinator.group.hand_over().await;
    }
    coordinator.shutdown().await;
    reason.map_or(Ok(()), |reason| Err(CoordinatorError::Stopped(reason)))
}

impl Coordinator {
    /// Starts a coordinator; it takes part in elections as soon as it is a member of the group.
    ///
    /// # Errors
    /// [`CoordinatorError`], one line.
    pub async fn start(env: Env, config: CoordinatorConfig) -> Result<Self, CoordinatorError> {
        config.check().map_err(CoordinatorError::Config)?;
        let CoordinatorConfig { cluster, name, data_dir, listen, http, peers, identity, lease_ms, timing, link } =
            config;
        let endpoint = Endpoint::bind(&env, listen, identity, link)?;
        let listener = endpoint.listen(&[(Alpn::Control, RoleSet::ALL)])?;
        let addr = endpoint.local_addr().map_err(|e| CoordinatorError::Config(e.to_string()))?;
        let owner = Owner { cluster: cluster.clone(), name: name.clone() };
        let disk = env.disk();
        let new_id = new_id(&env);
        let opened = env.run_blocking(move || Store::open(&disk, &data_dir, &owner, new_id)).await?;
        let transport = Arc::new(LinkTransport::start(&env, &endpoint, &name, &peers));
        let group = Arc::new(Group::start(&env, &cluster, &name, &peers, timing, opened, transport).await?);
        let leases = Arc::new(Leases::default());
        let metrics = Arc::new(Metrics::new().map_err(|e| CoordinatorError::Config(e.to_string()))?);
        let service = Arc::new(Service {
            env: env.clone(),
            cluster: cluster.clone(),
            group: group.clone(),
            leases: leases.clone(),
            metrics,
        });
        let mut tasks = vec![env.spawn("accept", accept(env.clone(), listener, service.clone())).abort_on_drop()];
        let http_addr = match http {
            Some(addr) => {
                let (bound, task) = http::serve(&env, addr, service.clone())
                    .map_err(|source| CoordinatorError::Http { addr, source })?;
                tasks.push(task);
                Some(bound)
            }
            None => None,
        };
        let (fatal, failed) = watch::channel(None);
        let standing = Standing { env: env.clone(), group: group.clone(), fatal: fatal.clone() };
        tasks.push(env.spawn("standing", standing.run()).abort_on_drop());
        let steward = Steward { env: env.clone(), group: group.clone(), leases, first: (cluster, lease_ms), fatal };
        tasks.push(env.spawn("steward", steward.run()).abort_on_drop());
        tracing::info!(name, %addr, "coordinator started");
        Ok(Self { env, group, service, endpoint, addr, http_addr, fatal: failed, tasks })
    }

    /// Where it listens for nodes, clients and other coordinators.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where it serves health and metrics.
    #[must_use]
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// What answers requests; for callers in the same process.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Waits until it has to stop, and says why.
    pub async fn failed(&mut self) -> String {
        loop {
            if let Some(reason) = self.fatal.borrow_and_update().clone() {
                return reason;
            }
            if self.fatal.changed().await.is_err() {
                return "its steward ended".to_owned();
            }
        }
    }

    /// Stops it and closes its file.
    pub async fn shutdown(mut self) {
        if self.env.timeout(GOODBYE_LIMIT, self.group.shutdown()).await.is_err() {
            tracing::warn!(limit = ?GOODBYE_LIMIT, "the raft group did not stop in time; it is left");
        }
        self.endpoint.close(ringfleet_link::code::SHUTDOWN, STOPPING);
        for task in self.tasks.drain(..) {
            task.abort();
            // Its own end is all that is waited for; how it ended does not matter any more.
            let _ = task.await;
        }
        let _ = self.env.timeout(GOODBYE_LIMIT, self.endpoint.wait_idle()).await;
        let writer = self.group.take_writer();
        drop((self.service, self.group));
        if let Some(writer) = writer {
            // Requests under way may still hold the group; the process does not wait for them.
            let _ = self.env.timeout(GOODBYE_LIMIT, writer).await;
        }
    }
}

/// A number for a new data folder. 53 bits, so that every reader of JSON has it exactly; never 0.
pub(crate) fn new_id(env: &Env) -> u64 {
    1 + env.random_below((1 << 53) - 1)
}

async fn accept(env: Env, mut listener: Listener, service: Arc<Service>) {
    while let Some(connection) = listener.accept().await {
        env.spawn("control-connection", serve(connection, service.clone())).detach();
    }
}

async fn serve(connection: Connection, service: Arc<Service>) {
    let peer = connection.peer();
    let Some(role) = Role::from_name(peer.role().as_str()) else { return };
    let caller = Arc::new(Caller { role, name: peer.name().to_owned() });
    let handler = move |request: bytes::Bytes| {
        let (caller, service) = (caller.clone(), service.clone());
        async move { bytes::Bytes::from(service.handle(&caller, &request).await) }
    };
    let reason = connection.serve_calls(handler).await;
    tracing::debug!(peer = %connection.peer(), %reason, "a control connection ended");
}
