//! The transport over links: one connection to each other coordinator, dialled ahead of need, at the address in the log and, in
//! turn, at the one that this coordinator was started with.
//!
//! An election must not wait for a handshake, so a task per coordinator keeps its connection open. Calls never dial: while
//! there is no connection they fail at once, and openraft comes back.
//!
//! A peer that was killed and started again does not know the old connection, and nobody tells this side before the idle
//! timeout, far longer than an election. So a connection that is silent is pinged, also between followers, who have
//! nothing to say to each other until they need a vote; one that answers nothing for [`SILENCE_MAX`] is dialled anew.

use crate::config::Peer;
use crate::raft;
use crate::transport::{BoxFuture, Transport, TransportError};
use ringfleet_env::{Env, TaskHandle};
use ringfleet_link::{Alpn, CallError, CloseReason, Connection, Endpoint, Expect, Role, code};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long one dial may take.
const DIAL_LIMIT: Duration = Duration::from_millis(500);
/// Between a failed dial, or a lost connection, and the next dial.
const DIAL_AGAIN: Duration = Duration::from_millis(100);
/// Addresses that are tried for one coordinator. An older one is forgotten.
const ADDRS_MAX: usize = 4;
/// Between two looks at a connection.
const PING_EVERY: Duration = Duration::from_millis(200);
/// How long a connection may leave calls unanswered: several heartbeats, well below an election.
pub const SILENCE_MAX: Duration = Duration::from_millis(400);

/// A connection and when it last answered.
#[derive(Clone, Debug)]
struct Dialled {
    connection: Connection,
    heard_ns: Arc<AtomicU64>,
}

type Connections = Arc<Mutex<BTreeMap<String, Dialled>>>;

impl Dialled {
    fn heard(&self, env: &Env) {
        self.heard_ns.store(env.monotonic_ns(), Ordering::Relaxed);
    }

    fn silence(&self, env: &Env) -> Duration {
        Duration::from_nanos(env.monotonic_ns().saturating_sub(self.heard_ns.load(Ordering::Relaxed)))
    }

    fn close_if_silent(&self, env: &Env) {
        if self.silence(env) > SILENCE_MAX {
            self.connection.close(code::DEADLINE, "no call was answered for too long");
        }
    }

    /// Keeps an eye on the connection until it is closed, and says why it was.
    async fn watch(&self, env: &Env) -> CloseReason {
        loop {
            if let Ok(reason) = env.timeout(PING_EVERY, self.connection.closed()).await {
                return reason;
            }
            if self.silence(env) < PING_EVERY {
                continue;
            }
            match self.connection.call(raft::ping(), SILENCE_MAX).await {
                Ok(_) => self.heard(env),
                Err(_) => self.close_if_silent(env),
            }
        }
    }
}

/// A task that keeps one coordinator dialled, and the addresses that it tries in turn.
#[derive(Debug)]
struct Dialler {
    addrs: Arc<Mutex<Vec<String>>>,
    _task: TaskHandle,
}

/// Connections to the other coordinators.
#[derive(Debug)]
pub struct LinkTransport {
    env: Env,
    endpoint: Endpoint,
    own: String,
    started_with: Vec<Peer>,
    connections: Connections,
    /// By name.
    dialers: Mutex<BTreeMap<String, Dialler>>,
}

impl LinkTransport {
    /// Starts to dial everybody but `own`.
    #[must_use]
    pub fn start(env: &Env, endpoint: &Endpoint, own: &str, peers: &[Peer]) -> Self {
        let transport = Self {
            env: env.clone(),
            endpoint: endpoint.clone(),
            own: own.to_owned(),
            started_with: peers.to_vec(),
            connections: Connections::default(),
            dialers: Mutex::default(),
        };
        transport.follow(&[]);
        transport
    }

    fn dialled(&self, peer: &Peer) -> Option<Dialled> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).get(&peer.name).cloned()
    }

    /// Dials from now on, if it does not yet, at this address too.
    fn dial_at(&self, dialers: &mut BTreeMap<String, Dialler>, peer: &Peer) {
        if peer.name == self.own {
            return;
        }
        let dialler = dialers.entry(peer.name.clone()).or_insert_with(|| {
            let addrs = Arc::new(Mutex::new(vec![peer.addr.clone()]));
            let (env, endpoint, connections) = (self.env.clone(), self.endpoint.clone(), self.connections.clone());
            let task = keep_dialled(env, endpoint, peer.name.clone(), addrs.clone(), connections);
            Dialler { addrs, _task: self.env.spawn("dial-coordinator", task).abort_on_drop() }
        });
        let mut addrs = dialler.addrs.lock().unwrap_or_else(PoisonError::into_inner);
        if !addrs.contains(&peer.addr) {
            addrs.insert(0, peer.addr.clone());
            addrs.truncate(ADDRS_MAX);
        }
    }
}

