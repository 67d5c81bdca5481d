//! All frames of a segment in order, each verified: how compaction reads, and how a compacted segment is replayed.

use std::ops::ControlFlow;

use super::{GroupFault, Position, SEGMENT_SPAN, Segment};
use crate::compress::DecompressFault;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Frame, HEADER_BYTES, HeadWord, parse_frame};
use crate::record::{Location, RecordRef};
use crate::segment::record_ref;

/// Bytes that are looked at together: those of a segment that is not mapped are read in such pieces.
const WINDOW_BYTES: u32 = 512 << 10;

impl Position {
    /// What a reader keeps to go on here.
    pub(crate) fn cursor(self) -> u64 {
        u64::from(self.logical) << 32 | u64::from(self.stored)
    }

    /// The place of a cursor; 0 is the first frame.
    pub(crate) fn from_cursor(cursor: u64) -> Self {
        match cursor {
            0 => Position { stored: HEADER_BYTES, logical: HEADER_BYTES },
            _ => Position { stored: cursor as u32, logical: (cursor >> 32) as u32 },
        }
    }
}

impl Segment {
    /// Calls `f` with every frame from `from` on below the published end and its place, until it breaks off; the place of
    /// the frame at which it did, or the end.
    pub(crate) fn for_each_frame_from(
        &self,
        from: Position,
        f: &mut impl FnMut(Position, &Frame<'_>, u32) -> Result<ControlFlow<()>>,
    ) -> Result<Position> {
        let end = self.end();
        let mut at = from;
        while at.stored < end {
            let (start, left) = (at.stored, end - at.stored);
            // A frame that is longer than a window is a window of its own.
            let head = self.bytes(start, left.min(HeadWord::BYTES as u32) as usize)?;
            let frame_bytes = HeadWord::read(&head).map_or(0, |head| head.stored_bytes);
            let window_bytes = WINDOW_BYTES.max(frame_bytes).min(left);
            let window = self.bytes(start, window_bytes as usize)?;
            loop {
                let rest = window.get((at.stored - start) as usize..).unwrap_or_default();
                let is_cut = match HeadWord::read(rest) {
                    Some(head) => head.stored_bytes as usize > rest.len(),
                    None => true,
                };
                if is_cut && at.stored > start && window_bytes < left {
                    break;
                }
                let (frame, stored_bytes) = self.verified_frame(at.stored, rest)?;
                let logical_end =
                    u64::from(at.logical) + u64::from(frame.logical_bytes(stored_bytes));
                if logical_end > u64::from(SEGMENT_SPAN) {
                    let found = "one with more logical bytes than a segment has";
                    return Err(self.corruption(at.stored, "a frame", found));
                }
                if f(at, &frame, stored_bytes)?.is_break() {
                    return Ok(at);
                }
                at = Position { stored: at.stored + stored_bytes, logical: logical_end as u32 };
                if at.stored >= end {
                    break;
                }
            }
        }
        Ok(at)
    }

    /// [`Segment::for_each_frame_from`] the beginning.
    pub(crate) fn for_each_frame(
        &self,
        f: &mut impl FnMut(Position, &Frame<'_>, u32) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let start = Position { stored: HEADER_BYTES, logical: HEADER_BYTES };
        self.for_each_frame_from(start, f).map(drop)
    }

    /// Calls `f` with the records of frames of about `bytes_max` bytes, from a cursor on that this gave before (0 is the
    /// beginning); where to go on, or `None` at the end or when `f` broke off.
    pub(crate) fn read_some(
        &self,
        cursor: u64,
        bytes_max: u64,
        f: &mut dyn FnMut(RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<Option<u64>> {
        let from = Position::from_cursor(cursor);
        let (mut is_full, mut is_over) = (false, false);
        let at = self.for_each_frame_from(from, &mut |at, frame, _| {
            is_full = at.stored > from.stored && u64::from(at.stored - from.stored) >= bytes_max;
            if is_full {
                return Ok(ControlFlow::Break(()));
            }
            let flow = self.records_of(at, frame, f)?;
            is_over |= flow.is_break();
            Ok(flow)
        })?;
        Ok((is_full && !is_over).then(|| at.cursor()))
    }

    /// The frame at the start of `bytes`, which stand at a stored offset.
    fn verified_frame<'a>(&self, at: u32, bytes: &'a [u8]) -> Result<(Frame<'a>, u32)> {
        match parse_frame(bytes, self.place(at)) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(self.corruption(at, "a frame", "the end of the log")),
            Err(fault) => Err(self.corruption(at, "a frame", &fault.to_string())),
        }
    }

    /// Calls `f` with every record below the published end; frames that hold none are passed over.
    pub(crate) fn for_each_record(
        &self,
        f: &mut dyn FnMut(RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.for_each_frame(&mut |at, frame, _| self.records_of(at, frame, f))
    }

    /// What to say of a group that cannot be read. A codec that this build lacks is no damage: the bytes are good.
    pub(crate) fn group_error(&self, at: u32, fault: GroupFault) -> Error {
        match fault {
            GroupFault::Payload(DecompressFault::Codec(_)) => {
                let path = self.path.display();
                let text = format!("{path} has, at byte {at}, {fault}; open it with one that has");
                Error::new(ErrorKind::Unsupported, text)
            }
            _ => self.corruption(at, "a commit", &fault.to_string()),
        }
    }

    /// Calls `f` with the records of one frame.
    pub(crate) fn records_of(
        &self,
        at: Position,
        frame: &Frame<'_>,
        f: &mut dyn FnMut(RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        match frame {
            Frame::Record { seq, fields } => {
                let location = Location { segment: self.id, offset: at.logical };
                Ok(f(record_ref(location, *seq, fields)))
            }
            Frame::Group { header, payload } => {
                let mut scratch = Vec::new();
                let mut flow = ControlFlow::Continue(());
                let read = self.group_records(at, header, payload, &mut scratch, &mut |record| {
                    if flow.is_continue() {
                        flow = f(record);
                    }
                });
                read.map_err(|fault| self.group_error(at.stored, fault))?;
                Ok(flow)
            }
            Frame::Mark(_)
            | Frame::Seal { .. }
            | Frame::Chain(_)
            | Frame::Purge { .. }
            | Frame::Unknown => Ok(ControlFlow::Continue(())),
        }
    }
}
