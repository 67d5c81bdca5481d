//! One put or delete.
//!
//! ```text
//! 0   head word   8  checksum, length, kind; stored last
//! 8   sequence    8  0 inside a compressed group: the group's
//! 16  flags       1  bit 0 delete, bit 1 has an expiry, bit 2 part of a group
//! 17  keyspace, key length, value length: varints; expiry: 6 bytes where flagged
//!     key, value, zeroes up to a multiple of 8
//! ```
//! The checksum covers everything from the flags on, then sequence, salt, offset, length and kind: the long part can be
//! computed before the place is known.

use super::{HeadWord, Kind, Place, crc, finish_crc, padded, varint};

/// Head word and sequence number: the part that is finished when the place in the log is known.
pub(crate) const PREFIX_BYTES: usize = 16;

/// Bytes of a record before its key, at most: prefix, flags, three varints, expiry.
const FRONT_BYTES_MAX: usize = PREFIX_BYTES + 1 + 15 + 6;

/// More than a record ever needs beyond its key and value: prefix, flags, three varints, expiry, padding.
pub(crate) const RECORD_OVERHEAD_BYTES_MAX: usize = FRONT_BYTES_MAX + 7;

const FLAG_DELETE: u8 = 1;
const FLAG_EXPIRY: u8 = 2;
const FLAG_IN_GROUP: u8 = 4;

/// Expiry is 48 bits of milliseconds: the year 10889. Later moments saturate.
pub(crate) const EXPIRY_MS_MAX: u64 = (1 << 48) - 1;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordFields<'a> {
    pub(crate) keyspace: u32,
    pub(crate) delete: bool,
    pub(crate) in_group: bool,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Bytes of an encoded record, padding included.
#[inline]
pub(crate) fn record_bytes(fields: &RecordFields<'_>) -> usize {
    let RecordFields { keyspace, key, value, expires_at_ms, .. } = *fields;
    let numbers = [keyspace, key.len() as u32, value.len() as u32].map(varint::encoded_bytes);
    let expiry = if expires_at_ms.is_some() { 6 } else { 0 };
    padded(PREFIX_BYTES + 1 + numbers.iter().sum::<usize>() + expiry + key.len() + value.len())
}

/// Appends a record whose prefix is unfinished: the checksum field holds the checksum of the body, the sequence is 0.
/// Returns where its key starts in `out`.
pub(crate) fn encode_record(out: &mut Vec<u8>, fields: &RecordFields<'_>) -> usize {
    let start = out.len();
    out.reserve(FRONT_BYTES_MAX + fields.key.len() + fields.value.len() + 8);
    // Pieces of a fixed length, of which what is too much is cut off: a short copy of any length takes a call.
    let front = Front::of(fields);
    out.extend_from_slice(&front.bytes);
    out.truncate(start + front.len);
    out.extend_from_slice(fields.key);
    out.extend_from_slice(fields.value);
    let stored = padded(out.len() - start);
    out.extend_from_slice(&[0; 8]);
    out.truncate(start + stored);
    seal_body(out, start, stored);
    start + front.len
}

/// What stands before the key: prefix, flags, three varints, expiry.
struct Front {
    bytes: [u8; FRONT_BYTES_MAX],
    len: usize,
}

impl Front {
    #[inline]
    fn of(fields: &RecordFields<'_>) -> Front {
        let mut front = Front { bytes: [0; FRONT_BYTES_MAX], len: PREFIX_BYTES };
        let mut flags = 0;
        flags |= if fields.delete { FLAG_DELETE } else { 0 };
        flags |= if fields.expires_at_ms.is_some() { FLAG_EXPIRY } else { 0 };
        flags |= if fields.in_group { FLAG_IN_GROUP } else { 0 };
        front.push(flags);
        varint::encode(fields.keyspace, |byte| front.push(byte));
        varint::encode(fields.key.len() as u32, |byte| front.push(byte));
        varint::encode(fields.value.len() as u32, |byte| front.push(byte));
        if let Some(at_ms) = fields.expires_at_ms {
            let bytes = at_ms.min(EXPIRY_MS_MAX).to_le_bytes();
            bytes.into_iter().take(6).for_each(|byte| front.push(byte));
        }
        front
    }

    /// Adds a byte; there is room for all of them.
    #[inline]
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }
}

/// Sets or clears "part of a group" of the unfinished record at `start`, and its body checksum with it.
pub(crate) fn set_in_group(out: &mut [u8], start: usize, in_group: bool) {
    let Some(stored) =
        out.get(start..).and_then(HeadWord::read).map(|head| head.stored_bytes as usize)
    else {
        return;
    };
    if let Some(flags) = out.get_mut(start + PREFIX_BYTES) {
        *flags = if in_group { *flags | FLAG_IN_GROUP } else { *flags & !FLAG_IN_GROUP };
    }
    seal_body(out, start, stored);
}