/// Which of a coordinator's addresses is dialled next: the one that worked last until it fails, then the others in turn.
#[derive(Debug, Default)]
struct Turns {
    turn: usize,
    /// Why each address could not be dialled, as it was told last.
    told: BTreeMap<String, String>,
}

impl Turns {
    fn next(&mut self, addrs: &[String]) -> String {
        self.told.retain(|addr, _| addrs.contains(addr));
        addrs.get(self.turn % addrs.len().max(1)).cloned().unwrap_or_default()
    }

    /// It did not work. Whether that is worth a line: the same reason of the same address again is not.
    fn failed(&mut self, addr: &str, reason: &str) -> bool {
        self.turn += 1;
        self.told.insert(addr.to_owned(), reason.to_owned()).is_none_or(|before| before != reason)
    }
}

async fn keep_dialled(
    env: Env,
    endpoint: Endpoint,
    name: String,
    addrs: Arc<Mutex<Vec<String>>>,
    connections: Connections,
) {
    let mut turns = Turns::default();
    loop {
        let addr = turns.next(&addrs.lock().unwrap_or_else(PoisonError::into_inner));
        let peer = Peer { name: name.clone(), addr };
        match dial(&env, &endpoint, &peer).await {
            Ok(connection) => {
                tracing::info!(peer = peer.name, "connected to a coordinator");
                turns.told.clear();
                let lock = || connections.lock().unwrap_or_else(PoisonError::into_inner);
                let heard_ns = Arc::new(AtomicU64::new(env.monotonic_ns()));
                let dialled = Dialled { connection, heard_ns };
                lock().insert(peer.name.clone(), dialled.clone());
                let reason = dialled.watch(&env).await;
                lock().remove(&peer.name);
                tracing::info!(peer = peer.name, %reason, "lost the connection to a coordinator");
            }
            Err(reason) => {
                if turns.failed(&peer.addr, &reason) {
                    tracing::warn!(peer = peer.name, addr = peer.addr, reason, "cannot connect to a coordinator");
                }
            }
        }
        env.sleep(DIAL_AGAIN).await;
    }
}

async fn dial(env: &Env, endpoint: &Endpoint, peer: &Peer) -> Result<Connection, String> {
    let addrs = env.resolve(&peer.addr).await.map_err(|e| e.to_string())?;
    let Some(addr) = addrs.first() else { return Err(format!("{} has no address", peer.addr)) };
    let expect = Expect::named(Role::Coordinator, &peer.name);
    endpoint.connect(*addr, Alpn::Control, expect, DIAL_LIMIT).await.map_err(|e| e.to_string())
}

impl Transport for LinkTransport {
    fn follow(&self, members: &[Peer]) {
        let mut dialers = self.dialers.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = || self.started_with.iter().chain(members);
        dialers.retain(|name, _| wanted().any(|peer| peer.name == *name));
        let gone = |name: &String| !dialers.contains_key(name);
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| !gone(name));
        // The log's addresses last, so that they are tried first.
        wanted().for_each(|peer| self.dial_at(&mut dialers, peer));
    }

    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        request: Vec<u8>,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Vec<u8>, TransportError>> {
        Box::pin(async move {
            let unreachable = |reason: String| TransportError::Unreachable { peer: peer.name.clone(), reason };
            let Some(dialled) = self.dialled(peer) else {
                // Somebody new, or at a new address: there will be a connection soon.
                self.dial_at(&mut self.dialers.lock().unwrap_or_else(PoisonError::into_inner), peer);
                return Err(unreachable("no connection".to_owned()));
            };
            match dialled.connection.call(request, limit).await {
                Ok(reply) => {
                    dialled.heard(&self.env);
                    Ok(reply.into())
                }
                Err(CallError::Deadline { limit, .. }) => {
                    dialled.close_if_silent(&self.env);
                    Err(TransportError::Late { peer: peer.name.clone(), limit })
                }
                Err(e) => Err(unreachable(e.to_string())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_dialled_at_the_address_that_worked_and_each_address_is_told_of_once() {
        let addrs = ["new:1".to_owned(), "old:1".to_owned()];
        let mut turns = Turns::default();
        assert_eq!(turns.next(&addrs), "new:1");
        // It worked, and was lost.
        assert_eq!(turns.next(&addrs), "new:1");
        let mut told = Vec::new();
        for _ in 0..10 {
            let addr = turns.next(&addrs);
            if turns.failed(&addr, &format!("{addr} is silent")) {
                told.push(addr);
            }
        }
        assert_eq!(told, addrs, "two reasons in turn are not news either");
        assert!(turns.failed("old:1", "another reason"));
        assert_eq!(turns.next(&addrs), "old:1");
    }
}
