//! The client: calls to the coordinators, and sessions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ringfleet_abi::SessionId;
use ringfleet_env::Env;
use ringfleet_link::{Endpoint, Identity, LinkConfig};
use ringfleet_proto::control::{AdminAnswer, AdminVerb, Directory};

use crate::coordinators::Coordinators;
use crate::error::{CallError, ClientError};
use crate::session::Session;

/// Whom to call, as whom.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Addresses of coordinators, as `host:port`. One that answers is enough; all of them survive more.
    pub coordinators: Vec<String>,
    /// Who this is.
    pub identity: Identity,
    /// Settings of links. `None`: those of the loopback interface if the first coordinator is on it, else those of a network.
    pub link: Option<LinkConfig>,
    /// Messages of one session that are taken and not yet acknowledged. At the bound `tell` waits (C9). More hides a longer
    /// round trip, and holds 64 bytes each.
    pub window: usize,
}

impl ClientConfig {
    /// Messages of one session that are taken and not yet acknowledged, if nothing else is said.
    pub const WINDOW_DEFAULT: usize = 64 << 10;

    /// Defaults.
    #[must_use]
    pub fn new(coordinators: Vec<String>, identity: Identity) -> Self {
        Self { coordinators, identity, link: None, window: Self::WINDOW_DEFAULT }
    }
}

/// A client. Clones share its socket and its connections.
#[derive(Clone, Debug)]
pub struct Client {
    env: Env,
    endpoint: Endpoint,
    coordinators: Coordinators,
    window: usize,
}

impl Client {
    /// A client. Opens a socket; nothing is sent before the first call. Called on the executor that will drive it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(env: &Env, config: ClientConfig) -> Result<Self, ClientError> {
        let ClientConfig { coordinators, identity, link, window } = config;
        let first = coordinators.first().ok_or(ClientError::NoCoordinator)?;
        // A host name is not resolved for this: only a literal loopback address gets loopback settings.
        let first: Option<SocketAddr> = first.parse().ok();
        let unspecified = match first.map(|addr| addr.ip()) {
            Some(ip @ IpAddr::V4(_)) if ip.is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(ip @ IpAddr::V6(_)) if ip.is_loopback() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        let link = link.unwrap_or_else(|| LinkConfig::for_addr(unspecified));
        let endpoint = Endpoint::bind(env, SocketAddr::new(unspecified, 0), identity, link)?;
        let coordinators = Coordinators::new(env.clone(), endpoint.clone(), coordinators);
        Ok(Self { env: env.clone(), endpoint, coordinators, window: window.max(1) })
    }

    /// The environment it lives in.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Asks whichever coordinator leads, following and trying again until `limit` has passed. Takes effect at most once.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, verb: AdminVerb, limit: Duration) -> Result<AdminAnswer, CallError> {
        self.coordinators.call(verb, limit).await
    }

    /// Members, sets and placement.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn directory(&self, limit: Duration) -> Result<Directory, CallError> {
        match self.call(AdminVerb::Directory { have_index: 0, wait_ms: 0 }, limit).await? {
            AdminAnswer::Directory(directory) => Ok(directory),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens a session: a sender with a number of its own, whose messages are handled in order (C3).
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn session(&self, limit: Duration) -> Result<Session, CallError> {
        let deadline = self.env.now() + limit;
        let session = match self.call(AdminVerb::OpenSession, limit).await? {
            AdminAnswer::Session { session } => SessionId(session),
            other => return Err(unexpected(&other)),
        };
        let directory = self.directory(deadline - self.env.now()).await?;
        Ok(Session::start(&self.env, &self.endpoint, &self.coordinators, session, directory, self.window))
    }

    /// Closes every connection and waits, at most `limit`, until the peers have been told.
    pub async fn close(&self, limit: Duration) {
        self.endpoint.close(ringfleet_link::code::NORMAL, "the client is done");
        // Peers that are gone cannot be told.
        let _ = self.env.timeout(limit, self.endpoint.wait_idle()).await;
    }
}

fn unexpected(answer: &AdminAnswer) -> CallError {
    let name = format!("{answer:?}");
    let name = name.split(['(', ' ', '{']).next().unwrap_or("");
    CallError::Local(format!("the coordinator answered something else ({name})"))
}
