//! A GPU behind [`Device`] (C2, C3, C4, C6, C7, C9), in the process that drives it: for tests and benches. Agents have a device process
//! per GPU ([`crate::process`]).
//!
//! * Controls change `Tables`; the copies that follow from them are made beside the running kernel by the copy engine, then the
//!   version is announced.
//! * **Lease.** Deadlines come in the clock's time. The kernel knows only its own timer, so a deadline is told in that: the
//!   router's last look (`device_ns`) is at most as late as the clock read after it, so the translated deadline is never
//!   later than the true one.
//! * **Wall time.** The kernel's HLC is its timer plus an offset that is measured again with every lease and only ever raised, so
//!   device time never goes back.
//! * `pause` is a lease that has ended.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use ringfleet_abi::{Control, Envelope, LAYOUT_HASH, Status, WorkerCounters, WorkerIndex};
use ringfleet_env::Clock;
use ringfleet_kernels::geometry::COUNTERS_STRIDE;
use ringfleet_kernels::{DeviceType, Geometry};

use super::driver::Gpu;
use super::engine::CudaEngine;
use super::error::CudaError;
use super::memory_map::Capacity;
use super::port::{self, EgressPort, IngressPort};
use crate::device::{Device, Full};

/// How old copied counters may be before they are copied again.
const COUNTERS_AGE_NS: u64 = 1_000_000;
#[derive(Debug, Default)]
struct Snapshot {
    taken_ns: u64,
    words: Vec<u64>,
}

/// A GPU that runs actors.
#[derive(Debug)]
pub struct CudaDevice {
    engine: CudaEngine,
    ingress: IngressPort,
    egress: EgressPort,
    clock: Arc<dyn Clock>,
    /// The lease in the clock's time, and whether it is suspended.
    lease_ns: u64,
    paused: bool,
    wall_offset_ns: u64,
    fenced: bool,
    stopping: bool,
    stopped: bool,
    lost: bool,
    events: VecDeque<Status>,
    snapshot: RefCell<Snapshot>,
}

impl CudaDevice {
    /// Compiles the types, launches the kernel and waits for its first sign of life. It is fenced until the first lease. `types` is the
    /// table that [`Control::AddSet`] indexes.
    ///
    /// # Errors
    /// Whatever is missing or does not fit.
    pub fn start(
        gpu: Arc<Gpu>,
        geometry: Geometry,
        types: &[DeviceType],
        capacity: &Capacity,
        cache: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CudaError> {
        let workers = geometry.workers as u16;
        let ingress = IngressPort::new(&geometry, capacity.host_ingress_slots);
        let mut device = Self {
            engine: CudaEngine::start(gpu, geometry, types, capacity, cache, clock.clone(), None)?,
            ingress,
            egress: EgressPort::new(&geometry),
            clock,
            lease_ns: 0,
            paused: false,
            wall_offset_ns: 0,
            fenced: true,
            stopping: false,
            stopped: false,
            lost: false,
            events: VecDeque::from([Status::Started { workers, layout_hash: LAYOUT_HASH }]),
            snapshot: RefCell::default(),
        };
        device.calibrate();
        Ok(device)
    }

    /// Whether the kernel wrote what cannot be.
    fn is_broken(&self) -> bool {
        self.ingress.is_broken() || self.egress.is_broken()
    }

    /// Tells the kernel wall time and the lease in its own time.
    fn calibrate(&mut self) {
        let memory = &self.engine.resident.memory;
        let device_ns = port::device_ns(memory);
        let (now_ns, wall_ms) = (self.clock.monotonic_ns(), self.clock.wall_ms());
        let offset_ns = (wall_ms * 1_000_000).wrapping_sub(device_ns);
        if self.wall_offset_ns == 0 || offset_ns.wrapping_sub(self.wall_offset_ns) < 1 << 63 {
            self.wall_offset_ns = offset_ns;
            port::set_wall_offset(memory, offset_ns);
        }
        let left_ns = if self.paused { 0 } else { self.lease_ns.saturating_sub(now_ns) };
        port::set_lease(memory, if left_ns == 0 { 0 } else { device_ns.saturating_add(left_ns) });
    }

    fn state_event(&mut self) -> Option<Status> {
        if self.stopping {
            let over = !self.stopped && !matches!(self.engine.has_ended(), Ok(false));
            self.stopped |= over;
            return over.then_some(Status::Stopped);
        }
        if self.is_broken() {
            return (!std::mem::replace(&mut self.lost, true)).then_some(Status::WorkerLost { worker: WorkerIndex(0) });
        }
        let fenced = self.paused || self.clock.monotonic_ns() >= self.lease_ns;
        if fenced == self.fenced {
            return None;
        }
        self.fenced = fenced;
        Some(if fenced { Status::Fenced } else { Status::Unfenced })
    }
}

impl Device for CudaDevice {
    fn push_ingress(&mut self, envelopes: &[Envelope]) -> usize {
        let memory = &self.engine.resident.memory;
        let mut taken = 0;
        for envelope in envelopes {
            if !self.ingress.push(memory, self.engine.tables.worker_of(envelope), envelope) {
                break;
            }
            taken += 1;
        }
        self.ingress.publish(memory);
        taken
    }

