//! The segments of a database: what each file holds and how much of that lives, and their compaction by hand.

use crate::core::Core;
use crate::db::Db;
use crate::error::Result;
use crate::record::SeqNo;
use crate::stats::CompactionReport;
use crate::sync::lock;

/// What sort of file a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum SegmentKind {
    /// A part of the log, `*.seg`.
    Log,
    /// What compaction wrote, `*.cseg`.
    Compacted,
}

/// How far a segment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum SegmentState {
    /// Commits are appended to it.
    Active,
    /// Nothing is appended any more.
    Sealed,
    /// Sealed, and all of it is durable and in the index: it can be compacted.
    Settled,
    /// A compaction reads or writes it.
    InWork,
    /// It left the log: nothing in it lives, and its file stays for those who hold it.
    Held,
}

/// What is counted of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SegmentFigures {
    /// Records in it.
    pub records: u64,
    /// The bytes of all its records.
    pub record_bytes: u64,
    /// Records that are the newest of their key, tombstones among them.
    pub live_records: u64,
    /// The bytes of these.
    pub live_bytes: u64,
    /// The tombstones among them.
    pub live_tombstones: u64,
}

/// One segment of a database; made by [`Db::segments`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its id; from 2^63 on for those that compaction wrote.
    pub id: u64,
    /// What sort of file it is.
    pub kind: SegmentKind,
    /// The name of the file in the directory of the database.
    pub file: String,
    /// How far it has come.
    pub state: SegmentState,
    /// How often its records have survived a compaction; 2 stands for more, too.
    pub survived: u8,
    /// True if it was written for large values only.
    pub is_large: bool,
    /// The bytes that it takes from the disk, those that are reserved for more commits included.
    pub stored_bytes: u64,
    /// No record has a smaller number.
    pub seq_min: SeqNo,
    /// No record has a larger number.
    pub seq_max: SeqNo,
    /// What is counted of it; `None` in a build without compaction.
    pub figures: Option<SegmentFigures>,
}

impl Db {
    /// Rewrites the segments that are worth it, in this thread and at full speed, and gives their space back; what the
    /// background does by itself in time. A segment that is being written is left for another if it holds garbage.
    ///
    /// # Errors
    /// `Corruption` for a segment that cannot be read: it stays as it is. `StorageFull`, `Io` and `Closed` as for writes;
    /// `Unsupported` in a build without compaction.
    pub fn compact(&self) -> Result<CompactionReport> {
        let core = self.core();
        core.check_writable()?;
        core.compaction.compact()
    }

    /// Rewrites these segments together, whatever is in them; false if one of them is not there or not complete.
    ///
    /// # Errors
    /// As [`Db::compact`].
    pub fn compact_segments(&self, segments: &[u64]) -> Result<bool> {
        let core = self.core();
        core.check_writable()?;
        core.compaction.compact_segments(segments)
    }

    /// The segments that can be compacted at the moment.
    ///
    /// # Errors
    /// As [`Db::compact`].
    pub fn settled_segments(&self) -> Result<Vec<u64>> {
        let core = self.core();
        core.check_writable()?;
        core.compaction.settled()
    }

    /// The segments of the database: those of the log, the oldest first, then those that compaction wrote. None in memory.
    ///
    /// Each line is of one moment; writes and compactions may come between two of them.
    ///
    /// # Errors
    /// `Closed` after `close`.
    pub fn segments(&self) -> Result<Vec<SegmentReport>> {
        self.core().check_open()?;
        Ok(self.core().segments())
    }
}

impl Core {
    /// See [`Db::segments`].
    pub(crate) fn segments(&self) -> Vec<SegmentReport> {
        let (Some(log), Some(manifest)) = (self.log.durable(), self.catalog.manifest()) else {
            return Vec::new();
        };
        let mut segments = log.segments(|| lock(&manifest));
        self.compaction.describe(&mut segments);
        segments
    }
}
