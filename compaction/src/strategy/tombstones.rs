//! The `tombstones` strategy: segments full of tombstones, and segments that other segments' tombstones wait for.
//!
//! A tombstone can go only when no other segment may hold what it deletes. So a segment full of them is rewritten when
//! they wait for nothing that is known, and a segment is rewritten when much waits for it: after that it holds live
//! records only, blocks nothing, and what waited is free to go. A rewritten tombstone is dropped or waits for a segment
//! that is still there, so the same one is never tried twice in vain.

use super::round::fill;
use super::{Choice, Limits, Reason, Strategy};
use crate::stats::{SegmentStats, ratio};

/// Tombstones that can go, then what stands in the way of others.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tombstones;

impl Strategy for Tombstones {
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice {
        let laden = segments.iter().filter(|s| s.sealed && is_full_of_tombstones(s, limits));
        match fill(laden, limits, Reason::Tombstones) {
            Choice::Nothing => {
                let blockers = segments.iter().filter(|s| s.sealed && is_in_the_way(s, limits));
                fill(blockers, limits, Reason::BlocksTombstones)
            }
            choice => choice,
        }
    }
}

/// Whether tombstones are a large share of the records, and most of them may go.
pub(super) fn is_full_of_tombstones(segment: &SegmentStats, limits: &Limits) -> bool {
    segment.tombstone_ratio() >= limits.tombstone_ratio_min
        && segment.free_tombstone_bytes() > segment.tombstone_bytes / 2
}

fn is_in_the_way(segment: &SegmentStats, limits: &Limits) -> bool {
    // Without a dead record it holds nothing that a tombstone deletes; the store named it in vain.
    segment.garbage_bytes() > 0
        && segment.blocks_bytes > 0
        && (ratio(segment.blocks_bytes, segment.live_bytes) >= limits.tombstone_ratio_min
            || segment.live_bytes == 0)
}
