//! The log as its users see it.
//!
//! # Layout
//! `tickets` has the calls that do not wait.

mod tickets;

use std::path::Path;
use std::sync::Arc as StdArc;
use std::time::Duration;

use crate::background::{Duty, run_background, step};
use crate::batch::Batch;
use crate::core::SharedCore;
use crate::error::{ClosedReason, Error, ErrorKind, Result};
use crate::metrics::WalStats;
use crate::options::{Background, Durability, WalOptions};
use crate::record::{Location, Record, RecordRef, ReplayHandler, SeqNo};
use crate::recovery::{RecoveryReport, recover};
use crate::segment_reader::SegmentReader;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, Mutex, lock, spawn, thread};
use crate::ticket::Ticket;
use crate::vfs::DirLock;

/// An open log. Clones share it; the last one that is dropped closes it.
///
/// All methods may be called from any thread at any time. After a failed write or sync every append answers
/// [`ErrorKind::Closed`] until the log is opened again, and reads go on.
///
/// ```
/// use cortenkv_wal::{Batch, RecordRef, Wal, WalOptions};
/// use std::sync::{Arc, Mutex};
///
/// let dir = tempfile::tempdir()?;
/// let seen = Arc::new(Mutex::new(Vec::new()));
/// let handler = {
///     let seen = Arc::clone(&seen);
///     Arc::new(move |records: &[RecordRef<'_>]| {
///         seen.lock().unwrap().extend(records.iter().map(|record| record.key.to_vec()));
///     })
/// };
/// let (wal, report) = Wal::open(dir.path().join("log"), WalOptions::default(), handler)?;
/// assert_eq!(report.records, 0);
/// let mut batch = Batch::new();
/// batch.put(0, b"key", b"value")?;
/// wal.append(&batch)?; // durable when it returns
/// assert_eq!(*seen.lock().unwrap(), [b"key"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Wal {
    handle: StdArc<Handle>,
}

/// Closes the log when the last clone goes.
#[derive(Debug)]
struct Handle {
    core: SharedCore,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl Wal {
    /// Opens or creates the log in a directory: locks it, recovers it, and offers every record to `handler`.
    ///
    /// # Errors
    /// `Locked` when it is open elsewhere; `Corruption` for damage that no crash explains (nothing is changed then);
    /// `Unsupported` for files of a newer version; `InvalidArgument` for options that cannot work or a path that is not
    /// a directory of our own; `StorageFull` and `Io` from the operating system.
    pub fn open(
        dir: impl AsRef<Path>,
        options: WalOptions,
        handler: StdArc<dyn ReplayHandler>,
    ) -> Result<(Wal, RecoveryReport)> {
        options.validate()?;
        let lock = DirLock::acquire(&options.vfs, dir.as_ref(), options.allow_writable_by_others)?;
        Wal::open_locked(lock, options, handler)
    }

    /// Opens the log in a directory that the caller has locked; the lock is kept until the log is closed and dropped.
    ///
    /// # Errors
    /// As [`Wal::open`].
    pub fn open_locked(
        lock: DirLock,
        options: WalOptions,
        handler: StdArc<dyn ReplayHandler>,
    ) -> Result<(Wal, RecoveryReport)> {
        options.validate()?;
        let background = options.background;
        let (core, report) = recover(lock, options, handler)?;
        let handle = Handle { core: Arc::new(core), threads: Mutex::default() };
        if background == Background::Thread {
            handle.start("cortenkv-wal-sync", Duty::Sync)?;
            handle.start("cortenkv-wal-space", Duty::Space)?;
        }
        Ok((Wal { handle: StdArc::new(handle) }, report))
    }

    /// Appends a batch as one commit with the default durability, and waits for what that promises.
    ///
    /// An empty batch is no commit; the last sequence number comes back.
    ///
    /// # Errors
    /// `StorageFull` while the disk is full (nothing was written); `Closed` after a failure or `close`; `Io` when the
    /// sync that should have covered this commit failed: it may or may not be there after a reopen.
    pub fn append(&self, batch: &Batch) -> Result<SeqNo> {
        self.append_with(batch, self.core().options.durability)
    }

    /// Appends a batch with a durability of its own.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub fn append_with(&self, batch: &Batch, durability: Durability) -> Result<SeqNo> {
        let core = self.core();
        core.append(batch, durability, |records| core.handler.apply(records))
    }

