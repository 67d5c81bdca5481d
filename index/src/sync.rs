//! Locks, atomics and threads as a seam: std in production, loom or shuttle when a model checks the protocols.
//!
//! `--cfg loom` and `--cfg shuttle` select the checkers.

#[cfg(loom)]
mod imp {
    pub(crate) use loom::lazy_static;
    pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
}

#[cfg(all(shuttle, not(loom)))]
mod imp {
    pub(crate) use shuttle::lazy_static;
    pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
}

#[cfg(not(any(loom, shuttle)))]
mod imp {
    pub(crate) use std::sync::{Mutex, MutexGuard, atomic};
}

pub(crate) use imp::*;

use std::sync::PoisonError;

/// Locks, whatever a panicking holder left: what our locks guard is valid at every step.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
