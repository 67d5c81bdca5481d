//! Segments that the owner knows are not scanned: their first frame, and the place where they were left, say enough.
//!
//! # Failure
//! What does not look as the owner says is scanned like any other. It was durable up to there all the same, so `chain` takes
//! what the scan misses of it for damage.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use super::scan::Scan;
use crate::error::Result;
use crate::format::{Frame, HEADER_BYTES, parse_frame, parse_verified_frame};
use crate::known::KnownSegment;
use crate::segment::{Position, SEGMENT_SPAN, Segment};

/// What a scan would find, as far as the owner can tell it; `None` if the file says something else. Notes the compressed
/// groups.
pub(super) fn scan_known(
    segment: &Segment,
    file_bytes: u32,
    known: &KnownSegment,
) -> Result<Option<Scan>> {
    if known.end_stored > file_bytes || !known.is_possible() {
        return Ok(None);
    }
    let start = segment.bytes(HEADER_BYTES, (known.end_stored - HEADER_BYTES) as usize)?;
    let Ok(Some((frame @ Frame::Chain(chain), _))) =
        parse_frame(&start, segment.place(HEADER_BYTES))
    else {
        return Ok(None);
    };
    // Offsets part at compressed groups only, so where the ends are the same there is none.
    let groups = match known.end_stored == known.end_logical {
        true => Some(Vec::new()),
        false => compressed_groups(&start, known),
    };
    let Some(groups) = groups.filter(|_| chain.oldest <= segment.id) else { return Ok(None) };
    groups.into_iter().for_each(|(start, end)| segment.note_compressed(start, end));
    let mut scan = Scan { chain: Some(chain), is_known: true, ..Scan::default() };
    scan.note(&frame);
    scan.end = Some(known.end());
    scan.last_seq = known.last_seq.max(chain.last_seq);
    scan.durable = scan.durable.max(known.last_seq);
    scan.seq_max = scan.seq_max.max(scan.last_seq);
    scan.oldest = scan.oldest.max(known.oldest);
    Ok(Some(scan))
}

/// The compressed groups of a segment, by the heads of its frames; `None` if they do not lead to its end.
fn compressed_groups(bytes: &[u8], known: &KnownSegment) -> Option<Vec<(Position, Position)>> {
    let mut groups = Vec::new();
    let mut at = Position { stored: HEADER_BYTES, logical: HEADER_BYTES };
    while at.stored < known.end_stored {
        let rest = bytes.get((at.stored - HEADER_BYTES) as usize..)?;
        let (frame, stored_bytes) = parse_verified_frame(rest).ok()??;
        let logical_end = u64::from(at.logical) + u64::from(frame.logical_bytes(stored_bytes));
        let logical = u32::try_from(logical_end).ok().filter(|end| *end <= SEGMENT_SPAN)?;
        let end = Position { stored: at.stored + stored_bytes, logical };
        if let Frame::Group { header, payload } = frame
            && (payload.len() != header.raw_bytes as usize || header.codec != 0)
        {
            groups.push((at, end));
        }
        at = end;
    }
    (at == known.end()).then_some(groups)
}
