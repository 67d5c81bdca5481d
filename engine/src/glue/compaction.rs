//! The adapter to `cortenkv-compaction`: what is live is counted, and segments full of garbage are rewritten.
//!
//! # Layout
//! `store` is a database in the words of that crate, `output` a segment that is written. `fate` decides what may be forgotten;
//! `older` and `directory` know which keys other segments may hold. `leaving` sees slots off, `idle` watches for quiet,
//! `pressure` slows writers down, `inline` lets them do the work where nobody else does.
//!
//! # How a segment goes
//! 1. Victims are read, and each record gets its fate. Only settled segments are victims: sealed, installed, durable.
//! 2. What is kept is written to new segments, under temporary names; they are synced, named, and the names are synced.
//! 3. The log is synced up to its end: what made a record dead is durable before the record goes (rule 3).
//! 4. One edit of the manifest names the new segments and retires the victims (rule 6).
//! 5. The index is moved: a copy is installed like any record. It has the number of the original and stands in a higher
//!    segment, so it takes the place of the original, and loses to everything newer.
//! 6. The slots of the victims are emptied, and their files removed. Whoever still reads keeps the mapping.
//!
//! A crash between any two steps is legal: until the edit is durable the new segments do not count, from then on the victims
//! do not.
//!
//! # Concurrency
//! Jobs run in workers that all databases of a process share, or in the thread that calls
//! [`Db::compact`](crate::Db::compact) or [`Db::step`](crate::Db::step). Writers and readers never wait for one. Without
//! workers (`async_compaction(false)`) writers do the work, piece by piece, before they take any lock.
//!
//! # Failure
//! What a job that fails has written does not count. `faults` has the cases. A panic closes the database to writes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use cortenkv_compaction::{
    Chain, Compactor, Failure, Kind, Limits, LivenessTable, Origin, RecordInfo, Repack, Scheduler,
    SchedulerOptions, SegmentCounts, Step, Work, WorkQueue,
};

use crate::catalog::SharedManifest;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::options::{Compression, Options};
use crate::record::Footprint;
use crate::segments::{SegmentFigures, SegmentReport, SegmentState};
use crate::stats::{CompactionReport, CompactionStats, PoolStats};
use crate::sync::lock;

#[path = "compaction/access.rs"]
mod access;
#[path = "compaction/fate.rs"]
mod fate;
#[path = "compaction/faults.rs"]
mod faults;
#[path = "compaction/idle.rs"]
mod idle;
#[path = "compaction/inline.rs"]
mod inline;
#[path = "compaction/leaving.rs"]
mod leaving;
#[path = "compaction/older.rs"]
mod older;
#[path = "compaction/output.rs"]
mod output;
#[path = "compaction/pool.rs"]
mod pool;
#[path = "compaction/pressure.rs"]
mod pressure;
#[path = "compaction/store.rs"]
mod store;

use idle::IdleWatch;
use inline::Inline;
pub use pool::WorkerPool;
use pool::pool_of;
use pressure::Pressure;
use store::Store;

/// What is live in each segment.
#[derive(Clone, Default)]
pub(crate) struct Liveness(pub(super) Arc<LivenessTable>);

/// What is live in one segment; nothing is counted for a database in memory.
#[derive(Clone)]
pub(crate) struct SegmentLiveness(Option<cortenkv_compaction::SegmentLiveness>);

impl Liveness {
    /// A record that lives.
    pub(crate) fn add(&self, segment: u64, footprint: Footprint) {
        self.0.add(segment, info(footprint));
    }

    /// A record that was added, and lives no more.
    pub(crate) fn dead(&self, segment: u64, footprint: Footprint) {
        self.0.dead(segment, info(footprint));
    }
}

impl SegmentLiveness {
    /// See [`Liveness::add`].
    #[inline]
    pub(crate) fn add(&self, footprint: Footprint) {
        if let Some(counters) = &self.0 {
            counters.add(info(footprint));
        }
    }

    /// See [`Liveness::dead`].
    #[inline]
    pub(crate) fn dead(&self, footprint: Footprint) {
        if let Some(counters) = &self.0 {
            counters.dead(info(footprint));
        }
    }
}

#[inline]
fn info(footprint: Footprint) -> RecordInfo {
    let bytes = u64::from(footprint.bytes);
    let info = match footprint.tombstone {
        true => RecordInfo::tombstone(bytes),
        false => RecordInfo::put(bytes),
    };
    footprint.expires_at_ms.map_or(info, |at_ms| info.expiring_at(at_ms))
}

/// The compaction of one database.
pub(crate) struct Compaction {
    /// `None` for a database in memory.
    files: Option<(Liveness, SharedManifest)>,
    running: OnceLock<Running>,
}

