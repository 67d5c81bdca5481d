//! The manifest: what a database is, beside its log.
//!
//! # Layout
//! `CURRENT` names the manifest that counts, `MANIFEST-n`; `current` has the swap, `format` the bytes, `edit` the kinds of
//! edits, `state` what they add up to. Both files are text or bytes of our own, read whole, written through the [`Vfs`].
//!
//! # Invariants
//! - A new manifest is synced before `CURRENT` names it, and the swap is durable before the old one goes.
//! - Every opening writes a new manifest and swaps to it. So a torn edit is never appended to, and what an opening
//!   trusts is durable before anybody builds on it: after a failed sync in the same boot the cache of the old file is no
//!   proof (rule 5).
//! - [`Manifest::commit`] renews too, when the file has grown to several times what it was: its size follows what it
//!   names, never the work done.
//! - Behind the last edit stands a mark, written once the edit is durable, until the next edit goes over it. An edit that is
//!   not intact in front of something intact was damaged; else it is the torn end of a crash.
//! - `CURRENT` exists before the first segment does. Segments without it mean that it was lost.
//!
//! # Concurrency
//! One owner at a time: `catalog` and compaction share it behind a mutex, which is held while an edit is synced.
//!
//! # Failure
//! A failed sync is never tried again: it latches. A full disk before the sync does not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortenkv_wal::bugs::{Bug, planted};
use cortenkv_wal::vfs::{DirLock, Vfs, VfsFile, write_all_at};

use crate::catalog::{DEFAULT_KEYSPACE_ID, out_of_numbers};
use crate::error::{ClosedReason, Error, ErrorKind, Result};
use crate::record::KeyspaceId;

#[path = "manifest/copies.rs"]
mod copies;
#[path = "manifest/current.rs"]
mod current;
#[path = "manifest/edit.rs"]
pub(crate) mod edit;
#[path = "manifest/format.rs"]
mod format;
#[cfg(feature = "test-util")]
#[path = "manifest/fuzzing.rs"]
pub mod fuzzing;
#[path = "manifest/state.rs"]
mod state;

pub(crate) use copies::write_copy;
use current::{
    CURRENT, FILE_BYTES_MAX, compacted_id, io_error, is_segment, manifest_name, manifest_number,
    read_current, read_file, swap_current, sync_error, write_file,
};
use edit::Edit;
pub(crate) use format::Identity;
use format::{EDIT_HEAD_BYTES, EDIT_PAYLOAD_BYTES_MAX, HEADER_BYTES, Header, corruption};
pub(crate) use state::ManifestState;

/// A manifest may grow to this without being renewed.
const RENEW_BYTES_MIN: u64 = 64 << 10;
/// Beyond that it is renewed at so many times the size that it was renewed to.
const RENEW_FACTOR: u64 = 4;

