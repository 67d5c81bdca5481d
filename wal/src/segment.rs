//! One file of the log: its bytes, its published end, and the records of its groups.
//!
//! # Layout
//! `read` is the way from a logical offset to a record, `spans` the difference between logical and stored offsets, `walk`
//! the way through all frames in order.
//!
//! # Invariants
//! - Logical and stored offsets are the same up to the first compressed group, and differ by a constant between groups.
//! - Bytes below a published end never change while the segment is in use.

mod read;
mod spans;
mod walk;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::bugs::{Bug, planted};
use crate::compress::{CODEC_NONE, DecompressFault, decompress};
use crate::error::{Error, Result};
use crate::format::{
    CHAIN_FRAME_BYTES, ChainFrame, FRAME_HEADER_BYTES, Frame, GroupHeader, HEADER_BYTES, HeadWord,
    Place, RecordFields, encode_chain, parse_record, parse_verified_frame,
};
use crate::record::{Location, RecordKind, RecordRef, SeqNo};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::tail::{Tail, read_owned};
use crate::vfs::{ReadMap, VfsFile};

pub(crate) use read::Checksum;
use spans::CompressedSpans;

/// A file is at most this long, whatever the options say.
pub(crate) const SEGMENT_SPAN: u32 = crate::options::SEGMENT_BYTES_MAX as u32;

const NAME_SUFFIX: &str = ".seg";
const TEMPORARY_SUFFIX: &str = ".seg.tmp";

/// The file name of a segment.
pub(crate) fn file_name(id: u64) -> String {
    format!("{id:016x}{NAME_SUFFIX}")
}

/// The name under which a segment is built before it is part of the log.
pub(crate) fn temporary_name(id: u64) -> String {
    format!("{id:016x}{TEMPORARY_SUFFIX}")
}

/// The id in a name made by [`file_name`] (`true`) or [`temporary_name`] (`false`).
pub(crate) fn parse_name(name: &str) -> Option<(u64, bool)> {
    let (digits, complete) = match name.strip_suffix(TEMPORARY_SUFFIX) {
        Some(digits) => (digits, false),
        None => (name.strip_suffix(NAME_SUFFIX)?, true),
    };
    let ours = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !ours {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|id| *id > 0).map(|id| (id, complete))
}

/// Where the bytes are read from.
#[derive(Debug)]
pub(crate) enum Data {
    Tail(Tail),
    Mapped(Box<dyn ReadMap>),
    File,
}

/// A place in a segment, in bytes of the file and in logical bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) stored: u32,
    pub(crate) logical: u32,
}

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn VfsFile>,
    pub(crate) salt: u64,
    pub(crate) data: Data,
    /// The nominal end of the file; only a commit that is larger by itself goes beyond.
    pub(crate) capacity: u32,
    /// From its header.
    pub(crate) created_ms: u64,
    /// Space is reserved up to here; nothing is stored beyond.
    pub(crate) reserved: AtomicU32,
    /// Page faults were taken ahead up to here.
    pub(crate) prefaulted: AtomicU32,
    /// Records below are published.
    end: AtomicU32,
    /// The sequence of the last commit in it.
    last_seq: AtomicU64,
    /// Its first frame, once it was begun; never of a compacted segment.
    chain: OnceLock<ChainFrame>,
    /// Where it ends, once it was left for the next: its successor says the same.
    sealed: OnceLock<Position>,
    /// Set when it was found settled, which it stays.
    settled: OnceLock<()>,
    compressed: CompressedSpans,
}

impl Segment {
    pub(crate) fn new(
        id: u64,
        path: PathBuf,
        file: Arc<dyn VfsFile>,
        salt: u64,
        data: Data,
    ) -> Self {
        Segment {
            id,
            path,
            file,
            salt,
            data,
            capacity: 0,
            created_ms: 0,
            reserved: AtomicU32::new(0),
            prefaulted: AtomicU32::new(0),
            end: AtomicU32::new(0),
            last_seq: AtomicU64::new(0),
            chain: OnceLock::new(),
            sealed: OnceLock::new(),
            settled: OnceLock::new(),
            compressed: CompressedSpans::new(),
        }
    }

