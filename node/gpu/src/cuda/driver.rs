//! The CUDA driver, as far as a device needs it: every unsafe call of it is here, behind values that free what they hold.
//!
//! The driver is loaded at run time. A value of [`Gpu`] proves that it was found, so no later call can meet a missing library.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::sys;

use super::error::CudaError;
use crate::host_memory::HostPart;

fn check(call: &'static str, result: sys::CUresult) -> Result<(), CudaError> {
    if result == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut text = ptr::null();
    // SAFETY: the driver is loaded (we just called it) and answers with a static string or leaves the pointer null.
    let text = unsafe {
        if sys::cuGetErrorString(result, &raw mut text) == sys::CUresult::CUDA_SUCCESS && !text.is_null() {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        } else {
            String::from("unknown error")
        }
    };
    Err(CudaError::Driver { call, code: result as u32, text })
}

/// One GPU with its context, shared by everything that lives in it.
#[derive(Debug)]
pub struct Gpu {
    device: sys::CUdevice,
    context: sys::CUcontext,
    /// Its name.
    pub name: String,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Compute capability.
    pub capability: (u32, u32),
    /// The driver's version, such as 13000.
    pub driver_version: u32,
}

// SAFETY: a context may be used by any thread that makes it current, which every call here does first.
unsafe impl Send for Gpu {}
// SAFETY: as above; the driver locks its own state.
unsafe impl Sync for Gpu {}

impl Gpu {
    /// Opens the GPU `ordinal` and makes its context current.
    ///
    /// # Errors
    /// [`CudaError::Missing`] without a driver; the driver's own words otherwise.
    pub fn open(ordinal: u32) -> Result<Arc<Self>, CudaError> {
        // SAFETY: only looks for the library.
        if !unsafe { sys::is_culib_present() } {
            return Err(CudaError::Missing { library: "libcuda.so", hint: "it comes with the NVIDIA driver" });
        }
        // SAFETY: plain calls of the driver with pointers to locals that live through the call; the name's buffer has the
        // length that is told.
        unsafe {
            check("cuInit", sys::cuInit(0))?;
            let mut device = 0;
            check("cuDeviceGet", sys::cuDeviceGet(&raw mut device, ordinal as i32))?;
            let mut name = [0; 128];
            check("cuDeviceGetName", sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as i32, device))?;
            let name = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
            let attribute = |attribute| {
                let mut value = 0;
                check("cuDeviceGetAttribute", sys::cuDeviceGetAttribute(&raw mut value, attribute, device))?;
                Ok::<u32, CudaError>(value as u32)
            };
            use sys::CUdevice_attribute::{
                CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            };
            let multiprocessors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
            let capability = (
                attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            );
            let mut version = 0;
            check("cuDriverGetVersion", sys::cuDriverGetVersion(&raw mut version))?;
            let mut context = ptr::null_mut();
            check("cuDevicePrimaryCtxRetain", sys::cuDevicePrimaryCtxRetain(&raw mut context, device))?;
            let gpu = Self { device, context, name, multiprocessors, capability, driver_version: version as u32 };
            gpu.make_current()?;
            Ok(Arc::new(gpu))
        }
    }

    /// Makes the context current in this thread.
    ///
    /// # Errors
    /// The driver's.
    pub fn make_current(&self) -> Result<(), CudaError> {
        // SAFETY: the context is retained by `self`.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: pairs with the retain in `open`. An error here has nobody to be told to.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// Memory of the GPU, zeroed when allocated.
#[derive(Debug)]
pub struct DeviceMemory {
    gpu: Arc<Gpu>,
    address: u64,
    bytes: usize,
}

impl DeviceMemory {
    /// Allocates `bytes`, at least 16.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Self, CudaError> {
        gpu.make_current()?;
        let bytes = bytes.max(16);
        let mut address = 0;
        // SAFETY: the pointer is to a local; the memset covers what was just allocated.
        unsafe {
            check("cuMemAlloc", sys::cuMemAlloc_v2(&raw mut address, bytes))?;
            let memory = Self { gpu: gpu.clone(), address, bytes };
            check("cuMemsetD8", sys::cuMemsetD8_v2(address, 0, bytes))?;
            check("cuCtxSynchronize", sys::cuCtxSynchronize())?;
            Ok(memory)
        }
    }

    /// The device's address.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Copies `data` to `offset` and waits for the copy.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn write<T: Pod>(&self, offset: usize, data: &[T], stream: &Stream) -> Result<(), CudaError> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        assert!(offset + bytes.len() <= self.bytes, "C9: a copy beyond the end of device memory");
        self.gpu.make_current()?;
        // SAFETY: the range was checked, and the source outlives the copy, which is waited for.
        unsafe {
            check(
                "cuMemcpyHtoDAsync",
                sys::cuMemcpyHtoDAsync_v2(
                    self.address + offset as u64,
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    stream.stream,
                ),
            )?;
        }
        stream.synchronize()
    }

    /// Copies from `offset` into `data` and waits for the copy.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Panics
    /// If the memory is shorter.
    pub fn read<T: Pod>(&self, offset: usize, data: &mut [T], stream: &Stream) -> Result<(), CudaError> {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(data);
        assert!(offset + bytes.len() <= self.bytes, "C9: a copy beyond the end of device memory");
        self.gpu.make_current()?;
        // SAFETY: as in `write`.
        unsafe {
            check(
                "cuMemcpyDtoHAsync",
                sys::cuMemcpyDtoHAsync_v2(
                    bytes.as_mut_ptr().cast(),
                    self.address + offset as u64,
                    bytes.len(),
                    stream.stream,
                ),
            )?;
        }
        stream.synchronize()
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once. `cuMemFree` waits for kernels, so devices stop theirs before.
        let _ = unsafe { sys::cuMemFree_v2(self.address) };
    }
}

