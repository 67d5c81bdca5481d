//! The manifest: what a database is, beside its log.
//!
//! # Layout
//! `CURRENT` names the manifest that counts, `MANIFEST-n`; `format` has its bytes. Both are text or bytes of our own,
//! read whole, written through the [`Vfs`].
//!
//! # Invariants
//! - `CURRENT` is swapped whole: new manifest synced, new `CURRENT` synced under another name, both names synced,
//!   renamed, rename synced. A crash between any two leaves the old one or the new one.
//! - Every opening writes a new manifest and swaps to it. So a torn edit is never appended to, and what an opening
//!   trusts is durable before anybody builds on it: after a failed sync in the same boot the cache of the old file is no
//!   proof (rule 5).
//! - `CURRENT` exists before the first segment does. Segments without it mean that it was lost.
//!
//! # Failure
//! A failed sync is never tried again: it latches. A full disk before the sync does not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortenkv_wal::bugs::{Bug, planted};

use cortenkv_wal::vfs::{
    DirEntry, DirLock, FileKind, OpenMode, Vfs, VfsFile, read_full_at, write_all_at,
};

use crate::catalog::{DEFAULT_KEYSPACE_ID, check_name, out_of_numbers};
use crate::error::{ClosedReason, Error, ErrorKind, Result};
use crate::record::KeyspaceId;

#[path = "manifest/format.rs"]
mod format;

pub(crate) use format::Identity;
use format::{Edit, corruption};

const CURRENT: &str = "CURRENT";
const CURRENT_TEMPORARY: &str = "CURRENT.tmp";
const NAME_PREFIX: &str = "MANIFEST-";
const SEGMENT_SUFFIX: &str = ".seg";
/// LIMIT: what is read of a manifest or of `CURRENT`: room for 200,000 keyspaces.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The open manifest of a database.
#[derive(Debug)]
pub(crate) struct Manifest {
    dir: PathBuf,
    vfs: Arc<dyn Vfs>,
    identity: Identity,
    keyspaces: Vec<(KeyspaceId, String)>,
    number: u64,
    file: Arc<dyn VfsFile>,
    /// Where the next edit goes.
    end: u64,
    failure: Option<Error>,
}

impl Manifest {
    /// Reads the manifest of a locked directory, or creates that of a new database. True when it was created.
    ///
    /// Nothing that exists is changed before [`Manifest::renew`].
    pub(crate) fn read_or_create(lock: &DirLock) -> Result<(Manifest, bool)> {
        let (dir, vfs) = (lock.dir(), lock.vfs());
        let names = vfs.list(dir).map_err(|e| io_error(dir, "list", e))?;
        let has = |name: &str| names.iter().any(|entry| entry.name == name);
        if has(CURRENT) {
            // DURABILITY: whoever named it may have died before the name was durable, and segments are about to be named
            // beside it.
            vfs.sync_dir(dir).map_err(|e| sync_error(dir, e))?;
            return Manifest::read(dir, vfs).map(|manifest| (manifest, false));
        }
        if let Some(segment) = names.iter().find(|entry| entry.name.ends_with(SEGMENT_SUFFIX)) {
            return Err(lost(&dir.join(CURRENT), &segment.name));
        }
        Manifest::create(dir, vfs).map(|manifest| (manifest, true))
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn keyspaces(&self) -> &[(KeyspaceId, String)] {
        &self.keyspaces
    }

    /// Writes everything known to a new manifest and swaps to it; older ones are removed.
    pub(crate) fn renew(&mut self) -> Result<()> {
        let names = self.vfs.list(&self.dir).map_err(|e| io_error(&self.dir, "list", e))?;
        let used = names.iter().filter_map(manifest_number).max().unwrap_or(0);
        let number = used.max(self.number) + 1;
        let (file, end) =
            write_manifest(&self.dir, &self.vfs, &self.identity, &self.keyspaces, number)?;
        (self.file, self.end, self.number) = (file, end, number);
        swap_current(&self.dir, self.vfs.as_ref(), number)?;
        for entry in names.iter().filter(|entry| manifest_number(entry).is_some()) {
            let path = self.dir.join(&entry.name);
            // DURABILITY: not synced; a name that comes back after a crash is removed by the next opening.
            self.vfs.remove_file(&path).map_err(|e| io_error(&path, "remove", e))?;
        }
        Ok(())
    }

    /// Gives a keyspace a number, durably.
    pub(crate) fn create_keyspace(&mut self, name: &str) -> Result<KeyspaceId> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let newest = self.keyspaces.iter().map(|(id, _)| *id).max().unwrap_or(DEFAULT_KEYSPACE_ID);
        let id = newest.checked_add(1).ok_or_else(out_of_numbers)?;
        let edit = Edit::KeyspaceCreated { id, name: name.to_owned() };
        self.append(&edit)?;
        self.keyspaces.push((id, name.to_owned()));
        Ok(id)
    }

