//! `txmon.account`: what one account did lately, and what of it is suspicious.

use ringfleet_actor::prelude::*;

use super::case::{Alert, Case};
use super::desk::{Desk, Traced};
use super::{
    BAND_CENTS_MIN, DESKS, FOLLOWED, HOPS_MAX, LOSS_PERCENT, NEAR_DEPOSITS, RECENT, REMEMBERED, REPORTED_CENTS,
    ROUND_TRIP, STRUCTURING, STRUCTURING_WINDOW_MS, TRACE_WINDOW_MS, TRACED_CENTS_MIN, VELOCITY, VELOCITY_CENTS,
    VELOCITY_COUNT, VELOCITY_WINDOW_MS,
};

/// A transaction of this account: one that it pays, or a deposit. Numbers rise, times do not fall; otherwise the actor fails.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Posted {
    /// When it happened, in Unix time.
    pub time_ms: u64,
    /// The payee's account; 0 if there is none.
    pub to: u32,
    /// How much it was.
    pub cents: u32,
    /// Its number in the ledger, from 1.
    pub seq: u32,
    /// One of the kinds below.
    pub kind: u32,
}

impl Posted {
    /// A payment for something.
    pub const PURCHASE: u32 = 1;
    /// A payment between persons.
    pub const TRANSFER: u32 = 2;
    /// A payment by an employer.
    pub const SALARY: u32 = 3;
    /// Cash.
    pub const DEPOSIT: u32 = 4;
}

/// Another account has paid to this one.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Credit {
    /// How much.
    pub cents: u32,
}

/// Trace your transfers of a day, all that may belong to their chains being posted.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Sweep {
    /// The beginning of the day; days come in order, otherwise the actor fails.
    pub from_ms: u64,
    /// Its end.
    pub to_ms: u64,
    /// The weight of all that this sets off.
    pub weight: u32,
    #[doc(hidden)]
    pub _pad: [u8; 4],
}

/// A transfer to this account may be a part of a round trip.
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct Trace {
    /// When the first transfer of the chain happened.
    pub first_ms: u64,
    /// The account that paid it.
    pub origin: u32,
    /// How much it was.
    pub first_cents: u32,
    /// Its number.
    pub first_seq: u32,
    /// How much the transfer to this account was.
    pub cents: u32,
    /// Its number.
    pub seq: u32,
    /// The transfers so far.
    pub hops: u16,
    /// Its part of the sweep's weight.
    pub weight: u16,
}

/// Asks for an [`AccountReport`].
#[message]
#[derive(Debug, PartialEq, Eq)]
pub struct AccountAsked {}

/// What an account did.
#[message]
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountReport {
    /// What came in less what went out.
    pub balance_cents: i64,
    /// Transactions paid.
    pub paid: u32,
    /// Transactions received, without deposits.
    pub received: u32,
    /// Deposits.
    pub deposits: u32,
    /// Alerts.
    pub alerts: u32,
}

/// A payment or deposit that is remembered. Number 0: none.
#[plain]
#[derive(Debug, Default)]
pub struct Entry {
    time_ms: u64,
    cents: u32,
    seq: u32,
}

/// A transfer that is remembered. Number 0: none.
#[plain]
#[derive(Debug, Default)]
pub struct Transfer {
    time_ms: u64,
    to: u32,
    cents: u32,
    seq: u32,
    _pad: [u8; 4],
}

/// One account.
#[actor(name = "txmon.account", width = lane, max_sends = 16)]
#[derive(Debug, Default)]
pub struct Account {
    balance_cents: i64,
    last_ms: u64,
    /// Until then there is no further alert about velocity.
    quiet_until_ms: u64,
    /// The end of the last day that was swept.
    swept_ms: u64,
    last_seq: u32,
    paid: u32,
    received: u32,
    deposits: u32,
    alerts: u32,
    /// Payments that count for velocity, so far.
    counted: u32,
    /// Transfers that are traced, so far.
    traced: u32,
    /// Near deposits that are kept.
    near_kept: u32,
    /// The last ones, in a ring.
    recent: [Entry; RECENT as usize],
    /// The last ones, in a ring.
    transfers: [Transfer; REMEMBERED as usize],
    /// Near deposits that are in no alert, the oldest first.
    near: [Entry; NEAR_DEPOSITS as usize],
}

