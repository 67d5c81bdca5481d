//! A full disk: what is asked of it, and how often.

use std::time::Duration;

use super::Space;
use crate::error::{Error, Result};
use crate::latch::Latch;
use crate::sync::atomic::Ordering;
use crate::sync::lock;
use crate::wal::Wal;

/// A refused reservation is tried again after this time.
const FULL_RETRY: Duration = Duration::from_secs(1);

impl Wal {
    /// While on, nothing is made ready ahead of the writers, and only what a commit needs is reserved: for an owner who has freed
    /// its last reserve of a full disk for commits that free space ([`Batch::draw_on_reserve`](crate::Batch::draw_on_reserve)).
    /// Either way a full disk is asked again at once.
    pub fn set_frugal(&self, frugal: bool) {
        let core = self.core();
        lock(&core.appender).set_frugal(frugal, &core.space);
        core.space_signals.notify();
    }
}

impl Space {
    pub(super) fn is_frugal(&self) -> bool {
        // ORDERING: whoever appends sees what was set under the append lock; the others may be late by one window.
        self.frugal.load(Ordering::Relaxed)
    }

    /// Makes nothing ahead of the writers from now on, or as ever; a full disk is asked again at once. The caller has the
    /// append lock.
    pub(crate) fn set_frugal(&self, frugal: bool) {
        self.frugal.store(frugal, Ordering::Relaxed);
        self.retry_at_ns.store(0, Ordering::Relaxed);
    }

    /// Runs `work` unless the disk was found full a moment ago; sorts its error into "full" and "poisoned".
    pub(super) fn unless_full<T>(
        &self,
        latch: &Latch,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        latch.check()?;
        let now_ns = self.clock.monotonic().as_nanos() as u64;
        if now_ns < self.retry_at_ns.load(Ordering::Relaxed) {
            return Err(full());
        }
        match work() {
            Ok(done) => {
                self.retry_at_ns.store(0, Ordering::Relaxed);
                Ok(done)
            }
            Err(e) if e.is_storage_full() => {
                let retry_at = now_ns + FULL_RETRY.as_nanos() as u64;
                self.retry_at_ns.store(retry_at, Ordering::Relaxed);
                Err(e)
            }
            Err(e) => Err(latch.poison(e)),
        }
    }

    /// When a full disk is to be asked again.
    pub(crate) fn retry_at(&self) -> Option<Duration> {
        let at_ns = self.retry_at_ns.load(Ordering::Relaxed);
        (at_ns > 0).then(|| Duration::from_nanos(at_ns))
    }
}

/// What a writer is told while the disk is full.
pub(crate) fn full() -> Error {
    Error::new(
        crate::error::ErrorKind::StorageFull,
        "the disk is full; free some space (deletes still work), and writes resume by themselves within a second",
    )
}
