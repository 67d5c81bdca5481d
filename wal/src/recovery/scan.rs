//! Reads one segment from its first byte and says what is intact. Changes nothing and trusts nothing.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use crate::compress::DecompressFault;
use crate::error::Result;
use crate::format::{
    ChainFrame, Frame, FrameFault, HEADER_BYTES, HeadWord, Kind, MARK_FRAME_BYTES, group_raw_bytes,
    parse_frame, parse_record,
};
use crate::segment::{GroupFault, Position, Segment, for_each_group_record};

/// LIMIT: bytes of commits that the search behind a fault may verify, in multiples of the segment: a hostile file
/// cannot make an open take longer than a few passes over it.
const SEARCH_PASSES_MAX: usize = 4;

/// Frames without a gap between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Island {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// What a segment holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scan {
    /// The first frame; a segment without one was made ready and never begun.
    pub(crate) chain: Option<ChainFrame>,
    /// Everything up to here is intact.
    pub(crate) end: Option<Position>,
    /// The last commit up to `end`.
    pub(crate) last_seq: u64,
    pub(crate) records: u64,
    /// The largest sequence that any intact mark or chain frame says to have been durable.
    pub(crate) durable: u64,
    /// The largest sequence that any intact frame shows.
    pub(crate) seq_max: u64,
    /// The oldest segment that the log still had, as far as this one knows.
    pub(crate) oldest: u64,
    /// The segment that a seal at `end` names.
    pub(crate) next: Option<u64>,
    /// What the header says was durable before the file had its name.
    pub(crate) built_end: u32,
    /// What stands at `end`, when it is not simply the end.
    pub(crate) fault: Option<FrameFault>,
    /// It was not read: the owner knows it.
    pub(crate) is_known: bool,
    /// Intact frames behind the fault.
    pub(crate) islands: Vec<Island>,
}

impl Scan {
    /// Bytes of intact frames behind the fault.
    pub(crate) fn island_bytes(&self) -> u64 {
        self.islands.iter().map(|island| u64::from(island.end - island.start)).sum()
    }

    pub(super) fn note(&mut self, frame: &Frame<'_>) {
        self.seq_max = self.seq_max.max(frame.seq_shown());
        match frame {
            Frame::Mark(mark) => self.durable = self.durable.max(mark.durable_seq),
            Frame::Chain(chain) => {
                self.durable = self.durable.max(chain.durable_seq);
                self.oldest = self.oldest.max(chain.oldest);
            }
            Frame::Purge { oldest, .. } => self.oldest = self.oldest.max(*oldest),
            _ => {}
        }
    }
}

/// Scans the first `file_bytes` of a segment, and notes its compressed groups in it.
pub(crate) fn scan(segment: &Segment, file_bytes: u32) -> Result<Scan> {
    let bytes = segment.bytes(0, file_bytes as usize)?;
    let mut scan = Scan::default();
    let mut at = Position { stored: HEADER_BYTES, logical: HEADER_BYTES };
    loop {
        let rest = bytes.get(at.stored as usize..).unwrap_or_default();
        match parse_frame(rest, segment.place(at.stored)) {
            Ok(None) => break,
            Ok(Some((frame, stored_bytes))) => {
                if !accept(&mut scan, segment, at, &frame, stored_bytes)? {
                    scan.fault = Some(FrameFault::Content);
                    break;
                }
                at.logical += frame.logical_bytes(stored_bytes);
                at.stored += stored_bytes;
            }
            Err(fault) => {
                scan.fault = Some(fault);
                break;
            }
        }
    }
    scan.end = Some(at);
    search(&mut scan, segment, &bytes, at.stored)?;
    Ok(scan)
}

/// Takes a frame in its turn; false when it cannot stand where it stands.
fn accept(
    scan: &mut Scan,
    segment: &Segment,
    at: Position,
    frame: &Frame<'_>,
    stored_bytes: u32,
) -> Result<bool> {
    let first = at.stored == HEADER_BYTES;
    if first != matches!(frame, Frame::Chain(_)) || !is_whole(segment, at.stored, frame)? {
        return Ok(false);
    }
    if frame.commit_seq().is_some_and(|seq| seq <= scan.last_seq) {
        return Ok(false);
    }
    let logical_end = u64::from(at.logical) + u64::from(frame.logical_bytes(stored_bytes));
    if logical_end > u64::from(crate::segment::SEGMENT_SPAN) {
        return Ok(false);
    }
    scan.next = None;
    match frame {
        Frame::Chain(chain) => {
            scan.chain = Some(*chain);
            scan.last_seq = chain.last_seq;
        }
        Frame::Record { seq, .. } => {
            scan.last_seq = *seq;
            scan.records += 1;
        }
        Frame::Group { header, payload } => {
            scan.last_seq = header.seq;
            scan.records += u64::from(header.record_count);
            if payload.len() != header.raw_bytes as usize || header.codec != 0 {
                let end =
                    Position { stored: at.stored + stored_bytes, logical: logical_end as u32 };
                segment.note_compressed(at, end);
            }
        }
        Frame::Seal { next, .. } => scan.next = Some(*next),
        Frame::Mark(_) | Frame::Purge { .. } | Frame::Unknown => {}
    }
    scan.note(frame);
    Ok(true)
}

