//! The parsers alone, and checksums made right again: for the fuzzer, and for tests that forge files.
//!
//! Not part of the interface of the crate: it may change at any time.

use std::path::Path;

use crate::compress::{CODEC_NONE, decompress};
use crate::format::{
    FRAME_HEADER_BYTES, Frame, HeadWord, Kind, PREFIX_BYTES, Place, SegmentHeader, SegmentKind,
    finish_head, parse_frame,
};
use crate::recovery::scan;
use crate::segment::{Data, SEGMENT_SPAN, Segment, for_each_group_record};
use crate::vfs::sim::Image;
use crate::vfs::{OpenMode, SimVfs, Vfs};

/// Bytes before the first frame of a segment.
pub const HEADER_BYTES: usize = crate::format::HEADER_BYTES as usize;

/// The kind byte of a record.
pub const RECORD: u8 = Kind::Record as u8;
/// The kind byte of a group.
pub const GROUP: u8 = Kind::Group as u8;
/// The kind byte of a mark.
pub const MARK: u8 = Kind::Mark as u8;
/// The kind byte of a seal.
pub const SEAL: u8 = Kind::Seal as u8;
/// The kind byte of a chain frame.
pub const CHAIN: u8 = Kind::Chain as u8;
/// The kind byte of a purge frame.
pub const PURGE: u8 = Kind::Purge as u8;

const HEADER_COPY_BYTES: usize = HEADER_BYTES / 2;

/// What stands at one place of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameInfo {
    /// Offset in the file, in bytes.
    pub offset: usize,
    /// The kind byte.
    pub kind: u8,
    /// Length with the head word, in bytes.
    pub stored_bytes: usize,
    /// The sequence field.
    pub seq: u64,
}

/// Parses what stands at the start of `bytes`; its stored length when it is a frame.
pub fn frame(bytes: &[u8], salt: u64, offset: u64) -> Option<usize> {
    let (frame, stored_bytes) = parse_frame(bytes, Place { salt, offset }).ok()??;
    assert!(stored_bytes as usize <= bytes.len() && stored_bytes.is_multiple_of(8));
    assert!(frame.logical_bytes(stored_bytes) <= SEGMENT_SPAN);
    if let Frame::Record { fields, .. } = &frame {
        assert!(fields.key.len() + fields.value.len() < stored_bytes as usize);
    }
    Some(stored_bytes as usize)
}

/// Decodes the records of the group at the start of `bytes`; their number when all are sound.
pub fn group(bytes: &[u8], salt: u64, offset: u64) -> Option<usize> {
    let (frame, _) = parse_frame(bytes, Place { salt, offset }).ok()??;
    let Frame::Group { header, payload } = frame else { return None };
    let mut scratch = Vec::new();
    let (mut records, mut content) = (0, 0);
    let read = for_each_group_record(&header, payload, &mut scratch, &mut |at, _, fields| {
        assert!(at.is_multiple_of(8) && at < header.raw_bytes);
        content += fields.key.len() + fields.value.len();
        records += 1;
    });
    read.ok()?;
    assert_eq!(records, header.record_count as usize);
    assert!(content < header.raw_bytes as usize);
    Some(records)
}

/// Decompresses with the bounds of the log; the bytes when the stream is sound and holds what the header claims.
pub fn snappy(stream: &[u8], raw_bytes: u32) -> Option<Vec<u8>> {
    let mut scratch = Vec::new();
    decompress(crate::compress::CODEC_SNAPPY, stream, raw_bytes, &mut scratch).ok()?;
    Some(scratch)
}

/// Scans a whole segment file; the number of bytes that are intact, with the header.
pub fn segment(file: &[u8]) -> usize {
    let mut image = Image::new();
    image.insert("segment", file.to_vec());
    let sim = SimVfs::from_image(image, 0);
    let (Ok(opened), Some(salt)) = (sim.open(Path::new("segment"), OpenMode::Read), salt(file))
    else {
        return 0;
    };
    let file_bytes = file.len().min(SEGMENT_SPAN as usize);
    let Ok(map) = sim.map_read(&opened, file_bytes as u64) else { return 0 };
    let segment = Segment::new(1, "segment".into(), opened, salt, Data::Mapped(map));
    let scanned = scan(&segment, file_bytes as u32);
    let Ok(scan) = scanned else { return 0 };
    let end = scan.end.map_or(0, |end| end.stored as usize);
    assert!(end <= file_bytes.max(HEADER_BYTES));
    assert!(scan.island_bytes() <= (file_bytes.saturating_sub(end)) as u64);
    end
}

/// The header of a segment of this version.
pub fn header(owner: [u8; 16], id: u64, salt: u64) -> Vec<u8> {
    let header = SegmentHeader {
        kind: SegmentKind::Log,
        owner,
        owner_data: [0; 16],
        id,
        salt,
        created_ms: 0,
        built_end: 0,
        grouped: false,
    };
    header.encode()
}

/// Stores a frame with a right checksum at `at`, lengthening the file where needed; the place behind it. The body is
/// filled up with zeroes to a multiple of 8.
pub fn put_frame(file: &mut Vec<u8>, at: usize, kind: u8, seq: u64, body: &[u8]) -> usize {
    let end = at + PREFIX_BYTES + body.len().next_multiple_of(8);
    if file.len() < end {
        file.resize(end, 0);
    }
    let head = HeadWord { crc: 0, stored_bytes: (end - at) as u32, kind };
    let frame = &mut file[at..end];
    frame.fill(0);
    frame[..8].copy_from_slice(&head.encode().to_le_bytes());
    frame[8..16].copy_from_slice(&seq.to_le_bytes());
    frame[16..16 + body.len()].copy_from_slice(body);
    refinish(file);
    end
}

