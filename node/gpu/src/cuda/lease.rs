//! A device's lease and clocks, as the host keeps them (C2, C6).
//!
//! * **Lease.** Deadlines come in the clock's time. The device knows only its own timer, so a deadline is told in that: the device's last
//!   look (`device_ns`) is at most as late as the clock read after it, so the translated deadline is never later than the true one.
//! * **Wall time.** The device's HLC is its timer plus an offset that is measured again with every lease and only ever raised, so device
//!   time never goes back. What raises it is there for good, so a measurement that was interrupted does not count, nor one of a device
//!   that stands still.
//! * `pause` is a lease that has ended.

use std::sync::Arc;

use ringfleet_abi::Status;
use ringfleet_env::Clock;

use super::port;
use crate::host_memory::HostMemory;

/// The longest that a measurement of the offset may take and count: the resolution of wall time.
const NARROW_NS: u64 = 1_000_000;
/// Measurements in a row. If none is short enough, the offset stays until the next lease; the very first is the shortest of them.
const MEASUREMENTS_MAX: u32 = 4;

/// The lease of a device, and what it is told of time.
#[derive(Debug)]
pub(crate) struct Lease {
    clock: Arc<dyn Clock>,
    /// In the clock's time.
    deadline_ns: u64,
    paused: bool,
    /// Wall clock less device time, once it is known.
    wall_offset_ns: Option<u64>,
    /// When it was last measured, and the device's word then.
    looked: Option<(u64, u64)>,
    fenced: bool,
}

