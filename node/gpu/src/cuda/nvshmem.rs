//! NVSHMEM's host library, as far as a fabric needs it (C9, C11): a heap that every process of a group has, in which each finds the others'
//! parts by addresses for plain loads and stores.
//!
//! The library is loaded at run time, by [`LIBRARY_VARIABLE`] or where the loader looks. No device code of NVSHMEM is used: kernels write the
//! addresses that [`Heap::part_of`] gives exactly as they write memory that was mapped from a descriptor.
//!
//! ```text
//!   PE 0                                    PE 1
//!     unique_id ── over our own channel ──>                a listening socket of PE 0, on this machine only
//!     join ───────────────────────────────── join          all wait for all
//!     malloc, zero, barrier                  malloc, zero, barrier
//!     part_of(1)                             part_of(0)    and nothing of NVSHMEM is called any more
//! ```
//!
//! * **Layouts.** The structs are those of the headers of 3.4.5 (`bootstrap_device_host/nvshmem_uniqueid.h`,
//!   `device_host/nvshmem_types.h`), whose version fields are `1 << 16` plus the size: the library refuses others. Their sizes are asserted
//!   here as they are there.
//! * **Its environment** ([`environment`]) is fixed before the library is loaded: one machine, no proxy thread and no other transport, no
//!   multicast, bootstrap through the loopback interface.
//! * **The end.** Finalizing is collective and its handlers at exit expect it, so a process that has joined ends by [`leave`].
//!
//! Deliberately absent: a group that outlives one of its processes. NVSHMEM has no way back for a PE, so its loss ends the group.
#![allow(unsafe_code)]

use std::ffi::{OsString, c_char, c_int, c_uint, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

use super::error::CudaError;

/// The variable that names the host library, or its folder.
pub const LIBRARY_VARIABLE: &str = "RINGFLEET_NVSHMEM";
/// The least version: whose structs these are. Another first number is another library.
pub const VERSION_MIN: (u32, u32) = (3, 4);
/// The names under which the library is looked for.
const NAMES: &[&str] = &["libnvshmem_host.so.3", "libnvshmem_host.so"];
/// `NVSHMEMX_INIT_WITH_UNIQUEID`.
const INIT_WITH_UNIQUEID: c_uint = 1 << 3;
/// What the heap is larger than what is taken from it: NVSHMEM keeps its own words there, too.
const HEAP_SLACK_BYTES: u64 = 64 << 20;
/// Heaps come in units of this.
const HEAP_UNIT_BYTES: u64 = 2 << 20;

/// The number of a struct's first version.
const fn version_of<T>() -> c_int {
    (1 << 16) + size_of::<T>() as c_int
}

/// `nvshmemx_uniqueid_v1`: by which processes find each other.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UniqueId {
    version: c_int,
    internal: [u8; 124],
}

/// `nvshmemx_uniqueid_args_v1`.
#[repr(C)]
#[derive(Clone, Copy)]
struct UniqueIdArgs {
    version: c_int,
    id: *const UniqueId,
    myrank: c_int,
    nranks: c_int,
}

/// `nvshmemx_init_args_v1`.
#[repr(C)]
#[derive(Clone, Copy)]
struct InitArgs {
    version: c_int,
    uid_args: UniqueIdArgs,
    content: [c_char; 96],
}

/// `nvshmemx_init_attr_v1`.
#[repr(C)]
#[derive(Clone, Copy)]
struct InitAttr {
    version: c_int,
    mpi_comm: *mut c_void,
    args: InitArgs,
}

// As the headers assert them.
const _: () = assert!(size_of::<UniqueId>() == 128 && align_of::<UniqueId>() == 4);
const _: () = assert!(size_of::<UniqueIdArgs>() == 24 && std::mem::offset_of!(UniqueIdArgs, id) == 8);
const _: () = assert!(size_of::<InitArgs>() == 128 && std::mem::offset_of!(InitArgs, uid_args) == 8);
const _: () = assert!(size_of::<InitAttr>() == 144 && std::mem::offset_of!(InitAttr, args) == 16);

impl InitAttr {
    /// `NVSHMEMX_INIT_ATTR_INITIALIZER`.
    fn new() -> Self {
        let uid_args =
            UniqueIdArgs { version: version_of::<UniqueIdArgs>(), id: std::ptr::null(), myrank: -1, nranks: -1 };
        let args = InitArgs { version: version_of::<InitArgs>(), uid_args, content: [0; 96] };
        Self { version: version_of::<Self>(), mpi_comm: std::ptr::null_mut(), args }
    }
}

