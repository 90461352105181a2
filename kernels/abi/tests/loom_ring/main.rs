//! Every interleaving, and every reordering that the memory model allows, of the ring and of the clock (C3, C6, C9).
//!
//! The modules below compile `src/ring.rs` and `src/hlc.rs` themselves, once against loom's primitives and twice against
//! primitives with a weakened ordering, which loom must reject. So these are ordinary tests of `cargo test`: they need no
//! `--cfg loom` and no second build of anything.
//!
//! | module | `Release` is | `Acquire` is | |
//! |---|---|---|---|
//! | `strong` | release | acquire | passes |
//! | `weak_release` | relaxed | acquire | must fail |
//! | `weak_acquire` | release | relaxed | must fail |
#![allow(unsafe_code, clippy::duplicate_mod)]

mod cell;
mod strong;
mod weak_acquire;
mod weak_release;

/// What the sources name as `crate::envelope`.
mod envelope {
    pub use ringfleet_abi::envelope::Envelope;
}

/// What the sources name as `crate::limits`.
mod limits {
    pub use ringfleet_abi::limits::{HLC_AHEAD_MS_MAX, LINE_BYTES, RING_SLOTS_MAX};
}

/// Runs `scenario` under every interleaving with at most `preemptions` involuntary switches; all of them if `None`.
fn explore(preemptions: Option<usize>, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(scenario);
}

mod ring {
    use super::{explore, strong, weak_acquire, weak_release};

    #[test]
    fn slots_arrive_whole_and_in_order() {
        explore(None, strong::scenarios::published_one_by_one);
    }

    #[test]
    fn a_batch_becomes_visible_at_once() {
        explore(None, strong::scenarios::published_as_one_batch);
    }

    #[test]
    fn a_slot_is_overwritten_only_after_it_was_read_in_place() {
        explore(None, strong::scenarios::slots_are_reused);
    }

    #[test]
    fn a_full_ring_of_two_slots_loses_nothing_while_its_positions_wrap() {
        explore(Some(3), || strong::scenarios::full_and_wrapping(2, 5, 1));
    }

    #[test]
    fn batches_through_a_full_ring_of_four_slots_lose_nothing_while_its_positions_wrap() {
        explore(Some(2), || strong::scenarios::full_and_wrapping(4, 9, 3));
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn contrast_a_relaxed_publish_is_caught() {
        explore(None, weak_release::scenarios::published_one_by_one);
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn contrast_a_relaxed_poll_is_caught() {
        explore(None, weak_acquire::scenarios::published_one_by_one);
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn contrast_a_relaxed_release_of_slots_is_caught() {
        explore(None, weak_release::scenarios::slots_are_reused);
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn contrast_a_relaxed_look_at_the_head_is_caught() {
        explore(None, weak_acquire::scenarios::slots_are_reused);
    }
}

mod clock {
    use std::sync::Arc;

    use loom::sync::atomic::{AtomicU64, Ordering};
    use loom::thread;

    use super::explore;
    use super::strong::hlc::{Hlc, HlcClock};

    /// Two threads take two stamps each; returns them by thread.
    fn stamps_of_two<C: Send + Sync + 'static>(clock: C, tick: fn(&C, u64) -> u64) -> [[u64; 2]; 2] {
        let clock = Arc::new(clock);
        let other = {
            let clock = clock.clone();
            thread::spawn(move || [tick(&clock, 7), tick(&clock, 6)])
        };
        let mine = [tick(&clock, 6), tick(&clock, 7)];
        [mine, other.join().expect("the other thread")]
    }

    fn assert_unique_and_increasing(stamps: [[u64; 2]; 2]) {
        assert!(stamps.iter().all(|[first, second]| first < second), "a thread's stamps increase: {stamps:?}");
        let mut all = stamps.concat();
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "duplicate stamps: {stamps:?}");
    }

    #[test]
    fn no_stamp_is_given_twice() {
        explore(None, || {
            assert_unique_and_increasing(stamps_of_two(HlcClock::default(), |clock, wall_ms| clock.tick(wall_ms).0));
        });
    }

    #[test]
    fn a_merge_is_after_the_message_and_after_what_happened_before() {
        explore(None, || {
            let clock = Arc::new(HlcClock::default());
            let message = Hlc::from_wall_ms(9);
            let other = {
                let clock = clock.clone();
                thread::spawn(move || clock.merge(message, 5).expect("4 ms ahead"))
            };
            let mine = [clock.tick(5), clock.tick(5)];
            let merged = other.join().expect("the other thread");
            assert!(merged > message && mine[0] < mine[1] && !mine.contains(&merged));
            assert!(clock.tick(5) > merged.max(mine[1]), "a stamp after the join is after both");
        });
    }

    /// A clock with milliseconds and counter in two words: load both, compute, store both.
    #[derive(Default)]
    struct TwoWords {
        ms: AtomicU64,
        counter: AtomicU64,
    }

    impl TwoWords {
        fn tick(&self, wall_ms: u64) -> u64 {
            let (ms, counter) = (self.ms.load(Ordering::SeqCst), self.counter.load(Ordering::SeqCst));
            let (ms, counter) = if wall_ms > ms { (wall_ms, 0) } else { (ms, counter + 1) };
            self.ms.store(ms, Ordering::SeqCst);
            self.counter.store(counter, Ordering::SeqCst);
            (ms << 16) + counter
        }
    }

    #[test]
    #[should_panic(expected = "stamps")]
    fn contrast_a_clock_of_two_words_is_caught() {
        explore(None, || assert_unique_and_increasing(stamps_of_two(TwoWords::default(), TwoWords::tick)));
    }
}
