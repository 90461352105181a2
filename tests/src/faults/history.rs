//! What operators do while things go wrong, and the order that must explain what they were told (C1).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Error, Result, bail, ensure};
use ringfleet_abi::hash::mix64;
use ringfleet_client::{CallError, Client};
use ringfleet_env::Env;
use ringfleet_proto::control::{AdminAnswer, AdminVerb};
use ringfleet_sim::checks::c1_directory::{Directory, Op};
use ringfleet_sim::set_calls::SetCall;

/// How long an operation may take.
const LIMIT: Duration = Duration::from_secs(4);
/// Between two operations of one operator.
const PACE: Duration = Duration::from_millis(60);
/// Sets that are created and deleted.
const PASSING: [&str; 3] = ["test.x1", "test.x2", "test.x3"];
/// How long the last look-ups may take.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// What all operators asked and were told.
#[derive(Debug, Default)]
pub struct History {
    directory: Mutex<Directory>,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works as one operator until `over`.
    ///
    /// # Errors
    /// What broke.
    pub async fn operate(&self, env: &Env, client: &Client, seed: u64, over: &AtomicBool) -> Result<()> {
        let mut dice = mix64(seed);
        while !over.load(Ordering::Relaxed) {
            dice = mix64(dice);
            let (kind, set) = (dice % 8, PASSING[(dice >> 8) as usize % PASSING.len()]);
            match kind {
                0 => self.open_session(env, client).await?,
                1 => self.read(env, client).await?,
                _ => drop(self.set_op(env, client, set, SetCall::ALL[(kind % 3) as usize]).await?),
            }
            env.sleep(PACE).await;
        }
        Ok(())
    }

    /// Looks at what is there now, and searches for an order of everything. Gives how many operations there were.
    ///
    /// # Errors
    /// If there is none.
    pub async fn check(&self, env: &Env, client: &Client) -> Result<usize> {
        let deadline = env.now() + LOOK_LIMIT;
        for set in PASSING {
            while !self.set_op(env, client, set, SetCall::Look).await? {
                ensure!(env.now() < deadline, "C10: nobody says what became of set {set}");
            }
        }
        self.lock().check().map_err(Error::msg)?;
        Ok(self.lock().len())
    }

    async fn open_session(&self, env: &Env, client: &Client) -> Result<()> {
        let began_ns = env.now().as_ns();
        match client.call(AdminVerb::OpenSession, LIMIT).await {
            Ok(AdminAnswer::Session { session }) => {
                self.lock().session(began_ns, env.now().as_ns(), u64::from(session)).map_err(Error::msg)
            }
            other => without_answer(other),
        }
    }

    async fn read(&self, env: &Env, client: &Client) -> Result<()> {
        let began_ns = env.now().as_ns();
        match client.call(AdminVerb::Directory { have_index: 0, wait_ms: 0 }, LIMIT).await {
            Ok(AdminAnswer::Directory(directory)) => {
                self.lock().index(began_ns, env.now().as_ns(), directory.index).map_err(Error::msg)
            }
            other => without_answer(other),
        }
    }

    /// Says whether there was an answer.
    async fn set_op(&self, env: &Env, client: &Client, name: &str, call: SetCall) -> Result<bool> {
        let began_ns = env.now().as_ns();
        let answer = client.call(call.verb(name, "test.stage"), LIMIT).await;
        let is_open = matches!(answer, Err(CallError::Unknown { .. }));
        let Some(op) = call.told(&answer) else { return without_answer(answer).map(|()| false) };
        let ended_ns = if is_open { u64::MAX } else { env.now().as_ns() };
        self.lock().op(name, Op { began_ns, ended_ns, what: op });
        Ok(!is_open)
    }
}

/// What may happen to an operation while things go wrong.
fn without_answer(result: Result<AdminAnswer, CallError>) -> Result<()> {
    match result {
        Err(CallError::Unavailable { .. } | CallError::Unreachable { .. } | CallError::Unknown { .. }) => Ok(()),
        Err(CallError::Refused(_)) => Ok(()),
        Err(CallError::Identity(error)) => bail!("C11: a good identity was refused: {error}"),
        Err(CallError::Local(error)) => bail!("a request failed at the client: {error}"),
        Ok(other) => bail!("C1: the answer is of another request: {other:?}"),
    }
}
