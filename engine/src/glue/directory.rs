//! Key directories: which keys a segment may hold, so that a tombstone can be forgotten when no other one does.
//!
//! # Layout
//! A file beside the segment, its number and `.keys`: the upper half of the hash of every record, sorted, in blocks of
//! 4 KiB. The last 4 bytes of a block are the CRC32C of what is before them; the last block is filled up with its last hash.
//! Hashes are spread evenly, so a look-up guesses the block and reads one or two.
//!
//! # Invariants
//! - Directories are derived data: written when they are first asked for, removed with their segment and at each open. Nothing
//!   is synced, and nothing is trusted after an open.
//! - "Not there" is certain. "Maybe there" is wrong for one key in 2^32 by the records of the segment.
//!
//! # Failure
//! A directory that cannot be written, read or trusted answers "maybe": a tombstone then stays where it is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortenkv_wal::vfs::{FileKind, OpenMode, Vfs, VfsFile, read_full_at, write_all_at};

const SUFFIX: &str = ".keys";
const BLOCK_BYTES: usize = 4096;
const CRC_BYTES: usize = 4;
/// Hashes of a block.
const BLOCK_HASHES: usize = (BLOCK_BYTES - CRC_BYTES) / 4;

/// The directory of one segment.
pub(super) struct KeyDirectory {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    file: Arc<dyn VfsFile>,
    blocks: usize,
}

impl KeyDirectory {
    /// Writes the directory of a segment with these hashes.
    pub(super) fn write(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        segment: u64,
        hashes: impl Iterator<Item = u64>,
    ) -> io::Result<KeyDirectory> {
        let mut sorted: Vec<u32> = hashes.map(upper).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let mut bytes = Vec::with_capacity(sorted.len().div_ceil(BLOCK_HASHES) * BLOCK_BYTES);
        for block in sorted.chunks(BLOCK_HASHES) {
            let start = bytes.len();
            let filled = block.iter().chain(std::iter::repeat(&block[block.len() - 1]));
            bytes.extend(filled.take(BLOCK_HASHES).flat_map(|hash| hash.to_le_bytes()));
            let checksum = crc32c::crc32c(&bytes[start..]);
            bytes.extend_from_slice(&checksum.to_le_bytes());
        }
        let path = dir.join(file_name(segment));
        let file = vfs.open(&path, OpenMode::CreateNew)?;
        let blocks = bytes.len() / BLOCK_BYTES;
        let directory = KeyDirectory { vfs: Arc::clone(vfs), path, file, blocks };
        // DURABILITY: none, see above. On an error the drop removes the file.
        write_all_at(directory.file.as_ref(), &bytes, 0)?;
        Ok(directory)
    }

    /// False if no record of the segment has this hash.
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        self.search(upper(hash)).unwrap_or(true)
    }

    fn search(&self, hash: u32) -> io::Result<bool> {
        let (mut low, mut high) = (0, self.blocks);
        // The first guess is where an even spread puts it; from there the halves are tried.
        let mut guess = ((u64::from(hash) * self.blocks as u64) >> 32) as usize;
        while low < high {
            let block = self.read_block(guess)?;
            let (Some(first), Some(last)) = (block.first(), block.last()) else { break };
            if hash < *first {
                high = guess;
                guess = if high > low { high - 1 } else { low };
            } else if hash > *last {
                low = guess + 1;
                guess = low;
            } else {
                return Ok(block.binary_search(&hash).is_ok());
            }
        }
        Ok(false)
    }

    fn read_block(&self, block: usize) -> io::Result<Vec<u32>> {
        let mut bytes = [0; BLOCK_BYTES];
        let read = read_full_at(self.file.as_ref(), &mut bytes, (block * BLOCK_BYTES) as u64)?;
        let (hashes, checksum) = bytes.split_at(BLOCK_BYTES - CRC_BYTES);
        if read < BLOCK_BYTES || checksum != crc32c::crc32c(hashes).to_le_bytes() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a damaged key directory"));
        }
        Ok(hashes.as_chunks::<4>().0.iter().map(|hash| u32::from_le_bytes(*hash)).collect())
    }
}

impl Drop for KeyDirectory {
    fn drop(&mut self) {
        // What stays is removed by the next open.
        let _ = self.vfs.remove_file(&self.path);
    }
}

/// Removes what an earlier process left in a directory, whose lock the caller holds.
pub(super) fn remove_leftovers(vfs: &dyn Vfs, dir: &Path) {
    // What cannot be listed or removed is in nobody's way, but for its own segment: see `write`.
    for entry in vfs.list(dir).unwrap_or_default() {
        if entry.kind == FileKind::File && is_ours(&entry.name) {
            let _ = vfs.remove_file(&dir.join(&entry.name));
        }
    }
}

fn upper(hash: u64) -> u32 {
    (hash >> 32) as u32
}

fn file_name(segment: u64) -> String {
    format!("{segment:016x}{SUFFIX}")
}

fn is_ours(name: &str) -> bool {
    let digits = name.strip_suffix(SUFFIX).unwrap_or_default();
    digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use cortenkv_wal::vfs::OsVfs;

    use super::*;

    fn hash(n: u64) -> u64 {
        n.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn what_is_there_is_found_and_nearly_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
        for keys in [0, 1, 2, BLOCK_HASHES as u64, 50_000] {
            let directory =
                KeyDirectory::write(&vfs, dir.path(), keys, (0..keys).map(hash)).unwrap();
            assert!((0..keys).all(|n| directory.may_hold(hash(n))), "{keys} keys");
            let wrong = (keys..keys + 50_000).filter(|n| directory.may_hold(hash(*n))).count();
            assert!(wrong < 10, "{wrong} of 50,000 with {keys} keys");
            for edge in [0, u64::MAX] {
                directory.may_hold(edge);
            }
        }
        assert!(vfs.list(dir.path()).unwrap().is_empty(), "removed with the value");
    }

    // A spread that is not even costs reads and no answers.
    #[test]
    fn keys_of_similar_hashes_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
        let close = |n: u64| (u64::from(u32::MAX / 2) + n * 2) << 32;
        let directory = KeyDirectory::write(&vfs, dir.path(), 1, (0..10_000).map(close)).unwrap();
        assert!((0..10_000).all(|n| directory.may_hold(close(n))));
        assert!(!(0..10_000).any(|n| directory.may_hold(close(n) + (1 << 32))));
    }

    #[test]
    fn a_damaged_directory_says_maybe() {
        let dir = tempfile::tempdir().unwrap();
        let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
        let directory = KeyDirectory::write(&vfs, dir.path(), 1, (0..100).map(hash)).unwrap();
        assert!(!directory.may_hold(hash(1_000)));
        let file = vfs.open(&dir.path().join(file_name(1)), OpenMode::Write).unwrap();
        file.write_at(&[0xff], 17).unwrap();
        assert!(directory.may_hold(hash(1_000)));
    }
}
