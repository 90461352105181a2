//! The memory that an agent and a device process share: an anonymous file, sealed so that it can neither shrink nor grow, mapped by
//! both.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ringfleet_abi::{SetId, WorkerCounters, WorkerIndex};
use ringfleet_kernels::geometry::COUNTERS_STRIDE;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::rings::Ring;
use super::shape::{Part, Parts, SETS_COUNTED, Shape};
use crate::device::CodeChanges;
use crate::host_memory::{HostMemory, HostPart};

/// The seals: no smaller (or a read could fault), no larger, no other seals.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Words beside the page that GPUs know. Each line has one writing side.
#[repr(C, align(128))]
struct Header {
    /// Agent: counts the wishes for fresh counters.
    counters_asked: AtomicU32,
    _agent: [u32; 31],
    /// Device process: the last wish that the counters answer.
    counters_served: AtomicU32,
    _word: u32,
    /// Device process: how often it changed its code, and for how long it stood still for that.
    changes: AtomicU64,
    standstill_ns: AtomicU64,
    _device: [u32; 26],
}

/// An entry of the table of actors: a set, of which there is no number 0, above so many bits of count.
const ACTORS_BITS: u32 = 48;
const _: () = assert!(size_of::<Header>() == 256);

/// The mapping, in either process.
#[derive(Debug)]
pub struct SharedMap {
    shape: Shape,
    parts: Parts,
    base: NonNull<u8>,
    file: OwnedFd,
}

// SAFETY: shared memory; who may touch what is the business of the rings and pages laid into it.
unsafe impl Send for SharedMap {}
// SAFETY: as above; every access is through a raw pointer or an atomic.
unsafe impl Sync for SharedMap {}

impl SharedMap {
    /// A new, zeroed memory.
    ///
    /// # Errors
    /// The system's, if it refuses the file or the mapping.
    pub fn create(shape: Shape) -> io::Result<Self> {
        let file = memfd_create("ringfleet-device", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, shape.parts().bytes as u64)?;
        fcntl_add_seals(&file, SEALS)?;
        Self::map(file, shape)
    }

    /// The other side's: maps what it was handed, if it is what it has to be.
    ///
    /// # Errors
    /// The system's; `InvalidData` if the file is not sealed or not of this shape.
    pub fn adopt(file: OwnedFd, shape: Shape) -> io::Result<Self> {
        let wrong = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        if let Err((field, value)) = shape.check() {
            return wrong(&format!("`{field}` of the shared memory is {value}"));
        }
        if !fcntl_get_seals(&file)?.contains(SEALS) {
            return wrong("the shared memory is not sealed");
        }
        if fstat(&file)?.st_size != shape.parts().bytes as i64 {
            return wrong("the shared memory has another size than its shape asks for");
        }
        Self::map(file, shape)
    }

    fn map(file: OwnedFd, shape: Shape) -> io::Result<Self> {
        let parts = shape.parts();
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; the file is as long as the mapping and sealed,
        // so no access within it can fault.
        let base = unsafe {
            let access = ProtFlags::READ | ProtFlags::WRITE;
            mmap(std::ptr::null_mut(), parts.bytes, access, MapFlags::SHARED, &file, 0)?
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { shape, parts, base, file })
    }

    /// Its sizes.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The file, to be handed to the other side.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The whole mapping: address and bytes, for registration with a driver.
    #[must_use]
    pub fn whole(&self) -> (*mut u8, usize) {
        (self.base.as_ptr(), self.parts.bytes)
    }

    /// Bytes from the begin of the mapping to the begin of a part of it.
    #[must_use]
    pub fn offset_of(&self, part: &HostPart) -> u64 {
        (part.at::<u8>(0) as usize - self.base.as_ptr() as usize) as u64
    }

    /// The ring of controls, agent to device process.
    pub(crate) fn control(&self) -> Ring {
        Ring::new(self.part(self.parts.control), self.shape.control_slots)
    }

    /// The ring of statuses, device process to agent.
    pub(crate) fn status(&self) -> Ring {
        Ring::new(self.part(self.parts.status), self.shape.status_slots)
    }

    fn part(&self, part: Part) -> HostPart {
        HostPart::new(self.base.as_ptr().wrapping_add(part.at), part.bytes)
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: within the header's page and aligned; both sides only use atomic accesses of this size.
        unsafe { AtomicU32::from_ptr(self.part(self.parts.header).at::<u32>(offset / 4)) }
    }

