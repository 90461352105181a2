//! The actors that ship with Ringfleet and its example applications.
//!
//! | module | actor types |
//! |---|---|
//! | [`echo`] | `echo`: the smallest one |
//! | [`counter`] | `counter`: state, tells and asks |
//! | [`hop`] | `hop`: the benchmark |
//! | [`flights`] | `flights.aircraft`, `flights.carrier`, `flights.airport`: a year of real flights |
//! | [`graph`] | `graph.vertex`, `graph.block`, `graph.group`, `graph.rounds`: PageRank and components of a real graph |
//! | [`txmon`] | `txmon.account`, `txmon.case`, `txmon.desk`: transaction monitoring |
//!
//! Deliberately absent: I/O. Streams, files and clients belong to those who run the actors.

pub mod counter;
pub mod echo;
pub mod flights;
pub mod graph;
pub mod hop;
pub mod txmon;

use ringfleet_actor::TypeDescriptor;
use ringfleet_actor::types;

/// The actor types of this crate.
#[must_use]
pub fn types() -> Vec<&'static TypeDescriptor> {
    types![
        counter::Counter,
        echo::Echo,
        hop::Hop,
        flights::aircraft::Aircraft,
        flights::airport::Airport,
        flights::carrier::Carrier,
        graph::block::Block,
        graph::group::Group,
        graph::rounds::Rounds,
        graph::vertex::Vertex,
        txmon::account::Account,
        txmon::case::Case,
        txmon::desk::Desk,
    ]
}

/// The key that `text` names for actors of `actor_type`, as the type itself makes its keys: `UA` for `flights.carrier`. `None` if
/// the type is not of this crate or takes plain numbers.
#[must_use]
pub fn key_of(actor_type: &str, text: &str) -> Option<u64> {
    match actor_type {
        "flights.aircraft" => Some(flights::keys::aircraft(text)),
        "flights.carrier" | "flights.airport" => flights::keys::pack(text).map(u64::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_own_name() {
        let registry = ringfleet_actor::TypeRegistry::new(types()).expect("no name twice");
        assert_eq!(registry.len(), 13);
    }

    #[test]
    fn keys_are_written_as_the_types_write_them() {
        assert_eq!(key_of("flights.carrier", "UA"), Some(0x5541));
        assert_eq!(key_of("flights.airport", "JFK"), Some(0x4A_464B));
        assert_eq!(key_of("flights.aircraft", "unknown"), Some(flights::keys::UNKNOWN_AIRCRAFT));
        assert_eq!(key_of("flights.carrier", "too long"), None);
        assert_eq!(key_of("counter", "7"), None);
    }
}
