//! Measuring one clock against another, as NTP does (C6).
//!
//! ```text
//!   node         sent_wall -----------------------------------> now           round trip by the node's monotonic clock
//!                     \                                     /
//!   coordinator        `--> ClockReading.wall ... held ----'                   held by the coordinator's monotonic clock
//! ```
//! When `sent_wall` was read and when `wall` was read lie apart by 0 to (round trip - held). So half of that is added, and half of
//! that, and two milliseconds because whole ones are read and halved, is how wrong the result can be. The node's monotonic clock
//! is read before its wall clock, and the coordinator's after: a thread that is held up between the two readings makes the error
//! bound larger, never the result wrong.

wire! {
    /// A coordinator's wall clock at a moment between the arrival of a request and its answer.
    #[derive(Copy)]
    pub struct ClockReading {
        /// Whose: its number in the Raft group.
        pub coordinator: u64,
        /// What it showed, ms since 1970.
        pub wall_ms: u64,
        /// How long ago that was when the answer left.
        pub held_us: u64,
    }
}

wire! {
    /// One measurement of a clock against a coordinator's.
    #[derive(Copy)]
    pub struct ClockSample {
        /// Against whose.
        pub coordinator: u64,
        /// Counts the measurements of one incarnation, so that none is counted twice.
        pub number: u64,
        /// The own clock minus the coordinator's.
        pub offset_ms: i64,
        /// How far the truth is from that, at most.
        pub error_ms: u32,
    }
}

impl ClockSample {
    /// What `reading` says of a clock that showed `sent_wall_ms` when the question left, and got the answer `round_trip_us` later.
    #[must_use]
    pub fn measure(number: u64, reading: ClockReading, sent_wall_ms: u64, round_trip_us: u64) -> Self {
        let on_the_way_us = round_trip_us.saturating_sub(reading.held_us);
        let half_ms = i64::try_from(on_the_way_us / 2_000).unwrap_or(i64::MAX / 4);
        // Offsets beyond a quarter of the range say the same as a quarter of it.
        let apart = i128::from(sent_wall_ms) - i128::from(reading.wall_ms);
        let apart = i64::try_from(apart).unwrap_or(i64::MAX).clamp(i64::MIN / 4, i64::MAX / 4);
        let error_ms = u32::try_from(on_the_way_us.div_ceil(2_000)).unwrap_or(u32::MAX).saturating_add(2);
        Self { coordinator: reading.coordinator, number, offset_ms: apart + half_ms, error_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_true_offset_lies_within_the_error_bound(
            true_us in 1_000_000_000u64..2_000_000_000,
            node_ahead_us in -900_000i64..900_000,
            there_us in 0u64..400_000,
            before_reading_us in 0u64..100_000,
            held_us in 0u64..100_000,
            back_us in 0u64..400_000,
            late_monotonic_us in 0u64..50_000,
        ) {
            let wall = |us: u64, ahead: i64| us.saturating_add_signed(ahead) / 1000;
            let sent_wall_ms = wall(true_us, node_ahead_us);
            let read_at = true_us + there_us + before_reading_us;
            let reading = ClockReading { coordinator: 1, wall_ms: wall(read_at, 0), held_us };
            // The monotonic clock was read before the wall clock, perhaps long before.
            let round_trip_us = late_monotonic_us + there_us + before_reading_us + held_us + back_us;
            let sample = ClockSample::measure(1, reading, sent_wall_ms, round_trip_us);
            let wrong_us = (sample.offset_ms * 1000 - node_ahead_us).abs();
            prop_assert!(wrong_us <= i64::from(sample.error_ms) * 1000, "{sample:?} for {node_ahead_us} us");
        }

        #[test]
        fn no_reading_overflows(wall_ms: u64, sent_wall_ms: u64, held_us: u64, round_trip_us: u64) {
            let sample = ClockSample::measure(1, ClockReading { coordinator: 1, wall_ms, held_us }, sent_wall_ms, round_trip_us);
            prop_assert!(sample.offset_ms.checked_abs().is_some() && sample.error_ms > 0);
        }
    }
}
