//! One block of a run: sixteen front-coded keys with their hints.
//!
//! # Layout
//! ```text
//! checksum of what follows: 4 | hints: 5 each | lengths: shared, rest of each key | the rests without gaps
//! ```
//! "Shared" is the number of leading bytes that a key has in common with the one before it, 0 for the first; it is
//! always the largest possible, which the search relies on. The lengths stand together and mostly take one byte each,
//! so a processor knows where the next keys are before it is done with this one. A hint is 40 bits: present (1),
//! index in the segment table (16), offset / 8 (23).
//!
//! # Failure
//! Every length is checked against the bytes that are there. Bytes that no builder writes give `None`.

use std::cmp::Ordering;

use super::format::{
    BLOCK_KEYS, CHECKSUM_BYTES, HINT_BYTES, KEY_BYTES_MAX, read_length, shared_bytes, u32_at,
};
use crate::address::Address;
use crate::ordered::hint::Hint;
use crate::ordered::range::Headed;

const HINT_PRESENT: u64 = 1 << 39;
const HINT_SEGMENT_SHIFT: u32 = 23;
const HINT_UNITS: u64 = (1 << HINT_SEGMENT_SHIFT) - 1;
const HINT_SEGMENT: u64 = 0xFFFF;

/// Bytes of the key before that a decoder keeps in a register.
const HEAD: usize = 16;
/// Bytes that a rest is copied by; the buffer has this much room behind its last key.
const CHUNK: usize = 32;

/// The least size of the buffer.
const BYTES_MIN: usize = 512;

/// The bytes of the lengths of a full block if each takes one.
const SHORT_LENGTHS_BYTES: usize = 2 * BLOCK_KEYS as usize;

/// The first bytes of a head, by how many they are.
const KEPT: [u128; HEAD] = {
    let mut masks = [0; HEAD];
    let mut bytes = 0;
    while bytes < HEAD {
        masks[bytes] = !(u128::MAX << (8 * bytes));
        bytes += 1;
    }
    masks
};

/// Shared bytes and the length of the rest, of each key of a block.
type Lengths = [[u32; 2]; BLOCK_KEYS as usize];

/// Packed hints, one behind the other, with room for reading the last one as a whole word.
type Hints = [u8; HINTS_BYTES + HINT_PADDING_BYTES];
const HINTS_BYTES: usize = BLOCK_KEYS as usize * HINT_BYTES;
const HINT_PADDING_BYTES: usize = size_of::<u64>() - HINT_BYTES;

