//! Ledgers through the actors in one thread, compared with the serial computation.

#[allow(dead_code)] // What actors were told is of use elsewhere.
mod schedule;

use proptest::prelude::*;
use ringfleet_abi::Flags;
use ringfleet_actor::testing::Town;
use ringfleet_actor::{Message, TypeRegistry};
use ringfleet_actors::txmon::account::{Account, AccountAsked, AccountReport, Posted, Sweep, Trace};
use ringfleet_actors::txmon::case::{Alert, AlertAsked, Case, CaseAsked, CaseFile, PAGE_ALERTS, places};
use ringfleet_actors::txmon::desk::{Desk, Returned, ReturnedAsked};
use ringfleet_actors::txmon::ledger::{HEADER, Kind, Ledger, Transaction};
use ringfleet_actors::txmon::model::Model;
use ringfleet_actors::txmon::plan::{Step, steps};
use ringfleet_actors::txmon::serial::{self, Limits};
use ringfleet_actors::txmon::tables::{AlertRow, Results};
use ringfleet_actors::txmon::{
    BAND_CENTS_MIN, DAY_MS, DESKS, HOPS_MAX, PARTS_MAX, RECENT, REMEMBERED, REPORTED_CENTS, Rule,
    STRUCTURING_WINDOW_MS, TRACE_WINDOW_MS, TRACED_CENTS_MIN, VELOCITY_CENTS, VELOCITY_COUNT, VELOCITY_WINDOW_MS,
    WEIGHT,
};
use schedule::Schedule;

const SMALL: Model = Model { seed: 1, persons: 300, days: 14 };

fn town() -> Town {
    Town::new(TypeRegistry::new(ringfleet_actors::types()).expect("no name twice"))
}

fn returned(town: &mut Town) -> u64 {
    let mut weight = 0;
    for desk in 0..DESKS {
        let reply = town.ask(Desk::at(desk), &ReturnedAsked {}).expect("a reply");
        weight += Returned::from_envelope(&reply).expect("a weight").weight;
    }
    weight
}

/// Everything but what `lost` says of the number of a step and of a message in it. Weight that does not come back is returned.
fn run(ledger: &Ledger, lost: impl Fn(usize, usize) -> bool) -> (Town, u64) {
    let (mut town, mut told) = (town(), 0);
    for (n, step) in steps(ledger).iter().enumerate() {
        match step {
            Step::Post(posts) => {
                posts.iter().enumerate().filter(|(at, _)| !lost(n, *at)).for_each(|(_, (to, post))| {
                    town.tell(Account::at((*to).into()), post);
                })
            }
            Step::Sweep(sweeps) => {
                told += sweeps.len() as u64 * u64::from(WEIGHT);
                sweeps.iter().enumerate().filter(|(at, _)| !lost(n, *at)).for_each(|(_, (to, sweep))| {
                    town.tell(Account::at((*to).into()), sweep);
                });
            }
        }
    }
    let missing = told - returned(&mut town);
    (town, missing)
}

fn results(town: &mut Town, ledger: &Ledger) -> Results {
    let mut results = Results::default();
    for account in ledger.accounts() {
        let reply = town.ask(Account::at(account.into()), &AccountAsked {}).expect("a reply");
        let report = AccountReport::from_envelope(&reply).expect("a report");
        for (page, at) in places(account, report.alerts) {
            let reply = town.ask(Case::at(page), &AlertAsked { at }).expect("a reply");
            let alert = Alert::from_envelope(&reply).expect("an alert");
            results.alerts.push(AlertRow::of(account, &alert).expect("a rule"));
        }
        results.accounts.insert(account, report);
    }
    results.alerts.sort_unstable();
    results
}

fn check(ledger: &Ledger) -> Results {
    let (mut town, missing) = run(ledger, |_, _| false);
    let results = results(&mut town, ledger);
    assert_eq!((town.failed.len(), town.astray, town.dead_lettered, missing), (0, 0, 0, 0));
    assert_eq!(results.difference(&serial::results(ledger)), None);
    results
}

fn alerts(ledger: &Ledger, rule: Rule) -> usize {
    check(ledger).alerts.iter().filter(|alert| alert.rule == rule).count()
}

