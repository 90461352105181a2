//! A GPU in a device process: the kernel reads and writes the memory that the agent maps, so this side only carries controls to tables and
//! copies counters (C2, C7).

use std::path::Path;
use std::sync::Arc;

use ringfleet_abi::{Control, Status, WorkerCounters, WorkerIndex};
use ringfleet_actor::TypeDescriptor;
use ringfleet_env::Clock;
use ringfleet_kernels::geometry::COUNTERS_STRIDE;
use ringfleet_kernels::{DeviceType, Geometry};

use super::driver::Gpu;
use super::engine::{CudaEngine, Host};
use super::error::CudaError;
use super::look::nvlinks_to;
use super::memory_map::Capacity;
use super::types::device_type;
use crate::device::Full;
use crate::process::engine::{Engine, Words};
use crate::process::handshake::{Facts, Kind};
use crate::process::shared::SharedMap;

/// The device code of an actor type, made from the text of its handlers; `None` if it cannot be (a type without macros).
#[must_use]
pub fn device_code(ty: &TypeDescriptor) -> Option<DeviceType> {
    device_type(ty).ok()
}

/// What this GPU is.
pub(crate) fn facts(gpu: &Gpu) -> Result<Facts, CudaError> {
    let (memory_bytes, memory_free_bytes) = gpu.memory_bytes()?;
    let peers = gpu.peers()?;
    Ok(Facts {
        kind: Kind::Gpu,
        name: gpu.name.clone(),
        uuid: gpu.uuid.clone(),
        cores: gpu.multiprocessors,
        capability: gpu.capability,
        driver_version: gpu.driver_version,
        memory_bytes,
        memory_free_bytes,
        nvlinks: nvlinks_to(&gpu.uuid, &peers),
        peers,
    })
}

/// A kernel behind shared memory.
#[derive(Debug)]
pub(crate) struct GpuEngine {
    engine: CudaEngine,
    map: Arc<SharedMap>,
    /// Index of each type of the registry in this build of device code.
    built: Vec<Option<u16>>,
    words: Vec<u64>,
    stopping: bool,
    stopped: bool,
    failed: Option<String>,
    said: Option<String>,
}

impl GpuEngine {
    /// `connect` is called when there is memory, before anything runs.
    pub(crate) fn start(
        gpu: Arc<Gpu>,
        geometry: Geometry,
        types: &[&'static TypeDescriptor],
        capacity: &Capacity,
        cache: &Path,
        clock: Arc<dyn Clock>,
        host: Host<'_>,
    ) -> Result<Self, CudaError> {
        let map = host.map.clone();
        let mut code = Vec::new();
        let mut built = Vec::new();
        for ty in types {
            let text = device_code(ty);
            built.push(text.is_some().then_some(code.len() as u16));
            code.extend(text);
        }
        let engine = CudaEngine::start(gpu, geometry, &code, 0, capacity, cache, clock, Some(host))?;
        let words = vec![0; usize::from(engine.workers()) * (COUNTERS_STRIDE as usize / 8)];
        Ok(Self { engine, map, built, words, stopping: false, stopped: false, failed: None, said: None })
    }

    /// The sizes that the kernel of this GPU has in a group of so many devices, if they are those of the shared memory. The smallest GPU
    /// of a group decides how many workers each has.
    pub(crate) fn geometry(gpu: &Gpu, devices: u32, map: &SharedMap) -> Option<Geometry> {
        let own = Geometry::for_group(gpu.multiprocessors, devices);
        let shape = map.shape();
        let geometry = Geometry { workers: u32::from(shape.workers), ..own };
        let fits = if devices > 1 { geometry.workers <= own.workers } else { geometry.workers == own.workers };
        let fits = fits && shape.ingress_slots == geometry.ingress_slots && shape.egress_slots == geometry.egress_slots;
        (fits && geometry.check().is_ok() && devices == geometry.devices).then_some(geometry)
    }

    /// Code that has been made, and changed tables.
    fn bring_in(&mut self) {
        if self.stopping {
            return;
        }
        match self.engine.poll_code() {
            Ok(None) => {}
            Ok(Some(Ok(said))) => self.said = Some(said),
            Ok(Some(Err(error))) => self.said = Some(format!("device code could not be made: {error}")),
            Err(error) => self.note(Err(error)),
        }
        let announced = self.engine.announce();
        self.note(announced);
    }

    fn note(&mut self, outcome: Result<(), CudaError>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(error.to_string());
        }
    }
}

impl Engine for GpuEngine {
    fn submit(&mut self, control: Control) -> Result<(), Full> {
        let control = match control {
            // The agent counts in its registry; the kernel in the types that there is code for.
            Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart } => {
                let type_index = type_index.and_then(|index| *self.built.get(usize::from(index))?);
                Control::AddSet { set, tag, type_index, keys, shards, actors_per_shard, restart }
            }
            other => other,
        };
        self.engine.submit(control)
    }

    fn poll_status(&mut self) -> Option<Status> {
        if self.stopping {
            let over = !self.stopped && !matches!(self.engine.has_ended(), Ok(false));
            self.stopped |= over;
            return over.then_some(Status::Stopped);
        }
        // Also while a control waits for code.
        self.bring_in();
        self.engine.poll_tables()
    }

    fn carry(&mut self, words: Words) -> Result<bool, crate::process::engine::Unbelievable> {
        self.stopping |= words.stop;
        self.bring_in();
        Ok(false)
    }

    fn copy_counters(&mut self) {
        let (counters, copy) = (&self.engine.resident.memory.counters, &self.engine.resident.copy);
        let read = counters.read(0, &mut self.words, copy);
        self.note(read);
        let stride = COUNTERS_STRIDE as usize / 8;
        for (worker, words) in self.words.chunks_exact(stride).enumerate() {
            let page: &WorkerCounters =
                bytemuck::from_bytes(bytemuck::cast_slice(&words[..size_of::<WorkerCounters>() / 8]));
            self.map.write_counters(WorkerIndex(worker as u16), page);
        }
        match self.engine.actors_by_set() {
            Ok(actors) => self.map.write_actors(&actors),
            Err(error) => self.note(Err(error)),
        }
        self.map.write_changes(&self.engine.changes);
    }

    fn said(&mut self) -> Option<String> {
        self.said.take()
    }

    fn fault(&mut self) -> Option<String> {
        if self.failed.is_none() && !self.stopped {
            match self.engine.has_ended() {
                Ok(true) if !self.stopping => {
                    // The kernel sees the word as soon as the agent writes it, this loop once a round.
                    self.stopping = Words::read(&self.map).stop;
                    if !self.stopping {
                        self.failed = Some("the kernel has ended by itself".into());
                    }
                }
                Ok(_) => {}
                Err(error) => self.failed = Some(error.to_string()),
            }
        }
        self.failed.clone()
    }
}
