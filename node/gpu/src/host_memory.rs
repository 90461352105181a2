//! Memory that a host and a device share, as the ports of `cuda::port` see it: pinned memory of one process, or a sealed file that two
//! processes map ([`crate::process`]).

/// A part of such memory. It is only reached through raw pointers and atomics, because the other side changes it at any time.
#[derive(Clone, Copy, Debug)]
pub struct HostPart {
    base: *mut u8,
    bytes: usize,
}

// SAFETY: an address and a length; who may touch what is the business of the rings and pages laid into the memory.
#[allow(unsafe_code)]
unsafe impl Send for HostPart {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for HostPart {}

impl HostPart {
    /// The part of `bytes` bytes at `base`, which is aligned to 128 bytes.
    pub(crate) fn new(base: *mut u8, bytes: usize) -> Self {
        debug_assert!(base.align_offset(128) == 0, "C9: shared memory that is not aligned to a line");
        Self { base, bytes }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pointer to the `index`-th `T`. Valid as long as the memory that the part was taken from.
    ///
    /// # Panics
    /// If that is beyond the end.
    #[inline]
    #[must_use]
    pub fn at<T>(&self, index: usize) -> *mut T {
        assert!(index < self.bytes / size_of::<T>(), "C9: beyond the end of shared memory");
        self.base.cast::<T>().wrapping_add(index)
    }
}

/// What a host shares with a device.
///
/// # Safety
/// The parts stay valid and unmoved as long as `self` lives, have at least the sizes of the geometry that the ports were made for, and
/// lie apart from each other.
#[allow(unsafe_code)]
pub unsafe trait HostMemory {
    /// [`ringfleet_kernels::layout::HostPage`].
    fn host_page(&self) -> HostPart;
    /// Slots of the host's ring to the router.
    fn host_ingress(&self) -> HostPart;
    /// A word beside each of them: worker << 20 | slot of that worker's ring.
    fn host_dest(&self) -> HostPart;
    /// Slots of the workers' rings to the host.
    fn egress(&self) -> HostPart;
}
