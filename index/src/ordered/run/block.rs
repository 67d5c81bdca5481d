//! One block of a run: sixteen front-coded keys with their hints.
//!
//! # Layout
//! ```text
//! checksum of the rest: 4 | hints: 5 each | first key: length, bytes | others: shared, length of the rest, the rest
//! ```
//! "Shared" is the number of leading bytes that a key has in common with the one before it; it is always the largest
//! possible, which the search relies on. A hint is 40 bits: present (1), segment table index (16), offset / 8 (23).
//!
//! # Failure
//! Every length is checked against the bytes that are there. Bytes that no builder writes give `None`.

use std::cmp::Ordering;

use super::format::{CHECKSUM_BYTES, HINT_BYTES, KEY_BYTES_MAX, read_length, u32_at};
use crate::address::Address;
use crate::ordered::hint::Hint;

const HINT_PRESENT: u64 = 1 << 39;
const HINT_SEGMENT_SHIFT: u32 = 23;
const HINT_UNITS: u64 = (1 << HINT_SEGMENT_SHIFT) - 1;

/// Bytes that a decoded key is copied by; the buffer has this much room behind its last key.
const CHUNK: usize = 16;

/// Packs a hint; `segment` is its index in the run's segment table.
pub(super) fn encode_hint(hint: Option<(u16, Address)>) -> [u8; HINT_BYTES] {
    let bits = hint.map_or(0, |(segment, address)| {
        let units = u64::from(address.offset_bytes() / Address::UNIT_BYTES);
        HINT_PRESENT | u64::from(segment) << HINT_SEGMENT_SHIFT | units
    });
    let [a, b, c, d, e, ..] = bits.to_le_bytes();
    [a, b, c, d, e]
}

/// Reads the hint at this place; `None` if there is none, or none that a builder writes.
pub(super) fn decode_hint(file: &[u8], at: usize, segments: &[(u64, u16)]) -> Option<Hint> {
    let [a, b, c, d, e] = *file.get(at..)?.first_chunk::<HINT_BYTES>()?;
    let bits = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
    if bits & HINT_PRESENT == 0 {
        return None;
    }
    let (segment, slot) = *segments.get((bits >> HINT_SEGMENT_SHIFT) as usize & 0xFFFF)?;
    let offset_bytes = (bits & HINT_UNITS) as u32 * Address::UNIT_BYTES;
    Some(Hint { segment, address: Address::new(slot, offset_bytes).ok()? })
}

/// A block within the bytes of its run.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    file: &'a [u8],
    start: usize,
    end: usize,
    keys: u32,
}

impl<'a> Block<'a> {
    /// The block of so many keys at this place; `None` if the bytes are not there.
    pub(super) fn new(file: &'a [u8], (start, end): (usize, usize), keys: u32) -> Option<Self> {
        let least = start.checked_add(CHECKSUM_BYTES + keys as usize * HINT_BYTES)?;
        (least <= end && end <= file.len()).then_some(Block { file, start, end, keys })
    }

    pub(super) fn is_intact(&self) -> bool {
        let content = &self.file[self.start + CHECKSUM_BYTES..self.end];
        u32_at(self.file, self.start) == Some(crc32c::crc32c(content))
    }

    /// Where the hints start in the bytes of the run.
    pub(super) fn hints_at(&self) -> usize {
        self.start + CHECKSUM_BYTES
    }

    fn keys_at(&self) -> usize {
        self.hints_at() + self.keys as usize * HINT_BYTES
    }