/// Packs a hint; `segment` is its index in the run's segment table.
pub(super) fn encode_hint(hint: Option<(u16, Address)>) -> [u8; HINT_BYTES] {
    let bits = hint.map_or(0, |(segment, address)| {
        let units = u64::from(address.offset_bytes() / Address::UNIT_BYTES);
        HINT_PRESENT | u64::from(segment) << HINT_SEGMENT_SHIFT | units
    });
    let [a, b, c, d, e, ..] = bits.to_le_bytes();
    [a, b, c, d, e]
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

    fn hints_at(&self) -> usize {
        self.start + CHECKSUM_BYTES
    }

    fn lengths_at(&self) -> usize {
        self.hints_at() + self.keys as usize * HINT_BYTES
    }

    /// The lengths as they are stored, if all of a full block take one byte each.
    #[inline(always)]
    fn short_lengths(&self) -> Option<&'a [u8; SHORT_LENGTHS_BYTES]> {
        let bytes = self.file.get(self.lengths_at()..)?.first_chunk()?;
        let all = words_of(bytes).fold(0, |all, word| all | word);
        let short = all & (u64::MAX / 0xFF * 0x80) == 0;
        (short && self.keys == BLOCK_KEYS).then_some(bytes)
    }

    /// The lengths of all keys, however long they are, and where the rests begin.
    fn lengths(&self) -> Option<(Lengths, usize)> {
        let mut at = self.lengths_at();
        let mut lengths = [[0; 2]; BLOCK_KEYS as usize];
        for key in lengths.iter_mut().take(self.keys as usize) {
            *key = [read_length(self.file, &mut at)?, read_length(self.file, &mut at)?];
        }
        Some((lengths, at))
    }

    /// Where the rests begin if the lengths are short.
    fn rests_at(&self) -> usize {
        self.lengths_at() + SHORT_LENGTHS_BYTES
    }

    /// The first key, which is there in full.
    pub(super) fn first_key(&self) -> Option<&'a [u8]> {
        let (at, length) = match self.short_lengths() {
            Some([_, length, ..]) => (self.rests_at(), u32::from(*length)),
            None => {
                let ([[_, length], ..], at) = self.lengths()?;
                (at, length)
            }
        };
        self.file.get(at..at + length as usize)
    }

    /// The number of keys that are below `key`, or with `or_equal` not above it.
    ///
    /// It builds no key: what the search knows is how many bytes the key before shares with the one that is sought
    /// (`matched`), and that it is below. A key that shares more with the one before is below for the same byte, one
    /// that shares less is above, and only one that shares as much has to be looked at.
    pub(super) fn count_below(&self, key: &[u8], or_equal: bool) -> Option<u32> {
        match self.short_lengths() {
            Some(bytes) => self.count_keys_below(short(bytes), self.rests_at(), key, or_equal),
            None => {
                let (lengths, at) = self.lengths()?;
                self.count_keys_below(lengths, at, key, or_equal)
            }
        }
    }

    #[inline(always)]
    fn count_keys_below(
        &self,
        lengths: impl IntoIterator<Item = [u32; 2]>,
        mut at: usize,
        key: &[u8],
        or_equal: bool,
    ) -> Option<u32> {
        let mut matched = 0;
        for (n, [shared, length]) in (0..self.keys).zip(lengths) {
            let (shared, length) = (shared as usize, length as usize);
            if shared < matched {
                return Some(n);
            }
            if shared == matched {
                let (mine, sought) = (self.file.get(at..at + length)?, key.get(matched..)?);
                let same = shared_bytes(mine, sought);
                match mine[same..].first().cmp(&sought[same..].first()) {
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
    ///
    /// The first [`HEAD`] bytes of the key before are kept in a register (`head`): loading them from the buffer would
    /// have to wait until the stores that wrote them are through. The rest is read together with as many bytes before
    /// it as the key shares, so it stands where it belongs without a shift.
    pub(super) fn decode(&self, decoded: &mut Decoded) -> Option<()> {
        if let Some(bytes) = self.short_lengths() {
            return self.decode_keys(short(bytes), sum_of(bytes), self.rests_at(), decoded);
        }
        let (lengths, at) = self.lengths()?;
        let sum: u32 = lengths.iter().map(|[shared, length]| shared + length).sum();
        self.decode_keys(lengths, sum as usize, at, decoded)
    }

    #[inline(always)]
    fn decode_keys(
        &self,
        lengths: impl IntoIterator<Item = [u32; 2]>,
        sum: usize,
        mut at: usize,
        decoded: &mut Decoded,
    ) -> Option<()> {
        // No key ends behind that: their lengths are in the sum, and each is checked against its bound below.
        decoded.reserve(sum.min(BLOCK_KEYS as usize * KEY_BYTES_MAX));
        let Decoded { bytes, ends, heads, .. } = decoded;
        let (mut previous, mut start, mut head) = (0, 0, 0u128);
        let keys = lengths.into_iter().zip(ends).zip(heads).take(self.keys as usize);
        for (([shared, length], key_end), key_head) in keys {
            let (shared, length) = (shared as usize, length as usize);
            let fits = shared <= start - previous && length <= self.end.checked_sub(at)?;
            let whole = shared + length;
            if !fits || whole > KEY_BYTES_MAX {
                return None;
            }
            // A key that shares something has others before it, and the lengths of both: so many bytes are before `at`.
            if let Some(kept) = KEPT.get(shared)
                && let Some(around) = self.file.get(at - shared..)?.first_chunk::<HEAD>()
            {
                head = head & kept | u128::from_le_bytes(*around) & !kept;
                bytes[start..start + HEAD].copy_from_slice(&head.to_le_bytes());
                if whole > HEAD {
                    copy_chunk(self.file, at, bytes, start + shared, length);
                }
            } else {
                bytes.copy_within(previous..previous + shared, start);
                copy_chunk(self.file, at, bytes, start + shared, length);
                head = u128::from_le_bytes(*bytes[start..].first_chunk()?);
            }
            at += length;
            (previous, start) = (start, start + whole);
            *key_end = start as u32;
            *key_head = (head & KEPT.get(whole).unwrap_or(&u128::MAX)).swap_bytes();
        }
        decoded.len = start;
        let hints: &[u8; HINTS_BYTES] = self.file.get(self.hints_at()..)?.first_chunk()?;
        decoded.hints[..HINTS_BYTES].copy_from_slice(hints);
        (at == self.end).then_some(())
    }
}

fn words_of(bytes: &[u8; SHORT_LENGTHS_BYTES]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
}

/// Short lengths, key by key.
fn short(bytes: &[u8; SHORT_LENGTHS_BYTES]) -> impl Iterator<Item = [u32; 2]> {
    bytes.as_chunks().0.iter().map(|[shared, rest]| [u32::from(*shared), u32::from(*rest)])
}

/// The sum of all short lengths, four at a time: no sum of four lanes overflows its 16 bits.
fn sum_of(bytes: &[u8; SHORT_LENGTHS_BYTES]) -> usize {
    const EVEN: u64 = u64::MAX / 0xFFFF * 0xFF;
    let lanes: u64 = words_of(bytes).map(|word| (word & EVEN) + (word >> 8 & EVEN)).sum();
    (lanes.wrapping_mul(u64::MAX / 0xFFFF) >> 48) as usize
}

/// Copies bytes of a run, a whole chunk if `length` is not above that: what follows overwrites the surplus.
#[inline(always)]
fn copy_chunk(file: &[u8], from: usize, bytes: &mut [u8], to: usize, length: usize) {
    if length <= CHUNK
        && let Some(chunk) = file[from..].first_chunk::<CHUNK>()
    {
        bytes[to..to + CHUNK].copy_from_slice(chunk);
    } else {
        bytes[to..to + length].copy_from_slice(&file[from..from + length]);
    }
}

/// The keys of one block in full, and its hints, in a buffer that is used again.
#[derive(Debug)]
pub(super) struct Decoded {
    /// Initialised throughout, and longer than its content by at least [`CHUNK`].
    bytes: Vec<u8>,
    ends: [u32; BLOCK_KEYS as usize],
    /// See [`Headed`].
    heads: [u128; BLOCK_KEYS as usize],
    len: usize,
    hints: Hints,
}

impl Decoded {
    pub(super) fn new() -> Self {
        Decoded {
            bytes: Vec::new(),
            ends: Default::default(),
            heads: Default::default(),
            len: 0,
            hints: [0; HINTS_BYTES + HINT_PADDING_BYTES],
        }
    }

    /// A key of the block that was decoded last; `n` is below its number of keys.
    #[inline]
    pub(super) fn get(&self, n: usize) -> &[u8] {
        let start = if n == 0 { 0 } else { self.ends[n - 1] };
        &self.bytes[start as usize..self.ends[n] as usize]
    }

    /// The same with its first bytes as a number.
    #[inline]
    pub(super) fn headed(&self, n: usize) -> Headed<'_> {
        Headed { head: self.heads[n], key: self.get(n) }
    }

    /// The keys `first..end`: their bytes, their ends, and what the ends are counted from.
    #[inline]
    pub(super) fn part(&self, first: usize, end: usize) -> (&[u8], &[u32], usize) {
        let start = if first == 0 { 0 } else { self.ends[first - 1] as usize };
        let ends = &self.ends[first..end];
        (&self.bytes[start..ends.last().map_or(start, |end| *end as usize)], ends, start)
    }

    /// The bytes of the keys that were decoded last.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// A short key, and how long it is, with what stands behind it up to a fixed size; `None` for a longer one.
    #[inline]
    pub(super) fn padded(&self, n: usize) -> Option<(&[u8; CHUNK], usize)> {
        let start = if n == 0 { 0 } else { self.ends[n - 1] as usize };
        let length = self.ends[n] as usize - start;
        let bytes = self.bytes.get(start..)?.first_chunk()?;
        (length <= CHUNK).then_some((bytes, length))
    }

    /// The hint of a key; `None` if it has none, or one that no builder writes.
    #[inline]
    pub(super) fn hint(&self, n: usize, segments: &[(u64, u16)]) -> Option<Hint> {
        let bits = u64::from_le_bytes(*self.hints[n * HINT_BYTES..].first_chunk()?);
        if bits & HINT_PRESENT == 0 {
            return None;
        }
        let (segment, slot) =
            *segments.get((bits >> HINT_SEGMENT_SHIFT & HINT_SEGMENT) as usize)?;
        let address = u64::from(slot) << HINT_SEGMENT_SHIFT | bits & HINT_UNITS;
        Some(Hint { segment, address: Address::from_bits(address)? })
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
        self.bytes.resize((bytes + CHUNK).next_power_of_two().max(BYTES_MIN), 0);
    }
}
