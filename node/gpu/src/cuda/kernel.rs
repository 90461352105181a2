//! A kernel that is loaded, and running or not.
#![allow(unsafe_code)]

use std::path::Path;
use std::sync::Arc;

use ringfleet_abi::{LAYOUT_HASH, WorkerCounters, WorkerIndex};
use ringfleet_kernels::geometry::COUNTERS_STRIDE;
use ringfleet_kernels::source::{KERNEL, LAYOUT_HASH_SYMBOL, SHARED_BYTES_SYMBOL};
use ringfleet_kernels::{Arch, DeviceType, Geometry, Unit, Variant};

use super::compile::compile_cached;
use super::driver::{Gpu, Module, Stream};
use super::error::CudaError;
use super::memory_map::{Capacity, MemoryMap};
use crate::process::shared::SharedMap;

/// The unit of these types for this GPU.
pub(crate) fn unit_of(
    gpu: &Gpu,
    geometry: &Geometry,
    variant: Variant,
    types: &[DeviceType],
) -> Result<Unit, CudaError> {
    let arch = Arch { major: gpu.capability.0, minor: gpu.capability.1 };
    Ok(Unit::new(geometry, arch, variant, types)?)
}

/// Loads code and checks that it is of this contract and fits; gives the shared memory of a block, too.
fn load(gpu: &Arc<Gpu>, geometry: &Geometry, cubin: &[u8]) -> Result<(Module, u32), CudaError> {
    let module = Module::load(gpu, cubin)?;
    let hash: u64 = module.variable(LAYOUT_HASH_SYMBOL)?;
    if hash != LAYOUT_HASH {
        return Err(CudaError::Layout { device: hash, host: LAYOUT_HASH });
    }
    let shared_bytes: u32 = module.variable(SHARED_BYTES_SYMBOL)?;
    let kernel = module.kernel(KERNEL, shared_bytes)?;
    let resident = kernel.blocks_per_multiprocessor(geometry.threads, shared_bytes)? * gpu.multiprocessors;
    let blocks = geometry.workers + 1;
    if resident < blocks {
        return Err(CudaError::Grid { blocks, resident });
    }
    Ok((module, shared_bytes))
}

/// A device's kernel with its memory.
#[derive(Debug)]
pub struct Resident {
    /// All memory. Declared before the GPU, so freed before its context goes.
    pub memory: MemoryMap,
    /// Its code.
    pub module: Module,
    /// Where the kernel runs.
    pub run: Stream,
    /// Where copies beside it run.
    pub copy: Stream,
    /// Sizes.
    pub geometry: Geometry,
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// The GPU.
    pub gpu: Arc<Gpu>,
}

impl Resident {
    /// Compiles and loads the types, and allocates all memory. Nothing runs yet.
    ///
    /// # Errors
    /// Whatever is missing or does not fit.
    pub fn new(
        gpu: Arc<Gpu>,
        geometry: Geometry,
        variant: Variant,
        types: &[DeviceType],
        capacity: &Capacity,
        cache: &Path,
    ) -> Result<Self, CudaError> {
        Self::with_shared(gpu, geometry, variant, types, capacity, cache, None)
    }

    /// As [`Resident::new`]; what the host shares with the device is a part of `shared`, if there is one.
    ///
    /// # Errors
    /// Whatever is missing or does not fit.
    pub fn with_shared(
        gpu: Arc<Gpu>,
        geometry: Geometry,
        variant: Variant,
        types: &[DeviceType],
        capacity: &Capacity,
        cache: &Path,
        shared: Option<&Arc<SharedMap>>,
    ) -> Result<Self, CudaError> {
        let unit = unit_of(&gpu, &geometry, variant, types)?;
        let cubin = compile_cached(&unit, cache, gpu.driver_version)?;
        let (module, shared_bytes) = load(&gpu, &geometry, &cubin)?;
        let (run, copy) = (Stream::new(&gpu)?, Stream::new(&gpu)?);
        let memory = MemoryMap::new(&gpu, &geometry, capacity, shared)?;
        Ok(Self { memory, module, run, copy, geometry, shared_bytes, gpu })
    }

    /// Runs other code from the next launch on. Only while nothing runs.
    ///
    /// # Errors
    /// Whatever does not fit; the code is as it was then.
    pub fn replace(&mut self, cubin: &[u8]) -> Result<(), CudaError> {
        (self.module, self.shared_bytes) = load(&self.gpu, &self.geometry, cubin)?;
        Ok(())
    }

    /// Launches the kernel: workers and the router.
    ///
    /// # Errors
    /// The driver's.
    pub fn launch(&self) -> Result<(), CudaError> {
        self.gpu.make_current()?;
        let kernel = self.module.kernel(KERNEL, self.shared_bytes)?;
        let params = bytemuck::bytes_of(&self.memory.params);
        // SAFETY: the kernel takes one `Params` by value (the layout hash and the asserted C text agree), and all addresses
        // in it are memory that `self` holds until the kernel has ended (`Drop`).
        unsafe {
            kernel.launch(self.geometry.workers + 1, self.geometry.threads, self.shared_bytes, &self.run, &[params])
        }
    }

    /// A worker's counters, by the copy engine.
    ///
    /// # Errors
    /// The driver's.
    pub fn counters(&self, worker: WorkerIndex) -> Result<WorkerCounters, CudaError> {
        let mut counters = [WorkerCounters::default()];
        self.memory.counters.read(worker.0 as usize * COUNTERS_STRIDE as usize, &mut counters, &self.copy)?;
        Ok(counters[0])
    }

    /// The counters of all workers in one copy, added up.
    ///
    /// # Errors
    /// The driver's.
    pub fn total(&self) -> Result<WorkerCounters, CudaError> {
        let words = COUNTERS_STRIDE as usize / 8;
        let mut pages = vec![0_u64; self.geometry.workers as usize * words];
        self.memory.counters.read(0, &mut pages, &self.copy)?;
        let mut total = WorkerCounters::default();
        for page in pages.chunks_exact(words) {
            total.add(bytemuck::from_bytes(bytemuck::cast_slice(&page[..size_of::<WorkerCounters>() / 8])));
        }
        Ok(total)
    }
}
