//! The log of a database: on disk or in memory, behind one set of calls.
//!
//! # Layout
//! Appends go through [`Log`]; reads through the [`LogSegment`] that the slot table has for an address.
//!
//! Both kinds number the commits, keep the records, and hand every record to the [`Installer`], or to the [`Installing`] of
//! the thread that appends, before an append is acknowledged. Nothing reaches the index by another way (rule 8).
//!
//! [`Installer`]: crate::install::Installer

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::address::Location;
use crate::catalog::SharedManifest;
use crate::error::Result;
use crate::install::Installing;
use crate::memory_log::MemoryLog;
use crate::options::Durability;
use crate::parts::{DurableLog, DurableSegment, Loaded, OnDisk};
use crate::pinned::Source;
use crate::record::{KeyspaceId, RecordRef, SeqNo, Write};
use crate::stats::{LogStats, OpenReport};
use crate::ticket::Ticket;

/// A log of either kind.
pub(crate) enum Log {
    Memory(MemoryLog),
    Durable(DurableLog),
}

/// A segment as readers have it: on disk with everything that reading it takes.
pub(crate) enum LogSegment {
    Memory(u64),
    Durable(DurableSegment),
}

impl LogSegment {
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        match self {
            LogSegment::Memory(id) => *id,
            LogSegment::Durable(segment) => segment.id(),
        }
    }

    /// No commit of it is above this one.
    pub(crate) fn last_seq(&self) -> SeqNo {
        match self {
            LogSegment::Memory(_) => SeqNo::MAX,
            LogSegment::Durable(segment) => segment.last_seq(),
        }
    }

    /// The mapped bytes of the log from an offset on, where there are any: to be prefetched.
    #[inline]
    pub(crate) fn prefetchable(&self, offset: u32) -> Option<&[u8]> {
        match self {
            LogSegment::Memory(_) => None,
            LogSegment::Durable(segment) => segment.prefetchable(offset),
        }
    }
}

/// What opening a database on disk gives.
pub(crate) struct Opened {
    pub(crate) log: DurableLog,
    pub(crate) manifest: SharedManifest,
    pub(crate) keyspaces: BTreeMap<KeyspaceId, Arc<str>>,
    pub(crate) hash_seed: u64,
    /// The images that there are, and the one that was loaded in place of a replay.
    pub(crate) images: OnDisk,
    pub(crate) image: Option<Loaded>,
    pub(crate) report: OpenReport,
}

macro_rules! either {
    ($self:ident, $log:ident => $call:expr) => {
        match $self {
            Log::Memory($log) => $call,
            Log::Durable($log) => $call,
        }
    };
}

impl Log {
    /// Appends one commit, and returns once it is installed and as durable as asked.
    #[inline]
    pub(crate) fn append(
        &self,
        writes: &[Write<'_>],
        durability: Durability,
        installing: Installing<'_>,
    ) -> Result<SeqNo> {
        match self {
            Log::Memory(log) => log.append(writes, installing),
            Log::Durable(log) => log.append(writes, durability, installing),
        }
    }

    /// Appends one commit; the ticket resolves when [`Log::append`] would return.
    pub(crate) fn append_async(
        &self,
        writes: &[Write<'_>],
        durability: Durability,
    ) -> Result<Ticket<SeqNo>> {
        either!(self, log => log.append_async(writes, durability))
    }

    /// Makes everything appended so far durable, and installs what waits for that; a relaxed commit is installed by the thread
    /// that appends it.
    pub(crate) fn sync(&self) -> Result<SeqNo> {
        either!(self, log => log.sync())
    }

    /// A segment for the slot table.
    pub(crate) fn segment(&self, id: u64) -> Result<LogSegment> {
        match self {
            Log::Memory(_) => Ok(LogSegment::Memory(id)),
            Log::Durable(log) => log.segment(id).map(LogSegment::Durable),
        }
    }

    /// Shows a record of one of its segments and where it comes from; `None` when it was forgotten.
    #[inline]
    pub(crate) fn read_with<R>(
        &self,
        segment: &LogSegment,
        offset: u32,
        show: impl FnOnce(&RecordRef<'_>, Source<'_>) -> R,
    ) -> Result<Option<R>> {
        match (segment, self) {
            (LogSegment::Durable(segment), _) => {
                segment.read_with(offset, |record| show(record, Source::Durable(segment))).map(Some)
            }
            (LogSegment::Memory(id), Log::Memory(log)) => {
                Ok(log.read_with(Location { segment: *id, offset }, show))
            }
            (LogSegment::Memory(_), Log::Durable(_)) => Ok(None),
        }
    }

    /// The index points at this record no more. On disk its bytes wait for compaction; in memory they go now.
    #[inline]
    pub(crate) fn forget(&self, location: impl FnOnce() -> Option<Location>) {
        match self {
            Log::Memory(log) => location().into_iter().for_each(|location| log.forget(location)),
            Log::Durable(_) => {}
        }
    }

    /// True when a tombstone has nothing left to hide once it is installed: no replay brings older records back, and
    /// commits are installed in their order.
    pub(crate) fn forgets_tombstones(&self) -> bool {
        matches!(self, Log::Memory(_))
    }

    /// The log on disk, unless it is in memory.
    pub(crate) fn durable(&self) -> Option<&DurableLog> {
        match self {
            Log::Memory(_) => None,
            Log::Durable(log) => Some(log),
        }
    }

    /// The file of a segment on disk.
    pub(crate) fn file_of(&self, id: u64) -> Option<PathBuf> {
        self.durable().map(|log| log.file_of(id))
    }

    pub(crate) fn last_seq(&self) -> SeqNo {
        either!(self, log => log.last_seq())
    }

    pub(crate) fn durable_seq(&self) -> SeqNo {
        either!(self, log => log.durable_seq())
    }

    pub(crate) fn stats(&self) -> LogStats {
        either!(self, log => log.stats())
    }

    pub(crate) fn reset_stats(&self) {
        either!(self, log => log.reset_stats());
    }

    /// Does one unit of background work; true if there was one.
    pub(crate) fn step(&self) -> Result<bool> {
        either!(self, log => log.step())
    }

    /// Syncs, resolves every pending ticket, and refuses appends from then on. Reads go on.
    pub(crate) fn close(&self) -> Result<()> {
        either!(self, log => log.close())
    }
}
