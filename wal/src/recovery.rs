//! Opening a log: what the files hold becomes a log that is durable, whole, and ready to be appended to.
//!
//! 1. Scan every segment ([`scan`]); nothing is changed so far, and a log that is refused is left as it was.
//! 2. Decide which segments are the log ([`chain`]), and whether damage stands in the way.
//! 3. Copy what no mark proves to be durable into a new segment ([`rebuild`]). Every open starts a new segment with a
//!    new salt, so nothing is ever appended behind a cut tail, and cut records cannot come back.
//! 4. Offer every record to the handler.
//! 5. Remove what is not part of the log.
//!
//! # Failure
//! A crash at any point leaves files that the next open reads to the same log: new segments appear under their names
//! only when they are complete and durable, and old ones go only after that.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod chain;
mod files;
mod known;
mod plan;
mod rebuild;
mod scan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::appender::Appender;
use crate::background::{IntervalTimer, Signals};
use crate::bugs::{Bug, planted};
use crate::compress::CompressionGauge;
use crate::core::{Core, SegmentTable};
use crate::error::{Error, Result};
use crate::format::HEADER_BYTES;
use crate::install::install_segment;
use crate::latch::Latch;
use crate::metrics::Counters;
use crate::options::{Damage, Progress, WalOptions};
use crate::record::ReplayHandler;
use crate::segment::Position;
use crate::space::Space;
use crate::sync::{Condvar, Mutex, RwLock};
use crate::train::{GatherGauge, Train};
use crate::uninstalled::Uninstalled;
use crate::vfs::{DirLock, ForkSentinel};
use chain::{Chain, Gap, choose};
use files::Files;
use plan::{Plan, misplaced_end};
use rebuild::{Rebuilt, rebuild};
use scan::Scan;
pub(crate) use scan::plausible_cost;
pub(crate) use scan::scan;

/// What an open found and did.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Segments of the log before the open.
    pub segments: u64,
    /// Records offered to the handler.
    pub records: u64,
    /// Bytes of the log.
    pub bytes: u64,
    /// Bytes of records that were cut off: a torn tail, or what came behind one.
    pub bytes_cut: u64,
    /// Bytes that were written again because nothing proved them durable.
    pub bytes_copied: u64,
    /// Files removed that were not part of the log.
    pub files_removed: u64,
    /// Retired segments that are older than the log is by now: nothing asks for them any more, so the owner may forget that
    /// they were retired.
    pub retired_forgotten: Vec<u64>,
    /// Damaged places that salvage skipped.
    pub damaged_places: u64,
    /// The last sequence number in the log; 0 when it is empty.
    pub last_seq: u64,
    /// The owner in the segment headers.
    pub owner: [u8; 16],
    /// The owner's data in the segment headers.
    pub owner_data: [u8; 16],
    /// Time to read and verify the files.
    pub scan_time: Duration,
    /// Time to write the new segment and to sync.
    pub rebuild_time: Duration,
    /// Time to offer the records to the handler.
    pub replay_time: Duration,
}

/// Recovers the log in a locked directory.
pub(crate) fn recover(
    lock: DirLock,
    options: WalOptions,
    handler: Arc<dyn ReplayHandler>,
) -> Result<(Core, RecoveryReport)> {
    #[cfg(feature = "tracing")]
    let _span = tracing::info_span!("wal.recover", dir = %lock.dir().display()).entered();
    let clock = Arc::clone(&options.clock);
    let started = clock.monotonic();
    let mut files = Files::read(&lock, &options)?;
    let scans = files.scan(&options)?;
    let (chain, gap) = choose(&scans, &files.retired, &options.known);
    let gap = gap.or_else(|| misplaced_end(&files, &scans, &chain));
    if options.damage == Damage::Refuse
        && !planted(Bug::DamageTakenForEnd)
        && let Some(gap) = &gap
    {
        return Err(gap_error(&files, &scans, gap, &chain));
    }
    let scanned = clock.monotonic();
    let space = Space::new(&lock, &options, files.owner, files.owner_data, files.next_id);
    let mut damaged_places = files.damaged_headers();
    let plan = if gap.is_some() || damaged_places > 0 {
        // Behind each damaged place that is not at an end stands something intact.
        let islands: u64 = scans.values().map(|scan| scan.islands.len() as u64).sum();
        damaged_places += u64::from(gap.is_some()).max(islands);
        Plan::salvage(&files, &scans, &chain, gap.as_ref())?
    } else {
        Plan::new(&files, &scans, &chain, &space)?
    };
    let log_bytes = plan.kept_bytes();
    if planted(Bug::RemovedBeforeReplaced) {
        files.remove_leftovers(&space, &plan.kept, &plan.set_aside);
    }
    let rebuilt = rebuild(&space, plan.before, &plan.sources, log_bytes)?;
    let rebuilt_at = clock.monotonic();
    let mut report = RecoveryReport {
        segments: plan.segments,
        retired_forgotten: forgotten(&files, &plan, &rebuilt),
        bytes: log_bytes + rebuilt.bytes_copied,
        bytes_copied: rebuilt.bytes_copied,
        bytes_cut: plan.bytes_cut,
        damaged_places,
        last_seq: rebuilt.last_seq.max(plan.before.last_seq),
        owner: space.owner,
        owner_data: space.owner_data,
        scan_time: scanned.saturating_sub(started),
        rebuild_time: rebuilt_at.saturating_sub(scanned),
        ..RecoveryReport::default()
    };
    let segments = replay(&plan, &scans, &rebuilt, handler.as_ref(), &options, &mut report)?;
    report.replay_time = clock.monotonic().saturating_sub(rebuilt_at);
    report.files_removed = files.remove_leftovers(&space, &plan.kept, &plan.set_aside);
    let core = core(CoreParts { lock, options, handler, space, plan, rebuilt, segments })?;
    Ok((core, report))
}

