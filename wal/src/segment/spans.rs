//! The compressed groups of a segment: the only places where logical and stored offsets part.
//!
//! # Concurrency
//! The list grows while the segment is written. A reader of a record before the first group, so of every record of a
//! segment without one, loads one word and takes no lock.

use super::Position;
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicU32, Ordering};

/// A compressed group.
#[derive(Debug, Clone, Copy)]
pub(super) struct CompressedSpan {
    pub(super) start: Position,
    pub(super) end: Position,
}

/// Where a logical offset leads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// To this offset in the file.
    Stored(u32),
    /// Into this group.
    Inside(CompressedSpan),
}

/// The groups in log order.
#[derive(Debug)]
pub(super) struct CompressedSpans {
    /// Where the first group starts, in logical bytes; `u32::MAX` when there is none.
    first: AtomicU32,
    spans: RwLock<Vec<CompressedSpan>>,
}

impl CompressedSpans {
    pub(super) fn new() -> Self {
        CompressedSpans { first: AtomicU32::new(u32::MAX), spans: RwLock::new(Vec::new()) }
    }

    /// Adds a group behind all others.
    pub(super) fn push(&self, start: Position, end: Position) {
        let mut spans = self.spans.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        spans.push(CompressedSpan { start, end });
        if spans.len() == 1 {
            // ORDERING: Release, pairs with the Acquire in `is_identity`. Whoever knows of a record in or behind the group
            // learned of it later than this, so it never takes the group for absent.
            self.first.store(start.logical, Ordering::Release);
        }
    }

    /// True when the logical offset is the stored one: no group starts at or before it.
    #[inline]
    pub(super) fn is_identity(&self, logical: u32) -> bool {
        // ORDERING: Acquire, pairs with the Release in `push`.
        logical < self.first.load(Ordering::Acquire)
    }

    /// Where a logical offset leads.
    pub(super) fn locate(&self, logical: u32) -> Place {
        if self.is_identity(logical) {
            return Place::Stored(logical);
        }
        let spans = self.spans.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let after = spans.partition_point(|span| span.start.logical <= logical);
        match after.checked_sub(1).and_then(|i| spans.get(i)) {
            None => Place::Stored(logical),
            Some(span) if logical < span.end.logical => Place::Inside(*span),
            Some(span) => Place::Stored(logical - span.end.logical + span.end.stored),
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn offsets_shift_behind_each_group() {
        let spans = CompressedSpans::new();
        let at = |stored, logical| Position { stored, logical };
        let stored = |logical| match spans.locate(logical) {
            Place::Stored(stored) => Some(stored),
            Place::Inside(_) => None,
        };
        assert_eq!(stored(4096), Some(4096));
        spans.push(at(200, 200), at(300, 600));
        spans.push(at(340, 640), at(400, 1000));
        assert_eq!(stored(192), Some(192));
        assert!(spans.is_identity(192) && !spans.is_identity(200));
        assert_eq!([200, 599, 640, 992].map(stored), [None; 4]);
        assert_eq!([600, 632, 1000, 2000].map(stored), [300, 332, 400, 1400].map(Some));
    }
}
