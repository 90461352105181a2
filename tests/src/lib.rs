//! What the tests of the whole are made of: actors that notice when the contract is broken, and clusters of real processes.

pub mod actors;
