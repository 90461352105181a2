//! What clients do, and what they may expect.
//!
//! The first client is an operator: it applies, scales, deletes and looks up sets, opens sessions and reads the directory. The others
//! tell streams of numbered messages to relays, and ask sinks (C3, C4).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ringfleet_actor::Message;
use ringfleet_client::{AskError, CallError, Client, FlushError, Session, TellError};
use ringfleet_env::Env;
use ringfleet_proto::control::{ActorSet, AdminAnswer, AdminVerb};

use crate::actors::{Hop, Read, Seen, Stamped};
use crate::checks::c1_directory::Op;
use crate::cluster::{Cluster, Replacing, SHARDS};
use crate::exec::{HostId, lock};
use crate::observe::Checks;
use crate::rng::Rng;
use crate::set_calls::SetCall;
use crate::world::{addr_of, name_of};

/// How long an operation may take.
const OP_LIMIT: Duration = Duration::from_secs(4);
/// Keys that each client tells.
const KEYS: u64 = 12;
/// How long an ask may take.
const ASK_LIMIT: Duration = Duration::from_millis(800);
/// How much later than its limit an ask may end: what the client waits for its driver's last word, and scheduling.
const ASK_GRACE_NS: u64 = 60_000_000;
/// How long telling the rest may take once nothing goes wrong any more.
const FLUSH_LIMIT: Duration = Duration::from_secs(20);
/// Sets that are created and deleted.
const PASSING_SETS: [&str; 3] = ["sim.x1", "sim.x2", "sim.x3"];

/// A client that asks the coordinators for this and that.
pub struct Operator {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Where answers go.
    pub checks: Arc<Checks>,
    /// What it does next.
    pub rng: Rng,
}

