//! The clocks of a host: a monotonic one that runs at a rate of its own, and a wall clock that is off and may jump.

use std::sync::{Arc, Mutex};

use ringfleet_env::{Clock, Instant};

use crate::exec::{Core, lock};

/// Wall time at the start of a run: milliseconds since 1970.
pub const WALL_START_MS: u64 = 1_900_000_000_000;

#[derive(Debug, Clone, Copy)]
struct State {
    /// A virtual time and the host's monotonic time at it.
    base_ns: u64,
    base_monotonic_ns: u64,
    /// How much faster than virtual time it runs, in parts per million.
    rate_ppm: i64,
    wall_offset_ms: i64,
}

/// The clocks of one host. They live as long as the machine: a restart of the process does not change them.
#[derive(Debug)]
pub struct HostClock {
    core: Arc<Core>,
    state: Mutex<State>,
}

const MILLION: i128 = 1_000_000;

impl HostClock {
    /// Clocks that show `monotonic_ns` and a wall time `wall_offset_ms` beside the true one.
    #[must_use]
    pub fn new(core: Arc<Core>, monotonic_ns: u64, rate_ppm: i64, wall_offset_ms: i64) -> Self {
        let base_ns = core.now_ns();
        let state = State { base_ns, base_monotonic_ns: monotonic_ns, rate_ppm, wall_offset_ms };
        Self { core, state: Mutex::new(state) }
    }

    /// Runs at another rate from now on.
    pub fn set_rate(&self, rate_ppm: i64) {
        let now_ns = self.core.now_ns();
        let mut state = lock(&self.state);
        state.base_monotonic_ns = state.at(now_ns);
        state.base_ns = now_ns;
        state.rate_ppm = rate_ppm;
    }

    /// The wall clock jumps to this distance from true time.
    pub fn set_wall_offset_ms(&self, offset_ms: i64) {
        lock(&self.state).wall_offset_ms = offset_ms;
    }

    /// The virtual time at which the monotonic clock will show `deadline` if its rate stays as it is.
    #[must_use]
    pub fn reaches_at_ns(&self, deadline: Instant) -> u64 {
        let state = *lock(&self.state);
        let ahead = i128::from(deadline.as_ns()) - i128::from(state.base_monotonic_ns);
        let rate = MILLION + i128::from(state.rate_ppm);
        let wait = (ahead * MILLION + rate - 1).div_euclid(rate);
        u64::try_from(i128::from(state.base_ns) + wait.max(0)).unwrap_or(u64::MAX)
    }
}

impl State {
    fn at(&self, now_ns: u64) -> u64 {
        let elapsed = i128::from(now_ns - self.base_ns);
        let own = elapsed * (MILLION + i128::from(self.rate_ppm)) / MILLION;
        self.base_monotonic_ns + own as u64
    }
}

impl Clock for HostClock {
    fn monotonic_ns(&self) -> u64 {
        lock(&self.state).at(self.core.now_ns())
    }

    fn wall_ms(&self) -> u64 {
        let offset = lock(&self.state).wall_offset_ms;
        (WALL_START_MS + self.core.now_ns() / 1_000_000).saturating_add_signed(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_with_a_rate_reaches_its_deadline_when_it_says() {
        let core = Core::new(1);
        for rate in [-5000, 0, 5000] {
            let clock = HostClock::new(core.clone(), 77, rate, -20);
            let deadline = Instant::from_ns(10_000_000_077);
            let at_ns = clock.reaches_at_ns(deadline);
            let state = *lock(&clock.state);
            assert!(state.at(at_ns) >= deadline.as_ns());
            assert!(state.at(at_ns - 2) < deadline.as_ns());
            assert_eq!(clock.wall_ms(), WALL_START_MS - 20);
        }
    }
}
