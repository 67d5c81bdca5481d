//! Reads one segment from its first byte and says what is intact. Changes nothing and trusts nothing.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use crate::error::Result;
use crate::format::{
    ChainFrame, Frame, FrameFault, HEADER_BYTES, HeadWord, PREFIX_BYTES, parse_frame,
};
use crate::segment::{Position, Segment};

/// LIMIT: bytes that the search behind a fault may checksum, in multiples of the segment: a hostile file cannot make
/// an open take longer than a few passes over it.
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
    /// What stands at `end`, when it is not simply the end.
    pub(crate) fault: Option<FrameFault>,
    /// Intact frames behind the fault.
    pub(crate) islands: Vec<Island>,
}

impl Scan {
    /// Bytes of intact frames behind the fault.
    pub(crate) fn island_bytes(&self) -> u64 {
        self.islands.iter().map(|island| u64::from(island.end - island.start)).sum()
    }

    fn note(&mut self, frame: &Frame<'_>) {
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
                if !accept(&mut scan, segment, at, &frame, stored_bytes) {
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
    search(&mut scan, segment, &bytes, at.stored);
    Ok(scan)
}

/// Takes a frame in its turn; false when it cannot stand where it stands.
fn accept(
    scan: &mut Scan,
    segment: &Segment,
    at: Position,
    frame: &Frame<'_>,
    stored_bytes: u32,
) -> bool {
    let first = at.stored == HEADER_BYTES;
    if first != matches!(frame, Frame::Chain(_)) {
        return false;
    }
    let logical_end = u64::from(at.logical) + u64::from(frame.logical_bytes(stored_bytes));
    if logical_end > u64::from(crate::segment::SEGMENT_SPAN) {
        return false;
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
    true
}

/// Looks for intact frames behind the place where the log seems to end, in steps of 8 bytes.
fn search(scan: &mut Scan, segment: &Segment, bytes: &[u8], from: u32) {
    let mut budget = bytes.len().saturating_mul(SEARCH_PASSES_MAX);
    let mut at = from as usize;
    while let Some(head) = bytes.get(at..).and_then(HeadWord::read) {
        let stored_bytes = head.stored_bytes as usize;
        let plausible = head.encode() != 0
            && stored_bytes >= PREFIX_BYTES + 8
            && stored_bytes <= bytes.len() - at
            && stored_bytes <= budget;
        if !plausible {
            at += 8;
            continue;
        }
        budget -= stored_bytes;
        let rest = bytes.get(at..).unwrap_or_default();
        match parse_frame(rest, segment.place(at as u32)) {
            Ok(Some((frame, stored_bytes))) => {
                scan.note(&frame);
                let end = at as u32 + stored_bytes;
                match scan.islands.last_mut() {
                    Some(island) if island.end == at as u32 => island.end = end,
                    _ => scan.islands.push(Island { start: at as u32, end }),
                }
                at = end as usize;
            }
            _ => at += 8,
        }
    }
}