    /// Agent: whether a wish for counters waits.
    #[must_use]
    pub fn counters_are_old(&self) -> bool {
        self.counters_wish().is_some()
    }

    /// Agent: wishes for counters that are no older than now, unless a wish waits already.
    pub fn ask_counters(&self) {
        let asked = self.word(offset_of!(Header, counters_asked));
        // Acquire: pairs with the release in `counters_answer`; the counters that the answer stands for are read after it.
        let served = self.word(offset_of!(Header, counters_served)).load(Ordering::Acquire);
        let last = asked.load(Ordering::Relaxed);
        // One wish at a time: the line stays where it is while nobody answers.
        if served == last {
            // Release: pairs with the acquire in `counters_wish`.
            asked.store(last.wrapping_add(1), Ordering::Release);
        }
    }

    /// Device process: a wish that is not answered yet.
    pub(crate) fn counters_wish(&self) -> Option<u32> {
        // Acquire: pairs with the release in `ask_counters`; the counters that answer it are read after it.
        let asked = self.word(offset_of!(Header, counters_asked)).load(Ordering::Acquire);
        // Acquire: for the agent, which asks here whether its wish is answered, as in `ask_counters`.
        (self.word(offset_of!(Header, counters_served)).load(Ordering::Acquire) != asked).then_some(asked)
    }

    /// Device process: the counters are as new as this wish.
    pub(crate) fn counters_answer(&self, wish: u32) {
        // Release: pairs with the acquires above; publishes the counters.
        self.word(offset_of!(Header, counters_served)).store(wish, Ordering::Release);
    }

    fn counter(&self, worker: WorkerIndex, word: usize) -> &AtomicU64 {
        let at = usize::from(worker.0) * (COUNTERS_STRIDE as usize / 8) + word;
        // SAFETY: within the part (asserted by `at`) and aligned; both sides only use atomic accesses of this size.
        unsafe { AtomicU64::from_ptr(self.part(self.parts.counters).at::<u64>(at)) }
    }

    /// Device process: copies a worker's counters out.
    pub(crate) fn write_counters(&self, worker: WorkerIndex, counters: &WorkerCounters) {
        let words: &[u64; size_of::<WorkerCounters>() / 8] = bytemuck::cast_ref(counters);
        for (at, word) in words.iter().enumerate() {
            self.counter(worker, at).store(*word, Ordering::Relaxed);
        }
    }

    /// Agent: the last copy of a worker's counters.
    #[must_use]
    pub fn read_counters(&self, worker: WorkerIndex) -> WorkerCounters {
        let mut words = [0_u64; size_of::<WorkerCounters>() / 8];
        for (at, word) in words.iter_mut().enumerate() {
            *word = self.counter(worker, at).load(Ordering::Relaxed);
        }
        bytemuck::cast(words)
    }
}

impl SharedMap {
    fn header64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: as in `word`, for u64 fields.
        unsafe { AtomicU64::from_ptr(self.part(self.parts.header).at::<u64>(offset / 8)) }
    }

    fn actors(&self, at: usize) -> &AtomicU64 {
        // SAFETY: within the part (asserted by `at`) and aligned; both sides only use atomic accesses of this size.
        unsafe { AtomicU64::from_ptr(self.part(self.parts.actors).at::<u64>(at)) }
    }

    /// Device process: actors that are active, by set. Each entry is one word, so none is ever seen half.
    pub(crate) fn write_actors(&self, actors: &BTreeMap<SetId, u64>) {
        let most = (1 << ACTORS_BITS) - 1;
        let entry = |(set, count): (&SetId, &u64)| u64::from(set.0) << ACTORS_BITS | (*count).min(most);
        let entries = actors.iter().filter(|(set, _)| set.0 != 0).map(entry).chain(std::iter::repeat(0));
        for (at, entry) in entries.take(SETS_COUNTED).enumerate() {
            self.actors(at).store(entry, Ordering::Relaxed);
        }
    }

    /// Agent: the last copy of it.
    #[must_use]
    pub fn read_actors(&self) -> BTreeMap<SetId, u64> {
        let entries =
            (0..SETS_COUNTED).map(|at| self.actors(at).load(Ordering::Relaxed)).take_while(|entry| *entry != 0);
        entries.map(|entry| (SetId((entry >> ACTORS_BITS) as u16), entry & ((1 << ACTORS_BITS) - 1))).collect()
    }

    /// Device process: changes of its code.
    pub(crate) fn write_changes(&self, changes: &CodeChanges) {
        self.header64(offset_of!(Header, changes)).store(changes.count, Ordering::Relaxed);
        self.header64(offset_of!(Header, standstill_ns)).store(changes.standstill_ns, Ordering::Relaxed);
    }

    /// Agent: the last copy of them.
    #[must_use]
    pub fn read_changes(&self) -> CodeChanges {
        CodeChanges {
            count: self.header64(offset_of!(Header, changes)).load(Ordering::Relaxed),
            standstill_ns: self.header64(offset_of!(Header, standstill_ns)).load(Ordering::Relaxed),
        }
    }
}

