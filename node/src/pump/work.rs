//! The work of a pump, without a thread or a wait, and the thread that calls it for devices which wake nobody.

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    task::{Poll, Waker},
    time::Duration,
};

use ringfleet_abi::{Control, DeviceIndex, Envelope, SetId, Status, WorkerCounters, WorkerIndex};
use ringfleet_env::{Env, Instant, thread_waker};
use ringfleet_gpu::{CodeChanges, Device};
use tokio::sync::oneshot;

use super::{DeviceEvent, EGRESS_BACKLOG_MAX, EVENTS_MAX, STOP_LIMIT, Shared, lock};

/// Envelopes taken from the device at a time.
const EGRESS_BATCH: usize = 8192;
/// A pump looks at everything at least so often, whoever should have woken it: counters are no older than this, and a worker that is
/// stuck is found.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long something that a full device has not taken waits for the next try: most of what makes room wakes nobody.
const RETRY_AFTER: Duration = Duration::from_micros(500);
/// A polled device: rounds without work before the pump sleeps. A round of an idle device costs well under a microsecond.
const SPIN_ROUNDS: u32 = 64;
/// A polled device: the first sleep of an idle pump.
const SLEEP_FIRST: Duration = Duration::from_micros(30);
/// A polled device: the longest sleep while messages are outstanding in it: what it adds to a round trip at most.
const SLEEP_BUSY_MAX: Duration = Duration::from_micros(200);
/// A polled device: the longest sleep of a pump whose device has nothing to do.
const SLEEP_IDLE_MAX: Duration = Duration::from_millis(2);
/// A pump that never sleeps refreshes the counters once in so many rounds.
const COUNTERS_EVERY_ROUNDS: u32 = 256;

/// When a pump's work is to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At once: there was something to do.
    Now,
    /// Then, or when agent or device wake it.
    At(Instant),
    /// Never: the device has stopped, or was given up.
    Ended,
}

/// The pump's own side.
pub(super) struct Pumping {
    env: Env,
    index: DeviceIndex,
    device: Box<dyn Device>,
    shared: Arc<Shared>,
    ingress: Vec<Envelope>,
    ingress_at: usize,
    controls: VecDeque<Control>,
    pushed: u64,
    done_read: Vec<u64>,
    done_told: Vec<u64>,
    batch: Vec<Envelope>,
    /// Flushed routes of which the agent is told when it has all egress that was published before.
    flushed: Option<u64>,
    /// The agent has left more ingress than could be taken over.
    behind: bool,
    /// When a device that was asked to stop is dropped.
    stop_by: Option<Instant>,
    ended: bool,
    rounds: u32,
    idle_rounds: u32,
    sleep: Duration,
    /// When workers are looked after again.
    check_at: Instant,
}

impl Pumping {
    pub(super) fn new(env: &Env, index: DeviceIndex, device: Box<dyn Device>, shared: Arc<Shared>) -> Self {
        let workers = usize::from(device.workers());
        Self {
            env: env.clone(),
            index,
            device,
            shared,
            ingress: Vec::new(),
            ingress_at: 0,
            controls: VecDeque::new(),
            pushed: 0,
            done_read: vec![0; workers],
            done_told: vec![0; workers],
            batch: vec![Envelope::default(); EGRESS_BATCH],
            flushed: None,
            behind: false,
            stop_by: None,
            ended: false,
            rounds: 0,
            idle_rounds: 0,
            sleep: SLEEP_FIRST,
            check_at: Instant::ZERO,
        }
    }

    /// Runs on a thread that it has for itself.
    pub(super) fn run_in_thread(mut self, end: oneshot::Sender<()>) {
        let waker = thread_waker();
        loop {
            match self.turn(&waker) {
                Next::Now => std::hint::spin_loop(),
                Next::At(at) => std::thread::park_timeout(at.saturating_since(self.env.now())),
                Next::Ended => break,
            }
        }
        let agent = self.shared.agent.clone();
        drop(self);
        // Nobody listens any more to a pump whose handle was dropped.
        let _ = end.send(());
        agent.notify_one();
    }

