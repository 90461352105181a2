//! The ring with every acquire weakened to relaxed.

#[path = "../../src/ring.rs"]
#[allow(dead_code)]
pub mod ring;
#[path = "scenarios.rs"]
#[allow(dead_code)]
pub mod scenarios;

mod sync {
    pub use crate::cell::Cell;
    pub use loom::sync::atomic::AtomicU32;
    use loom::sync::atomic::Ordering as Real;

    /// Stands where the sources name `Ordering`.
    pub struct Ordering;

    #[allow(non_upper_case_globals)]
    impl Ordering {
        pub const Acquire: Real = Real::Relaxed;
        pub const Release: Real = Real::Release;
    }
}