    /// The first key, which is there in full.
    pub(super) fn first_key(&self) -> Option<&'a [u8]> {
        let mut at = self.keys_at();
        let length = read_length(self.file, &mut at)?;
        self.file.get(at..at + length)
    }

    /// The number of keys that are below `key`, or with `or_equal` not above it.
    ///
    /// It builds no key: what the search knows is how many bytes the key before shares with the one that is sought
    /// (`matched`), and that it is below. A key that shares more with the one before is below for the same byte, one
    /// that shares less is above, and only one that shares as much has to be looked at.
    pub(super) fn count_below(&self, key: &[u8], or_equal: bool) -> Option<u32> {
        let mut at = self.keys_at();
        let mut matched = 0;
        for n in 0..self.keys {
            let shared = if n == 0 { 0 } else { read_length(self.file, &mut at)? };
            let length = read_length(self.file, &mut at)?;
            if shared < matched {
                return Some(n);
            }
            if shared == matched {
                let suffix = self.file.get(at..at + length)?;
                let rest = key.get(matched..)?;
                let same = super::format::shared_bytes(suffix, rest);
                match suffix[same..].first().cmp(&rest[same..].first()) {
                    Ordering::Less => matched += same,
                    Ordering::Equal => return Some(n + u32::from(or_equal)),
                    Ordering::Greater => return Some(n),
                }
            }
            at += length;
        }
        Some(self.keys)
    }

    /// Decodes all keys into `decoded`, replacing what was there.
    pub(super) fn decode(&self, decoded: &mut Decoded) -> Option<()> {
        let mut at = self.keys_at();
        let (mut previous, mut start) = (0, 0);
        for n in 0..self.keys as usize {
            let shared = if n == 0 { 0 } else { read_length(self.file, &mut at)? };
            let length = read_length(self.file, &mut at)?;
            if shared > start - previous || length > self.end.checked_sub(at)? {
                return None;
            }
            if shared + length > KEY_BYTES_MAX {
                return None;
            }
            decoded.reserve(start + shared + length);
            decoded.copy_within(previous, start, shared);
            decoded.copy_from(self.file, at, start + shared, length);
            at += length;
            (previous, start) = (start, start + shared + length);
            decoded.ends[n] = start as u32;
        }
        (at == self.end).then_some(())
    }
}

/// The keys of one block in full, in a buffer that is used again.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// Initialised throughout, and longer than its content by at least [`CHUNK`].
    bytes: Vec<u8>,
    ends: [u32; super::format::BLOCK_KEYS as usize],
}

impl Decoded {
    /// A key of the block that was decoded last; `n` is below its number of keys.
    #[inline]
    pub(super) fn get(&self, n: usize) -> &[u8] {
        let start = if n == 0 { 0 } else { self.ends[n - 1] };
        &self.bytes[start as usize..self.ends[n] as usize]
    }

    /// Makes room for this many bytes of content. They are at most 16 keys, so about 1 MiB.
    #[inline(always)]
    fn reserve(&mut self, bytes: usize) {
        if self.bytes.len() < bytes + CHUNK {
            self.grow(bytes);
        }
    }

    #[cold]
    fn grow(&mut self, bytes: usize) {
        self.bytes.resize((bytes + CHUNK).next_power_of_two(), 0);
    }

    /// Copies `length` bytes by whole chunks: what is copied beyond them is overwritten by what follows. The source
    /// ends at or before the target starts, and there is room.
    #[inline(always)]
    fn copy_within(&mut self, from: usize, to: usize, length: usize) {
        let mut done = 0;
        while done < length {
            let mut chunk = [0; CHUNK];
            chunk.copy_from_slice(&self.bytes[from + done..from + done + CHUNK]);
            self.bytes[to + done..to + done + CHUNK].copy_from_slice(&chunk);
            done += CHUNK;
        }
    }

    /// The same from the bytes of the run, which have `length` bytes at `from`, but may end behind them.
    #[inline(always)]
    fn copy_from(&mut self, file: &[u8], from: usize, to: usize, length: usize) {
        if length <= CHUNK
            && let Some(chunk) = file[from..].first_chunk::<CHUNK>()
        {
            self.bytes[to..to + CHUNK].copy_from_slice(chunk);
        } else {
            self.bytes[to..to + length].copy_from_slice(&file[from..from + length]);
        }
    }
}
