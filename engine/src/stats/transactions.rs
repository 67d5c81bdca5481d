//! The figures of conditional commits: they are never held up by locks, so what is to be watched is how often they meet.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// How transactions and conditional writes have ended since the opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct TransactionStats {
    /// Transactions that were committed, those without writes included.
    pub committed: u64,
    /// Commits that were refused because something had changed: of transactions, compare-and-swap, `put_if_absent`,
    /// `fetch_and_update`, and batches with preconditions.
    pub conflicts: u64,
    /// Further attempts of `Db::transact` and `fetch_and_update` after a conflict.
    pub retries: u64,
    /// Transactions that were rolled back, or dropped without a commit.
    pub rolled_back: u64,
}

/// The counts behind [`TransactionStats`].
#[derive(Debug, Default)]
pub(crate) struct TransactionCounters {
    committed: AtomicU64,
    conflicts: AtomicU64,
    retries: AtomicU64,
    rolled_back: AtomicU64,
}

impl TransactionCounters {
    pub(crate) fn note_committed(&self) {
        self.committed.fetch_add(1, Relaxed);
    }

    pub(crate) fn note_conflict(&self) {
        self.conflicts.fetch_add(1, Relaxed);
    }

    /// Returns how many there were before.
    pub(crate) fn note_retry(&self) -> u64 {
        self.retries.fetch_add(1, Relaxed)
    }

    pub(crate) fn note_rolled_back(&self) {
        self.rolled_back.fetch_add(1, Relaxed);
    }

    pub(crate) fn stats(&self) -> TransactionStats {
        TransactionStats {
            committed: self.committed.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            retries: self.retries.load(Relaxed),
            rolled_back: self.rolled_back.load(Relaxed),
        }
    }
}
