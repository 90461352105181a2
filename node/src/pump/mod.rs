//! The pump: carries envelopes, controls and counters between one device and the agent.
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
//! steady load there may be none, and nothing would be acknowledged. A `RouteFlushed` waits in the same way for the egress that was
//! published before it (C3: a shard is handed over only when the agent has all that it sent); other statuses wait for nothing.
//!
//! **Who runs it.** The work is one function (`Pumping::step`) that does what there is to do and says when to be called again; it
//! never waits. For a device that [wakes](Device::can_wake) whoever waits for it, the agent calls it in its own turns
//! ([`Pump::turn`]): nothing lies between the two, an idle pump costs nothing, and a simulation drives both in virtual time. A device
//! that cannot wake anybody has a thread, which spins for a bounded number of rounds and then sleeps in growing steps; the agent wakes
//! it when it has something for the device.
//!
//! A device that is asked to stop and does not say that it has stopped within [`STOP_LIMIT`] is dropped all the same (C9): a
//! worker that was lost takes no controls any more. Dropping a [`Pump`] asks its device to stop, too, without waiting.

mod work;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};

use ringfleet_abi::{Control, DeviceIndex, Envelope, SetId, Status, WorkerCounters, WorkerIndex};
use ringfleet_env::{Env, Instant, TaskEnd};
use ringfleet_gpu::{CodeChanges, Device};
use tokio::sync::{Notify, oneshot};

pub use self::work::Next;
use self::work::Pumping;

/// Envelopes from the device that may wait for the agent. Beyond it they stay in the device's rings.
pub const EGRESS_BACKLOG_MAX: usize = 64 << 10;
/// Events that may wait for the agent. Beyond it status stays in the device; there is room for a full backlog of egress.
const EVENTS_MAX: usize = 2 * EGRESS_BACKLOG_MAX;
/// How long a device may take to stop before it is dropped.
pub const STOP_LIMIT: Duration = Duration::from_secs(2);

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
    actors: Mutex<BTreeMap<SetId, u64>>,
    changes: Mutex<CodeChanges>,
    /// Set by the agent with every hand-over, so that a pump about to sleep looks again.
    work_waits: AtomicBool,
    /// Wakes the pump.
    pump: Mutex<Option<Waker>>,
    agent: Arc<Notify>,
}

impl Shared {
    /// Wakes the pump, if it has not been told since it last looked.
    fn wake_pump(&self) {
        // Release: pairs with the acquire swap in `Pumping::feed`; the hand-over is seen by a pump that sees the flag. A pump that is
        // about to sleep names its waker first and looks at the flag then: either it sees the flag, or its waker is found here.
        if !self.work_waits.swap(true, Ordering::AcqRel)
            && let Some(waker) = &*lock(&self.pump)
        {
            waker.wake_by_ref();
        }
    }
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
    runs: Runs,
    ended: Option<TaskEnd>,
}

/// Who runs a pump.
#[derive(Debug)]
enum Runs {
    /// The agent, by [`Pump::turn`].
    InTurns(Box<Pumping>),
    /// A thread, which says when it has ended; dropped without a word by one that panicked.
    AsThread(oneshot::Receiver<()>),
}

impl Pump {
    /// Starts the pump of `device`. One that has a thread calls `agent.notify_one()` whenever it has put an event.
    ///
    /// # Errors
    /// If a thread is needed and cannot be started.
    pub fn start(env: &Env, index: DeviceIndex, device: Box<dyn Device>, agent: Arc<Notify>) -> io::Result<Self> {
        let workers = device.workers();
        let in_turns = device.can_wake() || !env.has_threads();
        let shared = Arc::new(Shared {
            to_device: Mutex::default(),
            from_device: Mutex::default(),
            counters: Mutex::new(vec![WorkerCounters::default(); usize::from(workers)]),
            actors: Mutex::default(),
            changes: Mutex::default(),
            work_waits: AtomicBool::new(false),
            pump: Mutex::default(),
            agent,
        });
        let pumping = Pumping::new(env, index, device, shared.clone());
        let runs = if in_turns {
            Runs::InTurns(Box::new(pumping))
        } else {
            let (end, ending) = oneshot::channel();
            // It ends by itself: when it is stopped, or its handle is dropped.
            drop(env.spawn_thread(&format!("pump-{index}"), move || pumping.run_in_thread(end))?);
            Runs::AsThread(ending)
        };
        Ok(Self { index, workers, shared, runs, ended: None })
    }

