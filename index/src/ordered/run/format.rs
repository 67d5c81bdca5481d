//! The layout of a run's bytes: the header, the index section and the small encodings. `run.rs` draws it.

use crate::error::{Error, ErrorKind, Result};

/// Keys of a block; the last block of a run may have fewer.
pub(super) const BLOCK_KEYS: u32 = 16;
/// Blocks of a group; the last group of a run may have fewer.
pub(super) const GROUP_BLOCKS: u32 = 16;
/// The longest key: 64 KiB, and a little for a prefix of the index's own.
pub(super) const KEY_BYTES_MAX: usize = (64 << 10) + 16; // LIMIT: bounds the buffer of a cursor at 1 MiB.
/// The most keys of a run.
pub(super) const KEYS_MAX: u32 = u32::MAX - BLOCK_KEYS; // LIMIT: positions and block numbers are 32 bits.
/// The most bytes of a run.
pub(super) const FILE_BYTES_MAX: usize = 1 << 40; // LIMIT: a group's start has 40 bits.
/// The most segments that the hints of a run can name.
pub(super) const SEGMENTS_MAX: usize = 1 << 16; // LIMIT: a hint names its segment by 16 bits.
/// The most bytes of the prefix that all keys of a run share which the fences leave out.
pub(super) const PREFIX_BYTES_MAX: usize = 1 << 10; // LIMIT: it is kept in memory.

pub(super) const HEADER_BYTES: usize = 64;
pub(super) const GROUP_BYTES: usize = 192;
pub(super) const FENCE_BYTES: usize = 8;
pub(super) const SEGMENT_BYTES: usize = 10;
pub(super) const HINT_BYTES: usize = 5;
pub(super) const CHECKSUM_BYTES: usize = 4;

const MAGIC: [u8; 8] = *b"CKEYRUN\n";
const VERSION: u32 = 1;
const GROUP_ENDS_AT: usize = 128;

/// The error for bytes that a run cannot consist of.
pub(super) fn corruption(what: impl std::fmt::Display) -> Error {
    let advice = "a run is derived data, so it can be built again from the log";
    Error::new(ErrorKind::Corruption, format!("a key run is damaged: {what}; {advice}"))
}

/// What the header says, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) keys: u32,
    pub(super) segments: u32,
    pub(super) prefix_bytes: u32,
    /// Where the index section starts, which is where the blocks and their padding end.
    pub(super) index_at: usize,
}

impl Layout {
    pub(super) fn blocks(&self) -> u32 {
        self.keys.div_ceil(BLOCK_KEYS)
    }

    pub(super) fn groups(&self) -> u32 {
        self.blocks().div_ceil(GROUP_BLOCKS)
    }

    /// The number of keys of a block that exists.
    pub(super) fn keys_of_block(&self, block: u32) -> u32 {
        (self.keys - block * BLOCK_KEYS).min(BLOCK_KEYS)
    }

    pub(super) fn fences_at(&self) -> usize {
        self.index_at + self.groups() as usize * GROUP_BYTES
    }

    pub(super) fn segments_at(&self) -> usize {
        self.fences_at() + self.groups() as usize * FENCE_BYTES
    }

    pub(super) fn prefix_at(&self) -> usize {
        self.segments_at() + self.segments as usize * SEGMENT_BYTES
    }

    pub(super) fn file_bytes(&self) -> usize {
        self.prefix_at() + self.prefix_bytes as usize
    }