/// Transactions at times from the beginning of a day on.
fn ledger(transactions: &[(u64, Kind, u32, u32, u32)]) -> Ledger {
    let begin_ms = 20_000 * DAY_MS;
    let transaction = |(at, kind, payer, payee, cents): &(u64, Kind, u32, u32, u32)| Transaction {
        time_ms: begin_ms + at,
        kind: *kind,
        payer: *payer,
        payee: *payee,
        cents: *cents,
        label: None,
    };
    Ledger { transactions: transactions.iter().map(transaction).collect() }
}

#[test]
fn the_built_in_model_gives_what_the_serial_computation_gives() {
    let ledger = Model::BUILT_IN.ledger();
    let results = check(&ledger);
    println!("{} transactions\n{}", ledger.transactions.len(), results.tables(&ledger));
    // As docs/applications.md says.
    assert_eq!((ledger.transactions.len(), results.accounts.len()), (139_667, 4_243));
    let found = Rule::ALL.map(|rule| results.found(&ledger, rule)).map(|it| (it.alerted, it.labelled, it.both));
    assert_eq!(found, [(31, 25, 24), (25, 25, 22), (22, 25, 18)]);
    for rule in Rule::ALL {
        let found = results.found(&ledger, rule);
        assert!(found.both > 0 && found.both < found.labelled, "{rule:?}: {found:?}: some are found, some evade");
        assert!(found.alerted > found.both, "{rule:?}: {found:?}: some are honest");
    }
}

#[test]
fn the_same_seed_makes_the_same_ledger_everywhere() {
    let text = SMALL.ledger().to_csv();
    assert_eq!(
        ringfleet_abi::hash::fnv1a64(text.as_bytes()),
        12_851_379_037_623_324_161,
        "the ledger of 300 persons in two weeks"
    );
    assert_ne!(text, Model { seed: 2, ..SMALL }.ledger().to_csv());
    assert_eq!(Ledger::parse(text.as_bytes()), Ok(SMALL.ledger()));
}

#[test]
fn velocity_begins_just_above_its_limits_and_within_its_window() {
    let spread = |n: u64, span: u64, cents: u32| {
        let payments: Vec<_> = (0..n).map(|i| (span * i / (n - 1), Kind::Purchase, 1, 2, cents)).collect();
        alerts(&ledger(&payments), Rule::Velocity)
    };
    let many = u64::from(VELOCITY_COUNT) + 1;
    assert_eq!(spread(many, VELOCITY_WINDOW_MS - 1, 1), 1);
    assert_eq!(spread(many, VELOCITY_WINDOW_MS, 1), 0, "the first has left the window");
    assert_eq!(spread(many - 1, 10, 1), 0, "one too few");
    let half = VELOCITY_CENTS as u32 / 2;
    assert_eq!(spread(2, VELOCITY_WINDOW_MS - 1, half), 0, "just the limit");
    assert_eq!(spread(2, VELOCITY_WINDOW_MS - 1, half + 1), 1);
    assert_eq!(spread(2, VELOCITY_WINDOW_MS, half + 1), 0);
    // Quiet for the window after an alert, then again; salaries and what others pay do not count.
    let large = VELOCITY_CENTS as u32 + 1;
    let quiet =
        |at| alerts(&ledger(&[(0, Kind::Transfer, 1, 2, large), (at, Kind::Transfer, 1, 2, large)]), Rule::Velocity);
    assert_eq!((quiet(VELOCITY_WINDOW_MS - 1), quiet(VELOCITY_WINDOW_MS)), (1, 2));
    assert_eq!(alerts(&ledger(&[(0, Kind::Salary, 1, 2, large), (0, Kind::Deposit, 0, 1, large)]), Rule::Velocity), 0);
    let others: Vec<_> = (0..40).map(|i| (i, Kind::Purchase, i as u32 % 4, 9, 1)).collect();
    assert_eq!(alerts(&ledger(&others), Rule::Velocity), 0);
}

