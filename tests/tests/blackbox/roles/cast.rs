//! One caller for each role, and what became of what it asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use ringfleet::config::{ClusterEntry, ConfigFile, ContextEntry, CredentialsEntry};
use ringfleet::local::Kind;
use ringfleet::metrics::Metrics;
use ringfleet_client::{Client, ClientConfig, Session};
use ringfleet_env::Env;
use ringfleet_link::{
    Alpn, ClusterCa, ConnectError, Connection, Endpoint, Expect, Identity, LinkConfig, Role as LinkRole, Validity, file,
};
use ringfleet_proto::control::{
    AdminReply, ClockSample, Failure, Joined, MessageKind, NodeAnswer, NodeReply, NodeRequest, RefusalCode, Role, Verb,
    allowed, decode, encode, peek_kind,
};
use ringfleet_tests::cluster::{PATIENCE, TestCluster};

use super::Outcome;
use super::data::Data;
use super::requests::{Targets, join, requests};
use crate::support::BINARY;

/// The name of the node that the test plays.
pub const UNDERSTUDY: &str = "n9";

/// An endpoint for `identity` and a connection from it.
pub async fn dial(
    env: &Env,
    identity: Identity,
    addr: SocketAddr,
    alpn: Alpn,
    listener: LinkRole,
) -> Result<(Endpoint, Connection), ConnectError> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let bad = |error: ringfleet_link::BindError| ConnectError::BadAddress { addr, reason: error.to_string() };
    let endpoint = Endpoint::bind(env, any, identity, LinkConfig::for_addr(any.ip())).map_err(bad)?;
    let connection = endpoint.connect(addr, alpn, Expect::role(listener), PATIENCE).await?;
    Ok((endpoint, connection))
}

/// Callers of every role.
pub struct Cast<'a> {
    pub cluster: &'a TestCluster,
    ca: ClusterCa,
    leader: String,
    /// Programs that may tell and ask, each with an open session.
    programs: BTreeMap<Role, (Client, Session)>,
    /// Name and address of one coordinator.
    coordinator: (String, String),
    set_id: u16,
    /// The incarnation of the only real node.
    incarnation: u64,
    connections: BTreeMap<(Role, &'static str, String), (Endpoint, Connection)>,
    operation: u128,
    denials: i128,
    adds: u64,
}

impl<'a> Cast<'a> {
    pub async fn new(cluster: &'a TestCluster) -> Result<Self> {
        let ca = ClusterCa::load(&*cluster.env.disk(), &cluster.local.folder().join("ca"))?;
        let directory = cluster.client.directory(PATIENCE).await?;
        let mut cast = Self {
            cluster,
            ca,
            leader: cluster.leader().await?,
            programs: BTreeMap::new(),
            coordinator: directory.coordinators.first().map(|c| (c.name.clone(), c.addr.clone())).context("nobody")?,
            set_id: directory.sets.first().context("no set")?.set,
            incarnation: directory.members.first().context("no node")?.incarnation,
            connections: BTreeMap::new(),
            operation: 1 << 64,
            denials: 0,
            adds: 0,
        };
        for role in Role::ALL.into_iter().filter(|&role| allowed(role, Verb::OpenSession)) {
            let coordinators = cluster.local.context(LinkRole::Operator).cluster.coordinators;
            let client = Client::new(&cluster.env, ClientConfig::new(coordinators, cast.identity(role, "n1")?))?;
            let session = client.session(PATIENCE).await?;
            cast.programs.insert(role, (client, session));
        }
        Ok(cast)
    }

    /// The open session of a program of `role`; of some program if it has none.
    pub fn session(&self, role: Role) -> Result<&Session> {
        let found = self.programs.get(&role).or_else(|| self.programs.values().next());
        Ok(&found.context("no role may open sessions")?.1)
    }

    /// How many requests coordinators must have counted as denied.
    pub fn expected_denials(&self) -> i128 {
        self.denials
    }

    /// How many messages that add one were accepted.
    pub fn adds_made(&self) -> u64 {
        self.adds
    }

    pub fn made_adds(&mut self, adds: u64) {
        self.adds += adds;
    }

