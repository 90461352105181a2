//! A session as its users see it: cheap calls that put envelopes into one bounded queue, and waits for what the driver reports.
//!
//! A tell is a lock of a few nanoseconds and a copy of 64 bytes: no task, no allocation, no channel per message. The driver
//! takes the whole queue at once. Tells and asks share the queue, so they keep their order (C3).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ringfleet_abi::limits::PAYLOAD_BYTES_MAX;
use ringfleet_abi::mutants::{Mutant, is_on};
use ringfleet_abi::{ActorId, ActorKey, Envelope, Flags, KeySpace, SessionId, SetId};
use ringfleet_actor::{Actor, ActorRef, Handles, Message};
use ringfleet_env::{Env, Instant, TaskHandle};
use ringfleet_link::Endpoint;
use ringfleet_proto::control::Directory;
use tokio::sync::{Notify, oneshot};

use crate::coordinators::Coordinators;
use crate::driver;
use crate::error::{AskError, Asked, ChannelLost, FlushError, RefusedReason, TellError, UnknownReason};

/// Reports of lost channels that wait to be read. Beyond it the oldest are dropped; they stay counted.
const LOST_EVENTS_MAX: usize = 1024;
/// How long an ask waits beyond its deadline for the driver to say whether it was taken back. The driver answers in its next turn.
const GIVE_UP_WAIT: Duration = Duration::from_millis(50);
/// How long a tell to a set that is not in the directory waits for a younger directory.
const SET_WAIT: Duration = Duration::from_secs(2);

/// One message of [`Session::tell_many`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tell<'a> {
    /// The set.
    pub set: SetId,
    /// The key of the actor.
    pub key: ActorKey,
    /// Which message.
    pub kind: u16,
    /// Its payload, at most 32 bytes.
    pub payload: &'a [u8],
}

/// The answer of an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Which message.
    pub kind: u16,
    envelope: Envelope,
}

impl Reply {
    pub(crate) fn new(envelope: Envelope) -> Self {
        Self { kind: envelope.kind, envelope }
    }

    /// Its payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.envelope.payload()
    }

    /// The message, if it is of this kind.
    #[must_use]
    pub fn message<M: Message>(&self) -> Option<M> {
        M::from_envelope(&self.envelope)
    }
}

/// What a session did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages taken: tells and asks.
    pub sent: u64,
    /// Messages acknowledged as handled, dead-lettered or refused for good.
    pub acked: u64,
    /// Messages reported lost.
    pub lost: u64,
    /// Times that a node answered `Busy` and a part was sent again.
    pub busy_retries: u64,
    /// Times that a shard was found elsewhere.
    pub moved: u64,
    /// Times that a connection broke or could not be made.
    pub reconnects: u64,
    /// Tells that were answered by a verdict: they reached the actor's shard and were not handled.
    pub refused: u64,
}

impl Counters {
    /// Messages taken and not yet accounted for.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.sent - self.acked - self.lost
    }
}

/// A client session. Dropping it ends it; clones are handles of the same one.
#[derive(Clone, Debug)]
pub struct Session {
    shared: Arc<Shared>,
    // In a lock only because a handle alone cannot be shared between threads.
    _driver: Arc<Mutex<TaskHandle>>,
}

/// What the handles and the driver share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) session: SessionId,
    pub(crate) window: u64,
    state: Mutex<State>,
    /// The driver has something to take.
    pub(crate) work: Notify,
    /// Something that a handle may wait for has happened: room, acknowledgements, a younger directory, an end.
    progress: Notify,
}

