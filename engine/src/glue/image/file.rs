//! The file of an image: blocks of any kind, each with its checksum, and a table of them at the end.
//!
//! # Layout
//! ```text
//! header: 64   magic 8 | version 4 | hash id 4 | uuid of the database 16 | hash seed 8 | number 8 | zeros 12 | checksum 4
//! blocks       one behind the other
//! table        for each block: kind 4, checksum 4, offset 8, length 8
//! trailer: 24  offset of the table 8 | blocks 4 | checksum of the table 4 | magic 8
//! ```
//! Numbers are little-endian, checksums CRC32C. The checksum of the table stands for the whole file: the manifest has it too.
//!
//! # Invariants
//! A file has its name only when it is complete and durable.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortenkv_wal::vfs::{OpenMode, ReadMap, Vfs, VfsFile, read_full_at, write_all_at};

use crate::parts::manifest::Identity;
use crate::parts::manifest::edit::ImageInfo;

const MAGIC: [u8; 8] = *b"CKPTIMG\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 24;
const TRAILER_BYTES: usize = 24;
const NAME_PREFIX: &str = "CKPT-";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// One shard of the hash table; they come in order.
    Shard = 1,
    /// A piece of a run of keys that is in no file of its own.
    Run = 2,
    /// What the rest is about.
    Meta = 3,
}

pub(super) fn file_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:06}")
}

/// True for a name of ours, finished or not.
pub(super) fn is_ours(name: &str) -> bool {
    let number = name.strip_suffix(TEMPORARY_SUFFIX).unwrap_or(name).strip_prefix(NAME_PREFIX);
    number.is_some_and(|n| n.len() >= 6 && n.bytes().all(|byte| byte.is_ascii_digit()))
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u32,
    checksum: u32,
    offset: u64,
    bytes: u64,
}

/// A file that is being written, under a temporary name.
pub(super) struct Writer {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    file: Arc<dyn VfsFile>,
    number: u64,
    at: u64,
    entries: Vec<Entry>,
}

impl Writer {
    pub(super) fn create(
        vfs: &Arc<dyn Vfs>,
        dir: &Path,
        identity: &Identity,
        number: u64,
    ) -> io::Result<Writer> {
        let path = temporary(dir, number);
        match vfs.remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = vfs.open(&path, OpenMode::CreateNew)?;
        write_all_at(file.as_ref(), &header(identity, number), 0)?;
        let (vfs, dir) = (Arc::clone(vfs), dir.to_path_buf());
        Ok(Writer { vfs, dir, file, number, at: HEADER_BYTES as u64, entries: Vec::new() })
    }

    /// Appends a block.
    pub(super) fn block(&mut self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        write_all_at(self.file.as_ref(), bytes, self.at)?;
        let checksum = crc32c::crc32c(bytes);
        let (offset, bytes) = (self.at, bytes.len() as u64);
        self.entries.push(Entry { kind: kind as u32, checksum, offset, bytes });
        self.at += bytes;
        Ok(())
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.at
    }

    /// Writes the table, and makes the content durable. Returns the checksum.
    pub(super) fn finish(&mut self) -> io::Result<u32> {
        let mut tail = Vec::with_capacity(self.entries.len() * ENTRY_BYTES + TRAILER_BYTES);
        for entry in &self.entries {
            tail.extend_from_slice(&entry.kind.to_le_bytes());
            tail.extend_from_slice(&entry.checksum.to_le_bytes());
            tail.extend_from_slice(&entry.offset.to_le_bytes());
            tail.extend_from_slice(&entry.bytes.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&tail);
        tail.extend_from_slice(&self.at.to_le_bytes());
        tail.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        tail.extend_from_slice(&checksum.to_le_bytes());
        tail.extend_from_slice(&MAGIC);
        write_all_at(self.file.as_ref(), &tail, self.at)?;
        self.at += tail.len() as u64;
        // DURABILITY: the content, before the file has its name.
        self.file.sync_data()?;
        Ok(checksum)
    }

    /// Gives the file its name, durably, and every other name that was made before it too.
    pub(super) fn publish(&self) -> io::Result<()> {
        let path = self.dir.join(file_name(self.number));
        self.vfs.rename(&temporary(&self.dir, self.number), &path)?;
        // DURABILITY: the names of the image and of the runs that it names, before the manifest names it.
        self.vfs.sync_dir(&self.dir)
    }

    /// Removes what was written.
    pub(super) fn abandon(&self) {
        // What stays is removed by the next opening.
        let _ = self.vfs.remove_file(&temporary(&self.dir, self.number));
    }
}

fn temporary(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{}{TEMPORARY_SUFFIX}", file_name(number)))
}

fn header(identity: &Identity, number: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&identity.hash_id.to_le_bytes());
    header[16..32].copy_from_slice(&identity.uuid);
    header[32..40].copy_from_slice(&identity.hash_seed.to_le_bytes());
    header[40..48].copy_from_slice(&number.to_le_bytes());
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// A file that was opened; its form is right, and its blocks are verified as they are asked for.
pub(super) struct Reader {
    bytes: Bytes,
    entries: Vec<Entry>,
}

enum Bytes {
    Mapped(Box<dyn ReadMap>, usize),
    Read(Vec<u8>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map, len) => map.bytes(0, *len),
            Bytes::Read(bytes) => bytes,
        }
    }
}

