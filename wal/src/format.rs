//! The bytes on disk: segment header, record, group frame and the small frames. `FORMAT.md` is the specification; this
//! file is its only reader and writer.
//!
//! # Invariants
//! - Every decoder takes untrusted bytes: lengths are checked against the bytes that remain before anything is
//!   allocated, and the checksum of the stored bytes before they are decompressed.
//! - An all-zero head word never parses: zeroes are the end of the log.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod crc;
mod frame;
mod header;
mod record;
mod varint;

pub(crate) use crc::crc32c;
pub(crate) use frame::{
    CHAIN_FRAME_BYTES, ChainFrame, FRAME_HEADER_BYTES, Frame, FrameFault, GroupHeader,
    MARK_FRAME_BYTES, Mark, PURGE_FRAME_BYTES, SEAL_FRAME_BYTES, SEQ_MAX, encode_chain,
    encode_group_header, encode_mark, encode_purge, encode_seal, group_raw_bytes, parse_frame,
    parse_verified_frame, read_record,
};
pub(crate) use header::{HEADER_BYTES, HeaderFault, SegmentHeader, SegmentKind};
pub(crate) use record::{
    EXPIRY_MS_MAX, PREFIX_BYTES, RECORD_OVERHEAD_BYTES_MAX, RecordFields, encode_record,
    finish_head, parse_record, record_bytes, set_in_group,
};

/// The kind byte of a head word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// One put or delete; alone it is a commit, inside a group frame a part of one.
    Record = 1,
    /// A commit of several records, or a compressed one.
    Group = 2,
    /// Says which commit was known to be durable when the frame was appended.
    Mark = 3,
    /// The end of a segment that was filled and left.
    Seal = 4,
    /// The start of a segment: which one it follows, and where that one ends.
    Chain = 5,
    /// Segments below an id were removed on request.
    Purge = 6,
}

/// Kinds from here on are optional: a reader that does not know them skips them by their length.
pub(crate) const OPTIONAL_KIND_MIN: u8 = 128;

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::Record,
            2 => Kind::Group,
            3 => Kind::Mark,
            4 => Kind::Seal,
            5 => Kind::Chain,
            6 => Kind::Purge,
            _ => return None,
        })
    }
}

/// The 8 bytes that start everything in a segment: checksum, stored length, kind. Stored last, by one release store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadWord {
    pub(crate) crc: u32,
    /// Length of the whole thing as stored, head word included, in bytes (a multiple of 8).
    pub(crate) stored_bytes: u32,
    pub(crate) kind: u8,
}

/// Stored lengths are 24 bits of 8-byte units.
const STORED_UNITS_MAX: u32 = (1 << 24) - 1;

impl HeadWord {
    pub(crate) const BYTES: usize = 8;

    pub(crate) fn encode(self) -> u64 {
        debug_assert!(
            self.stored_bytes.is_multiple_of(8) && self.stored_bytes / 8 <= STORED_UNITS_MAX
        );
        u64::from(self.crc) | u64::from(self.stored_bytes / 8) << 32 | u64::from(self.kind) << 56
    }

    #[inline]
    pub(crate) fn decode(word: u64) -> HeadWord {
        HeadWord {
            crc: word as u32,
            stored_bytes: ((word >> 32) as u32 & STORED_UNITS_MAX) * 8,
            kind: (word >> 56) as u8,
        }
    }

    /// Reads the head word at the start of `bytes`.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Option<HeadWord> {
        Some(HeadWord::decode(u64::from_le_bytes(*bytes.first_chunk()?)))
    }
}

/// What binds a checksum to its place, so that a block that was written elsewhere never verifies here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The salt of the segment file.
    pub(crate) salt: u64,
    /// Offset in the file.
    pub(crate) offset: u64,
}

/// Completes a checksum over the bytes after the sequence number with the sequence, the place and the head word.
#[inline]
pub(crate) fn finish_crc(
    body_crc: u32,
    seq: u64,
    place: Place,
    stored_bytes: u32,
    kind: u8,
) -> u32 {
    crc::crc32c_append_words(body_crc, tail_words(seq, place, stored_bytes, kind))
}

/// The checksum of a whole frame: as [`finish_crc`], in one go.
#[inline]
pub(crate) fn frame_crc(body: &[u8], seq: u64, place: Place, stored_bytes: u32, kind: u8) -> u32 {
    crc::crc32c_with_words(body, tail_words(seq, place, stored_bytes, kind))
}

#[inline]
fn tail_words(seq: u64, place: Place, stored_bytes: u32, kind: u8) -> [u64; 4] {
    let head = u64::from(stored_bytes / 8) << 32 | u64::from(kind) << 56;
    [seq, place.salt, place.offset, head]
}

/// Rounds up to the 8 bytes on which everything in a segment starts.
pub(crate) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_word_round_trips_and_zero_has_no_kind() {
        let word = HeadWord { crc: 0xdead_beef, stored_bytes: 128 << 20 >> 1, kind: 200 };
        assert_eq!(HeadWord::decode(word.encode()), word);
        assert_eq!(Kind::from_byte(HeadWord::decode(0).kind), None);
    }

    #[test]
    fn a_checksum_depends_on_place_sequence_length_and_kind() {
        let place = Place { salt: 7, offset: 4096 };
        let crc = finish_crc(1, 2, place, 32, 1);
        assert_ne!(crc, finish_crc(1, 3, place, 32, 1));
        assert_ne!(crc, finish_crc(1, 2, Place { salt: 8, ..place }, 32, 1));
        assert_ne!(crc, finish_crc(1, 2, Place { offset: 4104, ..place }, 32, 1));
        assert_ne!(crc, finish_crc(1, 2, place, 40, 1));
        assert_ne!(crc, finish_crc(1, 2, place, 32, 2));
        assert_ne!(crc, finish_crc(0, 2, place, 32, 1));
    }
}