fn seal_body(out: &mut [u8], start: usize, stored: usize) {
    let body = out.get(start + PREFIX_BYTES..start + stored).unwrap_or_default();
    let head =
        HeadWord { crc: crc::crc32c(body), stored_bytes: stored as u32, kind: Kind::Record as u8 };
    if let Some(prefix) = out.get_mut(start..start + HeadWord::BYTES) {
        prefix.copy_from_slice(&head.encode().to_le_bytes());
    }
}

/// The finished head word of an unfinished record or group.
pub(crate) fn finish_head(unfinished: HeadWord, seq: u64, place: Place) -> HeadWord {
    let crc = finish_crc(unfinished.crc, seq, place, unfinished.stored_bytes, unfinished.kind);
    HeadWord { crc, ..unfinished }
}

/// Reads the fields of a record of exactly `bytes` (its stored length), whose checksum was verified by the caller.
#[inline]
pub(crate) fn parse_record(bytes: &[u8]) -> Option<(u64, RecordFields<'_>)> {
    let (prefix, mut body) = bytes.split_at_checked(PREFIX_BYTES)?;
    let seq = u64::from_le_bytes(*prefix.last_chunk()?);
    let (&flags, rest) = body.split_first()?;
    body = rest;
    let keyspace = varint::decode(&mut body)?;
    let key_bytes = varint::decode(&mut body)? as usize;
    let value_bytes = varint::decode(&mut body)? as usize;
    let expires_at_ms = if flags & FLAG_EXPIRY != 0 {
        let (low, rest) = body.split_first_chunk::<6>()?;
        body = rest;
        let mut at_ms = [0; 8];
        at_ms.first_chunk_mut::<6>()?.copy_from_slice(low);
        Some(u64::from_le_bytes(at_ms))
    } else {
        None
    };
    let (key, rest) = body.split_at_checked(key_bytes)?;
    let (value, padding) = rest.split_at_checked(value_bytes)?;
    let known = flags & !(FLAG_DELETE | FLAG_EXPIRY | FLAG_IN_GROUP) == 0;
    let delete = flags & FLAG_DELETE != 0;
    let in_group = flags & FLAG_IN_GROUP != 0;
    let sound = known && padding.len() < 8 && (value.is_empty() || !delete);
    sound.then_some((seq, RecordFields { keyspace, delete, in_group, expires_at_ms, key, value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(fields: RecordFields<'_>) {
        let mut out = vec![0xaa; 8];
        encode_record(&mut out, &fields);
        let record = &out[8..];
        assert!(record.len().is_multiple_of(8));
        assert!(record.len() - fields.key.len() - fields.value.len() <= RECORD_OVERHEAD_BYTES_MAX);
        assert_eq!(parse_record(record), Some((0, fields)));
    }

    #[test]
    fn records_round_trip() {
        let put = RecordFields {
            keyspace: 0,
            delete: false,
            in_group: false,
            expires_at_ms: None,
            key: b"key",
            value: b"value",
        };
        round_trip(put);
        round_trip(RecordFields { key: b"", value: b"", ..put });
        round_trip(RecordFields { expires_at_ms: Some(EXPIRY_MS_MAX), keyspace: u32::MAX, ..put });
        round_trip(RecordFields { delete: true, value: b"", in_group: true, ..put });
        round_trip(RecordFields { key: &[1; 65_536], value: &[2; 100_000], ..put });
    }

    #[test]
    fn lengths_beyond_the_record_are_refused() {
        let fields = RecordFields {
            keyspace: 1,
            delete: false,
            in_group: false,
            expires_at_ms: None,
            key: b"0123456789",
            value: b"0123456789",
        };
        let mut out = Vec::new();
        encode_record(&mut out, &fields);
        for cut in 0..out.len() - 7 {
            assert_eq!(parse_record(&out[..cut]), None, "cut at {cut}");
        }
        out[18] = 0x7f;
        assert_eq!(parse_record(&out), None, "a key longer than the record");
    }

    #[test]
    fn the_group_flag_can_be_set_after_encoding() {
        let fields = RecordFields {
            keyspace: 1,
            delete: false,
            in_group: false,
            expires_at_ms: None,
            key: b"k",
            value: b"v",
        };
        let mut later = Vec::new();
        encode_record(&mut later, &fields);
        set_in_group(&mut later, 0, true);
        let mut at_once = Vec::new();
        encode_record(&mut at_once, &RecordFields { in_group: true, ..fields });
        assert_eq!(later, at_once);
    }
}
