//! A running kernel with its tables, whoever is at the other end of its rings: the same process ([`super::CudaDevice`]) or an agent
//! ([`super::served`]).

use std::path::Path;
use std::sync::Arc;

use ringfleet_abi::Status;
use ringfleet_env::Clock;
use ringfleet_kernels::device_type::RECORD_UNIT_BYTES;
use ringfleet_kernels::layout::{SetEntry, ShardEntry};
use ringfleet_kernels::{DeviceType, Geometry, Variant};

use super::driver::Gpu;
use super::error::CudaError;
use super::kernel::Resident;
use super::memory_map::Capacity;
use super::port;
use super::tables::{TableWrite, Tables};
use crate::process::shared::SharedMap;

/// How long the kernel may take to start and to stop.
const ANSWER_MS_MAX: u64 = 5_000;

/// A kernel that runs. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct CudaEngine {
    pub(crate) resident: Resident,
    pub(crate) tables: Tables,
    pub(crate) clock: Arc<dyn Clock>,
}

impl CudaEngine {
    /// Compiles the types, launches the kernel and waits for its first sign of life. It does nothing before the first lease.
    pub(crate) fn start(
        gpu: Arc<Gpu>,
        geometry: Geometry,
        types: &[DeviceType],
        capacity: &Capacity,
        cache: &Path,
        clock: Arc<dyn Clock>,
        shared: Option<&Arc<SharedMap>>,
    ) -> Result<Self, CudaError> {
        let units = capacity.arena_bytes / u64::from(RECORD_UNIT_BYTES);
        if u32::try_from(units).is_err() {
            let most = u64::from(u32::MAX) * u64::from(RECORD_UNIT_BYTES);
            return Err(CudaError::Arena { what: "the arena", needed: capacity.arena_bytes, left: most });
        }
        let resident = Resident::with_shared(gpu, geometry, Variant::default(), types, capacity, cache, shared)?;
        let record_units = types.iter().map(DeviceType::record_units).collect();
        let tables = Tables::new(geometry.workers as u16, record_units, capacity.sets, capacity.shards, units);
        let mut engine = Self { tables, clock, resident };
        engine.announce()?;
        engine.resident.launch()?;
        engine.await_kernel("start", |engine| port::device_ns(&engine.resident.memory) != 0)?;
        Ok(engine)
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
    pub(crate) fn announce(&mut self) -> Result<(), CudaError> {
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

    /// The next thing that the workers have carried out.
    pub(crate) fn poll_tables(&mut self) -> Option<Status> {
        let memory = &self.resident.memory;
        self.tables.poll(|worker| port::tables_seen(memory, worker), |worker| port::routes_flushed(memory, worker))
    }

    /// Whether the kernel has ended; the driver's words if it has failed.
    pub(crate) fn has_ended(&self) -> Result<bool, CudaError> {
        self.resident.run.is_idle()
    }

    pub(crate) fn workers(&self) -> u16 {
        self.resident.geometry.workers as u16
    }
}

impl Drop for CudaEngine {
    fn drop(&mut self) {
        // Freeing memory waits for the kernel, so it is told to end first.
        port::set_stop(&self.resident.memory, true);
        let _ = self.await_kernel("stop", |engine| !matches!(engine.has_ended(), Ok(false)));
    }
}