    /// Requests that the coordinators have counted as denied.
    pub async fn denied(&self) -> Result<i128> {
        let mut denied = 0;
        for process in self.cluster.local.processes().iter().filter(|process| process.kind == Kind::Coordinator) {
            let page = ringfleet::http::get(&self.cluster.env, &process.http.to_string(), "/metrics", PATIENCE).await;
            denied +=
                Metrics::parse(&page.map_err(anyhow::Error::msg)?).sum("ringfleet_coordinator_requests_denied_total");
        }
        Ok(denied)
    }

    /// A certificate of `role`.
    pub fn identity(&self, role: Role, name: &str) -> Result<Identity> {
        let role = LinkRole::parse(role.name()).context("both tables have the same roles")?;
        let validity = Validity::from_now(self.cluster.env.wall_ms(), PATIENCE * 10);
        Ok(self.ca.issue(role, name, validity)?)
    }

    /// Lets the caller of `role` do `verb`.
    pub async fn play(&mut self, role: Role, verb: Verb) -> Result<Outcome> {
        match verb {
            Verb::Deliver | Verb::Tell | Verb::Ask => Data { cast: self, role }.play(verb).await,
            Verb::Actors => self.list_actors(role).await,
            _ => self.control(role, verb).await,
        }
        .with_context(|| format!("{role} x {verb}"))
    }

    /// Sends the requests of `verb` to the leader; refused ones to a follower as well.
    pub async fn control(&mut self, role: Role, verb: Verb) -> Result<Outcome> {
        // Refused are people who have the name of somebody who may; accepted is a node that the test plays.
        let name = match (role, verb) {
            (_, Verb::Raft) => "c1",
            (Role::Node, _) => UNDERSTUDY,
            _ => "n1",
        };
        let may = allowed(role, verb);
        let (node, incarnation) = match role {
            Role::Node if may && verb != Verb::Join => (UNDERSTUDY, self.understudy().await?.incarnation),
            Role::Node => (UNDERSTUDY, 0),
            _ => ("n1", self.incarnation),
        };
        // What is refused names the set that is resident.
        let set = if may { "cells" } else { "counter" };
        let session = self.session(role)?.id().0;
        let targets = Targets {
            set: set.to_owned(),
            set_id: self.set_id,
            node: node.to_owned(),
            incarnation,
            session,
            coordinator: self.coordinator.clone(),
            operation: self.operation,
        };
        self.operation += 1 << 32;
        let mut outcomes = Vec::new();
        for request in requests(verb, &targets)? {
            let leader = self.leader.clone();
            let outcome = self.call(role, name, &leader, request.clone()).await?;
            if outcome == Outcome::Refused {
                // A follower refuses as well; it does not send the caller elsewhere.
                let follower = self.follower()?;
                let also = self.call(role, name, &follower, request).await?;
                anyhow::ensure!(also == Outcome::Refused, "the leader refuses, {follower} does not");
                self.denials += if verb == Verb::Raft { 0 } else { 2 };
            }
            outcomes.push(outcome);
        }
        outcomes.dedup();
        match outcomes[..] {
            [outcome] => Ok(outcome),
            _ => bail!("not all requests of the verb end alike: {outcomes:?}"),
        }
    }

    fn follower(&self) -> Result<String> {
        let mut names = self.cluster.names(Kind::Coordinator).into_iter();
        names.find(|name| *name != self.leader).context("there is one coordinator only")
    }

    async fn call(&mut self, role: Role, name: &'static str, coordinator: &str, request: Vec<u8>) -> Result<Outcome> {
        let reply = self.connection(role, name, coordinator).await?.call(request, PATIENCE).await?;
        if reply.is_empty() {
            return Ok(Outcome::Refused);
        }
        if reply.starts_with(&ringfleet_coordinator::raft::MAGIC) {
            return Ok(Outcome::Accepted);
        }
        let failure = match peek_kind(&reply)? {
            MessageKind::NodeReply => match decode::<NodeReply>(&reply)? {
                NodeReply::Answer(_) => return Ok(Outcome::Accepted),
                NodeReply::Failed(failure) => failure,
            },
            MessageKind::AdminReply => match decode::<AdminReply>(&reply)? {
                AdminReply::Answer(_) => return Ok(Outcome::Accepted),
                AdminReply::Failed(failure) => failure,
            },
            other => bail!("{other:?} is no reply"),
        };
        match failure {
            Failure::Refused(refusal) if refusal.code == RefusalCode::NotAllowed => Ok(Outcome::Refused),
            other => bail!("neither done nor refused because of the role: {other}"),
        }
    }