impl UniqueId {
    /// `NVSHMEMX_UNIQUEID_INITIALIZER`.
    fn new() -> Self {
        Self { version: version_of::<Self>(), internal: [0; 124] }
    }

    /// As text that travels between processes of one build.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let version = self.version.to_le_bytes();
        version.iter().chain(&self.internal).map(|byte| format!("{byte:02x}")).collect()
    }

    /// From such text; `None` if it is none.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 2 * size_of::<Self>() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok();
        let mut id = Self { version: c_int::from_le_bytes([byte(0)?, byte(1)?, byte(2)?, byte(3)?]), ..Self::new() };
        for (at, place) in id.internal.iter_mut().enumerate() {
            *place = byte(4 + at)?;
        }
        (id.version == version_of::<Self>()).then_some(id)
    }
}

/// What NVSHMEM reads when it is loaded, for a heap from which `bytes` are taken. What the operator has set stays, but for multicast and the
/// size of the heap.
#[must_use]
pub fn environment(bytes: u64, is_set: impl Fn(&str) -> bool) -> Vec<(&'static str, String)> {
    let heap = bytes.saturating_add(HEAP_SLACK_BYTES).next_multiple_of(HEAP_UNIT_BYTES);
    let must = [("NVSHMEM_DISABLE_NVLS", "1".to_owned()), ("NVSHMEM_SYMMETRIC_SIZE", heap.to_string())];
    let may = [
        // All processes are of one machine, and nobody else is to find them.
        ("NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME", "lo"),
        ("NVSHMEM_REMOTE_TRANSPORT", "none"),
        // A thread that calls the driver beside a kernel that does not end is in its way.
        ("NVSHMEM_DISABLE_LOCAL_ONLY_PROXY", "1"),
        ("NVSHMEM_DISABLE_NCCL", "1"),
    ];
    let may = may.into_iter().filter(|(name, _)| !is_set(name)).map(|(name, value)| (name, value.to_owned()));
    must.into_iter().chain(may).collect()
}