#[handlers]
impl Account {
    const WAYS: usize = FOLLOWED as usize;

    fn on_posted(&mut self, m: &Posted, ctx: &mut Ctx) {
        if m.seq <= self.last_seq || m.time_ms < self.last_ms {
            ctx.fail(1)
        }
        self.last_seq = m.seq;
        self.last_ms = m.time_ms;
        if m.kind == Posted::DEPOSIT {
            self.balance_cents += m.cents as i64;
            self.deposits += 1;
            if m.cents >= BAND_CENTS_MIN && m.cents < REPORTED_CENTS {
                self.watch_near(m, ctx);
            }
            return;
        }
        self.balance_cents -= m.cents as i64;
        self.paid += 1;
        ctx.tell(Account::at(m.to as u64), &Credit { cents: m.cents });
        if m.kind != Posted::SALARY {
            self.watch_velocity(m, ctx);
        }
        if m.kind == Posted::TRANSFER && m.cents >= TRACED_CENTS_MIN {
            let at = (self.traced % REMEMBERED) as usize;
            self.transfers[at] = Transfer { time_ms: m.time_ms, to: m.to, cents: m.cents, seq: m.seq, _pad: [0; 4] };
            self.traced += 1;
        }
    }

    fn on_credit(&mut self, m: &Credit, ctx: &mut Ctx) {
        self.balance_cents += m.cents as i64;
        self.received += 1;
    }

    fn on_sweep(&mut self, m: &Sweep, ctx: &mut Ctx) {
        if m.from_ms < self.swept_ms {
            ctx.fail(2)
        }
        self.swept_ms = m.to_ms;
        let mut starts = 0_u32;
        for i in 0..REMEMBERED {
            let time_ms = self.transfers[i as usize].time_ms;
            if self.transfers[i as usize].seq != 0 && time_ms >= m.from_ms && time_ms < m.to_ms {
                starts += 1;
            }
        }
        if starts == 0 {
            self.tell_end(ctx.key() as u32, m.weight, ctx);
            return;
        }
        // The first trace takes what does not divide.
        let part = m.weight / starts;
        let mut weight = m.weight - part * (starts - 1);
        for i in 0..REMEMBERED {
            let t = self.transfers[i as usize];
            if t.seq != 0 && t.time_ms >= m.from_ms && t.time_ms < m.to_ms {
                let trace = Trace {
                    first_ms: t.time_ms,
                    origin: ctx.key() as u32,
                    first_cents: t.cents,
                    first_seq: t.seq,
                    cents: t.cents,
                    seq: t.seq,
                    hops: 1,
                    weight: weight as u16,
                };
                ctx.tell(Account::at(t.to as u64), &trace);
                weight = part;
            }
        }
    }

    fn on_trace(&mut self, m: &Trace, ctx: &mut Ctx) {
        if m.origin as u64 == ctx.key() {
            let alert = Alert {
                first_ms: m.first_ms,
                cents: m.cents as u64,
                first_seq: m.first_seq,
                last_seq: m.seq,
                rule: ROUND_TRIP,
                count: m.hops,
                weight: m.weight,
                page: 0,
            };
            self.raise(&alert, ctx);
            return;
        }
        if m.hops >= HOPS_MAX {
            self.tell_end(m.origin, m.weight as u32, ctx);
            return;
        }
        // From the oldest on: the ring's next place holds it once the ring is full.
        let mut followed = 0_u16;
        let mut ways = [0_u32; Self::WAYS];
        for i in 0..REMEMBERED {
            let at = self.traced.wrapping_add(i) % REMEMBERED;
            if self.continues(m, at) {
                if self.transfers[at as usize].to == m.origin {
                    self.follow(m, at, m.weight, ctx);
                    return;
                }
                if followed < FOLLOWED {
                    ways[followed as usize] = at;
                    followed += 1;
                }
            }
        }
        if followed == 0 || m.hops + 1 >= HOPS_MAX {
            self.tell_end(m.origin, m.weight as u32, ctx);
            return;
        }
        let part = m.weight / followed;
        for i in 0..followed {
            let weight = if i == 0 { m.weight - part * (followed - 1) } else { part };
            self.follow(m, ways[i as usize], weight, ctx);
        }
    }

