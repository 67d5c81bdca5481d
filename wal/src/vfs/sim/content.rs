//! The bytes of one simulated file, cheap to share and to compare.
//!
//! # Invariants
//! - `bytes` is no longer than `len`; what lies between the two reads as zeroes. So a reserved window costs nothing.
//! - `hash` is empty or the hash of exactly these bytes: everything that changes them empties it.

use std::sync::OnceLock;

use super::random::fold;

/// The content of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    len: u64,
    hash: OnceLock<u64>,
}

impl Content {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Content { len: bytes.len() as u64, bytes, hash: OnceLock::new() }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The bytes that are stored; zeroes follow up to the length.
    pub(super) fn stored(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(self.len as usize, 0);
        bytes
    }

    /// Copies bytes out; fewer than asked for only at the end of the file.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let count = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..count];
        let stored = self.bytes.get(offset as usize..).unwrap_or_default();
        let copied = stored.len().min(count);
        buf[..copied].copy_from_slice(&stored[..copied]);
        buf[copied..].fill(0);
        count
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.hash = OnceLock::new();
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        self.len = self.len.max(end as u64);
        if start >= self.bytes.len() && bytes.iter().all(|byte| *byte == 0) {
            return;
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
    }

    pub(super) fn write_zeroes(&mut self, offset: u64, len: u64) {
        self.hash = OnceLock::new();
        self.len = self.len.max(offset + len);
        let end = self.bytes.len().min((offset + len) as usize);
        if let Some(overwritten) = self.bytes.get_mut(offset as usize..end) {
            overwritten.fill(0);
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.hash = OnceLock::new();
        self.len = len;
        self.bytes.truncate(len as usize);
    }

    /// A hash of length and bytes. Computed once: contents are shared by many images.
    pub(super) fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            let end = self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            hash_bytes(self.len, &self.bytes[..end])
        })
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        let shared = self.bytes.len().min(other.bytes.len());
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        self.len == other.len
            && self.bytes[..shared] == other.bytes[..shared]
            && is_zero(&self.bytes[shared..])
            && is_zero(&other.bytes[shared..])
    }
}

/// Hashes bytes in two lanes of 16, so that the multiplications overlap.
pub(super) fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut lanes = (seed, !seed);
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        lanes.0 = fold(word(&block[..8]) ^ lanes.0, word(&block[8..16]));
        lanes.1 = fold(word(&block[16..24]) ^ lanes.1, word(&block[24..]));
    }
    let mut hash = fold(lanes.0, lanes.1.rotate_left(32));
    for rest in blocks.remainder().chunks(8) {
        let mut padded = [0; 8];
        padded[..rest.len()].copy_from_slice(rest);
        hash = fold(hash, u64::from_le_bytes(padded));
    }
    fold(hash, bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_and_implied_zeroes_are_equal_and_hash_equally() {
        let stored = Content::new(vec![1, 0, 0, 0]);
        let mut implied = Content::new(vec![1]);
        implied.set_len(4);
        assert_eq!(stored, implied);
        assert_eq!(stored.hash(), implied.hash());
        implied.set_len(5);
        assert_ne!(stored.hash(), implied.hash(), "the length counts");
    }

    #[test]
    fn every_change_empties_the_cached_hash() {
        let mut content = Content::new(vec![7; 100]);
        let mut seen = vec![content.hash()];
        content.write(3, b"x");
        seen.push(content.hash());
        content.write_zeroes(50, 2);
        seen.push(content.hash());
        content.set_len(99);
        seen.push(content.hash());
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn a_cut_file_that_grows_again_reads_as_zeroes() {
        let mut content = Content::new(vec![9; 10]);
        content.set_len(4);
        content.set_len(10);
        assert_eq!(content.to_vec(), [9, 9, 9, 9, 0, 0, 0, 0, 0, 0]);
        let mut buf = [1; 8];
        assert_eq!(content.read(&mut buf, 3), 7);
        assert_eq!(buf, [9, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(content.read(&mut buf, 11), 0);
    }
}
