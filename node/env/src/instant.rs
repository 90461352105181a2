//! A point in the monotonic time of an [`Env`](crate::Env).

use std::{
    fmt,
    ops::{Add, AddAssign, Sub},
    time::Duration,
};

/// A point in monotonic time: nanoseconds since an origin that all processes of one host share.
///
/// Unlike `std::time::Instant` it can be made from a number, so that pure code can be driven with
/// any time, and can be stored in a shared page. All arithmetic saturates: a deadline too far away
/// to be represented is [`Instant::FAR_FUTURE`], and a time before the origin is the origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The origin of time.
    pub const ZERO: Self = Self(0);
    /// Later than every time that will be seen: the deadline of something that has none.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The instant `ns` nanoseconds after the origin.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the origin.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// How much later this instant is than `earlier`; zero when it is not later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// How much later this instant is than `earlier`; `None` when it is earlier.
    pub const fn checked_since(self, earlier: Self) -> Option<Duration> {
        match self.0.checked_sub(earlier.0) {
            Some(ns) => Some(Duration::from_nanos(ns)),
            None => None,
        }
    }
}

/// Nanoseconds of a duration, the largest number where it does not fit (584 years).
fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_ns(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_ns(duration)))
    }
}

impl Sub for Instant {
    type Output = Duration;
    /// The same as [`Instant::saturating_since`].
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ns) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        write!(f, "{seconds}.{ns:09}s")
    }
}

/// A `std::time::Instant` to count from, for libraries that insist on that type.
///
/// Only differences to it may be used: such an adapter maps an [`Instant`] `t` to
/// `std_epoch() + (t - start)`, where both are taken once. It says nothing about what time it is.
#[allow(clippy::disallowed_methods)]
pub fn std_epoch() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let t = Instant::from_ns(1_500_000_000);
        assert_eq!((t + Duration::from_millis(500)).as_ns(), 2_000_000_000);
        assert_eq!(t - Duration::from_secs(2), Instant::ZERO);
        assert_eq!(t + Duration::MAX, Instant::FAR_FUTURE);
        assert_eq!(Instant::ZERO - t, Duration::ZERO);
        assert_eq!(t - Instant::ZERO, Duration::from_millis(1500));
        assert_eq!(Instant::ZERO.checked_since(t), None);
        assert_eq!(format!("{t:?}"), "1.500000000s");
    }
}