/// Pinned host memory that the GPU reads and writes too, zeroed when allocated. Both sides change it at any time, so it is only
/// reached through raw pointers and atomics.
#[derive(Debug)]
pub struct PinnedMemory {
    _gpu: Arc<Gpu>,
    host: *mut u8,
    device: u64,
    bytes: usize,
}

// SAFETY: plain memory; who may touch what is the business of the rings and pages laid into it.
unsafe impl Send for PinnedMemory {}
// SAFETY: as above; every access is through a raw pointer or an atomic.
unsafe impl Sync for PinnedMemory {}

impl PinnedMemory {
    /// Allocates `bytes`, at least 128, cached on the host.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(gpu: &Arc<Gpu>, bytes: usize) -> Result<Self, CudaError> {
        gpu.make_current()?;
        let bytes = bytes.max(128);
        let mut host: *mut c_void = ptr::null_mut();
        // SAFETY: pointers to locals; the range that is zeroed was just allocated.
        unsafe {
            let flags = sys::CU_MEMHOSTALLOC_PORTABLE | sys::CU_MEMHOSTALLOC_DEVICEMAP;
            check("cuMemHostAlloc", sys::cuMemHostAlloc(&raw mut host, bytes, flags))?;
            let mut memory = Self { _gpu: gpu.clone(), host: host.cast(), device: 0, bytes };
            ptr::write_bytes(memory.host, 0, bytes);
            check("cuMemHostGetDevicePointer", sys::cuMemHostGetDevicePointer_v2(&raw mut memory.device, host, 0))?;
            Ok(memory)
        }
    }

    /// The device's address.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.device
    }

    /// The host's view.
    #[inline]
    #[must_use]
    pub fn part(&self) -> HostPart {
        HostPart::new(self.host, self.bytes)
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once.
        let _ = unsafe { sys::cuMemFreeHost(self.host.cast()) };
    }
}

/// A queue of work for the GPU.
#[derive(Debug)]
pub struct Stream {
    gpu: Arc<Gpu>,
    stream: sys::CUstream,
}

// SAFETY: as for `Gpu`.
unsafe impl Send for Stream {}
// SAFETY: the driver locks a stream.
unsafe impl Sync for Stream {}

impl Stream {
    /// A stream that does not wait for the default stream. All streams are made before the kernel is launched.
    ///
    /// # Errors
    /// The driver's.
    pub fn new(gpu: &Arc<Gpu>) -> Result<Self, CudaError> {
        gpu.make_current()?;
        let mut stream = ptr::null_mut();
        // SAFETY: the pointer is to a local.
        check("cuStreamCreate", unsafe {
            sys::cuStreamCreate(&raw mut stream, sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32)
        })?;
        Ok(Self { gpu: gpu.clone(), stream })
    }

    /// Waits until everything queued is done.
    ///
    /// # Errors
    /// The driver's, those of the work included.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.gpu.make_current()?;
        // SAFETY: the stream lives as long as `self`.
        check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.stream) })
    }

    /// Whether everything queued is done.
    ///
    /// # Errors
    /// The driver's, those of the work included.
    pub fn is_idle(&self) -> Result<bool, CudaError> {
        // SAFETY: as above.
        match unsafe { sys::cuStreamQuery(self.stream) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            result => check("cuStreamQuery", result).map(|()| true),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: created by `new`, destroyed once.
        let _ = unsafe { sys::cuStreamDestroy_v2(self.stream) };
    }
}