impl Operator {
    /// Works until its host is ended.
    pub async fn run(mut self, host: HostId, env: Env) {
        let client = match self.cluster.client(host, &env) {
            Ok(client) => client,
            Err(why) => return self.cluster.violation(format!("a client cannot be made: {why}")),
        };
        let nodes = self.cluster.scenario.nodes;
        if nodes > 0 {
            self.apply_workload(&client).await;
        }
        loop {
            env.sleep(Duration::from_millis(self.rng.between(5, 150))).await;
            // The first client is the one who tends the machines.
            if host == crate::world::client(1)
                && let Err(violation) = self.tend(&client).await
            {
                self.cluster.violation(violation);
            }
            let result = match self.rng.below(if nodes > 0 { 12 } else { 3 }) {
                0 => self.open_session(&client).await,
                1..=3 => self.read(&client).await,
                // Sets cannot be moved without a word while everybody checks that they arrive.
                4 if self.cluster.scenario.moves && self.cluster.is_working() => self.scale(&client).await,
                _ => self.set_op(&client).await,
            };
            if let Err(violation) = result {
                self.cluster.violation(violation);
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.cluster.world.core.now_ns()
    }

    /// Applies the sets of the workload, whatever that takes.
    async fn apply_workload(&self, client: &Client) {
        for hop in [Hop::Relay, Hop::Sink] {
            let mut document = ActorSet::new(hop.name(), hop.name());
            document.spec.shards = SHARDS;
            while client.call(AdminVerb::Apply { document: document.clone() }, OP_LIMIT).await.is_err() {}
        }
    }

    /// Takes a coordinator that has lost its disk out of the group, and back in with an empty one.
    async fn tend(&self, client: &Client) -> Result<(), String> {
        let Some((host, step)) = self.cluster.replacement() else { return Ok(()) };
        let name = name_of(host);
        let verb = match step {
            Replacing::Remove => AdminVerb::RemoveCoordinator { name },
            Replacing::Add => AdminVerb::AddCoordinator { name, addr: addr_of(host).to_string() },
        };
        match client.call(verb, OP_LIMIT).await {
            Ok(AdminAnswer::CoordinatorsChanged { .. }) => {
                let (next, what) = match step {
                    Replacing::Remove => (Some((host, Replacing::Add)), "coordinators removed"),
                    Replacing::Add => (None, "coordinators added"),
                };
                self.cluster.counts.op(what);
                self.cluster.replaced(next);
                Ok(())
            }
            // Not possible now: it is tried again.
            other => self.without_answer(other),
        }
    }

    async fn scale(&mut self, client: &Client) -> Result<(), String> {
        let set = if self.rng.chance(500_000) { Hop::Relay } else { Hop::Sink }.name().to_owned();
        let workers = self.rng.between(1, 8) as u32;
        match client.call(AdminVerb::Scale { set, workers, discard_state: true }, OP_LIMIT).await {
            Ok(AdminAnswer::Set { .. }) => {
                self.cluster.counts.op("sets scaled");
                Ok(())
            }
            other => self.without_answer(other),
        }
    }

    /// Creates, deletes or looks up one of the passing sets, and tells the check what the answer says.
    async fn set_op(&mut self, client: &Client) -> Result<(), String> {
        let name = *self.rng.pick(&PASSING_SETS);
        let began_ns = self.now_ns();
        let call = SetCall::ALL[self.rng.below(3) as usize];
        let answer = client.call(call.verb(name, Hop::Sink.name()), OP_LIMIT).await;
        let is_open = matches!(answer, Err(CallError::Unknown { .. }));
        let Some(op) = call.told(&answer) else { return self.without_answer(answer) };
        self.cluster.counts.op(if is_open { "unknown" } else { "set operations" });
        let ended_ns = if is_open { u64::MAX } else { self.now_ns() };
        lock(&self.checks.directory).op(name, Op { began_ns, ended_ns, what: op });
        Ok(())
    }

    async fn open_session(&self, client: &Client) -> Result<(), String> {
        let began_ns = self.now_ns();
        lock(&self.checks.directory).ask_session();
        match client.call(AdminVerb::OpenSession, OP_LIMIT).await {
            Ok(AdminAnswer::Session { session }) => {
                self.cluster.counts.op("sessions opened");
                lock(&self.checks.directory).session(began_ns, self.now_ns(), u64::from(session))
            }
            other => self.without_answer(other),
        }
    }

    async fn read(&self, client: &Client) -> Result<(), String> {
        let began_ns = self.now_ns();
        match client.call(AdminVerb::Directory { have_index: 0, wait_ms: 0 }, OP_LIMIT).await {
            Ok(AdminAnswer::Directory(directory)) => {
                self.cluster.counts.op("directories read");
                lock(&self.checks.directory).index(began_ns, self.now_ns(), directory.index)
            }
            other => self.without_answer(other),
        }
    }

    /// What may happen to an operation while things go wrong.
    fn without_answer(&self, result: Result<AdminAnswer, CallError>) -> Result<(), String> {
        self.cluster.counts.op(match result {
            Err(CallError::Unavailable { .. } | CallError::Unreachable { .. }) => "unavailable",
            Err(CallError::Unknown { .. }) => "unknown",
            Err(CallError::Refused(_)) => "refused",
            Err(CallError::Identity(error)) => return Err(format!("C11: a good identity was refused: {error}")),
            Err(CallError::Local(error)) => return Err(format!("a request failed at the client: {error}")),
            Ok(other) => return Err(format!("C1: the answer is of another request: {other:?}")),
        });
        Ok(())
    }
}

/// A client that tells and asks.
pub struct Teller {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Where answers go.
    pub checks: Arc<Checks>,
    /// What it does next.
    pub rng: Rng,
}

impl Teller {
    /// Works until the work is over, then waits until everything it told is acknowledged or reported lost.
    pub async fn run(mut self, host: HostId, env: Env) {
        let client = match self.cluster.client(host, &env) {
            Ok(client) => client,
            Err(why) => return self.cluster.violation(format!("a client cannot be made: {why}")),
        };
        let session = loop {
            lock(&self.checks.directory).ask_session();
            if let Ok(session) = client.session(OP_LIMIT).await {
                break session;
            }
        };
        self.checks.follow(&session);
        let (relay, sink) = loop {
            if let (Ok(relay), Ok(sink)) = (session.set(Hop::Relay.name()).await, session.set(Hop::Sink.name()).await) {
                break (relay, sink);
            }
        };
        let own = u64::from(session.id().0);
        let mut next = [0_u64; KEYS as usize];
        while self.cluster.is_working() {
            if self.rng.chance(50_000) {
                self.ask(&session, sink).await;
            } else {
                for _ in 0..self.rng.between(1, self.cluster.scenario.burst) {
                    let at = self.rng.index(next.len());
                    let key = at as u64;
                    next[at] += 1;
                    lock(&self.checks.order).tell(own, key, next[at]);
                    let message = Stamped { seq: next[at], session: own };
                    let payload = &message.to_payload()[..size_of::<Stamped>()];
                    if let Err(error) = session.tell(relay, key, Stamped::KIND, payload).await {
                        return self.cluster.violation(told(&error));
                    }
                    self.cluster.counts.op("told");
                }
            }
            env.sleep(Duration::from_millis(self.rng.between(1, 60))).await;
        }
        match env.timeout(FLUSH_LIMIT, session.flush()).await {
            Ok(Ok(()) | Err(FlushError::Lost { .. })) => {}
            Ok(Err(error)) => return self.cluster.violation(format!("C3: a session ended by itself: {error}")),
            Err(_) => {
                let counters = session.counters();
                let what = format!(
                    "C10: what a session told is neither acknowledged nor lost {FLUSH_LIMIT:?} later: {counters:?}"
                );
                return self.cluster.violation(what);
            }
        }
        let lost = session.counters().lost;
        if let Err(violation) = lock(&self.checks.order).drained(own, lost) {
            return self.cluster.violation(violation);
        }
        self.cluster.drained.fetch_add(1, Ordering::Relaxed);
        // Its host goes on: a client that has ended would take its connections away.
        std::future::pending::<()>().await;
    }

    /// C4: an ask ends by its deadline.
    async fn ask(&mut self, session: &Session, sink: ringfleet_abi::SetId) {
        let began_ns = self.cluster.world.core.now_ns();
        let key = self.rng.below(KEYS);
        let payload = &Read {}.to_payload()[..size_of::<Read>()];
        let answer = session.ask(sink, key, Read::KIND, payload, ASK_LIMIT).await;
        let took_ns = self.cluster.world.core.now_ns() - began_ns;
        if took_ns > ASK_LIMIT.as_nanos() as u64 + ASK_GRACE_NS {
            self.cluster.violation(format!("C4: an ask of {ASK_LIMIT:?} ended after {} ms", took_ns / 1_000_000));
        }
        self.cluster.counts.op(match answer {
            Ok(reply) if reply.message::<Seen>().is_some() => "asks answered",
            Ok(_) => return self.cluster.violation("C4: an ask was answered with something else".to_owned()),
            Err(AskError::Refused(_)) => "asks refused",
            Err(AskError::Unknown(_)) => "asks unknown",
            Err(AskError::Failed { .. }) => "asks failed",
        });
    }
}

fn told(error: &TellError) -> String {
    format!("C3: a tell to a set that exists failed: {error}")
}
