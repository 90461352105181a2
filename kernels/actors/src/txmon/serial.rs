//! The same alerts by one loop over the ledger and a search, written from the definitions of the rules and independently of the actors: no rings, no
//! messages, no sweeps. What it says is compared with what the cluster says.

use std::collections::BTreeMap;

use super::account::AccountReport;
use super::ledger::{Kind, Ledger};
use super::tables::{AlertRow, Results};
use super::{
    BAND_CENTS_MIN, DAY_MS, FOLLOWED, HOPS_MAX, LOSS_PERCENT, NEAR_DEPOSITS, RECENT, REMEMBERED, REPORTED_CENTS, Rule,
    STRUCTURING_WINDOW_MS, TRACE_WINDOW_MS, TRACED_CENTS_MIN, VELOCITY_CENTS, VELOCITY_COUNT, VELOCITY_WINDOW_MS,
};

/// The limits of the rules, so that others can be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`VELOCITY_WINDOW_MS`].
    pub velocity_window_ms: u64,
    /// See [`VELOCITY_COUNT`].
    pub velocity_count: u32,
    /// See [`VELOCITY_CENTS`].
    pub velocity_cents: u64,
    /// See [`STRUCTURING_WINDOW_MS`].
    pub structuring_window_ms: u64,
    /// See [`BAND_CENTS_MIN`].
    pub band_cents_min: u32,
    /// See [`REPORTED_CENTS`].
    pub reported_cents: u32,
    /// See [`NEAR_DEPOSITS`].
    pub near_deposits: u32,
    /// See [`TRACE_WINDOW_MS`].
    pub trace_window_ms: u64,
    /// See [`TRACED_CENTS_MIN`].
    pub traced_cents_min: u32,
    /// See [`REMEMBERED`].
    pub remembered: u32,
    /// See [`LOSS_PERCENT`].
    pub loss_percent: u64,
    /// See [`HOPS_MAX`].
    pub hops_max: u16,
    /// See [`FOLLOWED`].
    pub followed: u16,
}

impl Limits {
    /// Those of the rules.
    pub const OF_THE_RULES: Self = Self {
        velocity_window_ms: VELOCITY_WINDOW_MS,
        velocity_count: VELOCITY_COUNT,
        velocity_cents: VELOCITY_CENTS,
        structuring_window_ms: STRUCTURING_WINDOW_MS,
        band_cents_min: BAND_CENTS_MIN,
        reported_cents: REPORTED_CENTS,
        near_deposits: NEAR_DEPOSITS,
        trace_window_ms: TRACE_WINDOW_MS,
        traced_cents_min: TRACED_CENTS_MIN,
        remembered: REMEMBERED,
        loss_percent: LOSS_PERCENT,
        hops_max: HOPS_MAX,
        followed: FOLLOWED,
    };
}

/// A transaction of one account.
#[derive(Clone, Copy)]
struct Item {
    seq: u32,
    time_ms: u64,
    payee: u32,
    cents: u32,
}

/// All that one account did.
#[derive(Default)]
struct History {
    report: AccountReport,
    payments: Vec<Item>,
    last_velocity_ms: Option<u64>,
    /// In no alert yet.
    near: Vec<Item>,
    transfers: Vec<Item>,
}

/// All results of a ledger.
#[must_use]
pub fn results(ledger: &Ledger) -> Results {
    results_with(ledger, &Limits::OF_THE_RULES)
}

/// All results, by rules with other limits.
#[must_use]
pub fn results_with(ledger: &Ledger, limits: &Limits) -> Results {
    let mut histories: BTreeMap<u32, History> = BTreeMap::new();
    let mut alerts = Vec::new();
    for (seq, t) in ledger.numbered() {
        let item = Item { seq, time_ms: t.time_ms, payee: t.payee, cents: t.cents };
        let payee = &mut histories.entry(t.payee).or_default().report;
        payee.balance_cents += i64::from(t.cents);
        if t.kind == Kind::Deposit {
            payee.deposits += 1;
        } else {
            payee.received += 1;
            let payer = &mut histories.entry(t.payer).or_default().report;
            payer.balance_cents -= i64::from(t.cents);
            payer.paid += 1;
        }
        let account = t.account();
        let history = histories.entry(account).or_default();
        match t.kind {
            Kind::Purchase | Kind::Transfer => alerts.extend(velocity(account, history, item, limits)),
            Kind::Deposit => alerts.extend(structuring(account, history, item, limits)),
            Kind::Salary => {}
        }
        if t.kind == Kind::Transfer && t.cents >= limits.traced_cents_min {
            history.transfers.push(item);
        }
    }
    for (account, history) in &histories {
        for first in &history.transfers {
            round_trips(*account, *first, &histories, limits, &mut alerts);
        }
    }
    alerts.iter().for_each(|alert| histories.entry(alert.account).or_default().report.alerts += 1);
    alerts.sort_unstable();
    let accounts = histories.into_iter().map(|(account, history)| (account, history.report)).collect();
    Results { alerts, accounts }
}