struct Running {
    store: Arc<Store>,
    scheduler: Scheduler<Store>,
    is_in_background: bool,
    /// The work in the background, until the database is closed.
    queue: Mutex<Option<(WorkerPool, WorkQueue)>>,
    /// What [`Compaction::step`] steps.
    by_hand: Mutex<(Compactor<Store>, IdleWatch)>,
    pressure: Pressure,
    /// Where the writers are to do it.
    inline: Option<Inline>,
}

impl Compaction {
    pub(crate) fn none() -> Self {
        Compaction { files: None, running: OnceLock::new() }
    }

    pub(crate) fn new(liveness: Liveness, manifest: SharedManifest) -> Self {
        Compaction { files: Some((liveness, manifest)), running: OnceLock::new() }
    }

    /// The counters of a segment.
    pub(crate) fn liveness(&self, segment: u64) -> SegmentLiveness {
        let files = self.files.as_ref();
        SegmentLiveness(files.map(|(liveness, _)| liveness.0.segment(segment, Origin::default())))
    }

    /// Begins to compact a database that has gone live.
    ///
    /// # Errors
    /// `Io` when the system has no thread to give.
    pub(crate) fn start(&self, core: &Arc<Core>) -> Result<()> {
        let Some((liveness, manifest)) = &self.files else { return Ok(()) };
        let (liveness, manifest) = (Arc::clone(&liveness.0), Arc::clone(manifest));
        let store = Arc::new(Store::open(core, liveness, manifest)?);
        let options = scheduler_options(core);
        let scheduler = Scheduler::new(Arc::clone(&store), options);
        let watch = || IdleWatch::new(core, &store, &scheduler);
        let by_hand = Mutex::new((scheduler.compactor(), watch()));
        let is_in_background = !core.options.manual && core.options.async_compaction != Some(false);
        let queue = match is_in_background {
            true => Some(background(core, &scheduler, watch())?),
            false => None,
        };
        let queue = Mutex::new(queue);
        let pressure = Pressure::default();
        let inline = (core.options.async_compaction == Some(false)).then(Inline::default);
        let _ = self.running.set(Running {
            store,
            scheduler,
            is_in_background,
            queue,
            by_hand,
            pressure,
            inline,
        });
        Ok(())
    }

    /// Ends the work in the background, and waits for the step that is under way.
    pub(crate) fn stop(&self) {
        if let Some(running) = self.running.get() {
            let queue = lock(&running.queue).take();
            drop(queue);
            // A job that is published is finished, as in the background.
            lock(&running.by_hand).0.stop();
        }
    }

    /// A segment was mounted, so another one may have been left by the writers: it may be worth a look.
    pub(crate) fn notify(&self) {
        let Some(running) = self.running.get() else { return };
        let totals = running.store.totals();
        running.scheduler.note_totals(totals.total_bytes, totals.live_bytes);
        running.pressure.note_live(totals.live_bytes);
        running.inline.iter().for_each(Inline::look_again);
        if let Some((_, queue)) = &*lock(&running.queue) {
            queue.notify();
        }
    }

    /// Makes a writer wait in proportion to what compaction is behind by, or do a part of the work where there are no workers.
    /// Neither for who compacts by hand. The caller holds no lock.
    #[inline]
    pub(crate) fn delay(&self, write_bytes: usize) {
        let Some(running) = self.running.get() else { return };
        if running.is_in_background {
            running.pressure.delay(running.scheduler.debt_bytes(), write_bytes as u64);
        } else if let Some(inline) = &running.inline
            && inline.is_due(running.scheduler.debt_bytes())
        {
            inline.work(running, write_bytes as u64);
        }
    }

    /// One step of a job in the calling thread; false when nothing is worth the work.
    pub(crate) fn step(&self) -> Result<bool> {
        let Some(running) = self.running.get() else { return Ok(false) };
        running.store.reuse_slots();
        let (compactor, watch) = &mut *lock(&running.by_hand);
        Ok(compactor.step()? == Step::Again || watch.look()?)
    }

    /// A snapshot has ended: segments that were kept for it go.
    pub(crate) fn release_segments(&self) {
        if let Some(running) = self.running.get() {
            running.store.reuse_slots();
        }
    }

