//! `CURRENT`, the names of manifests, and the files behind both.
//!
//! # Invariants
//! `CURRENT` is swapped whole: the manifest was synced, new `CURRENT` synced under another name, both names synced,
//! renamed, rename synced. A crash between any two leaves the old one or the new one.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cortenkv_wal::bugs::{Bug, planted};
use cortenkv_wal::vfs::{DirEntry, FileKind, OpenMode, Vfs, VfsFile, read_full_at, write_all_at};

use super::edit::COMPACTED_ID_MIN;
use super::format::corruption;
use crate::error::{Error, ErrorKind, Result};

pub(super) const CURRENT: &str = "CURRENT";
const CURRENT_TEMPORARY: &str = "CURRENT.tmp";
const NAME_PREFIX: &str = "MANIFEST-";
const SEGMENT_SUFFIX: &str = ".seg";
const COMPACTED_SUFFIX: &str = ".cseg";
/// Hexadecimal digits in the name of a segment.
const ID_DIGITS: usize = 16;
/// LIMIT: what is read of a manifest or of `CURRENT`: room for 200,000 keyspaces.
pub(super) const FILE_BYTES_MAX: u64 = 64 << 20;

/// Makes `CURRENT` name another manifest.
pub(super) fn swap_current(dir: &Path, vfs: &dyn Vfs, number: u64) -> Result<()> {
    let (temporary, current) = (dir.join(CURRENT_TEMPORARY), dir.join(CURRENT));
    match vfs.remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            return Err(io_error(&temporary, "remove", e));
        }
        _ => {}
    }
    write_file(vfs, &temporary, current_text(number).as_bytes())?;
    // DURABILITY: the manifest has its name before anything points there.
    vfs.sync_dir(dir).map_err(|e| sync_error(dir, e))?;
    vfs.rename(&temporary, &current).map_err(|e| io_error(&temporary, "rename", e))?;
    // DURABILITY: the swap, before a segment is written under it or the old manifest goes.
    vfs.sync_dir(dir).map_err(|e| sync_error(dir, e))
}

/// The number that `CURRENT` names.
pub(super) fn read_current(dir: &Path, vfs: &dyn Vfs) -> Result<u64> {
    let current = dir.join(CURRENT);
    let (_, text) = read_file(vfs, &current)?;
    parse_current(&text).ok_or_else(|| {
        let found = text[..text.len().min(64)].escape_ascii().to_string();
        corruption(&current, 0, "the name of a manifest with its checksum", found)
    })
}

/// Writes and syncs a new file.
pub(super) fn write_file(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<Arc<dyn VfsFile>> {
    let file = vfs.open(path, OpenMode::CreateNew).map_err(|e| io_error(path, "create", e))?;
    write_all_at(file.as_ref(), bytes, 0).map_err(|e| io_error(path, "write", e))?;
    if planted(Bug::CurrentBeforeManifest) {
        return Ok(file);
    }
    // DURABILITY: the content, before the name is used.
    file.sync_data().map_err(|e| sync_error(path, e))?;
    Ok(file)
}

pub(super) fn read_file(vfs: &dyn Vfs, path: &Path) -> Result<(Arc<dyn VfsFile>, Vec<u8>)> {
    let file = match vfs.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(corruption(path, 0, "a manifest that CURRENT names", "no file".into()));
        }
        Err(e) => return Err(io_error(path, "open", e)),
    };
    let bytes_total = file.len().map_err(|e| io_error(path, "read", e))?;
    if bytes_total > FILE_BYTES_MAX {
        let found = format!("{bytes_total} bytes");
        return Err(corruption(path, 0, "at most 64 MiB", found));
    }
    let mut bytes = vec![0; bytes_total as usize];
    let read = read_full_at(file.as_ref(), &mut bytes, 0).map_err(|e| io_error(path, "read", e))?;
    bytes.truncate(read);
    Ok((file, bytes))
}

pub(super) fn manifest_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:06}")
}

/// The number in the name of a manifest that is a regular file.
pub(super) fn manifest_number(entry: &DirEntry) -> Option<u64> {
    let number = entry.name.strip_prefix(NAME_PREFIX)?.parse().ok()?;
    (entry.kind == FileKind::File && entry.name == manifest_name(number)).then_some(number)
}

/// True for the name of a segment of either kind.
pub(super) fn is_segment(entry: &DirEntry) -> bool {
    entry.name.ends_with(SEGMENT_SUFFIX) || entry.name.ends_with(COMPACTED_SUFFIX)
}

/// The id in the name of a compacted segment, finished or not.
pub(super) fn compacted_id(entry: &DirEntry) -> Option<u64> {
    let (digits, rest) = entry.name.split_at_checked(ID_DIGITS)?;
    let id = u64::from_str_radix(digits, 16).ok()?;
    (rest.starts_with(COMPACTED_SUFFIX) && id >= COMPACTED_ID_MIN).then_some(id)
}

fn current_text(number: u64) -> String {
    let name = manifest_name(number);
    format!("{name} crc32c={:08x}\n", crc32c::crc32c(name.as_bytes()))
}

fn parse_current(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let number = text.split(' ').next()?.strip_prefix(NAME_PREFIX)?.parse().ok()?;
    (text == current_text(number)).then_some(number)
}

pub(super) fn io_error(path: &Path, what: &str, error: io::Error) -> Error {
    cortenkv_wal::Error::io(format!("cannot {what} {}", path.display()), error).into()
}

/// A failed sync is `Io` whatever the system says: unlike a full disk, it cannot be tried again.
pub(super) fn sync_error(path: &Path, error: io::Error) -> Error {
    Error::with_source(ErrorKind::Io, format!("cannot sync {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_reads_back_and_takes_no_other_text() {
        let text = current_text(12);
        assert_eq!(parse_current(text.as_bytes()), Some(12));
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone().into_bytes();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_current(&flipped), None, "bit {bit}");
        }
        assert_eq!(parse_current(b""), None);
        assert_eq!(parse_current(b"MANIFEST-../../etc crc32c=00000000\n"), None);
    }
}
