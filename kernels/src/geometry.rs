//! Sizes that are fixed when device code is compiled for a device (C9).

use ringfleet_abi::limits::{MAX_SENDS_LIMIT, RING_SLOTS_MAX, RING_SLOTS_MIN, WORKERS_MAX};

/// How a device is cut into workers, and how large their queues are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Devices of the node that send to each other, this one among them, all of the same geometry.
    pub devices: u32,
    /// Worker blocks. The kernel is launched with one more, the router; all of them have to be resident at once.
    pub workers: u32,
    /// Threads of a block, whole warps.
    pub threads: u32,
    /// Messages of one round, at most. Larger batches cost latency and shared memory (64 bytes each), smaller ones rate.
    pub batch: u32,
    /// Buckets of the table that groups a batch by actor, a power of two.
    pub buckets: u32,
    /// Slots of a ring between two workers. There are `devices` · `workers`² of them in a device at 64 bytes a slot. A full ring makes
    /// its sender spill.
    pub ring_slots: u32,
    /// Slots of a worker's ring from the router: what the host may have outstanding at one worker.
    pub ingress_slots: u32,
    /// Slots of a worker's ring to the host, in pinned memory.
    pub egress_slots: u32,
    /// Messages that one worker may hold because their ring is full. Inputs are taken only while all they may send has room here.
    pub spill_slots: u32,
    /// Timers that may be pending in one worker. One more fails the actor that sets it.
    pub timer_slots: u32,
}

impl Geometry {
    /// Sizes for a device with this many multiprocessors, one block on each.
    #[must_use]
    pub const fn for_multiprocessors(count: u32) -> Self {
        Self {
            devices: 1,
            workers: if count > 1 { count - 1 } else { 1 },
            threads: 640,
            batch: 1920,
            buckets: 4096,
            ring_slots: 1024,
            ingress_slots: 4096,
            egress_slots: 4096,
            spill_slots: 131_072,
            timer_slots: 16_384,
        }
    }

    /// The same for a device that works together with others: a thread of a block looks after each ring, and a ring's number has ten
    /// bits, so that many devices have fewer workers each. Tables for more rings leave shared memory for smaller batches.
    #[must_use]
    pub const fn with_devices(self, devices: u32) -> Self {
        let threads = if devices > 4 { 1024 } else { self.threads };
        let devices = if devices == 0 { 1 } else { devices };
        let most = (1022 / devices).saturating_sub(1);
        let workers = if self.workers < most { self.workers } else { most };
        let batch = if devices > 4 { 1536 } else { self.batch };
        Self { devices, workers, threads, batch, ..self }
    }

    /// Sizes for `devices` GPUs that appear as one device, the smallest of which has this many multiprocessors: all of their workers are
    /// numbered as workers of one device.
    #[must_use]
    pub const fn for_group(multiprocessors: u32, devices: u32) -> Self {
        let each = Self::for_multiprocessors(multiprocessors).with_devices(devices);
        let most = WORKERS_MAX as u32 / each.devices;
        let workers = if each.workers < most { each.workers } else { most };
        Self { workers, ..each }
    }

    /// Workers of all devices together.
    #[must_use]
    pub const fn peers(&self) -> u32 {
        self.devices * self.workers
    }

