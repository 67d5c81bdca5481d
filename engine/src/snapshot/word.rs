//! The one word by which writers know of snapshots.
//!
//! # Concurrency
//! Who opens a snapshot stores "pending" here, then goes through a moment at which no commit is between its append and
//! its installation without that store being visible to it (`open.rs`: the gate), and only then chooses the number of the
//! snapshot. So an installation either was over at that moment, and its number is not above that of the snapshot, or it
//! looks here afterwards and sees "pending" or what came later.

use crate::record::SeqNo;
use crate::sync::checked::atomic::AtomicU64;
use crate::sync::checked::atomic::Ordering::{Acquire, SeqCst};

/// A snapshot is being opened: its number may become any.
pub(crate) const PENDING: SeqNo = SeqNo::MAX;

/// The number of the newest open snapshot; [`PENDING`] while one is being opened, 0 while none is open. One of number 0 is
/// that of an empty database, of which nothing has to be kept.
#[derive(Debug)]
pub(crate) struct NewestWord(AtomicU64);

impl NewestWord {
    pub(crate) fn new() -> Self {
        NewestWord(AtomicU64::new(0))
    }

    /// True if the newest snapshot may show a version of this number, which is not 0.
    #[inline]
    pub(crate) fn covers(&self, seq: SeqNo) -> bool {
        // ORDERING: Acquire, pairs with `set`: the snapshot is in the list. Whether the word is seen in time is the affair
        // of the gate, see above.
        seq <= self.0.load(Acquire)
    }

    /// True while a snapshot is open or being opened.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Acquire) != 0
    }

    pub(crate) fn set(&self, seq: SeqNo) {
        // ORDERING: SeqCst: the clock is read after "pending" was stored, and no later than it can be seen.
        self.0.store(seq, SeqCst);
    }
}