    async fn connection(&mut self, role: Role, name: &'static str, coordinator: &str) -> Result<Connection> {
        let key = (role, name, coordinator.to_owned());
        if let Some((_, connection)) = self.connections.get(&key) {
            return Ok(connection.clone());
        }
        let addr = self.cluster.local.process(coordinator).map_err(anyhow::Error::msg)?.advertise;
        let identity = self.identity(role, name)?;
        let dialled = dial(&self.cluster.env, identity, addr, Alpn::Control, LinkRole::Coordinator).await?;
        let connection = dialled.1.clone();
        self.connections.insert(key, dialled);
        Ok(connection)
    }

    /// The membership of the node that the test plays; it joins if it has left or has never been.
    pub async fn understudy(&mut self) -> Result<Joined> {
        let leader = self.leader.clone();
        let connection = self.connection(Role::Node, UNDERSTUDY, &leader).await?;
        let reply = connection.call(encode(&NodeRequest::ReadClock)?, PATIENCE).await?;
        let NodeReply::Answer(NodeAnswer::Clock(reading)) = decode(&reply)? else { bail!("the leader has no clock") };
        let clock = ClockSample { coordinator: reading.coordinator, number: 0, offset_ms: 0, error_ms: 1 };
        let reply = connection.call(encode(&join(UNDERSTUDY, "127.0.0.1:9", Some(clock)))?, PATIENCE).await?;
        match decode::<NodeReply>(&reply)? {
            NodeReply::Answer(NodeAnswer::Joined(joined)) => Ok(joined),
            other => bail!("the join of {UNDERSTUDY} was answered by {other:?}"),
        }
    }

    /// `ringfleet get actors`, the verb's only way over the wire.
    async fn list_actors(&mut self, role: Role) -> Result<Outcome> {
        let folder = tempfile::tempdir()?;
        let config = self.context(role, folder.path())?;
        let mut command = Command::new(BINARY);
        command.args(["--config", &config, "--context", role.name(), "-o", "json", "get", "actors"]);
        command.stdin(Stdio::null());
        let env = &self.cluster.env;
        let output = env.timeout(PATIENCE, env.run_blocking(move || command.output())).await??;
        let stderr = String::from_utf8(output.stderr)?;
        match output.status.code() {
            Some(0) => Ok(Outcome::Accepted),
            Some(3) if stderr.contains("may not") => {
                self.denials += 1;
                Ok(Outcome::Refused)
            }
            code => bail!("`get actors` exited with {code:?} and said {stderr:?}"),
        }
    }

    /// A ctl configuration whose only context is of `role`.
    fn context(&self, role: Role, folder: &Path) -> Result<String> {
        let disk = self.cluster.env.disk();
        self.identity(role, "n1")?.save(&*disk, folder)?;
        let name = role.name().to_owned();
        let coordinators = self.cluster.local.context(LinkRole::Operator).cluster.coordinators;
        let config = ConfigFile {
            contexts: vec![ContextEntry { name: name.clone(), cluster: "test".to_owned(), credentials: name.clone() }],
            clusters: vec![ClusterEntry {
                name: "test".to_owned(),
                coordinators,
                ca: folder.join(file::CA_CERTIFICATE),
            }],
            credentials: vec![CredentialsEntry {
                name,
                certificate: folder.join(file::CERTIFICATE),
                key: folder.join(file::KEY),
            }],
            ..ConfigFile::default()
        };
        let path = folder.join("config.yaml");
        config.save(&path).map_err(anyhow::Error::msg)?;
        Ok(path.display().to_string())
    }
}