    fn ingress_worker(&self, envelope: &Envelope) -> WorkerIndex {
        self.engine.tables.worker_of(envelope)
    }

    fn poll_egress(&mut self, envelopes: &mut [Envelope]) -> usize {
        self.egress.poll(&self.engine.resident.memory, envelopes)
    }

    fn egress_is_behind(&self) -> bool {
        self.is_broken() || self.egress.is_behind()
    }

    fn submit(&mut self, control: Control) -> Result<(), Full> {
        match control {
            Control::Lease { deadline_ns } => {
                self.lease_ns = deadline_ns;
                self.calibrate();
            }
            Control::Pause | Control::Resume => {
                self.paused = control == Control::Pause;
                self.calibrate();
            }
            Control::Stop => {
                self.stopping = true;
                port::set_stop(&self.engine.resident.memory, true);
            }
            _ => self.engine.tables.submit(control)?,
        }
        Ok(())
    }

    fn poll_status(&mut self) -> Option<Status> {
        if let Some(event) = self.events.pop_front().or_else(|| self.egress.take_event()) {
            return Some(event);
        }
        if self.engine.announce().is_err() {
            // The context is gone: nothing that was promised will be kept, and nothing runs any more.
            self.stopping = true;
        }
        if let Some(status) = self.engine.poll_tables() {
            return Some(status);
        }
        self.state_event()
    }

    fn counters(&self, worker: WorkerIndex) -> WorkerCounters {
        let words = COUNTERS_STRIDE as usize / 8;
        if worker.0 >= self.workers() {
            return WorkerCounters::default();
        }
        // Read before the other counters: whatever it acknowledges is in the egress ring already.
        let ingress_done = self.ingress.done(&self.engine.resident.memory, worker);
        let mut snapshot = self.snapshot.borrow_mut();
        let now_ns = self.clock.monotonic_ns();
        if snapshot.words.is_empty() || now_ns.saturating_sub(snapshot.taken_ns) > COUNTERS_AGE_NS {
            snapshot.words.resize(self.engine.resident.geometry.workers as usize * words, 0);
            let (counters, copy) = (&self.engine.resident.memory.counters, &self.engine.resident.copy);
            // A context that is gone leaves the last counters standing.
            let _ = counters.read(0, &mut snapshot.words, copy);
            snapshot.taken_ns = now_ns;
        }
        let at = worker.0 as usize * words;
        let page = &snapshot.words[at..at + size_of::<WorkerCounters>() / 8];
        WorkerCounters { ingress_done, ..*bytemuck::from_bytes(bytemuck::cast_slice(page)) }
    }

    fn workers(&self) -> u16 {
        self.engine.workers()
    }
}