/// Sets the [`environment`] of this process.
///
/// # Safety
/// No other thread of this process reads or writes the environment meanwhile.
pub(crate) unsafe fn set_environment(bytes: u64) {
    for (name, value) in environment(bytes, |name| std::env::var_os(name).is_some()) {
        // SAFETY: by the caller's promise.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Where the library is looked for: what the variable says, a file or the folder of one, else what the loader knows.
fn candidates(said: Option<OsString>) -> Vec<PathBuf> {
    match said.filter(|path| !path.is_empty()).map(PathBuf::from) {
        Some(folder) if folder.is_dir() => NAMES.iter().map(|name| folder.join(name)).collect(),
        Some(file) => vec![file],
        None => NAMES.iter().map(PathBuf::from).collect(),
    }
}

/// Whether this process has joined a group.
static JOINED: AtomicBool = AtomicBool::new(false);

/// Whether this process has joined a group, and so ends by [`leave`].
#[must_use]
pub fn has_joined() -> bool {
    JOINED.load(Ordering::Relaxed)
}

/// Ends a process that has joined a group, at once and without the handlers at exit: those of NVSHMEM would wait for the other processes. Does
/// nothing in others.
pub fn leave(code: i32) {
    unsafe extern "C" {
        fn _exit(code: c_int) -> !;
    }
    if has_joined() {
        // SAFETY: ends the process; nothing of it is used afterwards.
        unsafe { _exit(code) }
    }
}

fn failed(what: impl Into<String>) -> CudaError {
    CudaError::Nvshmem(what.into())
}

/// The host library. It stays loaded: it has threads and handlers of its own.
#[derive(Debug)]
pub struct Nvshmem {
    library: ManuallyDrop<Library>,
    /// Its version.
    pub version: (u32, u32, u32),
}

/// This process's place in the heap that it shares.
#[derive(Debug)]
pub struct Heap {
    nvshmem: Nvshmem,
    base: *mut c_void,
}

impl Nvshmem {
    /// Loads the library.
    ///
    /// # Errors
    /// [`CudaError::Nvshmem`]: it is not there, or of another version.
    pub fn load() -> Result<Self, CudaError> {
        Self::load_from(&candidates(std::env::var_os(LIBRARY_VARIABLE)))
    }

    fn load_from(candidates: &[PathBuf]) -> Result<Self, CudaError> {
        let mut why = None;
        for candidate in candidates {
            // SAFETY: the vendor's library; its initialisers only set up its own data.
            match unsafe { Library::open(Some(Path::new(candidate)), RTLD_NOW | RTLD_LOCAL) } {
                Ok(library) => return Self::of(library),
                // The loader's own words are the source; they name the file.
                Err(error) => {
                    let words = std::error::Error::source(&error).map(ToString::to_string);
                    why.get_or_insert(words.unwrap_or_else(|| error.to_string()));
                }
            }
        }
        let why = why.unwrap_or_default();
        Err(failed(format!("its host library was not found ({LIBRARY_VARIABLE} may name it or its folder): {why}")))
    }

    fn of(library: Library) -> Result<Self, CudaError> {
        let mut nvshmem = Self { library: ManuallyDrop::new(library), version: (0, 0, 0) };
        type Version = unsafe extern "C" fn(*mut c_int, *mut c_int, *mut c_int);
        let (mut major, mut minor, mut patch) = (0, 0, 0);
        match nvshmem.function::<Version>("nvshmemx_vendor_get_version_info") {
            // SAFETY: declared so in `host/nvshmem_api.h`; pointers to locals.
            Ok(version) => unsafe { version(&raw mut major, &raw mut minor, &raw mut patch) },
            Err(_) => return Err(failed("the library does not say its version; 3.4 or later is needed")),
        }
        let number = |part: c_int| u32::try_from(part).unwrap_or(0);
        nvshmem.version = (number(major), number(minor), number(patch));
        let (major, minor, patch) = nvshmem.version;
        if major != VERSION_MIN.0 || minor < VERSION_MIN.1 {
            let (wanted, least) = VERSION_MIN;
            return Err(failed(format!(
                "it is version {major}.{minor}.{patch}; {wanted}.{least} or a later {wanted}.x is needed"
            )));
        }
        Ok(nvshmem)
    }

    fn function<F: Copy>(&self, name: &str) -> Result<F, CudaError> {
        // SAFETY: callers name the type that the header declares; the library is never unloaded.
        let found = unsafe { self.library.get::<F>(name.as_bytes()) };
        found.map(|function| *function).map_err(|_| failed(format!("the library has no `{name}`")))
    }

    /// An id by which processes find this one. It belongs to the process that asks: PE 0 of the group.
    ///
    /// # Errors
    /// [`CudaError::Nvshmem`] with what it answers.
    pub fn unique_id(&self) -> Result<UniqueId, CudaError> {
        type Get = unsafe extern "C" fn(*mut UniqueId) -> c_int;
        let get = self.function::<Get>("nvshmemx_get_uniqueid")?;
        let mut id = UniqueId::new();
        // SAFETY: a pointer to a local of the type that the header declares.
        match unsafe { get(&raw mut id) } {
            0 => Ok(id),
            code => Err(failed(format!("nvshmemx_get_uniqueid answers {code}"))),
        }
    }

    /// Becomes PE `pe` of `pes`, waits for the others, and takes `bytes` of the heap, as all of them do. The GPU's context is current.
    ///
    /// # Errors
    /// [`CudaError::Nvshmem`]. Of some things NVSHMEM ends the process by itself, after a line on standard error.
    pub fn join(self, id: &UniqueId, pe: u32, pes: u32, bytes: u64) -> Result<Heap, CudaError> {
        type Set = unsafe extern "C" fn(c_int, c_int, *const UniqueId, *mut InitAttr) -> c_int;
        type Init = unsafe extern "C" fn(c_uint, *mut InitAttr) -> c_int;
        type Number = unsafe extern "C" fn() -> c_int;
        type Malloc = unsafe extern "C" fn(usize) -> *mut c_void;
        let set = self.function::<Set>("nvshmemx_set_attr_uniqueid_args")?;
        let init = self.function::<Init>("nvshmemx_hostlib_init_attr")?;
        let (my_pe, n_pes) = (self.function::<Number>("nvshmem_my_pe")?, self.function::<Number>("nvshmem_n_pes")?);
        let malloc = self.function::<Malloc>("nvshmem_malloc")?;
        let mut attr = InitAttr::new();
        JOINED.store(true, Ordering::Relaxed);
        // SAFETY: functions and structs as the headers declare them; the id and the struct live through the calls.
        unsafe {
            let code = set(pe as c_int, pes as c_int, id, &raw mut attr);
            if code != 0 {
                return Err(failed(format!("nvshmemx_set_attr_uniqueid_args answers {code}")));
            }
            let code = init(INIT_WITH_UNIQUEID, &raw mut attr);
            if code != 0 {
                let where_to = "what it says of that is on the standard error of the agent";
                return Err(failed(format!("nvshmemx_hostlib_init_attr answers {code}; {where_to}")));
            }
            let (mine, all) = (my_pe(), n_pes());
            if (mine, all) != (pe as c_int, pes as c_int) {
                return Err(failed(format!("this is PE {pe} of {pes}, and NVSHMEM says {mine} of {all}")));
            }
            let base = malloc(usize::try_from(bytes).unwrap_or(usize::MAX));
            if base.is_null() {
                return Err(failed(format!("its heap has no {bytes} bytes")));
            }
            Ok(Heap { nvshmem: self, base })
        }
    }
}

impl Heap {
    /// The address of this process's own part.
    #[must_use]
    pub fn own(&self) -> u64 {
        self.base as u64
    }

    /// The address at which this GPU reaches the part of another PE.
    ///
    /// # Errors
    /// [`CudaError::Nvshmem`], if plain loads and stores do not reach it.
    pub fn part_of(&self, pe: u32) -> Result<u64, CudaError> {
        type Ptr = unsafe extern "C" fn(*const c_void, c_int) -> *mut c_void;
        let ptr = self.nvshmem.function::<Ptr>("nvshmem_ptr")?;
        // SAFETY: declared so in the header; the address is of the heap.
        let address = unsafe { ptr(self.base, pe as c_int) };
        if address.is_null() {
            return Err(failed(format!("plain stores do not reach the memory of PE {pe}")));
        }
        Ok(address as u64)
    }

    /// Waits until all PEs are here. Only while no kernel of ours runs.
    ///
    /// # Errors
    /// [`CudaError::Nvshmem`], if the library does not have it.
    pub fn barrier(&self) -> Result<(), CudaError> {
        type Barrier = unsafe extern "C" fn();
        let barrier = self.nvshmem.function::<Barrier>("nvshmem_barrier_all")?;
        // SAFETY: takes and gives nothing.
        unsafe { barrier() };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::stand_in;

    /// The library as the headers of 3.4.5 declare it, for one process; it refuses structs of another layout or version.
    fn stand_in(name: &str, defines: &str) -> Option<Nvshmem> {
        let text = format!("{defines}\n{}", include_str!("stand_in/nvshmem.c"));
        let library = stand_in::library(name, &text)?;
        Some(Nvshmem::load_from(&[library]).expect("loaded"))
    }

    #[test]
    fn the_library_is_called_as_its_headers_declare_it() {
        let Some(nvshmem) = stand_in("nvshmem_good", "") else { return };
        assert_eq!(nvshmem.version, (3, 4, 5));
        let id = nvshmem.unique_id().expect("an id");
        let told = UniqueId::from_hex(&id.to_hex()).expect("the same");
        assert_eq!(told, id);
        let heap = nvshmem.join(&told, 1, 2, 4096).expect("joined");
        heap.barrier().expect("there");
        assert_eq!(heap.part_of(1).expect("its own"), heap.own());
        assert_eq!(heap.part_of(0).expect("the other's"), heap.own() + 0x1000);
        let error = heap.part_of(2).expect_err("there is none").to_string();
        assert_eq!(error, "NVSHMEM: plain stores do not reach the memory of PE 2");
    }

    #[test]
    fn whatever_is_in_the_way_is_said() {
        let joined = |name: &str, defines: &str, bytes: u64| {
            let nvshmem = stand_in(name, defines)?;
            let id = nvshmem.unique_id().expect("an id");
            Some(nvshmem.join(&id, 1, 2, bytes).expect_err("refused").to_string())
        };
        let Some(error) = joined("nvshmem_init", "#define INIT_ANSWERS 7", 4096) else { return };
        assert!(error.starts_with("NVSHMEM: nvshmemx_hostlib_init_attr answers 7; "), "{error}");
        let error = joined("nvshmem_pes", "#define PES 3", 4096).expect("a compiler");
        assert_eq!(error, "NVSHMEM: this is PE 1 of 2, and NVSHMEM says 1 of 3");
        let error = joined("nvshmem_heap", "", 1 << 40).expect("a compiler");
        assert_eq!(error, "NVSHMEM: its heap has no 1099511627776 bytes");
        let bad = stand_in("nvshmem_id", "#define ID_ANSWERS 3").expect("a compiler");
        assert_eq!(bad.unique_id().expect_err("refused").to_string(), "NVSHMEM: nvshmemx_get_uniqueid answers 3");
    }

    #[test]
    fn a_library_that_is_missing_or_of_another_version_is_refused() {
        let missing = ["/nonexistent/libnvshmem_host.so.3".into()];
        let error = Nvshmem::load_from(&missing).expect_err("not there").to_string();
        let said =
            "NVSHMEM: its host library was not found (RINGFLEET_NVSHMEM may name it or its folder): /nonexistent/";
        assert!(error.starts_with(said), "{error}");
        for (major, minor, fits) in [(3, 3, false), (2, 11, false), (4, 4, false), (3, 9, true)] {
            let text = format!("#define MAJOR {major}\n#define MINOR {minor}\n{}", include_str!("stand_in/nvshmem.c"));
            let Some(library) = stand_in::library(&format!("nvshmem_{major}_{minor}"), &text) else { return };
            match Nvshmem::load_from(&[library]) {
                Ok(nvshmem) => assert!(fits, "{:?}", nvshmem.version),
                Err(error) => {
                    let error = error.to_string();
                    assert!(
                        !fits && error.contains(&format!("it is version {major}.{minor}.5; 3.4 or a later 3.x")),
                        "{error}"
                    );
                }
            }
        }
        let other = stand_in::library("not_nvshmem", "int unrelated(void) { return 0; }").expect("a compiler");
        let error = Nvshmem::load_from(&[other]).expect_err("another library").to_string();
        assert!(error.contains("does not say its version"), "{error}");
    }

    #[test]
    fn the_variable_names_the_library_or_its_folder() {
        let folder = std::env::temp_dir();
        let file = folder.join("libnvshmem_host.so.3");
        assert_eq!(candidates(Some(folder.clone().into()))[0], file);
        assert_eq!(candidates(Some("/x/lib.so".into())), [PathBuf::from("/x/lib.so")]);
        assert_eq!(candidates(None), candidates(Some("".into())));
        assert_eq!(candidates(None)[0], PathBuf::from("libnvshmem_host.so.3"));
    }

    /// What is installed, where something is. Joining needs GPUs (`tests/cuda_group.rs`).
    #[test]
    fn the_installed_library_gives_an_id() {
        match Nvshmem::load() {
            Ok(nvshmem) => {
                let id = nvshmem.unique_id().expect("an id");
                assert_eq!(UniqueId::from_hex(&id.to_hex()), Some(id), "it says the version that we ask for");
                println!("NVSHMEM {:?}", nvshmem.version);
            }
            Err(error) => {
                assert!(
                    std::env::var_os("RINGFLEET_REQUIRE_NVSHMEM").is_none(),
                    "RINGFLEET_REQUIRE_NVSHMEM is set: {error}"
                );
                println!("not run: {error}");
            }
        }
    }

    #[test]
    fn what_is_no_id_is_not_taken_for_one() {
        let good = UniqueId::new().to_hex();
        assert_eq!(UniqueId::from_hex(&good), Some(UniqueId::new()));
        for bad in ["", "00", &good[2..], &format!("{}0g", &good[2..]), &"0".repeat(256), &"ä".repeat(128)] {
            assert_eq!(UniqueId::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_operator_may_choose_all_but_the_heap_and_multicast() {
        let of = |set: &[&str]| -> Vec<(&str, String)> { environment(5 << 20, |name| set.contains(&name)) };
        let all = of(&[]);
        assert!(all.contains(&("NVSHMEM_SYMMETRIC_SIZE", ((70_u64) << 20).to_string())), "{all:?}");
        assert!(all.contains(&("NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME", "lo".to_owned())));
        let names: Vec<&str> =
            of(&all.iter().map(|(name, _)| *name).collect::<Vec<_>>()).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["NVSHMEM_DISABLE_NVLS", "NVSHMEM_SYMMETRIC_SIZE"]);
    }
}