    /// Bytes of the records that live.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.running.get().map_or(0, |running| running.store.totals().live_bytes)
    }

    /// Rewrites whatever is worth it, in the calling thread.
    pub(crate) fn compact(&self) -> Result<CompactionReport> {
        let Some(running) = self.running.get() else { return Ok(CompactionReport::default()) };
        running.store.settle_all()?;
        let summary = running.scheduler.compact()?;
        running.store.reuse_slots();
        Ok(CompactionReport {
            jobs: summary.jobs,
            segments_retired: summary.segments_retired,
            segments_written: summary.segments_written,
            bytes_read: summary.input_bytes,
            bytes_written: summary.copied_bytes,
        })
    }

    /// Rewrites these segments together; false if that is impossible at the moment.
    pub(crate) fn compact_segments(&self, segments: &[u64]) -> Result<bool> {
        let Some(running) = self.running.get() else { return Ok(false) };
        Ok(running.scheduler.compact_segments(segments)?.is_some())
    }

    /// The segments that could be rewritten now.
    pub(crate) fn settled(&self) -> Result<Vec<u64>> {
        let Some(running) = self.running.get() else { return Ok(Vec::new()) };
        running.store.settled()
    }

    /// Adds to the figures of segments what is counted, and who is in work.
    pub(crate) fn describe(&self, segments: &mut [SegmentReport]) {
        let Some((liveness, _)) = &self.files else { return };
        let counts: BTreeMap<u64, SegmentCounts> =
            liveness.0.export().into_iter().map(|counts| (counts.id, counts)).collect();
        let in_work = self.in_work();
        for segment in segments.iter_mut().filter(|known| known.state != SegmentState::Held) {
            segment.figures = Some(counts.get(&segment.id).map(figures).unwrap_or_default());
            if in_work.contains(&segment.id) {
                segment.state = SegmentState::InWork;
            }
        }
    }

    /// The segments that jobs have in hand.
    pub(crate) fn in_work(&self) -> Vec<u64> {
        self.running.get().map(|running| running.scheduler.in_work()).unwrap_or_default()
    }

    /// The workers, while the database works in the background.
    pub(crate) fn pool_stats(&self) -> PoolStats {
        let running = self.running.get();
        let pool =
            running.and_then(|running| lock(&running.queue).as_ref().map(|(pool, _)| pool.clone()));
        pool.map(|pool| pool.stats()).unwrap_or_default()
    }

    pub(crate) fn stats(&self) -> CompactionStats {
        let Some(running) = self.running.get() else { return CompactionStats::default() };
        let stats = running.scheduler.stats();
        let totals = running.store.totals();
        let mut figures = CompactionStats {
            jobs: stats.jobs,
            jobs_given_up: stats.jobs_given_up,
            failures: stats.failures,
            bytes_read: stats.input_bytes,
            bytes_written: stats.output_bytes,
            segments: totals.segments as u64,
            segments_retired: stats.segments_retired,
            segments_written: stats.segments_written,
            record_bytes: totals.total_bytes,
            live_bytes: totals.live_bytes,
            debt_bytes: stats.debt_bytes,
            delay_us: running.pressure.slept().as_micros() as u64,
            writer_work_us: running.inline.as_ref().map_or(0, Inline::worked_us),
            ..CompactionStats::default()
        };
        running.store.faults.describe(&mut figures);
        figures
    }
}

/// What an option answers that this build cannot honour: nothing.
pub(crate) fn check_compaction(_: &Options) -> Result<()> {
    Ok(())
}

fn figures(counts: &SegmentCounts) -> SegmentFigures {
    SegmentFigures {
        records: counts.total.records,
        record_bytes: counts.total.bytes,
        live_records: counts.live.records,
        live_bytes: counts.live.bytes,
        live_tombstones: counts.live.tombstones,
    }
}

fn limits(core: &Core) -> Limits {
    let mut limits = Limits::default();
    // A segment has a header, and compressed records have frames.
    limits.segment_bytes -= 256 << 10;
    if core.options.segment_bytes > 0 {
        limits.segment_bytes = limits.segment_bytes.min(core.options.segment_bytes);
        limits.garbage_bytes_min = limits.garbage_bytes_min.min(core.options.segment_bytes / 16);
    }
    limits
}

fn scheduler_options(core: &Core) -> SchedulerOptions {
    let mut strategy = Chain::default();
    if core.options.compression != Compression::None {
        // Small commits are not compressed when they are appended.
        strategy = strategy.then(Repack);
    }
    SchedulerOptions {
        strategy: Box::new(strategy),
        limits: limits(core),
        clock: Arc::new(Clock(Arc::clone(&core.options.clock))),
        ..SchedulerOptions::default()
    }
}

/// Our clock in the words of the crate.
struct Clock(Arc<dyn crate::parts::Clock>);

impl cortenkv_compaction::Clock for Clock {
    fn monotonic(&self) -> std::time::Duration {
        self.0.monotonic()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

fn background(
    core: &Arc<Core>,
    scheduler: &Scheduler<Store>,
    watch: IdleWatch,
) -> Result<(WorkerPool, WorkQueue)> {
    let database = Arc::downgrade(core);
    let told = move |failure: Failure| {
        if let (Failure::Panic(_), Some(core)) = (failure, database.upgrade()) {
            core.latch_panic();
        }
    };
    let pool = pool_of(&core.options);
    let dir = core.log.durable().map(|log| log.wal.dir().display().to_string());
    let name = dir.unwrap_or_default();
    let queue = pool.0.open(&name, told).map_err(|e| {
        Error::with_source(ErrorKind::Io, "cannot start a thread for compaction", e)
    })?;
    queue.submit(Kind::Compaction, scheduler.compactor());
    queue.submit(Kind::Other, watch);
    Ok((pool, queue))
}
