//! NVML, the driver's management library, as far as the topology of a machine needs it. Loaded at run time and optional everywhere: where it is
//! not, nothing is known of NVLinks, and nothing else changes.
//!
//! **Whose number is whose.** NVML counts GPUs by bus and sees all of the machine; CUDA counts the fastest first and sees those of
//! `CUDA_VISIBLE_DEVICES`. Both know a GPU's UUID, so every question here is asked by UUID.
//!
//! **How many links two GPUs have.** A link that is up ends at another GPU, then its bus address says at which, or at a switch. GPUs at the
//! switches of one machine reach each other with all links that both have there, so the smaller number counts; that they do reach each
//! other is asked of NVML, which knows partitions of a switch.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};

use libloading::Library;

use super::look::open_any;

/// The names under which the library is looked for.
const NAMES: &[&str] = &["libnvidia-ml.so.1", "libnvidia-ml.so"];
/// The most links of one GPU that are looked at.
const NVLINKS_MAX: c_uint = 36;
/// `NVML_NVLINK_DEVICE_TYPE_SWITCH`: the other end of a link is a switch.
const ENDS_AT_SWITCH: c_uint = 2;
/// `NVML_P2P_CAPS_INDEX_NVLINK`.
const P2P_NVLINK: c_uint = 2;
/// `NVML_P2P_STATUS_OK`.
const P2P_OK: c_uint = 0;

/// `nvmlPciInfo_t`.
#[repr(C)]
#[derive(Clone, Copy)]
struct PciInfo {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    ids: [c_uint; 2],
    bus_id: [c_char; 32],
}

/// Domain, bus and device: where a GPU is plugged in.
type Place = (c_uint, c_uint, c_uint);

/// The other ends of a GPU's links that are up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Links {
    /// By the place of the GPU there.
    gpus: BTreeMap<Place, u32>,
    /// At switches.
    switched: u32,
}

/// The links that two GPUs have between them. `there` is the place of the other one.
fn between(ours: &Links, theirs: &Links, there: Place, reach: bool) -> u32 {
    match ours.gpus.get(&there) {
        Some(direct) => *direct,
        None if reach => ours.switched.min(theirs.switched),
        None => 0,
    }
}

type Handle = *mut c_void;

/// The library, initialised.
pub(super) struct Nvml(Library);

impl Nvml {
    pub(super) fn open() -> Result<Self, String> {
        Self::open_as(NAMES)
    }