#[test]
fn an_account_looks_back_at_its_last_payments_only() {
    // One large payment, then so many small ones that it is just forgotten; the alerts about many are over by then.
    let payments = |small: u32| {
        let mut payments = vec![(0, Kind::Purchase, 1, 2, VELOCITY_CENTS as u32)];
        payments.extend((0..u64::from(small)).map(|i| (i + 1, Kind::Purchase, 1, 2, 1)));
        check(&ledger(&payments)).alerts
    };
    let first = payments(RECENT + 3);
    assert_eq!((first.len(), first[0].first_seq, first[0].last_seq), (1, 1, 2), "the sum alone");
}

#[test]
fn structuring_is_near_deposits_within_the_window_each_in_one_alert() {
    let deposits = |cents: u32, times: &[u64]| {
        let all: Vec<_> = times.iter().map(|at| (*at, Kind::Deposit, 0, 5, cents)).collect();
        alerts(&ledger(&all), Rule::Structuring)
    };
    let w = STRUCTURING_WINDOW_MS;
    assert_eq!(deposits(BAND_CENTS_MIN, &[0, 1, w - 1]), 1);
    assert_eq!(deposits(BAND_CENTS_MIN, &[0, 1, w]), 0, "the first has left the window");
    assert_eq!(deposits(BAND_CENTS_MIN - 1, &[0, 1, 2]), 0, "not near");
    assert_eq!(deposits(REPORTED_CENTS - 1, &[0, 1, 2]), 1);
    assert_eq!(deposits(REPORTED_CENTS, &[0, 1, 2]), 0, "reported anyway");
    assert_eq!(deposits(BAND_CENTS_MIN, &[0, 0]), 0, "one too few");
    assert_eq!(deposits(BAND_CENTS_MIN, &[0, 0, 0, 0, 0]), 1, "five are one alert");
    assert_eq!(deposits(BAND_CENTS_MIN, &[0, 0, 0, 0, 0, 0]), 2);
    assert_eq!(deposits(BAND_CENTS_MIN, &[0, w, w + 1, 2 * w - 1]), 1, "the first is passed by");
}

/// The alerts about round trips of a chain from account 1 back to it.
fn chain(hops: u32, times: &[u64], cents: &[u32]) -> usize {
    let hop = |i: u32| {
        let (at, cents) = (times[i as usize % times.len()], cents[i as usize % cents.len()]);
        (at, Kind::Transfer, i + 1, if i + 1 == hops { 1 } else { i + 2 }, cents)
    };
    alerts(&ledger(&(0..hops).map(hop).collect::<Vec<_>>()), Rule::RoundTrip)
}

#[test]
fn a_round_trip_has_few_hops_little_loss_and_ends_within_the_window() {
    let (w, least) = (TRACE_WINDOW_MS, TRACED_CENTS_MIN);
    for hops in 2..=u32::from(HOPS_MAX) {
        assert_eq!(chain(hops, &[0], &[least]), 1, "{hops} hops in no time");
    }
    assert_eq!(chain(u32::from(HOPS_MAX) + 1, &[0], &[least]), 0, "too long");
    assert_eq!(chain(2, &[0, w - 1], &[least]), 1);
    assert_eq!(chain(2, &[0, w], &[least]), 0, "too late");
    // The day it begins on ends, and the window is over only after two further ones.
    assert_eq!(chain(3, &[DAY_MS - 1, DAY_MS, DAY_MS + w - 2], &[least]), 1);
    assert_eq!(chain(3, &[DAY_MS - 1, DAY_MS, DAY_MS + w - 1], &[least]), 0);
    assert_eq!(chain(2, &[0], &[least * 10, least * 9]), 1, "ten per cent");
    assert_eq!(chain(2, &[0], &[least * 10, least * 9 - 1]), 0, "a cent more");
    assert_eq!(chain(3, &[0], &[least * 10, least * 9, least * 9 + 1]), 0, "more than came");
    assert_eq!(chain(2, &[0], &[least + 1, least]), 1);
    assert_eq!(chain(2, &[0], &[least, least - 1]), 0, "too small to be traced");
    // Purchases are no transfers, and what came before the first does not follow it.
    let purchase = ledger(&[(0, Kind::Transfer, 1, 2, least), (1, Kind::Purchase, 2, 1, least)]);
    assert_eq!(alerts(&purchase, Rule::RoundTrip), 0);
    let before = ledger(&[(0, Kind::Transfer, 2, 1, least), (0, Kind::Transfer, 1, 2, least)]);
    assert_eq!(check(&before).alerts.iter().map(|alert| alert.account).collect::<Vec<_>>(), [2], "not that of 1");
}

