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
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod chain;
mod files;
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
use crate::format::{HEADER_BYTES, parse_frame};
use crate::install::install_segment;
use crate::latch::Latch;
use crate::metrics::Counters;
use crate::options::{Damage, Progress, WalOptions};
use crate::record::ReplayHandler;
use crate::segment::{Position, Segment};
use crate::space::{Space, SpaceOptions};
use crate::sync::{Condvar, Mutex, RwLock};
use crate::train::{GatherGauge, Train};
use crate::vfs::{DirLock, ForkSentinel};
use chain::{Chain, Gap, choose};
use files::Files;
use rebuild::{Before, Rebuilt, Source, rebuild};
use scan::{Island, Scan};

/// Sequence numbers skip so many at each open: more than a power cut can have taken.
const SEQ_GAP: u64 = 1 << 30;

/// A last segment with less than this is copied into the new one, so that many short runs do not leave many files.
const FOLD_BYTES_MAX: u32 = 64 << 10;

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
    let (chain, gap) = choose(&scans);
    let damaged_places = files.damaged_headers() + u64::from(gap.is_some());
    if options.damage == Damage::Refuse
        && !planted(Bug::DamageTakenForEnd)
        && let Some(gap) = &gap
    {
        return Err(gap_error(&files, &scans, gap, &chain));
    }
    let scanned = clock.monotonic();
    let space = space(&lock, &options, &files);
    let plan = Plan::new(&files, &scans, &chain, gap.is_some() || damaged_places > 0, &space);
    let log_bytes = plan.kept_bytes();
    if planted(Bug::RemovedBeforeReplaced) {
        files.remove_leftovers(&space, &plan.kept, false);
    }
    let rebuilt = rebuild(&space, plan.before, &plan.sources, log_bytes)?;
    let rebuilt_at = clock.monotonic();
    let mut report = RecoveryReport {
        segments: chain.segments.len() as u64,
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
    let segments = replay(&plan, &rebuilt, handler.as_ref(), &options, &mut report)?;
    report.replay_time = clock.monotonic().saturating_sub(rebuilt_at);
    report.files_removed = files.remove_leftovers(&space, &plan.kept, damaged_places > 0);
    let core = core(CoreParts { lock, options, handler, space, plan, rebuilt, segments })?;
    Ok((core, report))
}

/// Which segments stay as they are, and what is copied.
struct Plan {
    kept: Vec<(Arc<Segment>, Position)>,
    sources: Vec<Source>,
    before: Before,
    bytes_cut: u64,
}

impl Plan {
    fn new(
        files: &Files,
        scans: &BTreeMap<u64, Scan>,
        chain: &Chain,
        salvage: bool,
        space: &Space,
    ) -> Plan {
        let seq_floor = if planted(Bug::SequenceReused) {
            chain.last_seq
        } else {
            chain.seq_max.saturating_add(SEQ_GAP) - 1
        };
        let before = Before {
            predecessor: 0,
            end: Position { stored: 0, logical: 0 },
            last_seq: 0,
            durable: chain.durable,
            oldest: chain.oldest,
            seq_floor,
        };
        let mut plan = Plan { kept: Vec::new(), sources: Vec::new(), before, bytes_cut: 0 };
        let fold = FOLD_BYTES_MAX.min(space.nominal_bytes(0) / 4);
        // The newest segment with a durable commit: the sync that covered it covered everything before it.
        let boundary = chain.segments.iter().rposition(|(id, end)| {
            files
                .segment(*id)
                .is_some_and(|segment| last_durable(segment, *end, chain.durable).is_some())
        });
        for (i, (id, end)) in chain.segments.iter().enumerate() {
            let Some(segment) = files.segment(*id) else { continue };
            let durable = match boundary {
                Some(boundary) if i < boundary => Some((*end, segment.last_seq())),
                Some(boundary) if i == boundary => last_durable(segment, *end, chain.durable)
                    .filter(|(end, _)| end.stored - HEADER_BYTES > fold),
                _ => None,
            };
            if let Some((durable_end, last_seq)) = durable {
                plan.kept.push((Arc::clone(segment), durable_end));
                plan.before.predecessor = *id;
                plan.before.end = durable_end;
                plan.before.last_seq = last_seq;
            }
            let start = durable.map_or(HEADER_BYTES, |(durable_end, _)| durable_end.stored);
            if start < end.stored {
                let range = Island { start, end: end.stored };
                plan.sources.push(Source { segment: Arc::clone(segment), range });
            }
        }
        if planted(Bug::AppendedBehindTear) && plan.bytes_torn(scans, chain) > 0 {
            plan.before.end.stored += 8;
        }
        if salvage {
            plan.add_islands(files, scans, chain);
        }
        let islands: u64 = scans.values().map(Scan::island_bytes).sum();
        plan.bytes_cut = if salvage { 0 } else { islands };
        plan
    }

