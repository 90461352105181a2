//! The CPU device: a thread per worker, or workers stepped by hand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use std::{hint, io};

use ringfleet_abi::{Control, Envelope, Status, WorkerCounters, WorkerIndex};
use ringfleet_actor::TypeDescriptor;
use ringfleet_env::Clock;

use crate::config::{ConfigError, CpuDeviceConfig};
use crate::device::{Device, Full};
use crate::memory::HeapRing;
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

/// A device of threads. Dropping it ends them and waits for the end of their round.
#[derive(Debug)]
pub struct CpuDevice {
    port: Port,
    threads: Vec<JoinHandle<()>>,
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
        let mut device = Self { port, threads: Vec::new() };
        for worker in workers {
            let (page, clock, spin_ns) = (device.port.page().clone(), clock.clone(), config.spin_ns);
            let name = format!("ringfleet-w{}", worker.index());
            device.threads.push(Builder::new().name(name).spawn(move || run(worker, &page, &*clock, spin_ns))?);
        }
        Ok(device)
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

impl Drop for CpuDevice {
    fn drop(&mut self) {
        self.port.page().stop.store(true, Ordering::Release);
        self.port.wake_all();
        for thread in self.threads.drain(..) {
            // A panic was caught in the thread and reported by `poll_status`.
            let _ = thread.join();
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

            fn workers(&self) -> u16 {
                self.port.workers()
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
    let port = Port::new(page, ends, types.len());
    Ok((port, made))
}

/// The longest sleep: the parking clock stands still in a suspended machine, the device's does not.
const PARK_NS_MAX: u64 = 100_000_000;
/// How long a worker waits for room in a ring before it looks again, first and at most.
const BLOCKED_NS_MIN: u64 = 20_000;
const BLOCKED_NS_MAX: u64 = 1_000_000;
/// Looks at the inputs between two looks at the clock while spinning.
const LOOKS_PER_SPIN: usize = 32;

fn run(mut worker: Worker, page: &DevicePage, clock: &dyn Clock, spin_ns: u64) {
    let index = worker.index() as usize;
    let parker = &page.workers[index].parker;
    parker.settle();
    let ended = catch_unwind(AssertUnwindSafe(|| work(&mut worker, page, clock, spin_ns)));
    if ended.is_err() {
        page.workers[index].phase.store(phase::LOST, Ordering::Release);
    }
}

fn work(worker: &mut Worker, page: &DevicePage, clock: &dyn Clock, spin_ns: u64) {
    let parker = &page.workers[worker.index() as usize].parker;
    let mut idle_since_ns = None;
    let mut blocked_ns = BLOCKED_NS_MIN;
    loop {
        let (limit_ns, watch) = match worker.round() {
            Round::Ended => return,
            Round::Worked => {
                idle_since_ns = None;
                blocked_ns = BLOCKED_NS_MIN;
                continue;
            }
            Round::Blocked { full } => {
                // Whoever makes room does not wake us, so the wait is short, and grows while nothing moves.
                let limit_ns = blocked_ns;
                blocked_ns = (blocked_ns * 2).min(BLOCKED_NS_MAX);
                (limit_ns, !full)
            }
            Round::Idle { until_ns } => {
                let now_ns = clock.monotonic_ns();
                if now_ns.saturating_sub(*idle_since_ns.get_or_insert(now_ns)) < spin_ns {
                    for _ in 0..LOOKS_PER_SPIN {
                        if worker.has_news() {
                            break;
                        }
                        hint::spin_loop();
                    }
                    continue;
                }
                (until_ns.saturating_sub(now_ns).min(PARK_NS_MAX), true)
            }
        };
        parker.lie_down();
        if watch && worker.has_news() {
            parker.stay_up();
            continue;
        }
        parker.park(Duration::from_nanos(limit_ns));
    }
}
