//! Compaction of a store that keeps its data in append-only segments: what is live, what to rewrite and when, the
//! rewrite itself, and the threads that do it.
//!
//! ```text
//!   writes and deletes                                                   your store
//!        │ add, dead                                                         ▲
//!        ▼                    stats             Choice                       │ SegmentStore
//!   LivenessTable ─────────────────► Strategy ────────► Scheduler ──► Job ───┘ read, fate, append, seal,
//!        │                          (pure)                 │           │       publish, relocate, retire
//!        │ totals                                          │           └ Pacer: bytes a second
//!        ▼                                                 ▼
//!   debt_bytes ─► BackPressure ─► delay of a write      Compactor ──► WorkerPool (threads, or stepped by hand)
//! ```
//!
//! Each part works without those to the right of it:
//! - [`LivenessTable`] counts live bytes, records, tombstones and expiring bytes of each segment exactly, from any number of
//!   threads, and gives its numbers out to be kept ([`LivenessTable::export`]).
//! - [`Strategy`] picks victims: a pure function from [`SegmentStats`] and [`Limits`] to a [`Choice`] that says why.
//!   [`Chain`] is all of them around [`CostBenefit`].
//! - [`SegmentStore`] is what a store must offer, and a [`Job`] compacts some segments of it, in bounded steps of which each
//!   can be taken again after a failure. Values never pass through this crate.
//! - [`Scheduler`] decides which job is next in one store; its [`Compactor`]s run them.
//! - [`WorkerPool`] is one set of threads for the background work of all stores of a process, or none at all.
//! - [`BackPressure`] turns the work that is left into a delay for writers, in proportion.
//!
//! # Life of a segment
//! ```text
//!   written ──► sealed ──► victim ──► retired ──► gone            written: AgeClass::New
//!                            │ live records, sorted by key        output of New:           SurvivedOnce
//!                            ▼                                    output of anything else: SurvivedTwice
//!                          output ──► sealed ──► ...              values over 256 KiB: outputs of their own
//! ```
//!
//! # Guarantees
//! - A victim is retired only after everything in it that the store called needed is in sealed outputs, these are
//!   published, and the index points there. A failure or a crash between any two steps loses and revives nothing, if the
//!   store does what [`SegmentStore`] asks of it.
//! - No two jobs of a [`Scheduler`] work on one segment.
//! - Without new writes compaction comes to an end.
//! - A job holds keys and 64 bytes a record in memory, no values; [`Limits::live_bytes_max`] bounds what it takes on.
//! - No thread is started but by [`WorkerPool::open`], no clock read but through [`Clock`], and nothing sleeps.
//!
//! # When not to use it
//! - Your store updates in place, or merges sorted runs by level: this crate rewrites whole segments by garbage.
//! - You cannot tell when a record is replaced: without exact deaths the table is only an upper bound of what is live.
//!
//! # Example
//! ```
//! use cortenkv_compaction::{Choice, CostBenefit, Limits, LivenessTable, Reason, RecordInfo, Strategy};
//!
//! let table = LivenessTable::new();
//! let record = RecordInfo::put(4 << 20);
//! table.add(1, record); // a record of 4 MiB was written to segment 1,
//! table.add(2, record); // its replacement to segment 2,
//! table.dead(1, record); // so the first is dead
//! assert_eq!(table.space_amplification(), 2.0);
//! let choice = CostBenefit.pick(&table.stats(0, |segment| segment < 2), &Limits::default());
//! assert_eq!(choice, Choice::Compact { segments: vec![1], reason: Reason::Empty });
//! ```

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
pub use liveness::{
    Counts, LivenessTable, Origin, RecordInfo, SegmentCounts, SegmentLiveness, Totals,
};
pub use metrics::CompactionStats;
pub use pacer::{Pacer, TokenBucket, Unpaced};
pub use pool::{
    Failure, Kind, PoolOptions, PoolStats, QueueStats, Step, Work, WorkError, WorkQueue,
    WorkerPool, compactions_wanted, workers_wanted,
};
pub use scheduler::{ATTEMPTS_MAX, Compactor, SHUN, Scheduler, SchedulerOptions, Summary};
pub use stats::{AgeClass, SegmentId, SegmentStats, debt_bytes, space_amplification};
pub use store::{Fate, Placed, Record, SegmentStore, Stream, Verdict};
pub use strategy::{
    Chain, Choice, CostBenefit, GarbageRatio, Greedy, Limits, Never, Reason, Repack, SmallSegments,
    Strategy, Tombstones, Ttl,
};

/// The code of the README is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
