//! Requests to whichever coordinator leads.
//!
//! One connection, to the coordinator that answered last. A coordinator that does not lead names the one that does; one that
//! does not answer in time is dropped and the next in the list is tried. Every request of a node is idempotent (a join by its boot
//! number, the others by their content), so trying again is always safe.

use std::{sync::Arc, time::Duration};

use ringfleet_env::{Env, Instant};
use ringfleet_link::{Alpn, Connection, Endpoint, Expect, Role};
use ringfleet_proto::control::{Failure, NodeAnswer, NodeReply, NodeRequest, decode, encode};
use tokio::sync::Mutex;

/// How long one dial may take.
const DIAL_LIMIT: Duration = Duration::from_millis(750);
/// Before the list is tried again from the start.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// A caller of coordinators; clones share the connection.
#[derive(Clone, Debug)]
pub struct Coordinators {
    env: Env,
    endpoint: Endpoint,
    addrs: Arc<[String]>,
    /// Locked only while choosing and dialling, never during a call.
    current: Arc<Mutex<Current>>,
}

#[derive(Debug, Default)]
struct Current {
    connection: Option<Connection>,
    /// The leader's address as another coordinator named it; tried before the list.
    hint: Option<String>,
    /// Where the next try begins in the list.
    next: usize,
    last_failure: Option<String>,
}

impl Coordinators {
    /// A caller through `endpoint` of the coordinators at `addrs` (`host:port`, at least one).
    #[must_use]
    pub fn new(env: &Env, endpoint: Endpoint, addrs: &[String]) -> Self {
        Self { env: env.clone(), endpoint, addrs: addrs.into(), current: Arc::default() }
    }

    /// Why the last try failed, for messages to people.
    pub async fn last_failure(&self) -> Option<String> {
        self.current.lock().await.last_failure.clone()
    }

    /// The leader's answer to `request`, waiting at most `limit` in total and at most half of it, but not less than a dial, for
    /// one coordinator.
    ///
    /// # Errors
    /// The failure that a coordinator answered, or [`Failure::Unavailable`] if none answered in time.
    pub async fn call(&self, request: &NodeRequest, limit: Duration) -> Result<NodeAnswer, Failure> {
        self.call_trying(request, limit, (limit / 2).max(DIAL_LIMIT)).await
    }

    /// As [`Coordinators::call`] for a long poll: one coordinator may take all of `limit`.
    ///
    /// # Errors
    /// As [`Coordinators::call`].
    pub async fn long_poll(&self, request: &NodeRequest, limit: Duration) -> Result<NodeAnswer, Failure> {
        self.call_trying(request, limit, limit).await
    }

    async fn call_trying(
        &self,
        request: &NodeRequest,
        limit: Duration,
        try_limit: Duration,
    ) -> Result<NodeAnswer, Failure> {
        let deadline = self.env.now() + limit;
        let bytes: bytes::Bytes =
            encode(request).map_err(|error| Failure::Unavailable { message: error.to_string() })?.into();
        loop {
            let left = deadline.saturating_since(self.env.now());
            if left.is_zero() {
                let last = self.last_failure().await.unwrap_or_else(|| "no coordinator was tried".to_owned());
                return Err(Failure::Unavailable { message: last });
            }
            let Some(connection) = self.connection(deadline).await else { continue };
            match connection.call(bytes.clone(), left.min(try_limit)).await {
                Ok(reply) => match decode::<NodeReply>(&reply) {
                    Ok(NodeReply::Answer(answer)) => return Ok(answer),
                    Ok(NodeReply::Failed(Failure::NotLeader { leader })) => {
                        let named = leader.is_some();
                        self.drop_connection(&connection, leader.map(|hint| hint.addr), "not the leader").await;
                        if !named {
                            self.pause(deadline).await;
                        }
                    }
                    Ok(NodeReply::Failed(failure)) => return Err(failure),
                    Err(error) => return Err(Failure::Unknown { message: error.to_string() }),
                },
                // Closing the connection also ends the other calls that wait on it: a long poll of a dead leader would otherwise
                // go on until its own deadline.
                Err(error) => self.drop_connection(&connection, None, &error.to_string()).await,
            }
        }
    }

    /// The connection at hand, or a new one to the next coordinator; `None` after a failed dial.
    async fn connection(&self, deadline: Instant) -> Option<Connection> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection {
            if connection.close_reason().is_none() {
                return Some(connection.clone());
            }
            current.connection = None;
        }
        let addr = match current.hint.take() {
            Some(hint) => hint,
            None => {
                let at = current.next % self.addrs.len();
                current.next = at + 1;
                self.addrs[at].clone()
            }
        };
        match self.dial(&addr, deadline).await {
            Ok(connection) => {
                current.connection = Some(connection.clone());
                Some(connection)
            }
            Err(failure) => {
                tracing::debug!(%addr, %failure, "coordinator not reached");
                current.last_failure = Some(failure);
                let round_over = current.next >= self.addrs.len();
                drop(current);
                if round_over {
                    self.pause(deadline).await;
                }
                None
            }
        }
    }

    async fn dial(&self, addr: &str, deadline: Instant) -> Result<Connection, String> {
        let limit = deadline.saturating_since(self.env.now()).min(DIAL_LIMIT);
        let resolved = self.env.resolve(addr).await.map_err(|error| format!("resolving {addr}: {error}"))?;
        let first = resolved.first().ok_or_else(|| format!("resolving {addr}: no address"))?;
        self.endpoint
            .connect(*first, Alpn::Control, Expect::role(Role::Coordinator), limit)
            .await
            .map_err(|error| error.to_string())
    }

    async fn drop_connection(&self, connection: &Connection, hint: Option<String>, why: &str) {
        let mut current = self.current.lock().await;
        if current.connection.as_ref().is_some_and(|at_hand| at_hand.is_same(connection)) {
            current.connection = None;
            current.hint = hint;
            current.last_failure = Some(format!("{}: {why}", connection.remote_addr()));
        }
        drop(current);
        connection.close(ringfleet_link::code::NORMAL, "trying another coordinator");
    }

    async fn pause(&self, deadline: Instant) {
        self.env.sleep_until(deadline.min(self.env.now() + ROUND_PAUSE)).await;
    }
}
