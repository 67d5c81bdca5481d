//! The bytes of a manifest: a header, then edits.
//!
//! # Layout
//! All numbers least significant byte first. `edit` has the payloads of the edits.
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
//! | 48 | 8 | bytes that were durable before the file was named (in format 1.0: zero) |
//! | 56 | 4 | zero |
//! | 60 | 4 | CRC32C of the 60 bytes before |
//!
//! Edit:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | CRC32C of length, uuid, offset of the edit in the file (8 bytes) and payload |
//! | 4 | 4 | length of the payload in bytes, 1 to 65,536 (in format 1.0: to 1,024) |
//! | 8 | length | payload |
//!
//! Incompatible features: bit 0, `COMPACTED_SEGMENTS`, is set while the manifest names compacted or retired segments.
//!
//! Versions: 1.0 knew keyspaces only. 1.1 has longer edits, jobs, holds and images; an opening that may write makes it
//! of 1.0 by renewing the manifest.
//!
//! # Failure
//! An edit that is not valid ends the manifest if a torn write explains it: it is no longer than one edit, no valid edit
//! follows, and the header does not call it durable. Otherwise the file is damaged.

use std::ops::Range;
use std::path::Path;

use super::edit::{Edit, Parsed};
use crate::error::{Error, ErrorKind, Result};

const MAGIC: &[u8; 8] = b"CORTENMF";
const VERSION_MAJOR: u16 = 1;
const VERSION_MINOR: u16 = 1;
/// Incompatible: data lives in compacted segments, or parts of the log are gone.
pub(super) const COMPACTED_SEGMENTS: u32 = 1;
/// The incompatible features that this version knows.
const INCOMPAT_KNOWN: u32 = COMPACTED_SEGMENTS;
/// The compatible features that this version writes.
const COMPAT_WRITTEN: u32 = 0;
/// Hash number 1: xxh3-64 with the seed of the database, the keyspace mixed into it.
pub(super) const HASH_ID: u32 = 1;

pub(super) const HEADER_BYTES: usize = 64;
pub(super) const EDIT_HEAD_BYTES: usize = 8;
/// LIMIT: the longest payload of an edit; it bounds the search behind a torn one.
pub(super) const EDIT_PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// LIMIT: the same in format 1.0.
const EDIT_PAYLOAD_BYTES_MAX_1_0: usize = 1024;

/// What never changes in the life of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uuid: [u8; 16],
    pub(crate) hash_id: u32,
    pub(crate) hash_seed: u64,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) identity: Identity,
    /// The incompatible features.
    pub(super) features: u32,
    /// Bytes from the start of the file that no torn write can have touched.
    pub(super) durable_bytes: u64,
    payload_bytes_max: usize,
}

impl Header {
    /// That of a manifest of today.
    pub(super) fn new(identity: Identity, features: u32, durable_bytes: u64) -> Self {
        let payload_bytes_max = EDIT_PAYLOAD_BYTES_MAX;
        Header { identity, features, durable_bytes, payload_bytes_max }
    }
}

pub(super) fn encode_header(header: &Header) -> Vec<u8> {
    let identity = &header.identity;
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION_MAJOR.to_le_bytes());
    bytes.extend_from_slice(&VERSION_MINOR.to_le_bytes());
    bytes.extend_from_slice(&header.features.to_le_bytes());
    bytes.extend_from_slice(&COMPAT_WRITTEN.to_le_bytes());
    bytes.extend_from_slice(&identity.hash_id.to_le_bytes());
    bytes.extend_from_slice(&identity.hash_seed.to_le_bytes());
    bytes.extend_from_slice(&identity.uuid);
    bytes.extend_from_slice(&header.durable_bytes.to_le_bytes());
    bytes.resize(HEADER_BYTES - 4, 0);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Appends the edit with this payload, which will stand at `offset` of the file.
