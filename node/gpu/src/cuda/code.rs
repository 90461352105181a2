//! Which actor types the running kernel has code for.
//!
//! Types share the registers and the instruction cache of one kernel, so each type that is there costs the others: a kernel with six
//! types handled little more than half of the messages of one with the only type that was in use. So a kernel has the types of the sets that
//! are deployed, and no others. When a set of another type comes, the code of all types that are in use then is compiled on a thread
//! while the old kernel runs, and the kernels change places between two batches ([`super::engine::CudaEngine::poll_code`]). Until
//! then its shards are not assigned. Sets that come together are made together; if that fails, each is made with what runs alone, so
//! that one whose code cannot be made takes no other with it.

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
    /// Those that are made alone, because making them with others has failed.
    alone: BTreeSet<u16>,
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
            alone: BTreeSet::new(),
            making: None,
            cache,
        }
    }

    /// The types that the kernel has, in its order.
    pub(crate) fn loaded(&self) -> &[u16] {
        &self.loaded
    }

    /// Whether a type is there; if it is not and could be, it is begun to be made, beside those that run and others that are in use.
    pub(crate) fn want(
        &mut self,
        ty: u16,
        in_use: &BTreeSet<u16>,
        running: &BTreeSet<u16>,
        gpu: &Arc<Gpu>,
        geometry: &Geometry,
    ) -> State {
        if self.broken.contains(&ty) || usize::from(ty) >= self.types.len() {
            return State::Broken;
        }
        if self.loaded.contains(&ty) {
            return State::Loaded;
        }
        if self.making.is_none() {
            let types = self.together(ty, in_use, running);
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

    /// Whether code is being made.
    pub(crate) fn is_making(&self) -> bool {
        self.making.is_some()
    }

    /// What is made with a type.
    fn together(&self, ty: u16, in_use: &BTreeSet<u16>, running: &BTreeSet<u16>) -> Vec<u16> {
        let mut types = running.clone();
        types.insert(ty);
        if !self.alone.contains(&ty) {
            types.extend(in_use.iter().filter(|other| !self.alone.contains(other) && !self.broken.contains(other)));
        }
        types.into_iter().collect()
    }

    /// Code that is ready; `None` while there is none. An error comes with the types of which there will be no code: none of them if each
    /// is still to be made alone.
    pub(crate) fn take(&mut self) -> Option<Result<Made, (CudaError, Vec<u16>)>> {
        if !self.making.as_ref()?.thread.is_finished() {
            return None;
        }
        let Making { types, thread } = self.making.take()?;
        match thread.join() {
            Ok(Ok(cubin)) => Some(Ok(Made { types, cubin })),
            Ok(Err(error)) => Some(Err((error, self.fail(&types)))),
            Err(_) => {
                let error = CudaError::Compile { log: "the thread that compiles has panicked".into() };
                Some(Err((error, self.fail(&types))))
            }
        }
    }

    /// There is no code of these types together. One that the kernel does not have is given up; several are tried one by one. Gives what is
    /// given up.
    pub(crate) fn fail(&mut self, types: &[u16]) -> Vec<u16> {
        let new: Vec<u16> = types.iter().copied().filter(|ty| !self.loaded.contains(ty)).collect();
        if let [one] = new[..] {
            self.alone.remove(&one);
            self.broken.insert(one);
            return new;
        }
        self.alone.extend(new);
        Vec::new()
    }

    /// The kernel has these types now.
    pub(crate) fn set_loaded(&mut self, types: Vec<u16>) {
        self.alone.retain(|ty| !types.contains(ty));
        self.loaded = types;
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.loaded.iter().map(|ty| self.types[usize::from(*ty)].name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_type_whose_code_cannot_be_made_takes_no_other_with_it() {
        let mut code = Code::new(&ringfleet_kernels::shipped(), 1, PathBuf::new());
        let (running, in_use) = (BTreeSet::from([0]), BTreeSet::from([0, 1, 2]));
        assert_eq!(code.together(1, &in_use, &running), [0, 1, 2], "what comes together is made together");
        assert!(code.fail(&[0, 1, 2]).is_empty());
        assert_eq!(code.together(1, &in_use, &running), [0, 1]);
        assert_eq!(code.together(2, &in_use, &running), [0, 2]);
        assert_eq!(code.fail(&[0, 1]), [1]);
        assert!(code.broken.contains(&1) && !code.broken.contains(&2));
        code.set_loaded(vec![0, 2]);
        assert_eq!(code.together(3, &BTreeSet::from([0, 1, 2, 3]), &BTreeSet::from([0, 2])), [0, 2, 3]);
        assert!(code.alone.is_empty());
    }
}
