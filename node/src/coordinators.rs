//! Requests to whichever coordinator leads.
//!
//! One connection, to the coordinator that answered last. A coordinator that does not lead names the one that does; one that
//! does not answer in time, or has no quorum, is dropped and the next in the list is tried. Every request of a node is idempotent
//! (a join by its boot number, the others by their content), so trying again is always safe.
//!
//! **A killed leader.** Nothing says that it is gone. A renewal that is not answered within `DIAL_LIMIT` drops the connection,
//! which ends the long poll on it, too; with a renewal every half second both ask another coordinator 1.25 s after the kill at
//! the latest. Coordinators come and go: the youngest view says who they are ([`Coordinators::learn`]). The others may go on naming the dead one until they have elected another: an address that has just failed is not
//! dialled again for `FAILED_FOR`.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ringfleet_env::{Env, Instant};
use ringfleet_link::{Alpn, CallError, Connection, Endpoint, Expect, Role};
use ringfleet_proto::control::{CoordinatorView, Failure, NodeAnswer, NodeReply, NodeRequest, decode, encode};
use tokio::sync::Mutex;

/// How long one dial may take.
const DIAL_LIMIT: Duration = Duration::from_millis(750);
/// For how long an address that has failed is passed over: as long as dialling it in vain would take.
const FAILED_FOR: Duration = DIAL_LIMIT;
/// Before the list is tried again from the start.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// A caller of coordinators; clones share the connection.
#[derive(Clone, Debug)]
pub struct Coordinators {
    env: Env,
    endpoint: Endpoint,
    /// The addresses that this process was started with.
    configured: Arc<[String]>,
    /// The addresses in the youngest view; shared by all callers. Locked for a copy.
    learned: Arc<std::sync::Mutex<Vec<String>>>,
    /// Locked only while choosing and dialling, never during a call, and waited for no longer than the request.
    current: Arc<Mutex<Current>>,
}

#[derive(Debug, Default)]
struct Current {
    connection: Option<Connection>,
    /// The address it was dialled at.
    addr: String,
    /// The address that failed last, and when.
    failed: Option<(String, Instant)>,
    /// The leader's address as another coordinator named it; tried before the list.
    hint: Option<String>,
    /// Where the next try begins in the list.
    next: usize,
    /// Rounds of the list in vain.
    rounds: usize,
    last_failure: Option<String>,
}

impl Coordinators {
    /// A caller through `endpoint` of the coordinators at `addrs` (`host:port`, at least one).
    #[must_use]
    pub fn new(env: &Env, endpoint: Endpoint, addrs: &[String]) -> Self {
        Self { env: env.clone(), endpoint, configured: addrs.into(), learned: Arc::default(), current: Arc::default() }
    }

    /// These are the coordinators from now on, as the youngest view says. The addresses that this process was started with are tried again
    /// only when none of these can be reached.
    pub fn learn(&self, coordinators: &[CoordinatorView]) {
        if !coordinators.is_empty() {
            let addrs = coordinators.iter().map(|coordinator| coordinator.addr.clone()).collect();
            *self.learned.lock().unwrap_or_else(PoisonError::into_inner) = addrs;
        }
    }

    /// Whom to try, in turn.
    fn list(&self, current: &Current) -> Vec<String> {
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if learned.is_empty() || current.rounds % 2 == 1 { self.configured.to_vec() } else { learned }
    }

