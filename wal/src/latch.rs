//! The one place where the log becomes read-only: after a failed write or sync, a panic, or `close`.
//!
//! # Invariants
//! - The latch closes once, with the first reason, and never opens again: what a failed sync did to the page cache can
//!   only be found out by a reopen.

use crate::error::{ClosedReason, Error, Result};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, lock};

#[derive(Debug)]
pub(crate) struct Latch {
    closed: AtomicBool,
    reason: Mutex<Option<Error>>,
}

impl Latch {
    pub(crate) fn new() -> Self {
        Latch { closed: AtomicBool::new(false), reason: Mutex::new(None) }
    }

    /// The reason for being closed, if it is.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        // ORDERING: Acquire, pairs with the Release in `close`: whoever sees the flag sees the reason, too.
        if !self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(self.reason())
    }

    #[cold]
    fn reason(&self) -> Error {
        lock(&self.reason).clone().unwrap_or_else(|| Error::closed(ClosedReason::Poisoned))
    }

    /// Closes for good; only the first call counts. Returns what callers are told from now on.
    pub(crate) fn close(&self, reason: Error) -> Error {
        let mut slot = lock(&self.reason);
        let told = slot.get_or_insert(reason).clone();
        // ORDERING: Release, pairs with the Acquire in `check`: publishes the reason.
        self.closed.store(true, Ordering::Release);
        told
    }

    /// Closes because an operation on a file failed: `cause` goes to those who waited for it, and everybody later is
    /// told that the log is poisoned.
    pub(crate) fn poison(&self, cause: Error) -> Error {
        let cause = cause.for_good();
        let told = Error::closed(ClosedReason::Poisoned).caused_by(&cause);
        self.close(told);
        cause
    }
}
