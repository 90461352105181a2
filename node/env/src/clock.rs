//! Clocks: the machine's, and one that tests set by hand.

use std::{
    fmt::Debug,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::Instant;

/// A source of monotonic and wall time.
///
/// Reading it must be cheap and must not block: device threads read it once per round.
pub trait Clock: Send + Sync + Debug {
    /// Nanoseconds since an origin that all processes of one host share; never goes back, and goes
    /// on while the machine is suspended (a lease must not outlive a suspension, C2).
    fn monotonic_ns(&self) -> u64;

    /// Milliseconds since 1970; may jump either way. Only the HLC (C6), logs and certificates use it.
    fn wall_ms(&self) -> u64;

    /// [`Clock::monotonic_ns`] as an [`Instant`].
    fn now(&self) -> Instant {
        Instant::from_ns(self.monotonic_ns())
    }
}

/// The clock of the machine: `CLOCK_BOOTTIME` and `CLOCK_REALTIME`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn monotonic_ns(&self) -> u64 {
        // CLOCK_MONOTONIC stands still in a suspended machine: it would come back believing in a
        // lease that the cluster has long given up.
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // The kernel counts from its start, so neither field is ever negative.
        t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
    }

    #[allow(clippy::disallowed_methods)]
    fn wall_ms(&self) -> u64 {
        // A clock set to before 1970 reads as 1970: the HLC refuses such a node anyway (C6).
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug, Default)]
pub struct ManualClock {
    monotonic_ns: AtomicU64,
    wall_ms: AtomicU64,
}

impl ManualClock {
    /// A clock that shows the given times.
    pub const fn new(monotonic_ns: u64, wall_ms: u64) -> Self {
        Self { monotonic_ns: AtomicU64::new(monotonic_ns), wall_ms: AtomicU64::new(wall_ms) }
    }

    /// Moves both times forward. Concurrent calls add up.
    pub fn advance(&self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let before = self.monotonic_ns.fetch_add(ns, Ordering::SeqCst);
        // Whole milliseconds of wall time that this step crosses, so that many small steps add up.
        let ms = (before.wrapping_add(ns) / 1_000_000).saturating_sub(before / 1_000_000);
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the monotonic time. Setting it back is a mistake of the test and panics.
    pub fn set_monotonic_ns(&self, ns: u64) {
        let before = self.monotonic_ns.swap(ns, Ordering::SeqCst);
        assert!(before <= ns, "monotonic time set back from {before} to {ns}");
    }

    /// Sets the wall time, which may jump either way.
    pub fn set_wall_ms(&self, ms: u64) {
        self.wall_ms.store(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.load(Ordering::SeqCst)
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_time_goes_forward() {
        let clock = SystemClock;
        let first = clock.now();
        assert!(first.as_ns() > 0);
        assert!(clock.now() >= first);
        assert!(clock.wall_ms() > 1_600_000_000_000, "after 2020");
    }

    #[test]
    fn manual_time_moves_only_by_hand_and_loses_no_part_of_a_millisecond() {
        let clock = ManualClock::new(0, 5_000);
        for _ in 0..10 {
            clock.advance(Duration::from_micros(250));
        }
        assert_eq!(clock.monotonic_ns(), 2_500_000);
        assert_eq!(clock.wall_ms(), 5_002);
        clock.set_wall_ms(1);
        clock.set_monotonic_ns(3_000_000);
        assert_eq!((clock.wall_ms(), clock.now()), (1, Instant::from_ns(3_000_000)));
    }

    #[test]
    #[should_panic(expected = "monotonic time set back")]
    fn manual_monotonic_time_cannot_go_back() {
        ManualClock::new(10, 0).set_monotonic_ns(9);
    }
}
