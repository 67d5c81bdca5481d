//! Reads of the log on disk: a segment as the slot table keeps it.
//!
//! # Concurrency
//! Reads take no lock and touch no count that readers share.

use cortenkv_wal::SegmentReader;

use crate::address::Location;
use crate::error::{Error, Result};
use crate::parts;
use crate::record::{RecordRef, SeqNo};

pub(crate) use cortenkv_wal::PinnedBytes;

/// A segment of the log on disk, readable for as long as this lives.
pub(crate) struct DurableSegment {
    pub(super) reader: SegmentReader,
    verify: bool,
}

impl DurableSegment {
    pub(super) fn new(reader: SegmentReader, verify: bool) -> Self {
        DurableSegment { reader, verify }
    }

    #[inline]
    pub(crate) fn id(&self) -> u64 {
        self.reader.id()
    }

    pub(crate) fn last_seq(&self) -> SeqNo {
        self.reader.last_seq()
    }

    #[inline]
    pub(crate) fn read_with<R>(
        &self,
        offset: u32,
        show: impl FnOnce(&RecordRef<'_>) -> R,
    ) -> Result<R> {
        // All lines of a small record at once: else the second is only asked for when the first has told the length.
        let record = self.reader.mapped(offset).and_then(|mapped| {
            parts::prefetch(mapped.bytes());
            if self.verify { mapped.read() } else { mapped.read_unverified() }
        });
        match record {
            Some(record) => Ok(show(&ours(&record))),
            None => self.read_with_care(offset, show),
        }
    }

    /// As [`DurableSegment::read_with`], for what is not mapped, or damaged.
    #[cold]
    fn read_with_care<R>(&self, offset: u32, show: impl FnOnce(&RecordRef<'_>) -> R) -> Result<R> {
        let show = |record: cortenkv_wal::RecordRef<'_>| show(&ours(&record));
        let read = match self.verify {
            true => self.reader.read_with(offset, show),
            false => self.reader.read_unverified_with(offset, show),
        };
        read.map_err(Error::from)
    }

    #[inline]
    pub(crate) fn prefetchable(&self, offset: u32) -> Option<&[u8]> {
        self.reader.mapped(offset).map(|mapped| mapped.bytes())
    }

    /// Keeps the value of a record that this segment shows at the moment; `None` where only a copy can.
    pub(crate) fn pin(&self, record: &RecordRef<'_>) -> Option<PinnedBytes> {
        self.reader.pin(record.location.offset, record.value)
    }
}

/// The bytes that a record occupies in a segment.
#[inline]
pub(crate) fn stored_bytes(record: &RecordRef<'_>) -> u32 {
    theirs(record).stored_bytes()
}

#[inline]
pub(super) fn theirs<'a>(record: &RecordRef<'a>) -> cortenkv_wal::RecordRef<'a> {
    let Location { segment, offset } = record.location;
    cortenkv_wal::RecordRef {
        location: cortenkv_wal::Location { segment, offset },
        seq: record.seq,
        keyspace: record.keyspace,
        kind: match record.tombstone {
            true => cortenkv_wal::RecordKind::Delete,
            false => cortenkv_wal::RecordKind::Put,
        },
        expires_at_ms: record.expires_at_ms,
        in_batch: record.in_batch,
        key: record.key,
        value: record.value,
    }
}

#[inline]
pub(super) fn ours<'a>(record: &cortenkv_wal::RecordRef<'a>) -> RecordRef<'a> {
    let cortenkv_wal::Location { segment, offset } = record.location;
    RecordRef {
        location: Location { segment, offset },
        seq: record.seq,
        keyspace: record.keyspace,
        tombstone: record.kind == cortenkv_wal::RecordKind::Delete,
        expires_at_ms: record.expires_at_ms,
        in_batch: record.in_batch,
        key: record.key,
        value: record.value,
    }
}
