//! What lies where in the memory that an agent and a device process share.
//!
//! ```text
//!   header | host page | control ring | status ring | counters | actors | dest words | ingress ring | egress rings
//! ```
//! Every part begins on a page of its own. The sizes are chosen by the agent and told in the handshake; the file is sealed, so a part
//! that was there once stays there.

use ringfleet_abi::limits::{RING_SLOTS_MAX, RING_SLOTS_MIN, WORKERS_MAX};
use ringfleet_kernels::Geometry;
use ringfleet_kernels::geometry::COUNTERS_STRIDE;
use ringfleet_kernels::layout::HostPage;
use serde::{Deserialize, Serialize};

use crate::config::CpuDeviceConfig;

/// Bytes of a page, and of the alignment of every part.
const PAGE_BYTES: usize = 4096;
/// Bytes of a slot.
const SLOT_BYTES: usize = 64;

/// Sets whose actors are counted, at most; those beyond are not.
pub(crate) const SETS_COUNTED: usize = 512;

/// The sizes that decide where the parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Workers of the device.
    pub workers: u16,
    /// Slots of the agent's ring to the router, a power of two.
    pub host_ingress_slots: u32,
    /// What may be outstanding at one worker, a power of two.
    pub ingress_slots: u32,
    /// Slots of each worker's ring to the agent, a power of two.
    pub egress_slots: u32,
    /// Slots of the control ring, a power of two.
    pub control_slots: u32,
    /// Slots of the status ring, a power of two.
    pub status_slots: u32,
}

/// A part, in bytes from the begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) at: usize,
    pub(crate) bytes: usize,
}

/// All parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) header: Part,
    pub(crate) page: Part,
    pub(crate) control: Part,
    pub(crate) status: Part,
    pub(crate) counters: Part,
    pub(crate) actors: Part,
    pub(crate) dest: Part,
    pub(crate) ingress: Part,
    pub(crate) egress: Part,
    pub(crate) bytes: usize,
}

impl Shape {
    /// Of a CPU device of this configuration.
    #[must_use]
    pub fn of_cpu(config: &CpuDeviceConfig) -> Self {
        // Every worker's ring full at once fits: no worker's load holds up another's.
        let outstanding = config.ingress_slots.saturating_mul(u32::from(config.workers)).min(RING_SLOTS_MAX);
        Self {
            workers: config.workers,
            host_ingress_slots: outstanding.next_power_of_two(),
            ingress_slots: config.ingress_slots,
            egress_slots: config.egress_slots,
            control_slots: config.control_slots,
            status_slots: config.status_slots,
        }
    }

    /// Whether these sizes are possible; the first that is not.
    ///
    /// # Errors
    /// The name of the field and its value.
    pub fn check(&self) -> Result<(), (&'static str, u32)> {
        if self.workers == 0 || self.workers > WORKERS_MAX {
            return Err(("workers", u32::from(self.workers)));
        }
        let rings = [
            ("host_ingress_slots", self.host_ingress_slots),
            ("ingress_slots", self.ingress_slots),
            ("egress_slots", self.egress_slots),
            ("control_slots", self.control_slots),
            ("status_slots", self.status_slots),
        ];
        let possible = |slots: u32| slots.is_power_of_two() && (RING_SLOTS_MIN..=RING_SLOTS_MAX).contains(&slots);
        rings.into_iter().find(|(_, slots)| !possible(*slots)).map_or(Ok(()), Err)
    }

    /// The ports' idea of these sizes.
    pub(crate) fn geometry(&self) -> Geometry {
        Geometry {
            workers: u32::from(self.workers),
            ingress_slots: self.ingress_slots,
            egress_slots: self.egress_slots,
            ..Geometry::for_multiprocessors(1)
        }
    }

    pub(crate) fn parts(&self) -> Parts {
        let mut end = 0;
        let mut next = |bytes: usize| {
            let part = Part { at: end, bytes };
            end += bytes.next_multiple_of(PAGE_BYTES);
            part
        };
        let workers = usize::from(self.workers);
        let slots = |count: u32| count as usize * SLOT_BYTES;
        let header = next(PAGE_BYTES);
        let page = next(size_of::<HostPage>());
        // Two lines of positions before the slots.
        let control = next(256 + slots(self.control_slots));
        let status = next(256 + slots(self.status_slots));
        let counters = next(workers * COUNTERS_STRIDE as usize);
        let actors = next(SETS_COUNTED * 8);
        let dest = next(self.host_ingress_slots as usize * 4);
        let ingress = next(slots(self.host_ingress_slots));
        let egress = next(workers * slots(self.egress_slots));
        Parts { header, page, control, status, counters, actors, dest, ingress, egress, bytes: end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape {
        workers: 3,
        host_ingress_slots: 1024,
        ingress_slots: 256,
        egress_slots: 512,
        control_slots: 64,
        status_slots: 64,
    };

    #[test]
    fn parts_follow_each_other_on_pages_of_their_own() {
        let p = SHAPE.parts();
        let all = [p.header, p.page, p.control, p.status, p.counters, p.actors, p.dest, p.ingress, p.egress];
        for pair in all.windows(2) {
            assert!(pair[1].at >= pair[0].at + pair[0].bytes && pair[1].at.is_multiple_of(PAGE_BYTES));
        }
        assert_eq!(p.bytes, p.egress.at + (p.egress.bytes).next_multiple_of(PAGE_BYTES));
        assert_eq!(p.egress.bytes, 3 * 512 * 64);
    }

    #[test]
    fn impossible_sizes_are_named() {
        assert_eq!(SHAPE.check(), Ok(()));
        assert_eq!(Shape { workers: 0, ..SHAPE }.check(), Err(("workers", 0)));
        assert_eq!(Shape { status_slots: 100, ..SHAPE }.check(), Err(("status_slots", 100)));
    }
}