fn velocity(account: u32, history: &mut History, item: Item, limits: &Limits) -> Option<AlertRow> {
    history.payments.push(item);
    let window = |it: &&Item| it.time_ms + limits.velocity_window_ms > item.time_ms;
    let looked_at = history.payments.iter().rev().take(RECENT as usize);
    let within: Vec<&Item> = looked_at.filter(window).collect();
    let cents: u64 = within.iter().map(|it| u64::from(it.cents)).sum();
    if within.len() <= limits.velocity_count as usize && cents <= limits.velocity_cents {
        return None;
    }
    if history.last_velocity_ms.is_some_and(|last| item.time_ms < last + limits.velocity_window_ms) {
        return None;
    }
    history.last_velocity_ms = Some(item.time_ms);
    let first = within.last()?;
    Some(AlertRow {
        account,
        rule: Rule::Velocity,
        first_seq: first.seq,
        last_seq: item.seq,
        first_ms: first.time_ms,
        count: within.len() as u16,
        cents,
    })
}

fn structuring(account: u32, history: &mut History, item: Item, limits: &Limits) -> Option<AlertRow> {
    if !(limits.band_cents_min..limits.reported_cents).contains(&item.cents) {
        return None;
    }
    history.near.push(item);
    let of_alert = history.near.len().checked_sub(limits.near_deposits as usize)?;
    let first = history.near[of_alert];
    if first.time_ms + limits.structuring_window_ms <= item.time_ms {
        return None;
    }
    let cents = history.near.drain(..).skip(of_alert).map(|it| u64::from(it.cents)).sum();
    Some(AlertRow {
        account,
        rule: Rule::Structuring,
        first_seq: first.seq,
        last_seq: item.seq,
        first_ms: first.time_ms,
        count: limits.near_deposits as u16,
        cents,
    })
}

/// What an account remembers at a close.
fn remembered<'a>(history: &'a History, close_ms: u64, limits: &Limits) -> &'a [Item] {
    let known = history.transfers.partition_point(|it| it.time_ms < close_ms);
    &history.transfers[known.saturating_sub(limits.remembered as usize)..known]
}

fn round_trips(
    origin: u32,
    first: Item,
    histories: &BTreeMap<u32, History>,
    limits: &Limits,
    alerts: &mut Vec<AlertRow>,
) {
    let close_ms = (first.time_ms / DAY_MS + 4) * DAY_MS;
    if !remembered(&histories[&origin], close_ms, limits).iter().any(|it| it.seq == first.seq) {
        return;
    }
    // Chains from the first transfer on, of one more transfer each time round.
    let mut ends = vec![first];
    for hops in 2..=limits.hops_max {
        let mut further = Vec::new();
        for end in ends {
            let fits = |it: &&Item| {
                it.seq > end.seq
                    && it.time_ms < first.time_ms + limits.trace_window_ms
                    && it.cents <= end.cents
                    && u64::from(first.cents) * (100 - limits.loss_percent) <= u64::from(it.cents) * 100
            };
            let next: Vec<Item> =
                remembered(&histories[&end.payee], close_ms, limits).iter().filter(fits).copied().collect();
            match next.iter().find(|it| it.payee == origin) {
                Some(back) => alerts.push(AlertRow {
                    account: origin,
                    rule: Rule::RoundTrip,
                    first_seq: first.seq,
                    last_seq: back.seq,
                    first_ms: first.time_ms,
                    count: hops,
                    cents: back.cents.into(),
                }),
                None => further.extend(next.into_iter().take(limits.followed.into())),
            }
        }
        ends = further;
    }
}
