//! When a device that was lost is started again, and when no more.

use std::collections::VecDeque;
use std::time::Duration;

use ringfleet_env::Instant;

/// The pause before the first new start. It doubles with every fault that follows within [`CALM_AFTER`] of the one before.
pub const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
pub const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A device that has run so long starts with the first pause again.
pub const CALM_AFTER: Duration = Duration::from_secs(600);
/// So many faults ...
pub const SUSPECT_FAULTS: usize = 2;
/// ... within this time make a device suspect.
pub const SUSPECT_WITHIN: Duration = Duration::from_secs(60);

/// What is to be done after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again, after a pause.
    Restart {
        /// The pause.
        after: Duration,
    },
    /// Do not use it until somebody says so.
    Suspect,
}

/// The faults of one device, as far as they matter.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    recent: VecDeque<Instant>,
    last: Option<Instant>,
    pause: Duration,
    total: u64,
}

impl Faults {
    /// A fault at this time.
    pub fn fault(&mut self, now: Instant) -> Verdict {
        self.total += 1;
        let calm = self.last.is_none_or(|last| now - last >= CALM_AFTER);
        self.pause = if calm { PAUSE_FIRST } else { (self.pause * 2).min(PAUSE_MAX) };
        self.last = Some(now);
        self.recent.push_back(now);
        // Only as many as decide are kept.
        while self.recent.len() > SUSPECT_FAULTS {
            self.recent.pop_front();
        }
        let all_recent = self.recent.len() == SUSPECT_FAULTS
            && self.recent.front().is_some_and(|first| now - *first < SUSPECT_WITHIN);
        if all_recent { Verdict::Suspect } else { Verdict::Restart { after: self.pause } }
    }

    /// Somebody says that it may be used again. The pause stays: if it fails again, that is no reason to hurry.
    pub fn clear(&mut self) {
        self.recent.clear();
    }

    /// Faults so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_ns(seconds * 1_000_000_000)
    }

    fn pause(ms: u64) -> Verdict {
        Verdict::Restart { after: Duration::from_millis(ms) }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_calm_time() {
        let mut faults = Faults::default();
        let seen: Vec<_> = (0..10).map(|n| faults.fault(at(n * 100))).collect();
        let want = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000].map(pause);
        assert_eq!(seen, want);
        assert_eq!(faults.fault(at(900 + 600)), pause(100));
    }

    #[test]
    fn two_faults_in_a_minute_make_a_device_suspect_until_it_is_cleared() {
        let mut faults = Faults::default();
        assert_eq!(faults.fault(at(0)), pause(100));
        assert_eq!(faults.fault(at(60)), pause(200), "a minute has passed");
        assert_eq!(faults.fault(at(119)), Verdict::Suspect);
        faults.clear();
        assert_eq!(faults.fault(at(120)), pause(800));
        assert_eq!((faults.fault(at(121)), faults.total()), (Verdict::Suspect, 5));
    }
}