pub(super) fn encode_edit(out: &mut Vec<u8>, identity: &Identity, offset: u64, payload: &[u8]) {
    assert!(payload.len() <= EDIT_PAYLOAD_BYTES_MAX, "the caller has seen that it is not longer");
    out.extend_from_slice(&edit_checksum(identity, offset, payload).to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(payload);
}

pub(super) fn edit_checksum(identity: &Identity, offset: u64, payload: &[u8]) -> u32 {
    let checksum = crc32c::crc32c(&(payload.len() as u32).to_le_bytes());
    let checksum = crc32c::crc32c_append(checksum, &identity.uuid);
    let checksum = crc32c::crc32c_append(checksum, &offset.to_le_bytes());
    crc32c::crc32c_append(checksum, payload)
}

/// Reads a manifest; `file` is for the errors.
///
/// `take` is given each edit and its offset, in their order.
pub(super) fn decode(
    file: &Path,
    bytes: &[u8],
    mut take: impl FnMut(usize, Edit) -> Result<()>,
) -> Result<Header> {
    let header = decode_header(file, bytes)?;
    let mut offset = HEADER_BYTES;
    while offset < bytes.len() {
        let Some(payload) = valid_edit(&header, bytes, offset) else {
            check_torn(file, &header, bytes, offset)?;
            break;
        };
        let next = payload.end;
        if let Some(edit) = decode_payload(file, offset, &bytes[payload])? {
            if edit.features() & !header.features != 0 {
                let found = "an edit of a feature that the header does not name".into();
                return Err(corruption(file, offset, "an edit of the features named", found));
            }
            take(offset, edit)?;
        }
        offset = next;
    }
    if (offset as u64) < header.durable_bytes {
        let found = "none, and no write was under way".into();
        return Err(corruption(file, offset, "an edit that was durable", found));
    }
    Ok(header)
}

pub(super) fn decode_header(file: &Path, bytes: &[u8]) -> Result<Header> {
    let damaged = |offset, expected: &str, found: String| corruption(file, offset, expected, found);
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(0, "a header of 64 bytes", format!("a file of {} bytes", bytes.len())));
    };
    if !header.starts_with(MAGIC) {
        return Err(damaged(0, "the magic CORTENMF", format!("{}", header[..8].escape_ascii())));
    }
    // Before the checksum: a newer version may keep it elsewhere.
    let [major, minor] = [8, 10].map(|at| u16::from_le_bytes(field(header, at)));
    if major > VERSION_MAJOR {
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
    let features = u32::from_le_bytes(field(header, 12));
    if features & !INCOMPAT_KNOWN != 0 {
        return Err(Error::unsupported(format!(
            "{} uses features that this build does not know (bits {:#x}); use a newer version",
            file.display(),
            features & !INCOMPAT_KNOWN
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
    let payload_bytes_max =
        if minor == 0 { EDIT_PAYLOAD_BYTES_MAX_1_0 } else { EDIT_PAYLOAD_BYTES_MAX };
    let durable_bytes = u64::from_le_bytes(field(header, 48));
    Ok(Header { identity, features, durable_bytes, payload_bytes_max })
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// Where the payload of the edit at `offset` lies, if there is a valid one.
fn valid_edit(header: &Header, bytes: &[u8], offset: usize) -> Option<Range<usize>> {
    let head = bytes.get(offset..)?.first_chunk::<EDIT_HEAD_BYTES>()?;
    let [c0, c1, c2, c3, l0, l1, l2, l3] = *head;
    let payload_bytes = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if !(1..=header.payload_bytes_max).contains(&payload_bytes) {
        return None;
    }
    let start = offset + EDIT_HEAD_BYTES;
    let range = start..start + payload_bytes;
    let payload = bytes.get(range.clone())?;
    let stored = u32::from_le_bytes([c0, c1, c2, c3]);
    (edit_checksum(&header.identity, offset as u64, payload) == stored).then_some(range)
}

/// Tells a torn last edit from damage.
fn check_torn(file: &Path, header: &Header, bytes: &[u8], offset: usize) -> Result<()> {
    let rest_bytes = bytes.len() - offset;
    if rest_bytes > EDIT_HEAD_BYTES + header.payload_bytes_max {
        let found = format!("{rest_bytes} bytes that are none, more than a torn write leaves");
        return Err(corruption(file, offset, "an edit", found));
    }
    match (offset + 1..bytes.len()).find(|&at| valid_edit(header, bytes, at).is_some()) {
        Some(at) => {
            let found = format!("bytes that are none, with an edit behind them at byte {at}");
            Err(corruption(file, offset, "an edit", found))
        }
        None => Ok(()),
    }
}

fn decode_payload(file: &Path, offset: usize, payload: &[u8]) -> Result<Option<Edit>> {
    match Edit::decode(payload) {
        Parsed::Edit(edit) => Ok(Some(edit)),
        Parsed::PassedOver => Ok(None),
        Parsed::Unknown(kind) => Err(Error::unsupported(format!(
            "{} holds an edit of kind {kind} at byte {offset}, which this build does not know; use a newer version",
            file.display()
        ))),
        Parsed::Malformed(kind) => {
            let expected = format!("the fields of an edit of kind {kind}");
            let found = format!("{} bytes that are not", payload.len());
            Err(corruption(file, offset, &expected, found))
        }
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
