//! Hybrid logical clocks (Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical Physical Clocks", 2014), packed.
//!
//! C6. A stamp is 64 bits: 48 bits of milliseconds since 1970, 16 bits of logical counter. Packed so, the paper's
//! algorithm is one expression: the next stamp is `max(last, message, wall << 16) + 1`; a counter that overflows
//! carries into the milliseconds, which keeps the order and runs at most `ticks / 65,536` ms ahead of the wall.
//!
//! [`HlcClock`] holds its last stamp in one 64-bit word and advances it by one compare-and-swap, so a reader never sees
//! milliseconds of one stamp with the counter of another, and no two calls ever return the same stamp.

use core::fmt;

use super::sync::{AtomicU64, Ordering};
use crate::limits::HLC_AHEAD_MS_MAX;

/// A stamp of a hybrid logical clock. Ordered as happens-before orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Hlc(pub u64);

/// Bits of the logical counter.
pub const COUNTER_BITS: u32 = 16;

impl Hlc {
    /// The stamp before all others.
    pub const ZERO: Hlc = Hlc(0);

    /// The first stamp of a millisecond since 1970. Milliseconds beyond 48 bits (the year 10889) saturate.
    #[must_use]
    #[inline]
    pub const fn from_wall_ms(wall_ms: u64) -> Self {
        const MS_MAX: u64 = u64::MAX >> COUNTER_BITS;
        let ms = if wall_ms > MS_MAX { MS_MAX } else { wall_ms };
        Hlc(ms << COUNTER_BITS)
    }

    /// Milliseconds since 1970.
    #[must_use]
    #[inline]
    pub const fn wall_ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The logical counter within the millisecond.
    #[must_use]
    #[inline]
    pub const fn counter(self) -> u16 {
        self.0 as u16
    }

    /// The stamp of an event that follows `self` and `message` and happens at `now`: `max(self, message, now) + 1`.
    #[must_use]
    #[inline]
    pub const fn after(self, message: Hlc, now: Hlc) -> Hlc {
        let mut last = self.0;
        if message.0 > last {
            last = message.0;
        }
        if now.0 > last {
            last = now.0;
        }
        Hlc(last.saturating_add(1))
    }

    /// The k-th stamp after this one. A handler's k-th send carries its handling stamp + k.
    #[must_use]
    #[inline]
    pub const fn plus(self, k: u64) -> Hlc {
        Hlc(self.0.saturating_add(k))
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall_ms(), self.counter())
    }
}

/// Why a stamp was not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HlcError {
    /// The stamp is further ahead of the local wall clock than [`HLC_AHEAD_MS_MAX`] allows.
    Ahead {
        /// How far, in milliseconds.
        by_ms: u64,
    },
}

impl fmt::Display for HlcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HlcError::Ahead { by_ms } = self;
        write!(f, "the stamp is {by_ms} ms ahead of the local clock, {HLC_AHEAD_MS_MAX} ms are allowed")
    }
}

impl core::error::Error for HlcError {}

/// Refuses a stamp that is too far ahead of the wall (C6).
///
/// # Errors
/// [`HlcError::Ahead`] if `stamp` is more than [`HLC_AHEAD_MS_MAX`] ahead of `wall_ms`.
#[inline]
pub const fn check_ahead(stamp: Hlc, wall_ms: u64) -> Result<(), HlcError> {
    let ahead = stamp.wall_ms().saturating_sub(wall_ms);
    if ahead > HLC_AHEAD_MS_MAX { Err(HlcError::Ahead { by_ms: ahead }) } else { Ok(()) }
}

/// A clock that many threads share.
#[derive(Debug)]
pub struct HlcClock {
    last: AtomicU64,
}

impl Default for HlcClock {
    fn default() -> Self {
        Self::new(Hlc::ZERO)
    }
}

impl HlcClock {
    /// A clock whose next stamp is after `floor`.
    #[must_use]
    pub fn new(floor: Hlc) -> Self {
        Self { last: AtomicU64::new(floor.0) }
    }

    /// The stamp of a local event at `wall_ms`. Unique and greater than every stamp returned before.
    ///
    /// # Panics
    /// If the clock has reached the last stamp there is (the year 10889, or a floor or wall clock that is nonsense): another one
    /// would not be unique.
    pub fn tick(&self, wall_ms: u64) -> Hlc {
        self.advance(Hlc::ZERO, wall_ms)
    }

    /// The stamp of receiving `message` at `wall_ms`: after it, and after every stamp returned before.
    ///
    /// # Errors
    /// [`HlcError::Ahead`] if the message's stamp is too far ahead; the clock has not moved then.
    ///
    /// # Panics
    /// As [`HlcClock::tick`].
    pub fn merge(&self, message: Hlc, wall_ms: u64) -> Result<Hlc, HlcError> {
        check_ahead(message, wall_ms)?;
        Ok(self.advance(message, wall_ms))
    }

    /// The last stamp returned.
    pub fn last(&self) -> Hlc {
        // Relaxed: the word is the whole value, nothing else is published through it.
        Hlc(self.last.load(Ordering::Relaxed))
    }

    fn advance(&self, message: Hlc, wall_ms: u64) -> Hlc {
        let now = Hlc::from_wall_ms(wall_ms);
        let mut seen = self.last.load(Ordering::Relaxed);
        loop {
            let next = Hlc(seen).after(message, now);
            assert!(next.0 > seen, "C6: the clock stands at its last stamp {seen:#x}");
            // Relaxed suffices: all stamps of one clock are ordered by the modification order of this one word. The loop is
            // lock-free: a failed exchange means that another caller got its stamp.
            match self.last.compare_exchange_weak(seen, next.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return next,
                Err(current) => seen = current,
            }
        }
    }
}
