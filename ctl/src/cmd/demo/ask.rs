//! Asking many actors one question.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringfleet_actor::{ActorRef, Message};
use ringfleet_client::Session;
use ringfleet_env::Env;

use crate::error::{CtlError, CtlResult, chain};

/// Asks under way at a time.
const ASKERS: usize = 64;
/// How long one ask may take.
const ASK_PATIENCE: Duration = Duration::from_secs(20);

/// What the askers of one question share.
struct Round<M, R> {
    todo: VecDeque<(usize, u64, M)>,
    answers: Vec<Option<R>>,
    failed: Option<CtlError>,
}

/// Asks the actors under `keys`, a bounded number at a time; answers in the order of the keys.
///
/// # Errors
/// The first actor that did not answer, and why.
pub async fn ask_all<A, M, R>(env: &Env, session: &Session, keys: Vec<u64>, question: fn() -> M) -> CtlResult<Vec<R>>
where
    A: ringfleet_actor::Handles<M>,
    M: Message + Send + Sync + 'static,
    R: Message + Send + 'static,
{
    ask_each::<A, M, R>(env, session, keys.into_iter().map(|key| (key, question())).collect()).await
}

/// Asks the actors under the keys each its own question, a bounded number at a time; answers in the order of the questions.
///
/// # Errors
/// The first actor that did not answer, and why.
pub async fn ask_each<A, M, R>(env: &Env, session: &Session, questions: Vec<(u64, M)>) -> CtlResult<Vec<R>>
where
    A: ringfleet_actor::Handles<M>,
    M: Message + Send + Sync + 'static,
    R: Message + Send + 'static,
{
    let answers = questions.iter().map(|_| None).collect();
    let todo = questions.into_iter().enumerate().map(|(at, (key, question))| (at, key, question)).collect();
    let round = Arc::new(Mutex::new(Round::<M, R> { todo, answers, failed: None }));
    let lock = |round: &Arc<Mutex<Round<M, R>>>, change: &mut dyn FnMut(&mut Round<M, R>)| {
        change(&mut round.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let asker = |round: Arc<Mutex<Round<M, R>>>, session: Session| async move {
        loop {
            let mut next = None;
            lock(&round, &mut |round| next = if round.failed.is_some() { None } else { round.todo.pop_front() });
            let Some((at, key, question)) = next else { return };
            let answer = session.ask_of(ActorRef::<A>::at(key), &question, ASK_PATIENCE).await;
            let mut answer = Some(answer);
            lock(&round, &mut |round| match answer.take() {
                Some(Ok(answer)) => round.answers[at] = Some(answer),
                Some(Err(error)) => {
                    let attempt = format!("asking {} {key:#x}", A::NAME);
                    round.failed = Some(CtlError::failed(attempt, chain(&error)));
                }
                None => {}
            });
        }
    };
    let tasks: Vec<_> =
        (0..ASKERS).map(|_| env.spawn("asker", asker(round.clone(), session.clone())).abort_on_drop()).collect();
    for task in tasks {
        task.await;
    }
    let mut round = round.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = round.failed.take() {
        return Err(error);
    }
    let answers: Option<Vec<R>> = round.answers.iter_mut().map(Option::take).collect();
    answers.ok_or_else(|| CtlError::failed("asking for the results", "an asker ended early"))
}
