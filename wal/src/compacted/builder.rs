//! Writes a compacted segment, from its first byte to its last, and makes it durable under its name.
//!
//! # Layout
//! Records go into a buffer that is written when it is full, the header last. With compression they are collected into
//! chunks, and each chunk becomes a group at the addresses that its records were promised; a chunk that compression does
//! not make smaller is a plain group, since the addresses are given out before that is known.
//!
//! # Failure
//! Until [`CompactedBuilder::finish`] returned, the file has a temporary name or counts for nothing; a builder that is
//! dropped removes it. After a failed write a builder refuses everything.

use std::path::PathBuf;
use std::sync::Arc;

use super::{FOOTER_BYTES, check_id, file_name, temporary_name};
use crate::batch::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::bugs::{Bug, planted};
use crate::commit::for_each_record;
use crate::compress::{CODEC_NONE, CODEC_SNAPPY, CompressionGauge, compress};
use crate::core::SharedCore;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    FRAME_HEADER_BYTES, GroupHeader, HEADER_BYTES, HeadWord, PREFIX_BYTES, Place, SEQ_MAX,
    SegmentHeader, SegmentKind, encode_group_header, encode_record, encode_seal, finish_head,
    padded, record_bytes,
};
use crate::record::{RecordRef, SeqNo};
use crate::segment::{Position, SEGMENT_SPAN};
use crate::vfs::{OpenMode, VfsFile, write_all_at};
use crate::wal::Wal;

/// Bytes that are written together.
const BUFFER_BYTES: usize = 512 << 10;

/// Records are compressed in chunks of about this size: reading one record decompresses all of its chunk.
const CHUNK_BYTES: usize = 16 << 10;

/// A compacted segment that is complete, durable and has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactedSegment {
    /// Its id.
    pub id: u64,
    /// The length of the file in bytes.
    pub bytes: u32,
    /// Where the records end in logical bytes.
    pub end_logical: u32,
    /// The number of records.
    pub records: u64,
    /// The largest sequence among them.
    pub last_seq: SeqNo,
}

/// Writes one compacted segment.
///
/// ```
/// use cortenkv_wal::{Batch, COMPACTED_ID_MIN, CompactedBuilder, Wal, WalOptions};
/// use std::ops::ControlFlow;
/// use std::sync::Arc;
///
/// let dir = tempfile::tempdir()?;
/// let (wal, _) = Wal::open(dir.path(), WalOptions::default(), Arc::new(()))?;
/// let mut batch = Batch::new();
/// batch.put(0, b"key", b"value")?;
/// wal.append(&batch)?;
///
/// let mut builder = CompactedBuilder::create(&wal, COMPACTED_ID_MIN)?;
/// let victim = wal.segment(wal.segments()[0].id).expect("it is there");
/// let mut moved = Ok(0);
/// victim.for_each_record(&mut |record| {
///     moved = builder.append(&record);
///     if moved.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
/// })?;
/// let offset = moved?;
/// let built = builder.finish()?;
/// assert_eq!(built.records, 1);
/// let reader = wal.open_compacted(built.id)?;
/// assert_eq!(reader.read_with(offset, |record| record.value.to_vec())?, b"value");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CompactedBuilder {
    core: SharedCore,
    file: Arc<dyn VfsFile>,
    path: PathBuf,
    temporary: PathBuf,
    header: SegmentHeader,
    /// What is not written yet, and where it starts.
    buffer: Vec<u8>,
    written: u32,
    /// Where the next record, or the chunk at hand, begins.
    at: Position,
    chunk: Chunk,
    gauge: CompressionGauge,
    records: u64,
    last_seq: SeqNo,
    failure: Option<Error>,
    is_finished: bool,
}

/// Records that wait to be compressed together: each with its sequence and the checksum of its body.
#[derive(Debug, Default)]
struct Chunk {
    raw: Vec<u8>,
    records: u32,
    last_seq: SeqNo,
}

