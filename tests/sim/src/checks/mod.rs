//! The invariants: one file each, with the contract's label. Each is told what happened, in order, and says what broke.

pub mod c10_recovery;
pub mod c1_directory;
pub mod c2_residence;
pub mod c3_order;
pub mod c6_time;
pub mod c7_conservation;
pub mod raft;

/// A sentence of the contract that does not hold, beginning with its label.
pub type Violation = String;
