//! From a logical offset to a record: the way of every random read.
//!
//! # Layout
//! [`Segment::mapped_record`] is the usual case on one screen: mapped, outside compressed groups, whole. Whatever it does not
//! recognise, [`Segment::read_with_care`] looks at again, to read it the long way or to say what is wrong.
//!
//! # Concurrency
//! The usual case takes no lock. A record of a staged tail that is not in the file yet takes that of the stage; one in or
//! behind a compressed group that of the list of groups.

use super::spans::{CompressedSpan, Place as Target};
use super::{Data, Segment, for_each_group_record, record_ref};
use crate::error::Result;
use crate::format::{
    FRAME_HEADER_BYTES, Frame, HeadWord, parse_frame, parse_verified_frame, read_record,
};
use crate::record::{Location, RecordRef};

/// Whether a read verifies the checksum of what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksum {
    Verify,
    Trust,
}

impl Segment {
    /// Calls `f` with the record at a logical offset.
    #[inline]
    pub(crate) fn read_with<R>(
        &self,
        offset: u32,
        checksum: Checksum,
        f: impl FnOnce(RecordRef<'_>) -> R,
    ) -> Result<R> {
        let mapped = self.mapped_from(offset);
        match mapped.and_then(|place| self.mapped_record(offset, place, checksum)) {
            Some(record) => Ok(f(record)),
            None => self.read_with_care(offset, checksum, f),
        }
    }

    /// The record at a logical offset, given what [`Segment::mapped_from`] told of it.
    #[inline]
    pub(crate) fn mapped_record<'a>(
        &self,
        offset: u32,
        (stored, published): (u32, &'a [u8]),
        checksum: Checksum,
    ) -> Option<RecordRef<'a>> {
        let (seq, fields) = read_record(published, self.place(stored), checksum)?;
        Some(record_ref(Location { segment: self.id, offset }, seq, &fields))
    }

    /// The stored offset of a logical one and the published bytes from there on, where they are mapped and not inside a
    /// compressed group. They start a record if the offset is that of one.
    #[inline]
    pub(crate) fn mapped_from(&self, offset: u32) -> Option<(u32, &[u8])> {
        let stored = match self.compressed.is_identity(offset) {
            true => offset,
            false => match self.compressed.locate(offset) {
                Target::Stored(stored) => stored,
                Target::Inside(_) => return None,
            },
        };
        let (start, end) = (u64::from(stored), u64::from(self.end()));
        let published = match &self.data {
            Data::Tail(tail) => tail.mapped(start, end),
            Data::Mapped(map) if start < end => Some(map.bytes(start, (end - start) as usize)),
            Data::Mapped(_) | Data::File => None,
        };
        published.filter(|_| stored.is_multiple_of(8)).map(|bytes| (stored, bytes))
    }

    /// As [`Segment::read_with`], for every kind of data and with a sentence for every fault.
    #[cold]
    fn read_with_care<R>(
        &self,
        offset: u32,
        checksum: Checksum,
        f: impl FnOnce(RecordRef<'_>) -> R,
    ) -> Result<R> {
        let stored = match self.compressed.locate(offset) {
            Target::Stored(stored) => stored,
            Target::Inside(group) => return self.read_compressed(offset, group, checksum, f),
        };
        let damaged = |found: &str| self.corruption(stored, "a record", found);
        if !offset.is_multiple_of(8) || stored.saturating_add(16) > self.end() {
            return Err(damaged("the end of the segment"));
        }
        self.with_frame(stored, checksum, "a record", |frame| match frame {
            Frame::Record { seq, fields } => {
                Ok(f(record_ref(Location { segment: self.id, offset }, seq, &fields)))
            }
            _ => Err(damaged("something else")),
        })
    }

    fn read_compressed<R>(
        &self,
        offset: u32,
        group: CompressedSpan,
        checksum: Checksum,
        f: impl FnOnce(RecordRef<'_>) -> R,
    ) -> Result<R> {
        const EXPECTED: &str = "a compressed commit";
        let stored = group.start.stored;
        let damaged = |found: &str| self.corruption(stored, EXPECTED, found);
        // A group that was noted by a scan may lie behind the end: it was copied away, and the file was cut.
        if self.end().saturating_sub(stored) < FRAME_HEADER_BYTES as u32 {
            return Err(damaged("the end of the segment"));
        }
        let inner = offset
            .checked_sub(group.start.logical + FRAME_HEADER_BYTES as u32)
            .ok_or_else(|| damaged("an offset outside it"))?;
        self.with_frame(stored, checksum, EXPECTED, |frame| {
            let Frame::Group { header, payload } = frame else {
                return Err(damaged("something else"));
            };
            let mut scratch = Vec::new();
            let mut found = None;
            // All records are looked at: only they tell where one starts, since the checksum is that of the group.
            for_each_group_record(&header, payload, &mut scratch, &mut |at, seq, fields| {
                if at == inner {
                    found = Some((seq, fields));
                }
            })
            .map_err(|fault| damaged(&fault.to_string()))?;
            let (seq, fields) =
                found.ok_or_else(|| damaged("no record at the offset asked for"))?;
            Ok(f(record_ref(Location { segment: self.id, offset }, seq, &fields)))
        })
    }

    /// Calls `f` with the frame at a stored offset below the end.
    fn with_frame<R>(
        &self,
        stored: u32,
        checksum: Checksum,
        expected: &str,
        f: impl FnOnce(Frame<'_>) -> Result<R>,
    ) -> Result<R> {
        let damaged = |found: &str| self.corruption(stored, expected, found);
        let head = HeadWord::read(&self.bytes(stored, 8)?).ok_or_else(|| damaged("nothing"))?;
        if head.stored_bytes > self.end().saturating_sub(stored) {
            return Err(damaged("a length beyond the end of the segment"));
        }
        let bytes = self.bytes(stored, head.stored_bytes as usize)?;
        let parsed = match checksum {
            Checksum::Verify => parse_frame(&bytes, self.place(stored)),
            Checksum::Trust => parse_verified_frame(&bytes),
        };
        match parsed {
            Ok(Some((frame, _))) => f(frame),
            Ok(None) => Err(damaged("the end of the log")),
            Err(fault) => Err(damaged(&fault.to_string())),
        }
    }
}
