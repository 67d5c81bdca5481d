//! Which segments to compact next: pure functions from numbers to a choice, one file for each that does something.

use crate::stats::{SegmentId, SegmentStats};

pub(crate) mod greedy;

/// How far a store may fill with garbage, and how much one round may take on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// All bytes by live bytes that are good enough; below it only segments without a live record are picked.
    pub space_amplification_target: f64,
    /// A segment with a smaller share of garbage is left alone, 0 to 1.
    pub garbage_ratio_min: f64,
    /// A segment with less garbage is left alone.
    pub garbage_bytes_min: u64,
    /// The most segments of one round.
    pub segments_max: usize,
    /// The most live bytes of one round, which it holds in memory to sort them. A segment that alone has more is
    /// still picked, by itself, else it would never be.
    pub live_bytes_max: u64,
}

/// Amplification 1.33; segments with 20 % of garbage and 64 KiB; rounds of 16 segments and 64 MiB.
impl Default for Limits {
    fn default() -> Self {
        Limits {
            space_amplification_target: 1.33,
            garbage_ratio_min: 0.2,
            garbage_bytes_min: 64 << 10,
            segments_max: 16,         // LIMIT: open files of one round.
            live_bytes_max: 64 << 20, // LIMIT: memory of one round.
        }
    }
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Nothing is worth the work.
    Nothing,
    /// Compact these together, the most worthwhile first; never empty.
    Compact(Vec<SegmentId>),
}

/// Picks victims. A pure function: no clock, no files, no memory of earlier calls.
pub trait Strategy: Send + Sync {
    /// The segments to compact next; only sealed ones, each at most once.
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice;
}

/// Picks nothing: the stand-in for a store whose compaction is switched off. Its files only grow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Never;

impl Strategy for Never {
    fn pick(&self, _segments: &[SegmentStats], _limits: &Limits) -> Choice {
        Choice::Nothing
    }
}
