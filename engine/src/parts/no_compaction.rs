//! A build without compaction: nothing is counted, and files only grow.

use std::sync::Arc;

use crate::catalog::SharedManifest;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::record::Footprint;
use crate::segments::SegmentReport;
use crate::stats::{CompactionReport, CompactionStats, PoolStats};

/// What is live in each segment; not counted.
#[derive(Clone, Default)]
pub(crate) struct Liveness(());

/// What is live in one segment; not counted.
#[derive(Clone)]
pub(crate) struct SegmentLiveness(());

/// Threads that do the background work of several databases, which this build cannot have.
#[derive(Debug, Clone)]
pub struct WorkerPool(());

impl WorkerPool {
    /// A pool of threads.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn new(_workers: u32, _workers_max: u32) -> Result<WorkerPool> {
        Err(unsupported())
    }

    /// A pool without threads.
    ///
    /// # Errors
    /// `Unsupported`.
    pub fn manual() -> Result<WorkerPool> {
        Err(unsupported())
    }

    /// Does one step; there is none to do.
    pub fn step(&self) -> bool {
        false
    }

    /// The figures of the pool.
    pub fn stats(&self) -> PoolStats {
        PoolStats::default()
    }
}

/// Compaction, which this build cannot do.
pub(crate) struct Compaction(());

impl Liveness {
    pub(crate) fn add(&self, _segment: u64, _: Footprint) {}

    pub(crate) fn dead(&self, _segment: u64, _: Footprint) {}
}

impl SegmentLiveness {
    #[inline]
    pub(crate) fn add(&self, _: Footprint) {}

    #[inline]
    pub(crate) fn dead(&self, _: Footprint) {}
}

impl Compaction {
    pub(crate) fn none() -> Self {
        Compaction(())
    }

    pub(crate) fn new(_: Liveness, _: SharedManifest) -> Self {
        Compaction(())
    }

    pub(crate) fn liveness(&self, _segment: u64) -> SegmentLiveness {
        SegmentLiveness(())
    }

    pub(crate) fn start(&self, _: &Arc<Core>) -> Result<()> {
        Ok(())
    }

    pub(crate) fn stop(&self) {}

    pub(crate) fn notify(&self) {}

    #[inline]
    pub(crate) fn delay(&self, _: usize) {}

    pub(crate) fn step(&self) -> Result<bool> {
        Ok(false)
    }

    /// No segment is ever retired.
    pub(crate) fn release_segments(&self) {}

    pub(crate) fn live_bytes(&self) -> u64 {
        0
    }

    pub(crate) fn compact(&self) -> Result<CompactionReport> {
        Err(unsupported())
    }

    pub(crate) fn compact_segments(&self, _: &[u64]) -> Result<bool> {
        Err(unsupported())
    }

    pub(crate) fn settled(&self) -> Result<Vec<u64>> {
        Ok(Vec::new())
    }

    pub(crate) fn describe(&self, _: &mut [SegmentReport]) {}

    pub(crate) fn in_work(&self) -> Vec<u64> {
        Vec::new()
    }

    pub(crate) fn pool_stats(&self) -> PoolStats {
        PoolStats::default()
    }

    pub(crate) fn stats(&self) -> CompactionStats {
        CompactionStats::default()
    }
}

/// What an option answers that this build cannot honour.
pub(crate) fn check_compaction(options: &Options) -> Result<()> {
    match (options.async_compaction, options.workers) {
        (Some(true), _) => Err(unsupported()),
        (_, (workers, _)) if workers > 0 => Err(Error::unsupported(format!(
            "sched.worker_count is {workers}, but this build has no pool of workers; enable the features `compaction` and \
             `wal`, or leave it 0 (automatic)"
        ))),
        _ => Ok(()),
    }
}

fn unsupported() -> Error {
    Error::unsupported("this build has no compaction; enable the features `compaction` and `wal`")
}
