//! Which segments to compact next: pure functions from numbers to a choice, one file for each.
//!
//! # Invariants
//! - A choice names sealed segments only, each once, and at least one.
//! - Rounds come to an end: each either frees bytes, or leaves fewer segments, or moves records to an older class, so
//!   without new writes every strategy answers [`Choice::Nothing`] after finitely many.

use crate::stats::{SegmentId, SegmentStats};

mod chain;
mod cost_benefit;
mod garbage_ratio;
mod greedy;
mod repack;
mod round;
mod small_segments;
mod tombstones;
mod ttl;

pub use chain::Chain;
pub use cost_benefit::CostBenefit;
pub use garbage_ratio::GarbageRatio;
pub use greedy::Greedy;
pub use repack::Repack;
pub use small_segments::SmallSegments;
pub use tombstones::Tombstones;
pub use ttl::Ttl;

/// How far a store may fill with garbage, what is worth a rewrite, and how much one job may take on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// All bytes by live bytes that are good enough while the store is written.
    pub target_busy: f64,
    /// The same for a store that nobody writes.
    pub target_idle: f64,
    /// Which of the two counts.
    pub idle: bool,
    /// A segment with a smaller share of garbage is left alone, 0 to 1.
    pub garbage_ratio_min: f64,
    /// A segment with less garbage is left alone, unless nothing in it lives.
    pub garbage_bytes_min: u64,
    /// A segment with this share of tombstones is worth a rewrite, 0 to 1.
    pub tombstone_ratio_min: f64,
    /// A segment with this share of expired live bytes is worth a rewrite, 0 to 1.
    pub expired_ratio_min: f64,
    /// The nominal size of a segment; outputs are closed there, and sealed segments under a quarter of it are merged.
    pub segment_bytes: u64,
    /// So many small segments are merged even if together they do not reach a quarter of a segment.
    pub merge_segments_min: usize,
    /// The most segments of one job.
    pub segments_max: usize,
    /// The most live bytes of one job, which bounds its memory (keys and 64 bytes a record, no values), its extra disk
    /// space, and how far its output is sorted. A segment that alone has more is still picked, by itself, else it would
    /// never be.
    pub live_bytes_max: u64,
    /// Records of this size and more get output segments of their own.
    pub large_bytes_min: u64,
}

/// The documented values of this project's design: 1.33 busy and 1.15 idle, segments of 64 MiB.
impl Default for Limits {
    fn default() -> Self {
        Limits {
            target_busy: 1.33,
            target_idle: 1.15,
            idle: false,
            garbage_ratio_min: 0.05,
            garbage_bytes_min: 64 << 10,
            tombstone_ratio_min: 0.3,
            expired_ratio_min: 0.5,
            segment_bytes: 64 << 20,
            merge_segments_min: 4,
            segments_max: 16,         // LIMIT: open files of one job.
            live_bytes_max: 64 << 20, // LIMIT: memory and extra disk space of one job.
            large_bytes_min: 256 << 10,
        }
    }
}

impl Limits {
    /// The space amplification that is good enough now.
    pub fn target(&self) -> f64 {
        if self.idle { self.target_idle } else { self.target_busy }
    }
}

/// Why segments were picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing in them lives.
    Empty,
    /// The store as a whole is larger than its target, and these are the best to begin with.
    Amplification,
    /// Each of them has too much garbage.
    Garbage,
    /// Most of what lives in them has expired.
    Expired,
    /// They consist of tombstones that nothing is known to need.
    Tombstones,
    /// Tombstones of other segments wait for them.
    BlocksTombstones,
    /// They are small.
    Small,
    /// They were never compacted.
    Repack,
    /// The owner named them.
    Manual,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Reason; 9] = [
        Reason::Empty,
        Reason::Amplification,
        Reason::Garbage,
        Reason::Expired,
        Reason::Tombstones,
        Reason::BlocksTombstones,
        Reason::Small,
        Reason::Repack,
        Reason::Manual,
    ];
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Nothing is worth the work.
    Nothing,
    /// Compact these together.
    Compact {
        /// The most worthwhile first; never empty.
        segments: Vec<SegmentId>,
        /// Why.
        reason: Reason,
    },
}

/// Picks victims. A pure function: no clock, no files, no memory of earlier calls.
pub trait Strategy: Send + Sync + 'static {
    /// The segments to compact next; only sealed ones, each at most once.
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice;
}

impl<T: Strategy + ?Sized> Strategy for Box<T> {
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice {
        (**self).pick(segments, limits)
    }
}

/// Picks nothing: the stand-in for a store whose compaction is switched off. Its files only grow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Never;

impl Strategy for Never {
    fn pick(&self, _segments: &[SegmentStats], _limits: &Limits) -> Choice {
        Choice::Nothing
    }
}