/// Makes every checksum of a segment file right: of both headers, of each frame as far as the lengths lead from one
/// to the next, and of the records in plain groups.
pub fn refinish(file: &mut [u8]) {
    for copy in file.chunks_exact_mut(HEADER_COPY_BYTES).take(2) {
        let (body, crc) = copy.split_at_mut(HEADER_COPY_BYTES - 4);
        crc.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }
    let Some(salt) = salt(file) else { return };
    for found in frames(file) {
        let Some(frame) = file.get_mut(found.offset..found.offset + found.stored_bytes) else {
            return;
        };
        finish_frame(frame, Place { salt, offset: found.offset as u64 });
    }
}

/// Makes the checksums of one frame right, with those of the records inside a plain group.
pub fn finish_frame_at(frame: &mut [u8], salt: u64, offset: u64) {
    finish_frame(frame, Place { salt, offset });
}

fn finish_frame(frame: &mut [u8], place: Place) {
    let is_group = HeadWord::read(frame).is_some_and(|head| head.kind == Kind::Group as u8);
    let is_plain = frame.get(FRAME_HEADER_BYTES - 1).is_some_and(|byte| byte & 15 == CODEC_NONE);
    if is_group && is_plain {
        let mut at = FRAME_HEADER_BYTES;
        while let Some(head) = frame.get(at..).and_then(HeadWord::read) {
            let end = at + head.stored_bytes as usize;
            let Some(record) = frame.get_mut(at..end).filter(|record| !record.is_empty()) else {
                break;
            };
            finish_one(record, Place { offset: place.offset + at as u64, ..place });
            at = end;
        }
    }
    finish_one(frame, place);
}

fn finish_one(frame: &mut [u8], place: Place) {
    let (Some(head), Some(body)) = (HeadWord::read(frame), frame.get(PREFIX_BYTES..)) else {
        return;
    };
    let head = HeadWord { crc: crc32c::crc32c(body), ..head };
    let seq = frame.get(8..).and_then(HeadWord::read).map_or(0, HeadWord::encode);
    if let Some(first) = frame.first_chunk_mut() {
        *first = finish_head(head, seq, place).encode().to_le_bytes();
    }
}

/// The frames of a segment file as their lengths lead from one to the next; checksums are not looked at.
pub fn frames(file: &[u8]) -> Vec<FrameInfo> {
    let mut found = Vec::new();
    let mut offset = HEADER_BYTES;
    while let Some(head) = file.get(offset..).and_then(HeadWord::read) {
        let stored_bytes = head.stored_bytes as usize;
        if stored_bytes < PREFIX_BYTES || stored_bytes > file.len() - offset {
            break;
        }
        let seq = file.get(offset + 8..).and_then(HeadWord::read).map_or(0, HeadWord::encode);
        found.push(FrameInfo { offset, kind: head.kind, stored_bytes, seq });
        offset += stored_bytes;
    }
    found
}

fn salt(file: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*file.get(80..)?.first_chunk()?))
}

/// A log directory as an input of the fuzzer.
///
/// ```text
/// flags u8, then per file: name u8 (low 6 bits the id, bit 6 the file is without a made-up header, bit 7 a temporary
/// name), length u32, bytes
/// ```
/// Flag 0: checksums are made right; the others are for the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    /// What to do with it.
    pub flags: u8,
    /// Names and bytes, the latter behind the header.
    pub files: Vec<(u8, Vec<u8>)>,
}

impl Directory {
    /// LIMIT: the bytes of all files of an input.
    const BYTES_MAX: usize = 1 << 20;

    /// Reads an input; a length beyond its end takes what is left.
    pub fn decode(input: &[u8]) -> Option<Directory> {
        let (&flags, mut rest) = input.split_first()?;
        let mut files = Vec::new();
        while let Some((&name, after)) = rest.split_first() {
            let (length, after) = after.split_first_chunk::<4>()?;
            let length = (u32::from_le_bytes(*length) as usize).min(after.len());
            let (bytes, after) = after.split_at(length);
            files.push((name, bytes.to_vec()));
            rest = after;
        }
        (input.len() <= Self::BYTES_MAX).then_some(Directory { flags, files })
    }

    /// The input that [`Directory::decode`] reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.flags];
        for (name, bytes) in &self.files {
            out.push(*name);
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        out
    }

    /// Whether a flag is set.
    pub fn flag(&self, bit: u8) -> bool {
        self.flags >> bit & 1 == 1
    }

    /// The files on a disk.
    pub fn image(&self, dir: &str) -> Image {
        let mut image = Image::new();
        image.insert_dir(dir);
        for (name, bytes) in &self.files {
            let id = u64::from(name & 63);
            let mut file = if name >> 6 & 1 == 1 { Vec::new() } else { header([1; 16], id, id) };
            file.extend_from_slice(bytes);
            if self.flag(0) {
                refinish(&mut file);
            }
            let suffix = if name >> 7 == 1 { "seg.tmp" } else { "seg" };
            image.insert(format!("{dir}/{id:016x}.{suffix}"), file);
        }
        image
    }
}
