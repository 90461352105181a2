//! Whose clock is off (C6): the leader's memory of clocks, and when a node is to be quarantined or let go.
//!
//! ```text
//!   voices: the leader's own clock (0), the other coordinators', every live node's      offsets against the leader's clock
//!        |  fresh, and measured well (CLOCK_ERROR_MS_MAX)
//!        v
//!   median = the cluster's time, if at least VOICES_MIN voices were heard and more than half of them are within
//!            CLOCK_OFFSET_MS_MAX of it; otherwise nobody knows the time, and nobody is judged
//!        v
//!   a node is out of bounds:  |offset - median| - its error > CLOCK_OFFSET_MS_MAX
//!            back:            |offset - median| - its error <= half of that
//!   CLOCK_STRIKES measurements in a row of the one kind: quarantine; of the other: let go; anything else begins anew
//! ```
//!
//! **The leader's clock is one voice.** If it is wrong, the median is not, so nobody is quarantined for it; the leader reports itself
//! ([`ClockTable::own_offset_ms`]) and goes on leading, because nothing else that it does depends on its wall clock: leases are
//! counted on monotonic ones.
//!
//! When the leader's clock is set, everything that was measured against it before would be wrong by as much, for as long as it counts: right
//! clocks that are measured anew would be taken for wrong ones, and their nodes not be let in. So the leader looks at its own wall clock beside
//! its monotonic one before it hears or judges anybody, and moves what it remembers along ([`ClockTable::look_at_own`]). Less than
//! `SET_MS_MIN` is no setting: both clocks are read one behind the other and counted in whole milliseconds, and while a clock is slewed all
//! others are measured anew before it has come so far.
//!
//! **What the bound says.** A clock that is let be is off by at most `CLOCK_OFFSET_MS_MAX + CLOCK_ERROR_MS_MAX`, so two of them
//! differ by at most what a stamp may be ahead (the const assert beside the limits). While a clock goes wrong there is a delay of
//! `CLOCK_STRIKES` renewals: in that time its stamps are refused and counted where they are too far ahead, never merged.
//!
//! **Who is not judged.** In a cluster of fewer than [`VOICES_MIN`] clocks, say one coordinator and one node, two clocks that differ do
//! not say which of them is wrong. A clock that is only reachable over more than `2 * CLOCK_ERROR_MS_MAX` of round trip is judged with
//! its error subtracted: it may be off by that much more.

use ringfleet_proto::control::ClockSample;
use ringfleet_proto::control::limits::{CLOCK_ERROR_MS_MAX, CLOCK_OFFSET_MS_MAX, CLOCK_STRIKES};
use std::collections::BTreeMap;

/// Voices that it takes to know the time: with two that differ nobody could say which is wrong.
pub const VOICES_MIN: usize = 3;
/// How long a voice counts after it was heard.
pub const VOICE_FRESH_MS: u64 = 10_000;

/// The leader's wall clock was set if it has moved by as much against the monotonic one.
const SET_MS_MIN: u64 = 10;

const LIMIT_MS: i64 = CLOCK_OFFSET_MS_MAX as i64;

/// What is known of one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clock {
    sample: ClockSample,
    heard_ns: u64,
    /// Measurements in a row that were out of bounds.
    out: u32,
    /// Measurements in a row that were well within.
    back: u32,
}

/// How far a node's clock is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    /// The node's clock minus the cluster's; minus the leader's while nobody knows the time.
    pub offset_ms: i64,
    /// How wrong that may be; 0: not measured.
    pub error_ms: u32,
}

impl std::fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = if self.offset_ms < 0 { "behind" } else { "ahead of" };
        write!(f, "{} ms (give or take {}) {side} the cluster's", self.offset_ms.unsigned_abs(), self.error_ms)
    }
}

/// What the leader wants the log to say of an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Quarantine it.
    Quarantine {
        /// The incarnation.
        incarnation: u64,
        /// Its clock minus the cluster's.
        offset_ms: i64,
    },
    /// Let it go.
    LetGo {
        /// The incarnation.
        incarnation: u64,
    },
}

/// The clocks that one leader in one term has heard of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClockTable {
    /// By number in the Raft group, the leader's own not among them.
    coordinators: BTreeMap<u64, Clock>,
    /// By incarnation.
    nodes: BTreeMap<u64, Clock>,
    /// The leader's wall clock minus its monotonic one, ms, when it was looked at last. All offsets above are against that.
    own_base_ms: Option<i64>,
}

impl ClockTable {
    /// The leader's own clocks, read now: if its wall clock was set since the last look, what was measured against it moves along. A
    /// measurement that is under way meanwhile is wrong by as much; it is one, and [`CLOCK_STRIKES`] convict.
    pub fn look_at_own(&mut self, wall_ms: u64, now_ns: u64) {
        let base_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(now_ns / 1_000_000);
        let Some(before_ms) = self.own_base_ms.replace(base_ms) else { return };
        let set_by_ms = base_ms.saturating_sub(before_ms);
        if set_by_ms.unsigned_abs() < SET_MS_MIN {
            return;
        }
        for clock in self.coordinators.values_mut().chain(self.nodes.values_mut()) {
            clock.sample.offset_ms = clock.sample.offset_ms.saturating_sub(set_by_ms);
        }
    }

