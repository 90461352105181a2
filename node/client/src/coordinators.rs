//! Calls to whichever coordinator leads.
//!
//! ```text
//!   try --> answer                      done
//!       --> Refused                     done
//!       --> NotLeader{hint}             the one in the hint, else the next
//!       --> Unavailable, Unknown        the next, after a pause
//!       --> nothing within TRY_LIMIT    the next; the connection is dropped (its peer may be dead, and QUIC's idle timeout is far)
//! ```
//! Every try carries the same operation id, so a request that takes effect takes effect once however often it is sent; that
//! is why trying again after an unknown outcome is safe (C1, C4). Everything ends by the caller's deadline (C9).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringfleet_env::{Env, Instant};
use ringfleet_link::{Alpn, ConnectError, Connection, Endpoint, Expect, Role};
use ringfleet_proto::control::{
    AdminAnswer, AdminReply, AdminRequest, AdminVerb, CodecError, Failure, Verb, decode, encode,
};

use crate::error::CallError;

/// How long one coordinator may take for an answer before the next is tried, beyond the wait that the request itself asks for.
const TRY_LIMIT: Duration = Duration::from_millis(1500);
/// What is left of a call must be worth another try; the last one's failure says more than that of a try without time.
const TRY_LIMIT_MIN: Duration = Duration::from_millis(25);
/// How long one dial may take, most.
const DIAL_LIMIT: Duration = Duration::from_millis(600);
/// How long one dial is given, least, while there is as much.
const DIAL_LIMIT_MIN: Duration = Duration::from_millis(100);
/// Between two tries when a coordinator has answered that it cannot, and between two rounds of the list.
const PAUSE: Duration = Duration::from_millis(50);

/// A caller of coordinators; clones share connections.
#[derive(Clone, Debug)]
pub(crate) struct Coordinators {
    env: Env,
    endpoint: Endpoint,
    /// The addresses that this program was started with.
    configured: Arc<[String]>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The address that is tried first: who answered last, or whom somebody named as leader.
    preferred: Option<String>,
    /// The addresses in the youngest directory.
    learned: Vec<String>,
    open: HashMap<String, Connection>,
}

/// What is known of a call in work.
struct Progress {
    /// A try may have reached a coordinator and has no answer: the outcome is open.
    may_be_executed: bool,
    /// Whether any coordinator has answered at all.
    answered: bool,
    tries: u32,
    last: String,
}

/// How a try ended.
enum Try {
    /// The call is over.
    Final(Result<AdminAnswer, CallError>),
    /// The call goes on.
    Next(Next),
}

/// What one try says about the next.
enum Next {
    /// Try this address.
    Hint(String),
    /// Try the next of the list at once.
    Now,
    /// Try the next of the list after a pause.
    Later,
}

impl Coordinators {
    pub(crate) fn new(env: Env, endpoint: Endpoint, addrs: Vec<String>) -> Self {
        Self { env, endpoint, configured: addrs.into(), state: Arc::default() }
    }

    /// Whom to try, in turn: the coordinators of the youngest directory, then the others that this program was started with.
    fn addrs(&self) -> Vec<String> {
        let mut addrs = self.lock().learned.clone();
        addrs.extend(self.configured.iter().filter(|addr| !addrs.contains(addr)).cloned().collect::<Vec<_>>());
        addrs
    }

    /// The answer to `verb`, from whoever leads, by `limit` from now.
    pub(crate) async fn call(&self, verb: AdminVerb, limit: Duration) -> Result<AdminAnswer, CallError> {
        let deadline = self.env.now() + limit;
        // A long poll is silent for as long as it was asked to wait.
        let patience = match &verb {
            AdminVerb::Directory { wait_ms, .. } => TRY_LIMIT + Duration::from_millis(u64::from(*wait_ms)),
            _ => TRY_LIMIT,
        };
        let is_read = !matches!(
            verb.verb(),
            Verb::Apply
                | Verb::Scale
                | Verb::Delete
                | Verb::OpenSession
                | Verb::AddCoordinator
                | Verb::RemoveCoordinator
        );
        let mut operation = [0; 16];
        self.env.fill_random(&mut operation);
        let mut request = AdminRequest { operation: u128::from_le_bytes(operation), deadline_ms: 0, verb };
        let mut progress = Progress { may_be_executed: false, answered: false, tries: 0, last: "not tried".to_owned() };
        // Clients that know nothing yet begin at different coordinators.
        let addrs = self.addrs();
        let mut at = self.env.random_below(addrs.len() as u64) as usize;
        let mut hinted = None;
        let preferred = self.lock().preferred.clone();
        let mut addr = preferred.unwrap_or_else(|| addrs[at].clone());
        loop {
            let left = deadline - self.env.now();
            if left.is_zero() || left < TRY_LIMIT_MIN && progress.tries > 0 {
                return Err(self.give_up(progress, limit, is_read));
            }
            progress.tries += 1;
            let next = match self.attempt(&addr, &mut request, left.min(patience), &mut progress).await {
                Try::Next(next) => next,
                Try::Final(outcome) => {
                    // Whoever answers, if only by a refusal, leads.
                    if !matches!(outcome, Err(CallError::Identity(_) | CallError::Local(_))) {
                        self.lock().preferred = Some(addr);
                    }
                    return outcome;
                }
            };
            tracing::debug!(%addr, reason = progress.last, "coordinator gave no answer");
            let pause = match next {
                Next::Hint(hint) if hint != addr && hinted != Some(hint.clone()) => {
                    // Once in a row: a hint at a leader that is dead must not keep the call from the others.
                    hinted = Some(hint.clone());
                    addr = hint;
                    continue;
                }
                Next::Now => {
                    hinted = None;
                    at % addrs.len() == addrs.len() - 1
                }
                Next::Hint(_) | Next::Later => {
                    hinted = None;
                    true
                }
            };
            if pause {
                self.env.sleep_until(deadline.min(self.env.now() + PAUSE)).await;
            }
            // The next of the list that is not the one just tried.
            at += usize::from(addrs[at % addrs.len()] == addr);
            addr = addrs[at % addrs.len()].clone();
            at += 1;
        }
    }