    /// Carries what there is to carry, if the pump has no thread for that. Call it again until it says [`Next::At`]: then `waker` is
    /// woken when the device has something, and it is called again at that time at the latest.
    pub fn turn(&mut self, waker: &Waker) -> Next {
        let Runs::InTurns(pumping) = &mut self.runs else { return Next::At(Instant::FAR_FUTURE) };
        if self.ended.is_some() {
            return Next::Ended;
        }
        let next = pumping.turn(waker);
        if next == Next::Ended {
            self.ended = Some(TaskEnd::Completed);
        }
        next
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
            self.shared.wake_pump();
        }
    }

    /// Hands a control to the device, behind those handed over before.
    pub fn submit(&self, control: Control) {
        lock(&self.shared.to_device).controls.push_back(control);
        self.shared.wake_pump();
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
            self.shared.wake_pump();
        }
    }

    /// Whether events wait.
    pub fn has_events(&self) -> bool {
        !lock(&self.shared.from_device).events.is_empty()
    }

    /// The counters of every worker; those of a device whose pump has a thread are a few milliseconds old while it is busy.
    pub fn counters(&self) -> Vec<WorkerCounters> {
        match &self.runs {
            Runs::InTurns(pumping) => pumping.counters(),
            Runs::AsThread(_) => lock(&self.shared.counters).clone(),
        }
    }

    /// Actors resident now, by set.
    pub fn actors_by_set(&self) -> BTreeMap<SetId, u64> {
        match &self.runs {
            Runs::InTurns(pumping) => pumping.actors_by_set(),
            Runs::AsThread(_) => lock(&self.shared.actors).clone(),
        }
    }

    /// Changes of the device's code since it started.
    pub fn code_changes(&self) -> CodeChanges {
        match &self.runs {
            Runs::InTurns(pumping) => pumping.code_changes(),
            Runs::AsThread(_) => *lock(&self.shared.changes),
        }
    }

    /// Whether the pump has ended though nobody stopped it: the device is gone.
    pub fn is_dead(&mut self) -> bool {
        if let (Runs::AsThread(ending), None) = (&mut self.runs, self.ended) {
            self.ended = match ending.try_recv() {
                Ok(()) => Some(TaskEnd::Completed),
                Err(oneshot::error::TryRecvError::Closed) => Some(TaskEnd::Panicked),
                Err(oneshot::error::TryRecvError::Empty) => None,
            };
        }
        self.ended.is_some()
    }

    /// Asks the device to stop, without waiting.
    pub fn ask_to_stop(&self) {
        lock(&self.shared.to_device).stop = true;
        self.shared.wake_pump();
    }

    /// Stops the device and waits for pump and workers.
    pub async fn stop(mut self) -> TaskEnd {
        self.ask_to_stop();
        if let Some(ended) = self.ended {
            return ended;
        }
        match std::mem::replace(&mut self.runs, Runs::AsThread(oneshot::channel().1)) {
            Runs::AsThread(ending) => ending.await.map_or(TaskEnd::Panicked, |()| TaskEnd::Completed),
            Runs::InTurns(pumping) => {
                pumping.run_to_end().await;
                TaskEnd::Completed
            }
        }
    }
}

impl Drop for Pump {
    /// Whoever gives up a node half-way leaves no device behind that goes on executing.
    fn drop(&mut self) {
        self.ask_to_stop();
    }
}
