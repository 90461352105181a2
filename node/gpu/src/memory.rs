//! Memory of rings and actor slots: zeroed, page-aligned, and in huge pages where it is large.
//!
//! A million actors are reached at random. With pages of 4 KiB nearly every message would miss the translation cache as
//! well as the data caches; with pages of 2 MiB the translations of the whole population fit.
#![allow(unsafe_code)]

use std::{io, ptr::NonNull, slice, sync::Arc};

use ringfleet_abi::ring::{RingHeader, RingMemory, Slot, split};
use ringfleet_abi::{Consumer, Envelope, Producer};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The size of a huge page, and the size from which a region asks for them.
const HUGE_BYTES: usize = 2 << 20;

/// Zeroed memory of its own mapping.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    map: NonNull<u8>,
    map_bytes: usize,
}

// SAFETY: a region is plain memory that it alone owns; who may touch it when is decided by what lies in it.
unsafe impl Send for Region {}
// SAFETY: as above; a shared reference gives out only the address.
unsafe impl Sync for Region {}

impl Region {
    /// `bytes` of zeroes, aligned to a page, and to a huge page if they fill one. Nothing is resident until it is
    /// touched.
    pub(crate) fn zeroed(bytes: usize) -> io::Result<Self> {
        let huge = bytes >= HUGE_BYTES;
        let map_bytes = if huge { bytes.next_multiple_of(HUGE_BYTES) + HUGE_BYTES } else { bytes.max(1) };
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice overlaps nothing.
        let map = unsafe {
            mmap_anonymous(std::ptr::null_mut(), map_bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let map = NonNull::new(map.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let base = if huge {
            let pad = map.as_ptr().align_offset(HUGE_BYTES);
            // SAFETY: `pad` is below HUGE_BYTES, by which the mapping is longer than the region.
            unsafe { map.add(pad) }
        } else {
            map
        };
        #[cfg(target_os = "linux")]
        if huge {
            // A refusal costs speed only. SAFETY: the range lies within the mapping; the advice changes no content.
            let _ = unsafe {
                rustix::mm::madvise(
                    base.as_ptr().cast(),
                    bytes.next_multiple_of(HUGE_BYTES),
                    rustix::mm::Advice::LinuxHugepage,
                )
            };
        }
        Ok(Self { base, map, map_bytes })
    }

    /// Where it begins.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more. It cannot fail for a mapping that exists.
        let _ = unsafe { munmap(self.map.as_ptr().cast(), self.map_bytes) };
    }
}

/// A ring in memory of this process.
#[derive(Clone, Debug)]
pub(crate) struct HeapRing(Arc<RingBuffer>);

#[derive(Debug)]
struct RingBuffer {
    header: RingHeader,
    slots: Region,
    count: usize,
}

impl HeapRing {
    /// The two ends of a new ring of `slots` slots, a power of two.
    pub(crate) fn ends(slots: u32) -> io::Result<(Producer<HeapRing>, Consumer<HeapRing>)> {
        let count = slots as usize;
        let region = Region::zeroed(count * size_of::<Envelope>())?;
        let ring = HeapRing(Arc::new(RingBuffer { header: RingHeader::default(), slots: region, count }));
        // SAFETY: the memory is new, so no other end of it exists.
        Ok(unsafe { split(ring) })
    }
}

// SAFETY: header and region live in the Arc, which every clone keeps; neither moves nor changes.
unsafe impl RingMemory for HeapRing {
    fn header(&self) -> &RingHeader {
        &self.0.header
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: the region has this many envelopes of zeroes, a value of Slot; it is page-aligned and lives as long
        // as `self`. Slots are cells, so that the two ends may write and read them behind this reference.
        unsafe { slice::from_raw_parts(self.0.slots.base().as_ptr().cast(), self.0.count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_zeroed_and_large_ones_aligned_to_huge_pages() {
        for bytes in [1, 4096, HUGE_BYTES, 3 * HUGE_BYTES + 5] {
            let region = Region::zeroed(bytes).expect("memory");
            // SAFETY: the region has that many bytes and nobody else has it.
            let all = unsafe { slice::from_raw_parts(region.base().as_ptr(), bytes) };
            assert!(all.iter().all(|byte| *byte == 0));
            assert!(bytes < HUGE_BYTES || region.base().as_ptr().align_offset(HUGE_BYTES) == 0);
        }
    }

    #[test]
    fn a_ring_hands_over_what_is_published() {
        let (mut producer, mut consumer) = HeapRing::ends(8).expect("memory");
        for key in 0..8 {
            assert!(producer.push(&Envelope { to_key: key, ..Envelope::default() }));
        }
        assert!(!producer.push(&Envelope::default()), "nine do not fit");
        assert!(consumer.pop().is_none(), "not published yet");
        producer.publish();
        assert_eq!(
            (0..8).map(|_| consumer.pop().map(|e| e.to_key)).collect::<Vec<_>>(),
            (0..8).map(Some).collect::<Vec<_>>()
        );
    }
}
