//! A segment held for reading: what an index keeps for each segment that it has addresses in.
//!
//! # Invariants
//! A reader keeps the bytes of its segment readable, also when the segment was purged, or the log closed and dropped.
//!
//! # Concurrency
//! Reads of mapped records take no lock and touch no count that readers share; where compressed groups stand before the
//! record, a shared lock of the list of groups.

use std::fmt;
use std::ops::{ControlFlow, Deref};
use std::sync::Arc;

use crate::error::{ClosedReason, Error, Result};
use crate::format::{ChainFrame, Frame, Mark};
use crate::record::{RecordRef, SeqNo};
use crate::segment::{Checksum, Position, Segment};
use crate::vfs::ForkSentinel;

/// Reads the records of one segment; made by [`Wal::segment`](crate::Wal::segment). Clones share the segment.
///
/// ```
/// use cortenkv_wal::{Batch, Location, RecordRef, Wal, WalOptions};
/// use std::sync::{Arc, Mutex};
///
/// let dir = tempfile::tempdir()?;
/// let places = Arc::new(Mutex::new(Vec::new()));
/// let handler = {
///     let places = Arc::clone(&places);
///     Arc::new(move |records: &[RecordRef<'_>]| {
///         places.lock().unwrap().extend(records.iter().map(|record| record.location));
///     })
/// };
/// let (wal, _) = Wal::open(dir.path(), WalOptions::default(), handler)?;
/// let mut batch = Batch::new();
/// batch.put(0, b"key", b"value")?;
/// wal.append(&batch)?;
///
/// let Location { segment, offset } = places.lock().unwrap()[0];
/// let reader = wal.segment(segment).expect("it has a record");
/// let pinned = reader.read_with(offset, |record| reader.pin(offset, record.value))?;
/// let pinned = pinned.expect("it is not compressed");
/// drop((wal, reader));
/// assert_eq!(*pinned, *b"value");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SegmentReader {
    segment: Arc<Segment>,
    sentinel: Arc<ForkSentinel>,
}

/// Bytes of a record in the mapping of their segment, readable as long as this lives.
///
/// In a forked child they must not be looked at: mappings of the log are not inherited.
#[derive(Clone)]
pub struct PinnedBytes {
    segment: Arc<Segment>,
    offset: u64,
    len: usize,
}

/// Where a record is in the mapping of its segment; made by [`SegmentReader::mapped`].
#[derive(Clone, Copy)]
pub struct MappedRecord<'a> {
    segment: &'a Segment,
    offset: u32,
    /// The offset in the file and the published bytes from there on.
    place: (u32, &'a [u8]),
}

/// What [`SegmentReader::read_on`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogItem<'a> {
    /// A record of a commit; those of one commit follow one another.
    Record(RecordRef<'a>),
    /// The commits from here on were appended at this time of the wall clock or later, in ms since 1970.
    Clock {
        /// The time.
        wall_ms: u64,
    },
}

impl SegmentReader {
    pub(crate) fn new(segment: Arc<Segment>, sentinel: Arc<ForkSentinel>) -> Self {
        SegmentReader { segment, sentinel }
    }

    /// The id of the segment.
    #[inline]
    pub fn id(&self) -> u64 {
        self.segment.id
    }

    /// The last commit that is published in it; of a compacted segment, the newest.
    pub fn last_seq(&self) -> SeqNo {
        self.segment.last_seq()
    }