    /// A caller of the same coordinators with a connection of its own: neither waits for the other's dials, nor loses its
    /// connection by the other's deadlines.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { current: Arc::default(), ..self.clone() }
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
        let bytes = encoded(request)?;
        self.call_trying(|| Ok(bytes.clone()), limit, (limit / 2).max(DIAL_LIMIT)).await
    }

    /// As [`Coordinators::call`] for a long poll: one coordinator may take all of `limit`.
    ///
    /// # Errors
    /// As [`Coordinators::call`].
    pub async fn long_poll(&self, request: &NodeRequest, limit: Duration) -> Result<NodeAnswer, Failure> {
        let bytes = encoded(request)?;
        self.call_trying(|| Ok(bytes.clone()), limit, limit).await
    }

    /// As [`Coordinators::call`] for a request that says when it was sent: it is made anew for every try, and the answer is that
    /// to the last one made. One coordinator may take as long as a dial.
    ///
    /// # Errors
    /// As [`Coordinators::call`].
    pub async fn call_made(
        &self,
        mut make: impl FnMut() -> NodeRequest + Send,
        limit: Duration,
    ) -> Result<NodeAnswer, Failure> {
        self.call_trying(move || encoded(&make()), limit, DIAL_LIMIT).await
    }

    async fn call_trying(
        &self,
        mut make: impl FnMut() -> Result<Bytes, Failure> + Send,
        limit: Duration,
        try_limit: Duration,
    ) -> Result<NodeAnswer, Failure> {
        let deadline = self.env.now() + limit;
        let mut hops = 0_u32;
        loop {
            if deadline <= self.env.now() {
                return Err(Failure::Unavailable { message: self.why_not(deadline).await });
            }
            let Some(connection) = self.connection(deadline).await else { continue };
            let left = deadline.saturating_since(self.env.now());
            match connection.call(make()?, left.min(try_limit)).await {
                Ok(reply) => match decode::<NodeReply>(&reply) {
                    Ok(NodeReply::Answer(answer)) => return Ok(answer),
                    Ok(NodeReply::Failed(Failure::NotLeader { leader })) => {
                        hops += 1;
                        // Two that name each other are asked again after a pause.
                        let go_on = leader.is_some() && hops % 2 == 1;
                        self.leave(&connection, leader.map(|hint| hint.addr), "not the leader").await;
                        if !go_on {
                            self.pause(deadline).await;
                        }
                    }
                    // It leads, or believes so, without a quorum: another one may have been elected.
                    Ok(NodeReply::Failed(failure @ Failure::Unavailable { .. })) => {
                        self.leave(&connection, None, &failure.to_string()).await;
                        self.pause(deadline).await;
                    }
                    Ok(NodeReply::Failed(failure)) => return Err(failure),
                    Err(error) => return Err(Failure::Unknown { message: error.to_string() }),
                },
                // Closing the connection also ends the other calls that wait on it: a long poll of a dead leader would otherwise
                // go on until its own deadline.
                Err(error) => {
                    let cut_short = matches!(error, CallError::Deadline { .. }) && left < try_limit / 2;
                    if cut_short {
                        // Says nothing about the coordinator; others use the connection.
                        return Err(Failure::Unavailable { message: error.to_string() });
                    }
                    self.give_up(&connection, &error.to_string()).await;
                }
            }
        }
    }

    async fn why_not(&self, deadline: Instant) -> String {
        match self.env.timeout_at(deadline, self.last_failure()).await {
            Ok(Some(last)) => last,
            Ok(None) => "no coordinator was tried".to_owned(),
            Err(_) => "another request is dialling".to_owned(),
        }
    }

    /// The connection at hand, or a new one to the next coordinator; `None` after a failed dial.
    async fn connection(&self, deadline: Instant) -> Option<Connection> {
        let mut current = self.env.timeout_at(deadline, self.current.lock()).await.ok()?;
        if let Some(connection) = &current.connection {
            if connection.close_reason().is_none() {
                return Some(connection.clone());
            }
            current.connection = None;
            current.failed = Some((std::mem::take(&mut current.addr), self.env.now()));
        }
        let addr = self.choose(&mut current);
        match self.dial(&addr, deadline).await {
            Ok(connection) => {
                current.connection = Some(connection.clone());
                current.addr = addr;
                current.rounds = 0;
                Some(connection)
            }
            Err(failure) => {
                tracing::debug!(%addr, %failure, "coordinator not reached");
                if self.env.now() < deadline {
                    current.failed = Some((addr, self.env.now()));
                }
                current.last_failure = Some(failure);
                let round_over = current.next >= self.list(&current).len();
                if round_over {
                    current.next = 0;
                    current.rounds += 1;
                }
                drop(current);
                if round_over {
                    self.pause(deadline).await;
                }
                None
            }
        }
    }

    /// Whom to dial: the named leader, else the next in the list, and of both none that has just failed if there is another.
    fn choose(&self, current: &mut Current) -> String {
        let now = self.env.now();
        let failed = current.failed.as_ref().filter(|(_, at)| now < *at + FAILED_FOR).map(|(addr, _)| addr.clone());
        let good = |addr: &String| failed.as_ref() != Some(addr);
        if let Some(hint) = current.hint.take().filter(good) {
            return hint;
        }
        let list = self.list(current);
        for _ in 0..2 {
            let at = current.next % list.len();
            current.next = at + 1;
            if good(&list[at]) {
                return list[at].clone();
            }
        }
        list[current.next - 1].clone()
    }

    async fn dial(&self, addr: &str, deadline: Instant) -> Result<Connection, String> {
        let limit = deadline.saturating_since(self.env.now()).min(DIAL_LIMIT);
        let deadline = self.env.now() + limit;
        let resolved = self.env.timeout_at(deadline, self.env.resolve(addr)).await;
        let resolved = resolved.map_err(|_| format!("resolving {addr}: no answer within {limit:?}"))?;
        let resolved = resolved.map_err(|error| format!("resolving {addr}: {error}"))?;
        let first = resolved.first().ok_or_else(|| format!("resolving {addr}: no address"))?;
        // What is left of the one limit.
        let limit = deadline.saturating_since(self.env.now());
        self.endpoint
            .connect(*first, Alpn::Control, Expect::role(Role::Coordinator), limit)
            .await
            .map_err(|error| error.to_string())
    }

    /// Leaves a coordinator that answers, for the one that it names or the next.
    async fn leave(&self, connection: &Connection, hint: Option<String>, why: &str) {
        let mut current = self.current.lock().await;
        if current.forget(connection, why) {
            current.hint = hint;
        }
        drop(current);
        connection.close(ringfleet_link::code::NORMAL, "trying another coordinator");
    }

    /// Leaves a coordinator that does not answer.
    async fn give_up(&self, connection: &Connection, why: &str) {
        // First, so that nobody goes on waiting on it while somebody dials.
        connection.close(ringfleet_link::code::NORMAL, "trying another coordinator");
        let mut current = self.current.lock().await;
        if current.forget(connection, why) {
            current.failed = Some((current.addr.clone(), self.env.now()));
        }
    }

    async fn pause(&self, deadline: Instant) {
        self.env.sleep_until(deadline.min(self.env.now() + ROUND_PAUSE)).await;
    }
}

impl Current {
    /// Forgets the connection at hand if it is this one; says whether it was.
    fn forget(&mut self, connection: &Connection, why: &str) -> bool {
        let at_hand = self.connection.take_if(|at_hand| at_hand.is_same(connection)).is_some();
        if at_hand {
            self.last_failure = Some(format!("{}: {why}", connection.remote_addr()));
        }
        at_hand
    }
}

fn encoded(request: &NodeRequest) -> Result<Bytes, Failure> {
    encode(request).map(Bytes::from).map_err(|error| Failure::Unavailable { message: error.to_string() })
}
