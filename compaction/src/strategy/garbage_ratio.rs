//! The `garbage-ratio` strategy: each segment by its own thresholds, whatever the store as a whole looks like.
//!
//! The thresholds are the classic ones of Bitcask's merge triggers: a third of garbage, or much of it, or a third of
//! tombstones.

use super::round::{fill, pick_empty};
use super::tombstones::is_full_of_tombstones;
use super::{Choice, Limits, Reason, Strategy};
use crate::stats::SegmentStats;

const MIB: u64 = 1 << 20;

/// Segments past a threshold of their own, the emptiest first.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct GarbageRatio {
    /// This share of garbage is too much, if it is more than `bytes_min` as well.
    pub ratio: f64,
    /// Less garbage than this is never too much by its share.
    pub bytes_min: u64,
    /// More garbage than this is too much by itself.
    pub bytes_max: u64,
}

/// 33 % and more than 1 MiB, or more than 8 MiB.
impl Default for GarbageRatio {
    fn default() -> Self {
        GarbageRatio { ratio: 0.33, bytes_min: MIB, bytes_max: 8 * MIB }
    }
}

impl Strategy for GarbageRatio {
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice {
        let empty = pick_empty(segments, limits);
        if empty != Choice::Nothing {
            return empty;
        }
        let mut full: Vec<_> =
            segments.iter().filter(|s| s.sealed && self.is_too_much(s)).collect();
        full.sort_by(|a, b| b.garbage_ratio().total_cmp(&a.garbage_ratio()).then(a.id.cmp(&b.id)));
        match fill(full, limits, Reason::Garbage) {
            Choice::Nothing => {
                let laden =
                    segments.iter().filter(|s| s.sealed && is_full_of_tombstones(s, limits));
                fill(laden, limits, Reason::Tombstones)
            }
            choice => choice,
        }
    }
}

impl GarbageRatio {
    fn is_too_much(&self, segment: &SegmentStats) -> bool {
        let garbage_bytes = segment.garbage_bytes();
        garbage_bytes > self.bytes_max
            || (garbage_bytes > self.bytes_min && segment.garbage_ratio() >= self.ratio)
    }
}
