//! Conditional commits: appended only if what came into the log since a mark leaves the condition standing.
//!
//! # How it works
//! 1. The owner takes a [`LogMark`]: where the records begin that its handler may not have been given yet.
//! 2. It checks its condition by its own index, which knows everything before the mark. No lock is held meanwhile.
//! 3. [`Wal::append_if`] shows every record from the mark to the end of the log to the [`Condition`], in log order, and appends
//!    if it still holds. The last look and the append are under one hold of the append lock, so nothing comes between them.
//!
//! A commit that waits for its sync is in the log and not in the index; the second look is for that one. So many conditional
//! commits share one sync, as plain ones do.
//!
//! # Concurrency
//! Most of the walk comes before the lock; under it are the records of that moment only. A commit that is being copied
//! outside the lock is waited for; as long as somebody waits, no further one is copied outside, so the wait ends.
//!
//! # Failure
//! A mark is outdated when a segment behind it was retired meanwhile: the owner takes another one and checks again.

use std::sync::Arc as StdArc;
use std::sync::PoisonError;

use crate::appender::Appender;
use crate::batch::Batch;
use crate::bugs::{Bug, planted};
use crate::commit::with_commit;
use crate::core::Core;
use crate::error::Result;
use crate::format::HEADER_BYTES;
use crate::options::{Durability, validate_durability};
use crate::record::{RecordRef, SeqNo};
use crate::segment::{Position, Segment};
use crate::sync::{MutexGuard, lock, wait};
use crate::ticket::Ticket;
use crate::wal::Wal;

/// A place in the log, from [`Wal::mark`]: all commits before it were offered to the handler.
#[derive(Debug, Clone)]
pub struct LogMark {
    pub(crate) segment: StdArc<Segment>,
    pub(crate) at: Position,
}

/// What a conditional commit depends on.
pub trait Condition {
    /// Looks at a record that stands behind the mark. They come in log order, whole commits, each once in a call of
    /// [`Wal::append_if`], and the handler may have been given some of them already. It must not use the log.
    fn visit(&mut self, record: &RecordRef<'_>);

    /// Whether to append, after every record was visited. It must not use the log.
    fn holds(&self) -> bool;
}

/// How a conditional commit ended.
#[derive(Debug)]
pub enum Conditional<T> {
    /// It is in the log.
    Appended(T),
    /// The condition does not hold; nothing was appended.
    Refused,
    /// A segment between the mark and the end of the log is gone, so it cannot be told; nothing was appended.
    Outdated,
}

impl Wal {
    /// Where the commits begin that wait for their sync; the end of the log, if none does. Everything before was offered to the
    /// handler, but for relaxed commits that other threads are appending at this moment: an owner that has such threads keeps
    /// them out while it takes a mark, as by a lock that they share from append to install.
    ///
    /// It keeps its segment mapped until it is dropped.
    pub fn mark(&self) -> LogMark {
        let appender = lock(&self.core().appender);
        appender.pending_from()
    }

    /// True when commits are in the log that wait for their sync to be installed.
    pub fn has_pending(&self) -> bool {
        lock(&self.core().appender).has_pending()
    }

    /// The number up to which every commit was offered to the handler, and none above it; `None` if there is no such number,
    /// because a relaxed commit stands behind one that waits for its sync. `offered` is the last commit that the handler was
    /// given by the leader of a sync. The owner keeps out whoever offers records while it asks, as for [`Wal::mark`].
    pub fn settled_seq(&self, offered: SeqNo) -> Option<SeqNo> {
        let core = self.core();
        let appender = lock(&core.appender);
        if !appender.has_pending() {
            return Some(appender.last_seq());
        }
        // A leader installs in log order, and what is durable is installed.
        let settled = offered.max(core.train.durable());
        (appender.last_relaxed() <= settled).then_some(settled)
    }