/// Loaded device code.
#[derive(Debug)]
pub struct Module {
    gpu: Arc<Gpu>,
    module: sys::CUmodule,
}

// SAFETY: as for `Gpu`.
unsafe impl Send for Module {}
// SAFETY: as for `Gpu`.
unsafe impl Sync for Module {}

/// A kernel of a module.
#[derive(Clone, Copy, Debug)]
pub struct Kernel<'a> {
    function: sys::CUfunction,
    _module: PhantomData<&'a Module>,
}

impl Module {
    /// Loads a cubin. Never beside a running kernel: it would wait for the GPU while holding the context's lock.
    ///
    /// # Errors
    /// The driver's.
    pub fn load(gpu: &Arc<Gpu>, cubin: &[u8]) -> Result<Self, CudaError> {
        gpu.make_current()?;
        let mut module = ptr::null_mut();
        // SAFETY: the image is a complete cubin made by NVRTC or read from our cache; the driver checks its headers.
        check("cuModuleLoadData", unsafe { sys::cuModuleLoadData(&raw mut module, cubin.as_ptr().cast()) })?;
        Ok(Self { gpu: gpu.clone(), module })
    }

    /// A variable of the module.
    ///
    /// # Errors
    /// The driver's, if it has none of this name and size.
    pub fn variable<T: Pod>(&self, name: &str) -> Result<T, CudaError> {
        let name = c_string(name);
        let (mut address, mut bytes) = (0, 0);
        let mut value = [T::zeroed()];
        self.gpu.make_current()?;
        // SAFETY: the size is compared with the target's before the copy.
        unsafe {
            check(
                "cuModuleGetGlobal",
                sys::cuModuleGetGlobal_v2(&raw mut address, &raw mut bytes, self.module, name.as_ptr()),
            )?;
            assert_eq!(bytes, size_of::<T>(), "C9: a variable of another size in the module");
            check("cuMemcpyDtoH", sys::cuMemcpyDtoH_v2(value.as_mut_ptr().cast(), address, bytes))?;
        }
        Ok(value[0])
    }

    /// The kernel of this name, allowed to use `shared` bytes of dynamic shared memory.
    ///
    /// # Errors
    /// The driver's.
    pub fn kernel(&self, name: &str, shared: u32) -> Result<Kernel<'_>, CudaError> {
        let name = c_string(name);
        let mut function = ptr::null_mut();
        // SAFETY: pointers to locals; the function belongs to the module that the result borrows.
        unsafe {
            check("cuModuleGetFunction", sys::cuModuleGetFunction(&raw mut function, self.module, name.as_ptr()))?;
            check(
                "cuFuncSetAttribute",
                sys::cuFuncSetAttribute(
                    function,
                    sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    shared as i32,
                ),
            )?;
        }
        Ok(Kernel { function, _module: PhantomData })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by `load`, unloaded once; kernels borrow the module.
        let _ = unsafe { sys::cuModuleUnload(self.module) };
    }
}

impl Kernel<'_> {
    /// Blocks of `threads` threads with `shared` bytes that one multiprocessor holds at once.
    ///
    /// # Errors
    /// The driver's.
    pub fn blocks_per_multiprocessor(&self, threads: u32, shared: u32) -> Result<u32, CudaError> {
        let mut blocks = 0;
        // SAFETY: the pointer is to a local.
        check("cuOccupancyMaxActiveBlocksPerMultiprocessor", unsafe {
            sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(
                &raw mut blocks,
                self.function,
                threads as i32,
                shared as usize,
            )
        })?;
        Ok(blocks as u32)
    }

    /// Queues the kernel with these arguments, each the bytes of one parameter.
    ///
    /// # Safety
    /// The arguments are what the kernel's declaration asks for, in number, order and size, and every address in them is
    /// memory of this GPU that outlives the kernel.
    ///
    /// # Errors
    /// The driver's.
    pub unsafe fn launch(
        &self,
        blocks: u32,
        threads: u32,
        shared: u32,
        stream: &Stream,
        arguments: &[&[u8]],
    ) -> Result<(), CudaError> {
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(|bytes| bytes.as_ptr().cast_mut().cast()).collect();
        // SAFETY: by the caller's promise; the driver copies the arguments before it returns.
        check("cuLaunchKernel", unsafe {
            sys::cuLaunchKernel(
                self.function,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                shared,
                stream.stream,
                pointers.as_mut_ptr(),
                ptr::null_mut(),
            )
        })
    }
}

fn c_string(name: &str) -> CString {
    CString::new(name).expect("names of kernels and variables are constants without a zero byte")
}
