//! C10 recovery: once faults stop, a leader is there within 2 s, and every shard is placed within lease + 2 s.
//!
//! The time is counted from the moment at which every process runs again, every way is open and no disk ails. A coordinator that
//! reads its log back, and a node that was declared lost and joins anew, do so within this time.
//!
//! The log may say for as long as a lease lasts that a start of a node owns a shard which has ended without a word. So what counts is not
//! the first moment at which every shard has an owner, but the one since when this is so; and a lease is waited for.

use super::Violation;

/// A leader is there so soon.
pub const LEADER_NS: u64 = 2_000_000_000;
/// Beyond the lease, every shard is placed so soon.
pub const PLACED_NS: u64 = 2_000_000_000;

/// The end of the faults, and what came after.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recovery {
    quiet_at_ns: Option<u64>,
    led_at_ns: Option<u64>,
    /// Since when every shard has an owner.
    placed_at_ns: Option<u64>,
    /// Whether every lease of something that had gone before has ended.
    leases_over: bool,
}

impl Recovery {
    /// The faults have ended. `lease_ns` is how long a node that is gone may still hold its shards, its margin included.
    pub fn faults_ended(&mut self, now_ns: u64) {
        *self = Self { quiet_at_ns: Some(now_ns), ..Self::default() };
    }

    /// What is to be seen now. Placement counts only under a leader.
    ///
    /// # Errors
    /// What should have been there by now.
    pub fn see(&mut self, now_ns: u64, led: bool, placed: bool, lease_ns: u64) -> Result<(), Violation> {
        let Some(quiet_at_ns) = self.quiet_at_ns else { return Ok(()) };
        if led && self.led_at_ns.is_none() {
            self.led_at_ns = Some(now_ns);
        }
        let since_ns = now_ns.saturating_sub(quiet_at_ns);
        self.leases_over |= since_ns > lease_ns;
        if led && placed {
            self.placed_at_ns = self.placed_at_ns.or(Some(now_ns));
        } else if led && since_ns <= lease_ns + PLACED_NS {
            self.placed_at_ns = None;
        }
        if self.led_at_ns.is_none() && since_ns > LEADER_NS {
            return Err(format!("C10: no leader {} ms after the last fault", since_ns / 1_000_000));
        }
        if self.placed_at_ns.is_none() && since_ns > lease_ns + PLACED_NS {
            return Err(format!("C10: a shard is not placed {} ms after the last fault", since_ns / 1_000_000));
        }
        Ok(())
    }

    /// Whether all is as it should be.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.placed_at_ns.is_some() && self.leases_over
    }

    /// Milliseconds from the last fault to a leader, and to all shards placed.
    #[must_use]
    pub fn took_ms(&self) -> Option<(u64, u64)> {
        let since = |at_ns: Option<u64>| Some(at_ns?.saturating_sub(self.quiet_at_ns?) / 1_000_000);
        Some((since(self.led_at_ns)?, since(self.placed_at_ns)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: u64 = 1_000_000_000;

    fn check(seen: &[(u64, bool, bool)]) -> Result<bool, Violation> {
        let mut recovery = Recovery::default();
        recovery.faults_ended(10 * LEASE);
        for (at_ms, led, placed) in seen {
            recovery.see(10 * LEASE + at_ms * 1_000_000, *led, *placed, LEASE)?;
        }
        Ok(recovery.is_over())
    }

    #[test]
    fn damaged_histories_are_flagged_and_good_ones_pass() {
        assert!(check(&[(500, false, false), (1900, true, false), (2900, true, true), (9000, true, true)]).unwrap());
        assert!(!check(&[(100, true, true), (900, true, true)]).unwrap(), "an owner may have ended without a word");
        assert!(
            check(&[(100, true, true), (1100, true, false), (3001, true, false)]).unwrap_err().contains("not placed")
        );
        assert!(check(&[(100, true, true), (1100, true, false), (1500, true, true)]).unwrap());
        assert!(check(&[(1000, false, false), (2001, false, false)]).unwrap_err().contains("no leader"));
        assert!(check(&[(1000, true, false), (3001, true, false)]).unwrap_err().contains("not placed"));
        assert!(!check(&[(1000, false, true)]).unwrap(), "placed without a leader is not known to anybody");
    }
}