    /// Everything below `end` is published, and `last_seq` is the last commit there.
    pub(crate) fn advance(&self, end: u32, last_seq: SeqNo) {
        self.last_seq.store(last_seq, Ordering::Relaxed);
        // ORDERING: Release, pairs with the Acquire in `end`: the records below are stored.
        self.end.store(end, Ordering::Release);
    }

    /// Where the published bytes end.
    #[inline]
    pub(crate) fn end(&self) -> u32 {
        // ORDERING: Acquire, pairs with the Release in `advance`.
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn last_seq(&self) -> SeqNo {
        self.last_seq.load(Ordering::Relaxed)
    }

    /// True if it is settled, or was found so before: the count behind `is_settled` may be busy for another segment by now.
    pub(crate) fn is_settled(&self, is_settled: impl FnOnce() -> bool) -> bool {
        if self.settled.get().is_none() && is_settled() {
            let _ = self.settled.set(());
        }
        self.settled.get().is_some()
    }

    /// The first frame of a segment of the log; `None` before it was begun.
    pub(crate) fn chain(&self) -> Option<&ChainFrame> {
        self.chain.get()
    }

    /// Notes the first frame. The second time is no other frame.
    pub(crate) fn note_chain(&self, chain: &ChainFrame) {
        let _ = self.chain.set(*chain);
    }

    /// Where it ends, once nothing is appended to it any more.
    pub(crate) fn sealed(&self) -> Option<Position> {
        self.sealed.get().copied()
    }

    /// Notes that the log goes on in another segment. The second time is at the same place.
    pub(crate) fn note_sealed(&self, end: Position) {
        let _ = self.sealed.set(end);
    }

    #[inline]
    pub(crate) fn place(&self, stored: u32) -> Place {
        Place { salt: self.salt, offset: u64::from(stored) }
    }

    /// The tail of a segment that is being written.
    ///
    /// # Panics
    /// On a segment that was opened for reading: nothing appends to one.
    pub(crate) fn tail(&self) -> &Tail {
        match &self.data {
            Data::Tail(tail) => tail,
            Data::Mapped(_) | Data::File => {
                unreachable!("segment {} was opened for reading", self.id)
            }
        }
    }

    /// Notes a compressed group, in log order.
    pub(crate) fn note_compressed(&self, start: Position, end: Position) {
        self.compressed.push(start, end);
    }

    /// Bytes that [`Segment::mapped_from`] gave before: they stay where they are.
    pub(crate) fn mapped_bytes(&self, offset: u64, len: usize) -> &[u8] {
        match &self.data {
            Data::Tail(tail) => tail.mapped(offset, offset + len as u64).unwrap_or_default(),
            Data::Mapped(map) => map.bytes(offset, len),
            Data::File => &[],
        }
    }

    /// Bytes below the published end.
    pub(crate) fn bytes(&self, offset: u32, len: usize) -> Result<Cow<'_, [u8]>> {
        let bytes = match &self.data {
            Data::Tail(tail) => tail.bytes(u64::from(offset), len),
            Data::Mapped(map) => Ok(Cow::Borrowed(map.bytes(u64::from(offset), len))),
            Data::File => read_owned(self.file.as_ref(), u64::from(offset), len).map(Cow::Owned),
        };
        bytes.map_err(|e| Error::io(format!("cannot read {}", self.path.display()), e))
    }

