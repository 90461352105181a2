//! The results, how they are compared, and how they print.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use super::Rule;
use super::account::AccountReport;
use super::case::Alert;
use super::ledger::Ledger;

/// Rows of a table that are printed.
pub const TOP: usize = 10;

/// An alert with its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertRow {
    /// Whose it is.
    pub account: u32,
    /// What it is about.
    pub rule: Rule,
    /// The first transaction of the evidence, by number.
    pub first_seq: u32,
    /// The last one.
    pub last_seq: u32,
    /// When the first one happened.
    pub first_ms: u64,
    /// How many transactions.
    pub count: u16,
    /// The sum; of a round trip what came back.
    pub cents: u64,
}

impl AlertRow {
    /// What a case said of an account; `None` if there is no such rule.
    #[must_use]
    pub fn of(account: u32, alert: &Alert) -> Option<Self> {
        let rule = *Rule::ALL.get(usize::from(alert.rule))?;
        let Alert { first_ms, cents, first_seq, last_seq, count, .. } = *alert;
        Some(Self { account, rule, first_seq, last_seq, first_ms, count, cents })
    }
}

/// All results.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// The alerts, in order.
    pub alerts: Vec<AlertRow>,
    /// What each account did, by its number.
    pub accounts: BTreeMap<u32, AccountReport>,
}

/// How well a rule finds what is known to be laundering. Counted are accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Accounts with alerts.
    pub alerted: u64,
    /// Accounts with labels.
    pub labelled: u64,
    /// Accounts with both.
    pub both: u64,
}

impl Results {
    /// The first difference to `other` in words; `None` if they are equal.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        let (ours, theirs) = (&self.alerts, &other.alerts);
        if let Some(at) = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at)) {
            let say = |alert: Option<&AlertRow>| alert.map_or("none".to_owned(), |alert| format!("{alert:?}"));
            return Some(format!(
                "{} alerts and {}; the first difference: {} is not {}",
                ours.len(),
                theirs.len(),
                say(ours.get(at)),
                say(theirs.get(at))
            ));
        }
        let accounts: BTreeSet<&u32> = self.accounts.keys().chain(other.accounts.keys()).collect();
        accounts.into_iter().find_map(|account| {
            let (ours, theirs) = (self.accounts.get(account), other.accounts.get(account));
            (ours != theirs).then(|| format!("account {account}: {ours:?} is not {theirs:?}"))
        })
    }

    /// How well a rule finds those whose transactions are labelled.
    #[must_use]
    pub fn found(&self, ledger: &Ledger, rule: Rule) -> Found {
        let of_alerts = self.alerts.iter().filter(|alert| alert.rule == rule).map(|alert| alert.account);
        let of_labels = ledger.transactions.iter().filter(|t| t.label == Some(rule)).map(|t| t.account());
        let (alerted, labelled): (BTreeSet<u32>, BTreeSet<u32>) = (of_alerts.collect(), of_labels.collect());
        let both = alerted.intersection(&labelled).count() as u64;
        Found { alerted: alerted.len() as u64, labelled: labelled.len() as u64, both }
    }

    /// The tables as text.
    #[must_use]
    pub fn tables<'a>(&'a self, ledger: &'a Ledger) -> impl Display + 'a {
        Tables { results: self, ledger }
    }
}

/// What a case weighs: round trips most, velocity least.
const WEIGHTS: [u64; super::RULES] = [1, 3, 5];

#[derive(Default)]
struct CaseRow {
    alerts: [u64; super::RULES],
    cents: u64,
    first_ms: u64,
}

struct Tables<'a> {
    results: &'a Results,
    ledger: &'a Ledger,
}

/// Cents as an amount.
struct Money(i128);

impl Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let cents = self.0.unsigned_abs();
        f.pad(&format!("{sign}{}.{:02}", cents / 100, cents % 100))
    }
}

/// A part in per cent with one digit, or `-` of nothing.
struct Percent(u64, u64);

impl Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.1 == 0 {
            return f.pad("-");
        }
        let per_mille = (self.0 * 2000 + self.1) / (2 * self.1);
        f.pad(&format!("{}.{}%", per_mille / 10, per_mille % 10))
    }
}

impl Display for Tables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { results, ledger } = self;
        writeln!(f, "ALERTS BY RULE")?;
        let columns = ("rule", "alerts", "accounts", "labelled", "found", "precision", "recall");
        let (rule, alerts, accounts, labelled, found, precision, recall) = columns;
        writeln!(f, "{rule:<12} {alerts:>7} {accounts:>9} {labelled:>9} {found:>6} {precision:>10} {recall:>7}")?;
        for rule in Rule::ALL {
            let alerts = results.alerts.iter().filter(|alert| alert.rule == rule).count();
            let Found { alerted, labelled, both } = results.found(ledger, rule);
            let (precision, recall) = (Percent(both, alerted), Percent(both, labelled));
            let name = rule.name();
            writeln!(f, "{name:<12} {alerts:>7} {alerted:>9} {labelled:>9} {both:>6} {precision:>10} {recall:>7}")?;
        }
        let mut cases: BTreeMap<u32, CaseRow> = BTreeMap::new();
        for alert in &results.alerts {
            let case = cases.entry(alert.account).or_default();
            let is_first = case.cents == 0 || alert.first_ms < case.first_ms;
            case.first_ms = if is_first { alert.first_ms } else { case.first_ms };
            case.alerts[usize::from(alert.rule.index())] += 1;
            case.cents += alert.cents;
        }
        let score = |case: &CaseRow| -> u64 { case.alerts.iter().zip(WEIGHTS).map(|(n, weight)| n * weight).sum() };
        let total = cases.len();
        let mut cases: Vec<(u32, CaseRow)> = cases.into_iter().collect();
        cases.sort_by_key(|(account, case)| (Reverse((score(case), case.cents)), *account));
        writeln!(f, "\nTOP CASES of {total}")?;
        let columns = ("account", "score", "velocity", "structuring", "round_trip", "amount");
        let (account, points, velocity, structuring, round_trip, amount) = columns;
        writeln!(f, "{account:>9} {points:>6} {velocity:>9} {structuring:>12} {round_trip:>11} {amount:>14}")?;
        for (account, case) in cases.iter().take(TOP) {
            let ([velocity, structuring, round_trip], points) = (case.alerts, score(case));
            let amount = Money(case.cents.into());
            writeln!(f, "{account:>9} {points:>6} {velocity:>9} {structuring:>12} {round_trip:>11} {amount:>14}")?;
        }
        let balance: i128 = results.accounts.values().map(|report| i128::from(report.balance_cents)).sum();
        let paid: u64 = results.accounts.values().map(|report| u64::from(report.paid)).sum();
        let deposits: u64 = results.accounts.values().map(|report| u64::from(report.deposits)).sum();
        writeln!(
            f,
            "\n{} accounts, {paid} payments, {deposits} deposits, all balances together {}\n",
            results.accounts.len(),
            Money(balance)
        )
    }
}
