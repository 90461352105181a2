//! The sources as they are.

#[path = "../../src/hlc.rs"]
#[allow(dead_code)]
pub mod hlc;
#[path = "../../src/ring.rs"]
#[allow(dead_code)]
pub mod ring;
#[path = "scenarios.rs"]
pub mod scenarios;

mod sync {
    pub use crate::cell::Cell;
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}
