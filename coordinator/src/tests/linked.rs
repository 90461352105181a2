//! Whole coordinators over real links on loopback, each on a runtime of its own that can be taken away at once.

use crate::config::{CoordinatorConfig, Peer};
use crate::run::{Coordinator, CoordinatorError};
use crate::tests::memory::{join, renew};
use ringfleet_env::Env;
use ringfleet_link::{Alpn, ClusterCa, Connection, Endpoint, Expect, Identity, LinkConfig, Role, Validity};
use ringfleet_proto::control::{
    AdminAnswer, AdminReply, AdminRequest, AdminVerb, ClockSample, Failure, Joined, NodeAnswer, NodeReply, NodeRequest,
    RefusalCode, decode, encode,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn ca(env: &Env) -> ClusterCa {
    ClusterCa::create("test", validity(env)).unwrap()
}

fn validity(env: &Env) -> Validity {
    Validity::from_now(env.wall_ms(), Duration::from_secs(3600))
}

/// Ports that are free now, all taken at the same time so that they differ.
fn free_addrs(env: &Env, count: usize) -> Vec<SocketAddr> {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let sockets: Vec<_> = (0..count).map(|_| std::net::UdpSocket::bind(any).unwrap()).collect();
    let _ = env;
    sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
}

struct Processes {
    running: BTreeMap<String, (tokio::runtime::Runtime, Coordinator)>,
    peers: Vec<Peer>,
    root: tempfile::TempDir,
    ca: ClusterCa,
}

impl Processes {
    fn start(env: &Env, count: usize) -> Self {
        let peer = |(at, addr): (usize, SocketAddr)| Peer { name: format!("c{}", at + 1), addr: addr.to_string() };
        let peers: Vec<Peer> = free_addrs(env, count).into_iter().enumerate().map(peer).collect();
        let mut all = Self { running: BTreeMap::new(), peers, root: tempfile::tempdir().unwrap(), ca: ca(env) };
        for peer in all.peers.clone() {
            all.boot(env, &peer.name);
        }
        all
    }

    /// Starts one more, with an empty folder.
    fn boot_new(&mut self, env: &Env, name: &str) -> Peer {
        let peer = Peer { name: name.to_owned(), addr: free_addrs(env, 1)[0].to_string() };
        self.peers.push(peer.clone());
        self.boot(env, name);
        peer
    }

    fn boot(&mut self, env: &Env, name: &str) {
        let peer = self.peers.iter().find(|peer| peer.name == name).unwrap();
        let identity = self.ca.issue(Role::Coordinator, name, validity(env)).unwrap();
        let folder = self.root.path().join(name);
        let mut config = CoordinatorConfig::new(name, folder, peer.addr.parse().unwrap(), self.peers.clone(), identity);
        config.http = Some("127.0.0.1:0".parse().unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let coordinator = runtime.block_on(Coordinator::start(env.clone(), config)).unwrap();
        self.running.insert(name.to_owned(), (runtime, coordinator));
    }

    /// As SIGKILL: no goodbye, nothing flushed that was not.
    fn kill(&mut self, name: &str) {
        let (runtime, coordinator) = self.running.remove(name).unwrap();
        runtime.shutdown_timeout(Duration::from_secs(5));
        drop(coordinator);
    }

    fn identity(&self, env: &Env, role: Role, name: &str) -> Identity {
        self.ca.issue(role, name, validity(env)).unwrap()
    }
}

/// A program that asks whoever leads.
struct Asker {
    env: Env,
    endpoint: Endpoint,
    peers: Vec<Peer>,
    connections: BTreeMap<String, Connection>,
}

impl Asker {
    fn new(env: &Env, processes: &Processes, role: Role, name: &str) -> Self {
        let identity = processes.identity(env, role, name);
        let endpoint = Endpoint::bind(env, "127.0.0.1:0".parse().unwrap(), identity, LinkConfig::LOOPBACK).unwrap();
        Self { env: env.clone(), endpoint, peers: processes.peers.clone(), connections: BTreeMap::new() }
    }

    async fn connection(&mut self, peer: &Peer) -> Option<Connection> {
        if let Some(connection) = self.connections.get(&peer.name).filter(|c| c.close_reason().is_none()) {
            return Some(connection.clone());
        }
        let expect = Expect::named(Role::Coordinator, &peer.name);
        let limit = Duration::from_millis(300);
        let connection = self.endpoint.connect(peer.addr.parse().unwrap(), Alpn::Control, expect, limit).await.ok()?;
        self.connections.insert(peer.name.clone(), connection.clone());
        Some(connection)
    }

    /// The first reply that is not "ask another one".
    async fn ask<R>(&mut self, request: Vec<u8>, read: impl Fn(&[u8]) -> Result<R, Failure>) -> Result<R, Failure> {
        let give_up = self.env.now() + PATIENCE;
        while self.env.now() < give_up {
            for peer in self.peers.clone() {
                let Some(connection) = self.connection(&peer).await else { continue };
                let Ok(reply) = connection.call(request.clone(), Duration::from_millis(300)).await else {
                    // Perhaps it was killed: nobody tells.
                    self.connections.remove(&peer.name);
                    continue;
                };
                match read(&reply) {
                    Err(Failure::NotLeader { .. } | Failure::Unavailable { .. } | Failure::Unknown { .. }) => {}
                    result => return result,
                }
            }
            self.env.sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody answered");
    }

    async fn admin(&mut self, operation: u128, verb: AdminVerb) -> Result<AdminAnswer, Failure> {
        let request = encode(&AdminRequest { operation, deadline_ms: 250, verb }).unwrap();
        self.ask(request, |reply| decode::<AdminReply>(reply).unwrap().into()).await
    }

    async fn node(&mut self, request: &NodeRequest) -> Result<NodeAnswer, Failure> {
        self.ask(encode(request).unwrap(), |reply| decode::<NodeReply>(reply).unwrap().into()).await
    }

    /// Joins as a node whose clock is so much ahead of what it really shows.
    async fn join(&mut self, name: &str, ahead_ms: i64) -> Result<Joined, Failure> {
        loop {
            let (sent_ns, sent_wall_ms) = (self.env.monotonic_ns(), self.env.wall_ms().saturating_add_signed(ahead_ms));
            let NodeAnswer::Clock(reading) = self.node(&NodeRequest::ReadClock).await? else { panic!() };
            let sample = ClockSample::measure(0, reading, sent_wall_ms, (self.env.monotonic_ns() - sent_ns) / 1000);
            match self.node(&join(name, 1, Some(sample))).await? {
                NodeAnswer::Joined(joined) => return Ok(joined),
                NodeAnswer::Clock(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn leader(&mut self) -> String {
        match self.admin(0, AdminVerb::Status).await {
            Ok(AdminAnswer::Status(status)) => status.leader,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn over_real_links_a_coordinator_is_replaced_by_one_at_a_new_address() {
    let env = Env::tokio();
    let mut processes = Processes::start(&env, 3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut operator = runtime.block_on(async { Asker::new(&env, &processes, Role::Operator, "op") });
    let leader = runtime.block_on(operator.leader());
    // Replacing the leader also makes it hand over.
    let new = processes.boot_new(&env, "c4");
    let http = processes.running["c4"].1.http_addr().unwrap();
    let give_up = env.now() + PATIENCE;
    while !http_get(http, "/readyz").contains("ringfleet coordinators add c4") {
        assert!(env.now() < give_up, "it does not say what it waits for: {}", http_get(http, "/readyz"));
        runtime.block_on(env.sleep(Duration::from_millis(20)));
    }
    operator.peers.push(new.clone());
    let add = AdminVerb::AddCoordinator { name: new.name.clone(), addr: new.addr.clone() };
    let changed = runtime.block_on(operator.admin(1, add)).unwrap();
    assert!(
        matches!(&changed, AdminAnswer::CoordinatorsChanged { coordinators, .. } if coordinators.len() == 4),
        "{changed:?}"
    );
    let remove = AdminVerb::RemoveCoordinator { name: leader.clone() };
    let changed = runtime.block_on(operator.admin(2, remove)).unwrap();
    assert!(
        matches!(&changed, AdminAnswer::CoordinatorsChanged { coordinators, .. } if coordinators.len() == 3),
        "{changed:?}"
    );
    let (_, removed) = processes.running.get_mut(&leader).unwrap();
    let why = runtime.block_on(async { env.timeout(PATIENCE, removed.failed()).await }).expect("it stops by itself");
    assert!(why.contains("has been removed from the cluster"), "{why}");
    processes.kill(&leader);
    operator.peers.retain(|peer| peer.name != leader);
    // What is left decides, also without one more.
    let next = runtime.block_on(operator.leader());
    processes.kill(&next);
    assert_ne!(runtime.block_on(operator.leader()), next);
    let directory = runtime.block_on(operator.admin(0, AdminVerb::Directory { have_index: 0, wait_ms: 0 })).unwrap();
    let AdminAnswer::Directory(directory) = directory else { panic!("{directory:?}") };
    let there = directory.coordinators.iter().find(|coordinator| coordinator.name == "c4").expect("in every view");
    assert_eq!(there.addr, new.addr);
    let names: Vec<String> = processes.running.keys().cloned().collect();
    names.iter().for_each(|name| processes.kill(name));
}

fn http_get(addr: SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn over_real_links_a_killed_leader_is_replaced_within_two_seconds() {
    let env = Env::tokio();
    let mut processes = Processes::start(&env, 3);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut operator, mut node) = runtime.block_on(async {
        (Asker::new(&env, &processes, Role::Operator, "op"), Asker::new(&env, &processes, Role::Node, "n1"))
    });
    let joined = runtime.block_on(node.join("n1", 0)).unwrap();
    for round in 0..3 {
        let leader = runtime.block_on(operator.leader());
        let began_ns = env.monotonic_ns();
        processes.kill(&leader);
        let next = runtime.block_on(operator.leader());
        let took_ms = (env.monotonic_ns() - began_ns) / 1_000_000;
        println!("round {round}: {next} answers {took_ms} ms after the kill of {leader}");
        assert_ne!(next, leader);
        // C10 allows 2 s for the leader; this also counts the shutdown of a runtime and a client that looks around.
        assert!(took_ms < 3000, "C10: {took_ms} ms");
        let granted = runtime.block_on(node.node(&renew(joined.incarnation)));
        assert!(matches!(granted, Ok(NodeAnswer::Granted(_))), "{granted:?}");
        processes.boot(&env, &leader);
    }
    // The coordinator that was started last has a voice as soon as it is connected: then there are three.
    let leader = runtime.block_on(operator.leader());
    let leases = processes.running[&leader].1.service().leases.clone();
    let give_up = env.now() + PATIENCE;
    while leases.own_clock_offset_ms(env.monotonic_ns()).is_none() {
        assert!(env.now() < give_up, "too few clocks are heard");
        runtime.block_on(env.sleep(Duration::from_millis(20)));
    }
    let refused = runtime.block_on(async { Asker::new(&env, &processes, Role::Node, "n2").join("n2", 60_000).await });
    assert!(matches!(&refused, Err(Failure::Refused(refusal)) if refusal.code == RefusalCode::ClockOff), "{refused:?}");
    let AdminAnswer::Coordinators(coordinators) = runtime.block_on(operator.admin(0, AdminVerb::Coordinators)).unwrap()
    else {
        panic!()
    };
    assert_eq!(coordinators.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["c1", "c2", "c3"]);
    assert_eq!(coordinators.iter().filter(|c| c.leader).count(), 1);

    let leader = runtime.block_on(operator.leader());
    let http = processes.running[&leader].1.http_addr().unwrap();
    assert!(http_get(http, "/livez").starts_with("HTTP/1.1 200"));
    assert!(http_get(http, "/readyz").contains(&format!("{leader} leads")));
    let metrics = http_get(http, "/metrics");
    for line in [
        "\nringfleet_coordinator_is_leader 1\n",
        "ringfleet_coordinator_members{state=\"alive\"} 1",
        "ringfleet_coordinator_voters 3",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let names: Vec<String> = processes.running.keys().cloned().collect();
    names.iter().for_each(|name| processes.kill(name));
}

fn start_error(env: &Env, config: CoordinatorConfig) -> CoordinatorError {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Coordinator::start(env.clone(), config)).map(drop).unwrap_err()
}

fn config(env: &Env, ca: &ClusterCa, folder: &Path, listen: SocketAddr) -> CoordinatorConfig {
    let identity = ca.issue(Role::Coordinator, "c1", validity(env)).unwrap();
    let peers = vec![Peer { name: "c1".into(), addr: listen.to_string() }];
    CoordinatorConfig::new("c1", folder.to_owned(), listen, peers, identity)
}

#[test]
fn what_cannot_start_says_why_in_one_line() {
    let env = Env::tokio();
    let authority = ca(&env);
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let one_line = |error: CoordinatorError, expected: &str| {
        let text = error.to_string();
        assert!(text.contains(expected) && text.lines().count() == 1, "{text}");
    };
    let addr = taken.local_addr().unwrap();
    one_line(start_error(&env, config(&env, &authority, folder.path(), addr)), "is taken by another process");

    let free = free_addrs(&env, 1)[0];
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    one_line(start_error(&env, config(&env, &authority, &file.join("data"), free)), "data folder");

    let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut http_taken = config(&env, &authority, &folder.path().join("c1"), free);
    http_taken.http = Some(web.local_addr().unwrap());
    one_line(start_error(&env, http_taken), "tcp port");

    let mut stranger = config(&env, &authority, folder.path(), free);
    stranger.name = "c9".into();
    one_line(start_error(&env, stranger), "is not among the peers c1");

    let mut of_a_node = config(&env, &authority, folder.path(), free);
    of_a_node.identity = authority.issue(Role::Node, "c1", validity(&env)).unwrap();
    one_line(start_error(&env, of_a_node), "not of a coordinator");

    for (name, addr, expected) in [
        ("c2", "c2.test", "`c2.test` must be host:port"),
        ("c 2", "c2.test:1", "coordinator name `c 2` must be"),
        ("", "c2.test:1", "coordinator name `` must be"),
    ] {
        let mut odd = config(&env, &authority, folder.path(), free);
        odd.peers.push(Peer { name: name.into(), addr: addr.into() });
        one_line(start_error(&env, odd), expected);
    }

    let mut nowhere = config(&env, &authority, folder.path(), free);
    nowhere.peers[0].addr = "0.0.0.0:7400".into();
    one_line(start_error(&env, nowhere), "`0.0.0.0:7400` of coordinator `c1` is no address to dial");

    let mut hasty = config(&env, &authority, folder.path(), free);
    hasty.lease_ms = 1;
    one_line(start_error(&env, hasty), "lease_ms 1 must be");

    let other = ClusterCa::create("other", validity(&env)).unwrap();
    let mut foreign = config(&env, &authority, &folder.path().join("c1"), free);
    foreign.identity = other.issue(Role::Coordinator, "c1", validity(&env)).unwrap();
    foreign.cluster = "other".into();
    one_line(start_error(&env, foreign), "of cluster `test`");
}

/// The bounds themselves are tested with the node's port; this is the same listener.
#[test]
fn one_connection_too_many_to_the_health_port_is_closed_and_counted() {
    use ringfleet_env::HTTP_CONNECTIONS_MAX;
    use std::io::{Read, Write};
    let env = Env::tokio();
    let mut processes = Processes::start(&env, 1);
    let http = processes.running["c1"].1.http_addr().unwrap();
    let connect = || {
        let stream = std::net::TcpStream::connect(http).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut open = Vec::new();
    for _ in 0..HTTP_CONNECTIONS_MAX {
        let mut stream = connect();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
        open.push(stream);
    }
    let mut nothing = [0; 1];
    assert!(matches!(connect().read(&mut nothing), Ok(0) | Err(_)), "one too many is closed");
    // One of those that are served has the page.
    let mut last = open.pop().unwrap();
    last.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    last.read_to_string(&mut page).unwrap();
    assert!(page.contains("\nringfleet_coordinator_http_refused_total 1\n"), "{page}");
    processes.kill("c1");
}