    /// The header of a file whose bytes from `index_at` on are `index`.
    pub(super) fn header(&self, index: &[u8]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[16..20].copy_from_slice(&self.keys.to_le_bytes());
        header[20..24].copy_from_slice(&self.segments.to_le_bytes());
        header[24..28].copy_from_slice(&self.prefix_bytes.to_le_bytes());
        header[28..32].copy_from_slice(&crc32c::crc32c(index).to_le_bytes());
        header[32..40].copy_from_slice(&(self.index_at as u64).to_le_bytes());
        let checksum = header_checksum(&header);
        header[12..16].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// Reads the header and verifies it, the length of the file and the checksum of the index section.
    pub(super) fn parse(file: &[u8]) -> Result<Layout> {
        let Some(header) = file.first_chunk::<HEADER_BYTES>() else {
            return Err(corruption(format_args!("{} bytes are no header", file.len())));
        };
        if header[..8] != MAGIC || u32_at(header, 8) != Some(VERSION) {
            return Err(corruption("magic or version is of no run that this version reads"));
        }
        if u32_at(header, 12) != Some(header_checksum(header)) {
            return Err(corruption("the header does not match its checksum"));
        }
        let field = |at| u32_at(header, at).unwrap_or_default();
        let index_at = u64::from(field(32)) | u64::from(field(36)) << 32;
        let layout = Layout {
            keys: field(16),
            segments: field(20),
            prefix_bytes: field(24),
            // A number beyond the length of the file is refused below, whatever it is cut to here.
            index_at: usize::try_from(index_at).unwrap_or(usize::MAX),
        };
        let sane = (HEADER_BYTES..=file.len()).contains(&layout.index_at)
            && layout.keys <= KEYS_MAX
            && layout.keys as usize <= file.len()
            && layout.segments as usize <= SEGMENTS_MAX
            && layout.prefix_bytes as usize <= PREFIX_BYTES_MAX;
        if !sane || layout.file_bytes() != file.len() {
            return Err(corruption(format_args!("its {} bytes are cut or too many", file.len())));
        }
        if crc32c::crc32c(&file[layout.index_at..]) != field(28) {
            return Err(corruption("the index section does not match its checksum"));
        }
        Ok(layout)
    }
}

fn header_checksum(header: &[u8; HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

/// The record of one group in the index section: where its blocks are, and a fence for each.
#[derive(Clone, Copy)]
pub(super) struct Group<'a>(&'a [u8; GROUP_BYTES]);

impl<'a> Group<'a> {
    pub(super) fn at(file: &'a [u8], layout: &Layout, group: u32) -> Option<Group<'a>> {
        let start = layout.index_at + group as usize * GROUP_BYTES;
        file.get(start..)?.first_chunk().map(Group)
    }

    /// Where the first block starts.
    pub(super) fn start(self) -> usize {
        let [a, b, c, d, e, ..] = *self.0;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]) as usize
    }

    /// How many bytes all keys of the group share at least; the fences begin behind them.
    pub(super) fn shared(self) -> usize {
        usize::from(u16::from_le_bytes([self.0[5], self.0[6]]))
    }

    /// The fences of the second block and those behind it.
    pub(super) fn fences(self) -> impl Iterator<Item = u64> {
        let (fences, _) = self.0[8..GROUP_ENDS_AT].as_chunks();
        fences.iter().map(|fence| u64::from_le_bytes(*fence))
    }

    /// Where this block of the group ends and the next one starts.
    pub(super) fn end(self, block: u32) -> usize {
        let at = GROUP_ENDS_AT + (block % GROUP_BLOCKS) as usize * 4;
        let end = [self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]];
        self.start().saturating_add(u32::from_le_bytes(end) as usize)
    }

    /// Where a block of the group starts and ends.
    pub(super) fn block(self, block: u32) -> (usize, usize) {
        let first = block.is_multiple_of(GROUP_BLOCKS);
        (if first { self.start() } else { self.end(block - 1) }, self.end(block))
    }

    /// The record of a group of these blocks. `ends` are counted from `start`.
    pub(super) fn encode(
        start: usize,
        shared: usize,
        fences: impl Iterator<Item = u64>,
        ends: &[u32],
    ) -> [u8; GROUP_BYTES] {
        let mut record = [0xFF; GROUP_BYTES];
        record[..5].copy_from_slice(&(start as u64).to_le_bytes()[..5]);
        record[5..7].copy_from_slice(&(shared as u16).to_le_bytes());
        for (slot, fence) in record[8..GROUP_ENDS_AT].chunks_exact_mut(8).zip(fences) {
            slot.copy_from_slice(&fence.to_le_bytes());
        }
        for (slot, end) in record[GROUP_ENDS_AT..].chunks_exact_mut(4).zip(ends) {
            slot.copy_from_slice(&end.to_le_bytes());
        }
        record
    }
}

/// The fence of a key: eight bytes behind the first `shared`, as a number that orders as they do. Of two keys that
/// share those bytes the higher has no lower fence; equal fences decide nothing.
pub(super) fn fence(key: &[u8], shared: usize) -> u64 {
    let rest = key.get(shared..).unwrap_or_default();
    if let Some(bytes) = rest.first_chunk() {
        return u64::from_be_bytes(*bytes);
    }
    let mut bytes = [0; FENCE_BYTES];
    bytes[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(bytes)
}

/// How many bytes two keys share at their start.
pub(super) fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    let mut words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let differs = words.position(|(a, b)| a != b);
    let at = differs.unwrap_or(a.len().min(b.len()) / 8) * 8;
    at + a[at..].iter().zip(&b[at..]).take_while(|(a, b)| a == b).count()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Appends a length: 7 bits a byte, the lowest first, the top bit set on all but the last.
pub(super) fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// Reads a length of at most three bytes and moves `at` behind it.
pub(super) fn read_length(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let mut length = 0;
    for shift in [0, 7, 14] {
        let byte = *bytes.get(*at)?;
        *at += 1;
        length |= u32::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(length);
        }
    }
    None
}
