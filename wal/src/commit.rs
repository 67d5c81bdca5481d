//! A commit on its way into the log: encoded outside every lock, finished when its place is known.

use std::cell::RefCell;

use crate::batch::Batch;
use crate::bugs::{Bug, planted};
use crate::compress::{CODEC_NONE, CODEC_SNAPPY, CompressionGauge, compress};
use crate::format::{
    FRAME_HEADER_BYTES, GroupHeader, HeadWord, Mark, PREFIX_BYTES, Place, encode_group_header,
    encode_mark, finish_head, padded, parse_record,
};
use crate::record::{Location, RecordRef, SeqNo};
use crate::segment::{Position, record_ref};
use crate::tail::Tail;

/// Commits up to this size are copied under the append lock; larger ones reserve their place and copy outside.
pub(crate) const COPY_UNDER_LOCK_BYTES_MAX: u32 = 4096;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Buffers of a thread, reused from commit to commit.
#[derive(Debug, Default)]
struct Scratch {
    raw: Vec<u8>,
    stored: Vec<u8>,
}

/// LIMIT: a thread keeps at most this much buffer between commits.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

/// What will be stored.
#[derive(Debug)]
enum Body<'a> {
    /// One record is its own commit.
    Record(&'a [u8]),
    /// Several records, each to be finished with its own place.
    Group { records: &'a [u8], record_count: u32 },
    /// Compressed records; only the head word and the sequence are missing.
    Compressed { header: [u8; FRAME_HEADER_BYTES], payload: &'a [u8], raw_bytes: u32 },
}

#[derive(Debug)]
pub(crate) struct Commit<'a> {
    body: Body<'a>,
    batch: &'a Batch,
}

/// Encodes `batch`, compressed where that pays, and hands it to `append`.
#[inline]
pub(crate) fn with_commit<R>(
    batch: &Batch,
    gauge: &CompressionGauge,
    append: impl FnOnce(&Commit<'_>) -> R,
) -> R {
    // Taken out, so that a handler that appends from within an append finds (empty) buffers, too.
    let mut scratch = gauge.applies_to(batch.bytes()).then(|| SCRATCH.take());
    let compressed = scratch.as_mut().and_then(|scratch| compressed_body(batch, gauge, scratch));
    let body = compressed.unwrap_or_else(|| plain_body(batch));
    let result = append(&Commit { body, batch });
    if let Some(scratch) = scratch
        && scratch.raw.capacity() + scratch.stored.capacity() <= SCRATCH_BYTES_MAX
    {
        SCRATCH.set(scratch);
    }
    result
}

#[inline]
fn plain_body(batch: &Batch) -> Body<'_> {
    match batch.record_count() {
        1 => Body::Record(batch.encoded()),
        record_count => Body::Group { records: batch.encoded(), record_count },
    }
}

fn compressed_body<'a>(
    batch: &Batch,
    gauge: &CompressionGauge,
    scratch: &'a mut Scratch,
) -> Option<Body<'a>> {
    scratch.raw.clear();
    scratch.raw.extend_from_slice(batch.encoded());
    // The checksums inside are noise to the codec, and the checksum of the group covers what is stored.
    for_each_record(&mut scratch.raw, |_, record| {
        if let Some(crc) = record.first_chunk_mut::<4>() {
            *crc = [0; 4];
        }
    });
    let stored_bytes = compress(gauge, &scratch.raw, &mut scratch.stored)?.len();
    let padding_bytes = padded(stored_bytes) - stored_bytes;
    scratch.stored.truncate(stored_bytes);
    scratch.stored.resize(stored_bytes + padding_bytes, 0);
    let raw_bytes = scratch.raw.len() as u32;
    let header = GroupHeader {
        seq: 0,
        raw_bytes,
        record_count: batch.record_count(),
        codec: CODEC_SNAPPY,
        padding_bytes: padding_bytes as u8,
    };
    let payload = scratch.stored.as_slice();
    Some(Body::Compressed { header: encode_group_header(&header, payload), payload, raw_bytes })
}

/// Calls `f` with the offset and the bytes of each record.
pub(crate) fn for_each_record(records: &mut [u8], mut f: impl FnMut(usize, &mut [u8])) {
    let mut at = 0;
    while let Some(head) = records.get(at..).and_then(HeadWord::read) {
        let end = at + head.stored_bytes as usize;
        let Some(record) = records.get_mut(at..end) else { return };
        f(at, record);
        at = end;
    }
}

