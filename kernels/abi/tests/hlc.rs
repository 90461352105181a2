//! C6: stamps are unique, increase, follow what was merged, and stay near the wall, whatever the wall clock does.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use proptest::prelude::*;
use ringfleet_abi::hash::mix64;
use ringfleet_abi::limits::HLC_AHEAD_MS_MAX;
use ringfleet_abi::{Hlc, HlcClock, HlcError};

const THREADS: u64 = 4;
const TICKS: u64 = 100_000;
const START_MS: u64 = 1_700_000_000_000;

#[test]
fn a_full_counter_carries_into_the_milliseconds() {
    let last = Hlc(Hlc::from_wall_ms(10).0 | 0xFFFF);
    let next = last.after(Hlc::ZERO, Hlc::from_wall_ms(10));
    assert_eq!((next.wall_ms(), next.counter()), (11, 0));
}

#[test]
fn a_stamp_from_the_future_is_refused_and_not_merged() {
    let clock = HlcClock::default();
    let before = clock.tick(1_000);
    let ahead = Hlc::from_wall_ms(1_000 + HLC_AHEAD_MS_MAX + 1);
    assert_eq!(clock.merge(ahead, 1_000), Err(HlcError::Ahead { by_ms: HLC_AHEAD_MS_MAX + 1 }));
    assert_eq!(clock.last(), before);
    let allowed = Hlc::from_wall_ms(1_000 + HLC_AHEAD_MS_MAX);
    assert!(clock.merge(allowed, 1_000).expect("within the bound") > allowed);
}

#[test]
fn a_wall_clock_that_goes_back_does_not_take_the_stamps_back() {
    let clock = HlcClock::default();
    let first = clock.tick(5_000);
    assert!(clock.tick(4_000) > first);
}

#[test]
#[should_panic(expected = "C6")]
fn a_clock_at_its_last_stamp_stops_rather_than_give_it_twice() {
    let clock = HlcClock::new(Hlc(u64::MAX - 1));
    assert_eq!(clock.tick(0), Hlc(u64::MAX));
    clock.tick(0);
}

/// Runs `work(thread)` on all threads at once and returns what each gave.
fn on_all_threads<T: Send>(work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(THREADS as usize);
    let run = |thread| {
        start.wait();
        work(thread)
    };
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread fails")).collect()
    })
}

fn duplicates(stamps: &[Vec<u64>]) -> usize {
    let mut all = stamps.concat();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    count - all.len()
}

/// The wall clock as one thread sees it at its `n`-th look: within `jump_ms` of a slowly advancing time.
fn jumping_wall_ms(seed: u64, thread: u64, n: u64, jump_ms: u64) -> u64 {
    START_MS + n / 1_000 + mix64(seed ^ mix64(thread << 32 | n)) % (jump_ms + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn threads_share_a_clock_and_no_stamp_is_given_twice(seed: u64, jump_ms in 0u64..2_000, merge_percent in 0u64..100) {
        let clock = HlcClock::new(Hlc::from_wall_ms(START_MS));
        let latest_wall_ms = START_MS + TICKS / 1_000 + jump_ms;
        let stamps = on_all_threads(|thread| {
            let mut last = Hlc::ZERO;
            let mut stamps = Vec::with_capacity(TICKS as usize);
            for n in 0..TICKS {
                let dice = mix64(seed.wrapping_add(mix64(n << 8 | thread)));
                let wall_ms = jumping_wall_ms(seed, thread, n, jump_ms);
                let stamp = if dice % 100 < merge_percent {
                    // From 150 ms behind to 20 ms beyond what is allowed.
                    let message = Hlc(Hlc::from_wall_ms(wall_ms - 150 + (dice >> 8) % 421).0 | (dice >> 48));
                    match clock.merge(message, wall_ms) {
                        Ok(stamp) => {
                            assert!(stamp > message, "C6: {stamp} is behind the merged {message}");
                            stamp
                        }
                        Err(HlcError::Ahead { by_ms }) => {
                            assert!(by_ms > HLC_AHEAD_MS_MAX && message.wall_ms() == wall_ms + by_ms);
                            continue;
                        }
                    }
                } else {
                    clock.tick(wall_ms)
                };
                assert!(stamp > last, "C6: {stamp} after {last}");
                last = stamp;
                stamps.push(stamp.0);
            }
            stamps
        });
        let given: usize = stamps.iter().map(Vec::len).sum();
        prop_assert_eq!(duplicates(&stamps), 0);
        // The first merged message of the last allowed millisecond may carry a full counter; every stamp adds one tick.
        let bound = Hlc(Hlc::from_wall_ms(latest_wall_ms + HLC_AHEAD_MS_MAX).0 + u64::from(u16::MAX) + given as u64);
        prop_assert!(clock.last() <= bound, "{} is beyond {}", clock.last(), bound);
        prop_assert_eq!(clock.last().0, stamps.concat().into_iter().max().unwrap_or(0));
    }
}

/// The algorithm of a clock that keeps milliseconds and counter in two words: load, compute, store.
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
fn contrast_the_same_threads_find_duplicates_of_a_clock_of_two_words() {
    let tick_all = |clock: &TwoWords, round, thread| -> Vec<u64> {
        (0..TICKS).map(|n| clock.tick(jumping_wall_ms(round, thread, n, 0))).collect()
    };
    let clock = TwoWords::default();
    let one_after_the_other: Vec<_> = (0..THREADS).map(|thread| tick_all(&clock, 0, thread)).collect();
    assert_eq!(duplicates(&one_after_the_other), 0, "only the race makes duplicates");
    // One round nearly always shows thousands; more are allowed for a machine that runs the threads one after the other.
    let found = (0..50).map(|round| {
        let clock = TwoWords::default();
        duplicates(&on_all_threads(|thread| tick_all(&clock, round, thread)))
    });
    let found = found.into_iter().find(|found| *found > 0);
    assert!(found.is_some(), "the test would not notice a clock that gives stamps twice");
    eprintln!("{found:?} duplicates in {} ticks of a clock of two words", THREADS * TICKS);
}
