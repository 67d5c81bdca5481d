//! The bytes of a manifest: a header, then edits.
//!
//! # Layout
//! All numbers least significant byte first.
//!
//! Header, 64 bytes:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `CORTENMF` |
//! | 8 | 2 + 2 | format version, major and minor |
//! | 12 | 4 | incompatible feature bits: an unknown one forbids opening |
//! | 16 | 4 | compatible feature bits |
//! | 20 | 4 | hash id |
//! | 24 | 8 | hash seed |
//! | 32 | 16 | uuid of the database |
//! | 48 | 12 | zero |
//! | 60 | 4 | CRC32C of the 60 bytes before |
//!
//! Edit:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | CRC32C of length, uuid, offset of the edit in the file (8 bytes) and payload |
//! | 4 | 4 | length of the payload in bytes, 1 to 1024 |
//! | 8 | length | payload: kind (1 byte) and what belongs to it |
//!
//! Kinds: 1 = keyspace created {id: 4 bytes, name: the rest}. Kinds from 128 on are passed over by who does not know
//! them; any other unknown kind forbids opening.
//!
//! # Failure
//! An edit that is not valid ends the manifest if a torn write explains it: it is no longer than one edit, and no valid
//! edit follows. Otherwise the file is damaged.

use std::ops::Range;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::record::KeyspaceId;

const MAGIC: &[u8; 8] = b"CORTENMF";
const VERSION_MAJOR: u16 = 1;
const VERSION_MINOR: u16 = 0;
/// The incompatible features that this version knows.
const INCOMPAT_KNOWN: u32 = 0;
/// The compatible features that this version writes.
const COMPAT_WRITTEN: u32 = 0;
/// Hash number 1: xxh3-64 with the seed of the database, the keyspace mixed into it.
pub(super) const HASH_ID: u32 = 1;

pub(super) const HEADER_BYTES: usize = 64;
const EDIT_HEAD_BYTES: usize = 8;
/// LIMIT: the longest payload of an edit; it bounds the search behind a torn one.
const EDIT_PAYLOAD_BYTES_MAX: usize = 1024;
const KIND_KEYSPACE_CREATED: u8 = 1;
const KIND_OPTIONAL_MIN: u8 = 128;

/// What never changes in the life of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uuid: [u8; 16],
    pub(crate) hash_id: u32,
    pub(crate) hash_seed: u64,
}

/// One change that a manifest notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    KeyspaceCreated { id: KeyspaceId, name: String },
}

pub(super) fn encode_header(identity: &Identity) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION_MAJOR.to_le_bytes());
    bytes.extend_from_slice(&VERSION_MINOR.to_le_bytes());
    bytes.extend_from_slice(&INCOMPAT_KNOWN.to_le_bytes());
    bytes.extend_from_slice(&COMPAT_WRITTEN.to_le_bytes());
    bytes.extend_from_slice(&identity.hash_id.to_le_bytes());
    bytes.extend_from_slice(&identity.hash_seed.to_le_bytes());
    bytes.extend_from_slice(&identity.uuid);
    bytes.resize(HEADER_BYTES - 4, 0);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Appends an edit that will stand at `offset` of the file.
pub(super) fn encode_edit(out: &mut Vec<u8>, identity: &Identity, offset: u64, edit: &Edit) {
    let mut payload = Vec::new();
    match edit {
        Edit::KeyspaceCreated { id, name } => {
            payload.push(KIND_KEYSPACE_CREATED);
            payload.extend_from_slice(&id.to_le_bytes());
            payload.extend_from_slice(name.as_bytes());
        }
    }
    assert!(payload.len() <= EDIT_PAYLOAD_BYTES_MAX, "names are bounded");
    out.extend_from_slice(&edit_checksum(identity, offset, &payload).to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&payload);
}