#[test]
fn a_trace_follows_two_ways_and_prefers_the_one_back() {
    let cents = TRACED_CENTS_MIN;
    // From 2 the money goes to `ways` others before the one that sends it back.
    let by_way = |ways: u32| {
        let mut all = vec![(0, Kind::Transfer, 1, 2, cents)];
        all.extend((0..ways).map(|i| (1, Kind::Transfer, 2, 10 + i, cents)));
        all.push((2, Kind::Transfer, 10 + ways - 1, 1, cents));
        alerts(&ledger(&all), Rule::RoundTrip)
    };
    assert_eq!((by_way(1), by_way(2), by_way(3)), (1, 1, 0));
    // However many go elsewhere, the one back is taken, and only the first.
    let mut all = vec![(0, Kind::Transfer, 1, 2, cents)];
    all.extend((0..5).map(|i| (1, Kind::Transfer, 2, 10 + i, cents)));
    all.extend([(2, Kind::Transfer, 2, 1, cents), (3, Kind::Transfer, 2, 1, cents)]);
    assert_eq!(alerts(&ledger(&all), Rule::RoundTrip), 1);
    // Two ways to the same end are two alerts.
    let all: Vec<_> = [(1, 2), (2, 3), (2, 3), (3, 1)].map(|(a, b)| (0, Kind::Transfer, a, b, cents)).to_vec();
    assert_eq!(alerts(&ledger(&all), Rule::RoundTrip), 2);
}

#[test]
fn what_is_forgotten_is_neither_traced_nor_followed() {
    let cents = TRACED_CENTS_MIN;
    let with = |forgetful: u32, others: u64| {
        let mut all = vec![(0, Kind::Transfer, 1, 2, cents), (1, Kind::Transfer, 2, 1, cents)];
        all.extend((0..others).map(|i| (2 + i, Kind::Transfer, forgetful, 1000 + i as u32, cents)));
        alerts(&ledger(&all), Rule::RoundTrip)
    };
    let most = u64::from(REMEMBERED);
    for account in [1, 2] {
        assert_eq!((with(account, most - 1), with(account, most)), (1, 0), "account {account}");
    }
}

#[test]
fn a_case_goes_on_on_further_pages() {
    let deposits = |n: u32| ledger(&vec![(0, Kind::Deposit, 0, 7, BAND_CENTS_MIN); 3 * n as usize]);
    for n in [PAGE_ALERTS, PAGE_ALERTS + 1, 5 * PAGE_ALERTS + 3] {
        let (ledger, pages) = (deposits(n), u64::from(n.div_ceil(PAGE_ALERTS)));
        assert_eq!(check(&ledger).alerts.len(), n as usize);
        let (mut town, _) = run(&ledger, |_, _| false);
        let reply = town.ask(Case::at(7), &CaseAsked {}).expect("a reply");
        let file = CaseFile::from_envelope(&reply).expect("a file");
        assert_eq!((file.alerts, file.cents), ([0, n, 0], u64::from(3 * n * BAND_CENTS_MIN)));
        assert!(town.state::<Case>((pages - 1) << 32 | 7).is_some() && town.state::<Case>(pages << 32 | 7).is_none());
    }
    // Round trips as well: their weight comes back from whatever page they end on.
    let cents = TRACED_CENTS_MIN;
    let rounds: Vec<_> = (0..60)
        .flat_map(|i| {
            let at = i * 5 * DAY_MS;
            [(at, Kind::Transfer, 1, 2, cents), (at, Kind::Transfer, 2, 1, cents)]
        })
        .collect();
    assert!(alerts(&ledger(&rounds), Rule::RoundTrip) >= 60);
}

type Change = fn(&mut Limits);

