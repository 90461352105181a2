//! What operators do while things go wrong, and the order that must explain what they were told (C1).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Error, Result, bail, ensure};
use ringfleet_abi::hash::mix64;
use ringfleet_client::{CallError, Client};
use ringfleet_env::Env;
use ringfleet_proto::control::{ActorSet, AdminAnswer, AdminVerb, RefusalCode, SetChange, SetState};
use ringfleet_sim::checks::c1_directory::{Directory, Is, Op, SetOp};

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
                _ => drop(self.set_op(env, client, set, kind % 3).await?),
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
            while !self.set_op(env, client, set, 2).await? {
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

    /// Creates (0), deletes (1) or looks up (2) a set. Says whether there was an answer.
    async fn set_op(&self, env: &Env, client: &Client, name: &str, what: u64) -> Result<bool> {
        let began_ns = env.now().as_ns();
        let verb = match what {
            0 => {
                let mut document = ActorSet::new(name, "test.stage");
                document.spec.shards = 2;
                AdminVerb::Apply { document }
            }
            1 => AdminVerb::Delete { set: name.to_owned() },
            _ => AdminVerb::DescribeSet { name: name.to_owned() },
        };
        let answer = client.call(verb, LIMIT).await;
        let was = match &answer {
            Ok(AdminAnswer::Set { change: SetChange::Created, .. }) => Some(Is::Absent),
            Ok(AdminAnswer::Set { change: SetChange::Changed | SetChange::Unchanged, .. }) => Some(Is::Active),
            // Of a delete: it was there, or on its way out already.
            Ok(AdminAnswer::Set { change: SetChange::Deleting, .. }) => None,
            Ok(AdminAnswer::SetDetail(detail)) => Some(match detail.info.state {
                SetState::Active => Is::Active,
                SetState::Deleting => Is::Deleting,
            }),
            Err(CallError::Refused(refusal)) if refusal.code == RefusalCode::SetDeleting => Some(Is::Deleting),
            Err(CallError::Refused(refusal)) if refusal.code == RefusalCode::UnknownSet => Some(Is::Absent),
            Err(CallError::Unknown { .. }) => None,
            _ => return without_answer(answer).map(|()| false),
        };
        let is_open = matches!(answer, Err(CallError::Unknown { .. }));
        let op = match (what, was) {
            (0, was) => SetOp::Create(was),
            (1, was) => SetOp::Delete(was),
            (_, Some(was)) => SetOp::Look(was),
            (_, None) => return without_answer(answer).map(|()| false),
        };
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
