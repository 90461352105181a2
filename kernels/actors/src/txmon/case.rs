//! `txmon.case`: the alerts of one account. Page 0 has the account's number as its key; the page after the one with key k has `k + 2^32`.

use ringfleet_actor::prelude::*;

use super::desk::{Desk, Traced};
use super::{DESKS, RULES};

/// Alerts of a page; the next one goes to the next page.
pub const PAGE_ALERTS: u32 = 16;

/// Where the alerts of an account are: the key of the page, and the place on it.
pub fn places(account: u32, alerts: u32) -> impl Iterator<Item = (u64, u32)> {
    (0..alerts).map(move |n| (u64::from(n / PAGE_ALERTS) << 32 | u64::from(account), n % PAGE_ALERTS))
}

/// An account did something suspicious.
#[message]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// When the first transaction of the evidence happened.
    pub first_ms: u64,
    /// The sum, or what came back.
    pub cents: u64,
    /// The first transaction of the evidence.
    pub first_seq: u32,
    /// The last one.
    pub last_seq: u32,
    /// The rule's index.
    pub rule: u16,
    /// How many transactions.
    pub count: u16,
    /// The weight of the trace that ends here; 0 if it was none.
    pub weight: u16,
    /// The page it has come to.
    pub page: u16,
}

/// Asks for a [`CaseFile`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct CaseAsked {}

/// What a case comes to: on page 0 all of it, on another page what has come to that page.
#[message]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CaseFile {
    /// The first of what is in evidence.
    pub first_ms: u64,
    /// All sums together.
    pub cents: u64,
    /// Alerts by rule.
    pub alerts: [u32; RULES],
    #[doc(hidden)]
    pub _pad: [u8; 4],
}

/// Asks for the alert at a place of a page, an [`Alert`]. A place where there is none fails the actor.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct AlertAsked {
    /// From 0.
    pub at: u32,
}

/// A page of a case.
#[actor(name = "txmon.case", width = lane, max_sends = 2)]
#[derive(Debug, Default)]
pub struct Case {
    first_ms: u64,
    cents: u64,
    alerts: [u32; RULES],
    kept: u32,
    page: [Alert; PAGE_ALERTS as usize],
}

#[handlers]
impl Case {
    fn on_alert(&mut self, m: &Alert, ctx: &mut Ctx) {
        if self.cents == 0 || m.first_ms < self.first_ms {
            self.first_ms = m.first_ms;
        }
        self.cents += m.cents;
        self.alerts[m.rule as usize] += 1;
        if self.kept < PAGE_ALERTS {
            self.page[self.kept as usize] = *m;
            self.kept += 1;
            if m.weight > 0 {
                let desk = (ctx.key() & 0xffff_ffff) % DESKS;
                ctx.tell(Desk::at(desk), &Traced { weight: m.weight as u32 })
            }
        } else {
            ctx.tell(
                Case::at(ctx.key() + 0x1_0000_0000),
                &Alert {
                    first_ms: m.first_ms,
                    cents: m.cents,
                    first_seq: m.first_seq,
                    last_seq: m.last_seq,
                    rule: m.rule,
                    count: m.count,
                    weight: m.weight,
                    page: m.page + 1,
                },
            )
        }
    }

    fn on_case_asked(&mut self, _m: &CaseAsked, ctx: &mut Ctx) {
        ctx.reply(&CaseFile { first_ms: self.first_ms, cents: self.cents, alerts: self.alerts, _pad: [0; 4] })
    }

    fn on_alert_asked(&mut self, m: &AlertAsked, ctx: &mut Ctx) {
        if m.at >= self.kept {
            ctx.fail(1)
        }
        let alert = self.page[m.at as usize];
        ctx.reply(&Alert {
            first_ms: alert.first_ms,
            cents: alert.cents,
            first_seq: alert.first_seq,
            last_seq: alert.last_seq,
            rule: alert.rule,
            count: alert.count,
            weight: alert.weight,
            page: alert.page,
        })
    }
}
