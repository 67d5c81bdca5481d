//! x
#![forbid(unsafe_code)]
mod liveness;
mod stats;
mod strategy;
pub use liveness::{Counts, LivenessTable, Origin, RecordInfo, SegmentCounts, Totals};
pub use stats::{AgeClass, SegmentId, SegmentStats, debt_bytes, space_amplification};
pub use strategy::{
    Chain, Choice, CostBenefit, GarbageRatio, Greedy, Limits, Never, Reason, SmallSegments,
    Strategy, Tombstones, Ttl,
};