#[test]
fn a_rule_with_any_other_limit_would_be_noticed() {
    let ledgers = [Model { seed: 3, persons: 1_500, days: 28 }.ledger(), dense_ledger(5)];
    let differs = |change: Change| {
        let mut limits = Limits::OF_THE_RULES;
        change(&mut limits);
        let other = |ledger: &Ledger| serial::results(ledger).difference(&serial::results_with(ledger, &limits));
        ledgers.iter().find_map(other)
    };
    assert_eq!(differs(|_| ()), None);
    let changes: [(&str, Change); 12] = [
        ("velocity window", |l| l.velocity_window_ms /= 2),
        ("velocity count", |l| l.velocity_count += 1),
        ("velocity cents", |l| l.velocity_cents /= 2),
        ("structuring window", |l| l.structuring_window_ms /= 3),
        ("band", |l| l.band_cents_min += 50_000),
        ("reported", |l| l.reported_cents -= 20_000),
        ("near deposits", |l| l.near_deposits += 1),
        ("trace window", |l| l.trace_window_ms -= DAY_MS),
        ("remembered", |l| l.remembered -= 1),
        ("loss", |l| l.loss_percent -= 5),
        ("hops", |l| l.hops_max -= 1),
        ("followed", |l| l.followed -= 1),
    ];
    for (what, change) in changes {
        let difference = differs(change).unwrap_or_else(|| panic!("{what}: no difference"));
        assert!(difference.contains("is not"), "{difference}");
    }
}

#[test]
fn a_lost_posting_makes_a_difference_and_a_lost_sweep_leaves_weight_missing() {
    let ledger = SMALL.ledger();
    let serial = serial::results(&ledger);
    let all = steps(&ledger);
    let first = |wanted: fn(&Step) -> bool| all.iter().position(wanted).expect("a step");
    let (post, sweep) = (first(|step| matches!(step, Step::Post(_))), first(|step| matches!(step, Step::Sweep(_))));
    let (mut town, missing) = run(&ledger, |step, at| (step, at) == (post, 3));
    assert!(results(&mut town, &ledger).difference(&serial).is_some());
    assert_eq!(missing, 0);
    let (_, missing) = run(&ledger, |step, at| (step, at) == (sweep, 0));
    assert_eq!(missing, u64::from(WEIGHT));
    // A trace in the middle: an account that takes nothing any more.
    let cents = TRACED_CENTS_MIN;
    let chain = ledger_of_chain(cents);
    let mut town = self::town();
    for step in steps(&chain) {
        match step {
            Step::Post(posts) => posts.iter().for_each(|(to, post)| town.tell(Account::at((*to).into()), post)),
            Step::Sweep(sweeps) => {
                let again = Posted { time_ms: 0, to: 0, cents: 1, seq: 0, kind: Posted::DEPOSIT };
                town.tell(Account::at(3), &again);
                sweeps.iter().for_each(|(to, sweep)| town.tell(Account::at((*to).into()), sweep));
            }
        }
    }
    assert_eq!((town.failed.len(), returned(&mut town)), (1, 0), "nothing of what account 3 was to follow came back");
}

fn ledger_of_chain(cents: u32) -> Ledger {
    ledger(&[(0, Kind::Transfer, 1, 2, cents), (1, Kind::Transfer, 2, 3, cents), (2, Kind::Transfer, 3, 1, cents)])
}

#[test]
fn what_may_not_be_fails_the_one_who_is_told() {
    let mut town = town();
    let post = |time_ms, seq| Posted { time_ms, to: 0, cents: 5, seq, kind: Posted::DEPOSIT };
    town.tell(Account::at(1), &post(10, 2));
    town.tell(Account::at(1), &post(10, 2));
    assert_eq!((town.handled, town.failed.len()), (1, 1), "a number twice");
    town.tell(Account::at(2), &post(10, 2));
    town.tell(Account::at(2), &post(9, 3));
    assert_eq!((town.handled, town.failed.len()), (2, 2), "back in time");
    let sweep = Sweep { from_ms: 0, to_ms: DAY_MS, weight: WEIGHT.into(), _pad: [0; 4] };
    town.tell(Account::at(3), &sweep);
    town.tell(Account::at(3), &sweep);
    assert_eq!(town.failed.len(), 3, "a day twice");
    assert!(town.ask(Case::at(1), &AlertAsked { at: 0 }).is_none(), "an alert that is not there");
    assert_eq!(town.failed.len(), 4);
    town.tell(Case::at(2), &Alert { rule: 3, cents: 1, ..Alert::default() });
    assert_eq!(town.failed.len(), 5, "a rule that is not there");
}