impl CompactedBuilder {
    /// Begins a segment in the directory of a log, under a temporary name. It is compressed if the log is.
    ///
    /// # Errors
    /// `InvalidArgument` for an id below [`COMPACTED_ID_MIN`](crate::COMPACTED_ID_MIN) or one that is taken, `Closed` after
    /// a failure of the log, `StorageFull` and `Io`.
    pub fn create(wal: &Wal, id: u64) -> Result<Self> {
        let core = SharedCore::clone(wal.core());
        check_id(id)?;
        core.check_fork()?;
        core.latch.check()?;
        let space = &core.space;
        let (path, temporary) = (space.dir.join(file_name(id)), space.dir.join(temporary_name(id)));
        if space.vfs.metadata(&path).is_ok() {
            let text = format!("{} is there already", path.display());
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let cannot = |e| Error::io(format!("cannot create {}", temporary.display()), e);
        let mut salt = [0; 8];
        space.vfs.fill_random(&mut salt).map_err(cannot)?;
        let file = space.vfs.open(&temporary, OpenMode::CreateNew).map_err(cannot)?;
        let header = SegmentHeader {
            kind: SegmentKind::Compacted,
            owner: space.owner,
            owner_data: space.owner_data,
            id,
            salt: u64::from_le_bytes(salt),
            created_ms: space.clock.wall_ms(),
            built_end: 0,
            grouped: core.options.compression,
        };
        let gauge = CompressionGauge::new(header.grouped);
        Ok(CompactedBuilder {
            file,
            path,
            temporary,
            header,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            written: HEADER_BYTES,
            at: Position { stored: HEADER_BYTES, logical: HEADER_BYTES },
            chunk: Chunk::default(),
            gauge,
            records: 0,
            last_seq: 0,
            failure: None,
            is_finished: false,
            core,
        })
    }

    /// The id of the segment.
    pub fn id(&self) -> u64 {
        self.header.id
    }

    /// The length that the file will have if nothing is added, or a little less once it is compressed.
    pub fn bytes(&self) -> u32 {
        self.at.stored + self.chunk.stored_bytes_max() + FOOTER_BYTES
    }

    /// Adds a record with its own sequence, as a put or delete that stands alone; returns its logical offset.
    ///
    /// # Errors
    /// `LimitExceeded` if the segment has no room for it: finish this one and begin another. `InvalidArgument` for a record
    /// that no log can hold. `Io` and `StorageFull` if the file cannot be written; the builder is of no use then.
    pub fn append(&mut self, record: &RecordRef<'_>) -> Result<u32> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let fields = record.fields();
        let sound = (1..=SEQ_MAX).contains(&record.seq)
            && fields.key.len() <= KEY_BYTES_MAX
            && fields.value.len() <= VALUE_BYTES_MAX
            && (fields.value.is_empty() || !fields.delete);
        if !sound {
            let text = format!("no log holds a record like that of commit {}", record.seq);
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let bytes = record_bytes(&fields);
        let is_full = self.header.grouped
            && !self.chunk.raw.is_empty()
            && self.chunk.raw.len() + bytes > CHUNK_BYTES;
        let offset = self.next_offset(is_full);
        // LIMIT: stored bytes are never more than logical ones, so these decide.
        if u64::from(offset) + bytes as u64 + u64::from(FOOTER_BYTES) > u64::from(SEGMENT_SPAN) {
            let text = format!("{} has no room for {bytes} bytes more", self.path.display());
            return Err(Error::limit(text));
        }
        if is_full {
            self.flush_chunk();
        }
        if self.header.grouped {
            let start = self.chunk.raw.len();
            encode_record(&mut self.chunk.raw, &fields);
            put_seq(self.chunk.raw.get_mut(start..).unwrap_or_default(), record.seq);
            self.chunk.records += 1;
            self.chunk.last_seq = self.chunk.last_seq.max(record.seq);
        } else {
            let start = self.buffer.len();
            encode_record(&mut self.buffer, &fields);
            let place = Place { salt: self.header.salt, offset: u64::from(self.at.stored) };
            let encoded = self.buffer.get_mut(start..).unwrap_or_default();
            put_seq(encoded, record.seq);
            finish(encoded, record.seq, place);
            self.at.stored += bytes as u32;
            self.at.logical += bytes as u32;
        }
        self.records += 1;
        self.last_seq = self.last_seq.max(record.seq);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush_buffer()?;
        }
        Ok(offset)
    }

    /// Ends the segment, makes it durable and gives it its name.
    ///
    /// # Errors
    /// `Io` and `StorageFull`: the file is removed, or at the next clean-up if its name was not durable. A failed sync of
    /// the directory closes the log, whose own names it may have taken.
    pub fn finish(mut self) -> Result<CompactedSegment> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        self.flush_chunk();
        let place = Place { salt: self.header.salt, offset: u64::from(self.at.stored) };
        self.buffer.extend_from_slice(&encode_seal(self.last_seq, self.records, place));
        self.flush_buffer()?;
        self.header.built_end = self.at.stored + FOOTER_BYTES;
        let cannot = |e| Error::io(format!("cannot write {}", self.temporary.display()), e);
        write_all_at(self.file.as_ref(), &self.header.encode(), 0).map_err(cannot)?;
        if !planted(Bug::CompactedRenamedBeforeSync) {
            // DURABILITY: the whole file, before it has the name that says it is whole.
            self.file.sync_data().map_err(|e| Error::sync_failed(&self.temporary, e))?;
        }
        let space = &self.core.space;
        space
            .vfs
            .rename(&self.temporary, &self.path)
            .map_err(|e| Error::io(format!("cannot name {}", self.path.display()), e))?;
        self.is_finished = true;
        if !planted(Bug::CompactedNameNotSynced) {
            // DURABILITY: the name, before its owner writes down that the segment counts.
            space.sync_names().map_err(|e| self.core.latch.poison(e))?;
        }
        Ok(CompactedSegment {
            id: self.header.id,
            bytes: self.header.built_end,
            end_logical: self.at.logical,
            records: self.records,
            last_seq: self.last_seq,
        })
    }