    /// Calls `f` with bytes below the published end; those that wait in memory for a flush are shown where they are.
    pub(crate) fn with_bytes<R>(
        &self,
        offset: u32,
        len: usize,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<R> {
        match &self.data {
            Data::Tail(tail) => tail
                .with_bytes(u64::from(offset), len, f)
                .map_err(|e| Error::io(format!("cannot read {}", self.path.display()), e)),
            Data::Mapped(_) | Data::File => self.bytes(offset, len).map(|bytes| f(&bytes)),
        }
    }

    /// Stores a finished frame, its head word last.
    pub(crate) fn store_frame(&self, at: u32, frame: &[u8]) {
        let Some((head, rest)) = frame.split_first_chunk::<8>() else { return };
        self.tail().store(u64::from(at) + 8, rest);
        self.tail().publish(u64::from(at), u64::from_le_bytes(*head));
    }

    /// Writes the first frame, and returns the place behind it.
    pub(crate) fn begin(&self, chain: &ChainFrame) -> Position {
        self.store_frame(HEADER_BYTES, &encode_chain(chain, self.place(HEADER_BYTES)));
        let at = HEADER_BYTES + CHAIN_FRAME_BYTES as u32;
        self.advance(at, chain.last_seq);
        self.note_chain(chain);
        Position { stored: at, logical: at }
    }

    /// The frame at a stored offset, which `bytes` start with; this process appended or verified it.
    pub(crate) fn trusted_frame<'a>(&self, at: u32, bytes: &'a [u8]) -> Result<(Frame<'a>, u32)> {
        match parse_verified_frame(bytes) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(self.corruption(at, "a frame", "the end of the log")),
            Err(fault) => Err(self.corruption(at, "a frame", &fault.to_string())),
        }
    }

    /// An error that names this file.
    pub(crate) fn corruption(&self, offset: u32, expected: &str, found: &str) -> Error {
        Error::corruption(&self.path, u64::from(offset), expected, found)
    }

    /// The records of a group at `start`, each with its place; checksums inside are covered by that of the group.
    pub(crate) fn group_records<'a>(
        &self,
        start: Position,
        header: &GroupHeader,
        payload: &'a [u8],
        scratch: &'a mut Vec<u8>,
        out: &mut impl FnMut(RecordRef<'a>),
    ) -> std::result::Result<(), GroupFault> {
        let first = start.logical + FRAME_HEADER_BYTES as u32;
        for_each_group_record(header, payload, scratch, &mut |at, seq, fields| {
            out(record_ref(Location { segment: self.id, offset: first + at }, seq, &fields));
        })
    }
}

/// The records of a group, each with its offset among them and its sequence. Nothing is allocated before the header is
/// known to be possible.
pub(crate) fn for_each_group_record<'a>(
    header: &GroupHeader,
    payload: &'a [u8],
    scratch: &'a mut Vec<u8>,
    out: &mut impl FnMut(u32, SeqNo, RecordFields<'a>),
) -> std::result::Result<(), GroupFault> {
    if header.codec == CODEC_NONE && payload.len() != header.raw_bytes as usize {
        return Err(GroupFault::Records);
    }
    let mut rest = decompress(header.codec, payload, header.raw_bytes, scratch)
        .map_err(GroupFault::Payload)?;
    let mut at = 0;
    for _ in 0..header.record_count {
        let head = HeadWord::read(rest).ok_or(GroupFault::Records)?;
        let (record, after) =
            rest.split_at_checked(head.stored_bytes as usize).ok_or(GroupFault::Records)?;
        let (seq, fields) = parse_record(record).ok_or(GroupFault::Records)?;
        out(at, if seq == 0 { header.seq } else { seq }, fields);
        at += head.stored_bytes;
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(GroupFault::Records) }
}

/// Why the records of a verified group cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupFault {
    Payload(DecompressFault),
    Records,
}

impl std::fmt::Display for GroupFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GroupFault::Payload(fault) => fault.fmt(f),
            GroupFault::Records => f.write_str("records that do not fill it"),
        }
    }
}

#[inline]
pub(crate) fn record_ref<'a>(
    location: Location,
    seq: SeqNo,
    fields: &RecordFields<'a>,
) -> RecordRef<'a> {
    RecordRef {
        location,
        seq,
        keyspace: fields.keyspace,
        kind: if fields.delete { RecordKind::Delete } else { RecordKind::Put },
        expires_at_ms: fields.expires_at_ms.filter(|_| !planted(Bug::ExpiryDropped)),
        in_batch: fields.in_group,
        key: fields.key,
        value: fields.value,
    }
}
