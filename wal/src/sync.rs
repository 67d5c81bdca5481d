//! Locks, atomics and threads as a seam: std in production, loom or shuttle when a model checks the protocols.
//!
//! `--cfg loom` and `--cfg shuttle` select the checkers. Everything in this crate that more than one thread touches
//! goes through here; nothing names `std::sync` locks or `std::thread` directly.

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::atomic;
    pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use loom::thread;
}

#[cfg(all(shuttle, not(loom)))]
mod imp {
    pub(crate) use shuttle::sync::atomic;
    pub(crate) use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use shuttle::thread;
}

#[cfg(not(any(loom, shuttle)))]
mod imp {
    pub(crate) use std::sync::atomic;
    pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use std::thread;
}

pub(crate) use imp::*;

use std::sync::PoisonError;

/// Locks, whatever a panicking holder left: the state behind our locks is valid at every unlock, and a panic in the
/// log itself is latched where it happens.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition variable, with the same treatment of panics as [`lock`].
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Starts a named thread.
#[cfg_attr(
    not(any(loom, shuttle)),
    expect(
        clippy::disallowed_methods,
        reason = "this is the seam: the one place that starts threads"
    )
)]
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    #[cfg(not(any(loom, shuttle)))]
    return thread::Builder::new().name(name.to_owned()).spawn(body);
    #[cfg(any(loom, shuttle))]
    {
        let _ = name;
        Ok(thread::spawn(body))
    }
}
