//! Locks that do not pass a panic on, and the seam through which loom sees what its models check.
//!
//! Invariants: the state behind every lock of this crate is valid at each unlock, so a panic of a holder says nothing
//! about it.

use std::io;
use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::Duration;

/// A running thread of the engine.
pub(crate) type Thread = std::thread::JoinHandle<()>;

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition variable, for at most `timeout` if there is one; true when that is over.
pub(crate) fn wait_for<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    timeout: Option<Duration>,
) -> (MutexGuard<'a, T>, bool) {
    match timeout {
        None => (condvar.wait(guard).unwrap_or_else(PoisonError::into_inner), false),
        Some(timeout) => {
            let waited = condvar.wait_timeout(guard, timeout);
            let (guard, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
            (guard, outcome.timed_out())
        }
    }
}

/// Lets time pass in this thread.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the seam: the one place of the engine that makes a caller sleep"
)]
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Starts a named thread.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the seam: the one place of the engine that starts threads"
)]
pub(crate) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// What the protocols of `loom_models` are made of: std in production, loom under `--cfg loom`.
pub(crate) mod checked {
    #[cfg(loom)]
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, atomic};
    #[cfg(not(loom))]
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};

    use std::sync::PoisonError;

    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a moment before another look: spins first, which is all that a short wait needs, then lets others run; false
    /// when it is time to park. A checker of models has no use for moments.
    pub(crate) fn pause(round: u32) -> bool {
        const SPINS: u32 = 32;
        const YIELDS: u32 = 16;
        if cfg!(loom) || round >= SPINS + YIELDS {
            return false;
        }
        if round < SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
        true
    }
}
