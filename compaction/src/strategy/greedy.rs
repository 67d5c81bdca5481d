//! The `greedy` strategy: the largest share of garbage first, which frees the most bytes per byte copied now.
//!
//! It does not look at age, so under skewed updates it copies hot segments that would soon be emptier;
//! [`CostBenefit`](super::CostBenefit) does better there. Source: as there.

use std::cmp::Ordering;

use super::round::pick_until_target;
use super::{Choice, Limits, Strategy};
use crate::stats::SegmentStats;

/// Most garbage first, until the target amplification is reached or the round is full.
#[derive(Debug, Clone, Copy, Default)]
pub struct Greedy;

impl Strategy for Greedy {
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice {
        pick_until_target(segments, limits, |candidates| {
            candidates.sort_by(|a, b| by_garbage(a, b));
        })
    }
}

/// The larger share first; equal ones by age. Shares are compared as cross products, so no rounding decides.
fn by_garbage(a: &SegmentStats, b: &SegmentStats) -> Ordering {
    let left = u128::from(a.live_bytes) * u128::from(b.total_bytes.max(1));
    let right = u128::from(b.live_bytes) * u128::from(a.total_bytes.max(1));
    left.cmp(&right).then(a.id.cmp(&b.id))
}
