//! What a machine has for GPUs, as far as it can be seen without making a context: for `doctor` and for choosing devices.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::CStr;

use cudarc::driver::sys;
use libloading::Library;
use serde::{Deserialize, Serialize};

use super::compile::nvrtc_version;
use super::driver::{check, device_count, initialise, uuid_of};
use super::error::CudaError;
use super::nvml::Nvml;
use super::nvshmem::Nvshmem;

/// A GPU, without a context in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSeen {
    /// As the CUDA driver counts.
    pub ordinal: u32,
    /// Its name.
    pub name: String,
    /// Its UUID, by which all tools of the driver agree.
    pub uuid: String,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Compute capability.
    pub capability: (u32, u32),
    /// All of its memory.
    pub memory_bytes: u64,
    /// Whether its memory can be handed to other processes as descriptors.
    pub shareable: bool,
    /// UUIDs of the GPUs whose memory it can reach.
    pub peers: Vec<String>,
    /// NVLinks that are up; absent if NVML is not there to be asked.
    pub nvlinks: Option<u32>,
    /// Its number in NVML's order, which is that of `nvidia-smi` and another one than CUDA's; absent if NVML is not there.
    pub nvml_index: Option<u32>,
    /// NVLinks between this GPU and others that this process sees, by their UUID, those through a switch counted, too. Empty without NVML.
    pub nvlinks_to: BTreeMap<String, u32>,
}

/// What was found. A text stands for what is missing, in the words of whoever did not find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The CUDA version of the driver, such as (13, 0).
    pub driver: Result<(u32, u32), String>,
    /// The release of the driver, such as 580.95.05; NVML knows it.
    pub release: Option<String>,
    /// NVRTC's version.
    pub nvrtc: Result<(u32, u32), String>,
    /// The version of NVSHMEM's host library, if it is one that can be used.
    pub nvshmem: Result<(u32, u32, u32), String>,
    /// Whether NVML can be loaded.
    pub nvml: Result<(), String>,
    /// The GPUs that this process sees.
    pub gpus: Vec<GpuSeen>,
    /// Memory that may be locked, in bytes; absent: any.
    pub memlock_bytes: Option<u64>,
    /// Descriptors that may be open; absent: any.
    pub files: Option<u64>,
}

/// Looks at this machine.
#[must_use]
pub fn look() -> Seen {
    let limit = |resource| rustix::process::getrlimit(resource).current;
    let nvml = Nvml::open();
    let driver = driver_version();
    let mut gpus = Vec::new();
    let driver = driver.and_then(|version| {
        gpus = see_gpus(nvml.as_ref().ok())?;
        Ok(version)
    });
    Seen {
        driver: driver.map_err(|error| error.to_string()),
        release: nvml.as_ref().ok().and_then(Nvml::release),
        nvrtc: nvrtc_version().map_err(|error| error.to_string()),
        nvshmem: Nvshmem::load().map(|nvshmem| nvshmem.version).map_err(|error| error.to_string()),
        nvml: nvml.map(drop),
        gpus,
        memlock_bytes: limit(rustix::process::Resource::Memlock),
        files: limit(rustix::process::Resource::Nofile),
    }
}

pub(super) fn open_any(names: &[&str]) -> Result<Library, String> {
    let mut last = String::new();
    for name in names {
        // SAFETY: a library of the vendor's; its initialisers only set up its own data.
        match unsafe { Library::new(*name) } {
            Ok(library) => return Ok(library),
            // The loader's own words are the source; they name the file.
            Err(error) => {
                last = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
            }
        }
    }
    Err(last)
}

fn driver_version() -> Result<(u32, u32), CudaError> {
    initialise()?;
    let mut version = 0;
    // SAFETY: a pointer to a local.
    check("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&raw mut version) })?;
    Ok((version as u32 / 1000, version as u32 % 1000 / 10))
}

fn see_gpus(nvml: Option<&Nvml>) -> Result<Vec<GpuSeen>, CudaError> {
    let mut gpus = (0..device_count()?).map(|ordinal| see_gpu(ordinal, nvml)).collect::<Result<Vec<_>, _>>()?;
    let uuids: Vec<String> = gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
    for gpu in &mut gpus {
        gpu.nvlinks_to = nvml.map(|nvml| nvml.nvlinks_to(&gpu.uuid, &uuids)).unwrap_or_default();
    }
    Ok(gpus)
}

/// NVLinks between a GPU and others, by their UUID; empty where NVML is not there to be asked.
pub(crate) fn nvlinks_to(uuid: &str, others: &[String]) -> BTreeMap<String, u32> {
    Nvml::open().map(|nvml| nvml.nvlinks_to(uuid, others)).unwrap_or_default()
}

fn see_gpu(ordinal: u32, nvml: Option<&Nvml>) -> Result<GpuSeen, CudaError> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
    };
    let (mut device, mut bytes, mut name) = (0, 0, [0; 128]);
    // SAFETY: pointers to locals; the name's buffer has the length that is told.
    let name = unsafe {
        check("cuDeviceGet", sys::cuDeviceGet(&raw mut device, ordinal as i32))?;
        check("cuDeviceTotalMem", sys::cuDeviceTotalMem_v2(&raw mut bytes, device))?;
        check("cuDeviceGetName", sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as i32, device))?;
        CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned()
    };
    let attribute = |attribute| {
        let mut value = 0;
        // SAFETY: a pointer to a local.
        check("cuDeviceGetAttribute", unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute, device) })?;
        Ok::<u32, CudaError>(value as u32)
    };
    let uuid = uuid_of(device)?;
    Ok(GpuSeen {
        ordinal,
        name,
        multiprocessors: attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        capability: (
            attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        memory_bytes: bytes as u64,
        shareable: attribute(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED)? != 0,
        peers: peers_of(device)?,
        nvlinks: nvml.and_then(|nvml| nvml.nvlinks(&uuid)),
        nvml_index: nvml.and_then(|nvml| nvml.index(&uuid)),
        nvlinks_to: BTreeMap::new(),
        uuid,
    })
}

/// UUIDs of the other GPUs that this process sees and whose memory this one can reach.
pub(crate) fn peers_of(device: sys::CUdevice) -> Result<Vec<String>, CudaError> {
    let mut peers = Vec::new();
    for ordinal in 0..device_count()? {
        let (mut other, mut reaches) = (0, 0);
        // SAFETY: pointers to locals; the driver is initialised.
        unsafe {
            check("cuDeviceGet", sys::cuDeviceGet(&raw mut other, ordinal as i32))?;
            if other == device {
                continue;
            }
            check("cuDeviceCanAccessPeer", sys::cuDeviceCanAccessPeer(&raw mut reaches, device, other))?;
        }
        if reaches != 0 {
            peers.push(uuid_of(other)?);
        }
    }
    Ok(peers)
}
