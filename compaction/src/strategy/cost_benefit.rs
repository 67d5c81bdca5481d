//! The `cost-benefit` strategy: free space that is gained and stays free, by the cost of gaining it.
//!
//! With u the live share of a segment, reading it costs 1 and writing back what lives costs u; the gain is 1 - u, and
//! the older the segment, the longer what is left of it stays. So the best is the largest `(1 - u) * age / (1 + u)`.
//! Source: Rosenblum and Ousterhout, "The Design and Implementation of a Log-Structured File System", 1992, section 3.5.

use super::round::pick_until_target;
use super::{Choice, Limits, Strategy};
use crate::stats::SegmentStats;

/// The default: segments without a live record first, then by cost and benefit until the target is reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct CostBenefit;

impl Strategy for CostBenefit {
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice {
        let newest = segments.iter().map(|segment| segment.created).max().unwrap_or(0);
        pick_until_target(segments, limits, |candidates| {
            candidates.sort_by(|a, b| {
                benefit(b, newest).total_cmp(&benefit(a, newest)).then(a.id.cmp(&b.id))
            });
        })
    }
}

fn benefit(segment: &SegmentStats, newest: u64) -> f64 {
    let age = (newest - segment.created) as f64 + 1.0;
    let garbage = segment.garbage_ratio();
    garbage * age / (2.0 - garbage)
}
