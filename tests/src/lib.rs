//! What the tests of the whole are made of: actors that notice when the contract is broken, and clusters of real processes.

pub mod actors;
pub mod cluster;
pub mod faults;
pub mod streams;

use ringfleet_actor::TypeDescriptor;

/// The actor types of the binary under test: those that ship, and those that check.
#[must_use]
pub fn types() -> Vec<&'static TypeDescriptor> {
    let mut types = ringfleet_actors::types();
    types.extend(ringfleet_actor::types![actors::Stage, actors::Player]);
    types
}
