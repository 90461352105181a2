//! The names that occur in a stream: whom to ask for results.

use std::collections::BTreeSet;

use super::csv::Event;

/// Carriers, airports and aircraft of the events seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Codes of carriers.
    pub carriers: BTreeSet<String>,
    /// Codes of airports, origins and destinations.
    pub airports: BTreeSet<String>,
    /// Tail numbers; the aircraft `unknown` is not among them.
    pub aircraft: BTreeSet<String>,
}

impl Names {
    /// Takes note of an event.
    pub fn note(&mut self, event: &Event<'_>) {
        note(&mut self.carriers, event.carrier);
        note(&mut self.airports, event.origin);
        note(&mut self.airports, event.dest);
        if let Some(tail) = event.tail {
            note(&mut self.aircraft, tail);
        }
    }
}

/// Allocates for names that are new only.
fn note(names: &mut BTreeSet<String>, name: &str) {
    if !names.contains(name) {
        names.insert(name.to_owned());
    }
}
