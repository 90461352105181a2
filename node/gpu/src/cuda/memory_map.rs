//! Everything that the kernel is launched with, allocated before the launch: nothing is allocated or freed while it runs (C9).

use std::sync::Arc;

use ringfleet_abi::Envelope;
use ringfleet_kernels::Geometry;
use ringfleet_kernels::geometry::{COUNTERS_STRIDE, SPILL_PAGE};
use ringfleet_kernels::layout::{DevicePage, HostPage, Params, SetEntry, ShardEntry};

use super::driver::{DeviceMemory, Gpu, PinnedMemory, RegisteredMap};
use super::error::CudaError;
use crate::host_memory::{HostMemory, HostPart};
use crate::process::shared::SharedMap;

/// Sizes that do not change the device code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Bytes for actors' records.
    pub arena_bytes: u64,
    /// Sets, ids up to this number exclusive.
    pub sets: u32,
    /// Shards of all sets together.
    pub shards: u32,
    /// Slots of the host's ring to the router, a power of two.
    pub host_ingress_slots: u32,
}

/// Where the parts of a device's fabric lie, in bytes from its begin; the rings come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FabricParts {
    /// Published ends of the rings, a row for each worker, and its bell behind each.
    pub tails: u64,
    /// Consumed ends, a row for each worker.
    pub heads: u64,
    /// All of it.
    pub bytes: u64,
}

/// The same for every device of a geometry, so that each knows where the parts of the others lie.
#[must_use]
pub fn fabric_parts(geometry: &Geometry) -> FabricParts {
    let (workers, slot) = (u64::from(geometry.workers), size_of::<Envelope>() as u64);
    let rings = workers * u64::from(geometry.peers()) * u64::from(geometry.ring_slots) * slot;
    let tails = workers * u64::from(geometry.tails_row_words()) * 4;
    let heads = workers * u64::from(geometry.row_words()) * 4;
    FabricParts { tails: rings, heads: rings + tails, bytes: rings + tails + heads }
}

/// The memory of one device.
#[derive(Debug)]
pub struct MemoryMap {
    /// What the kernel gets.
    pub params: Params,
    /// Actors' records.
    pub arena: DeviceMemory,
    /// What other GPUs of the node write: rings, tails and heads between workers, one behind the other ([`fabric_parts`]).
    pub fabric: DeviceMemory,
    /// The same of the other GPUs, where they are of other processes.
    pub peers: Vec<DeviceMemory>,
    /// [`SetEntry`] by set.
    pub sets: DeviceMemory,
    /// [`ShardEntry`] by route index.
    pub shards: DeviceMemory,
    /// Active actors of each shard, u32 by route index.
    pub live: DeviceMemory,
    /// Two route tables of u16.
    pub routes: DeviceMemory,
    /// tag | set << 32.
    pub tags: DeviceMemory,
    /// Counters by worker.
    pub counters: DeviceMemory,
    /// Clock ticks by worker and phase.
    pub profile: DeviceMemory,
    /// The page that the router fills.
    pub device_page: DeviceMemory,
    /// Words between host and device.
    pub host_page: PinnedMemory,
    /// The host's ring to the router.
    pub host_ingress: PinnedMemory,
    /// Worker and slot of each of its slots.
    pub host_dest: PinnedMemory,
    /// The workers' rings to the host.
    pub egress: PinnedMemory,
    _rest: Vec<DeviceMemory>,
}

// SAFETY: pinned memory lives as long as its value, each part is an allocation of its own, of the size that the geometry asks for.
#[allow(unsafe_code)]
unsafe impl HostMemory for MemoryMap {
    #[inline]
    fn host_page(&self) -> HostPart {
        self.host_page.part()
    }
    #[inline]
    fn host_ingress(&self) -> HostPart {
        self.host_ingress.part()
    }
    #[inline]
    fn host_dest(&self) -> HostPart {
        self.host_dest.part()
    }
    #[inline]
    fn egress(&self) -> HostPart {
        self.egress.part()
    }
}

impl MemoryMap {
    /// Takes other memory for what other GPUs write. Only before the first launch.
    pub fn replace_fabric(&mut self, geometry: &Geometry, fabric: DeviceMemory) {
        let parts = fabric_parts(geometry);
        self.params.rings = fabric.address();
        self.params.tails = fabric.address() + parts.tails;
        self.params.heads = fabric.address() + parts.heads;
        self.fabric = fabric;
    }

