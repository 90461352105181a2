//! The CPU device: a thread per worker, a task per worker, or workers stepped by hand. The same workers, the same loop.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use std::{hint, io, thread};

use ringfleet_abi::{Control, Envelope, SetId, Status, WorkerCounters, WorkerIndex};
use ringfleet_actor::TypeDescriptor;
use ringfleet_env::{Clock, Env, TaskHandle, thread_waker};

use crate::config::{ConfigError, CpuDeviceConfig};
use crate::device::{Device, Full};
use crate::memory::HeapRing;
use crate::parker::{Parker, publish_fence};
use crate::port::{Port, WorkerEnds};
use crate::worker::{DevicePage, Round, Worker, WorkerPage, WorkerRings, phase};

/// A device cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is impossible.
    #[error("the configuration of the CPU device is impossible")]
    Config(#[from] ConfigError),
    /// Memory for the rings or a thread was refused.
    #[error("the operating system refused memory or a thread for the CPU device")]
    System(#[from] io::Error),
}

/// A device of threads, or of tasks where there are no threads. Dropping it ends them; it waits for threads to end
/// their round, a second at most.
#[derive(Debug)]
pub struct CpuDevice {
    port: Port,
    threads: Vec<JoinHandle<()>>,
    tasks: Vec<TaskHandle>,
}

impl CpuDevice {
    /// Starts the workers. They are fenced until the first lease. `types` is the table that [`Control::AddSet`]
    /// indexes.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        config: &CpuDeviceConfig,
        types: &[&'static TypeDescriptor],
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let (port, workers) = build(config, types, clock.clone())?;
        // From here on, dropping the device ends the threads that have started.
        let mut device = Self { port, threads: Vec::new(), tasks: Vec::new() };
        for worker in workers {
            let name = format!("ringfleet-w{}", worker.index());
            let running = Running::new(worker, device.port.page().clone(), clock.clone(), config.spin_ns);
            device.threads.push(Builder::new().name(name).spawn(move || running.run_in_thread())?);
        }
        Ok(device)
    }

    /// The same device with a task of `env` for each worker: for a simulation, whose one thread runs everything in virtual time. A
    /// worker never spins there, and lets other tasks run after each round.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_tasks(
        env: &Env,
        config: &CpuDeviceConfig,
        types: &[&'static TypeDescriptor],
    ) -> Result<Self, StartError> {
        let (port, workers) = build(config, types, env.clock())?;
        let start = |worker| {
            let running = Running::new(worker, port.page().clone(), env.clock(), 0);
            env.spawn("device worker", running.run_in_task(env.clone())).abort_on_drop()
        };
        let tasks = workers.into_iter().map(start).collect();
        Ok(Self { port, threads: Vec::new(), tasks })
    }

    /// The same workers without threads: see [`SteppedDevice`].
    ///
    /// # Errors
    /// [`StartError`].
    pub fn stepped(
        config: &CpuDeviceConfig,
        types: &[&'static TypeDescriptor],
        clock: Arc<dyn Clock>,
    ) -> Result<SteppedDevice, StartError> {
        let (port, workers) = build(config, types, clock)?;
        Ok(SteppedDevice { port, workers })
    }
}

/// For whoever carries between this device and another memory, and knows the worker of each envelope.
impl CpuDevice {
    pub(crate) fn push_to(&mut self, worker: WorkerIndex, envelope: &Envelope) -> bool {
        self.port.push_to(worker, envelope)
    }

    pub(crate) fn publish_ingress(&mut self) {
        self.port.publish_ingress();
    }

    pub(crate) fn poll_egress_of(&mut self, worker: WorkerIndex, envelopes: &mut [Envelope]) -> usize {
        self.port.poll_egress_of(worker, envelopes)
    }
}

impl Drop for CpuDevice {
    fn drop(&mut self) {
        self.port.page().stop.store(true, Ordering::Release);
        self.port.wake_all();
        self.tasks.clear();
        // A worker that is stuck in a handler is left to itself: it ends when it comes back, and nobody reads what it publishes (C2, C9).
        for _ in 0..DROP_LOOKS_MAX {
            // A panic was caught in the thread and reported by `poll_status`.
            self.threads.retain(|thread| !thread.is_finished());
            if self.threads.is_empty() {
                return;
            }
            thread::park_timeout(DROP_LOOK);
        }
    }
}

/// A device that does nothing by itself: its caller decides which worker does its next round, in the caller's thread.
/// Together with a [`ringfleet_env::ManualClock`] everything it does is determined by the calls: for tests and
/// simulation.
#[derive(Debug)]
pub struct SteppedDevice {
    port: Port,
    workers: Vec<Worker>,
}

impl SteppedDevice {
    /// Lets one worker do one round; says whether it did anything.
    ///
    /// # Panics
    /// If the device has no such worker, or by a bug of the device.
    pub fn step(&mut self, worker: WorkerIndex) -> bool {
        self.workers[worker.0 as usize].round() == Round::Worked
    }

    /// Lets every worker do one round, in order; says whether any did anything.
    pub fn step_all(&mut self) -> bool {
        let workers = self.workers();
        (0..workers).fold(false, |worked, worker| self.step(WorkerIndex(worker)) | worked)
    }

    /// Steps all workers until none has anything to do, for at most `rounds` rounds each; says whether that was enough.
    pub fn settle(&mut self, rounds: usize) -> bool {
        (0..rounds).any(|_| !self.step_all())
    }
}

macro_rules! through_the_port {
    ($device:ty) => {
        impl Device for $device {
            fn push_ingress(&mut self, envelopes: &[Envelope]) -> usize {
                self.port.push_ingress(envelopes)
            }

            fn ingress_worker(&self, envelope: &Envelope) -> WorkerIndex {
                WorkerIndex(self.port.worker_of(envelope))
            }

            fn poll_egress(&mut self, envelopes: &mut [Envelope]) -> usize {
                self.port.poll_egress(envelopes)
            }

            fn submit(&mut self, control: Control) -> Result<(), Full> {
                self.port.submit(control)
            }

            fn poll_status(&mut self) -> Option<Status> {
                self.port.poll_status()
            }

            fn counters(&self, worker: WorkerIndex) -> WorkerCounters {
                self.port.counters(worker)
            }

            fn ingress_done(&self, worker: WorkerIndex) -> u64 {
                self.port.ingress_done(worker)
            }

            fn workers(&self) -> u16 {
                self.port.workers()
            }

            fn actors_by_set(&self) -> BTreeMap<SetId, u64> {
                self.port.actors_by_set()
            }

            fn check_workers(&mut self, now_ns: u64) {
                self.port.check_workers(now_ns);
            }

            fn can_wake(&self) -> bool {
                true
            }

            fn watch(&mut self, waker: &Waker) {
                self.port.watch(waker);
            }
        }
    };
}

through_the_port!(CpuDevice);
through_the_port!(SteppedDevice);

fn build(
    config: &CpuDeviceConfig,
    types: &[&'static TypeDescriptor],
    clock: Arc<dyn Clock>,
) -> Result<(Port, Vec<Worker>), StartError> {
    config.check()?;
    let workers = config.workers as usize;
    let page = Arc::new(DevicePage {
        lease_ns: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        workers: (0..workers).map(|_| WorkerPage::default()).collect(),
        driver: Parker::default(),
    });
    let types: Arc<[&'static TypeDescriptor]> = types.into();
    let mut outbound: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    let mut inbound: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for from in &mut outbound {
        for to in &mut inbound {
            let (producer, consumer) = HeapRing::ends(config.ring_slots)?;
            from.push(producer);
            to.push(consumer);
        }
    }
    let (mut ends, mut made) = (Vec::new(), Vec::new());
    for (index, (outbound, inbound)) in outbound.into_iter().zip(inbound).enumerate() {
        let (to_ingress, ingress) = HeapRing::ends(config.ingress_slots)?;
        let (egress, from_egress) = HeapRing::ends(config.egress_slots)?;
        let (to_control, control) = HeapRing::ends(config.control_slots)?;
        let (status, from_status) = HeapRing::ends(config.status_slots)?;
        ends.push(WorkerEnds { ingress: to_ingress, egress: from_egress, control: to_control, status: from_status });
        let rings = WorkerRings { inbound, ingress, outbound, egress, control, status };
        made.push(Worker::new(index as u16, config, rings, types.clone(), page.clone(), clock.clone()));
    }
    let port = Port::new(page, ends, types.len(), config.stall_ns);
    Ok((port, made))
}

/// How often, and after which pauses, a device that is dropped looks whether its threads have ended: for a second.
const DROP_LOOKS_MAX: usize = 5_000;
const DROP_LOOK: Duration = Duration::from_micros(200);
/// The longest sleep: the parking clock stands still in a suspended machine, the device's does not.
const PARK_NS_MAX: u64 = 100_000_000;
/// How long a worker waits for room in a ring before it looks again, first and at most.
const BLOCKED_NS_MIN: u64 = 20_000;
const BLOCKED_NS_MAX: u64 = 1_000_000;
/// Looks at the inputs between two looks at the clock while spinning.
const LOOKS_PER_SPIN: usize = 32;

/// When a worker's loop is to be called again.
enum Next {
    Now,
    /// When woken, or after so many ns. The worker has announced that it sleeps and has looked at its inputs since.
    Asleep(u64),
    Ended,
}

/// A worker with its loop, as a function that says when to be called again.
struct Running {
    worker: Worker,
    page: Arc<DevicePage>,
    clock: Arc<dyn Clock>,
    spin_ns: u64,
    idle_since_ns: Option<u64>,
    blocked_ns: u64,
}

impl Running {
    fn new(worker: Worker, page: Arc<DevicePage>, clock: Arc<dyn Clock>, spin_ns: u64) -> Self {
        Self { worker, page, clock, spin_ns, idle_since_ns: None, blocked_ns: BLOCKED_NS_MIN }
    }

    fn parker(&self) -> &Parker {
        &self.page.workers[self.worker.index() as usize].parker
    }

    fn run_in_thread(mut self) {
        self.parker().settle(&thread_waker());
        loop {
            match self.guarded_step() {
                Next::Now => {}
                Next::Asleep(limit_ns) => {
                    thread::park_timeout(Duration::from_nanos(limit_ns));
                    self.parker().stay_up();
                }
                Next::Ended => return,
            }
        }
    }

    async fn run_in_task(mut self, env: Env) {
        let mut timer = env.timer(env.now());
        poll_fn(|cx| {
            self.parker().settle(cx.waker());
            self.parker().stay_up();
            match self.guarded_step() {
                Next::Ended => return Poll::Ready(()),
                Next::Now => cx.waker().wake_by_ref(),
                Next::Asleep(limit_ns) => {
                    timer.as_mut().reset(env.now() + Duration::from_nanos(limit_ns));
                    if timer.as_mut().poll(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// A panic ends the worker and is reported by `poll_status`.
    fn guarded_step(&mut self) -> Next {
        let stepped = catch_unwind(AssertUnwindSafe(|| self.step()));
        stepped.unwrap_or_else(|_| {
            self.page.workers[self.worker.index() as usize].phase.store(phase::LOST, Ordering::Release);
            publish_fence();
            self.page.driver.wake();
            Next::Ended
        })
    }

    fn step(&mut self) -> Next {
        let (limit_ns, watch) = match self.worker.round() {
            Round::Ended => return Next::Ended,
            Round::Worked => {
                self.idle_since_ns = None;
                self.blocked_ns = BLOCKED_NS_MIN;
                return Next::Now;
            }
            Round::Blocked { full } => {
                // Whoever makes room does not wake us, so the wait is short, and grows while nothing moves.
                let limit_ns = self.blocked_ns;
                self.blocked_ns = (self.blocked_ns * 2).min(BLOCKED_NS_MAX);
                (limit_ns, !full)
            }
            Round::Idle { until_ns } => {
                let now_ns = self.clock.monotonic_ns();
                if now_ns.saturating_sub(*self.idle_since_ns.get_or_insert(now_ns)) < self.spin_ns {
                    for _ in 0..LOOKS_PER_SPIN {
                        if self.worker.has_news() {
                            break;
                        }
                        hint::spin_loop();
                    }
                    return Next::Now;
                }
                (until_ns.saturating_sub(now_ns).min(PARK_NS_MAX), true)
            }
        };
        self.parker().lie_down();
        if watch && self.worker.has_news() {
            self.parker().stay_up();
            return Next::Now;
        }
        Next::Asleep(limit_ns)
    }
}
