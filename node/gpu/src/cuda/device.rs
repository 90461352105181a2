//! A GPU behind [`Device`] (C2, C3, C4, C6, C7, C9), in the process that drives it.
//!
//! * Controls change `Tables`; the copies that follow from them are made beside the running kernel by the copy engine, then the
//!   version is announced.
//! * **Lease.** Deadlines come in the clock's time. The kernel knows only its own timer, so a deadline is told in that: the
//!   router's last look (`device_ns`) is at most as late as the clock read after it, so the translated deadline is never
//!   later than the true one.
//! * **Wall time.** The kernel's HLC is its timer plus an offset that is measured again with every lease and only ever raised, so
//!   device time never goes back.
//! * `pause` is a lease that has ended.
//!
//! Not yet: timers (`ctx.after` fails the actor with `timer_full`), the status `actor_failed` (failures are counted), the process of its own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use ringfleet_abi::{Control, Envelope, LAYOUT_HASH, Status, WorkerCounters, WorkerIndex};
use ringfleet_env::Clock;
use ringfleet_kernels::device_type::RECORD_UNIT_BYTES;
use ringfleet_kernels::geometry::COUNTERS_STRIDE;
use ringfleet_kernels::layout::{SetEntry, ShardEntry};
use ringfleet_kernels::{DeviceType, Geometry, Variant};

use super::driver::Gpu;
use super::error::CudaError;
use super::kernel::Resident;
use super::memory_map::Capacity;
use super::port::{self, EgressPort, IngressPort};
use super::tables::{TableWrite, Tables};
use crate::device::{Device, Full};

/// How old copied counters may be before they are copied again.
const COUNTERS_AGE_NS: u64 = 1_000_000;
/// How long the kernel may take to start and to stop.
const ANSWER_MS_MAX: u64 = 5_000;

#[derive(Debug, Default)]
struct Snapshot {
    taken_ns: u64,
    words: Vec<u64>,
}

/// A GPU that runs actors.
#[derive(Debug)]
pub struct CudaDevice {
    resident: Resident,
    tables: Tables,
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
        let units = capacity.arena_bytes / u64::from(RECORD_UNIT_BYTES);
        if u32::try_from(units).is_err() {
            let most = u64::from(u32::MAX) * u64::from(RECORD_UNIT_BYTES);
            return Err(CudaError::Arena { what: "the arena", needed: capacity.arena_bytes, left: most });
        }
        let resident = Resident::new(gpu, geometry, Variant::default(), types, capacity, cache)?;
        let workers = geometry.workers as u16;
        let record_units = types.iter().map(DeviceType::record_units).collect();
        let tables = Tables::new(workers, record_units, capacity.sets, capacity.shards, units);
        let mut device = Self {
            tables,
            ingress: IngressPort::new(&geometry, capacity.host_ingress_slots),
            egress: EgressPort::new(&geometry),
            clock,
            lease_ns: 0,
            paused: false,
            wall_offset_ns: 0,
            fenced: true,
            stopping: false,
            stopped: false,
            events: VecDeque::from([Status::Started { workers, layout_hash: LAYOUT_HASH }]),
            snapshot: RefCell::default(),
            resident,
        };
        device.announce()?;
        device.resident.launch()?;
        device.await_kernel("start", |device| port::device_ns(&device.resident.memory) != 0)?;
        device.calibrate();
        Ok(device)
    }

    fn await_kernel(&self, what: &'static str, done: impl Fn(&Self) -> bool) -> Result<(), CudaError> {
        let began = self.clock.monotonic_ns();
        while !done(self) {
            self.resident.run.is_idle()?;
            if self.clock.monotonic_ns().saturating_sub(began) > ANSWER_MS_MAX * 1_000_000 {
                return Err(CudaError::Late { what, millis: ANSWER_MS_MAX });
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Makes the copies that are due and announces the version that they make.
    fn announce(&mut self) -> Result<(), CudaError> {
        let Some((writes, version)) = self.tables.take_changes() else { return Ok(()) };
        let (memory, copy) = (&self.resident.memory, &self.resident.copy);
        for write in writes {
            match write {
                TableWrite::Set(set, entry) => {
                    memory.sets.write(usize::from(set) * size_of::<SetEntry>(), &[entry], copy)?;
                }
                TableWrite::Shards(index, entries) => {
                    memory.shards.write(index as usize * size_of::<ShardEntry>(), &entries, copy)?;
                }
                TableWrite::Routes(table, routes) => {
                    memory.routes.write(table as usize * routes.len() * 2, &routes, copy)?;
                }
                TableWrite::Tags(tags) => memory.tags.write(0, &tags, copy)?,
            }
        }
        port::set_tables_version(memory, version);
        Ok(())
    }

    /// Tells the kernel wall time and the lease in its own time.
    fn calibrate(&mut self) {
        let memory = &self.resident.memory;
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
            let over = !self.stopped && !matches!(self.resident.run.is_idle(), Ok(false));
            self.stopped |= over;
            return over.then_some(Status::Stopped);
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
        let memory = &self.resident.memory;
        let mut taken = 0;
        for envelope in envelopes {
            if !self.ingress.push(memory, self.tables.worker_of(envelope), envelope) {
                break;
            }
            taken += 1;
        }
        self.ingress.publish(memory);
        taken
    }

    fn ingress_worker(&self, envelope: &Envelope) -> WorkerIndex {
        self.tables.worker_of(envelope)
    }

    fn poll_egress(&mut self, envelopes: &mut [Envelope]) -> usize {
        self.egress.poll(&self.resident.memory, envelopes)
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
                port::set_stop(&self.resident.memory, true);
            }
            _ => self.tables.submit(control)?,
        }
        Ok(())
    }

    fn poll_status(&mut self) -> Option<Status> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.announce().is_err() {
            // The context is gone: nothing that was promised will be kept, and nothing runs any more.
            self.stopping = true;
        }
        let memory = &self.resident.memory;
        if let Some(status) =
            self.tables.poll(|worker| port::tables_seen(memory, worker), |worker| port::routes_flushed(memory, worker))
        {
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
        let ingress_done = port::ingress_done(&self.resident.memory, worker);
        let mut snapshot = self.snapshot.borrow_mut();
        let now_ns = self.clock.monotonic_ns();
        if snapshot.words.is_empty() || now_ns.saturating_sub(snapshot.taken_ns) > COUNTERS_AGE_NS {
            snapshot.words.resize(self.resident.geometry.workers as usize * words, 0);
            let (counters, copy) = (&self.resident.memory.counters, &self.resident.copy);
            // A context that is gone leaves the last counters standing.
            let _ = counters.read(0, &mut snapshot.words, copy);
            snapshot.taken_ns = now_ns;
        }
        let at = worker.0 as usize * words;
        let page = &snapshot.words[at..at + size_of::<WorkerCounters>() / 8];
        WorkerCounters { ingress_done, ..*bytemuck::from_bytes(bytemuck::cast_slice(page)) }
    }

    fn workers(&self) -> u16 {
        self.resident.geometry.workers as u16
    }
}

impl Drop for CudaDevice {
    fn drop(&mut self) {
        // Freeing memory waits for the kernel, so it is told to end first.
        port::set_stop(&self.resident.memory, true);
        let _ = self.await_kernel("stop", |device| !matches!(device.resident.run.is_idle(), Ok(false)));
    }
}
