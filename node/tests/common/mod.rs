//! Processes of one cluster on loopback.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ringfleet_env::{Env, Instant};
use ringfleet_link::{Alpn, ClusterCa, Endpoint, Identity, LinkConfig, Role, RoleSet, Validity};
use ringfleet_proto::control::{Failure, NodeAnswer, NodeReply, NodeRequest, decode, encode};

/// No test waits longer for anything.
pub const LONG: Duration = Duration::from_secs(20);

/// Runs a test body on some threads, with a deadline.
pub fn run<T>(threads: usize, body: impl AsyncFnOnce(Env) -> T) -> T {
    Env::run_tokio(threads, async |env: Env| {
        let guard = env.clone();
        guard.timeout(2 * LONG, body(env)).await.expect("the test hangs")
    })
    .expect("a runtime")
}

/// Who issues certificates.
pub struct Cluster {
    pub env: Env,
    ca: ClusterCa,
}

impl Cluster {
    pub fn new(env: &Env) -> Self {
        let ca = ClusterCa::create("blue", Self::day(env)).expect("an authority");
        Self { env: env.clone(), ca }
    }

    fn day(env: &Env) -> Validity {
        Validity::from_now(env.wall_ms(), Duration::from_secs(24 * 3600))
    }

    pub fn identity(&self, role: Role, name: &str) -> Identity {
        self.ca.issue(role, name, Self::day(&self.env)).expect("a certificate")
    }

    pub fn endpoint(&self, role: Role, name: &str) -> Endpoint {
        let addr = "127.0.0.1:0".parse().expect("an address");
        Endpoint::bind(&self.env, addr, self.identity(role, name), LinkConfig::LOOPBACK).expect("a port")
    }
}

/// What a scripted coordinator answers; `None`: never.
pub type Answer = Option<Result<NodeAnswer, Failure>>;

/// A coordinator that answers as it is told to.
#[derive(Clone)]
pub struct Coordinator {
    pub addr: String,
    seen: Arc<Mutex<Vec<(Instant, NodeRequest)>>>,
    _endpoint: Endpoint,
}

impl Coordinator {
    pub fn start<F, A>(cluster: &Cluster, name: &str, answer: A) -> Self
    where
        A: Fn(NodeRequest) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send,
    {
        let endpoint = cluster.endpoint(Role::Coordinator, name);
        let addr = endpoint.local_addr().expect("bound").to_string();
        let seen: Arc<Mutex<Vec<_>>> = Arc::default();
        let mut listener = endpoint.listen(&[(Alpn::Control, RoleSet::ALL)]).expect("a listener");
        let (env, log) = (cluster.env.clone(), seen.clone());
        let accept = async move {
            while let Some(connection) = listener.accept().await {
                let (answer, log, clock) = (answer.clone(), log.clone(), env.clone());
                let handle = move |bytes: bytes::Bytes| {
                    let (answer, log, now) = (answer.clone(), log.clone(), clock.now());
                    async move {
                        let request: NodeRequest = decode(&bytes).expect("a request");
                        log.lock().unwrap_or_else(PoisonError::into_inner).push((now, request.clone()));
                        match answer(request).await {
                            Some(reply) => encode(&NodeReply::from(reply)).expect("a reply").into(),
                            None => std::future::pending().await,
                        }
                    }
                };
                env.spawn("serve", async move {
                    connection.serve_calls(handle).await;
                })
                .detach();
            }
        };
        cluster.env.spawn("coordinator", accept).detach();
        Self { addr, seen, _endpoint: endpoint }
    }

    /// Everything it was asked, and when.
    pub fn seen(&self) -> Vec<(Instant, NodeRequest)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
