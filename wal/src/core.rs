//! The state of an open log, and the path of a commit through it.
//!
//! # The write path
//! 1. [`Core::append`]: encode, hash and compress outside any lock; [`place`](Core::place) it under the append lock.
//! 2. Relaxed: hand it to the kernel, install it, acknowledge ([`Core::finish_relaxed`]).
//! 3. Durable: ride the train ([`Core::ride`]); its leader syncs, installs in log order and wakes (`leader.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc as StdArc;
use std::task::Waker;

use crate::appender::{Appender, Placed, Surroundings};
use crate::background::{Duty, IntervalTimer, Signals};
use crate::batch::Batch;
use crate::bugs::{Bug, planted};
use crate::commit::{Commit, with_commit};
use crate::compress::CompressionGauge;
use crate::error::{ClosedReason, Error, ErrorKind, Result};
use crate::latch::Latch;
use crate::leader::Line;
use crate::metrics::Counters;
use crate::options::{Durability, WalOptions, validate_durability};
use crate::record::{Location, RecordRef, ReplayHandler, SeqNo};
use crate::segment::Segment;
use crate::segment_reader::SegmentReader;
use crate::space::Space;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock, lock, wait};
use crate::train::{GatherGauge, Train};
use crate::uninstalled::Uninstalled;
use crate::vfs::{DirLock, ForkSentinel};

pub(crate) type SegmentTable = std::collections::BTreeMap<u64, StdArc<Segment>>;

pub(crate) struct Core {
    pub(crate) options: WalOptions,
    pub(crate) space: Space,
    pub(crate) latch: Latch,
    pub(crate) train: Train,
    pub(crate) counters: Counters,
    /// For the thread that syncs.
    pub(crate) sync_signals: Signals,
    /// For the thread that makes room.
    pub(crate) space_signals: Signals,
    pub(crate) timer: IntervalTimer,
    pub(crate) appender: Mutex<Appender>,
    /// Signalled when a large commit was published and others waited behind it.
    pub(crate) published_moved: Condvar,
    pub(crate) segments: RwLock<SegmentTable>,
    pub(crate) gauge: CompressionGauge,
    pub(crate) gather: GatherGauge,
    pub(crate) handler: StdArc<dyn ReplayHandler>,
    /// False once `close` began.
    pub(crate) accepting: AtomicBool,
    /// Held by a purge: segments go one purge at a time.
    pub(crate) purge: Mutex<()>,
    /// Relaxed commits that are in the log and not installed yet, by segment.
    pub(crate) uninstalled: Uninstalled,
    pub(crate) tickets: AtomicUsize,
    pub(crate) next_ticket: AtomicU64,
    pub(crate) sentinel: StdArc<ForkSentinel>,
    pub(crate) _lock: DirLock,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("dir", &self.space.dir).finish_non_exhaustive()
    }
}

