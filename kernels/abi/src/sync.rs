//! The primitives under the ring and the clock. Both files name them as `super::sync`, so that `tests/loom.rs` can compile the
//! very same text against loom's primitives, and against deliberately weakened ones that loom must reject.

use core::cell::UnsafeCell;

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A cell that hands out raw pointers: who may use them is the business of the protocol above.
#[derive(Debug, Default)]
#[repr(transparent)]
pub(crate) struct Cell<T>(UnsafeCell<T>);

impl<T> Cell<T> {
    /// Runs `f` with a pointer to read through.
    #[inline]
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Runs `f` with a pointer to write through.
    #[inline]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}