/// Everything under one lock, held for a few instructions and never across a wait.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Messages that the driver has not taken yet, in order.
    pub(crate) queue: Vec<Envelope>,
    /// What is known of sets.
    pub(crate) sets: HashMap<u16, SetRoute>,
    /// Names and actor types of sets, for errors.
    names: HashMap<u16, (String, String)>,
    /// Sets by the tag that actor references carry.
    pub(crate) tags: HashMap<u32, SetId>,
    /// Asks whose deadline has passed or whose caller has gone: the driver takes back what it can.
    pub(crate) given_up: Vec<u32>,
    /// Asks that wait for their end, by number.
    asks: HashMap<u32, oneshot::Sender<Result<Reply, AskError>>>,
    last_ask: u32,
    pub(crate) counters: Counters,
    lost: VecDeque<ChannelLost>,
    /// Messages lost since the last flush, and the first report.
    lost_since_flush: u64,
    first_lost: Option<ChannelLost>,
    ended: Option<String>,
}

/// What a session must know of a set to address it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SetRoute {
    pub(crate) keys: KeySpace,
    pub(crate) shards: u16,
}

impl Session {
    pub(crate) fn start(
        env: &Env,
        endpoint: &Endpoint,
        coordinators: &Coordinators,
        session: SessionId,
        directory: Directory,
        window: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            env: env.clone(),
            session,
            window: window as u64,
            state: Mutex::default(),
            work: Notify::new(),
            progress: Notify::new(),
        });
        shared.adopt(&directory);
        let driver = driver::run(shared.clone(), endpoint.clone(), coordinators.clone(), directory);
        Self { shared, _driver: Arc::new(Mutex::new(env.spawn("client session", driver).abort_on_drop())) }
    }

    /// Its number in the cluster.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.shared.session
    }

    /// What it did so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.lock().counters
    }

    /// The set of this name; waits a moment for a set that was applied just now.
    ///
    /// # Errors
    /// [`TellError`].
    pub async fn set(&self, name: &str) -> Result<SetId, TellError> {
        let tag = ringfleet_abi::hash::fnv1a32(name.as_bytes());
        self.set_by_tag(tag).await
    }

    /// Takes a message. Waits for room, not for its handling ([`Session::flush`] does).
    ///
    /// # Errors
    /// [`TellError`]; then it was not taken.
    pub async fn tell(&self, set: SetId, key: ActorKey, kind: u16, payload: &[u8]) -> Result<(), TellError> {
        self.tell_many(&[Tell { set, key, kind, payload }]).await
    }

    /// Takes many messages, in order, with one lock for as many as there is room for.
    ///
    /// # Errors
    /// [`TellError`] of the first that is wrong; those before it were taken, none after it.
    pub async fn tell_many(&self, tells: &[Tell<'_>]) -> Result<(), TellError> {
        let mut rest = tells;
        while !rest.is_empty() {
            match self.shared.take(rest) {
                Ok(0) => self.wait_for_room().await,
                Ok(taken) => rest = &rest[taken..],
                Err((taken, TellError::NoSuchSet { set })) => {
                    rest = &rest[taken..];
                    self.wait_for_set(set).await?;
                }
                Err((_, error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes a message for an actor, checked at compile time.
    ///
    /// # Errors
    /// [`TellError`]; then it was not taken.
    pub async fn tell_to<A: Handles<M>, M: Message>(&self, to: ActorRef<A>, message: &M) -> Result<(), TellError> {
        let set = self.set_by_tag(to.set_tag()).await?;
        self.tell(set, to.key(), M::KIND, &message.to_payload()[..size_of::<M>()]).await
    }

    /// Asks an actor and waits for its answer, at most `limit` (C4). Without one it ends up to 50 ms later, because it also says whether
    /// the ask was taken back before anybody could execute it.
    ///
    /// # Errors
    /// [`AskError`], exactly once.
    pub async fn ask(
        &self,
        set: SetId,
        key: ActorKey,
        kind: u16,
        payload: &[u8],
        limit: Duration,
    ) -> Result<Reply, AskError> {
        let limit = if is_on(Mutant::AskLate) { limit * 2 } else { limit };
        let deadline = self.shared.env.now() + limit;
        let (number, mut answer) = self.queue_ask(Tell { set, key, kind, payload }, deadline).await?;
        // Also when the caller stops waiting: nobody would take the answer.
        let _given_up = GiveUp { shared: &self.shared, number };
        if let Ok(end) = self.shared.env.timeout_at(deadline, &mut answer).await {
            return end.unwrap_or_else(|_| Err(self.ended()));
        }
        // Whether it can still be taken back, only the driver knows.
        self.shared.give_up(number);
        match self.shared.env.timeout(GIVE_UP_WAIT, answer).await {
            Ok(end) => end.unwrap_or_else(|_| Err(self.ended())),
            Err(_) => Err(AskError::Unknown(UnknownReason::Deadline)),
        }
    }

    /// How an ask ends whose sender the driver has dropped: it does so only when it ends.
    fn ended(&self) -> AskError {
        AskError::Unknown(UnknownReason::Ended(self.shared.end_reason()))
    }

    /// Asks an actor as [`Session::ask`] does, checked at compile time; the answer is of kind `R`.
    ///
    /// # Errors
    /// [`AskError`]; an answer of another kind is [`AskError::Failed`] with `no_reply`.
    pub async fn ask_of<A, M, R>(&self, of: ActorRef<A>, message: &M, limit: Duration) -> Result<R, AskError>
    where
        A: Actor + Handles<M>,
        M: Message,
        R: Message,
    {
        let deadline = self.shared.env.now() + limit;
        let not_sent = |error| AskError::Refused(RefusedReason::NotSent(error));
        let set = self.set_by_tag(of.set_tag()).await.map_err(not_sent)?;
        let left = deadline - self.shared.env.now();
        let reply = self.ask(set, of.key(), M::KIND, &message.to_payload()[..size_of::<M>()], left).await?;
        reply.message().ok_or_else(|| {
            let actor = Box::new(self.shared.asked(ActorId::new(set, of.key())));
            AskError::Failed { actor, verdict: ringfleet_abi::Verdict::NoReply, fault: 0 }
        })
    }

    /// Waits until everything taken before has been handled (C3), at whatever moment nothing is outstanding.
    ///
    /// # Errors
    /// [`FlushError`] if messages were lost since the last flush, or the session has ended.
    pub async fn flush(&self) -> Result<(), FlushError> {
        loop {
            let progress = self.shared.progress.notified();
            let mut progress = std::pin::pin!(progress);
            progress.as_mut().enable();
            {
                let mut state = self.shared.lock();
                if state.counters.outstanding() == 0 {
                    let messages = std::mem::take(&mut state.lost_since_flush);
                    return match state.first_lost.take() {
                        Some(first) => Err(FlushError::Lost { messages, first }),
                        None => Ok(()),
                    };
                }
                if let Some(reason) = &state.ended {
                    return Err(FlushError::Ended { reason: reason.clone() });
                }
            }
            progress.await;
        }
    }

    /// The next report of a lost channel, if there is one.
    #[must_use]
    pub fn poll_lost(&self) -> Option<ChannelLost> {
        self.shared.lock().lost.pop_front()
    }

    async fn queue_ask(
        &self,
        tell: Tell<'_>,
        deadline: Instant,
    ) -> Result<(u32, oneshot::Receiver<Result<Reply, AskError>>), AskError> {
        let not_sent = |error| AskError::Refused(RefusedReason::NotSent(error));
        loop {
            match self.shared.take_ask(&tell) {
                Ok(Some(asked)) => return Ok(asked),
                Ok(None) => {
                    if self.shared.env.timeout_at(deadline, self.wait_for_room()).await.is_err() {
                        return Err(AskError::Refused(RefusedReason::Deadline));
                    }
                }
                Err(TellError::NoSuchSet { set }) => {
                    match self.shared.env.timeout_at(deadline, self.wait_for_set(set)).await {
                        Ok(known) => known.map_err(not_sent)?,
                        Err(_) => return Err(not_sent(TellError::NoSuchSet { set })),
                    }
                }
                Err(error) => return Err(not_sent(error)),
            }
        }
    }

    /// Waits until there is room in the window, or the session has ended.
    async fn wait_for_room(&self) {
        loop {
            // Registered before looking: a wake-up between looking and waiting is not missed.
            let progress = self.shared.progress.notified();
            let mut progress = std::pin::pin!(progress);
            progress.as_mut().enable();
            {
                let state = self.shared.lock();
                if state.counters.outstanding() < self.shared.window || state.ended.is_some() {
                    return;
                }
            }
            progress.await;
        }
    }

    async fn wait_for_set(&self, set: SetId) -> Result<(), TellError> {
        self.wait_for(|state| state.sets.contains_key(&set.0).then_some(())).await.ok_or(TellError::NoSuchSet { set })
    }

    async fn set_by_tag(&self, tag: u32) -> Result<SetId, TellError> {
        if let Some(&set) = self.shared.lock().tags.get(&tag) {
            return Ok(set);
        }
        self.wait_for(|state| state.tags.get(&tag).copied()).await.ok_or(TellError::NoSuchSet { set: SetId::NONE })
    }

    /// Waits until the directory has something, for at most [`SET_WAIT`].
    async fn wait_for<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let deadline = self.shared.env.now() + SET_WAIT;
        loop {
            let progress = self.shared.progress.notified();
            let mut progress = std::pin::pin!(progress);
            progress.as_mut().enable();
            {
                let state = self.shared.lock();
                if let Some(found) = look(&state) {
                    return Some(found);
                }
                if state.ended.is_some() {
                    return None;
                }
            }
            if self.shared.env.timeout_at(deadline, progress).await.is_err() {
                return None;
            }
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts as many of `tells` into the queue as there is room for, and says how many.
    fn take(&self, tells: &[Tell<'_>]) -> Result<usize, (usize, TellError)> {
        let mut state = self.lock();
        let was_empty = state.queue.is_empty();
        let room = self.window.saturating_sub(state.counters.outstanding());
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(tells.len());
        let from = ActorId::client(self.session, 0);
        let mut outcome = Ok(room);
        // Looked up again only where the set changes.
        let mut known: Option<(SetId, SetRoute)> = None;
        for (at, tell) in tells[..room].iter().enumerate() {
            let envelope = match known {
                Some((set, route)) if set == tell.set => envelope(from, tell, route, Flags::NONE),
                _ => state.route(tell.set).and_then(|route| {
                    known = Some((tell.set, route));
                    envelope(from, tell, route, Flags::NONE)
                }),
            };
            match envelope {
                Ok(envelope) => state.queue.push(envelope),
                Err(error) => {
                    outcome = Err((at, error));
                    break;
                }
            }
        }
        let taken = match &outcome {
            Ok(taken) | Err((taken, _)) => *taken,
        };
        if let Some(reason) = &state.ended {
            let reason = reason.clone();
            let kept = state.queue.len() - taken;
            state.queue.truncate(kept);
            return Err((0, TellError::Ended { reason }));
        }
        state.counters.sent += taken as u64;
        drop(state);
        // The driver takes everything once it is awake: only the first message after it slept wakes it.
        if was_empty && taken > 0 {
            self.work.notify_one();
        }
        outcome
    }

    /// Puts an ask into the queue; `None` if there is no room.
    #[allow(clippy::type_complexity)]
    fn take_ask(
        &self,
        tell: &Tell<'_>,
    ) -> Result<Option<(u32, oneshot::Receiver<Result<Reply, AskError>>)>, TellError> {
        let mut state = self.lock();
        if let Some(reason) = &state.ended {
            return Err(TellError::Ended { reason: reason.clone() });
        }
        if state.counters.outstanding() >= self.window {
            return Ok(None);
        }
        let route = state.route(tell.set)?;
        let number = loop {
            // Numbers come round after four billion asks; 0 means tell.
            state.last_ask = state.last_ask.wrapping_add(1).max(1);
            if !state.asks.contains_key(&state.last_ask) {
                break state.last_ask;
            }
        };
        let envelope = envelope(ActorId::client(self.session, number), tell, route, Flags::ASK)?;
        let (sender, receiver) = oneshot::channel();
        state.asks.insert(number, sender);
        state.queue.push(envelope);
        state.counters.sent += 1;
        drop(state);
        self.work.notify_one();
        Ok(Some((number, receiver)))
    }

    /// Has the driver take an ask back, if it still waits for its end.
    fn give_up(&self, number: u32) {
        let mut state = self.lock();
        if state.asks.contains_key(&number) {
            state.given_up.push(number);
            drop(state);
            self.work.notify_one();
        }
    }

    /// Ends an ask; an ask that has ended before is left alone (C4).
    pub(crate) fn end_ask(&self, number: u32, end: Result<Reply, AskError>) {
        let waiter = self.lock().asks.remove(&number);
        if let Some(waiter) = waiter {
            // The caller has stopped waiting: that is an end, too.
            let _ = waiter.send(end);
        }
    }

    /// Takes over what a directory says.
    pub(crate) fn adopt(&self, directory: &Directory) {
        let mut state = self.lock();
        state.sets = directory
            .sets
            .iter()
            .map(|set| (set.set, SetRoute { keys: set.keys.into(), shards: set.shards }))
            .collect();
        state.names = directory.sets.iter().map(|set| (set.set, (set.name.clone(), set.actor_type.clone()))).collect();
        state.tags = directory.sets.iter().map(|set| (set.tag, set.set_id())).collect();
        drop(state);
        self.progress.notify_waiters();
    }

    /// An actor in the words of the directory.
    pub(crate) fn asked(&self, actor: ActorId) -> Asked {
        let names = self.lock().names.get(&actor.set.0).cloned();
        let (set, actor_type) = names.unwrap_or_else(|| (actor.set.to_string(), String::new()));
        Asked { set, actor_type, key: actor.key }
    }

    /// Counts acknowledged messages and lets waiters look.
    pub(crate) fn acknowledge(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut self.lock().counters);
        self.progress.notify_waiters();
    }

    /// Reports a lost channel.
    pub(crate) fn report_lost(&self, lost: ChannelLost) {
        let mut state = self.lock();
        state.counters.lost += lost.messages;
        state.lost_since_flush += lost.messages;
        if state.first_lost.is_none() {
            state.first_lost = Some(lost.clone());
        }
        if state.lost.len() == LOST_EVENTS_MAX {
            state.lost.pop_front();
        }
        state.lost.push_back(lost);
        drop(state);
        self.progress.notify_waiters();
    }

    /// Ends the session for everybody who waits.
    pub(crate) fn end(&self, reason: &str) {
        let mut state = self.lock();
        state.ended.get_or_insert_with(|| reason.to_owned());
        let asks = std::mem::take(&mut state.asks);
        drop(state);
        for waiter in asks.into_values() {
            let _ = waiter.send(Err(AskError::Unknown(UnknownReason::Ended(reason.to_owned()))));
        }
        self.progress.notify_waiters();
    }

    fn end_reason(&self) -> String {
        self.lock().ended.clone().unwrap_or_else(|| "its driver is gone".to_owned())
    }
}

/// Ends an ask however its caller stops waiting for it.
struct GiveUp<'a> {
    shared: &'a Shared,
    number: u32,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.shared.give_up(self.number);
    }
}

impl State {
    fn route(&self, set: SetId) -> Result<SetRoute, TellError> {
        self.sets.get(&set.0).copied().ok_or(TellError::NoSuchSet { set })
    }
}

fn envelope(from: ActorId, tell: &Tell<'_>, route: SetRoute, flags: Flags) -> Result<Envelope, TellError> {
    if tell.payload.len() > PAYLOAD_BYTES_MAX {
        return Err(TellError::PayloadLength { bytes: tell.payload.len() });
    }
    if route.keys.shard_of(route.shards, tell.key).is_none() {
        return Err(TellError::NoSuchKey { set: tell.set, key: tell.key });
    }
    let to = ActorId::new(tell.set, tell.key);
    Envelope::new(from, to, tell.kind, flags, tell.payload)
        .map_err(|_| TellError::PayloadLength { bytes: tell.payload.len() })
}
