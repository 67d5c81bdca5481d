//! Which segment's tombstones wait for which other segment to be rewritten.
//!
//! # Invariants
//! - Both ends of a wait are in the table; retiring either ends it. So a chain of waits always comes to an end, and
//!   a tombstone is tried again only after something has changed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::stats::{SegmentId, SegmentStats};

/// Bytes by (segment with the tombstones, segment that blocks them).
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<BTreeMap<(SegmentId, SegmentId), u64>>);

impl Waits {
    pub(super) fn add(&self, segment: SegmentId, blocker: SegmentId, bytes: u64) {
        *self.lock().entry((segment, blocker)).or_default() += bytes;
    }

    pub(super) fn retire(&self, gone: SegmentId) {
        self.lock().retain(|&(segment, blocker), _| segment != gone && blocker != gone);
    }

    /// Enters the waits into the numbers of segments, which are in order of id.
    pub(super) fn fill(&self, stats: &mut [SegmentStats]) {
        for (&(segment, blocker), bytes) in self.lock().iter() {
            if let Ok(at) = stats.binary_search_by_key(&segment, |stats| stats.id) {
                stats[at].waiting_bytes += bytes;
            }
            if let Ok(at) = stats.binary_search_by_key(&blocker, |stats| stats.id) {
                stats[at].blocks_bytes += bytes;
            }
        }
        for stats in stats {
            // A tombstone that waits and is then replaced is no tombstone any more.
            stats.waiting_bytes = stats.waiting_bytes.min(stats.tombstone_bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(SegmentId, SegmentId), u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
