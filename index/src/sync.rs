//! Locks, atomics and published values as a seam: std in production, loom or shuttle when a model checks the protocols.
//!
//! `--cfg loom` and `--cfg shuttle` select the checkers.

#[cfg(loom)]
pub(crate) use loom::lazy_static;
#[cfg(loom)]
use loom::sync as imp;
#[cfg(all(shuttle, not(loom)))]
pub(crate) use shuttle::lazy_static;
#[cfg(all(shuttle, not(loom)))]
use shuttle::sync as imp;
#[cfg(not(any(loom, shuttle)))]
use std::sync as imp;

pub(crate) use imp::atomic;
#[cfg(any(feature = "ordered", loom, shuttle))]
pub(crate) use imp::{Mutex, MutexGuard};
pub(crate) use imp::{RwLock, RwLockReadGuard, RwLockWriteGuard};

#[cfg(any(feature = "ordered", loom, shuttle))]
use std::sync::PoisonError;
#[cfg(feature = "ordered")]
use std::sync::TryLockError;

/// Locks, whatever a panicking holder left: what our locks guard is valid at every step.
#[cfg(any(feature = "ordered", loom, shuttle))]
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], but `None` instead of waiting.
#[cfg(feature = "ordered")]
pub(crate) fn try_lock<T: ?Sized>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(panicked)) => Some(panicked.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(all(feature = "ordered", not(any(loom, shuttle))))]
mod published {
    use std::sync::Arc;

    /// A value that is replaced as a whole and read without a lock.
    #[derive(Debug, Default)]
    pub(crate) struct Published<T>(arc_swap::ArcSwap<T>);

    impl<T> Published<T> {
        pub(crate) fn new(value: T) -> Self {
            Published(arc_swap::ArcSwap::from_pointee(value))
        }

        /// Runs `read` on the present value.
        #[inline]
        pub(crate) fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
            read(&self.0.load())
        }

        pub(crate) fn get(&self) -> Arc<T> {
            self.0.load_full()
        }

        pub(crate) fn set(&self, value: T) {
            self.0.store(Arc::new(value));
        }
    }
}

#[cfg(all(feature = "ordered", any(loom, shuttle)))]
mod published {
    use super::{Mutex, lock};
    use std::sync::Arc;

    /// A value that is replaced as a whole.
    #[derive(Debug, Default)]
    pub(crate) struct Published<T>(Mutex<Arc<T>>);

    impl<T> Published<T> {
        pub(crate) fn new(value: T) -> Self {
            Published(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
            read(&self.get())
        }

        pub(crate) fn get(&self) -> Arc<T> {
            Arc::clone(&lock(&self.0))
        }

        pub(crate) fn set(&self, value: T) {
            *lock(&self.0) = Arc::new(value);
        }
    }
}

#[cfg(feature = "ordered")]
pub(crate) use published::Published;