    fn append(&mut self, edit: &Edit) -> Result<()> {
        let path = self.dir.join(manifest_name(self.number));
        let mut bytes = Vec::new();
        format::encode_edit(&mut bytes, &self.identity, self.end, edit);
        if let Err(e) = write_all_at(self.file.as_ref(), &bytes, self.end) {
            let error = io_error(&path, "write", e);
            // A full disk is no failure: nobody was told, and the next edit goes over what was written of this one.
            if *error.kind() == ErrorKind::StorageFull {
                return Err(error);
            }
            return Err(self.fail(error));
        }
        // DURABILITY: a keyspace is durable before its first record.
        if !planted(Bug::ManifestNotSynced)
            && let Err(e) = self.file.sync_data()
        {
            return Err(self.fail(sync_error(&path, e)));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn fail(&mut self, cause: Error) -> Error {
        let context = Error::closed(ClosedReason::Poisoned);
        self.failure =
            Some(Error::with_source(context.kind().clone(), context.context(), cause.clone()));
        cause
    }

    fn create(dir: &Path, vfs: &Arc<dyn Vfs>) -> Result<Manifest> {
        let mut random = [0; 24];
        vfs.fill_random(&mut random).map_err(|e| io_error(dir, "find random bytes for", e))?;
        let [uuid @ .., s0, s1, s2, s3, s4, s5, s6, s7] = random;
        let hash_seed = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let identity = Identity { uuid, hash_id: format::HASH_ID, hash_seed };
        // What a crash left of an earlier creation is not in the way: numbers go on behind it.
        let names = vfs.list(dir).map_err(|e| io_error(dir, "list", e))?;
        let number = names.iter().filter_map(manifest_number).max().unwrap_or(0) + 1;
        let (file, end) = write_manifest(dir, vfs, &identity, &[], number)?;
        swap_current(dir, vfs.as_ref(), number)?;
        let (dir, vfs, keyspaces, failure) = (dir.to_path_buf(), Arc::clone(vfs), Vec::new(), None);
        Ok(Manifest { dir, vfs, identity, keyspaces, number, file, end, failure })
    }

    fn read(dir: &Path, vfs: &Arc<dyn Vfs>) -> Result<Manifest> {
        let current = dir.join(CURRENT);
        let (_, text) = read_file(vfs.as_ref(), &current)?;
        let Some(number) = parse_current(&text) else {
            let found = text[..text.len().min(64)].escape_ascii().to_string();
            return Err(corruption(&current, 0, "the name of a manifest with its checksum", found));
        };
        let path = dir.join(manifest_name(number));
        let (file, bytes) = read_file(vfs.as_ref(), &path)?;
        let (identity, edits) = format::decode(&path, &bytes)?;
        let mut keyspaces: Vec<(KeyspaceId, String)> = Vec::new();
        for Edit::KeyspaceCreated { id, name } in edits {
            let is_known = keyspaces.iter().any(|(i, n)| *i == id || *n == name);
            if is_known || id == DEFAULT_KEYSPACE_ID || check_name(&name).is_err() {
                let found = format!("keyspace {id} {name:?}");
                return Err(corruption(&path, format::HEADER_BYTES, "a new keyspace", found));
            }
            keyspaces.push((id, name));
        }
        let (dir, vfs, end) = (dir.to_path_buf(), Arc::clone(vfs), bytes.len() as u64);
        Ok(Manifest { dir, vfs, identity, keyspaces, number, file, end, failure: None })
    }
}

/// Writes a whole manifest and syncs it; its name is not durable yet.
fn write_manifest(
    dir: &Path,
    vfs: &Arc<dyn Vfs>,
    identity: &Identity,
    keyspaces: &[(KeyspaceId, String)],
    number: u64,
) -> Result<(Arc<dyn VfsFile>, u64)> {
    let mut bytes = format::encode_header(identity);
    for (id, name) in keyspaces {
        let edit = Edit::KeyspaceCreated { id: *id, name: name.clone() };
        let offset = bytes.len() as u64;
        format::encode_edit(&mut bytes, identity, offset, &edit);
    }
    let file = write_file(vfs.as_ref(), &dir.join(manifest_name(number)), &bytes)?;
    Ok((file, bytes.len() as u64))
}

/// Makes `CURRENT` name another manifest.
fn swap_current(dir: &Path, vfs: &dyn Vfs, number: u64) -> Result<()> {
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

/// Writes and syncs a new file.
fn write_file(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<Arc<dyn VfsFile>> {
    let file = vfs.open(path, OpenMode::CreateNew).map_err(|e| io_error(path, "create", e))?;
    write_all_at(file.as_ref(), bytes, 0).map_err(|e| io_error(path, "write", e))?;
    if planted(Bug::CurrentBeforeManifest) {
        return Ok(file);
    }
    // DURABILITY: the content, before the name is used.
    file.sync_data().map_err(|e| sync_error(path, e))?;
    Ok(file)
}

fn read_file(vfs: &dyn Vfs, path: &Path) -> Result<(Arc<dyn VfsFile>, Vec<u8>)> {
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

fn manifest_name(number: u64) -> String {
    format!("{NAME_PREFIX}{number:06}")
}

/// The number in the name of a manifest that is a regular file.
fn manifest_number(entry: &DirEntry) -> Option<u64> {
    let number = entry.name.strip_prefix(NAME_PREFIX)?.parse().ok()?;
    (entry.kind == FileKind::File && entry.name == manifest_name(number)).then_some(number)
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

fn lost(current: &Path, segment: &str) -> Error {
    let (expected, found) = ("CURRENT, which names the manifest".to_owned(), "no file".to_owned());
    let context = format!(
        "{} is missing beside {segment}: the keyspaces of these segments are not known without it, so no new one is made; \
         restore CURRENT and the MANIFEST file from a copy, or move the segments away to start anew",
        current.display()
    );
    let kind = ErrorKind::Corruption { file: current.to_path_buf(), offset: 0, expected, found };
    Error::new(kind, context)
}

fn io_error(path: &Path, what: &str, error: io::Error) -> Error {
    cortenkv_wal::Error::io(format!("cannot {what} {}", path.display()), error).into()
}

/// A failed sync is `Io` whatever the system says: unlike a full disk, it cannot be tried again.
fn sync_error(path: &Path, error: io::Error) -> Error {
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