    /// The logical offset of the next record, which goes into another chunk than the one at hand if that is full.
    fn next_offset(&self, is_full: bool) -> u32 {
        let header = if self.header.grouped { FRAME_HEADER_BYTES as u32 } else { 0 };
        let behind = self.at.logical + header + self.chunk.raw.len() as u32;
        if is_full { behind + header } else { behind }
    }

    /// Moves the chunk at hand into the buffer, as one group.
    fn flush_chunk(&mut self) {
        let mut chunk = std::mem::take(&mut self.chunk);
        if chunk.records == 0 {
            return;
        }
        let raw_bytes = chunk.raw.len() as u32;
        let place = Place { salt: self.header.salt, offset: u64::from(self.at.stored) };
        let mut compressed = Vec::new();
        let (codec, padding_bytes) = match chunk.compress(&self.gauge, &mut compressed) {
            true => {
                let padding_bytes = padded(compressed.len()) - compressed.len();
                compressed.resize(compressed.len() + padding_bytes, 0);
                (CODEC_SNAPPY, padding_bytes)
            }
            false => {
                chunk.finish_records(place);
                (CODEC_NONE, 0)
            }
        };
        let payload = if codec == CODEC_NONE { &chunk.raw } else { &compressed };
        let header = GroupHeader {
            seq: chunk.last_seq,
            raw_bytes,
            record_count: chunk.records,
            codec,
            padding_bytes: padding_bytes as u8,
        };
        let mut head = encode_group_header(&header, payload);
        finish(&mut head, chunk.last_seq, place);
        self.buffer.extend_from_slice(&head);
        self.buffer.extend_from_slice(payload);
        self.at.stored += (FRAME_HEADER_BYTES + payload.len()) as u32;
        self.at.logical += FRAME_HEADER_BYTES as u32 + raw_bytes;
        chunk.raw.clear();
        self.chunk.raw = chunk.raw;
    }

    fn flush_buffer(&mut self) -> Result<()> {
        let wrote = write_all_at(self.file.as_ref(), &self.buffer, u64::from(self.written));
        if let Err(e) = wrote {
            let failure = Error::io(format!("cannot write {}", self.temporary.display()), e);
            self.failure = Some(failure.clone());
            return Err(failure);
        }
        self.written += self.buffer.len() as u32;
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for CompactedBuilder {
    fn drop(&mut self) {
        if !self.is_finished {
            // What stays behind counts for nothing, and its owner removes it after the next open.
            let _ = self.core.space.vfs.remove_file(&self.temporary);
        }
    }
}

impl Chunk {
    fn stored_bytes_max(&self) -> u32 {
        if self.records == 0 { 0 } else { (FRAME_HEADER_BYTES + self.raw.len()) as u32 }
    }

    /// Compresses the records into `out`; false if that does not pay.
    fn compress(&self, gauge: &CompressionGauge, out: &mut Vec<u8>) -> bool {
        let mut raw = self.raw.clone();
        // The checksums inside are noise to the codec, and the checksum of the group covers what is stored.
        for_each_record(&mut raw, |_, record| {
            if let Some(crc) = record.first_chunk_mut::<4>() {
                *crc = [0; 4];
            }
        });
        let stored_bytes = compress(gauge, &raw, out).map(<[u8]>::len);
        out.truncate(stored_bytes.unwrap_or(0));
        stored_bytes.is_some()
    }

    /// Gives each record the checksum of its own place, as part of a plain group.
    fn finish_records(&mut self, group: Place) {
        for_each_record(&mut self.raw, |at, record| {
            let offset = group.offset + (FRAME_HEADER_BYTES + at) as u64;
            let seq = record.get(8..).and_then(HeadWord::read).map_or(0, HeadWord::encode);
            finish(record, seq, Place { offset, ..group });
        });
    }
}

/// Puts the sequence into an encoded record.
fn put_seq(record: &mut [u8], seq: SeqNo) {
    if let Some(field) = record.get_mut(8..PREFIX_BYTES) {
        field.copy_from_slice(&seq.to_le_bytes());
    }
}

/// Completes the checksum of a frame whose head word holds that of its body.
fn finish(frame: &mut [u8], seq: SeqNo, place: Place) {
    if let Some(head) = HeadWord::read(frame)
        && let Some(first) = frame.first_chunk_mut()
    {
        *first = finish_head(head, seq, place).encode().to_le_bytes();
    }
}
