//! Relaxed commits on their way from the log to the handler, by segment: a segment is settled only when none is left.
//!
//! Durable commits need no count: their leader installs them before the durable watermark passes them.
//!
//! # Layout
//! Segments share counters, so that a commit finds its counter without looking for its segment. A share that is busy makes
//! another segment wait a moment, no more.
//!
//! # Concurrency
//! `placed` changes under the append lock only, so it takes no locked instruction; `installed` is one per commit.

use crate::sync::atomic::{AtomicU64, Ordering};

/// Segments whose ids differ by a multiple of this share counters.
const SHARES: usize = if cfg!(any(loom, shuttle)) { 2 } else { 64 };

/// The counts of all segments.
#[derive(Debug)]
pub(crate) struct Uninstalled {
    shares: Box<[Share]>,
}

#[derive(Debug, Default)]
struct Share {
    placed: AtomicU64,
    installed: AtomicU64,
}

impl Default for Uninstalled {
    fn default() -> Self {
        Uninstalled { shares: (0..SHARES).map(|_| Share::default()).collect() }
    }
}

impl Uninstalled {
    /// A relaxed commit has its place in a segment. The caller holds the append lock.
    #[inline]
    pub(crate) fn note_placed(&self, segment: u64) {
        if let Some(share) = self.share(segment) {
            let placed = share.placed.load(Ordering::Relaxed);
            // ORDERING: Relaxed; who asks about a sealed segment took the append lock after it was sealed.
            share.placed.store(placed + 1, Ordering::Relaxed);
        }
    }

    /// A relaxed commit was installed, or failed to be.
    #[inline]
    pub(crate) fn note_installed(&self, segment: u64) {
        if let Some(share) = self.share(segment) {
            // ORDERING: Release, pairs with the Acquire in `is_idle`: who sees the count sees what was installed.
            share.installed.fetch_add(1, Ordering::Release);
        }
    }

    /// True when every relaxed commit of a segment was installed. The segment is sealed, and the caller took the append
    /// lock since.
    pub(crate) fn is_idle(&self, segment: u64) -> bool {
        self.share(segment).is_none_or(|share| {
            // ORDERING: Acquire, see `note_installed`. `placed` is read second: at that moment it is at least as large.
            let installed = share.installed.load(Ordering::Acquire);
            installed == share.placed.load(Ordering::Relaxed)
        })
    }

    fn share(&self, segment: u64) -> Option<&Share> {
        self.shares.get(segment as usize % SHARES)
    }
}