    /// Checks the bounds and the relations between them.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), GeometryError> {
        let wrong = |field, value| Err(GeometryError { field, value });
        let ring = |slots: u32| slots.is_power_of_two() && (RING_SLOTS_MIN..=RING_SLOTS_MAX).contains(&slots);
        if self.workers == 0 || self.workers > u32::from(WORKERS_MAX) {
            return wrong("workers", self.workers);
        }
        if self.devices == 0 || self.devices > DEVICES_MAX || self.peers() > 1022 {
            return wrong("devices", self.devices);
        }
        if self.threads < 96 || self.threads > 1024 || !self.threads.is_multiple_of(32) || self.threads <= self.peers()
        {
            return wrong("threads", self.threads);
        }
        if self.batch == 0 || self.batch > 16384 {
            return wrong("batch", self.batch);
        }
        if !self.buckets.is_power_of_two() || self.buckets > 8192 {
            return wrong("buckets", self.buckets);
        }
        for (field, slots) in [
            ("ring_slots", self.ring_slots),
            ("ingress_slots", self.ingress_slots),
            ("egress_slots", self.egress_slots),
        ] {
            if !ring(slots) {
                return wrong(field, slots);
            }
        }
        if self.spill_slots < MAX_SENDS_LIMIT as u32 + 1 + self.peers() || self.spill_slots > RING_SLOTS_MAX {
            return wrong("spill_slots", self.spill_slots);
        }
        if self.timer_slots == 0 || self.timer_slots > RING_SLOTS_MAX {
            return wrong("timer_slots", self.timer_slots);
        }
        Ok(())
    }

    /// Words of a row of positions: whole lines.
    #[must_use]
    pub const fn row_words(&self) -> u32 {
        (self.peers() + 1).div_ceil(32) * 32
    }

    /// Words of a row of tails and the bell behind it.
    #[must_use]
    pub const fn tails_row_words(&self) -> u32 {
        self.row_words() + 32
    }

    /// Pages of spilled positions of a worker: all that may wait, and a begun and an ended page of each ring.
    #[must_use]
    pub const fn spill_pages(&self) -> u32 {
        self.spill_slots / SPILL_PAGE + 2 * (self.peers() + 1)
    }

    /// Pages that one ring may span.
    #[must_use]
    pub const fn spill_table(&self) -> u32 {
        let pages = (self.spill_slots / SPILL_PAGE + 2).next_power_of_two();
        if pages < 8 { 8 } else { pages }
    }

    /// Words that a worker keeps from one launch to the next.
    #[must_use]
    pub const fn save_words(&self) -> u32 {
        (16 + 3 * (self.peers() + 1) + SHARDS_PER_WORKER_MAX).div_ceil(32) * 32
    }
}

/// Devices of one node that send to each other. A node with more refuses to start them.
pub const DEVICES_MAX: u32 = 8;
/// Spilled positions in a page.
pub const SPILL_PAGE: u32 = 64;
/// Bytes between the counters of two workers.
pub const COUNTERS_STRIDE: u32 = 512;

/// Sets that one device can know. Adding one more fails.
pub const SETS_PER_DEVICE_MAX: u32 = 48;
/// Shards that one worker can own. Assigning one more fails.
pub const SHARDS_PER_WORKER_MAX: u32 = 192;

/// A size that is out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` of the device geometry is {value}, which is out of its range")]
pub struct GeometryError {
    /// Which.
    pub field: &'static str,
    /// What was asked for.
    pub value: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_possible_and_each_bound_is_checked() {
        let good = Geometry::for_multiprocessors(132);
        assert_eq!((good.check(), good.workers, good.row_words()), (Ok(()), 131, 160));
        assert_eq!(
            Geometry { ring_slots: 100, ..good }.check(),
            Err(GeometryError { field: "ring_slots", value: 100 })
        );
        assert_eq!(Geometry { threads: 33, ..good }.check(), Err(GeometryError { field: "threads", value: 33 }));
        assert!(Geometry { workers: 0, ..good }.check().is_err());
        assert!(Geometry { devices: 9, ..good }.check().is_err());
        for devices in 1..=DEVICES_MAX {
            assert_eq!(good.with_devices(devices).check(), Ok(()), "{devices}");
        }
        assert_eq!(good.with_devices(2).peers(), 262);
        for devices in 1..=DEVICES_MAX {
            let group = Geometry::for_group(132, devices);
            assert!(group.check().is_ok() && group.peers() <= u32::from(WORKERS_MAX), "{devices}");
        }
        assert_eq!((Geometry::for_group(132, 1), Geometry::for_group(132, 2)), (good, good.with_devices(2)));
        assert!(Geometry { spill_slots: 1, ..good }.check().is_err());
    }
}
