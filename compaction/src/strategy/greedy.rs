//! The `greedy` strategy: the largest share of garbage first, which frees the most bytes per byte copied now.
//!
//! It does not look at age, so under skewed updates it copies hot segments that would soon be emptier; a cost-benefit
//! strategy does better there. Source: Rosenblum and Ousterhout, "The Design and Implementation of a Log-Structured
//! File System", 1992, which names both.

use std::cmp::Ordering;

use super::{Choice, Limits, Strategy};
use crate::stats::{SegmentStats, space_amplification};

/// Most garbage first, until the target amplification is reached or the round is full.
#[derive(Debug, Clone, Copy, Default)]
pub struct Greedy;

impl Strategy for Greedy {
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice {
        let mut total_bytes: u64 = segments.iter().map(|segment| segment.total_bytes).sum();
        let live_bytes: u64 = segments.iter().map(|segment| segment.live_bytes).sum();
        let mut candidates: Vec<_> =
            segments.iter().filter(|segment| is_worthwhile(segment, limits)).collect();
        candidates.sort_by(|a, b| by_garbage(a, b));

        let (mut picked, mut copied_bytes) = (Vec::new(), 0);
        for segment in candidates {
            let is_good =
                space_amplification(total_bytes, live_bytes) <= limits.space_amplification_target;
            let is_full = picked.len() >= limits.segments_max.max(1)
                || (!picked.is_empty()
                    && copied_bytes + segment.live_bytes > limits.live_bytes_max);
            // Segments without a live record come first and cost nothing, so they go at any amplification.
            if is_full || (is_good && segment.live_bytes > 0) {
                break;
            }
            picked.push(segment.id);
            copied_bytes += segment.live_bytes;
            total_bytes -= segment.garbage_bytes();
        }
        if picked.is_empty() { Choice::Nothing } else { Choice::Compact(picked) }
    }
}

fn is_worthwhile(segment: &SegmentStats, limits: &Limits) -> bool {
    if !segment.sealed {
        return false;
    }
    // Without garbage a copy frees nothing, and the same segment would be picked for ever.
    segment.live_bytes == 0
        || (segment.garbage_bytes() >= limits.garbage_bytes_min.max(1)
            && segment.garbage_ratio() >= limits.garbage_ratio_min)
}

/// The larger share first; equal ones by age. Shares are compared as cross products, so no rounding decides.
fn by_garbage(a: &SegmentStats, b: &SegmentStats) -> Ordering {
    let left = u128::from(a.live_bytes) * u128::from(b.total_bytes.max(1));
    let right = u128::from(b.live_bytes) * u128::from(a.total_bytes.max(1));
    left.cmp(&right).then(a.id.cmp(&b.id))
}
