//! Which faults actors failed with, counted by what devices report.
//!
//! A device that reports faster than the agent takes it merges (its counter `failures` is exact), so this may be behind that.

use std::collections::BTreeMap;

use ringfleet_abi::ActorId;
use ringfleet_actor::Fault;

/// Faults that are told apart. User codes are whatever actors choose; beyond the bound they count as `other` (C9).
pub const FAULTS_MAX: usize = 256;

/// Failures by fault.
#[derive(Debug, Default)]
pub struct Faults {
    fresh: BTreeMap<u32, u64>,
}

impl Faults {
    /// An actor failed.
    pub fn note(&mut self, actor: ActorId, fault: u32) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let name = Fault::from_code(fault).map_or_else(|| format!("{fault:#x}"), |fault| fault.to_string());
            tracing::debug!(%actor, fault = %name, "an actor has failed");
        }
        count(&mut self.fresh, fault, 1);
    }

    /// Adds what was noted since the last time to the totals.
    pub fn move_to(&mut self, totals: &mut BTreeMap<u32, u64>) {
        while let Some((fault, failures)) = self.fresh.pop_first() {
            count(totals, fault, failures);
        }
    }
}

fn count(totals: &mut BTreeMap<u32, u64>, fault: u32, failures: u64) {
    let known = totals.contains_key(&fault) || totals.len() < FAULTS_MAX;
    *totals.entry(if known { fault } else { OTHER }).or_default() += failures;
}

/// Not a fault's code: those that are not told apart.
const OTHER: u32 = u32::MAX;

/// The word for a code that was counted.
#[must_use]
pub fn name(fault: u32) -> String {
    Fault::from_code(fault).map_or_else(|| "other".to_owned(), |fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use ringfleet_abi::SetId;

    use super::*;

    #[test]
    fn user_codes_are_told_apart_up_to_the_bound() {
        let (mut faults, mut totals) = (Faults::default(), BTreeMap::new());
        for code in 0..1000_u16 {
            faults.note(ActorId::new(SetId(1), 1), Fault::User(code).code());
            faults.note(ActorId::new(SetId(1), 1), Fault::Overflow.code());
        }
        faults.move_to(&mut totals);
        faults.note(ActorId::new(SetId(1), 1), Fault::User(7).code());
        faults.move_to(&mut totals);
        assert!(totals.len() <= FAULTS_MAX + 1, "C9");
        assert_eq!(totals.values().sum::<u64>(), 2001);
        assert_eq!((totals[&Fault::Overflow.code()], totals[&Fault::User(7).code()]), (1000, 2));
        let names: Vec<String> = totals.keys().map(|&fault| name(fault)).collect();
        assert!(["overflow", "user:7", "other"].iter().all(|name| names.iter().any(|is| is == name)), "{names:?}");
    }
}
