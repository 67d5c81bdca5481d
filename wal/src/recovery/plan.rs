//! Decides which segments stay as they are, and what is copied behind them.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::chain::{Chain, Gap};
use super::files::{FILE_BYTES_MIN, Files};
use super::rebuild::{Before, Source, first_commit};
use super::scan::{Island, Scan};
use crate::bugs::{Bug, planted};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{HEADER_BYTES, SEQ_MAX, parse_frame};
use crate::segment::{Position, Segment};
use crate::space::Space;

/// Sequence numbers skip so many at each open: more than a power cut can have taken.
const SEQ_GAP: u64 = 1 << 30;

/// A last segment with less than this is copied into the new one, so that many short runs do not leave many files.
const FOLD_BYTES_MAX: u32 = 64 << 10;

/// What becomes of the files.
pub(super) struct Plan {
    /// Segments of the log as it was found.
    pub(super) segments: u64,
    pub(super) kept: Vec<(Arc<Segment>, Position)>,
    pub(super) sources: Vec<Source>,
    pub(super) before: Before,
    pub(super) bytes_cut: u64,
    /// Segments that salvage keeps under another name; empty where nothing is damaged.
    pub(super) set_aside: BTreeSet<u64>,
}

impl Plan {
    /// The plan for a log that is whole: what is durable stays, the tail is copied, the rest goes.
    pub(super) fn new(
        files: &Files,
        scans: &BTreeMap<u64, Scan>,
        chain: &Chain,
        space: &Space,
    ) -> Result<Plan> {
        let mut plan = Plan::empty(files, scans, chain)?;
        let fold = FOLD_BYTES_MAX.min(space.nominal_bytes(0) / 4);
        let boundary = boundary(files, scans, chain);
        for (i, (id, end)) in chain.segments.iter().enumerate() {
            let Some(segment) = files.segment(*id) else {
                plan.pass(files, *id);
                continue;
            };
            let durable = match boundary {
                Some(boundary) if i < boundary => Some((*end, segment.last_seq())),
                // Its owner has places in it, so it stays as it is.
                Some(boundary) if i == boundary && is_known(scans, *id, *end) => {
                    Some((*end, segment.last_seq()))
                }
                Some(boundary) if i == boundary => last_durable(segment, *end, chain.durable)
                    .filter(|(end, _)| end.stored - HEADER_BYTES > fold),
                _ => None,
            };
            if let Some((durable_end, last_seq)) = durable {
                plan.keep(segment, durable_end, last_seq);
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
        plan.bytes_cut = scans.values().map(Scan::island_bytes).sum();
        Ok(plan)
    }

    /// The plan for a damaged log: segments before the first that is not whole stay, every intact commit of all others
    /// is copied in log order, and their files are set aside.
    pub(super) fn salvage(
        files: &Files,
        scans: &BTreeMap<u64, Scan>,
        chain: &Chain,
        gap: Option<&Gap>,
    ) -> Result<Plan> {
        let mut plan = Plan::empty(files, scans, chain)?;
        let whole = chain.segments.iter().take_while(|(id, end)| {
            let misplaced = matches!(gap, Some(Gap::End { predecessor, .. }) if predecessor == id);
            let scan = scans.get(id);
            let is_retired = files.retired.contains_key(id);
            !misplaced
                && scan.map_or(is_retired, |scan| {
                    scan.fault.is_none() && scan.islands.is_empty() && scan.end == Some(*end)
                })
        });
        let kept = boundary(files, scans, chain).unwrap_or(0).min(whole.count());
        for (id, end) in chain.segments.iter().take(kept) {
            match files.segment(*id) {
                Some(segment) => plan.keep(segment, *end, segment.last_seq()),
                None => plan.pass(files, *id),
            }
        }
        for (id, scan) in scans {
            let is_kept = plan.kept.iter().any(|(segment, _)| segment.id == *id);
            let Some(segment) = files.segment(*id).filter(|_| !is_kept && *id >= chain.oldest)
            else {
                continue;
            };
            if scan.chain.is_some() || scan.fault.is_some() || !scan.islands.is_empty() {
                plan.set_aside.insert(*id);
            }
            let intact = Island {
                start: HEADER_BYTES,
                end: scan.end.map_or(HEADER_BYTES, |end| end.stored),
            };
            for range in std::iter::once(&intact).chain(&scan.islands) {
                if range.start < range.end {
                    plan.sources.push(Source { segment: Arc::clone(segment), range: *range });
                }
            }
        }
        // Log order is sequence order, whichever files the commits come from.
        let mut ordered = Vec::with_capacity(plan.sources.len());
        for source in plan.sources.drain(..) {
            ordered.extend(first_commit(&source)?.map(|first| (first, source)));
        }
        ordered.sort_by_key(|(first, _)| *first);
        plan.sources = ordered.into_iter().map(|(_, source)| source).collect();
        // What was durable and is damaged stays lost: the new log must not ask for it again.
        plan.before.durable = plan.before.last_seq;
        Ok(plan)
    }

    fn empty(files: &Files, scans: &BTreeMap<u64, Scan>, chain: &Chain) -> Result<Plan> {
        let seq_floor = chain.seq_max.saturating_add(SEQ_GAP) - 1;
        if seq_floor > SEQ_MAX - SEQ_GAP {
            let text = "the sequence numbers of the log are used up; copy its content to a new one";
            return Err(Error::new(ErrorKind::LimitExceeded, text));
        }
        // After a purge, the oldest segment still knows the last commit before it.
        let oldest = chain.segments.first().and_then(|(id, _)| scans.get(id)?.chain);
        let is_retired = |(id, _): &(u64, Position)| files.retired.contains_key(id);
        let starts_retired = chain.segments.first().is_some_and(is_retired);
        let segments = chain.segments.iter().filter(|segment| !is_retired(segment)).count() as u64;
        let before = Before {
            predecessor: 0,
            end: Position { stored: 0, logical: 0 },
            last_seq: oldest.map_or(0, |chain| chain.last_seq),
            durable: chain.durable,
            // Where the log begins with retired segments, it begins behind them from now on.
            oldest: if starts_retired { 0 } else { chain.oldest },
            seq_floor: if planted(Bug::SequenceReused) { chain.last_seq } else { seq_floor },
        };
        let set_aside = BTreeSet::new();
        Ok(Plan {
            segments,
            kept: Vec::new(),
            sources: Vec::new(),
            before,
            bytes_cut: 0,
            set_aside,
        })
    }

    fn keep(&mut self, segment: &Arc<Segment>, end: Position, last_seq: u64) {
        segment.note_sealed(end);
        // The scan went on into what is copied. Once this segment is retired, its last commit says where the log goes on.
        let noted = if planted(Bug::CopiesTakenForKnown) { segment.last_seq() } else { last_seq };
        segment.advance(end.stored, noted);
        self.kept.push((Arc::clone(segment), end));
        if self.before.oldest == 0 {
            self.before.oldest = segment.id;
        }
        self.before.predecessor = segment.id;
        self.before.end = end;
        self.before.last_seq = last_seq;
    }

    /// Goes through a segment that was retired: the log goes on behind its end, and nothing of it is there.
    fn pass(&mut self, files: &Files, id: u64) {
        if let Some(retired) = files.retired.get(&id) {
            self.before.predecessor = id;
            self.before.end = retired.end();
            self.before.last_seq = retired.last_seq;
        }
    }

    /// Bytes behind the end of the last segment of the log that are no frames.
    fn bytes_torn(&self, scans: &BTreeMap<u64, Scan>, chain: &Chain) -> u64 {
        let last = chain.segments.last().and_then(|(id, _)| scans.get(id));
        last.map_or(0, |scan| u64::from(scan.fault.is_some()))
    }

    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept.iter().map(|(_, end)| u64::from(end.stored)).sum()
    }
}

/// The newest segment with a durable commit: the sync that covered it covered everything before it.
fn boundary(files: &Files, scans: &BTreeMap<u64, Scan>, chain: &Chain) -> Option<usize> {
    chain.segments.iter().rposition(|(id, end)| match files.segment(*id) {
        Some(_) if is_known(scans, *id, *end) => true,
        Some(segment) => last_durable(segment, *end, chain.durable).is_some(),
        None => files.retired.contains_key(id),
    })
}

/// True if the owner knows all of the segment up to this end: that is durable.
fn is_known(scans: &BTreeMap<u64, Scan>, id: u64, end: Position) -> bool {
    scans.get(&id).is_some_and(|scan| scan.is_known && scan.end == Some(end))
}

/// The end of the last commit of a segment that is known to be durable, and that commit.
fn last_durable(segment: &Segment, end: Position, durable: u64) -> Option<(Position, u64)> {
    let durable = if planted(Bug::PageCacheTrusted) { u64::MAX } else { durable };
    walk(segment, end, durable).1
}

/// Goes through the frames up to `end`, or to the first commit behind `durable`: the place reached, and the end of the
/// last commit with its sequence.
fn walk(segment: &Segment, end: Position, durable: u64) -> (Position, Option<(Position, u64)>) {
    let mut at = Position { stored: HEADER_BYTES, logical: HEADER_BYTES };
    let mut found = None;
    let Ok(bytes) = segment.bytes(0, end.stored as usize) else { return (at, found) };
    while at.stored < end.stored {
        let rest = bytes.get(at.stored as usize..).unwrap_or_default();
        let Ok(Some((frame, stored_bytes))) = parse_frame(rest, segment.place(at.stored)) else {
            break;
        };
        if frame.commit_seq().is_some_and(|seq| seq > durable) {
            break;
        }
        at.logical += frame.logical_bytes(stored_bytes);
        at.stored += stored_bytes;
        found = frame.commit_seq().map(|seq| (at, seq)).or(found);
    }
    (at, found)
}

/// Checks that each segment of the log ends where a frame ends. The scan knows this of its own end only, and a first
/// frame may name another: behind it stand commits that were copied, or lies.
pub(super) fn misplaced_end(
    files: &Files,
    scans: &BTreeMap<u64, Scan>,
    chain: &Chain,
) -> Option<Gap> {
    for (i, (id, end)) in chain.segments.iter().enumerate() {
        let successor = chain.segments.get(i + 1).map_or(*id, |(id, _)| *id);
        if files.retired.get(id).is_some_and(|retired| retired.end() != *end) {
            return Some(Gap::End { id: successor, predecessor: *id });
        }
        let (Some(scan), Some(segment)) = (scans.get(id), files.segment(*id)) else { continue };
        if scan.end == Some(*end) {
            continue;
        }
        let seq_max = scans.get(&successor).and_then(|scan| scan.chain).map_or(0, |c| c.last_seq);
        let (reached, last) = walk(segment, *end, u64::MAX);
        // The successor says which commits stand before it: none of them is behind the end that it names.
        let all = scan.end.and_then(|scanned| walk(segment, scanned, seq_max).1);
        let cuts_off = all.is_some_and(|(last_end, _)| last_end > *end);
        if reached != *end || cuts_off || end.stored < FILE_BYTES_MIN as u32 {
            return Some(Gap::End { id: successor, predecessor: *id });
        }
        let before = scan.chain.map_or(0, |chain| chain.last_seq);
        segment.advance(end.stored, last.map_or(before, |(_, seq)| seq));
    }
    None
}
