//! The time as an argument.

/// One reading of both clocks, taken once per batch of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of the monotonic clock, which is also the clock of the devices.
    pub mono_ns: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

impl Now {
    /// This reading of both clocks.
    #[must_use]
    pub const fn new(mono_ns: u64, wall_ms: u64) -> Self {
        Self { mono_ns, wall_ms }
    }
}

/// Nanoseconds of a millisecond.
pub const NS_PER_MS: u64 = 1_000_000;
