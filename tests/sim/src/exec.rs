//! The executor: one thread, virtual time, and a seed that decides what runs next.
//!
//! ```text
//!   wake ──▶ ready ──(by seed; first in first out on a quarter of the seeds)──▶ poll, inside the environment of its host
//!   nothing ready ──▶ the earliest event: a timer, a packet, the end of blocking work ──▶ virtual time jumps there
//! ```
//!
//! A **host** is one process with its machine: clocks, disk, addresses. Its tasks can be killed, or paused: then they are not
//! polled, whatever wakes them waits, and the clocks go on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use ringfleet_coordinator::raft::within;
use ringfleet_env::{BoxFuture, Clock, Env, Executor, Instant, Task, TaskEnd, ThreadHandle, Timer};

use crate::clock::HostClock;
use crate::rng::{Purpose, Rng};
use crate::trace::Trace;

/// Polls at one instant of virtual time, most: more means that something spins.
const POLLS_PER_INSTANT_MAX: u64 = 500_000;

/// The name of the tasks that stand in for a device's threads (`ringfleet_gpu::CpuDevice::start_tasks`).
const DEVICE_TASK: &str = "device worker";

/// Which host; 0 is the simulation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u16);

/// The host of the simulation itself: faults, checks, the run.
pub const WORLD: HostId = HostId(0);

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One life of a host: from a start to its death.
#[derive(Debug)]
pub struct Life {
    /// Which host.
    pub host: HostId,
    /// Whether it has not been killed.
    alive: AtomicBool,
    paused: AtomicBool,
    /// Its devices go on while it is paused.
    devices_go_on: AtomicBool,
    /// Its devices stand still.
    devices_hang: AtomicBool,
    /// Its tasks that were woken while it was paused.
    parked: Mutex<Vec<u64>>,
}

impl Life {
    /// Whether it has not been killed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether a task of it stands still.
    fn stands(&self, task: &str) -> bool {
        if task == DEVICE_TASK {
            let with_host = self.is_paused() && !self.devices_go_on.load(Ordering::Relaxed);
            return with_host || self.devices_hang.load(Ordering::Relaxed);
        }
        self.is_paused()
    }
}

struct Slot {
    name: Arc<str>,
    life: Arc<Life>,
    env: Env,
    future: Option<BoxFuture<'static, ()>>,
    end: Arc<End>,
    waker: Waker,
    queued: Arc<TaskWaker>,
}

/// How a task ended, and who waits for that.
#[derive(Debug, Default)]
struct End {
    state: Mutex<(Option<TaskEnd>, Option<Waker>)>,
    abort: AtomicBool,
}

impl End {
    fn set(&self, end: TaskEnd) {
        let waker = {
            let mut state = lock(&self.state);
            state.0.get_or_insert(end);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct TaskWaker {
    core: Weak<Core>,
    id: u64,
    queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed)
            && let Some(core) = self.core.upgrade()
        {
            lock(&core.woken).push(self.id);
        }
    }
}

enum What {
    Timer(Arc<Mutex<TimerState>>),
    Call(Box<dyn FnOnce() + Send>),
}

struct Event {
    at_ns: u64,
    number: u64,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.number).cmp(&(other.at_ns, other.number))
    }
}

#[derive(Default)]
struct Events {
    heap: BinaryHeap<Reverse<Event>>,
    last_number: u64,
}

/// The executor's inside, shared by everything that belongs to one run.
pub struct Core {
    now_ns: AtomicU64,
    ready: Mutex<VecDeque<u64>>,
    /// Woken since the last step.
    woken: Mutex<Vec<u64>>,
    tasks: Mutex<BTreeMap<u64, Slot>>,
    last_task: AtomicU64,
    events: Mutex<Events>,
    rng: Mutex<Rng>,
    first_in_first_out: bool,
    panics: Mutex<Vec<String>>,
    polling: AtomicU64,
    /// The host whose code ran last.
    last_host: AtomicU16,
    /// What happened.
    pub trace: Trace,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Core({:?})", self.now())
    }
}

