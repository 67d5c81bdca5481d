//! A bell for those who follow the log: rung when more of it is durable.
//!
//! # Concurrency
//! Nobody listens as a rule, and ringing is one load then. What is right does not depend on a bell: who waits looks again
//! by itself, so one that is missed costs a moment. It is not part of what loom checks, and made of std therefore.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Who waits looks again at least so often.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    listeners: AtomicU32,
    lock: Mutex<()>,
    bell: Condvar,
}

impl Moved {
    /// Wakes whoever waits.
    #[inline]
    pub(crate) fn notify(&self) {
        // ORDERING: Relaxed; a listener that is not seen looks again.
        if self.listeners.load(Ordering::Relaxed) > 0 {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.bell.notify_all();
        }
    }

    /// Waits until `must_wait` says no, or `timeout` is over.
    pub(crate) fn wait_while(&self, timeout: Duration, must_wait: impl Fn() -> bool) {
        let mut left = timeout;
        self.listeners.fetch_add(1, Ordering::Relaxed);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        while must_wait() && !left.is_zero() {
            let moment = left.min(LOOK_AGAIN);
            let waited = self.bell.wait_timeout(guard, moment);
            let (after, outcome) = waited.unwrap_or_else(PoisonError::into_inner);
            guard = after;
            // Woken early, the rest of the moment is not counted: a wait may be longer by one moment for each bell.
            if outcome.timed_out() {
                left -= moment;
            }
        }
        drop(guard);
        self.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_bell_wakes_and_silence_ends() {
        let (moved, is_over) = (Moved::default(), AtomicBool::new(false));
        moved.wait_while(Duration::from_millis(1), || true);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                moved.wait_while(Duration::from_secs(600), || !is_over.load(Ordering::Relaxed));
            });
            is_over.store(true, Ordering::Relaxed);
            moved.notify();
            waiter.join().unwrap();
        });
    }
}