#[test]
fn the_weight_of_a_sweep_suffices_for_the_most_that_it_can_set_off() {
    // Everybody sends to everybody who is later in line, and nobody back: each trace goes on as far as it may.
    let cents = TRACED_CENTS_MIN;
    let mut all: Vec<_> = (0..u64::from(REMEMBERED)).map(|i| (i, Kind::Transfer, 1, 100 + i as u32, cents)).collect();
    for level in 1..=3 {
        for from in 0..REMEMBERED {
            let ways = (0..2).map(|i| {
                (u64::from(level) * 100, Kind::Transfer, level * 100 + from, level * 100 + 100 + (from + i) % 16, cents)
            });
            all.extend(ways);
        }
    }
    let ledger = ledger(&all);
    check(&ledger);
    let (mut town, _) = run(&ledger, |_, _| false);
    let mut lightest = u64::MAX;
    for desk in 0..DESKS {
        let reply = town.ask(Desk::at(desk), &ReturnedAsked {}).expect("a reply");
        let returned = Returned::from_envelope(&reply).expect("a weight");
        lightest = lightest.min(returned.weight.checked_div(returned.ends).unwrap_or(u64::MAX));
    }
    assert!(lightest >= u64::from(WEIGHT) / u64::from(PARTS_MAX), "{lightest}");
    let mut single = self::town();
    let trace =
        Trace { first_ms: 0, origin: 9, first_cents: 1, first_seq: 1, cents: 1, seq: 1, hops: HOPS_MAX, weight: 1 };
    single.tell(Account::at(1), &trace);
    assert_eq!(returned(&mut single), 1);
}

#[test]
fn a_ledger_with_a_wrong_line_is_refused_by_its_number() {
    let say = |lines: &str| Ledger::parse(format!("{HEADER}\n{lines}").as_bytes()).expect_err("wrong").to_string();
    assert_eq!(
        Ledger::parse(b"time,who\n").expect_err("wrong").to_string(),
        format!("line 1: its first line must be {HEADER}")
    );
    assert_eq!(say(""), "line 2: no transactions in it");
    assert_eq!(say("1,transfer,1,2,3,\n\n"), "line 3: expected 6 fields, found 1");
    assert_eq!(say("1,transfer,1,2,3\n"), "line 2: expected 6 fields, found 5");
    assert_eq!(say("1,transfer,1,2,3,\n-2,transfer,1,2,3,\n"), "line 3: `-2` is no time_ms");
    assert_eq!(say("253402300800000,transfer,1,2,3,\n"), "line 2: `253402300800000` is no time_ms");
    assert_eq!(say("1,gift,1,2,3,\n"), "line 2: `gift` is no kind");
    assert_eq!(say("1,transfer,4294967296,2,3,\n"), "line 2: `4294967296` is no payer");
    assert_eq!(say("1,transfer,-,2,3,\n"), "line 2: `-` is no payer");
    assert_eq!(say("1,deposit,1,2,3,\n"), "line 2: `1` is no payer of a deposit, which is -");
    assert_eq!(say("1,transfer,1,2,0,\n"), "line 2: `0` is no cents");
    assert_eq!(say("1,transfer,1,2,+1,\n"), "line 2: `+1` is no cents");
    assert_eq!(say("1,transfer,1,2,3,theft\n"), "line 2: `theft` is no label");
    assert_eq!(say("1,transfer,7,7,3,\n"), "line 2: account 7 pays itself");
    assert_eq!(say("2,transfer,1,2,3,\n1,transfer,1,2,3,\n"), "line 3: it happened before the line above it");
    let not_text = [HEADER.as_bytes(), b"\n1,transfer,1,2,3,\xff\n"].concat();
    assert_eq!(Ledger::parse(&not_text).expect_err("wrong").to_string(), "line 2: not UTF-8");
    // The end of the last line may be missing, and lines may end as on Windows.
    for text in ["1,deposit,-,2,3,\n", "1,deposit,-,2,3,", "1,deposit,-,2,3,\r\n"] {
        assert_eq!(Ledger::parse(format!("{HEADER}\r\n{text}").as_bytes()).expect("right").transactions.len(), 1);
    }
}

