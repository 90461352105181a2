//! A running kernel with its tables, whoever is at the other end of its rings: the same process ([`super::CudaDevice`]) or an agent
//! ([`super::served`]).

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::path::Path;
use std::sync::Arc;

use ringfleet_abi::{Control, SetId, Status};
use ringfleet_env::Clock;
use ringfleet_kernels::device_type::RECORD_UNIT_BYTES;
use ringfleet_kernels::layout::{DevicePage, SetEntry, ShardEntry};
use ringfleet_kernels::{DeviceType, Geometry, Variant};

use super::code::{Code, Made, State};
use super::driver::Gpu;
use super::error::CudaError;
use super::kernel::Resident;
use super::memory_map::Capacity;
use super::port;
use super::tables::{TableWrite, Tables};
use crate::device::{CodeChanges, Full};
use crate::process::shared::SharedMap;

/// How long the kernel may take to start and to stop.
const ANSWER_MS_MAX: u64 = 5_000;

/// What a device process shares with its agent, and how it gets to know the other devices of its group before the launch.
pub(crate) struct Host<'a> {
    pub(crate) map: &'a Arc<SharedMap>,
    pub(crate) connect: &'a mut dyn FnMut(&mut Resident) -> Result<(), CudaError>,
}

/// A kernel that runs. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct CudaEngine {
    pub(crate) resident: Resident,
    pub(crate) tables: Tables,
    code: Code,
    /// How often its code was changed while it ran.
    pub(crate) changes: CodeChanges,
    pub(crate) clock: Arc<dyn Clock>,
}

impl CudaEngine {
    /// Compiles the first `loaded` of the types, launches the kernel and waits for its first sign of life. It does nothing before the first
    /// lease. The code of the others is made when a set wants it ([`CudaEngine::want`]).
    #[allow(clippy::too_many_arguments)] // What a device is made of.
    pub(crate) fn start(
        gpu: Arc<Gpu>,
        geometry: Geometry,
        types: &[DeviceType],
        loaded: usize,
        capacity: &Capacity,
        cache: &Path,
        clock: Arc<dyn Clock>,
        host: Option<Host<'_>>,
    ) -> Result<Self, CudaError> {
        let units = capacity.arena_bytes / u64::from(RECORD_UNIT_BYTES);
        if u32::try_from(units).is_err() {
            let most = u64::from(u32::MAX) * u64::from(RECORD_UNIT_BYTES);
            return Err(CudaError::Arena { what: "the arena", needed: capacity.arena_bytes, left: most });
        }
        let map = host.as_ref().map(|host| host.map);
        let loaded_types = &types[..loaded];
        let mut resident =
            Resident::with_shared(gpu, geometry, Variant::default(), loaded_types, capacity, cache, map)?;
        if let Some(host) = host {
            (host.connect)(&mut resident)?;
        }
        let records = types.iter().map(|ty| [ty.record(false), ty.record(true)]).collect();
        let mut tables = Tables::new(geometry.workers as u16, records, capacity.sets, capacity.shards, units);
        let code = Code::new(types, loaded, cache.to_owned());
        tables.load(code.loaded());
        let mut engine = Self { tables, code, changes: CodeChanges::default(), clock, resident };
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

    /// Whether the kernel has the code of a type; if not, it is made, and [`CudaEngine::poll_code`] brings it in.
    fn want(&mut self, ty: u16) -> State {
        let (in_use, running) = (self.tables.types_in_use(), self.tables.types_running());
        self.code.want(ty, &in_use, &running, &self.resident.gpu, &self.resident.geometry)
    }

    /// Takes a control that changes tables.
    pub(crate) fn submit(&mut self, control: Control) -> Result<(), Full> {
        let control = match control {
            Control::AddSet { set, tag, type_index: Some(ty), keys, shards, actors_per_shard, restart }
                if self.tables.has_place() =>
            {
                // What is made meanwhile is waited for by assignments only.
                let type_index = Some(ty).filter(|ty| self.want(*ty) != State::Broken);
                Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart }
            }
            other => other,
        };
        self.tables.submit(control)
    }

    /// Runs a kernel with the code that has been made meanwhile, if there is any; says what was done. State, rings, spills, timers and what
    /// has been promised stay in device memory (`end_worker` in `device/worker.cuh`), the host's rings do as well.
    ///
    /// # Errors
    /// The outer one is the driver's: nothing runs any more. The inner one says whose code could not be made: their sets will not be resident
    /// here, and the old kernel goes on.
    pub(crate) fn poll_code(&mut self) -> Result<Option<Result<String, CudaError>>, CudaError> {
        let Made { types, cubin } = match self.code.take() {
            None => {
                // Also those that came while others were made.
                if !self.code.is_making()
                    && let Some(ty) = self.tables.wanted()
                {
                    self.want(ty);
                }
                return Ok(None);
            }
            Some(Err((error, broken))) => {
                self.tables.give_up(&broken);
                return Ok((!broken.is_empty()).then_some(Err(error)));
            }
            Some(Ok(made)) => made,
        };
        if !self.tables.types_running().iter().all(|ty| types.contains(ty)) {
            // A set of a type that was there and not in use has come since: this code has not what runs now. It is made anew.
            return Ok(None);
        }
        let began_ns = self.clock.monotonic_ns();
        // Not the word that the agent writes: it may want the device to stop just now.
        let page = &self.resident.memory.device_page;
        page.write(offset_of!(DevicePage, stop), &[1_u32], &self.resident.copy)?;
        self.await_end()?;
        let ended_ns = self.clock.monotonic_ns();
        let replaced = self.resident.replace(&cubin);
        if replaced.is_ok() {
            self.tables.load(&types);
            self.code.set_loaded(types);
        } else {
            let broken = self.code.fail(&types);
            self.tables.give_up(&broken);
        }
        self.announce()?;
        // Neither stop nor an end, and no lease before the router has read the host's word anew (C2).
        self.resident.memory.device_page.write(offset_of!(DevicePage, stop), &[0_u32; 4], &self.resident.copy)?;
        self.resident.launch()?;
        let paused_ns = self.clock.monotonic_ns().saturating_sub(began_ns);
        // Also where the new code did not load: the old one stood still for it.
        self.changes.count += 1;
        self.changes.standstill_ns += paused_ns;
        if let Err(error) = replaced {
            return Ok(Some(Err(error)));
        }
        let micros = |ns: u64| ns / 1000;
        Ok(Some(Ok(format!(
            "the kernel runs {} now; it stood still for {} us, {} of them until its workers had ended",
            self.code.names().join(", "),
            micros(paused_ns),
            micros(ended_ns.saturating_sub(began_ns)),
        ))))
    }

    fn await_end(&self) -> Result<(), CudaError> {
        let began = self.clock.monotonic_ns();
        while !self.resident.run.is_idle()? {
            if self.clock.monotonic_ns().saturating_sub(began) > ANSWER_MS_MAX * 1_000_000 {
                return Err(CudaError::Late { what: "stop", millis: ANSWER_MS_MAX });
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
                TableWrite::NoActors(first, count) => {
                    memory.live.write(first as usize * 4, &vec![0_u32; count as usize], copy)?;
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

    /// Actors that are active now, by set.
    pub(crate) fn actors_by_set(&self) -> Result<BTreeMap<SetId, u64>, CudaError> {
        let (live, copy) = (&self.resident.memory.live, &self.resident.copy);
        let mut counts = vec![0_u32; live.bytes() / 4];
        live.read(0, &mut counts, copy)?;
        Ok(self.tables.actors_by_set(&counts))
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