fn edit_checksum(identity: &Identity, offset: u64, payload: &[u8]) -> u32 {
    let checksum = crc32c::crc32c(&(payload.len() as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(checksum, &identity.uuid);
    let checksum = crc32c::crc32c_append(checksum, &offset.to_le_bytes());
    crc32c::crc32c_append(checksum, payload)
}

/// Reads a manifest; `file` is for the errors.
pub(super) fn decode(file: &Path, bytes: &[u8]) -> Result<(Identity, Vec<Edit>)> {
    let identity = decode_header(file, bytes)?;
    let mut edits = Vec::new();
    let mut offset = HEADER_BYTES;
    while offset < bytes.len() {
        let Some(payload) = valid_edit(&identity, bytes, offset) else {
            check_torn(file, &identity, bytes, offset)?;
            break;
        };
        let next = payload.end;
        if let Some(payload) = bytes.get(payload) {
            edits.extend(decode_payload(file, offset, payload)?);
        }
        offset = next;
    }
    Ok((identity, edits))
}

fn decode_header(file: &Path, bytes: &[u8]) -> Result<Identity> {
    let damaged = |offset, expected: &str, found: String| corruption(file, offset, expected, found);
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(0, "a header of 64 bytes", format!("a file of {} bytes", bytes.len())));
    };
    if !header.starts_with(MAGIC) {
        return Err(damaged(0, "the magic CORTENMF", format!("{}", header[..8].escape_ascii())));
    }
    // Before the checksum: a newer version may keep it elsewhere.
    let major = u16::from_le_bytes(field(header, 8));
    if major > VERSION_MAJOR {
        let minor = u16::from_le_bytes(field(header, 10));
        return Err(Error::unsupported(format!(
            "{} has format version {major}.{minor}, and this build reads up to {VERSION_MAJOR}; use a newer version",
            file.display()
        )));
    }
    let (stored, computed) =
        (u32::from_le_bytes(field(header, 60)), crc32c::crc32c(&header[..HEADER_BYTES - 4]));
    if stored != computed {
        return Err(damaged(60, &format!("checksum {computed:#010x}"), format!("{stored:#010x}")));
    }
    let incompat = u32::from_le_bytes(field(header, 12));
    if incompat & !INCOMPAT_KNOWN != 0 {
        return Err(Error::unsupported(format!(
            "{} uses features that this build does not know (bits {:#x}); use a newer version",
            file.display(),
            incompat & !INCOMPAT_KNOWN
        )));
    }
    let identity = Identity {
        uuid: field(header, 32),
        hash_id: u32::from_le_bytes(field(header, 20)),
        hash_seed: u64::from_le_bytes(field(header, 24)),
    };
    if identity.hash_id != HASH_ID {
        return Err(Error::unsupported(format!(
            "{} uses hash number {}, and this build knows {HASH_ID} only; use a newer version",
            file.display(),
            identity.hash_id
        )));
    }
    Ok(identity)
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// Where the payload of the edit at `offset` lies, if there is a valid one.
fn valid_edit(identity: &Identity, bytes: &[u8], offset: usize) -> Option<Range<usize>> {
    let head = bytes.get(offset..)?.first_chunk::<EDIT_HEAD_BYTES>()?;
    let [c0, c1, c2, c3, l0, l1, l2, l3] = *head;
    let payload_bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if !(1..=EDIT_PAYLOAD_BYTES_MAX).contains(&payload_bytes) {
        return None;
    }
    let start = offset + EDIT_HEAD_BYTES;
    let range = start..start + payload_bytes;
    let payload = bytes.get(range.clone())?;
    let stored = u32::from_le_bytes([c0, c1, c2, c3]);
    (edit_checksum(identity, offset as u64, payload) == stored).then_some(range)
}

/// Tells a torn last edit from damage.
fn check_torn(file: &Path, identity: &Identity, bytes: &[u8], offset: usize) -> Result<()> {
    let rest_bytes = bytes.len() - offset;
    if rest_bytes > EDIT_HEAD_BYTES + EDIT_PAYLOAD_BYTES_MAX {
        let found = format!("{rest_bytes} bytes that are none, more than a torn write leaves");
        return Err(corruption(file, offset, "an edit", found));
    }
    match (offset + 1..bytes.len()).find(|&at| valid_edit(identity, bytes, at).is_some()) {
        Some(at) => {
            let found = format!("bytes that are none, with an edit behind them at byte {at}");
            Err(corruption(file, offset, "an edit", found))
        }
        None => Ok(()),
    }
}

fn decode_payload(file: &Path, offset: usize, payload: &[u8]) -> Result<Option<Edit>> {
    match payload {
        [KIND_KEYSPACE_CREATED, i0, i1, i2, i3, name @ ..] => match std::str::from_utf8(name) {
            Ok(name) => Ok(Some(Edit::KeyspaceCreated {
                id: KeyspaceId::from_le_bytes([*i0, *i1, *i2, *i3]),
                name: name.to_owned(),
            })),
            Err(_) => {
                Err(corruption(file, offset, "a keyspace name in UTF-8", "other bytes".into()))
            }
        },
        [kind, ..] if *kind >= KIND_OPTIONAL_MIN => Ok(None),
        _ => Err(Error::unsupported(format!(
            "{} holds an edit at byte {offset} that this build does not know; use a newer version",
            file.display()
        ))),
    }
}

pub(super) fn corruption(file: &Path, offset: usize, expected: &str, found: String) -> Error {
    let context = format!(
        "{} is damaged at byte {offset}: expected {expected}, found {found}; restore it from a copy",
        file.display()
    );
    let expected = expected.to_owned();
    let kind =
        ErrorKind::Corruption { file: file.to_path_buf(), offset: offset as u64, expected, found };
    Error::new(kind, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Identity, Vec<Edit>, Vec<u8>, Vec<usize>) {
        let identity = Identity { uuid: [7; 16], hash_id: HASH_ID, hash_seed: 42 };
        let edits: Vec<Edit> = [(1, "users"), (2, "a name with spaces"), (3, "ü")]
            .map(|(id, name)| Edit::KeyspaceCreated { id, name: name.into() })
            .into();
        let mut bytes = encode_header(&identity);
        let mut starts = Vec::new();
        for edit in &edits {
            starts.push(bytes.len());
            let offset = bytes.len() as u64;
            encode_edit(&mut bytes, &identity, offset, edit);
        }
        (identity, edits, bytes, starts)
    }

    fn read(bytes: &[u8]) -> Result<(Identity, Vec<Edit>)> {
        decode(Path::new("MANIFEST-000001"), bytes)
    }

    #[test]
    fn a_manifest_reads_back() {
        let (identity, edits, bytes, _) = sample();
        assert_eq!(read(&bytes).unwrap(), (identity, edits));
    }

    #[test]
    fn a_manifest_cut_anywhere_keeps_the_whole_edits_or_is_refused() {
        let (identity, edits, bytes, starts) = sample();
        for len in 0..bytes.len() {
            match read(&bytes[..len]) {
                Ok(read) => {
                    let whole = starts[1..].iter().filter(|&&start| start <= len).count();
                    assert_eq!(read, (identity, edits[..whole].to_vec()), "cut at {len}");
                }
                Err(error) => assert!(len < HEADER_BYTES && error.is_corruption(), "cut at {len}"),
            }
        }
    }

    #[test]
    fn a_flipped_bit_is_damage_unless_it_is_in_the_last_edit() {
        let (identity, edits, bytes, starts) = sample();
        let last = starts[starts.len() - 1];
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            match read(&flipped) {
                Ok(read) => {
                    assert!(bit / 8 >= last, "bit {bit} passed unseen");
                    assert_eq!(read, (identity, edits[..edits.len() - 1].to_vec()));
                }
                Err(error) => assert!(matches!(error.code(), 2 | 12), "bit {bit}: {error}"),
            }
        }
    }

    #[test]
    fn a_newer_major_and_an_unknown_feature_are_unsupported() {
        let (_, _, bytes, _) = sample();
        let mut newer = bytes.clone();
        newer[8] = VERSION_MAJOR as u8 + 1;
        assert_eq!(read(&newer).unwrap_err().code(), 12);
        let mut feature = bytes[..HEADER_BYTES - 4].to_vec();
        feature[12] = 1;
        feature.extend_from_slice(&crc32c::crc32c(&feature).to_le_bytes());
        assert_eq!(read(&feature).unwrap_err().code(), 12);
    }

    #[test]
    fn an_edit_copied_to_another_place_is_not_valid_there() {
        let (_, _, mut bytes, starts) = sample();
        let copy = bytes[starts[0]..starts[1]].to_vec();
        bytes.extend_from_slice(&copy);
        assert_eq!(read(&bytes).unwrap().1.len(), 3);
    }
}
