//! A month of a bank that does not exist, from a seed: employers pay salaries every second week, persons buy from merchants, send money to friends,
//! pay rent, lend and pay back, merchants bring their takings in cash; among the persons are launderers of every pattern, whose
//! transactions are labelled. Some of them stay just outside a rule, and some honest ones fall into one.
//!
//! How active a person is, how often a merchant is chosen and what is paid are heavy-tailed: each doubling is half as likely. All of it is computed in
//! integers from one stream of [`mix64`], so every machine makes the same ledger.

use ringfleet_abi::hash::mix64;

use super::ledger::{Kind, Ledger, Transaction};
use super::{BAND_CENTS_MIN, DAY_MS, REPORTED_CENTS, Rule, TRACED_CENTS_MIN};

/// 2026-01-05, a Monday.
const BEGIN_MS: u64 = 1_767_571_200_000;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 3_600_000;
/// Contacts of a person.
const FRIENDS: u64 = 5;
/// Through how many other hands money goes on its round, at most.
const MULES_MAX: u32 = 4;
/// How many of a thousand persons launder by each pattern.
const LAUNDERERS_PER_MILLE: u32 = 6;

/// What is generated. The numbers of employers and merchants follow from that of persons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Another seed makes another ledger.
    pub seed: u64,
    /// Persons with an account, at least 20.
    pub persons: u32,
    /// How long it goes on.
    pub days: u32,
}

impl Model {
    /// What is built in.
    pub const BUILT_IN: Self = Self { seed: 2026, persons: 4_000, days: 28 };

    /// Generates the transactions.
    ///
    /// # Panics
    /// With less than 20 persons: who launders and who is used for it must differ.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        assert!(self.persons >= 20, "a model has at least 20 persons");
        let employers = self.persons / 100 + 1;
        let merchants = self.persons / 20 + 2;
        let mut dice = Dice(mix64(self.seed));
        let cast = dice.shuffled(self.persons);
        let mut bank = Bank { dice, model: *self, employers, merchants, cast, transactions: Vec::new() };
        for person in 0..self.persons {
            bank.live(person);
        }
        for merchant in 0..merchants {
            bank.bring_takings(merchant);
        }
        let launderers = self.persons * LAUNDERERS_PER_MILLE / 1000 + 1;
        for n in 0..launderers {
            bank.pay_in_bursts(n);
            bank.split_deposits(launderers + n);
            bank.send_round(2 * launderers + n, 3 * launderers + MULES_MAX * n);
        }
        let mut transactions = bank.transactions;
        let end_ms = BEGIN_MS + u64::from(self.days) * DAY_MS;
        transactions.retain(|t| t.time_ms < end_ms);
        // Stable: what happens in the same millisecond stays in the order in which it was made.
        transactions.sort_by_key(|t| t.time_ms);
        Ledger { transactions }
    }
}

/// The stream that everything is drawn from.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix64(self.0)
    }

    /// One of `0..limit`.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// One of `from..to`.
    fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from)
    }

    /// True once in `times`.
    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// How often something doubles, at most `most` times.
    fn doublings(&mut self, most: u32) -> u32 {
        self.next().trailing_zeros().min(most)
    }

    /// The numbers `0..count` in some order.
    fn shuffled(&mut self, count: u32) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..count).collect();
        for last in (1..numbers.len()).rev() {
            numbers.swap(last, self.below(last as u64 + 1) as usize);
        }
        numbers
    }

    /// An amount from `base` on, heavy-tailed.
    fn cents(&mut self, base: u64, doublings_max: u32) -> u64 {
        let least = base << self.doublings(doublings_max);
        least + self.below(least)
    }
}

struct Bank {
    dice: Dice,
    model: Model,
    employers: u32,
    merchants: u32,
    /// The persons in some order: launderers of each pattern, then those through whose hands money goes, then all others.
    cast: Vec<u32>,
    transactions: Vec<Transaction>,
}

impl Bank {
    fn person(&self, n: u32) -> u32 {
        self.employers + self.merchants + n % self.model.persons
    }

    /// A merchant; of twice the number, half as many are chosen as often.
    fn some_merchant(&mut self) -> u32 {
        let among = (self.merchants >> self.dice.doublings(6)).max(1);
        self.employers + self.dice.below(among.into()) as u32
    }

    /// A person other than `n`.
    fn someone_else(&mut self, n: u32) -> u32 {
        let others = u64::from(self.model.persons) - 1;
        let other = self.dice.below(others) as u32;
        self.person(n + 1 + other)
    }

    /// A day and a time of it, between seven and ten in the evening.
    fn some_time(&mut self, day: u32) -> u64 {
        BEGIN_MS + u64::from(day) * DAY_MS + self.dice.within(7 * HOUR_MS, 22 * HOUR_MS)
    }

    fn some_day(&mut self) -> u32 {
        self.dice.below(self.model.days.into()) as u32
    }

    fn add(&mut self, time_ms: u64, kind: Kind, payer: u32, payee: u32, cents: u64) {
        let cents = u32::try_from(cents).expect("amounts are far below 2^32");
        self.transactions.push(Transaction { time_ms, kind, payer, payee, cents, label: None });
    }

