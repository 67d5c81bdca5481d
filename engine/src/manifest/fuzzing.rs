//! The reader of manifests alone, and checksums made right again: for the fuzzer.
//!
//! Not part of the interface of the crate: it may change at any time.

use std::path::Path;

use super::format::{EDIT_HEAD_BYTES, HEADER_BYTES, Header};
use super::{Identity, encode, format, replay};
use crate::error::ErrorKind;

/// The header of a manifest of today, with these incompatible features.
pub fn header(features: u32) -> Vec<u8> {
    let identity = Identity { uuid: [7; 16], hash_id: format::HASH_ID, hash_seed: 42 };
    format::encode_header(&Header::new(identity, features, 0))
}

/// Makes the checksums of a header and of the edits behind it right, up to the first length that cannot be.
pub fn refinish(file: &mut [u8]) {
    let Some((header, _)) = file.split_first_chunk_mut::<HEADER_BYTES>() else { return };
    let checksum = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    header[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
    let Ok(Header { identity, .. }) = format::decode_header(Path::new("MANIFEST"), header) else {
        return;
    };
    let mut offset = HEADER_BYTES;
    while let Some(&[_, _, _, _, l0, l1, l2, l3]) =
        file.get(offset..).and_then(|rest| rest.first_chunk::<EDIT_HEAD_BYTES>())
    {
        let start = offset + EDIT_HEAD_BYTES;
        let end = start + u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let Some(payload) = file.get(start..end) else { return };
        let checksum = format::edit_checksum(&identity, offset as u64, payload);
        file[offset..offset + 4].copy_from_slice(&checksum.to_le_bytes());
        offset = end;
    }
}

/// Reads a manifest; true when it is sound. What it says is then written down anew, and reads back the same.
///
/// # Panics
/// When it does not, or when a refusal has no place in the file.
pub fn manifest(file: &[u8]) -> bool {
    let path = Path::new("MANIFEST");
    let (header, state) = match replay(path, file) {
        Ok(read) => read,
        Err(error) => {
            match error.kind() {
                ErrorKind::Corruption { offset, .. } => assert!(*offset <= file.len() as u64),
                kind => assert_eq!(*kind, ErrorKind::Unsupported, "{error}"),
            }
            return false;
        }
    };
    assert!(state.features() & !header.features == 0);
    let (renewed, bytes) = encode(&header.identity, &state, state.features());
    assert_eq!(replay(path, &bytes).expect("what was written reads back"), (renewed, state));
    true
}
