//! A GPU behind [`Device`] (C2, C3, C4, C6, C7, C9), in the process that drives it: for tests and benches. Agents have a device process
//! per GPU ([`crate::process`]).
//!
//! * Controls change `Tables`; the copies that follow from them are made beside the running kernel by the copy engine, then the
//!   version is announced.
//! * The lease and wall time are told in the kernel's own time (`super::lease`).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use ringfleet_abi::{Control, Envelope, LAYOUT_HASH, SetId, Status, WorkerCounters, WorkerIndex};
use ringfleet_env::Clock;
use ringfleet_kernels::geometry::COUNTERS_STRIDE;
use ringfleet_kernels::{DeviceType, Geometry};

use super::driver::Gpu;
use super::engine::CudaEngine;
use super::error::CudaError;
use super::lease::Lease;
use super::memory_map::Capacity;
use super::port::{self, EgressPort, IngressPort};
use crate::device::{CodeChanges, Device, Full};

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
    lease: Lease,
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
        Self::start_with(gpu, geometry, types, types.len(), capacity, cache, clock)
    }

    /// As [`CudaDevice::start`], with the code of the first `loaded` types: that of others is compiled when a set of theirs comes, whose
    /// shards are assigned when the kernel has it.
    ///
    /// # Errors
    /// Whatever is missing or does not fit.
    pub fn start_with(
        gpu: Arc<Gpu>,
        geometry: Geometry,
        types: &[DeviceType],
        loaded: usize,
        capacity: &Capacity,
        cache: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CudaError> {
        let workers = geometry.workers as u16;
        let ingress = IngressPort::new(&geometry, capacity.host_ingress_slots);
        let mut device = Self {
            engine: CudaEngine::start(gpu, geometry, types, loaded, capacity, cache, clock.clone(), None)?,
            ingress,
            egress: EgressPort::new(&geometry),
            lease: Lease::new(clock.clone()),
            clock,
            stopping: false,
            stopped: false,
            lost: false,
            events: VecDeque::from([Status::Started { workers, layout_hash: LAYOUT_HASH }]),
            snapshot: RefCell::default(),
        };
        device.lease.tell(&device.engine.resident.memory);
        Ok(device)
    }

    /// Whether the kernel wrote what cannot be.
    fn is_broken(&self) -> bool {
        self.ingress.is_broken() || self.egress.is_broken()
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
        self.lease.poll()
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
            Control::Lease { deadline_ns } => self.lease.grant(&self.engine.resident.memory, deadline_ns),
            Control::Pause | Control::Resume => {
                self.lease.pause(&self.engine.resident.memory, control == Control::Pause)
            }
            Control::Stop => {
                self.stopping = true;
                port::set_stop(&self.engine.resident.memory, true);
            }
            _ => self.engine.submit(control)?,
        }
        Ok(())
    }

    fn poll_status(&mut self) -> Option<Status> {
        if let Some(event) = self.events.pop_front().or_else(|| self.egress.take_event()) {
            return Some(event);
        }
        if (!self.stopping && self.engine.poll_code().is_err()) || self.engine.announce().is_err() {
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

    fn actors_by_set(&self) -> BTreeMap<SetId, u64> {
        // A context that is gone has no actors.
        self.engine.actors_by_set().unwrap_or_default()
    }

    fn code_changes(&self) -> CodeChanges {
        self.engine.changes
    }
}