    fn give_up(&self, progress: Progress, limit: Duration, is_read: bool) -> CallError {
        let Progress { may_be_executed, answered, last, .. } = progress;
        if may_be_executed && !is_read {
            CallError::Unknown { message: last }
        } else if answered {
            CallError::Unavailable { message: last }
        } else {
            CallError::Unreachable { tried: self.addrs().join(", "), limit, last }
        }
    }

    /// One try at one coordinator.
    async fn attempt(&self, addr: &str, request: &mut AdminRequest, limit: Duration, progress: &mut Progress) -> Try {
        let deadline = self.env.now() + limit;
        let connection = match self.connection(addr, deadline).await {
            Ok(connection) => connection,
            Err(Dial::Final(error)) => return Try::Final(Err(CallError::Identity(error))),
            Err(Dial::Failed(why)) => {
                progress.last = why;
                return Try::Next(Next::Now);
            }
        };
        let left = deadline - self.env.now();
        if left.is_zero() {
            // A call without time would count as one that may have been executed.
            progress.last = format!("{addr}: no time was left for the call");
            return Try::Next(Next::Now);
        }
        request.deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1);
        let local = |what: &str, error: CodecError| Try::Final(Err(CallError::Local(format!("{what}: {error}"))));
        let bytes = match encode(request) {
            Ok(bytes) => bytes,
            Err(error) => return local("writing the request", error),
        };
        let reply = match connection.call(bytes, left).await {
            Ok(reply) => reply,
            Err(error) => {
                progress.may_be_executed |= !error.is_unsent();
                progress.last = format!("{addr}: {error}");
                self.drop_connection(addr, &connection);
                return Try::Next(Next::Now);
            }
        };
        progress.answered = true;
        let failure = match decode::<AdminReply>(&reply) {
            Ok(AdminReply::Answer(answer)) => {
                if let AdminAnswer::Directory(directory) = &answer
                    && !directory.coordinators.is_empty()
                {
                    let addrs = directory.coordinators.iter().map(|coordinator| coordinator.addr.clone());
                    self.lock().learned = addrs.collect();
                }
                return Try::Final(Ok(answer));
            }
            Ok(AdminReply::Failed(failure)) => failure,
            Err(error) => return local(&format!("reading the answer of {addr}"), error),
        };
        progress.last = format!("{addr}: {failure}");
        match failure {
            Failure::Refused(refusal) => Try::Final(Err(CallError::Refused(refusal))),
            Failure::NotLeader { leader: Some(hint) } => Try::Next(Next::Hint(hint.addr)),
            Failure::NotLeader { leader: None } | Failure::Unavailable { .. } => Try::Next(Next::Later),
            Failure::Unknown { .. } => {
                progress.may_be_executed = true;
                Try::Next(Next::Later)
            }
        }
    }

    async fn connection(&self, addr: &str, deadline: Instant) -> Result<Connection, Dial> {
        let open = self.lock().open.get(addr).cloned();
        if let Some(open) = open.filter(|connection| connection.close_reason().is_none()) {
            return Ok(open);
        }
        // A dead coordinator must leave time for the others, also where there is little.
        let left = deadline - self.env.now();
        let fair = left / u32::try_from(self.addrs().len()).unwrap_or(u32::MAX);
        let limit = fair.clamp(DIAL_LIMIT_MIN.min(left), DIAL_LIMIT);
        let deadline = self.env.now() + limit;
        let resolved = self.env.timeout_at(deadline, self.env.resolve(addr)).await;
        let resolved = resolved.map_err(|elapsed| Dial::Failed(format!("resolving {addr}: {elapsed}")))?;
        let resolved = resolved.map_err(|error| Dial::Failed(format!("resolving {addr}: {error}")))?;
        let first = resolved.first().ok_or_else(|| Dial::Failed(format!("resolving {addr}: no address")))?;
        let left = deadline.saturating_since(self.env.now());
        let dialled = self.endpoint.connect(*first, Alpn::Control, Expect::role(Role::Coordinator), left).await;
        match dialled {
            Ok(connection) => {
                self.lock().open.insert(addr.to_owned(), connection.clone());
                Ok(connection)
            }
            Err(error) if error.is_transient() => Err(Dial::Failed(error.to_string())),
            Err(error @ (ConnectError::Protocol { .. } | ConnectError::BadAddress { .. })) => {
                Err(Dial::Failed(error.to_string()))
            }
            Err(error) => Err(Dial::Final(error)),
        }
    }

    fn drop_connection(&self, addr: &str, connection: &Connection) {
        let mut state = self.lock();
        if state.open.get(addr).is_some_and(|open| open.is_same(connection)) {
            state.open.remove(addr);
        }
        if state.preferred.as_deref() == Some(addr) {
            state.preferred = None;
        }
        drop(state);
        connection.close(ringfleet_link::code::NORMAL, "trying another coordinator");
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no connection.
enum Dial {
    /// Another try, or another coordinator, may do.
    Failed(String),
    /// No coordinator will accept this identity, or is acceptable to it.
    Final(ConnectError),
}