    fn open_as(names: &[&str]) -> Result<Self, String> {
        let nvml = Self(open_any(names)?);
        // SAFETY: the function of this name takes nothing and returns a number, in every version of the library.
        let code = unsafe { nvml.0.get::<unsafe extern "C" fn() -> c_int>(b"nvmlInit_v2\0").map(|init| init()) };
        match code {
            Ok(0) => Ok(nvml),
            Ok(code) => Err(format!("nvmlInit answers {code}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The driver's release.
    pub(super) fn release(&self) -> Option<String> {
        let mut text = [0 as c_char; 80];
        // SAFETY: the function writes at most the length that it is told, with a zero at the end.
        unsafe {
            type Get = unsafe extern "C" fn(*mut c_char, c_uint) -> c_int;
            let get = self.0.get::<Get>(b"nvmlSystemGetDriverVersion\0").ok()?;
            let got = get(text.as_mut_ptr(), text.len() as c_uint) == 0;
            got.then(|| CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned())
        }
    }

    fn handle(&self, uuid: &str) -> Option<Handle> {
        let uuid = CString::new(uuid).ok()?;
        let mut device: Handle = std::ptr::null_mut();
        // SAFETY: the function has had this type in every version of the library; the text ends with a zero.
        unsafe {
            type ByUuid = unsafe extern "C" fn(*const c_char, *mut Handle) -> c_int;
            let by_uuid = self.0.get::<ByUuid>(b"nvmlDeviceGetHandleByUUID\0").ok()?;
            (by_uuid(uuid.as_ptr(), &raw mut device) == 0).then_some(device)
        }
    }

    /// NVML's own number of a GPU, which `nvidia-smi` shows.
    pub(super) fn index(&self, uuid: &str) -> Option<u32> {
        let (device, mut index) = (self.handle(uuid)?, 0);
        // SAFETY: as above; the handle is the library's.
        unsafe {
            type Index = unsafe extern "C" fn(Handle, *mut c_uint) -> c_int;
            let get = self.0.get::<Index>(b"nvmlDeviceGetIndex\0").ok()?;
            (get(device, &raw mut index) == 0).then_some(index)
        }
    }

    fn place(&self, device: Handle) -> Option<Place> {
        // SAFETY: all zeroes are a value of the struct; the function fills it.
        unsafe {
            type Get = unsafe extern "C" fn(Handle, *mut PciInfo) -> c_int;
            let get = self.0.get::<Get>(b"nvmlDeviceGetPciInfo_v3\0").ok()?;
            let mut pci: PciInfo = std::mem::zeroed();
            (get(device, &raw mut pci) == 0).then_some((pci.domain, pci.bus, pci.device))
        }
    }

    fn is_up(&self, device: Handle, link: c_uint) -> bool {
        let mut active = 0;
        // SAFETY: the function has had this type in every version of the library; the handle is its own.
        unsafe {
            type State = unsafe extern "C" fn(Handle, c_uint, *mut c_uint) -> c_int;
            let state = self.0.get::<State>(b"nvmlDeviceGetNvLinkState\0");
            state.is_ok_and(|state| state(device, link, &raw mut active) == 0 && active == 1)
        }
    }

    /// NVLinks of a GPU that are up, wherever they end.
    pub(super) fn nvlinks(&self, uuid: &str) -> Option<u32> {
        let device = self.handle(uuid)?;
        Some((0..NVLINKS_MAX).filter(|link| self.is_up(device, *link)).count() as u32)
    }

    fn links(&self, device: Handle) -> Links {
        let mut links = Links::default();
        for link in (0..NVLINKS_MAX).filter(|link| self.is_up(device, *link)) {
            // SAFETY: as above; drivers that do not know the first function know no switches of this kind.
            unsafe {
                type Kind = unsafe extern "C" fn(Handle, c_uint, *mut c_uint) -> c_int;
                type Remote = unsafe extern "C" fn(Handle, c_uint, *mut PciInfo) -> c_int;
                let mut kind = 0;
                let asked = self.0.get::<Kind>(b"nvmlDeviceGetNvLinkRemoteDeviceType\0");
                if asked.is_ok_and(|ask| ask(device, link, &raw mut kind) == 0) && kind == ENDS_AT_SWITCH {
                    links.switched += 1;
                    continue;
                }
                let mut pci: PciInfo = std::mem::zeroed();
                let remote = self.0.get::<Remote>(b"nvmlDeviceGetNvLinkRemotePciInfo_v2\0");
                if remote.is_ok_and(|remote| remote(device, link, &raw mut pci) == 0) {
                    *links.gpus.entry((pci.domain, pci.bus, pci.device)).or_default() += 1;
                }
            }
        }
        links
    }

    fn reach(&self, one: Handle, other: Handle) -> bool {
        let mut status = c_uint::MAX;
        // SAFETY: as above.
        unsafe {
            type Status = unsafe extern "C" fn(Handle, Handle, c_uint, *mut c_uint) -> c_int;
            let asked = self.0.get::<Status>(b"nvmlDeviceGetP2PStatus\0");
            asked.is_ok_and(|ask| ask(one, other, P2P_NVLINK, &raw mut status) == 0) && status == P2P_OK
        }
    }

    /// NVLinks between a GPU and each of the others that NVML knows, by UUID.
    pub(super) fn nvlinks_to(&self, uuid: &str, others: &[String]) -> BTreeMap<String, u32> {
        let Some(one) = self.handle(uuid) else { return BTreeMap::new() };
        let ours = self.links(one);
        let count = |uuid: &String| {
            let other = self.handle(uuid)?;
            let there = self.place(other)?;
            Some((uuid.clone(), between(&ours, &self.links(other), there, self.reach(one, other))))
        };
        others.iter().filter(|other| *other != uuid).filter_map(count).collect()
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        // SAFETY: as in `open`; pairs with its call.
        let _ = unsafe { self.0.get::<unsafe extern "C" fn() -> c_int>(b"nvmlShutdown\0").map(|end| end()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::stand_in;

    #[test]
    fn links_end_at_gpus_or_at_switches() {
        let direct = |place, count| Links { gpus: BTreeMap::from([(place, count)]), switched: 0 };
        let (here, there) = ((0, 1, 0), (0, 2, 0));
        assert_eq!(between(&direct(there, 4), &direct(here, 4), there, true), 4);
        assert_eq!(between(&direct((0, 3, 0), 4), &Links::default(), there, true), 0, "to a third one");
        let switched = |switched| Links { gpus: BTreeMap::new(), switched };
        assert_eq!(between(&switched(18), &switched(12), there, true), 12);
        assert_eq!(between(&switched(18), &switched(18), there, false), 0, "another partition of the switch");
    }

    /// A machine of three GPUs, made of the calls as `nvml.h` declares them: 0 and 1 at a switch, 2 with a bridge of two links to 0.
    #[test]
    fn gpus_are_asked_for_by_uuid_whatever_their_numbers() {
        let Some(library) = stand_in::library("nvml", include_str!("stand_in/nvml.c")) else { return };
        let nvml = Nvml::open_as(&[library.to_str().expect("a path")]).expect("loaded");
        assert_eq!(nvml.release().as_deref(), Some("580.00"));
        assert_eq!([nvml.index("GPU-a"), nvml.index("GPU-b"), nvml.index("GPU-x")], [Some(2), Some(1), None]);
        assert_eq!([nvml.nvlinks("GPU-a"), nvml.nvlinks("GPU-x")], [Some(6), None]);
        let all = ["GPU-a", "GPU-b", "GPU-c", "GPU-x"].map(str::to_owned);
        let links = |uuid: &str| nvml.nvlinks_to(uuid, &all).into_iter().collect::<Vec<_>>();
        let named = |uuid: &str, links| (uuid.to_owned(), links);
        assert_eq!(links("GPU-a"), [named("GPU-b", 4), named("GPU-c", 2)]);
        assert_eq!(links("GPU-b"), [named("GPU-a", 4), named("GPU-c", 0)]);
        assert_eq!(links("GPU-c"), [named("GPU-a", 2), named("GPU-b", 0)]);
        assert_eq!(links("GPU-x"), []);
    }

    #[test]
    fn a_library_that_is_not_there_is_no_error() {
        let error = Nvml::open_as(&["libringfleet-no-such.so"]).err().expect("not there");
        assert!(error.contains("libringfleet-no-such.so"), "{error}");
        assert!(super::super::look::nvlinks_to("GPU-a", &[]).is_empty());
    }
}
