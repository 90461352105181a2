//! The cell of `src/sync.rs`, over loom's cell, which notices every access that is not ordered with another one.

/// See `src/sync.rs`.
#[derive(Debug)]
pub struct Cell<T>(loom::cell::UnsafeCell<T>);

impl<T: Default> Default for Cell<T> {
    fn default() -> Self {
        Self(loom::cell::UnsafeCell::new(T::default()))
    }
}

impl<T> Cell<T> {
    pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        self.0.with(f)
    }

    pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(f)
    }
}
