//! What every actor of the `txmon` application is told in a month of a small bank, in order.

use ringfleet_abi::Flags;
use ringfleet_actor::{Message, TypeDescriptor};
use ringfleet_actors::txmon::account::{Account, AccountAsked, AccountReport};
use ringfleet_actors::txmon::case::{AlertAsked, Case, CaseAsked, places};
use ringfleet_actors::txmon::desk::{Desk, ReturnedAsked};
use ringfleet_actors::txmon::ledger::{Kind, Ledger};
use ringfleet_actors::txmon::model::Model;
use ringfleet_actors::txmon::plan::{Step, steps};
use ringfleet_actors::txmon::{BAND_CENTS_MIN, DESKS, serial};

use crate::host::Stream;
use crate::schedule::Schedule;

/// A month, and on its last day more near deposits of one account than a page of its case has room for.
fn ledger() -> Ledger {
    let mut ledger = Model { seed: 11, persons: 120, days: 28 }.ledger();
    let mut last = *ledger.transactions.last().expect("there are some");
    (last.kind, last.payer, last.payee, last.cents) = (Kind::Deposit, 0, 3, BAND_CENTS_MIN);
    ledger.transactions.extend([last; 60]);
    ledger
}

/// The streams of all actors that take part.
pub fn streams(types: &[&'static TypeDescriptor]) -> Vec<Stream> {
    let ledger = ledger();
    let mut actors = Schedule::new(types, 7);
    let (account, case, desk) = (Account::at(0).set_tag(), Case::at(0).set_tag(), Desk::at(0).set_tag());
    for step in steps(&ledger) {
        match step {
            Step::Post(posts) => {
                posts.iter().for_each(|(to, post)| actors.send(account, (*to).into(), post, Flags::NONE));
            }
            Step::Sweep(sweeps) => {
                sweeps.iter().for_each(|(to, sweep)| actors.send(account, (*to).into(), sweep, Flags::NONE));
            }
        }
        actors.settle();
    }
    let mut alerts = 0;
    for number in ledger.accounts() {
        actors.run(account, number.into(), &AccountAsked {}, Flags::ASK);
        let report = AccountReport::from_envelope(actors.replies.last().expect("a reply")).expect("a report");
        places(number, report.alerts).for_each(|(page, at)| actors.run(case, page, &AlertAsked { at }, Flags::ASK));
        actors.run(case, number.into(), &CaseAsked {}, Flags::ASK);
        alerts += report.alerts as usize;
    }
    (0..DESKS).for_each(|key| actors.run(desk, key, &ReturnedAsked {}, Flags::ASK));
    assert_eq!(alerts, serial::results(&ledger).alerts.len(), "it is a whole month");
    let streams = actors.streams.into_iter();
    streams.map(|((set, _), envelopes)| Stream { ty: usize::from(set) - 1, envelopes }).collect()
}
