//! The pump: one thread per device that carries envelopes, controls and counters between the device and the agent.
//!
//! ```text
//!   agent --ingress, controls--> [to_device] --pump--> device
//!   agent <--events------------- [from_device] <--pump-- device
//! ```
//!
//! Both queues are bounded (C9): ingress by the agent, which never has more outstanding than the device's ingress rings hold;
//! events by [`EGRESS_BACKLOG_MAX`], beyond which the pump leaves envelopes in the device's egress rings, whose workers then
//! spill and, in the end, answer `Busy`.
//!
//! **Acknowledgement order (C3).** A worker publishes its verdicts to egress before it advances `ingress_done`. The pump reads
//! `ingress_done` first, then takes from egress until [`Device::poll_egress`] has given less than there was room for, so that all
//! that had been published before is taken, and only then hands on the numbers it had read. So when the agent learns that a
//! message is done it has already seen the verdict that may say that it was refused. Were the numbers read after the taking, a
//! refusal published in between would be acknowledged as handled. It does not wait for a moment in which egress is empty: under
//! steady load there may be none, and nothing would be acknowledged.
//!
//! The pump spins for a bounded time when there is nothing to do, then sleeps in growing steps; the agent wakes it when it has
//! something for the device.
//!
//! A device that is asked to stop and does not say that it has stopped within [`STOP_LIMIT`] is dropped all the same (C9): a
//! worker that was lost takes no controls any more. Dropping a [`Pump`] asks its device to stop, too, without waiting.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ringfleet_abi::{Control, DeviceIndex, Envelope, Status, WorkerCounters, WorkerIndex};
use ringfleet_env::{Env, Instant, TaskEnd, ThreadHandle};
use ringfleet_gpu::Device;
use tokio::sync::Notify;

/// Envelopes from the device that may wait for the agent. Beyond it they stay in the device's rings.
pub const EGRESS_BACKLOG_MAX: usize = 64 << 10;
/// Events that may wait for the agent. Beyond it status stays in the device; there is room for a full backlog of egress.
const EVENTS_MAX: usize = 2 * EGRESS_BACKLOG_MAX;
/// Envelopes taken from the device at a time.
const EGRESS_BATCH: usize = 8192;
/// How long a device may take to stop before it is dropped.
pub const STOP_LIMIT: Duration = Duration::from_secs(2);
/// Rounds without work before the pump sleeps. A round of an idle device costs well under a microsecond.
const SPIN_ROUNDS: u32 = 64;
/// The first sleep of an idle pump.
const SLEEP_FIRST: Duration = Duration::from_micros(30);
/// The longest sleep while messages are outstanding in the device: what it adds to a round trip at most.
const SLEEP_BUSY_MAX: Duration = Duration::from_micros(200);
/// The longest sleep of a pump whose device has nothing to do.
const SLEEP_IDLE_MAX: Duration = Duration::from_millis(2);
/// A pump that never sleeps refreshes the counters once in so many rounds.
const COUNTERS_EVERY_ROUNDS: u32 = 256;

/// What a device has for the agent, in order.
#[derive(Debug)]
pub enum DeviceEvent {
    /// Envelopes for elsewhere: other nodes, clients, verdicts.
    Egress(Vec<Envelope>),
    /// A worker is done with so many ingress envelopes since it began.
    IngressDone {
        /// The worker.
        worker: WorkerIndex,
        /// The cumulative number.
        total: u64,
    },
    /// A status event.
    Status(Status),
}

#[derive(Debug, Default)]
struct ToDevice {
    ingress: VecDeque<Envelope>,
    controls: VecDeque<Control>,
    stop: bool,
}

#[derive(Debug, Default)]
struct FromDevice {
    events: VecDeque<DeviceEvent>,
    egress_waiting: usize,
}

#[derive(Debug)]
struct Shared {
    to_device: Mutex<ToDevice>,
    from_device: Mutex<FromDevice>,
    counters: Mutex<Vec<WorkerCounters>>,
    /// Set by the agent with every hand-over, so that a pump about to sleep looks again.
    work_waits: AtomicBool,
    agent: Arc<Notify>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in the critical sections can leave a queue half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The agent's end of a pump.
#[derive(Debug)]
pub struct Pump {
    index: DeviceIndex,
    workers: u16,
    shared: Arc<Shared>,
    /// `None` once it is being joined.
    thread: Option<ThreadHandle>,
}

impl Pump {
    /// Starts the pump of `device`; it calls `agent.notify_one()` whenever it has put an event.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(env: &Env, index: DeviceIndex, device: Box<dyn Device>, agent: Arc<Notify>) -> io::Result<Self> {
        let workers = device.workers();
        let shared = Arc::new(Shared {
            to_device: Mutex::default(),
            from_device: Mutex::default(),
            counters: Mutex::new(vec![WorkerCounters::default(); usize::from(workers)]),
            work_waits: AtomicBool::new(false),
            agent,
        });
        let mut pumping = Pumping::new(env, index, device, shared.clone());
        let thread = env.spawn_thread(&format!("pump-{index}"), move || pumping.run())?;
        Ok(Self { index, workers, shared, thread: Some(thread) })
    }

    /// Which device of the node.
    pub fn index(&self) -> DeviceIndex {
        self.index
    }

    /// Workers of the device.
    pub fn workers(&self) -> u16 {
        self.workers
    }

    /// Hands envelopes to the device, in order, behind those handed over before. Empties `envelopes`.
    pub fn push_ingress(&self, envelopes: &mut Vec<Envelope>) {
        if !envelopes.is_empty() {
            lock(&self.shared.to_device).ingress.extend(envelopes.drain(..));
            self.wake();
        }
    }

