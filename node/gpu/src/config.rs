//! Every bound of the CPU device (C9): what it bounds, what happens there, and its default.

use ringfleet_abi::limits::{MAX_SENDS_LIMIT, RING_SLOTS_MAX, RING_SLOTS_MIN, WORKERS_MAX};

/// How a CPU device is made. Every field has a default; [`CpuDeviceConfig::DEFAULT`] is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuDeviceConfig {
    /// Threads, each the only executor of its shards. More than there are cores buys nothing but context switches.
    pub workers: u16,
    /// Slots of a ring between two workers, a power of two. There are `workers`² of them at 64 bytes a slot. A full
    /// ring makes its sender spill.
    pub ring_slots: u32,
    /// Slots of a worker's ingress ring, a power of two. Bounds what the host has outstanding at one worker.
    pub ingress_slots: u32,
    /// Slots of a worker's egress ring, a power of two. A host that does not drain it makes the worker spill.
    pub egress_slots: u32,
    /// Slots of the control ring of a worker, a power of two. A full one refuses controls.
    pub control_slots: u32,
    /// Slots of the status ring of a worker, a power of two. While it is nearly full the worker carries out no
    /// controls, and failures of actors are only counted.
    pub status_slots: u32,
    /// Envelopes that one worker may hold because their ring is full. Inputs are taken only while all they may send has
    /// room here, so a worker whose spill is full stops taking inputs, and after 100 ms is in overload.
    pub spill_slots: u32,
    /// Messages that a worker handles before it publishes what they sent. Larger batches cost latency, smaller ones
    /// rate.
    pub batch: u32,
    /// Timers pending in one worker. One more fails the actor that set it.
    pub timers_max: u32,
    /// How long an idle worker spins before it sleeps. Longer costs a core, shorter costs a wake-up (about 50 µs) in
    /// the next message's way.
    pub spin_ns: u64,
    /// How long a worker may take for one round before it is reported as stalled. A round is a batch of handlings, each bounded by its
    /// fuel, so this is many times what the slowest honest one takes.
    pub stall_ns: u64,
}

impl CpuDeviceConfig {
    /// The defaults.
    pub const DEFAULT: CpuDeviceConfig = CpuDeviceConfig {
        workers: 2,
        ring_slots: 4096,
        ingress_slots: 8192,
        egress_slots: 8192,
        control_slots: 1024,
        status_slots: 1024,
        spill_slots: 16384,
        batch: 1024,
        timers_max: 65536,
        spin_ns: 10_000,
        stall_ns: 2_000_000_000,
    };

    /// Checks the bounds and the relations between them.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.workers == 0 || self.workers > WORKERS_MAX {
            return Err(ConfigError::Workers { workers: self.workers });
        }
        let rings = [
            ("ring_slots", self.ring_slots),
            ("ingress_slots", self.ingress_slots),
            ("egress_slots", self.egress_slots),
            ("control_slots", self.control_slots),
            ("status_slots", self.status_slots),
        ];
        for (field, slots) in rings {
            if !slots.is_power_of_two() || !(RING_SLOTS_MIN..=RING_SLOTS_MAX).contains(&slots) {
                return Err(ConfigError::Ring { field, slots });
            }
        }
        if self.spill_slots < SPILL_SLOTS_MIN || self.spill_slots > SPILL_SLOTS_MAX {
            return Err(ConfigError::Spill { slots: self.spill_slots });
        }
        if self.batch == 0 || self.batch > BATCH_MAX {
            return Err(ConfigError::Batch { batch: self.batch });
        }
        if self.timers_max > TIMERS_MAX {
            return Err(ConfigError::Timers { timers: self.timers_max });
        }
        Ok(())
    }
}

impl Default for CpuDeviceConfig {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The least spill: one handling may send [`MAX_SENDS_LIMIT`] messages and cause one verdict, and all of that must find
/// room or no input could ever be taken.
pub const SPILL_SLOTS_MIN: u32 = MAX_SENDS_LIMIT as u32 + 1;
/// The largest spill: 1 GiB.
pub const SPILL_SLOTS_MAX: u32 = 1 << 24;
/// The largest batch. A batch is the longest that a worker goes without looking at its lease, about 1 ms (C2).
pub const BATCH_MAX: u32 = 16384;
/// The most timers that one worker can be given.
pub const TIMERS_MAX: u32 = 1 << 24;

/// Why a device cannot be made as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Too few or too many workers.
    #[error("a device of {workers} workers; 1 to {WORKERS_MAX} are possible")]
    Workers {
        /// What was asked for.
        workers: u16,
    },
    /// A ring of a wrong size.
    #[error("`{field}` is {slots}; a power of two of {RING_SLOTS_MIN} to {RING_SLOTS_MAX} is possible")]
    Ring {
        /// Which ring.
        field: &'static str,
        /// What was asked for.
        slots: u32,
    },
    /// A spill of a wrong size.
    #[error("`spill_slots` is {slots}; {SPILL_SLOTS_MIN} to {SPILL_SLOTS_MAX} are possible")]
    Spill {
        /// What was asked for.
        slots: u32,
    },
    /// A batch of a wrong size.
    #[error("`batch` is {batch}; 1 to {BATCH_MAX} are possible")]
    Batch {
        /// What was asked for.
        batch: u32,
    },
    /// Too many timers.
    #[error("`timers_max` is {timers}; at most {TIMERS_MAX} are possible")]
    Timers {
        /// What was asked for.
        timers: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_possible_and_each_bound_is_checked() {
        assert_eq!(CpuDeviceConfig::DEFAULT.check(), Ok(()));
        let with = |change: fn(&mut CpuDeviceConfig)| {
            let mut config = CpuDeviceConfig::DEFAULT;
            change(&mut config);
            config.check()
        };
        assert!(matches!(with(|c| c.workers = 0), Err(ConfigError::Workers { .. })));
        assert!(matches!(with(|c| c.ring_slots = 4), Err(ConfigError::Ring { field: "ring_slots", .. })));
        assert!(matches!(with(|c| c.egress_slots = 100), Err(ConfigError::Ring { field: "egress_slots", .. })));
        assert!(matches!(with(|c| c.spill_slots = 64), Err(ConfigError::Spill { .. })));
        assert!(matches!(with(|c| c.batch = 0), Err(ConfigError::Batch { .. })));
        assert!(matches!(with(|c| c.timers_max = u32::MAX), Err(ConfigError::Timers { .. })));
    }
}
