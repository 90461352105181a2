//! What whoever runs the application sends, step by step. The actors rely on it: a step begins when all messages of the one before have been
//! handled, and for a sweep also when all weight has come back.

use std::collections::{BTreeMap, BTreeSet};

use super::account::{Posted, Sweep};
use super::ledger::{Kind, Ledger, Transaction};
use super::{DAY_MS, SWEEPS_AT_A_TIME, TRACE_WINDOW_MS, TRACED_CENTS_MIN, WEIGHT};

/// A step: messages to accounts, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Transactions up to a close.
    Post(Vec<(u32, Posted)>),
    /// Sweeps, at most [`SWEEPS_AT_A_TIME`]; each brings [`WEIGHT`].
    Sweep(Vec<(u32, Sweep)>),
}

/// The steps of a ledger. An account is swept for the days on which it has sent something that is traced.
#[must_use]
pub fn steps(ledger: &Ledger) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut posts = Vec::new();
    let mut open: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for (seq, t) in ledger.numbered() {
        while let Some(day) = open.first_entry().filter(|day| close_ms(*day.key()) <= t.time_ms) {
            post(&mut steps, &mut posts);
            let (day, accounts) = day.remove_entry();
            sweep(&mut steps, day, &accounts);
        }
        posts.push((t.account(), t.posted(seq)));
        if is_traced(t) {
            open.entry(t.time_ms / DAY_MS).or_default().insert(t.account());
        }
    }
    post(&mut steps, &mut posts);
    open.iter().for_each(|(day, accounts)| sweep(&mut steps, *day, accounts));
    steps
}

/// From when on nothing that happens belongs to a chain that began on the day.
fn close_ms(day: u64) -> u64 {
    (day + 1) * DAY_MS + TRACE_WINDOW_MS
}

fn is_traced(t: &Transaction) -> bool {
    t.kind == Kind::Transfer && t.cents >= TRACED_CENTS_MIN
}

fn post(steps: &mut Vec<Step>, posts: &mut Vec<(u32, Posted)>) {
    if !posts.is_empty() {
        steps.push(Step::Post(std::mem::take(posts)));
    }
}

fn sweep(steps: &mut Vec<Step>, day: u64, accounts: &BTreeSet<u32>) {
    let sweep = Sweep { from_ms: day * DAY_MS, to_ms: (day + 1) * DAY_MS, weight: WEIGHT.into(), _pad: [0; 4] };
    let sweeps: Vec<(u32, Sweep)> = accounts.iter().map(|account| (*account, sweep)).collect();
    steps.extend(sweeps.chunks(SWEEPS_AT_A_TIME as usize).map(|some| Step::Sweep(some.to_vec())));
}