impl Core {
    /// An executor at virtual time 0.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        let mut rng = Rng::new(seed, Purpose::Schedule);
        let first_in_first_out = rng.below(4) == 0;
        Arc::new(Self {
            now_ns: AtomicU64::new(0),
            ready: Mutex::default(),
            woken: Mutex::default(),
            tasks: Mutex::default(),
            last_task: AtomicU64::new(0),
            events: Mutex::default(),
            rng: Mutex::new(rng),
            first_in_first_out,
            panics: Mutex::default(),
            polling: AtomicU64::new(0),
            last_host: AtomicU16::new(WORLD.0),
            trace: Trace::default(),
        })
    }

    /// Virtual time: nanoseconds since the run began. No host reads it; they have clocks of their own.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    /// Virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant::from_ns(self.now_ns())
    }

    /// Calls `work` at a virtual time, between two polls.
    pub fn at(&self, at_ns: u64, work: impl FnOnce() + Send + 'static) {
        self.push(at_ns, What::Call(Box::new(work)));
    }

    fn push(&self, at_ns: u64, what: What) {
        let mut events = lock(&self.events);
        events.last_number += 1;
        let number = events.last_number;
        events.heap.push(Reverse(Event { at_ns: at_ns.max(self.now_ns()), number, what }));
    }

    /// Panics of tasks so far, each one a finding.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        lock(&self.panics).clone()
    }

    /// The first of them.
    #[must_use]
    pub fn first_panic(&self) -> Option<String> {
        lock(&self.panics).first().cloned()
    }

    /// The host whose code has run since this was last asked; [`WORLD`] if none has.
    #[must_use]
    pub fn take_last_host(&self) -> HostId {
        HostId(self.last_host.swap(WORLD.0, Ordering::Relaxed))
    }

    /// A new life of a host.
    #[must_use]
    pub fn begin_life(host: HostId) -> Arc<Life> {
        Arc::new(Life {
            host,
            alive: AtomicBool::new(true),
            paused: AtomicBool::new(false),
            devices_go_on: AtomicBool::new(false),
            devices_hang: AtomicBool::new(false),
            parked: Mutex::default(),
        })
    }

    /// Ends a life: its tasks are gone, between two of their steps.
    pub fn end_life(&self, life: &Arc<Life>) {
        life.alive.store(false, Ordering::Relaxed);
        let own = self.polling.load(Ordering::Relaxed);
        let gone: Vec<Slot> = {
            let mut tasks = lock(&self.tasks);
            let ids: Vec<u64> = tasks
                .iter()
                .filter(|(id, slot)| Arc::ptr_eq(&slot.life, life) && **id != own)
                .map(|(id, _)| *id)
                .collect();
            ids.into_iter().filter_map(|id| tasks.remove(&id)).collect()
        };
        // The futures are dropped without a lock: what they own may wake, spawn or send in vain.
        for slot in gone {
            let Slot { env, future, end, .. } = slot;
            within(&env, || drop(future));
            end.set(TaskEnd::Aborted);
        }
    }

    /// Stops polling the tasks of a life, or all but those of its devices; its clocks and its network go on.
    pub fn pause(&self, life: &Life, devices_go_on: bool) {
        life.devices_go_on.store(devices_go_on, Ordering::Relaxed);
        life.paused.store(true, Ordering::Relaxed);
    }

    /// Goes on with what was woken meanwhile.
    pub fn resume(&self, life: &Life) {
        life.paused.store(false, Ordering::Relaxed);
        lock(&self.woken).append(&mut lock(&life.parked));
    }

    /// Stops polling the devices of a life, or goes on with them.
    pub fn hang_devices(&self, life: &Life, hang: bool) {
        life.devices_hang.store(hang, Ordering::Relaxed);
        lock(&self.woken).append(&mut lock(&life.parked));
    }

    /// Runs `future` as a task of a life.
    pub fn spawn(
        self: &Arc<Self>,
        name: &str,
        life: &Arc<Life>,
        env: &Env,
        future: BoxFuture<'static, ()>,
    ) -> Box<dyn Task> {
        let end = Arc::new(End::default());
        let id = self.last_task.fetch_add(1, Ordering::Relaxed) + 1;
        let task = SimTask { end: end.clone(), core: Arc::downgrade(self), id };
        if !life.is_alive() {
            end.set(TaskEnd::Aborted);
            within(env, || drop(future));
            return Box::new(task);
        }
        let queued = Arc::new(TaskWaker { core: Arc::downgrade(self), id, queued: AtomicBool::new(true) });
        let waker = Waker::from(queued.clone());
        let (name, life, env) = (Arc::from(name), life.clone(), env.clone());
        lock(&self.tasks).insert(id, Slot { name, life, env, future: Some(future), end, waker, queued });
        lock(&self.woken).push(id);
        Box::new(task)
    }

    fn next_ready(&self) -> Option<u64> {
        let mut ready = lock(&self.ready);
        let mut woken = lock(&self.woken);
        // Tokio's watch channel wakes its receivers in an order that it draws from the operating system's randomness: whoever was
        // woken by one step is put in order of age, and the seed decides from there.
        woken.sort_unstable();
        ready.extend(woken.drain(..));
        drop(woken);
        if self.first_in_first_out || ready.len() < 2 {
            return ready.pop_front();
        }
        let at = lock(&self.rng).index(ready.len());
        ready.swap_remove_back(at)
    }

    fn poll(&self, id: u64) {
        let taken = {
            let mut tasks = lock(&self.tasks);
            let Some(slot) = tasks.get_mut(&id) else { return };
            if slot.life.stands(&slot.name) {
                lock(&slot.life.parked).push(id);
                return;
            }
            slot.queued.queued.store(false, Ordering::Relaxed);
            let aborted = slot.end.abort.load(Ordering::Relaxed);
            let (env, waker, host) = (slot.env.clone(), slot.waker.clone(), slot.life.host);
            let name = slot.name.clone();
            slot.future.take().map(|future| (future, aborted, env, waker, host, name))
        };
        let Some((mut future, aborted, env, waker, host, name)) = taken else { return };
        self.trace.count(&name, &[self.now_ns(), id, u64::from(host.0)]);
        if aborted {
            self.finish(id, TaskEnd::Aborted);
            within(&env, || drop(future));
            return;
        }
        self.polling.store(id, Ordering::Relaxed);
        self.last_host.store(host.0, Ordering::Relaxed);
        TASK.set(id);
        let polled = within(&env, || {
            let _in = Inside::enter(host);
            let mut cx = Context::from_waker(&waker);
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)))
        });
        self.polling.store(0, Ordering::Relaxed);
        TASK.set(0);
        match polled {
            Ok(Poll::Pending) => {
                let mut tasks = lock(&self.tasks);
                match tasks.get_mut(&id) {
                    Some(slot) if slot.life.is_alive() => slot.future = Some(future),
                    // Its host was killed by what it did itself.
                    _ => {
                        tasks.remove(&id);
                        drop(tasks);
                        within(&env, || drop(future));
                    }
                }
            }
            Ok(Poll::Ready(())) => {
                self.finish(id, TaskEnd::Completed);
                within(&env, || drop(future));
            }
            Err(panic) => {
                let what = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                    .unwrap_or_else(|| "a panic without text".to_owned());
                lock(&self.panics).push(format!("task `{name}` of host {} panicked: {what}", host.0));
                self.finish(id, TaskEnd::Panicked);
                within(&env, || drop(catch_unwind(AssertUnwindSafe(|| drop(future)))));
            }
        }
    }

    fn finish(&self, id: u64, end: TaskEnd) {
        let slot = lock(&self.tasks).remove(&id);
        if let Some(slot) = slot {
            slot.end.set(end);
        }
    }

    /// Runs until `done` says so, or nothing can happen any more, or virtual time reaches `until_ns`. Says whether `done`. Tasks that go
    /// on and on at one instant are noted as a panic is.
    pub fn run(&self, until_ns: u64, mut done: impl FnMut() -> bool) -> bool {
        let mut polls = 0_u64;
        loop {
            if done() {
                return true;
            }
            if let Some(id) = self.next_ready() {
                polls += 1;
                if polls == POLLS_PER_INSTANT_MAX {
                    let spinning = format!("C9: tasks spin at {:?}: {:?}", self.now(), self.busy());
                    lock(&self.panics).push(spinning);
                }
                self.poll(id);
                continue;
            }
            let event = {
                let mut events = lock(&self.events);
                match events.heap.peek() {
                    Some(Reverse(event)) if event.at_ns <= until_ns => events.heap.pop(),
                    _ => None,
                }
            };
            let Some(Reverse(event)) = event else {
                self.now_ns.store(until_ns, Ordering::Relaxed);
                return done();
            };
            if event.at_ns > self.now_ns() {
                polls = 0;
                self.now_ns.store(event.at_ns, Ordering::Relaxed);
                NOW_NS.set(event.at_ns);
            }
            match event.what {
                What::Call(work) => work(),
                What::Timer(state) => self.timer_event(&state, event.at_ns),
            }
        }
    }

    fn busy(&self) -> Vec<String> {
        let ready: Vec<u64> = lock(&self.ready).iter().copied().take(20).collect();
        let tasks = lock(&self.tasks);
        ready
            .iter()
            .filter_map(|id| tasks.get(id))
            .map(|slot| format!("{} of {}", slot.name, slot.life.host.0))
            .collect()
    }

    fn timer_event(&self, timer: &Arc<Mutex<TimerState>>, at_ns: u64) {
        let waker = {
            let mut state = lock(timer);
            if state.event_at_ns != Some(at_ns) {
                return;
            }
            state.event_at_ns = None;
            match state.due_ns {
                Some(due_ns) if due_ns > at_ns => {
                    state.event_at_ns = Some(due_ns);
                    drop(state);
                    self.push(due_ns, What::Timer(timer.clone()));
                    return;
                }
                Some(_) => state.waker.take(),
                None => None,
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Drops every task and event: a run is over.
    pub fn clear(&self) {
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        for (_, slot) in tasks {
            slot.life.alive.store(false, Ordering::Relaxed);
            let Slot { env, future, end, .. } = slot;
            within(&env, || drop(future));
            end.set(TaskEnd::Aborted);
        }
        let events = std::mem::take(&mut *lock(&self.events));
        drop(events);
        lock(&self.ready).clear();
        lock(&self.woken).clear();
    }
}

thread_local! {
    static NOW_NS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    static INSIDE: std::cell::Cell<HostId> = const { std::cell::Cell::new(WORLD) };
    static TASK: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// The host whose code runs now on this thread: for observers inside actors.
#[must_use]
pub fn current_host() -> HostId {
    INSIDE.get()
}

/// The task that runs now on this thread, 0 between two: for observers inside actors.
#[must_use]
pub fn current_task() -> u64 {
    TASK.get()
}

/// Virtual time as the run on this thread last saw it: for logs.
#[must_use]
pub fn current_ns() -> u64 {
    NOW_NS.get()
}

/// Makes a host the current one until it is dropped.
pub(crate) struct Inside(HostId);

impl Inside {
    pub(crate) fn enter(host: HostId) -> Self {
        Self(INSIDE.replace(host))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.0);
    }
}

#[derive(Debug)]
struct SimTask {
    end: Arc<End>,
    core: Weak<Core>,
    id: u64,
}

impl Task for SimTask {
    fn abort(&self) {
        self.end.abort.store(true, Ordering::Relaxed);
        let Some(core) = self.core.upgrade() else { return };
        let waker = lock(&core.tasks).get(&self.id).map(|slot| slot.waker.clone());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn is_finished(&self) -> bool {
        lock(&self.end.state).0.is_some()
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<TaskEnd> {
        let mut state = lock(&self.end.state);
        match state.0 {
            Some(end) => Poll::Ready(end),
            None => {
                state.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The [`Executor`] of one life of a host.
pub struct HostExecutor {
    core: Arc<Core>,
    life: Arc<Life>,
    clock: Arc<HostClock>,
    /// The environment that this is part of; set once it exists.
    env: Mutex<Option<Env>>,
    /// How long blocking work takes.
    blocking: Arc<dyn Blocking>,
    /// Blocking work that has begun and not ended.
    under_way: Arc<Mutex<BTreeMap<u64, Work>>>,
    last_work: AtomicU64,
}

type Work = Box<dyn FnOnce() + Send>;

/// How long blocking work takes on a host: its disk.
pub trait Blocking: Send + Sync + fmt::Debug {
    /// Nanoseconds of virtual time until the work that was begun now is done.
    fn latency_ns(&self) -> u64;
}

impl fmt::Debug for HostExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostExecutor({:?})", self.life.host)
    }
}

impl HostExecutor {
    /// Of one life.
    #[must_use]
    pub fn new(core: Arc<Core>, life: Arc<Life>, clock: Arc<HostClock>, blocking: Arc<dyn Blocking>) -> Self {
        let (under_way, last_work) = (Arc::default(), AtomicU64::new(0));
        Self { core, life, clock, env: Mutex::new(None), blocking, under_way, last_work }
    }

    /// The blocking work that a killed host was in the middle of: whoever kills it decides how far it got.
    #[must_use]
    pub fn take_under_way(&self) -> Vec<Work> {
        std::mem::take(&mut *lock(&self.under_way)).into_values().collect()
    }

    /// Says what environment it is part of.
    pub fn belong_to(&self, env: &Env) {
        *lock(&self.env) = Some(env.clone());
    }

    /// Forgets it again, so that both can be dropped.
    pub fn part(&self) {
        *lock(&self.env) = None;
    }

    fn env(&self) -> Option<Env> {
        lock(&self.env).clone()
    }
}

impl Executor for HostExecutor {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Box<dyn Task> {
        match self.env() {
            Some(env) => self.core.spawn(name, &self.life, &env, future),
            None => {
                let end = Arc::new(End::default());
                end.set(TaskEnd::Aborted);
                Box::new(SimTask { end, core: Weak::new(), id: 0 })
            }
        }
    }

    fn spawn_on_own_thread(&self, _name: &str, future: BoxFuture<'static, ()>) -> io::Result<Box<dyn Task>> {
        Ok(self.spawn("own thread", future))
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        let Some(env) = self.env() else { return };
        let at_ns = self.core.now_ns() + self.blocking.latency_ns();
        let number = self.last_work.fetch_add(1, Ordering::Relaxed);
        lock(&self.under_way).insert(number, work);
        let (host, under_way, core) = (self.life.host, self.under_way.clone(), self.core.clone());
        self.core.at(at_ns, move || {
            // Gone if its host was killed meanwhile.
            let work = lock(&under_way).remove(&number);
            if let Some(work) = work {
                let _in = Inside::enter(host);
                core.last_host.store(host.0, Ordering::Relaxed);
                within(&env, work);
            }
        });
    }

    fn spawn_thread(&self, name: &str, _work: Box<dyn FnOnce() + Send>) -> io::Result<ThreadHandle> {
        Err(io::Error::new(io::ErrorKind::Unsupported, format!("a simulated host has no thread for {name}")))
    }

    fn has_threads(&self) -> bool {
        false
    }

    fn timer(&self, deadline: Instant) -> Pin<Box<dyn Timer>> {
        let state = Arc::new(Mutex::new(TimerState::default()));
        Box::pin(SimTimer { core: self.core.clone(), clock: self.clock.clone(), deadline, state })
    }
}

#[derive(Default)]
struct TimerState {
    /// The virtual time at which the host's clock reaches the deadline, as far as known; `None` once nobody waits.
    due_ns: Option<u64>,
    /// The event that stands for it.
    event_at_ns: Option<u64>,
    waker: Option<Waker>,
}

/// A timer by the clock of a host. Where the clock's rate has changed meanwhile it looks at the clock and waits again, so it is
/// never early.
struct SimTimer {
    core: Arc<Core>,
    clock: Arc<HostClock>,
    deadline: Instant,
    state: Arc<Mutex<TimerState>>,
}

impl fmt::Debug for SimTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimTimer({:?})", self.deadline)
    }
}

impl Future for SimTimer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if self.clock.now() >= self.deadline {
            state.due_ns = None;
            return Poll::Ready(());
        }
        let due_ns = self.clock.reaches_at_ns(self.deadline);
        state.due_ns = Some(due_ns);
        state.waker = Some(cx.waker().clone());
        if state.event_at_ns.is_none_or(|at_ns| at_ns > due_ns) && due_ns != u64::MAX {
            state.event_at_ns = Some(due_ns);
            drop(state);
            self.core.push(due_ns, What::Timer(self.state.clone()));
        }
        Poll::Pending
    }
}

impl Timer for SimTimer {
    fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.deadline = deadline;
        lock(&self.state).due_ns = None;
    }
}

impl Drop for SimTimer {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.due_ns = None;
        state.waker = None;
    }
}