/// Whether a verified frame can be what it says: a commit of its own whose records can be read, or no commit at all and
/// nothing that no writer says.
///
/// A checksum that is right says that these bytes were written, not that they make sense; what a log cannot be replayed
/// with must be known before anything is changed. A codec that this build lacks is an error: the bytes are good.
fn is_whole(segment: &Segment, at: u32, frame: &Frame<'_>) -> Result<bool> {
    match frame {
        // A part of a batch has a checksum of its own, but is nothing without the others.
        Frame::Record { fields, .. } => Ok(!fields.in_group),
        Frame::Group { header, payload } => {
            let mut scratch = Vec::new();
            let mut ignored = |_, _, _| {};
            match for_each_group_record(header, payload, &mut scratch, &mut ignored) {
                Ok(()) => Ok(true),
                Err(fault @ GroupFault::Payload(DecompressFault::Codec(_))) => {
                    Err(segment.group_error(at, fault))
                }
                Err(_) => Ok(false),
            }
        }
        // A purge leaves the segment that says so, and no segment is younger than those that come after it. The largest
        // of these numbers decides where the log begins: one that is ahead of its segment would hide that segment, and
        // the next open would forget what this one showed.
        Frame::Chain(chain) => Ok(chain.oldest <= segment.id),
        Frame::Purge { oldest, .. } => Ok(*oldest <= segment.id),
        Frame::Mark(_) | Frame::Seal { .. } | Frame::Unknown => Ok(true),
    }
}

/// Looks for intact frames behind the place where the log seems to end, in steps of 8 bytes.
fn search(scan: &mut Scan, segment: &Segment, bytes: &[u8], from: u32) -> Result<()> {
    let mut budget = bytes.len().saturating_mul(SEARCH_PASSES_MAX);
    let mut at = from as usize;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HeadWord::BYTES) {
        let cost = plausible_cost(rest).filter(|cost| *cost <= budget);
        at += match cost {
            None => 8,
            Some(cost) => {
                budget -= cost;
                note_island(scan, segment, rest, at as u32)?.unwrap_or(8) as usize
            }
        };
    }
    Ok(())
}

/// The bytes to charge for verifying what stands at the start of `bytes`; `None` when its form alone shows that it is
/// no frame. Values are arbitrary bytes, so without this look a search in them would soon have spent its budget.
///
/// Marks, seals and purges are short and therefore free: no file can make a search overlook what says that something
/// was durable.
pub(crate) fn plausible_cost(bytes: &[u8]) -> Option<usize> {
    let head = HeadWord::read(bytes)?;
    let stored_bytes = head.stored_bytes as usize;
    let kind = Kind::from_byte(head.kind)?;
    let frame = bytes.get(..stored_bytes)?;
    match kind {
        Kind::Mark | Kind::Seal | Kind::Purge => (stored_bytes == MARK_FRAME_BYTES).then_some(0),
        // Only the first frame of a segment is one, and the search is behind that.
        Kind::Chain => None,
        Kind::Record => parse_record(frame).map(|_| stored_bytes),
        Kind::Group => group_raw_bytes(frame).map(|raw_bytes| stored_bytes + raw_bytes),
    }
}

/// Takes note of the frame at the start of `rest` if it is intact; its length.
fn note_island(scan: &mut Scan, segment: &Segment, rest: &[u8], at: u32) -> Result<Option<u32>> {
    let Ok(Some((frame, stored_bytes))) = parse_frame(rest, segment.place(at)) else {
        return Ok(None);
    };
    if !is_whole(segment, at, &frame)? {
        return Ok(None);
    }
    scan.note(&frame);
    let end = at + stored_bytes;
    match scan.islands.last_mut() {
        Some(island) if island.end == at => island.end = end,
        _ => scan.islands.push(Island { start: at, end }),
    }
    Ok(Some(stored_bytes))
}