impl Commit<'_> {
    /// Bytes in the file; a multiple of 8.
    pub(crate) fn stored_bytes(&self) -> u32 {
        match &self.body {
            Body::Record(record) => record.len() as u32,
            Body::Group { records, .. } => (FRAME_HEADER_BYTES + records.len()) as u32,
            Body::Compressed { payload, .. } => (FRAME_HEADER_BYTES + payload.len()) as u32,
        }
    }

    /// Bytes of the address space of the segment.
    pub(crate) fn logical_bytes(&self) -> u32 {
        match &self.body {
            Body::Compressed { raw_bytes, .. } => FRAME_HEADER_BYTES as u32 + raw_bytes,
            Body::Record(_) | Body::Group { .. } => self.stored_bytes(),
        }
    }

    pub(crate) fn is_compressed(&self) -> bool {
        matches!(self.body, Body::Compressed { .. })
    }

    pub(crate) fn is_priority(&self) -> bool {
        self.batch.is_priority()
    }

    pub(crate) fn record_count(&self) -> u32 {
        self.batch.record_count()
    }

    /// Finishes the commit with its sequence and place, stores it, and publishes its head word last.
    pub(crate) fn store(&self, tail: &Tail, seq: SeqNo, place: Place) {
        let at = place.offset;
        match &self.body {
            Body::Record(record) => {
                tail.store(
                    at + PREFIX_BYTES as u64,
                    record.get(PREFIX_BYTES..).unwrap_or_default(),
                );
                publish(tail, record, seq, place);
            }
            Body::Compressed { header, payload, .. } => {
                tail.store(at + FRAME_HEADER_BYTES as u64, payload);
                tail.store(
                    at + PREFIX_BYTES as u64,
                    header.get(PREFIX_BYTES..).unwrap_or_default(),
                );
                publish(tail, header, seq, place);
            }
            Body::Group { records, record_count } => {
                let mut finished = records.to_vec();
                finish_records(&mut finished, seq, place);
                let header = GroupHeader {
                    seq,
                    raw_bytes: records.len() as u32,
                    record_count: *record_count,
                    codec: CODEC_NONE,
                    padding_bytes: 0,
                };
                let header = encode_group_header(&header, &finished);
                tail.store(at + FRAME_HEADER_BYTES as u64, &finished);
                if planted(Bug::HalfBatch) {
                    let mark = encode_mark(Mark { durable_seq: 0, wall_ms: 0 }, place);
                    tail.store(at, &mark);
                    return;
                }
                tail.store(
                    at + PREFIX_BYTES as u64,
                    header.get(PREFIX_BYTES..).unwrap_or_default(),
                );
                publish(tail, &header, seq, place);
            }
        }
    }

    /// Calls `f` with the records as they are in the log at `start` of `segment`.
    #[inline]
    pub(crate) fn with_records<R>(
        &self,
        segment: u64,
        start: Position,
        seq: SeqNo,
        f: impl FnOnce(&[RecordRef<'_>]) -> R,
    ) -> R {
        let first = match self.body {
            Body::Record(_) => start.logical,
            Body::Group { .. } | Body::Compressed { .. } => {
                start.logical + FRAME_HEADER_BYTES as u32
            }
        };
        let encoded = self.batch.encoded();
        if matches!(self.body, Body::Record(_)) {
            let location = Location { segment, offset: first };
            return f(&[record_ref(location, seq, &self.batch.first())]);
        }
        let mut records = Vec::with_capacity(self.batch.len());
        let mut at = 0;
        while let Some(head) = encoded.get(at..).and_then(HeadWord::read) {
            let end = at + head.stored_bytes as usize;
            if let Some((_, fields)) = encoded.get(at..end).and_then(parse_record) {
                let location = Location { segment, offset: first + at as u32 };
                records.push(record_ref(location, seq, &fields));
            }
            at = end;
        }
        f(&records)
    }
}

/// Stores the sequence and then, by one release store, the head word.
#[inline]
fn publish(tail: &Tail, unfinished: &[u8], seq: SeqNo, place: Place) {
    let Some(head) = HeadWord::read(unfinished) else { return };
    tail.store(place.offset + 8, &seq.to_le_bytes());
    tail.publish(place.offset, finish_head(head, seq, place).encode());
}

/// Gives each record of a group its sequence and the checksum of its own place.
pub(crate) fn finish_records(records: &mut [u8], seq: SeqNo, group: Place) {
    for_each_record(records, |at, record| {
        let place = Place { offset: group.offset + FRAME_HEADER_BYTES as u64 + at as u64, ..group };
        let Some(head) = HeadWord::read(record) else { return };
        let finished = finish_head(head, seq, place).encode().to_le_bytes();
        if let Some((first, second)) = record.split_at_mut_checked(8)
            && let Some(second) = second.first_chunk_mut::<8>()
        {
            first.copy_from_slice(&finished);
            *second = seq.to_le_bytes();
        }
    });
}
