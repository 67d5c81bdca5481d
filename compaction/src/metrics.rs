//! What compaction has done since the scheduler was made: counters, and a copy of them to read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::job::{Report, Stage};
use crate::strategy::Reason;

/// Sums since the scheduler was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionStats {
    /// Jobs that were finished.
    pub jobs: u64,
    /// Jobs that were given up: they failed too often, or were stopped.
    pub jobs_given_up: u64,
    /// Steps that failed, retries included.
    pub failures: u64,
    /// Bytes of all records of the victims.
    pub input_bytes: u64,
    /// Bytes of the copies in published outputs.
    pub output_bytes: u64,
    /// Bytes by which the store is smaller.
    pub freed_bytes: u64,
    /// Segments that were retired.
    pub segments_retired: u64,
    /// Segments that were written.
    pub segments_written: u64,
    /// The garbage above the target when victims were last looked for, in bytes.
    pub debt_bytes: u64,
    /// Finished jobs by reason, in the order of [`Reason::ALL`].
    pub jobs_by_reason: [u64; Reason::ALL.len()],
    /// Time spent in each stage, in the order of [`Stage::ALL`], waiting for the pacer left out.
    pub time_by_stage: [Duration; Stage::ALL.len()],
    /// Time that jobs were told to wait by the pacer.
    pub paced: Duration,
}

impl CompactionStats {
    /// Bytes written by bytes that users wrote, 1 without compaction.
    pub fn write_amplification(&self, user_bytes: u64) -> f64 {
        if user_bytes == 0 { 1.0 } else { 1.0 + self.output_bytes as f64 / user_bytes as f64 }
    }

    /// Finished jobs for one reason.
    pub fn jobs_for(&self, reason: Reason) -> u64 {
        self.jobs_by_reason[reason as usize]
    }
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    jobs: AtomicU64,
    jobs_given_up: AtomicU64,
    failures: AtomicU64,
    input_bytes: AtomicU64,
    output_bytes: AtomicU64,
    freed_bytes: AtomicU64,
    segments_retired: AtomicU64,
    segments_written: AtomicU64,
    debt_bytes: AtomicU64,
    jobs_by_reason: [AtomicU64; Reason::ALL.len()],
    ns_by_stage: [AtomicU64; Stage::ALL.len()],
    paced_ns: AtomicU64,
}

impl Metrics {
    pub(crate) fn done(&self, report: &Report) {
        self.jobs.fetch_add(1, Relaxed);
        self.input_bytes.fetch_add(report.input_bytes, Relaxed);
        self.output_bytes.fetch_add(report.copied_bytes, Relaxed);
        self.freed_bytes.fetch_add(report.freed_bytes(), Relaxed);
        self.segments_retired.fetch_add(report.victims.len() as u64, Relaxed);
        self.segments_written.fetch_add(report.outputs as u64, Relaxed);
        self.jobs_by_reason[report.reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn given_up(&self) {
        self.jobs_given_up.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn debt_bytes(&self) -> u64 {
        self.debt_bytes.load(Relaxed)
    }

    pub(crate) fn set_debt(&self, bytes: u64) {
        self.debt_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn worked(&self, stage: Stage, time: Duration) {
        if let Some(sum) = self.ns_by_stage.get(stage as usize) {
            sum.fetch_add(time.as_nanos() as u64, Relaxed);
        }
    }

    pub(crate) fn paced(&self, time: Duration) {
        self.paced_ns.fetch_add(time.as_nanos() as u64, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> CompactionStats {
        let sums = |sums: &AtomicU64| sums.load(Relaxed);
        CompactionStats {
            jobs: sums(&self.jobs),
            jobs_given_up: sums(&self.jobs_given_up),
            failures: sums(&self.failures),
            input_bytes: sums(&self.input_bytes),
            output_bytes: sums(&self.output_bytes),
            freed_bytes: sums(&self.freed_bytes),
            segments_retired: sums(&self.segments_retired),
            segments_written: sums(&self.segments_written),
            debt_bytes: sums(&self.debt_bytes),
            jobs_by_reason: self.jobs_by_reason.each_ref().map(sums),
            time_by_stage: self.ns_by_stage.each_ref().map(|ns| Duration::from_nanos(sums(ns))),
            paced: Duration::from_nanos(sums(&self.paced_ns)),
        }
    }
}