    /// As [`Wal::append_with`], but in a relaxed mode it is `install` that is called with the records, in place of the
    /// handler: for an owner that knows more of its commit than the log does. In a durable mode `install` is not called,
    /// and the handler is, by the leader of the sync. A panic in `install` poisons the log, as one in the handler does.
    ///
    /// # Errors
    /// As [`Wal::append`].
    #[inline]
    pub fn append_installing(
        &self,
        batch: &Batch,
        durability: Durability,
        install: impl FnOnce(&[RecordRef<'_>]),
    ) -> Result<SeqNo> {
        self.core().append(batch, durability, install)
    }

    /// Makes every commit appended so far durable, whatever its mode.
    ///
    /// # Errors
    /// `Closed` or `Io`, as [`Wal::append`].
    pub fn sync(&self) -> Result<SeqNo> {
        let core = self.core();
        core.check_fork()?;
        core.latch.check()?;
        let seq = lock(&core.appender).last_seq();
        core.wait_published(seq);
        core.ride(seq, Some(Durability::Always))?;
        Ok(seq)
    }

    /// A copy of the record at a location that the handler was given.
    ///
    /// # Errors
    /// `Corruption` when the file does not hold a record there; `InvalidArgument` when the segment was purged.
    pub fn read(&self, location: Location) -> Result<Record> {
        self.read_with(location, |record| record.to_record())
    }

    /// Calls `f` with the record at a location, without a copy where the file is mapped and the record not compressed.
    ///
    /// # Errors
    /// As [`Wal::read`].
    pub fn read_with<R>(
        &self,
        location: Location,
        f: impl FnOnce(RecordRef<'_>) -> R,
    ) -> Result<R> {
        self.core().read_with(location, f)
    }

    /// A segment held for reading, for an owner that keeps one for each segment that it has places in; `None` when there is
    /// no such segment (any more).
    pub fn segment(&self, id: u64) -> Option<SegmentReader> {
        self.core().segment(id)
    }

    /// Removes the oldest segments as long as all their commits are below `below`; returns how many went.
    ///
    /// # Errors
    /// `Io`, `StorageFull` or `Closed`; what could not be removed goes at the next open.
    pub fn purge(&self, below: SeqNo) -> Result<u64> {
        let core = self.core();
        core.check_fork()?;
        let _purge = lock(&core.purge);
        let doomed: Vec<_> = {
            // From here on a segment may hold commits that are not published, so its last sequence is not known yet.
            let unfinished = lock(&core.appender).published_segment();
            let segments = core.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            segments
                .values()
                .take_while(|segment| segment.last_seq() < below && segment.id < unfinished)
                .cloned()
                .collect()
        };
        let Some(last) = doomed.last() else { return Ok(0) };
        {
            let segments = core.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let oldest = segments.range(last.id + 1..).next().map_or(0, |(id, _)| *id);
            drop(segments);
            let mut appender = lock(&core.appender);
            core.check_open()?;
            let before = appender.segment().id;
            let noted = appender.note_purge(below, oldest, &core.surroundings());
            if appender.segment().id != before {
                core.note_segment(appender.segment());
            }
            noted?;
        }
        // DURABILITY: the note says which segments may be missing, so it comes before they are.
        core.lead_once()?;
        let mut removed = 0;
        for segment in doomed {
            core.segments
                .write()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .remove(&segment.id);
            core.space
                .vfs
                .remove_file(&segment.path)
                .map_err(|e| Error::io(format!("cannot remove {}", segment.path.display()), e))?;
            removed += 1;
        }
        core.space.sync_names().map_err(|e| core.latch.poison(e))?;
        Ok(removed)
    }

    /// What the log has counted so far.
    pub fn stats(&self) -> WalStats {
        let core = self.core();
        let segments =
            core.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner).len();
        let tickets = core.tickets.load(Ordering::Relaxed) as u64;
        core.counters.snapshot(segments as u64, tickets, core.gauge.ratio_256())
    }

    /// Sets the counters to zero.
    pub fn reset_stats(&self) {
        self.core().counters.reset();
    }

    /// The sequence number of the last commit appended.
    pub fn last_seq(&self) -> SeqNo {
        lock(&self.core().appender).last_seq()
    }

    /// Every commit up to here survives a power cut.
    pub fn durable_seq(&self) -> SeqNo {
        self.core().train.durable()
    }

    /// Blocks until a commit above `seq` is durable, or `timeout` is over; returns [`Wal::durable_seq`]. It asks for no sync.
    pub fn wait_durable_above(&self, seq: SeqNo, timeout: Duration) -> SeqNo {
        self.core().train.wait_above(seq, timeout);
        self.durable_seq()
    }

    /// Does one unit of background work; false when there was none to do. For [`Background::Manual`], where nobody
    /// else does it.
    ///
    /// # Errors
    /// What the work ran into. `StorageFull` is tried again later; everything else has closed the log.
    pub fn step(&self) -> Result<bool> {
        self.core().check_fork()?;
        step(self.core())
    }

    /// Makes everything appended durable and ends the log: later appends, also of other clones, answer `Closed`. Reads
    /// go on until the last clone is dropped. Closing twice is fine.
    ///
    /// # Errors
    /// Those of the last sync, or the earlier failure of a log that was poisoned.
    pub fn close(&self) -> Result<()> {
        self.handle.close()
    }

    /// The directory of the log.
    pub fn dir(&self) -> &Path {
        &self.handle.core.space.dir
    }

    pub(crate) fn core(&self) -> &SharedCore {
        &self.handle.core
    }
}

impl Handle {
    /// Starts a background thread; those that run already end with the handle when this fails.
    fn start(&self, name: &str, duty: Duty) -> Result<()> {
        let core = Arc::clone(&self.core);
        let started = spawn(name, move || run_background(&core, duty));
        let thread = started.map_err(|e| Error::io("cannot start a thread of the log", e))?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    fn close(&self) -> Result<()> {
        let core = &self.core;
        if core.sentinel.is_forked() {
            // The files belong to the parent.
            return Err(Error::closed(ClosedReason::Forked));
        }
        // Held to the end: who closes second returns when everything is durable, too.
        let mut threads = lock(&self.threads);
        let last_seq = {
            let appender = lock(&core.appender);
            if !core.accepting.swap(false, Ordering::Relaxed) {
                drop(appender);
                return match core.latch.check() {
                    Err(e) if *e.kind() != ErrorKind::Closed(ClosedReason::Clean) => Err(e),
                    _ => Ok(()),
                };
            }
            appender.last_seq()
        };
        core.wait_published(last_seq);
        let synced =
            core.latch.check().and_then(|()| core.ride(last_seq, Some(Durability::Always)));
        if synced.is_ok() {
            let mut appender = lock(&core.appender);
            let before = appender.segment().id;
            // Neither on a full disk nor after a cut is the mark missed: the next open copies more, nothing else.
            let _ = appender.mark_durable(&core.surroundings());
            if appender.segment().id != before {
                core.note_segment(appender.segment());
            }
            let unflushed = appender.unflushed();
            drop(appender);
            for (segment, end) in unflushed {
                let _ = segment.tail().flush(u64::from(end));
            }
        }
        core.sync_signals.stop();
        core.space_signals.stop();
        for thread in threads.drain(..) {
            let _ = thread.join();
        }
        core.latch.close(Error::closed(ClosedReason::Clean));
        core.train.wake_all();
        synced
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // An error has been told to every commit that it concerns; a drop cannot return it.
        let _ = self.close();
    }
}

const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Wal>();
    shared::<Ticket>();
    const fn handler<T: ReplayHandler>() {}
    handler::<()>();
    let _ = size_of::<RecordRef<'_>>();
};