fn gap_error(files: &Files, scans: &BTreeMap<u64, Scan>, gap: &Gap, chain: &Chain) -> Error {
    let expected = format!("commits up to number {}, which were durable", chain.durable);
    match gap {
        Gap::In { id, offset } => {
            let found = scans.get(id).and_then(|scan| scan.fault);
            let found =
                found.map_or_else(|| "the end of the log".to_owned(), |fault| fault.to_string());
            Error::corruption(&files.path(*id), u64::from(*offset), expected, found)
        }
        Gap::End { id, predecessor } => {
            let expected = format!("a place where a frame of segment {predecessor:016x} ends");
            Error::corruption(&files.path(*id), u64::from(HEADER_BYTES), expected, "another place")
        }
        Gap::Behind { id } => {
            let was = if files.retired.contains_key(id) { "retired" } else { "sealed" };
            let expected = format!("a segment behind {id:016x}, which was {was}");
            Error::corruption(files.dir(), 0, expected, "none")
        }
        Gap::Missing { id } => Error::corruption(&files.path(*id), 0, expected, "no such file"),
        Gap::Unknown => Error::corruption(files.dir(), 0, expected, "no segment that is intact"),
    }
}

/// The retired segments that are older than the log, as its new segment says.
fn forgotten(files: &Files, plan: &Plan, rebuilt: &Rebuilt) -> Vec<u64> {
    let first_new = rebuilt.segments.first().map_or(0, |segment| segment.id);
    let oldest = if plan.before.oldest == 0 { first_new } else { plan.before.oldest };
    files.retired.range(..oldest).map(|(id, _)| *id).collect()
}

/// Offers every record to the handler that asks for it, in log order, and makes the table of segments.
fn replay(
    plan: &Plan,
    scans: &BTreeMap<u64, Scan>,
    rebuilt: &Rebuilt,
    handler: &dyn ReplayHandler,
    options: &WalOptions,
    report: &mut RecoveryReport,
) -> Result<SegmentTable> {
    let kept = plan.kept.iter().map(|(segment, end)| (segment, *end));
    let new = rebuilt.segments.iter().map(|segment| {
        let end = segment.end();
        (segment, Position { stored: end, logical: end })
    });
    let mut table = SegmentTable::new();
    let mut bytes_done = report.bytes;
    let bytes_total = 2 * report.bytes;
    for (segment, end) in kept.chain(new) {
        segment.advance(end.stored, segment.last_seq());
        let start = Position { stored: HEADER_BYTES, logical: HEADER_BYTES };
        let is_known = scans.get(&segment.id).is_some_and(|scan| scan.is_known);
        if options.replay && !is_known {
            report.records += install_segment(segment, start, end.stored, handler)?;
        }
        table.insert(segment.id, Arc::clone(segment));
        bytes_done += u64::from(end.stored);
        if let Some(progress) = &options.progress {
            progress.call(Progress { bytes_done: bytes_done.min(bytes_total), bytes_total });
        }
    }
    Ok(table)
}

struct CoreParts {
    lock: DirLock,
    options: WalOptions,
    handler: Arc<dyn ReplayHandler>,
    space: Space,
    plan: Plan,
    rebuilt: Rebuilt,
    segments: SegmentTable,
}

fn core(parts: CoreParts) -> Result<Core> {
    let CoreParts { lock, options, handler, space, plan, rebuilt, segments } = parts;
    let last = rebuilt.segments.last().map(Arc::clone);
    let Some(last) = last else { unreachable!("a rebuild makes at least one segment") };
    let oldest = segments.keys().next().copied().unwrap_or(last.id);
    let seq = plan.before.seq_floor;
    let log_bytes = plan.kept_bytes();
    let recovered = rebuilt.last_seq.max(plan.before.last_seq);
    let appender = Appender::new(last, rebuilt.at, recovered, seq, oldest, log_bytes);
    let sentinel =
        ForkSentinel::of_process().map_err(|e| Error::io("cannot map a page of memory", e))?;
    Ok(Core {
        gauge: CompressionGauge::new(options.compression),
        space,
        latch: Latch::new(),
        train: Train::new(seq),
        counters: Counters::default(),
        sync_signals: Signals::default(),
        space_signals: Signals::default(),
        timer: IntervalTimer::new(),
        appender: Mutex::new(appender),
        published_moved: Condvar::new(),
        segments: RwLock::new(segments),
        gather: GatherGauge::default(),
        handler,
        accepting: true.into(),
        purge: Mutex::new(()),
        uninstalled: Uninstalled::default(),
        tickets: 0.into(),
        next_ticket: 0.into(),
        sentinel: Arc::new(sentinel),
        _lock: lock,
        options,
    })
}