impl Reader {
    /// Opens an image; `None` if it is not what the manifest says, or cannot be read.
    pub(super) fn open(
        vfs: &dyn Vfs,
        dir: &Path,
        identity: &Identity,
        number: u64,
        info: &ImageInfo,
    ) -> Option<Reader> {
        let file = vfs.open(&dir.join(file_name(number)), OpenMode::Read).ok()?;
        let len = file.len().ok().filter(|len| *len == info.bytes)?;
        let len = usize::try_from(len).ok().filter(|len| *len >= HEADER_BYTES + TRAILER_BYTES)?;
        let bytes = match vfs.map_read(&file, len as u64) {
            Ok(map) => Bytes::Mapped(map, len),
            Err(_) => {
                let mut bytes = vec![0; len];
                let read = read_full_at(file.as_ref(), &mut bytes, 0).ok()?;
                (read == len).then_some(Bytes::Read(bytes))?
            }
        };
        let all = bytes.all();
        let (body, trailer) = all.split_at(len - TRAILER_BYTES);
        let table_at = usize::try_from(u64::from_le_bytes(*trailer.first_chunk()?)).ok()?;
        let count = u32::from_le_bytes(*trailer[8..].first_chunk()?) as usize;
        let checksum = u32::from_le_bytes(*trailer[12..].first_chunk()?);
        let table = body.get(table_at..)?;
        let is_right = all[..HEADER_BYTES] == header(identity, number)
            && trailer[16..] == MAGIC
            && checksum == info.checksum
            && table.len() == count.checked_mul(ENTRY_BYTES)?
            && crc32c::crc32c(table) == checksum;
        let entries = table.chunks_exact(ENTRY_BYTES).map(|entry| {
            let kind = u32::from_le_bytes(*entry.first_chunk()?);
            let checksum = u32::from_le_bytes(*entry[4..].first_chunk()?);
            let offset = u64::from_le_bytes(*entry[8..].first_chunk()?);
            let bytes = u64::from_le_bytes(*entry[16..].first_chunk()?);
            let fits = offset.checked_add(bytes)? <= table_at as u64;
            fits.then_some(Entry { kind, checksum, offset, bytes })
        });
        let entries: Option<Vec<Entry>> = entries.collect();
        let entries = entries.filter(|_| is_right)?;
        Some(Reader { bytes, entries })
    }

    /// The length of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.all().len() as u64
    }

    /// The blocks of a kind in their order, each verified; `None` if one is damaged.
    pub(super) fn blocks(&self, kind: Kind) -> Option<Vec<&[u8]>> {
        let of_kind = self.entries.iter().filter(|entry| entry.kind == kind as u32);
        of_kind
            .map(|entry| {
                let (start, len) = (entry.offset as usize, entry.bytes as usize);
                let block = self.bytes.all().get(start..start + len)?;
                (crc32c::crc32c(block) == entry.checksum).then_some(block)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_pattern_are_ours() {
        for name in [file_name(1), file_name(1_234_567), format!("{}.tmp", file_name(2))] {
            assert!(is_ours(&name), "{name}");
        }
        for name in ["CKPT-", "CKPT-1", "CKPT-00000a", "CKPT-000001.bak", "MANIFEST-000001"] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