    /// Goes on, without the agent, until the device has stopped; then drops it.
    pub(super) async fn run_to_end(mut self: Box<Self>) {
        let env = self.env.clone();
        let mut timer = env.timer(env.now());
        poll_fn(|cx| {
            match self.turn(cx.waker()) {
                Next::Ended => return Poll::Ready(()),
                Next::Now => cx.waker().wake_by_ref(),
                Next::At(at) => {
                    timer.as_mut().reset(at);
                    if timer.as_mut().poll(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                }
            }
            Poll::Pending
        })
        .await;
        // Dropping a device waits for the round that its workers are in.
        env.run_blocking(move || drop(self)).await;
    }

    /// A step, and before it says to sleep: it names who is to be woken, and looks again.
    pub(super) fn turn(&mut self, waker: &Waker) -> Next {
        let next = self.step(self.env.now());
        if !matches!(next, Next::At(_)) {
            return next;
        }
        match &mut *lock(&self.shared.pump) {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        if !self.device.can_wake() {
            return if self.shared.work_waits.load(Ordering::Acquire) { Next::Now } else { next };
        }
        self.device.watch(waker);
        self.step(self.env.now())
    }

    /// Does what there is to do, without waiting, and says when to be called again.
    fn step(&mut self, now: Instant) -> Next {
        if self.check_at <= now {
            self.check_at = now + LOOK_EVERY;
            self.device.check_workers(now.as_ns());
        }
        let mut progress = self.feed(now);
        progress |= self.drain();
        self.give_up(now);
        if self.ended {
            // What was published between the last look at egress and the end; nothing follows it.
            self.drain_all();
            self.refresh_counters();
            self.shared.agent.notify_one();
            return Next::Ended;
        }
        self.rounds = self.rounds.wrapping_add(1);
        if progress {
            self.idle_rounds = 0;
            self.sleep = SLEEP_FIRST;
            if self.rounds.is_multiple_of(COUNTERS_EVERY_ROUNDS) {
                self.refresh_counters();
            }
            return Next::Now;
        }
        if self.device.can_wake() {
            return Next::At(now + if self.has_leftovers() { RETRY_AFTER } else { LOOK_EVERY });
        }
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        if self.idle_rounds <= SPIN_ROUNDS {
            return Next::Now;
        }
        self.refresh_counters();
        let outstanding = self.pushed != self.done_told.iter().sum::<u64>();
        let longest = if outstanding { SLEEP_BUSY_MAX } else { SLEEP_IDLE_MAX };
        let sleep = self.sleep;
        self.sleep = (sleep * 2).min(longest);
        Next::At(now + sleep)
    }

    /// Whether the device has not taken everything that is for it, or is being stopped.
    fn has_leftovers(&self) -> bool {
        !self.controls.is_empty() || self.ingress_at < self.ingress.len() || self.behind || self.stop_by.is_some()
    }

    /// Hands to the device what the agent has left, as far as it takes it. Controls go first: the agent never relies on a
    /// control being overtaken by an envelope that it handed over later.
    fn feed(&mut self, now: Instant) -> bool {
        let may_take = self.ingress_at == self.ingress.len();
        if self.shared.work_waits.swap(false, Ordering::AcqRel) || (self.behind && may_take) {
            let mut to = lock(&self.shared.to_device);
            self.controls.extend(to.controls.drain(..));
            if may_take {
                self.ingress.clear();
                self.ingress_at = 0;
                self.ingress.extend(to.ingress.drain(..));
            }
            // Where the device has not taken all of the last hand-over, the next one waits until it has.
            self.behind = !to.ingress.is_empty();
            if to.stop && self.stop_by.is_none() {
                self.stop_by = Some(now + STOP_LIMIT);
                // Nothing that was told before matters to a device that ends.
                self.controls.clear();
                self.controls.push_back(Control::Stop);
            }
        }
        let mut progress = false;
        while let Some(control) = self.controls.front() {
            if self.device.submit(*control).is_err() {
                break;
            }
            self.controls.pop_front();
            progress = true;
        }
        if self.ingress_at < self.ingress.len() {
            let taken = self.device.push_ingress(&self.ingress[self.ingress_at..]);
            self.ingress_at += taken;
            self.pushed += taken as u64;
            progress |= taken > 0;
        }
        progress
    }

    /// Takes from the device what it has. See the module documentation for the order.
    fn drain(&mut self) -> bool {
        let waiting = lock(&self.shared.from_device).egress_waiting;
        self.drain_up_to(EGRESS_BACKLOG_MAX.saturating_sub(waiting))
    }

    /// [`Pumping::drain`] of all that a device holds which has ended: bounded by its rings.
    fn drain_all(&mut self) {
        self.drain_up_to(usize::MAX);
    }

    fn drain_up_to(&mut self, mut room: usize) -> bool {
        for (worker, read) in self.done_read.iter_mut().enumerate() {
            *read = self.device.ingress_done(WorkerIndex(worker as u16));
        }
        let mut progress = false;
        let mut caught_up = false;
        while room > 0 && !caught_up {
            let count = self.device.poll_egress(&mut self.batch);
            caught_up = count < self.batch.len();
            if count == 0 {
                break;
            }
            room = room.saturating_sub(count);
            let mut from = lock(&self.shared.from_device);
            from.egress_waiting += count;
            from.events.push_back(DeviceEvent::Egress(self.batch[..count].to_vec()));
            progress = true;
        }
        if caught_up && !self.device.egress_is_behind() {
            if let Some(version) = self.flushed.take() {
                lock(&self.shared.from_device).events.push_back(DeviceEvent::Status(Status::RouteFlushed { version }));
                progress = true;
            }
            for (worker, total) in self.done_read.iter().copied().enumerate() {
                if self.done_told[worker] != total {
                    self.done_told[worker] = total;
                    let event = DeviceEvent::IngressDone { worker: WorkerIndex(worker as u16), total };
                    lock(&self.shared.from_device).events.push_back(event);
                    progress = true;
                }
            }
        }
        // A full backlog of egress does not hold up status: a device that is being stopped says so while nobody takes its egress.
        while (self.stop_by.is_some() || lock(&self.shared.from_device).events.len() < EVENTS_MAX)
            && let Some(status) = self.device.poll_status()
        {
            self.ended |= status == Status::Stopped;
            progress = true;
            match status {
                Status::RouteFlushed { version } => self.flushed = self.flushed.max(Some(version)),
                _ => lock(&self.shared.from_device).events.push_back(DeviceEvent::Status(status)),
            }
        }
        if progress {
            self.shared.agent.notify_one();
        }
        progress
    }

    /// C9: stopping ends, whatever the device does. Dropping it ends its threads after their round.
    fn give_up(&mut self, now: Instant) {
        if !self.ended && self.stop_by.is_some_and(|limit| limit <= now) {
            tracing::warn!(device = %self.index, "does not say that it has stopped; dropped");
            self.ended = true;
        }
    }

    /// The counters of every worker, as they are now.
    pub(super) fn counters(&self) -> Vec<WorkerCounters> {
        (0..self.done_read.len()).map(|worker| self.device.counters(WorkerIndex(worker as u16))).collect()
    }

    /// Actors resident now, by set.
    pub(super) fn actors_by_set(&self) -> BTreeMap<SetId, u64> {
        self.device.actors_by_set()
    }

    /// Changes of the device's code since it started.
    pub(super) fn code_changes(&self) -> CodeChanges {
        self.device.code_changes()
    }

    fn refresh_counters(&self) {
        *lock(&self.shared.changes) = self.code_changes();
        *lock(&self.shared.counters) = self.counters();
        *lock(&self.shared.actors) = self.actors_by_set();
    }
}

impl std::fmt::Debug for Pumping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pumping").field("device", &self.index).finish_non_exhaustive()
    }
}
