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
use crate::core::Core;
use crate::error::Result;
use crate::install::Installing;
use crate::memory_log::MemoryLog;
use crate::options::Durability;
use crate::parts::{DurableLog, DurableMark, DurableSegment, Loaded, OnDisk};
use crate::pinned::Source;
use crate::record::{KeyspaceId, RecordRef, SeqNo, Write};
use crate::stats::{LogStats, OpenReport};
use crate::ticket::Ticket;
use crate::write::Premises;

/// A log of either kind.
pub(crate) enum Log {
    Memory(MemoryLog),
    Durable(DurableLog),
}

/// A place in the log before which everything is in the index; there is none in memory, where nothing is anywhere else.
pub(crate) struct Mark(pub(crate) Option<DurableMark>);

/// How a conditional append ended.
pub(crate) enum Attempt<T> {
    /// It is in the log.
    Appended(T),
    /// A premise does not hold; nothing was appended.
    Refused,
    /// It cannot be told any more; nothing was appended.
    Outdated,
}

impl<T> Attempt<T> {
    pub(crate) fn map<U>(self, form: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Attempt::Appended(appended) => Attempt::Appended(form(appended)),
            Attempt::Refused => Attempt::Refused,
            Attempt::Outdated => Attempt::Outdated,
        }
    }
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
        installing: Installing<'_>,
    ) -> Result<Ticket<SeqNo>> {
        match self {
            Log::Memory(log) => log.append_async(writes),
            Log::Durable(log) => log.append_async(writes, durability, installing),
        }
    }

    /// Where the records begin that the index may not have. The caller has the gate alone.
    pub(crate) fn mark(&self) -> Mark {
        match self {
            Log::Memory(_) => Mark(None),
            Log::Durable(log) => log.mark(),
        }
    }

    /// Appends one commit if the premises hold at that moment, and returns once it is installed and as durable as asked. On disk
    /// they were looked up behind the mark.
    pub(crate) fn append_if(
        &self,
        writes: &[Write<'_>],
        durability: Durability,
        mark: &Mark,
        premises: &mut Premises<'_>,
        core: &Arc<Core>,
    ) -> Result<Attempt<SeqNo>> {
        let installing = core.installing(None, durability);
        match (self, &mark.0) {
            (Log::Durable(log), Some(mark)) => {
                log.append_if(writes, durability, mark, premises, installing)
            }
            (Log::Durable(_), None) => Ok(Attempt::Outdated),
            (Log::Memory(log), _) => log.append_if(writes, installing, || {
                premises.look_up(core)?;
                Ok(premises.hold())
            }),
        }
    }

    /// As [`Log::append_if`]; the ticket resolves when that would return.
    pub(crate) fn append_if_async(
        &self,
        writes: &[Write<'_>],
        durability: Durability,
        mark: &Mark,
        premises: &mut Premises<'_>,
        core: &Arc<Core>,
    ) -> Result<Attempt<Ticket<SeqNo>>> {
        match (self, &mark.0) {
            (Log::Durable(log), Some(mark)) => {
                let installing = core.installing(None, durability);
                log.append_if_async(writes, durability, mark, premises, installing)
            }
            _ => {
                let attempt = self.append_if(writes, durability, mark, premises, core)?;
                Ok(attempt.map(|seq| Ticket::ready(Ok(seq))))
            }
        }
    }

    /// Waits until a commit that is in the log is durable and installed.
    pub(crate) fn wait_durable(&self, seq: SeqNo) -> Result<()> {
        match self {
            Log::Memory(_) => Ok(()),
            Log::Durable(log) => log.wait_durable(seq),
        }
    }

    /// As [`Log::wait_durable`], by a ticket.
    pub(crate) fn durable_async(&self, seq: SeqNo) -> Result<Ticket<SeqNo>> {
        match self {
            Log::Memory(_) => Ok(Ticket::ready(Ok(seq))),
            Log::Durable(log) => log.durable_async(seq),
        }
    }

    /// The number up to which every commit is in the index, and none above it, if there is one now; `led` is the last that a
    /// leader has installed. The caller has the gate alone.
    pub(crate) fn settled_seq(&self, led: SeqNo) -> Option<SeqNo> {
        match self {
            // A commit that is under way has not taken the gate.
            Log::Memory(_) => None,
            Log::Durable(log) => log.settled_seq(led),
        }
    }

    /// Installs what waits for a sync; on disk a commit that installs itself may still be at it.
    pub(crate) fn install_pending(&self) -> Result<()> {
        match self {
            Log::Memory(log) => log.sync().map(drop),
            Log::Durable(log) => log.install_pending(),
        }
    }

    /// Makes everything appended so far durable, and installs what waits for that; a relaxed commit is installed by the thread
    /// that appends it.
    pub(crate) fn sync(&self) -> Result<SeqNo> {
        either!(self, log => log.sync())
    }

    /// As [`Log::sync`], by a ticket.
    pub(crate) fn sync_async(&self) -> Result<Ticket<SeqNo>> {
        match self {
            Log::Memory(log) => Ok(Ticket::ready(log.sync())),
            Log::Durable(log) => log.sync_async(),
        }
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