    /// Another coordinator's clock was measured.
    pub fn hear_coordinator(&mut self, coordinator: u64, sample: ClockSample, now_ns: u64) {
        self.coordinators.insert(coordinator, Clock { sample, heard_ns: now_ns, out: 0, back: 0 });
    }

    /// A live node has measured its clock against this leader's. A measurement that was heard already counts for nothing.
    pub fn hear_node(&mut self, incarnation: u64, sample: ClockSample, now_ns: u64) {
        let before = self.nodes.get(&incarnation).copied();
        if before.is_some_and(|clock| clock.sample.number >= sample.number) {
            return;
        }
        let (out, back) = before.map_or((0, 0), |clock| (clock.out, clock.back));
        self.nodes.insert(incarnation, Clock { sample, heard_ns: now_ns, out, back });
        let Some(median) = self.median_ms(now_ns) else { return };
        let beyond = sample.offset_ms.saturating_sub(median).saturating_abs() - i64::from(sample.error_ms);
        if let Some(clock) = self.nodes.get_mut(&incarnation) {
            clock.out = if beyond > LIMIT_MS { clock.out.saturating_add(1) } else { 0 };
            clock.back = if beyond <= LIMIT_MS / 2 { clock.back.saturating_add(1) } else { 0 };
        }
    }

    /// Forgets incarnations that are not alive.
    pub fn retain(&mut self, alive: impl Fn(u64) -> bool) {
        self.nodes.retain(|incarnation, _| alive(*incarnation));
    }

    /// Offsets of everybody who was heard well and lately, the leader's own included.
    fn voices(&self, now_ns: u64) -> Vec<i64> {
        let fresh_ns = VOICE_FRESH_MS * 1_000_000;
        let good = |clock: &&Clock| {
            clock.sample.error_ms <= CLOCK_ERROR_MS_MAX && now_ns.saturating_sub(clock.heard_ns) <= fresh_ns
        };
        let others = self.coordinators.values().chain(self.nodes.values()).filter(good);
        let mut voices: Vec<i64> = others.map(|clock| clock.sample.offset_ms).chain([0]).collect();
        voices.sort_unstable();
        voices
    }

    /// The cluster's time minus the leader's; `None`: nobody knows the time.
    #[must_use]
    pub fn median_ms(&self, now_ns: u64) -> Option<i64> {
        let voices = self.voices(now_ns);
        let median = voices[(voices.len() - 1) / 2];
        let agree = voices.iter().filter(|voice| voice.saturating_sub(median).saturating_abs() <= LIMIT_MS).count();
        (voices.len() >= VOICES_MIN && 2 * agree > voices.len()).then_some(median)
    }

    /// The leader's own clock minus the cluster's; `None`: nobody knows the time.
    #[must_use]
    pub fn own_offset_ms(&self, now_ns: u64) -> Option<i64> {
        self.median_ms(now_ns).map(i64::saturating_neg)
    }

    /// How far a node's clock is off, as measured last.
    #[must_use]
    pub fn of(&self, incarnation: u64, now_ns: u64) -> ClockOffset {
        self.nodes.get(&incarnation).map_or(ClockOffset::default(), |clock| self.against(clock.sample, now_ns))
    }

    fn against(&self, sample: ClockSample, now_ns: u64) -> ClockOffset {
        let median = self.median_ms(now_ns).unwrap_or(0);
        ClockOffset { offset_ms: sample.offset_ms.saturating_sub(median), error_ms: sample.error_ms }
    }

    /// Whether a node with this clock may join: `Err` says how far it is off.
    ///
    /// # Errors
    /// The offset, beyond the limit by more than the error.
    pub fn admit(&self, sample: ClockSample, now_ns: u64) -> Result<(), ClockOffset> {
        let offset = self.against(sample, now_ns);
        let beyond = offset.offset_ms.saturating_abs() - i64::from(offset.error_ms) > LIMIT_MS;
        if beyond && self.median_ms(now_ns).is_some() { Err(offset) } else { Ok(()) }
    }

    /// What the log should say and does not, given who is quarantined by it. By incarnation.
    pub fn judge(&self, now_ns: u64, is_quarantined: impl Fn(u64) -> bool) -> Vec<Judgement> {
        let judgement = |(&incarnation, clock): (&u64, &Clock)| match is_quarantined(incarnation) {
            false if clock.out >= CLOCK_STRIKES => {
                let offset_ms = self.against(clock.sample, now_ns).offset_ms;
                Some(Judgement::Quarantine { incarnation, offset_ms })
            }
            true if clock.back >= CLOCK_STRIKES => Some(Judgement::LetGo { incarnation }),
            _ => None,
        };
        self.nodes.iter().filter_map(judgement).collect()
    }
}
