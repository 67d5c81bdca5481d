//! x
#![forbid(unsafe_code)]

mod back_pressure;
mod clock;
mod job;
mod liveness;
#[cfg(all(test, loom))]
mod loom_models;
mod metrics;
mod pacer;
mod pool;
mod scheduler;
mod stats;
mod store;
mod strategy;
mod sync;

pub use back_pressure::BackPressure;
pub use clock::{Clock, SystemClock};
pub use job::{Job, Progress, Report, Stage};
pub use liveness::{Counts, LivenessTable, Origin, RecordInfo, SegmentCounts, Totals};
pub use metrics::CompactionStats;
pub use pacer::{Pacer, TokenBucket, Unpaced};
pub use pool::{
    Failure, Kind, PoolOptions, PoolStats, QueueStats, Step, Work, WorkError, WorkQueue,
    WorkerPool, compactions_wanted, workers_wanted,
};
pub use scheduler::{ATTEMPTS_MAX, Compactor, SHUN, Scheduler, SchedulerOptions, Summary};
pub use stats::{AgeClass, SegmentId, SegmentStats, debt_bytes, space_amplification};
pub use store::{Fate, Placed, Record, SegmentStore, Stream};
pub use strategy::{
    Chain, Choice, CostBenefit, GarbageRatio, Greedy, Limits, Never, Reason, SmallSegments,
    Strategy, Tombstones, Ttl,
};
