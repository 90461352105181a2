//! `bench device`: what one device does, through the same `trait Device` and the same process that an agent uses.
//!
//! Honest numbers: every throughput is the workers' own counters, checked against the total that has to come out; a round trip holds an
//! answer that a handler made; where there is a GPU, the launch of an empty kernel stands beside them, from the same run.

mod measure;
mod rig;

use serde::Serialize;

pub use measure::{Plan, run};
pub use rig::{BenchError, Rig};

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Actors that took part.
    pub actors: Option<u64>,
    /// Messages, asks or launches that were measured.
    pub count: u64,
    /// Messages a second.
    pub per_second: Option<f64>,
    /// Microseconds that half of them took at most; of a hop, the mean.
    pub p50_us: Option<f64>,
    /// Microseconds that 99 of 100 took at most.
    pub p99_us: Option<f64>,
    /// `ok`, or what does not add up.
    pub check: String,
}

impl Row {
    /// Whether it adds up.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.check == "ok"
    }

    fn rate(what: &str, actors: u64, count: u64, per_second: f64, check: String) -> Self {
        let per_second = Some(per_second);
        Self { what: what.into(), actors: Some(actors), count, per_second, p50_us: None, p99_us: None, check }
    }

    /// Of times in microseconds, in any order.
    #[must_use]
    pub fn times(what: &str, actors: Option<u64>, mut times_us: Vec<f64>, check: String) -> Self {
        times_us.sort_by(f64::total_cmp);
        let at = |part: f64| times_us.get(((times_us.len() as f64 - 1.0) * part).max(0.0) as usize).copied();
        let (p50_us, p99_us) = (at(0.5), at(0.99));
        Self { what: what.into(), actors, count: times_us.len() as u64, per_second: None, p50_us, p99_us, check }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let row = Row::times("x", None, (1..=1000).rev().map(f64::from).collect(), "ok".into());
        assert_eq!((row.count, row.p50_us, row.p99_us, row.is_ok()), (1000, Some(500.0), Some(990.0), true));
        assert_eq!(Row::times("x", None, Vec::new(), "none".into()).p50_us, None);
    }
}
