//! Which actor types the running kernel has code for.
//!
//! Types share the registers and the instruction cache of one kernel, so each type that is there costs the others: a kernel with six
//! types handled little more than half of the messages of one with the only type that was in use. So a kernel has the types of the sets that
//! are deployed, and no others. When a set of another type comes, the code of all types that are in use then is compiled on a thread
//! while the old kernel runs, and the kernels change places between two batches ([`super::engine::CudaEngine::poll_code`]). Until
//! then the set is not added.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use ringfleet_kernels::{DeviceType, Geometry, Variant};

use super::compile::compile_cached;
use super::driver::Gpu;
use super::error::CudaError;
use super::kernel::unit_of;

/// What is known of a type's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The kernel has it.
    Loaded,
    /// It is being made, or will be next.
    Coming,
    /// It could not be made.
    Broken,
}

/// Code that is being made.
#[derive(Debug)]
struct Making {
    types: Vec<u16>,
    thread: JoinHandle<Result<Vec<u8>, CudaError>>,
}

/// Code that is ready.
pub(crate) struct Made {
    /// Its types, in its order.
    pub(crate) types: Vec<u16>,
    /// For the driver.
    pub(crate) cubin: Vec<u8>,
}

/// The types of a device, and which of them its kernel has.
#[derive(Debug)]
pub(crate) struct Code {
    types: Vec<DeviceType>,
    loaded: Vec<u16>,
    broken: BTreeSet<u16>,
    making: Option<Making>,
    cache: PathBuf,
}

impl Code {
    /// A kernel with the first `loaded` of these types.
    pub(crate) fn new(types: &[DeviceType], loaded: usize, cache: PathBuf) -> Self {
        Self {
            types: types.to_vec(),
            loaded: (0..loaded as u16).collect(),
            broken: BTreeSet::new(),
            making: None,
            cache,
        }
    }

    /// The types that the kernel has, in its order.
    pub(crate) fn loaded(&self) -> &[u16] {
        &self.loaded
    }

    /// Whether a type is there; if it is not and could be, it is begun to be made, beside those that are in use.
    pub(crate) fn want(&mut self, ty: u16, in_use: BTreeSet<u16>, gpu: &Arc<Gpu>, geometry: &Geometry) -> State {
        if self.broken.contains(&ty) || usize::from(ty) >= self.types.len() {
            return State::Broken;
        }
        if self.loaded.contains(&ty) {
            return State::Loaded;
        }
        if self.making.is_none() {
            let mut types = in_use;
            types.insert(ty);
            let types: Vec<u16> = types.into_iter().collect();
            let code: Vec<DeviceType> = types.iter().map(|ty| self.types[usize::from(*ty)].clone()).collect();
            let (gpu, geometry, cache) = (gpu.clone(), *geometry, self.cache.clone());
            let make = move || {
                let unit = unit_of(&gpu, &geometry, Variant::default(), &code)?;
                compile_cached(&unit, &cache, gpu.driver_version)
            };
            self.making = Some(Making { types, thread: std::thread::spawn(make) });
        }
        State::Coming
    }

    /// Code that is ready; `None` while there is none. Types whose code cannot be made are told once, by the error.
    pub(crate) fn take(&mut self) -> Option<Result<Made, CudaError>> {
        if !self.making.as_ref()?.thread.is_finished() {
            return None;
        }
        let Making { types, thread } = self.making.take()?;
        match thread.join() {
            Ok(Ok(cubin)) => Some(Ok(Made { types, cubin })),
            Ok(Err(error)) => {
                self.set_broken(&types);
                Some(Err(error))
            }
            Err(_) => {
                self.set_broken(&types);
                Some(Err(CudaError::Compile { log: "the thread that compiles has panicked".into() }))
            }
        }
    }

    /// There will be no code of those of these types that the kernel does not have.
    pub(crate) fn set_broken(&mut self, types: &[u16]) {
        self.broken.extend(types.iter().filter(|ty| !self.loaded.contains(ty)));
    }

    /// The kernel has these types now.
    pub(crate) fn set_loaded(&mut self, types: Vec<u16>) {
        self.loaded = types;
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.loaded.iter().map(|ty| self.types[usize::from(*ty)].name.as_str()).collect()
    }
}