const _: () = assert!(size_of::<WorkerCounters>() <= COUNTERS_STRIDE as usize);

// SAFETY: the mapping lives as long as `self`; the parts have the sizes of the shape and do not overlap.
unsafe impl HostMemory for SharedMap {
    #[inline]
    fn host_page(&self) -> HostPart {
        self.part(self.parts.page)
    }
    #[inline]
    fn host_ingress(&self) -> HostPart {
        self.part(self.parts.ingress)
    }
    #[inline]
    fn host_dest(&self) -> HostPart {
        self.part(self.parts.dest)
    }
    #[inline]
    fn egress(&self) -> HostPart {
        self.part(self.parts.egress)
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more. It cannot fail for a mapping that exists.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.parts.bytes) };
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SMALL: Shape = Shape {
        workers: 2,
        host_ingress_slots: 64,
        ingress_slots: 32,
        egress_slots: 32,
        control_slots: 16,
        status_slots: 16,
    };

    #[test]
    fn both_sides_see_the_same_memory() {
        let ours = SharedMap::create(SMALL).expect("memory");
        let theirs = SharedMap::adopt(ours.file().try_clone_to_owned().expect("a descriptor"), SMALL).expect("mapped");
        assert_eq!(theirs.counters_wish(), None);
        ours.ask_counters();
        let wish = theirs.counters_wish().expect("asked");
        let counters = WorkerCounters { handled: 7, ..WorkerCounters::default() };
        theirs.write_counters(WorkerIndex(1), &counters);
        theirs.counters_answer(wish);
        assert_eq!((ours.read_counters(WorkerIndex(1)), theirs.counters_wish()), (counters, None));
        let actors = |counts: &[(u16, u64)]| counts.iter().map(|(set, count)| (SetId(*set), *count)).collect();
        for counts in [&[][..], &[(1, 0), (7, 1 << 40), (65535, 3)], &[(7, 5)]] {
            theirs.write_actors(&actors(counts));
            assert_eq!(ours.read_actors(), actors(counts));
        }
        let many: BTreeMap<_, _> = (1..=600).map(|set| (SetId(set), u64::from(set))).collect();
        theirs.write_actors(&many);
        assert_eq!(ours.read_actors().len(), SETS_COUNTED, "no more than there is room for");
        let changes = CodeChanges { count: 3, standstill_ns: 1 << 40 };
        theirs.write_changes(&changes);
        assert_eq!((ours.read_changes(), ours.read_counters(WorkerIndex(1))), (changes, counters));
    }

    #[test]
    fn a_file_that_could_shrink_or_is_of_another_size_is_refused() {
        let bare = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("a file");
        ftruncate(&bare, SMALL.parts().bytes as u64).expect("sized");
        let error = SharedMap::adopt(bare, SMALL).expect_err("not sealed");
        assert!(error.to_string().contains("not sealed"), "{error}");
        let ours = SharedMap::create(SMALL).expect("memory");
        let other = Shape { egress_slots: 64, ..SMALL };
        let file = ours.file().try_clone_to_owned().expect("a descriptor");
        let error = SharedMap::adopt(file, other).expect_err("another size");
        assert!(error.to_string().contains("another size"), "{error}");
        assert!(ftruncate(ours.file(), 4096).is_err(), "it can be cut off under a reader");
    }
}