    /// Calls `f` with the record at an offset, its checksum verified; without a copy where the segment is mapped and the
    /// record not compressed.
    ///
    /// # Errors
    /// `Corruption` when there is no intact record at the offset, `Io` when the file cannot be read, `Closed` in a forked
    /// child.
    #[inline]
    pub fn read_with<R>(&self, offset: u32, f: impl FnOnce(RecordRef<'_>) -> R) -> Result<R> {
        self.check_fork()?;
        self.segment.read_with(offset, Checksum::Verify, f)
    }

    /// As [`SegmentReader::read_with`], but trusts the bytes: faster, and damage to a key or value goes unnoticed. What
    /// cannot be a record is an error all the same.
    ///
    /// # Errors
    /// As [`SegmentReader::read_with`].
    #[inline]
    pub fn read_unverified_with<R>(
        &self,
        offset: u32,
        f: impl FnOnce(RecordRef<'_>) -> R,
    ) -> Result<R> {
        self.check_fork()?;
        self.segment.read_with(offset, Checksum::Trust, f)
    }

    /// Finds a record without looking at it, so that its memory can be asked for first. `None` where only
    /// [`SegmentReader::read_with`] can read it, or tell why not: it is not mapped, or compressed, or this is a forked child.
    #[inline]
    pub fn mapped(&self, offset: u32) -> Option<MappedRecord<'_>> {
        let place = self.segment.mapped_from(offset).filter(|_| !self.sentinel.is_forked())?;
        Some(MappedRecord { segment: &self.segment, offset, place })
    }

    /// Where its records end at the moment, in bytes of the file.
    pub fn end_stored(&self) -> u32 {
        self.segment.end()
    }

    /// Calls `f` with every record of the segment in the order in which they stand, each verified, until `f` breaks off. Of
    /// a segment that is being written, those that are published.
    ///
    /// # Errors
    /// `Corruption` with file and offset for what is not intact, `Io` when the file cannot be read, `Closed` in a forked
    /// child.
    pub fn for_each_record(
        &self,
        f: &mut dyn FnMut(RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check_fork()?;
        self.segment.for_each_record(f)
    }

    /// As [`SegmentReader::for_each_record`], but about `bytes_max` bytes of them, from a cursor on that an earlier call gave
    /// for this segment; 0 is the beginning. Returns where to go on; `None` at the end, or when `f` broke off.
    ///
    /// # Errors
    /// As [`SegmentReader::for_each_record`].
    pub fn read_some(
        &self,
        cursor: u64,
        bytes_max: u64,
        f: &mut dyn FnMut(RecordRef<'_>) -> ControlFlow<()>,
    ) -> Result<Option<u64>> {
        self.check_fork()?;
        self.segment.read_some(cursor, bytes_max, f)
    }

    /// Calls `f` with what is in the log from a cursor on (0 is the beginning), about `bytes_max` bytes of it, until `f` breaks
    /// off; returns where to go on, which of a segment that is being written may be its end for now. A commit at whose first
    /// record `f` breaks off comes again.
    ///
    /// # Errors
    /// As [`SegmentReader::for_each_record`].
    pub fn read_on(
        &self,
        cursor: u64,
        bytes_max: u64,
        f: &mut dyn FnMut(LogItem<'_>) -> ControlFlow<()>,
    ) -> Result<u64> {
        self.check_fork()?;
        let from = Position::from_cursor(cursor);
        let at = self.segment.for_each_frame_from(from, &mut |at, frame, _| {
            let is_full =
                at.stored > from.stored && u64::from(at.stored - from.stored) >= bytes_max;
            if is_full {
                return Ok(ControlFlow::Break(()));
            }
            match frame {
                Frame::Mark(Mark { wall_ms, .. }) | Frame::Chain(ChainFrame { wall_ms, .. }) => {
                    Ok(f(LogItem::Clock { wall_ms: *wall_ms }))
                }
                _ => self.segment.records_of(at, frame, &mut |record| f(LogItem::Record(record))),
            }
        })?;
        Ok(at.cursor())
    }

    /// True if `cursor` is the end of what is published.
    pub fn is_at_end(&self, cursor: u64) -> bool {
        Position::from_cursor(cursor).stored >= self.segment.end()
    }

    /// Where its last commit up to `seq` ends, with what the log wrote for itself before the next one, in bytes of the file.
    ///
    /// # Errors
    /// As [`SegmentReader::for_each_record`].
    pub fn end_behind(&self, seq: SeqNo) -> Result<u32> {
        self.check_fork()?;
        let end =
            self.segment.for_each_frame_from(Position::from_cursor(0), &mut |_, frame, _| {
                let is_behind = frame.commit_seq().is_some_and(|commit| commit > seq);
                Ok(if is_behind { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
        Ok(end.stored)
    }

    /// Every commit in it is above this one, the last before it; 0 of a compacted segment.
    pub fn seq_before(&self) -> SeqNo {
        self.segment.chain().map_or(0, |chain| chain.last_seq)
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Keeps bytes of the record that this reader shows at the moment, its key or value, without a copy. `None` where that
    /// is impossible: the record is not mapped, or comes from a compressed group.
    pub fn pin(&self, offset: u32, bytes: &[u8]) -> Option<PinnedBytes> {
        let (stored, from) = self.segment.mapped_from(offset)?;
        // Only addresses are compared: bytes elsewhere in memory are decompressed or were read by `read_at`.
        let ahead = bytes.as_ptr().addr().checked_sub(from.as_ptr().addr())?;
        let is_inside = ahead.checked_add(bytes.len())? <= from.len();
        is_inside.then(|| PinnedBytes {
            segment: Arc::clone(&self.segment),
            offset: u64::from(stored) + ahead as u64,
            len: bytes.len(),
        })
    }

    #[inline]
    fn check_fork(&self) -> Result<()> {
        // The mapping is not there in a child.
        if self.sentinel.is_forked() { Err(Error::closed(ClosedReason::Forked)) } else { Ok(()) }
    }
}

impl<'a> MappedRecord<'a> {
    /// The bytes of the log from the record on.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.place.1
    }

    /// The record, its checksum verified. `None` if there is no intact one, of which [`SegmentReader::read_with`] tells
    /// more.
    #[inline]
    pub fn read(&self) -> Option<RecordRef<'a>> {
        self.segment.mapped_record(self.offset, self.place, Checksum::Verify)
    }

    /// As [`MappedRecord::read`], but trusts the bytes.
    #[inline]
    pub fn read_unverified(&self) -> Option<RecordRef<'a>> {
        self.segment.mapped_record(self.offset, self.place, Checksum::Trust)
    }
}

impl Deref for PinnedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.segment.mapped_bytes(self.offset, self.len)
    }
}

impl fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentReader").field("segment", &self.id()).finish_non_exhaustive()
    }
}

impl fmt::Debug for MappedRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedRecord").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl fmt::Debug for PinnedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedBytes").field("len", &self.len).finish_non_exhaustive()
    }
}

const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<SegmentReader>();
    shared::<PinnedBytes>();
};