    /// Hands a control to the device, behind those handed over before.
    pub fn submit(&self, control: Control) {
        lock(&self.shared.to_device).controls.push_back(control);
        self.wake();
    }

    /// Takes events, of envelopes at most about `egress_room`.
    pub fn take_events(&self, egress_room: usize, into: &mut Vec<DeviceEvent>) {
        let mut from = lock(&self.shared.from_device);
        let was_full = from.egress_waiting >= EGRESS_BACKLOG_MAX;
        let mut room = egress_room;
        while let Some(event) = from.events.front() {
            if let DeviceEvent::Egress(batch) = event {
                if room == 0 {
                    break;
                }
                room = room.saturating_sub(batch.len());
                from.egress_waiting -= batch.len();
            }
            into.extend(from.events.pop_front());
        }
        if was_full && from.egress_waiting < EGRESS_BACKLOG_MAX {
            drop(from);
            self.wake();
        }
    }

    /// Whether events wait.
    pub fn has_events(&self) -> bool {
        !lock(&self.shared.from_device).events.is_empty()
    }

    /// The counters of every worker, at most a few milliseconds old; exact when the device is quiet.
    pub fn counters(&self) -> Vec<WorkerCounters> {
        lock(&self.shared.counters).clone()
    }

    /// Whether the pump has ended though nobody stopped it: the device is gone.
    pub fn is_dead(&self) -> bool {
        self.thread.as_ref().is_none_or(ThreadHandle::is_finished)
    }

    /// Asks the device to stop, without waiting.
    pub fn ask_to_stop(&self) {
        lock(&self.shared.to_device).stop = true;
        self.wake();
    }

    /// Stops the device and waits for pump and workers.
    pub fn stop(mut self) -> TaskEnd {
        self.ask_to_stop();
        self.thread.take().map_or(TaskEnd::Completed, ThreadHandle::join)
    }

    fn wake(&self) {
        // Release: pairs with the acquire swap in `Pumping::feed`; the hand-over is seen by a pump that sees the flag.
        if !self.shared.work_waits.swap(true, Ordering::AcqRel)
            && let Some(thread) = &self.thread
        {
            thread.unpark();
        }
    }
}

impl Drop for Pump {
    /// Whoever gives up a node half-way leaves no device behind that goes on executing.
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}

/// The pump's own side.
struct Pumping {
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
    /// The agent has left more ingress than could be taken over.
    behind: bool,
    /// When a device that was asked to stop is dropped.
    stop_by: Option<Instant>,
    ended: bool,
}

impl Pumping {
    fn new(env: &Env, index: DeviceIndex, device: Box<dyn Device>, shared: Arc<Shared>) -> Self {
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
            behind: false,
            stop_by: None,
            ended: false,
        }
    }

    fn run(&mut self) {
        let mut idle_rounds = 0_u32;
        let mut rounds = 0_u32;
        let mut sleep = SLEEP_FIRST;
        loop {
            let mut progress = self.feed();
            progress |= self.drain();
            self.give_up();
            if self.ended {
                self.refresh_counters();
                self.shared.agent.notify_one();
                return;
            }
            rounds = rounds.wrapping_add(1);
            if progress {
                idle_rounds = 0;
                sleep = SLEEP_FIRST;
                if rounds.is_multiple_of(COUNTERS_EVERY_ROUNDS) {
                    self.refresh_counters();
                }
                continue;
            }
            idle_rounds = idle_rounds.saturating_add(1);
            if idle_rounds <= SPIN_ROUNDS {
                std::hint::spin_loop();
                continue;
            }
            self.refresh_counters();
            self.sleep(sleep);
            let outstanding = self.pushed != self.done_told.iter().sum::<u64>();
            let longest = if outstanding { SLEEP_BUSY_MAX } else { SLEEP_IDLE_MAX };
            sleep = (sleep * 2).min(longest);
        }
    }

    /// Hands to the device what the agent has left, as far as it takes it. Controls go first: the agent never relies on a
    /// control being overtaken by an envelope that it handed over later.
    fn feed(&mut self) -> bool {
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
                self.stop_by = Some(self.env.now() + STOP_LIMIT);
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
        let mut room = EGRESS_BACKLOG_MAX.saturating_sub(lock(&self.shared.from_device).egress_waiting);
        for (worker, read) in self.done_read.iter_mut().enumerate() {
            *read = self.device.counters(WorkerIndex(worker as u16)).ingress_done;
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
        if caught_up {
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
            lock(&self.shared.from_device).events.push_back(DeviceEvent::Status(status));
            progress = true;
        }
        if progress {
            self.shared.agent.notify_one();
        }
        progress
    }

    /// C9: stopping ends, whatever the device does. Dropping it ends its threads after their round.
    fn give_up(&mut self) {
        if !self.ended && self.stop_by.is_some_and(|limit| limit <= self.env.now()) {
            tracing::warn!(device = %self.index, "does not say that it has stopped; dropped");
            self.ended = true;
        }
    }

    fn refresh_counters(&self) {
        let mut counters = lock(&self.shared.counters);
        for (worker, copy) in counters.iter_mut().enumerate() {
            *copy = self.device.counters(WorkerIndex(worker as u16));
        }
    }

    fn sleep(&self, limit: Duration) {
        // A hand-over between the last look and here has set the flag, or its unpark makes the park return at once.
        if !self.shared.work_waits.load(Ordering::Acquire) {
            std::thread::park_timeout(limit);
        }
    }
}