    /// Bytes behind the end of the last segment of the log that are no frames.
    fn bytes_torn(&self, scans: &BTreeMap<u64, Scan>, chain: &Chain) -> u64 {
        let last = chain.segments.last().and_then(|(id, _)| scans.get(id));
        last.map_or(0, |scan| u64::from(scan.fault.is_some()))
    }

    /// Salvage: everything intact that is not part of the log by the rules is copied, too.
    fn add_islands(&mut self, files: &Files, scans: &BTreeMap<u64, Scan>, chain: &Chain) {
        for (id, scan) in scans {
            let Some(segment) = files.segment(*id) else { continue };
            let in_chain = chain.segments.iter().any(|(known, _)| known == id);
            if let (false, Some(end)) = (in_chain, scan.end)
                && end.stored > HEADER_BYTES
            {
                let range = Island { start: HEADER_BYTES, end: end.stored };
                self.sources.push(Source { segment: Arc::clone(segment), range });
            }
            let islands = scan
                .islands
                .iter()
                .map(|range| Source { segment: Arc::clone(segment), range: *range });
            self.sources.extend(islands);
        }
    }

    fn kept_bytes(&self) -> u64 {
        self.kept.iter().map(|(_, end)| u64::from(end.stored)).sum()
    }
}

/// The end of the last commit of a segment that is known to be durable, and that commit.
fn last_durable(segment: &Segment, end: Position, durable: u64) -> Option<(Position, u64)> {
    let mut at = Position { stored: HEADER_BYTES, logical: HEADER_BYTES };
    let mut found = None;
    let durable = if planted(Bug::PageCacheTrusted) { u64::MAX } else { durable };
    let bytes = segment.bytes(0, end.stored as usize).ok()?;
    while at < end {
        let rest = bytes.get(at.stored as usize..).unwrap_or_default();
        let Ok(Some((frame, stored_bytes))) = parse_frame(rest, segment.place(at.stored)) else {
            break;
        };
        at.logical += frame.logical_bytes(stored_bytes);
        at.stored += stored_bytes;
        match frame.commit_seq() {
            Some(seq) if seq > durable => break,
            Some(seq) => found = Some((at, seq)),
            None => {}
        }
    }
    found
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
        Gap::Missing { id } => Error::corruption(&files.path(*id), 0, expected, "no such file"),
        Gap::Unknown => Error::corruption(files.dir(), 0, expected, "no segment that is intact"),
    }
}

fn space(lock: &DirLock, options: &WalOptions, files: &Files) -> Space {
    Space::new(SpaceOptions {
        dir: lock.dir().to_path_buf(),
        vfs: Arc::clone(lock.vfs()),
        clock: Arc::clone(&options.clock),
        owner: files.owner,
        owner_data: files.owner_data,
        mapped: options.is_mapped(),
        segment_bytes: options.segment_bytes,
        window_bytes: options.window_bytes,
        next_id: files.next_id,
    })
}

/// Offers every record to the handler, in log order.
fn replay(
    plan: &Plan,
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
        report.records += install_segment(segment, start, end.stored, handler)?;
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
    let appender = Appender::new(last, rebuilt.at, seq, oldest, log_bytes);
    let sentinel = ForkSentinel::new().map_err(|e| Error::io("cannot map a page of memory", e))?;
    Ok(Core {
        gauge: CompressionGauge::new(options.compression),
        space,
        latch: Latch::new(),
        train: Train::new(seq),
        counters: Counters::default(),
        signals: Signals::default(),
        timer: IntervalTimer::new(),
        appender: Mutex::new(appender),
        published_moved: Condvar::new(),
        segments: RwLock::new(segments),
        gather: GatherGauge::default(),
        handler,
        accepting: true.into(),
        tickets: 0.into(),
        next_ticket: 0.into(),
        sentinel,
        _lock: lock,
        options,
    })
}