    /// Appends a batch if a condition holds at that moment, and waits for what its durability promises: see
    /// [`Wal::mark`] for `from`. An empty batch appends nothing, and the condition is judged all the same.
    ///
    /// `install` is what it is in [`Wal::append_installing`].
    ///
    /// ```
    /// use cortenkv_wal::{Batch, Condition, Conditional, Durability, RecordRef, Wal, WalOptions};
    /// use std::sync::Arc;
    ///
    /// /// Nothing was written to one key.
    /// struct Untouched(&'static [u8], bool);
    ///
    /// impl Condition for Untouched {
    ///     fn visit(&mut self, record: &RecordRef<'_>) {
    ///         self.1 &= record.key != self.0;
    ///     }
    ///     fn holds(&self) -> bool {
    ///         self.1
    ///     }
    /// }
    ///
    /// let dir = tempfile::tempdir()?;
    /// let (wal, _) = Wal::open(dir.path().join("log"), WalOptions::default(), Arc::new(()))?;
    /// let mut batch = Batch::new();
    /// batch.put(0, b"seat 7", b"Ada")?;
    /// let mark = wal.mark();
    /// let mut book = || {
    ///     let mut free = Untouched(b"seat 7", true);
    ///     wal.append_if(&batch, Durability::Always, &mark, &mut free, |_| {})
    /// };
    /// assert!(matches!(book()?, Conditional::Appended(_)));
    /// assert!(matches!(book()?, Conditional::Refused));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub fn append_if(
        &self,
        batch: &Batch,
        durability: Durability,
        from: &LogMark,
        condition: &mut dyn Condition,
        install: impl FnOnce(&[RecordRef<'_>]),
    ) -> Result<Conditional<SeqNo>> {
        let core = self.core();
        let entered = core.enter_if(batch, durability, from, condition, install)?;
        if let Conditional::Appended(seq) = entered
            && !batch.is_empty()
            && let Some(target) = core.must_be_durable(seq, durability)
        {
            core.ride(target, Some(durability))?;
        }
        Ok(entered)
    }

    /// As [`Wal::append_if`], without waiting for the sync.
    ///
    /// # Errors
    /// As [`Wal::append`], and `Busy` when `tickets_max` tickets are pending.
    pub fn append_if_async(
        &self,
        batch: &Batch,
        durability: Durability,
        from: &LogMark,
        condition: &mut dyn Condition,
        install: impl FnOnce(&[RecordRef<'_>]),
    ) -> Result<Conditional<Ticket>> {
        self.check_tickets()?;
        let core = self.core();
        Ok(match core.enter_if(batch, durability, from, condition, install)? {
            Conditional::Appended(seq) => {
                let waits = !batch.is_empty() && core.must_be_durable(seq, durability).is_some();
                Conditional::Appended(self.ticket(seq, waits))
            }
            Conditional::Refused => Conditional::Refused,
            Conditional::Outdated => Conditional::Outdated,
        })
    }

    /// Waits until a commit that is in the log is durable and was offered to the handler; it may lead the sync.
    ///
    /// # Errors
    /// `Closed` or `Io`, as [`Wal::append`].
    pub fn wait_durable(&self, seq: SeqNo) -> Result<()> {
        let core = self.core();
        core.wait_published(seq);
        core.ride(seq, None)
    }
}

impl Core {
    fn enter_if(
        &self,
        batch: &Batch,
        durability: Durability,
        from: &LogMark,
        condition: &mut dyn Condition,
        install: impl FnOnce(&[RecordRef<'_>]),
    ) -> Result<Conditional<SeqNo>> {
        validate_durability(durability)?;
        self.check_fork()?;
        let Some(reached) = self.walk(from, None, condition)? else {
            return Ok(Conditional::Outdated);
        };
        if batch.is_empty() {
            let appender = self.lock_published();
            self.check_open()?;
            return Ok(match self.walk(&reached, Some(&appender.end()), condition)? {
                None => Conditional::Outdated,
                Some(_) if !condition.holds() => Conditional::Refused,
                Some(_) => Conditional::Appended(appender.last_seq()),
            });
        }
        with_commit(batch, &self.gauge, |commit| {
            let appender = self.lock_published();
            match self.walk(&reached, Some(&appender.end()), condition)? {
                None => return Ok(Conditional::Outdated),
                Some(_) if !condition.holds() => return Ok(Conditional::Refused),
                Some(_) => {}
            }
            let placed = self.place(appender, commit, durability.is_durable())?;
            self.finish(&placed, commit, durability, install)?;
            Ok(Conditional::Appended(placed.seq))
        })
    }

    /// The append lock, at a moment when everything that has a place is published.
    fn lock_published(&self) -> MutexGuard<'_, Appender> {
        let mut appender = lock(&self.appender);
        if appender.published() < appender.last_seq() {
            appender.note_waiting_check(true);
            while appender.published() < appender.last_seq() {
                appender = wait(&self.published_moved, appender);
            }
            appender.note_waiting_check(false);
        }
        appender
    }

    /// Shows the records behind a mark to a condition: those up to the end, which the caller took under the lock, else those
    /// that are published. Returns the place where they end; `None` when a segment between is gone.
    fn walk(
        &self,
        from: &LogMark,
        end: Option<&LogMark>,
        condition: &mut dyn Condition,
    ) -> Result<Option<LogMark>> {
        let mut at = from.clone();
        loop {
            let sealed = at.segment.sealed();
            let published = match (end, sealed) {
                (Some(end), _) if end.segment.id == at.segment.id => end.at.stored,
                // Frames of the log's own may stand behind its last commit.
                (Some(_), Some(sealed)) => sealed.stored,
                _ => at.segment.end(),
            };
            at.at = show_records(&at.segment, at.at, published, condition)?;
            if sealed.is_none_or(|sealed| at.at.stored < sealed.stored) {
                return Ok(Some(at));
            }
            let next = {
                let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
                segments.range(at.segment.id + 1..).next().map(|(_, next)| StdArc::clone(next))
            };
            let before = at.segment.id;
            match next {
                Some(next) if next.chain().is_some_and(|chain| chain.predecessor == before) => {
                    let at_first = Position { stored: HEADER_BYTES, logical: HEADER_BYTES };
                    at = LogMark { segment: next, at: at_first };
                }
                // It is being begun: the next walk comes to it.
                None if end.is_none() => return Ok(Some(at)),
                _ => return Ok(None),
            }
        }
    }
}

/// Shows the records of a segment from a frame boundary up to a published end; returns where that is.
fn show_records(
    segment: &Segment,
    from: Position,
    end: u32,
    condition: &mut dyn Condition,
) -> Result<Position> {
    let Some(len) = end.checked_sub(from.stored).filter(|len| *len > 0) else { return Ok(from) };
    let mut at = from;
    segment.with_bytes(from.stored, len as usize, |bytes| {
        while at.stored < end {
            let rest = bytes.get((at.stored - from.stored) as usize..).unwrap_or_default();
            let (frame, stored_bytes) = segment.trusted_frame(at.stored, rest)?;
            if !planted(Bug::ConditionalMissesPending) {
                let _ = segment.records_of(at, &frame, &mut |record| {
                    condition.visit(&record);
                    std::ops::ControlFlow::Continue(())
                })?;
            }
            at.logical += frame.logical_bytes(stored_bytes);
            at.stored += stored_bytes;
        }
        Ok(at)
    })?
}
