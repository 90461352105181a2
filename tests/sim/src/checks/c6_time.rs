//! C6 time: happens-before implies a smaller stamp, no actor sees its stamps go back, and no stamp is far ahead of real time.
//!
//! Happens-before is known here without clocks: a message is sent before it is handled; what a relay handled happened before
//! what its sink did with the message that it handed on; and the handlings of one actor follow each other, also across nodes, as the
//! predecessor has ended before its successor begins (C2).

use std::collections::BTreeMap;

use super::Violation;
use crate::actors::{Handling, Hop};

/// How far a stamp may be ahead of the true time: what a clock may be off, and what is accepted beyond it.
pub const AHEAD_MS: u64 = 100 + 250;

/// Stamps seen so far.
#[derive(Debug, Default)]
pub struct Time {
    last: BTreeMap<(Hop, u64), u64>,
}

impl Time {
    /// A handler has run; `true_ms` is true wall time.
    ///
    /// # Errors
    /// What broke.
    pub fn handle(&mut self, handling: &Handling, true_ms: u64) -> Result<(), Violation> {
        let Handling { hop, key, sent_at, handled_at, relayed_at, .. } = *handling;
        if handled_at <= sent_at {
            return Err(format!("C6: {hop:?} {key} handled at {handled_at:#x} what was sent at {sent_at:#x}"));
        }
        if let Some(relayed_at) = relayed_at
            && handled_at <= relayed_at
        {
            return Err(format!(
                "C6: {hop:?} {key} handled at {handled_at:#x} what a relay handled at {relayed_at:#x}"
            ));
        }
        let last = self.last.insert((hop, key), handled_at).unwrap_or(0);
        if handled_at <= last {
            return Err(format!("C6: {hop:?} {key} went back from {last:#x} to {handled_at:#x}"));
        }
        if handled_at >> 16 > true_ms + AHEAD_MS {
            let ahead = (handled_at >> 16) - true_ms;
            return Err(format!("C6: {hop:?} {key} has a stamp {ahead} ms ahead of true time"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::HostId;

    fn at(sent_at: u64, handled_at: u64, relayed_at: Option<u64>) -> Handling {
        let (hop, key, host) = (Hop::Sink, 1, HostId(65));
        let stamp = |ms: u64| ms << 16;
        let relayed_at = relayed_at.map(stamp);
        Handling {
            hop,
            key,
            host,
            task: 1,
            sent_at: stamp(sent_at),
            handled_at: stamp(handled_at),
            of: None,
            relayed_at,
        }
    }

    fn check(history: &[Handling]) -> Result<(), Violation> {
        let mut time = Time::default();
        history.iter().try_for_each(|handling| time.handle(handling, 1000))
    }

    #[test]
    fn damaged_histories_are_flagged_and_good_ones_pass() {
        check(&[at(900, 901, Some(899)), at(890, 902, None), at(1, 1300, None)]).unwrap();
        assert!(check(&[at(900, 900, None)]).unwrap_err().contains("was sent"));
        assert!(check(&[at(900, 901, Some(901))]).unwrap_err().contains("a relay handled"));
        assert!(check(&[at(900, 901, None), at(890, 901, None)]).unwrap_err().contains("went back"));
        assert!(check(&[at(900, 1400, None)]).unwrap_err().contains("ahead of true time"));
    }
}