/// Few accounts that do a lot, so that all limits are met often.
fn dense(transactions: usize) -> impl Strategy<Value = Ledger> {
    let kind = prop_oneof![4 => Just(Kind::Transfer), 1 => Just(Kind::Purchase), 1 => Just(Kind::Deposit), 1 => Just(Kind::Salary)];
    let pause = prop_oneof![Just(0_u64), 0..VELOCITY_WINDOW_MS / 4, 0..DAY_MS / 2];
    let cents = prop_oneof![1..2_000_000_u32, BAND_CENTS_MIN - 2..REPORTED_CENTS + 2, 100_000..112_000_u32];
    let one = (pause, kind, 0..8_u32, 1..8_u32, cents);
    proptest::collection::vec(one, 1..transactions).prop_map(|all| {
        let mut at = 0;
        let transaction = |(pause, kind, payer, other, cents)| {
            at += pause;
            (at, kind, if kind == Kind::Deposit { 0 } else { payer }, (payer + other) % 8, cents)
        };
        ledger(&all.into_iter().map(transaction).collect::<Vec<_>>())
    })
}

/// One of them, the same each time.
fn dense_ledger(seed: u64) -> Ledger {
    let draw = |n: u64| ringfleet_abi::hash::mix64(seed << 32 | n);
    let mut at = 0;
    let one = |n: u64| {
        at += draw(4 * n) % (2 * VELOCITY_WINDOW_MS);
        let (payer, other) = (draw(4 * n + 1) % 8, 1 + draw(4 * n + 2) % 7);
        (at, Kind::Transfer, payer as u32, ((payer + other) % 8) as u32, 100_000 + (draw(4 * n + 3) % 9_000) as u32)
    };
    ledger(&(0..600).map(one).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_ledger_gives_what_the_serial_computation_gives(ledger in dense(400)) {
        check(&ledger);
    }

    #[test]
    fn any_seed_gives_what_the_serial_computation_gives(seed: u64, persons in 20..80_u32, days in 1..20_u32) {
        check(&Model { seed, persons, days }.ledger());
    }

    /// Nothing is taken for granted but the order of what one actor sends to another: a slow one may be as slow as it likes.
    #[test]
    fn any_order_of_messages_gives_the_same(ledger in dense(300), seed: u64) {
        let types = ringfleet_actors::types();
        let mut actors = Schedule::new(&types, seed);
        let account = Account::at(0).set_tag();
        for step in steps(&ledger) {
            match step {
                Step::Post(posts) => posts.iter().for_each(|(to, post)| actors.send(account, (*to).into(), post, Flags::NONE)),
                Step::Sweep(sweeps) => sweeps.iter().for_each(|(to, sweep)| actors.send(account, (*to).into(), sweep, Flags::NONE)),
            }
            actors.settle();
        }
        let mut results = Results::default();
        for number in ledger.accounts() {
            actors.run(account, number.into(), &AccountAsked {}, Flags::ASK);
            let report = AccountReport::from_envelope(&actors.replies.pop().expect("a reply")).expect("a report");
            for (page, at) in places(number, report.alerts) {
                actors.run(Case::at(0).set_tag(), page, &AlertAsked { at }, Flags::ASK);
                let alert = Alert::from_envelope(&actors.replies.pop().expect("a reply")).expect("an alert");
                results.alerts.push(AlertRow::of(number, &alert).expect("a rule"));
            }
            results.accounts.insert(number, report);
        }
        results.alerts.sort_unstable();
        prop_assert_eq!(results.difference(&serial::results(&ledger)), None);
    }
}
