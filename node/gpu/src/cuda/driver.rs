//! The CUDA driver, as far as a device needs it: every unsafe call of it is here, behind values that free what they hold.
//!
//! The driver is loaded at run time. A value of [`Gpu`] proves that it was found, so no later call can meet a missing library.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use bytemuck::Pod;
use cudarc::driver::sys;

use super::error::CudaError;
use crate::host_memory::HostPart;
use crate::process::shared::SharedMap;

pub(crate) fn check(call: &'static str, result: sys::CUresult) -> Result<(), CudaError> {
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
    /// Its UUID, as all tools of the driver write it: `GPU-...`.
    pub uuid: String,
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
        initialise()?;
        // SAFETY: plain calls of the driver with pointers to locals that live through the call; the name's buffer has the
        // length that is told.
        unsafe {
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
            let uuid = uuid_of(device)?;
            let gpu = Self { device, context, name, multiprocessors, capability, driver_version: version as u32, uuid };
            gpu.make_current()?;
            Ok(Arc::new(gpu))
        }
    }

    /// Lets this GPU read and write the memory of another one of this process, over NVLink where there is one.
    ///
    /// # Errors
    /// The driver's, if the two cannot reach each other.
    pub fn reach(&self, other: &Self) -> Result<(), CudaError> {
        self.make_current()?;
        // SAFETY: both contexts are retained by their values.
        match unsafe { sys::cuCtxEnablePeerAccess(other.context, 0) } {
            sys::CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED => Ok(()),
            result => check("cuCtxEnablePeerAccess", result),
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

impl Gpu {
    /// Memory of the GPU in bytes: all, and what nobody uses.
    ///
    /// # Errors
    /// The driver's.
    pub fn memory_bytes(&self) -> Result<(u64, u64), CudaError> {
        self.make_current()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: pointers to locals.
        check("cuMemGetInfo", unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
        Ok((total as u64, free as u64))
    }

    /// UUIDs of the other GPUs that this process sees and whose memory this one can reach.
    ///
    /// # Errors
    /// The driver's.
    pub fn peers(&self) -> Result<Vec<String>, CudaError> {
        super::look::peers_of(self.device)
    }
}

/// Loads and initialises the driver.
///
/// # Errors
/// [`CudaError::Missing`] without a driver; its own words otherwise.
pub fn initialise() -> Result<(), CudaError> {
    // SAFETY: only looks for the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::Missing { library: "libcuda.so", hint: "it comes with the NVIDIA driver" });
    }
    // SAFETY: no arguments that point anywhere.
    check("cuInit", unsafe { sys::cuInit(0) })
}

/// GPUs that this process sees. After [`initialise`].
///
/// # Errors
/// The driver's.
pub fn device_count() -> Result<u32, CudaError> {
    let mut count = 0;
    // SAFETY: a pointer to a local.
    check("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
    Ok(count.max(0) as u32)
}

pub(crate) fn uuid_of(device: sys::CUdevice) -> Result<String, CudaError> {
    let mut uuid = sys::CUuuid { bytes: [0; 16] };
    // SAFETY: a pointer to a local.
    check("cuDeviceGetUuid", unsafe { sys::cuDeviceGetUuid_v2(&raw mut uuid, device) })?;
    let hex: String = uuid.bytes.iter().map(|byte| format!("{:02x}", *byte as u8)).collect();
    Ok(format!("GPU-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
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
    /// What is mapped there, and over how many bytes, if it can be handed to other processes.
    mapped: Option<(sys::CUmemGenericAllocationHandle, usize)>,
    /// Somebody else gives it back.
    foreign: bool,
}

/// What memory that other processes can map is asked for with.
fn shareable_prop(gpu: &Gpu) -> sys::CUmemAllocationProp {
    // SAFETY: a struct of numbers and one pointer that may be null.
    let mut prop: sys::CUmemAllocationProp = unsafe { std::mem::zeroed() };
    prop.type_ = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.requestedHandleTypes = sys::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    prop.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    prop.location.id = gpu.device;
    prop
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
            let memory = Self { gpu: gpu.clone(), address, bytes, mapped: None, foreign: false };
            check("cuMemsetD8", sys::cuMemsetD8_v2(address, 0, bytes))?;
            check("cuCtxSynchronize", sys::cuCtxSynchronize())?;
            Ok(memory)
        }
    }

    /// Allocates `bytes` that other processes can map, by a descriptor ([`DeviceMemory::export`]): whole units of the driver's
    /// granularity, usually 2 MiB.
    ///
    /// # Errors
    /// The driver's; nothing is left behind then.
    pub fn shareable(gpu: &Arc<Gpu>, bytes: usize) -> Result<Self, CudaError> {
        gpu.make_current()?;
        let prop = shareable_prop(gpu);
        let granularity = sys::CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_RECOMMENDED;
        let (mut unit, mut handle) = (0, 0);
        // SAFETY: pointers to locals; the handle is given away to `map`, the memset covers what was mapped.
        unsafe {
            check(
                "cuMemGetAllocationGranularity",
                sys::cuMemGetAllocationGranularity(&raw mut unit, &raw const prop, granularity),
            )?;
            let size = bytes.max(16).next_multiple_of(unit.max(1));
            check("cuMemCreate", sys::cuMemCreate(&raw mut handle, size, &raw const prop, 0))?;
            let memory = Self::map(gpu, handle, size)?;
            check("cuMemsetD8", sys::cuMemsetD8_v2(memory.address, 0, size))?;
            check("cuCtxSynchronize", sys::cuCtxSynchronize())?;
            Ok(memory)
        }
    }

    /// Memory that NVSHMEM has allocated in this GPU's context, zeroed here. It is given back with the process.
    ///
    /// # Errors
    /// The driver's; [`CudaError::Nvshmem`] for memory that rings cannot lie in.
    pub fn of_heap(gpu: &Arc<Gpu>, heap: &super::nvshmem::Heap, bytes: usize) -> Result<Self, CudaError> {
        gpu.make_current()?;
        let address = heap.own();
        if !address.is_multiple_of(128) {
            return Err(CudaError::Nvshmem(format!("its memory begins at {address:#x}, in the middle of a line")));
        }
        // SAFETY: the heap gave this many bytes at this address.
        unsafe {
            check("cuMemsetD8", sys::cuMemsetD8_v2(address, 0, bytes))?;
            check("cuCtxSynchronize", sys::cuCtxSynchronize())?;
        }
        Ok(Self { gpu: gpu.clone(), address, bytes, mapped: None, foreign: true })
    }

    /// Maps what another process has [exported](DeviceMemory::export): `bytes` long, in the memory of whichever GPU. It stays what it is,
    /// and there, when that process ends.
    ///
    /// # Errors
    /// The driver's: this GPU cannot reach that memory, for example. Nothing is left behind then.
    pub fn import(gpu: &Arc<Gpu>, file: BorrowedFd<'_>, bytes: u64) -> Result<Self, CudaError> {
        gpu.make_current()?;
        let kind = sys::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        let size = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut handle = 0;
        // SAFETY: a pointer to a local; for this kind of handle the driver takes the descriptor's number as a pointer, and keeps none of it.
        unsafe {
            let number = ptr::without_provenance_mut(file.as_raw_fd() as usize);
            check(
                "cuMemImportFromShareableHandle",
                sys::cuMemImportFromShareableHandle(&raw mut handle, number, kind),
            )?;
            Self::map(gpu, handle, size)
        }
    }

    /// Maps `size` bytes of an allocation for `gpu`.
    ///
    /// # Safety
    /// The handle is the caller's to give away; it is released here or by the value. The context of `gpu` is current.
    unsafe fn map(gpu: &Arc<Gpu>, handle: sys::CUmemGenericAllocationHandle, size: usize) -> Result<Self, CudaError> {
        let mut address = 0;
        // SAFETY: a pointer to a local. What has been made is given back when a later step fails.
        unsafe {
            let reserved = check("cuMemAddressReserve", sys::cuMemAddressReserve(&raw mut address, size, 0, 0, 0));
            if let Err(error) = reserved {
                let _ = sys::cuMemRelease(handle);
                return Err(error);
            }
            let mapped = check("cuMemMap", sys::cuMemMap(address, size, 0, handle, 0));
            if let Err(error) = mapped {
                let _ = (sys::cuMemAddressFree(address, size), sys::cuMemRelease(handle));
                return Err(error);
            }
        }
        // From here on dropping it gives everything back.
        let memory = Self { gpu: gpu.clone(), address, bytes: size, mapped: Some((handle, size)), foreign: false };
        memory.allow(gpu)?;
        Ok(memory)
    }

    /// Lets a GPU of this process read and write this memory, if it is shareable; what is not is reached by [`Gpu::reach`] alone.
    ///
    /// # Errors
    /// The driver's, if that GPU cannot reach it.
    pub fn allow(&self, gpu: &Gpu) -> Result<(), CudaError> {
        let Some((_, size)) = self.mapped else { return Ok(()) };
        let access = sys::CUmemAccessDesc {
            location: shareable_prop(gpu).location,
            flags: sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        // SAFETY: a pointer to a local; the range is what is mapped.
        check("cuMemSetAccess", unsafe { sys::cuMemSetAccess(self.address, size, &raw const access, 1) })
    }

    /// Its bytes; of shareable memory with what was rounded up.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A descriptor by which another process can map this memory; `None` if it is not shareable.
    ///
    /// # Errors
    /// The driver's.
    pub fn export(&self) -> Result<Option<OwnedFd>, CudaError> {
        let Some((handle, _)) = self.mapped else { return Ok(None) };
        let kind = sys::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
        let mut file: i32 = -1;
        // SAFETY: the driver writes one int, a new descriptor that is ours.
        unsafe {
            check(
                "cuMemExportToShareableHandle",
                sys::cuMemExportToShareableHandle((&raw mut file).cast(), handle, kind, 0),
            )?;
            Ok(Some(OwnedFd::from_raw_fd(file)))
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
        // SAFETY: allocated by `new` or `shareable`, freed once. `cuMemFree` waits for kernels, so devices stop theirs before.
        unsafe {
            match self.mapped {
                None if self.foreign => {}
                None => {
                    let _ = sys::cuMemFree_v2(self.address);
                }
                Some((handle, size)) => {
                    let _ = sys::cuMemUnmap(self.address, size);
                    let _ = sys::cuMemAddressFree(self.address, size);
                    let _ = sys::cuMemRelease(handle);
                }
            }
        }
    }
}

/// Pinned host memory that the GPU reads and writes too, zeroed when allocated. Both sides change it at any time, so it is only
/// reached through raw pointers and atomics.
#[derive(Debug)]
pub struct PinnedMemory {
    host: *mut u8,
    device: u64,
    bytes: usize,
    owner: PinnedBy,
}

/// Who gives pinned memory back.
#[derive(Debug)]
enum PinnedBy {
    /// It was allocated, in this GPU's context.
    Allocation { _gpu: Arc<Gpu> },
    /// It is a part of a registered mapping.
    Part { _of: Arc<RegisteredMap> },
}

/// Memory shared with another process that the GPU reads and writes, too.
#[derive(Debug)]
pub struct RegisteredMap {
    device: u64,
    map: Arc<SharedMap>,
    _gpu: Arc<Gpu>,
}

impl RegisteredMap {
    /// Registers the whole mapping with the driver.
    ///
    /// # Errors
    /// The driver's: too little memory may be locked, for example.
    pub fn new(gpu: &Arc<Gpu>, map: &Arc<SharedMap>) -> Result<Arc<Self>, CudaError> {
        gpu.make_current()?;
        let (host, bytes) = map.whole();
        let flags = sys::CU_MEMHOSTREGISTER_PORTABLE | sys::CU_MEMHOSTREGISTER_DEVICEMAP;
        let mut device = 0;
        // SAFETY: the mapping is ours, of that length, and kept by the value that unregisters it.
        unsafe {
            check("cuMemHostRegister", sys::cuMemHostRegister_v2(host.cast(), bytes, flags))?;
            let registered =
                check("cuMemHostGetDevicePointer", sys::cuMemHostGetDevicePointer_v2(&raw mut device, host.cast(), 0));
            if let Err(error) = registered {
                let _ = sys::cuMemHostUnregister(host.cast());
                return Err(error);
            }
        }
        Ok(Arc::new(Self { device, map: map.clone(), _gpu: gpu.clone() }))
    }
}

impl Drop for RegisteredMap {
    fn drop(&mut self) {
        // SAFETY: registered by `new`, unregistered once, before the mapping goes.
        let _ = unsafe { sys::cuMemHostUnregister(self.map.whole().0.cast()) };
    }
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
            let owner = PinnedBy::Allocation { _gpu: gpu.clone() };
            let mut memory = Self { host: host.cast(), device: 0, bytes, owner };
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

    /// A part of memory that is shared with another process.
    #[must_use]
    pub fn part_of(map: &Arc<RegisteredMap>, part: &HostPart) -> Self {
        Self {
            host: part.at::<u8>(0),
            device: map.device + map.map.offset_of(part),
            bytes: part.bytes(),
            owner: PinnedBy::Part { _of: map.clone() },
        }
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
        if let PinnedBy::Allocation { .. } = self.owner {
            // SAFETY: allocated by `new`, freed once.
            let _ = unsafe { sys::cuMemFreeHost(self.host.cast()) };
        }
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

    /// For calls that only one module makes.
    pub(crate) fn raw(&self) -> sys::CUstream {
        self.stream
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
