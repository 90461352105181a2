//! The `txmon` application on any device: posts a ledger, sweeps, and asks for the alerts.
#![allow(dead_code, missing_docs, clippy::disallowed_methods)] // Real time, for what is printed.

#[path = "rig.rs"]
mod device_rig;

use std::collections::BTreeMap;
use std::time::Instant;

use device_rig::Rig;
use ringfleet_abi::SetId;
use ringfleet_actors::txmon::account::{AccountAsked, AccountReport};
use ringfleet_actors::txmon::case::{Alert, AlertAsked, PAGE_ALERTS, places};
use ringfleet_actors::txmon::desk::{Returned, ReturnedAsked};
use ringfleet_actors::txmon::ledger::{Kind, Ledger, Transaction};
use ringfleet_actors::txmon::plan::{Step, steps};
use ringfleet_actors::txmon::tables::{AlertRow, Results};
use ringfleet_actors::txmon::{DESKS, REMEMBERED, SWEEPS_AT_A_TIME, TRACED_CENTS_MIN, WEIGHT};
use ringfleet_gpu::Device;

const ACCOUNTS: SetId = SetId(1);
const CASES: SetId = SetId(2);
const DESK: SetId = SetId(3);
/// Transactions that are posted before what they set off has been handled; each sets off a credit and, seldom, an alert.
const POSTS_AT_A_TIME: usize = 8192;
/// Looks at the desks in which nothing more comes back, before it is called lost.
const LOOKS_MAX: u32 = 100_000;

/// Many accounts that send all they can remember on one day, to accounts that send twice as much on, as far as a trace goes.
pub fn web() -> Ledger {
    let mut transactions = Vec::new();
    for level in 0..3_u32 {
        for n in 0..SWEEPS_AT_A_TIME * REMEMBERED {
            let (payer, payee) = (n / REMEMBERED, (n * 5 + level) % SWEEPS_AT_A_TIME);
            transactions.push(Transaction {
                time_ms: u64::from(level),
                kind: Kind::Transfer,
                payer: 1000 * level + payer,
                payee: 1000 * (level + 1) + payee,
                cents: TRACED_CENTS_MIN,
                label: None,
            });
        }
    }
    Ledger { transactions }
}

/// A device with the actor sets of the application. `turn` lets it do something.
pub struct TxmonRig<'a, D, T> {
    rig: Rig<'a, D, T>,
    /// The most that was seen in flight in a sweep.
    pub in_flight_max: i128,
}

impl<'a, D: Device, T: FnMut(&mut D)> TxmonRig<'a, D, T> {
    pub fn new(device: &'a mut D, lease_deadline_ns: u64, turn: T) -> Self {
        let mut rig = Rig::new(device, lease_deadline_ns, turn);
        rig.deploy(ACCOUNTS, "txmon.account", 64, 1024);
        rig.deploy(CASES, "txmon.case", 32, 256);
        rig.deploy(DESK, "txmon.desk", 16, 16);
        Self { rig, in_flight_max: 0 }
    }

    /// Waits until all weight has come back. Weight that is lost is a failure here.
    fn until_returned(&mut self, told: u64) {
        let (mut last, mut looks) = (0, 0);
        while last < told {
            let returned: Vec<Returned> = self.rig.ask(DESK, 0..DESKS, &ReturnedAsked {});
            let weight = returned.iter().map(|desk| desk.weight).sum();
            looks = if weight == last { looks + 1 } else { 0 };
            last = weight;
            assert!(looks < LOOKS_MAX, "{last} of {told} came back: {:?}", self.rig.device.total());
        }
        assert_eq!(last, told, "more came back than was sent");
    }

    /// Goes through the steps of a ledger, and asks everybody.
    pub fn results(&mut self, ledger: &Ledger) -> Results {
        let (began, mut told, mut sweeps_told) = (Instant::now(), 0, 0);
        let plan = steps(ledger);
        for step in &plan {
            match step {
                Step::Post(posts) => {
                    for posts in posts.chunks(POSTS_AT_A_TIME) {
                        self.rig.tell_all(ACCOUNTS, posts.iter().map(|(to, post)| ((*to).into(), *post)));
                        self.rig.until_quiet();
                    }
                }
                Step::Sweep(sweeps) => {
                    self.rig.in_flight_max = 0;
                    self.rig.tell_all(ACCOUNTS, sweeps.iter().map(|(to, sweep)| ((*to).into(), *sweep)));
                    told += sweeps.len() as u64 * u64::from(WEIGHT);
                    sweeps_told += sweeps.len();
                    self.until_returned(told);
                    self.in_flight_max = self.in_flight_max.max(self.rig.in_flight_max);
                }
            }
        }
        self.rig.until_quiet();
        println!(
            "{} transactions and {sweeps_told} sweeps in {} steps took {:.3} s, {} messages handled, {} in flight at most in sweeps",
            ledger.transactions.len(),
            plan.len(),
            began.elapsed().as_secs_f64(),
            self.rig.device.total().handled,
            self.in_flight_max,
        );
        self.ask_all(ledger)
    }

    fn ask_all(&mut self, ledger: &Ledger) -> Results {
        let accounts = ledger.accounts();
        let keys = accounts.iter().map(|account| u64::from(*account));
        let reports: Vec<AccountReport> = self.rig.ask(ACCOUNTS, keys, &AccountAsked {});
        let mut results = Results::default();
        let mut pages: BTreeMap<u32, Vec<(u64, u32)>> = BTreeMap::new();
        for (account, report) in accounts.into_iter().zip(reports) {
            places(account, report.alerts).for_each(|(page, at)| pages.entry(at).or_default().push((page, account)));
            results.accounts.insert(account, report);
        }
        assert!(pages.keys().all(|at| *at < PAGE_ALERTS));
        for (at, pages) in pages {
            let keys = pages.iter().map(|(page, _)| *page);
            let alerts: Vec<Alert> = self.rig.ask(CASES, keys, &AlertAsked { at });
            let rows = pages.iter().zip(&alerts).map(|((_, account), alert)| AlertRow::of(*account, alert));
            results.alerts.extend(rows.map(|row| row.expect("a rule")));
        }
        results.alerts.sort_unstable();
        results
    }
}
