//! Segments whose content an owner knows already: an open needs neither to scan nor to replay them.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{HEADER_BYTES, SEQ_MAX};
use crate::install::install_segment;
use crate::record::SeqNo;
use crate::retire::{ID_MAX, SegmentInfo};
use crate::segment::{Position, SEGMENT_SPAN};
use crate::sync::lock;
use crate::wal::Wal;
use crate::words;

/// A settled segment, as an owner who keeps what is in it has written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct KnownSegment {
    /// Its id.
    pub id: u64,
    /// Where it ends, in bytes of its file.
    pub end_stored: u32,
    /// The same place in logical bytes.
    pub end_logical: u32,
    /// The last commit up to its end, which is durable.
    pub last_seq: SeqNo,
    /// The oldest segment of the log at that time.
    pub oldest: u64,
}

impl KnownSegment {
    /// The length of [`KnownSegment::to_bytes`].
    pub const BYTES: usize = 32;

    /// The form in which an owner stores it: the fields in their order, little-endian.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let ends = words::halves(self.end_stored, self.end_logical);
        words::to_bytes(&[self.id, ends, self.last_seq, self.oldest])
    }

    /// Reads [`KnownSegment::to_bytes`]; an open passes over one that cannot be.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let [id, ends, last_seq, oldest] = words::from_bytes(bytes);
        let (end_stored, end_logical) = words::split(ends);
        KnownSegment { id, end_stored, end_logical, last_seq, oldest }
    }

    pub(crate) fn end(&self) -> Position {
        Position { stored: self.end_stored, logical: self.end_logical }
    }

    /// False for what no log can have.
    pub(crate) fn is_possible(&self) -> bool {
        let ends = HEADER_BYTES..=SEGMENT_SPAN;
        (1..=ID_MAX).contains(&self.id)
            && self.oldest <= self.id
            && self.last_seq <= SEQ_MAX
            && ends.contains(&self.end_stored)
            && ends.contains(&self.end_logical)
            && self.end_stored.is_multiple_of(8)
            && self.end_stored <= self.end_logical
    }
}

impl SegmentInfo {
    /// What an owner writes down who needs no replay of this segment; makes sense of a sealed segment only, after
    /// [`Wal::sync_segments`].
    pub fn known(&self) -> KnownSegment {
        KnownSegment {
            id: self.id,
            end_stored: self.end_stored,
            end_logical: self.end_logical,
            last_seq: self.last_seq,
            oldest: self.oldest.min(self.id),
        }
    }
}

impl Wal {
    /// As [`Wal::sync`], also for what is no commit, such as the end of a segment that was left: from then on everything up to
    /// the ends that [`Wal::segments`] gave before is durable, as [`SegmentInfo::known`] wants it.
    ///
    /// # Errors
    /// As [`Wal::sync`].
    pub fn sync_segments(&self) -> Result<()> {
        let core = self.core();
        core.check_fork()?;
        core.latch.check()?;
        let seq = lock(&core.appender).last_seq();
        core.wait_published(seq);
        core.lead_once()
    }

    /// Offers every record of a segment of the log to the handler, in log order, and returns how many they are: for an owner
    /// who opened the log with [`WalOptions::replay`](crate::WalOptions::replay) off. Not for a segment that was passed as
    /// known: what is in it was not verified.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no such segment; `Corruption` and `Io` if it cannot be read.
    pub fn replay(&self, id: u64) -> Result<u64> {
        let core = self.core();
        core.check_fork()?;
        let segments = core.segments.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let segment = segments.get(&id).cloned();
        drop(segments);
        let segment = segment.ok_or_else(|| {
            let text = format!("there is no segment {id:016x} to be replayed");
            Error::new(ErrorKind::InvalidArgument, text)
        })?;
        let start = Position { stored: HEADER_BYTES, logical: HEADER_BYTES };
        install_segment(&segment, start, segment.end(), core.handler.as_ref())
    }
}