    fn on_account_asked(&mut self, _m: &AccountAsked, ctx: &mut Ctx) {
        ctx.reply(&AccountReport {
            balance_cents: self.balance_cents,
            paid: self.paid,
            received: self.received,
            deposits: self.deposits,
            alerts: self.alerts,
        })
    }

    fn watch_velocity(&mut self, m: &Posted, ctx: &mut Ctx) {
        let at = (self.counted % RECENT) as usize;
        self.recent[at] = Entry { time_ms: m.time_ms, cents: m.cents, seq: m.seq };
        self.counted += 1;
        let mut count = 0_u32;
        let mut cents = 0_u64;
        let mut first_seq = m.seq;
        let mut first_ms = m.time_ms;
        for i in 0..RECENT {
            let entry = self.recent[i as usize];
            if entry.seq != 0 && m.time_ms - entry.time_ms < VELOCITY_WINDOW_MS {
                count += 1;
                cents += entry.cents as u64;
                if entry.seq < first_seq {
                    first_seq = entry.seq;
                    first_ms = entry.time_ms;
                }
            }
        }
        if m.time_ms >= self.quiet_until_ms && (count > VELOCITY_COUNT || cents > VELOCITY_CENTS) {
            self.quiet_until_ms = m.time_ms + VELOCITY_WINDOW_MS;
            let alert = Alert {
                first_ms: first_ms,
                cents: cents,
                first_seq: first_seq,
                last_seq: m.seq,
                rule: VELOCITY,
                count: count as u16,
                weight: 0,
                page: 0,
            };
            self.raise(&alert, ctx)
        }
    }

    fn watch_near(&mut self, m: &Posted, ctx: &mut Ctx) {
        if self.near_kept == NEAR_DEPOSITS {
            for i in 1..NEAR_DEPOSITS {
                self.near[i as usize - 1] = self.near[i as usize];
            }
            self.near_kept -= 1;
        }
        self.near[self.near_kept as usize] = Entry { time_ms: m.time_ms, cents: m.cents, seq: m.seq };
        self.near_kept += 1;
        let first = self.near[0];
        if self.near_kept == NEAR_DEPOSITS && m.time_ms - first.time_ms < STRUCTURING_WINDOW_MS {
            let mut cents = 0_u64;
            for entry in self.near {
                cents += entry.cents as u64;
            }
            self.near_kept = 0;
            let alert = Alert {
                first_ms: first.time_ms,
                cents: cents,
                first_seq: first.seq,
                last_seq: m.seq,
                rule: STRUCTURING,
                count: NEAR_DEPOSITS as u16,
                weight: 0,
                page: 0,
            };
            self.raise(&alert, ctx)
        }
    }

    /// Whether the remembered transfer at `at` may be the next one of a chain.
    fn continues(&self, m: &Trace, at: u32) -> bool {
        let t = self.transfers[at as usize];
        // What comes later has not happened earlier, so the difference of times is none below 0.
        t.seq > m.seq
            && t.time_ms - m.first_ms < TRACE_WINDOW_MS
            && t.cents <= m.cents
            && t.cents as u64 * 100 >= m.first_cents as u64 * (100 - LOSS_PERCENT)
    }

    /// Sends a trace along the remembered transfer at `at`.
    fn follow(&self, m: &Trace, at: u32, weight: u16, ctx: &mut Ctx) {
        let t = self.transfers[at as usize];
        let trace = Trace {
            first_ms: m.first_ms,
            origin: m.origin,
            first_cents: m.first_cents,
            first_seq: m.first_seq,
            cents: t.cents,
            seq: t.seq,
            hops: m.hops + 1,
            weight: weight,
        };
        ctx.tell(Account::at(t.to as u64), &trace)
    }

    /// Gives weight back: nothing follows.
    fn tell_end(&self, origin: u32, weight: u32, ctx: &mut Ctx) {
        ctx.tell(Desk::at(origin as u64 % DESKS), &Traced { weight: weight })
    }

    fn raise(&mut self, alert: &Alert, ctx: &mut Ctx) {
        self.alerts += 1;
        ctx.tell(
            Case::at(ctx.key()),
            &Alert {
                first_ms: alert.first_ms,
                cents: alert.cents,
                first_seq: alert.first_seq,
                last_seq: alert.last_seq,
                rule: alert.rule,
                count: alert.count,
                weight: alert.weight,
                page: alert.page,
            },
        )
    }
}