    /// Allocates and zeroes everything. What the host shares with the device is a part of `shared`, or allocated, too.
    ///
    /// # Errors
    /// The driver's, if there is not enough memory.
    pub fn new(
        gpu: &Arc<Gpu>,
        geometry: &Geometry,
        capacity: &Capacity,
        shared: Option<&Arc<SharedMap>>,
    ) -> Result<Self, CudaError> {
        let slot = size_of::<Envelope>();
        let workers = geometry.workers as usize;
        let tag_slots = (capacity.sets as usize * 2).next_power_of_two();
        let device = |bytes: usize| DeviceMemory::new(gpu, bytes);
        // What other GPUs of the node write, and records that may move to them.
        let shareable = |bytes: usize| DeviceMemory::shareable(gpu, bytes);
        let spill_slots = workers * geometry.spill_slots as usize;
        let parts = fabric_parts(geometry);
        let fabric = shareable(parts.bytes as usize)?;
        let ingress = device(workers * geometry.ingress_slots as usize * slot)?;
        let spill = device(spill_slots * slot)?;
        let spill_fresh = device(spill_slots * 8)?;
        let spill_pages = device(workers * geometry.spill_pages() as usize * SPILL_PAGE as usize * 4)?;
        let spill_table = device(workers * (geometry.peers() + 1) as usize * geometry.spill_table() as usize * 2)?;
        let spill_free_pages = device(workers * geometry.spill_pages() as usize * 4)?;
        let spill_free = device(spill_slots * 4)?;
        let timer_slots = workers * geometry.timer_slots as usize;
        let timer_keys = device(timer_slots * 16)?;
        let timer_messages = device(timer_slots * slot)?;
        let timer_free = device(timer_slots * 4)?;
        let saves = device(workers * geometry.save_words() as usize * 4)?;
        let arena = shareable(usize::try_from(capacity.arena_bytes).unwrap_or(usize::MAX))?;
        let sets = device(capacity.sets as usize * size_of::<SetEntry>())?;
        let shards = device(capacity.shards as usize * size_of::<ShardEntry>())?;
        let live = device(capacity.shards as usize * 4)?;
        let routes = device(2 * capacity.shards as usize * 2)?;
        let tags = device(tag_slots * 8)?;
        let counters = device(workers * COUNTERS_STRIDE as usize)?;
        let profile = device(workers * 64)?;
        let device_page = device(size_of::<DevicePage>())?;
        let [host_page, host_ingress, host_dest, egress] = match shared {
            Some(map) => {
                let registered = RegisteredMap::new(gpu, map)?;
                [map.host_page(), map.host_ingress(), map.host_dest(), map.egress()]
                    .map(|part| PinnedMemory::part_of(&registered, &part))
            }
            None => [
                PinnedMemory::new(gpu, size_of::<HostPage>())?,
                PinnedMemory::new(gpu, capacity.host_ingress_slots as usize * slot)?,
                PinnedMemory::new(gpu, capacity.host_ingress_slots as usize * 4)?,
                PinnedMemory::new(gpu, workers * geometry.egress_slots as usize * slot)?,
            ],
        };
        let params = Params {
            arena: arena.address(),
            rings: fabric.address(),
            tails: fabric.address() + parts.tails,
            heads: fabric.address() + parts.heads,
            ingress: ingress.address(),
            egress: egress.address(),
            host_ingress: host_ingress.address(),
            host_dest: host_dest.address(),
            sets: sets.address(),
            shards: shards.address(),
            live: live.address(),
            routes: routes.address(),
            tags: tags.address(),
            spill: spill.address(),
            spill_fresh: spill_fresh.address(),
            spill_pages: spill_pages.address(),
            spill_table: spill_table.address(),
            spill_free_pages: spill_free_pages.address(),
            spill_free: spill_free.address(),
            timer_keys: timer_keys.address(),
            timer_messages: timer_messages.address(),
            timer_free: timer_free.address(),
            saves: saves.address(),
            counters: counters.address(),
            device_page: device_page.address(),
            host_page: host_page.address(),
            profile: profile.address(),
            sets_count: capacity.sets,
            routes_len: capacity.shards,
            tag_mask: tag_slots as u32 - 1,
            host_ingress_slots: capacity.host_ingress_slots,
            ..Params::default()
        };
        let mut rest = vec![ingress, spill, spill_fresh, spill_pages, spill_table, spill_free_pages, spill_free, saves];
        rest.extend([timer_keys, timer_messages, timer_free]);
        Ok(Self {
            params,
            arena,
            fabric,
            peers: Vec::new(),
            sets,
            shards,
            live,
            routes,
            tags,
            counters,
            profile,
            device_page,
            host_page,
            host_ingress,
            host_dest,
            egress,
            _rest: rest,
        })
    }
}