    fn label(&mut self, rule: Rule) {
        self.transactions.last_mut().expect("one has been added").label = Some(rule);
    }

    fn live(&mut self, n: u32) {
        let me = self.person(n);
        let employer = self.dice.below(self.employers.into()) as u32;
        let salary = self.dice.cents(120_000, 3);
        let activity = 1 + u64::from(self.dice.doublings(5));
        let friends: Vec<u32> = (0..FRIENDS).map(|_| self.someone_else(n)).collect();
        let landlord = self.someone_else(n);
        let rent = self.dice.within(40_000, 60_000).max(salary / 2);
        let rents = self.dice.one_in(3);
        for day in 0..self.model.days {
            let morning = BEGIN_MS + u64::from(day) * DAY_MS + 9 * HOUR_MS;
            if day % 14 == 4 {
                let time_ms = morning + self.dice.below(HOUR_MS);
                self.add(time_ms, Kind::Salary, employer, me, salary);
            }
            if rents && day % 28 == 6 {
                let time_ms = morning + self.dice.below(8 * HOUR_MS);
                self.add(time_ms, Kind::Transfer, me, landlord, rent);
            }
            for _ in 0..self.dice.below(1 + activity) {
                let (time_ms, merchant) = (self.some_time(day), self.some_merchant());
                let cents = self.dice.cents(300, 7);
                self.add(time_ms, Kind::Purchase, me, merchant, cents);
            }
            if self.dice.below(12) < activity {
                let friend = friends[self.dice.below(FRIENDS) as usize];
                self.send_to_friend(me, friend, day);
            }
        }
    }

    fn send_to_friend(&mut self, me: u32, friend: u32, day: u32) {
        let (time_ms, cents) = (self.some_time(day), self.dice.cents(1_500, 9));
        self.add(time_ms, Kind::Transfer, me, friend, cents);
        // A loan that is paid back soon looks like a round trip.
        if cents >= TRACED_CENTS_MIN.into() && self.dice.one_in(30) {
            let later = time_ms + self.dice.within(8 * HOUR_MS, 5 * DAY_MS);
            self.add(later, Kind::Transfer, friend, me, cents);
        }
    }

    fn bring_takings(&mut self, merchant: u32) {
        let account = self.employers + merchant;
        let usual = self.dice.cents(450_000, 3);
        for day in 0..self.model.days {
            if self.dice.below(5) < 2 {
                let (time_ms, cents) = (self.some_time(day), usual * self.dice.within(95, 106) / 100);
                self.add(time_ms, Kind::Deposit, 0, account, cents);
            }
        }
    }

    /// Velocity: a stolen account is emptied in small amounts.
    fn pay_in_bursts(&mut self, at: u32) {
        let n = self.cast[at as usize];
        let me = self.person(n);
        for _ in 0..=self.dice.below(2) {
            let day = self.some_day();
            let mut time_ms = self.some_time(day);
            let cents_max = self.dice.within(30_000, 120_000);
            for _ in 0..self.dice.within(9, 26) {
                let (to, cents) = (self.someone_else(n), self.dice.within(20_000, cents_max));
                self.add(time_ms, Kind::Transfer, me, to, cents);
                self.label(Rule::Velocity);
                time_ms += self.dice.within(MINUTE_MS / 2, 4 * MINUTE_MS);
            }
        }
    }

    /// Structuring: cash in amounts that need no report.
    fn split_deposits(&mut self, at: u32) {
        let me = self.person(self.cast[at as usize]);
        let day = self.some_day();
        let mut time_ms = self.some_time(day);
        let pause_max = self.dice.within(6 * HOUR_MS, 60 * HOUR_MS);
        for _ in 0..self.dice.within(3, 8) {
            let least = u64::from(BAND_CENTS_MIN) - self.dice.below(2) * 20_000;
            let cents = self.dice.within(least, REPORTED_CENTS.into());
            self.add(time_ms, Kind::Deposit, 0, me, cents);
            self.label(Rule::Structuring);
            time_ms += self.dice.within(2 * HOUR_MS, pause_max);
        }
    }

    /// Round trip: through other hands, each of which keeps a little.
    fn send_round(&mut self, at: u32, mules: u32) {
        let me = self.person(self.cast[at as usize]);
        let day = self.some_day();
        let (mut time_ms, mut cents) = (self.some_time(day), self.dice.cents(300_000, 4));
        let hops = self.dice.within(2, u64::from(MULES_MAX) + 2) as u32;
        let (mut from, kept_percent_max) = (me, 1 + self.dice.below(5));
        for hop in 1..=hops {
            let to = if hop == hops { me } else { self.person(self.cast[(mules + hop - 1) as usize]) };
            self.add(time_ms, Kind::Transfer, from, to, cents);
            if hop == 1 {
                self.label(Rule::RoundTrip);
            }
            time_ms += self.dice.within(HOUR_MS, 24 * HOUR_MS);
            cents -= cents * self.dice.below(100 * kept_percent_max) / 10_000;
            from = to;
        }
    }
}
