//! What a job did.

use std::time::Duration;

use crate::stats::SegmentId;
use crate::strategy::Reason;

/// The steps of a job, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Reading victims and deciding what becomes of each record.
    Read,
    /// Sorting by key.
    Sort,
    /// Copying to outputs.
    Write,
    /// Ending and syncing outputs.
    Seal,
    /// Making outputs part of the store, and victims retired.
    Publish,
    /// Moving the index to the copies.
    Relocate,
    /// Giving up the victims.
    Retire,
    /// Nothing is left to do.
    Done,
}

impl Stage {
    /// Every stage that works, in their order.
    pub const ALL: [Stage; 7] = [
        Stage::Read,
        Stage::Sort,
        Stage::Write,
        Stage::Seal,
        Stage::Publish,
        Stage::Relocate,
        Stage::Retire,
    ];
}

/// What a job did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Why these segments were compacted.
    pub reason: Reason,
    /// The segments that were retired.
    pub victims: Vec<SegmentId>,
    /// The bytes of all their records.
    pub input_bytes: u64,
    /// The segments that were written.
    pub outputs: usize,
    /// The bytes of the copies.
    pub copied_bytes: u64,
    /// Copies that the index points at.
    pub records_moved: u64,
    /// Copies of what was replaced or deleted meanwhile, or is only kept for a snapshot.
    pub records_not_moved: u64,
    /// Records that went together with their index entries.
    pub records_forgotten: u64,
}

impl Report {
    pub(super) fn new(reason: Reason) -> Self {
        Report {
            reason,
            victims: Vec::new(),
            input_bytes: 0,
            outputs: 0,
            copied_bytes: 0,
            records_moved: 0,
            records_not_moved: 0,
            records_forgotten: 0,
        }
    }

    /// The bytes that the store is smaller by.
    pub fn freed_bytes(&self) -> u64 {
        self.input_bytes.saturating_sub(self.copied_bytes)
    }

    /// True if the store is neither smaller nor in fewer pieces. That may happen, as when the large values of two small
    /// segments part from the others, but not again and again.
    pub fn is_fruitless(&self) -> bool {
        self.freed_bytes() == 0 && self.outputs >= self.victims.len()
    }
}

/// What one step of a job did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// So much was read and written; there is more to do.
    Worked {
        /// In this stage.
        stage: Stage,
        /// Bytes read and written.
        bytes: u64,
    },
    /// Nothing was done: the pacer wants this much time to pass first.
    Wait(Duration),
    /// The job is done.
    Done(Report),
}