/// The open manifest of a database.
#[derive(Debug)]
pub(crate) struct Manifest {
    dir: PathBuf,
    vfs: Arc<dyn Vfs>,
    header: Header,
    pub(super) state: ManifestState,
    number: u64,
    file: Arc<dyn VfsFile>,
    /// Where the next edit goes, over the mark behind the last.
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
        if names.iter().any(|entry| entry.name == CURRENT) {
            // DURABILITY: whoever named it may have died before the name was durable, and segments are about to be named
            // beside it.
            vfs.sync_dir(dir).map_err(|e| sync_error(dir, e))?;
            let mut manifest = Manifest::read(dir, vfs)?;
            // A job that a crash ended has used an id that no edit tells of.
            let used = names.iter().filter_map(compacted_id);
            used.for_each(|id| manifest.state.compacted_id_was_used(id));
            return Ok((manifest, false));
        }
        if let Some(segment) = names.iter().find(|entry| is_segment(entry)) {
            return Err(lost(&dir.join(CURRENT), &segment.name));
        }
        Manifest::create(dir, vfs).map(|manifest| (manifest, true))
    }

    pub(crate) fn identity(&self) -> Identity {
        self.header.identity
    }

    /// What all edits so far add up to.
    pub(crate) fn state(&self) -> &ManifestState {
        &self.state
    }

    /// Gives out an id for a compacted segment; none is given out twice.
    pub(crate) fn next_compacted_id(&mut self) -> u64 {
        self.state.take_compacted_id()
    }

    /// Log segments that the log no longer needs to know. The next manifest is without them; until then a crash brings
    /// them back, which does no harm.
    pub(crate) fn forget_retired(&mut self, ids: &[u64]) {
        for id in ids {
            self.state.retired.remove(id);
        }
    }

    /// Gives a keyspace a number, durably.
    pub(crate) fn create_keyspace(&mut self, name: &str) -> Result<KeyspaceId> {
        let newest = self.state.keyspaces.keys().next_back().copied();
        let newest = newest.unwrap_or(DEFAULT_KEYSPACE_ID);
        let id = newest.checked_add(1).ok_or_else(out_of_numbers)?;
        self.commit(Edit::KeyspaceCreated { id, name: name.to_owned() })?;
        Ok(id)
    }

    /// Appends an edit; it is durable when this returns.
    ///
    /// # Errors
    /// `StorageFull` when nothing was changed and a later attempt may succeed; `LimitExceeded` for an edit longer than
    /// 64 KiB (a job of some 600 segments of each sort), `InvalidArgument` for one that does not fit the state; `Io`
    /// when a write or sync failed: whether the edit is there is open, and every later one is refused with `Closed`.
    pub(crate) fn commit(&mut self, edit: Edit) -> Result<()> {
        self.check_open()?;
        if let Err(what) = self.state.check(&edit) {
            return Err(Error::invalid(format!(
                "{} cannot note {what}: it contradicts what was noted before",
                self.path().display()
            )));
        }
        let payload = edit.encode();
        if payload.len() > EDIT_PAYLOAD_BYTES_MAX {
            return Err(Error::limit(format!(
                "an edit of the manifest has {} bytes; the limit is {EDIT_PAYLOAD_BYTES_MAX}; note fewer segments at once",
                payload.len()
            )));
        }
        self.make_room(edit.features(), (EDIT_HEAD_BYTES + payload.len()) as u64)?;
        self.append(&payload)?;
        self.state.apply(edit);
        self.mark();
        Ok(())
    }

    /// Reads the file again, and compares what it says with what is known.
    ///
    /// # Errors
    /// `Corruption` if that differs, or cannot be read as it was written; `Io`.
    pub(crate) fn check_file(&self) -> Result<()> {
        let written = Manifest::read(&self.dir, &self.vfs)?;
        let (known, found) = (&self.state, &written.state);
        let is_same = written.number == self.number
            && known.keyspaces == found.keyspaces
            && known.compacted == found.compacted
            && known.retired == found.retired;
        if is_same {
            return Ok(());
        }
        let (expected, found) = ("the manifest of this opening", "another one".to_owned());
        Err(corruption(&written.path(), 0, expected, found))
    }

    /// Writes everything known to a new manifest and swaps to it; older ones are removed.
    ///
    /// # Errors
    /// As [`Manifest::commit`].
    pub(crate) fn renew(&mut self) -> Result<()> {
        self.renew_with(0)
    }

    fn check_open(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(manifest_name(self.number))
    }

    /// Renews where the header lacks a feature that an edit needs, or the file is long enough.
    fn make_room(&mut self, features: u32, edit_bytes: u64) -> Result<()> {
        if features & !self.header.features != 0 {
            self.renew_with(features)?;
        } else if self.end + edit_bytes > self.bytes_max() {
            match self.renew_with(features) {
                // The old one serves as well.
                Err(error) if *error.kind() == ErrorKind::StorageFull => {}
                renewed => renewed?,
            }
        }
        if self.end + edit_bytes > FILE_BYTES_MAX {
            return Err(Error::limit(format!(
                "{} has reached its limit of {FILE_BYTES_MAX} bytes; drop what you do not need",
                self.path().display()
            )));
        }
        Ok(())
    }

    /// The size at which the file is renewed.
    fn bytes_max(&self) -> u64 {
        (self.header.durable_bytes * RENEW_FACTOR).clamp(RENEW_BYTES_MIN, FILE_BYTES_MAX)
    }

    /// Renews, with these features in the header beside those of the state.
    fn renew_with(&mut self, features: u32) -> Result<()> {
        self.check_open()?;
        let (dir, vfs) = (&self.dir, &self.vfs);
        let renewed = vfs.list(dir).map_err(|e| io_error(dir, "list", e)).and_then(|names| {
            let used = names.iter().filter_map(manifest_number).max().unwrap_or(0);
            let number = used.max(self.number) + 1;
            let features = features | self.state.features();
            let written =
                write_manifest(dir, vfs, &self.identity(), &self.state, features, number)?;
            Ok((names, number, written))
        });
        let (names, number, (file, header)) = renewed.map_err(|error| self.unless_full(error))?;
        (self.file, self.header, self.number) = (file, header, number);
        self.end = header.durable_bytes;
        for entry in names.iter().filter(|entry| manifest_number(entry).is_some()) {
            let path = self.dir.join(&entry.name);
            // DURABILITY: not synced; a name that comes back after a crash is removed by the next opening.
            if let Err(e) = self.vfs.remove_file(&path) {
                return Err(self.unless_full(io_error(&path, "remove", e)));
            }
        }
        Ok(())
    }

    fn append(&mut self, payload: &[u8]) -> Result<()> {
        let mut bytes = Vec::new();
        format::encode_edit(&mut bytes, &self.identity(), self.end, payload);
        if let Err(e) = write_all_at(self.file.as_ref(), &bytes, self.end) {
            // Of a full disk nobody was told, and the next edit goes over what was written of this one.
            return Err(self.unless_full(io_error(&self.path(), "write", e)));
        }
        // DURABILITY: an edit is durable before anything is done because of it.
        if !planted(Bug::ManifestNotSynced)
            && let Err(e) = self.file.sync_data()
        {
            return Err(self.fail(sync_error(&self.path(), e)));
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Writes behind a durable edit one that says nothing new: damage to the durable one can then be told from a torn end.
    fn mark(&mut self) {
        let mark = Edit::NextCompacted { id: self.state.next_compacted_id() };
        let mut bytes = Vec::new();
        format::encode_edit(&mut bytes, &self.identity(), self.end, &mark.encode());
        // DURABILITY: none; without it the edit is no worse off. The next edit goes over it: in front of an edit, a mark that
        // a power cut took would look like damage.
        let _ = write_all_at(self.file.as_ref(), &bytes, self.end);
    }

    /// Latches a failure, unless it is a full disk.
    fn unless_full(&mut self, cause: Error) -> Error {
        if *cause.kind() == ErrorKind::StorageFull { cause } else { self.fail(cause) }
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
        let state = ManifestState::default();
        let (file, header) = write_manifest(dir, vfs, &identity, &state, 0, number)?;
        let (dir, vfs, end) = (dir.to_path_buf(), Arc::clone(vfs), header.durable_bytes);
        Ok(Manifest { dir, vfs, header, state, number, file, end, failure: None })
    }

    fn read(dir: &Path, vfs: &Arc<dyn Vfs>) -> Result<Manifest> {
        let number = read_current(dir, vfs.as_ref())?;
        let path = dir.join(manifest_name(number));
        let (file, bytes) = read_file(vfs.as_ref(), &path)?;
        let (header, state) = replay(&path, &bytes)?;
        let (dir, vfs, end) = (dir.to_path_buf(), Arc::clone(vfs), bytes.len() as u64);
        Ok(Manifest { dir, vfs, header, state, number, file, end, failure: None })
    }
}

/// What the bytes of a manifest say; `file` is for the errors.
fn replay(file: &Path, bytes: &[u8]) -> Result<(Header, ManifestState)> {
    let mut state = ManifestState::default();
    let header = format::decode(file, bytes, |offset, edit| {
        state
            .check(&edit)
            .map_err(|what| corruption(file, offset, "an edit that fits those before it", what))?;
        state.apply(edit);
        Ok(())
    })?;
    Ok((header, state))
}

/// The bytes of a manifest that says all this.
fn encode(identity: &Identity, state: &ManifestState, features: u32) -> (Header, Vec<u8>) {
    let mut bytes = vec![0; HEADER_BYTES];
    for edit in state.edits() {
        let offset = bytes.len() as u64;
        format::encode_edit(&mut bytes, identity, offset, &edit.encode());
    }
    let header = Header::new(*identity, features, bytes.len() as u64);
    bytes[..HEADER_BYTES].copy_from_slice(&format::encode_header(&header));
    (header, bytes)
}

/// Writes a whole manifest, syncs it and swaps to it.
fn write_manifest(
    dir: &Path,
    vfs: &Arc<dyn Vfs>,
    identity: &Identity,
    state: &ManifestState,
    features: u32,
    number: u64,
) -> Result<(Arc<dyn VfsFile>, Header)> {
    let (header, bytes) = encode(identity, state, features);
    let path = dir.join(manifest_name(number));
    let written = write_file(vfs.as_ref(), &path, &bytes)
        .and_then(|file| swap_current(dir, vfs.as_ref(), number).map(|()| file));
    if written.as_ref().is_err_and(|error| *error.kind() == ErrorKind::StorageFull) {
        // Nothing names it, so it must not keep the space that is missing. Where this fails, the next renewal removes it.
        let _ = vfs.remove_file(&path);
    }
    written.map(|file| (file, header))
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

#[cfg(test)]
#[path = "manifest/tests/real.rs"]
mod real;
#[cfg(all(test, feature = "test-util"))]
#[path = "manifest/tests.rs"]
mod tests;