impl Core {
    /// Appends and waits for what `durability` promises; `install` takes the records of a relaxed commit.
    #[inline]
    pub(crate) fn append(
        &self,
        batch: &Batch,
        durability: Durability,
        install: impl FnOnce(&[RecordRef<'_>]),
    ) -> Result<SeqNo> {
        let seq = self.enter(batch, durability, install)?;
        if let Some(target) = self.must_be_durable(seq, durability) {
            self.ride(target, Some(durability))?;
        }
        Ok(seq)
    }

    /// Appends, and returns what is left to wait for: the sequence, and whether it must become durable.
    pub(crate) fn append_async(
        &self,
        batch: &Batch,
        durability: Durability,
        install: impl FnOnce(&[RecordRef<'_>]),
    ) -> Result<(SeqNo, bool)> {
        let seq = self.enter(batch, durability, install)?;
        Ok((seq, self.must_be_durable(seq, durability).is_some()))
    }

    /// The commit in the log; relaxed ones are finished while their encoded form is still at hand.
    #[inline]
    fn enter(
        &self,
        batch: &Batch,
        durability: Durability,
        install: impl FnOnce(&[RecordRef<'_>]),
    ) -> Result<SeqNo> {
        validate_durability(durability)?;
        self.check_fork()?;
        if batch.is_empty() {
            let appender = lock(&self.appender);
            self.check_open()?;
            return Ok(appender.last_seq());
        }
        with_commit(batch, &self.gauge, |commit| {
            let placed = self.place(lock(&self.appender), commit, durability.is_durable())?;
            self.finish(&placed, commit, durability, install)?;
            Ok(placed.seq)
        })
    }

    /// What is left to do for a commit that has its place, but for the wait for its sync.
    #[inline]
    pub(crate) fn finish(
        &self,
        placed: &Placed,
        commit: &Commit<'_>,
        durability: Durability,
        install: impl FnOnce(&[RecordRef<'_>]),
    ) -> Result<()> {
        if placed.behind && !planted(Bug::AcknowledgedBehindHole) {
            self.wait_published(placed.seq);
        }
        if durability.is_durable() {
            return Ok(());
        }
        let finished = self.finish_relaxed(placed, commit, durability, install);
        self.uninstalled.note_installed(placed.segment);
        finished
    }

    /// Gives the commit its place under the append lock, which it takes, and copies it there or, when large, outside.
    #[inline]
    pub(crate) fn place(
        &self,
        mut appender: MutexGuard<'_, Appender>,
        commit: &Commit<'_>,
        waits_for_install: bool,
    ) -> Result<Placed> {
        self.check_open()?;
        let before = appender.segment().id;
        let placed = appender.append(commit, waits_for_install, &self.surroundings());
        // Also when the disk was full behind the rotation: smaller commits go there all the same.
        let rotated = appender.segment().id != before;
        if rotated {
            self.note_segment(appender.segment());
        }
        let placed = placed?;
        if !waits_for_install {
            self.uninstalled.note_placed(placed.segment);
        }
        let wants_space = appender.has_wishes(&self.space) || rotated;
        drop(appender);
        if let Some(segment) = &placed.copy_to {
            let place = segment.place(placed.start.stored);
            commit.store(segment.tail(), placed.seq, place);
            if lock(&self.appender).complete(placed.seq) {
                self.published_moved.notify_all();
            }
        }
        if wants_space {
            self.space_signals.notify();
        }
        if rotated {
            #[cfg(feature = "tracing")]
            tracing::debug!(segment = placed.segment, "the log goes on in a new segment");
            // What was sealed is to be synced.
            self.sync_signals.notify();
        }
        Ok(placed)
    }

    /// A relaxed commit: in the kernel, without a hole below it, and installed.
    #[inline]
    fn finish_relaxed(
        &self,
        placed: &Placed,
        commit: &Commit<'_>,
        durability: Durability,
        install: impl FnOnce(&[RecordRef<'_>]),
    ) -> Result<()> {
        if placed.is_staged {
            self.flush_appended()?;
        }
        commit.with_records(placed.segment, placed.start, placed.seq, |records| {
            // Memory no longer follows the file then.
            catch_unwind(AssertUnwindSafe(|| install(records)))
                .map_err(|_| self.latch.close(Error::closed(ClosedReason::Panicked)))
        })?;
        let wakes_background = match durability {
            Durability::Interval(interval) => {
                self.timer.arm(interval, || self.options.clock.monotonic())
            }
            Durability::Checkpoint => self.checkpoint_is_due(),
            _ => false,
        };
        if wakes_background {
            self.sync_signals.notify();
        }
        Ok(())
    }

    /// Hands what was appended and published to the kernel.
    fn flush_appended(&self) -> Result<()> {
        let mut segments = lock(&self.appender).unflushed();
        if planted(Bug::PredecessorNotFlushed) {
            segments.drain(..segments.len() - 1);
        }
        segments.into_iter().try_for_each(|(segment, end)| self.flush_segment(&segment, end))
    }

    /// The sequence that must be durable before `seq` is acknowledged, if any.
    pub(crate) fn must_be_durable(&self, seq: SeqNo, durability: Durability) -> Option<SeqNo> {
        match durability {
            Durability::Always | Durability::Group { .. } => {
                (!planted(Bug::AcknowledgedBeforeSync)).then_some(seq)
            }
            // At most n - 1 acknowledged commits are unsynced, this one included.
            Durability::EveryN(n) => {
                let unsynced_max = u64::from(n) - u64::from(!planted(Bug::EveryNOffByOne));
                (seq.saturating_sub(self.train.durable()) > unsynced_max).then_some(seq)
            }
            Durability::Interval(_) | Durability::Checkpoint | Durability::None => None,
        }
    }

    /// Blocks until `seq` is durable; this thread may lead.
    pub(crate) fn ride(&self, seq: SeqNo, durability: Option<Durability>) -> Result<()> {
        self.check_fork()?;
        let gather = match durability.unwrap_or(self.options.durability) {
            Durability::Group { max_wait, max_batch } => Some((max_wait, max_batch)),
            _ => None,
        };
        self.train.ride(seq, &self.latch, &Line::new(self, gather))
    }

    /// Makes the segments durable that were filled and left, up to their last commit `seq`.
    pub(crate) fn sync_sealed(&self, seq: SeqNo) -> Result<()> {
        self.train.ride(seq, &self.latch, &Line::of_sealed(self))
    }

    /// Leads one sync, also when every commit is durable: for frames that are no commits.
    pub(crate) fn lead_once(&self) -> Result<()> {
        self.train.lead_once(&self.latch, &Line::new(self, None))
    }

    pub(crate) fn poll_durable(&self, seq: SeqNo, ticket: u64, waker: &Waker) -> Result<bool> {
        self.train.poll(seq, ticket, waker, &self.latch, &Line::new(self, None))
    }

    pub(crate) fn forget_ticket(&self, ticket: u64) {
        self.train.forget(ticket);
        self.tickets.fetch_sub(1, Ordering::Relaxed);
    }

    /// Waits until nothing below `seq` is missing.
    pub(crate) fn wait_published(&self, seq: SeqNo) {
        let mut appender = lock(&self.appender);
        while appender.published() < seq.min(appender.last_seq()) {
            appender = wait(&self.published_moved, appender);
        }
    }

    pub(crate) fn flush_segment(&self, segment: &Segment, end: u32) -> Result<()> {
        match segment.tail().flush(u64::from(end)) {
            Err(_) if planted(Bug::WriteErrorSwallowed) => Ok(()),
            Err(e) => Err(self
                .latch
                .poison(Error::io(format!("cannot write {}", segment.path.display()), e))),
            Ok(()) => Ok(()),
        }
    }

    /// Reads a record; its checksum is verified.
    pub(crate) fn read_with<R>(
        &self,
        location: Location,
        f: impl FnOnce(RecordRef<'_>) -> R,
    ) -> Result<R> {
        let reader = self.segment(location.segment).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidArgument,
                format!("there is no segment {}; it was purged, or never was", location.segment),
            )
        })?;
        reader.read_with(location.offset, f)
    }

    pub(crate) fn segment(&self, id: u64) -> Option<SegmentReader> {
        let segments = self.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let segment = segments.get(&id)?;
        Some(SegmentReader::new(StdArc::clone(segment), StdArc::clone(&self.sentinel)))
    }

    pub(crate) fn note_segment(&self, segment: &StdArc<Segment>) {
        let mut segments = self.segments.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        segments.insert(segment.id, StdArc::clone(segment));
    }

    pub(crate) fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            space: &self.space,
            latch: &self.latch,
            counters: &self.counters,
            durable: self.train.durable(),
        }
    }

    pub(crate) fn signals_of(&self, duty: Duty) -> &Signals {
        match duty {
            Duty::Sync => &self.sync_signals,
            Duty::Space => &self.space_signals,
        }
    }

    /// Refuses work when the log is closed, poisoned or inherited by a forked child.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.latch.check()?;
        // ORDERING: Relaxed is enough: it is read and written under the append lock.
        if self.accepting.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(Error::closed(ClosedReason::Clean))
    }

    pub(crate) fn check_fork(&self) -> Result<()> {
        if self.sentinel.is_forked() { Err(Error::closed(ClosedReason::Forked)) } else { Ok(()) }
    }

    pub(crate) fn checkpoint_is_due(&self) -> bool {
        let threshold = self.options.checkpoint_threshold_bytes;
        threshold > 0 && lock(&self.appender).unsynced_bytes() >= threshold
    }
}

pub(crate) type SharedCore = Arc<Core>;
