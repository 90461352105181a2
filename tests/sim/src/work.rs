//! What clients do, and what they may expect.

use std::sync::Arc;
use std::time::Duration;

use ringfleet_client::{CallError, Client};
use ringfleet_env::Env;
use ringfleet_proto::control::{AdminAnswer, AdminVerb};

use crate::cluster::Cluster;
use crate::exec::{HostId, lock};
use crate::observe::Checks;
use crate::rng::Rng;

/// How long an operation may take.
const OP_LIMIT: Duration = Duration::from_secs(4);

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
        loop {
            env.sleep(Duration::from_millis(self.rng.between(5, 150))).await;
            let result = match self.rng.below(3) {
                0 => self.open_session(&client).await,
                _ => self.read(&client).await,
            };
            if let Err(violation) = result {
                self.cluster.violation(violation);
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.cluster.world.core.now_ns()
    }

    async fn open_session(&self, client: &Client) -> Result<(), String> {
        let began_ns = self.now_ns();
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
