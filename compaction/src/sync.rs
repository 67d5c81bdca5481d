//! Locks and threads of the pool as a seam: std in production, loom when a model checks the protocol.

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use loom::thread;
}

#[cfg(not(loom))]
mod imp {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread;
}

pub(crate) use imp::*;

use std::sync::PoisonError;
use std::time::Duration;

/// Locks, whatever a panicking holder left: what our locks guard is valid at every unlock.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition variable, no longer than `timeout`.
pub(crate) fn wait<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    timeout: Option<Duration>,
) -> MutexGuard<'a, T> {
    match timeout {
        None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(timeout) => {
            condvar.wait_timeout(guard, timeout).unwrap_or_else(PoisonError::into_inner).0
        }
    }
}

/// Starts a named thread.
#[cfg_attr(
    not(loom),
    expect(
        clippy::disallowed_methods,
        reason = "this is the seam: the one place that starts threads"
    )
)]
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    #[cfg(not(loom))]
    return thread::Builder::new().name(name.to_owned()).spawn(body);
    #[cfg(loom)]
    {
        let _ = name;
        Ok(thread::spawn(body))
    }
}