impl Lease {
    /// None yet: the device is fenced.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, deadline_ns: 0, paused: false, wall_offset_ns: None, looked: None, fenced: true }
    }

    /// Grants it, in the clock's time.
    pub(crate) fn grant(&mut self, memory: &impl HostMemory, deadline_ns: u64) {
        self.deadline_ns = deadline_ns;
        self.tell(memory);
    }

    /// Suspends it, or lets it go on.
    pub(crate) fn pause(&mut self, memory: &impl HostMemory, paused: bool) {
        self.paused = paused;
        self.tell(memory);
    }

    /// Tells the device wall time and the lease in its own time.
    pub(crate) fn tell(&mut self, memory: &impl HostMemory) {
        self.measure_offset(memory);
        let device_ns = port::device_ns(memory);
        let now_ns = self.clock.monotonic_ns();
        let left_ns = if self.paused { 0 } else { self.deadline_ns.saturating_sub(now_ns) };
        port::set_lease(memory, if left_ns == 0 { 0 } else { device_ns.saturating_add(left_ns) });
    }

    fn measure_offset(&mut self, memory: &impl HostMemory) {
        let mut best: Option<(u64, u64, u64, u64)> = None;
        for _ in 0..MEASUREMENTS_MAX {
            let began_ns = self.clock.monotonic_ns();
            let device_ns = port::device_ns(memory);
            let offset_ns = (self.clock.wall_ms() * 1_000_000).wrapping_sub(device_ns);
            let took_ns = self.clock.monotonic_ns().saturating_sub(began_ns);
            if best.is_none_or(|(least_ns, ..)| took_ns < least_ns) {
                best = Some((took_ns, offset_ns, began_ns, device_ns));
            }
            if took_ns < NARROW_NS {
                break;
            }
        }
        let Some((took_ns, offset_ns, began_ns, device_ns)) = best else { return };
        // A device that has not looked since, because its kernel changes place with another one, has a word that is behind.
        let stood_still = self.looked.replace((began_ns, device_ns)).is_some_and(|(then_ns, device_then_ns)| {
            device_ns.saturating_sub(device_then_ns) + NARROW_NS < began_ns.saturating_sub(then_ns)
        });
        let raises = match self.wall_offset_ns {
            None => true,
            Some(now) => took_ns < NARROW_NS && !stood_still && offset_ns.wrapping_sub(now) < 1 << 63,
        };
        if raises {
            self.wall_offset_ns = Some(offset_ns);
            port::set_wall_offset(memory, offset_ns);
        }
    }

    /// Whether the device may not act now.
    fn is_over(&self) -> bool {
        self.paused || self.clock.monotonic_ns() >= self.deadline_ns
    }

    /// That the device has become fenced or unfenced since the last call.
    pub(crate) fn poll(&mut self) -> Option<Status> {
        let fenced = self.is_over();
        if fenced == std::mem::replace(&mut self.fenced, fenced) {
            return None;
        }
        Some(if fenced { Status::Fenced } else { Status::Unfenced })
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use ringfleet_env::ManualClock;
    use ringfleet_kernels::layout::HostPage;

    use super::*;
    use crate::process::shared::SharedMap;
    use crate::process::shared::tests::SMALL;

    const WALL_MS: u64 = 1_790_000_000_000;

    /// A clock that a device is as quick as; some of whose looks at wall time are interrupted for 50 ms.
    #[derive(Debug)]
    struct Interrupted {
        clock: ManualClock,
        map: SharedMap,
        interruptions: AtomicU32,
    }

    impl Clock for Interrupted {
        fn monotonic_ns(&self) -> u64 {
            let now_ns = self.clock.monotonic_ns();
            port::word64(&self.map, offset_of!(HostPage, device_ns)).store(now_ns, Ordering::Release);
            now_ns
        }

        fn wall_ms(&self) -> u64 {
            let left = self.interruptions.load(Ordering::Relaxed);
            if left > 0 {
                self.interruptions.store(left - 1, Ordering::Relaxed);
                self.clock.advance(Duration::from_millis(50));
            }
            self.clock.wall_ms()
        }
    }

    fn interrupted(first: u32) -> (Arc<Interrupted>, Lease) {
        let clock = Arc::new(Interrupted {
            clock: ManualClock::new(7_000_000_000, WALL_MS),
            map: SharedMap::create(SMALL).expect("memory"),
            interruptions: AtomicU32::new(first),
        });
        (clock.clone(), Lease::new(clock))
    }

    fn offset_ns(clock: &Interrupted) -> u64 {
        port::word64(&clock.map, offset_of!(HostPage, wall_offset_ns)).load(Ordering::Acquire)
    }

    const TRUE_OFFSET_NS: u64 = WALL_MS * 1_000_000 - 7_000_000_000;

    #[test]
    fn an_interruption_between_two_clocks_does_not_move_the_device_ahead() {
        let (clock, mut lease) = interrupted(0);
        lease.tell(&clock.map);
        assert_eq!(offset_ns(&clock), TRUE_OFFSET_NS);
        for interruptions in [1, MEASUREMENTS_MAX] {
            clock.interruptions.store(interruptions, Ordering::Relaxed);
            lease.grant(&clock.map, u64::MAX);
            assert_eq!(offset_ns(&clock), TRUE_OFFSET_NS, "{interruptions} in a row");
        }
        // What is measured in one go counts.
        clock.clock.set_wall_ms(clock.clock.wall_ms() + 30);
        lease.grant(&clock.map, u64::MAX);
        assert_eq!(offset_ns(&clock), TRUE_OFFSET_NS + 30_000_000);
    }

    #[test]
    fn a_device_that_stands_still_does_not_move_ahead() {
        let map = SharedMap::create(SMALL).expect("memory");
        let clock = Arc::new(ManualClock::new(7_000_000_000, WALL_MS));
        let mut lease = Lease::new(clock.clone());
        let offset = || port::word64(&map, offset_of!(HostPage, wall_offset_ns)).load(Ordering::Acquire);
        let look = |device_ns| port::word64(&map, offset_of!(HostPage, device_ns)).store(device_ns, Ordering::Release);
        look(7_000_000_000);
        lease.tell(&map);
        assert_eq!(offset(), TRUE_OFFSET_NS);
        // Its kernel is away for a second, in which its lease is renewed twice.
        for _ in 0..2 {
            clock.advance(Duration::from_millis(500));
            lease.grant(&map, u64::MAX);
            assert_eq!(offset(), TRUE_OFFSET_NS);
        }
        // Back again, and the wall clock is ahead indeed.
        clock.advance(Duration::from_millis(500));
        look(8_500_000_000);
        clock.set_wall_ms(clock.wall_ms() + 30);
        lease.grant(&map, u64::MAX);
        assert_eq!(offset(), TRUE_OFFSET_NS + 30_000_000);
    }

    #[test]
    fn the_first_offset_is_the_best_there_is() {
        let (clock, mut lease) = interrupted(MEASUREMENTS_MAX - 1);
        lease.tell(&clock.map);
        assert_eq!(offset_ns(&clock), TRUE_OFFSET_NS);
        let (clock, mut lease) = interrupted(u32::MAX);
        lease.tell(&clock.map);
        assert_eq!(offset_ns(&clock), TRUE_OFFSET_NS + 50_000_000, "better than none");
    }

    #[test]
    fn the_deadline_is_told_in_device_time_and_what_it_means_is_told_once() {
        let (clock, mut lease) = interrupted(0);
        assert_eq!(lease.poll(), None, "fenced from the begin");
        lease.grant(&clock.map, 7_000_000_000 + 5);
        assert_eq!(port::lease_deadline(&clock.map), 7_000_000_000 + 5);
        assert_eq!((lease.poll(), lease.poll()), (Some(Status::Unfenced), None));
        lease.pause(&clock.map, true);
        assert_eq!((port::lease_deadline(&clock.map), lease.poll()), (0, Some(Status::Fenced)));
        lease.pause(&clock.map, false);
        assert_eq!((port::lease_deadline(&clock.map), lease.poll()), (7_000_000_000 + 5, Some(Status::Unfenced)));
        clock.clock.advance(Duration::from_nanos(5));
        assert_eq!((lease.poll(), lease.poll()), (Some(Status::Fenced), None));
    }
}
