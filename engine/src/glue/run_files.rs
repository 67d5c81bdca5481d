//! Runs of keys in files of the database directory, mapped for reading.
//!
//! # Layout
//! A file is named by 16 hexadecimal digits and `.run`. The numbers count up from a random one, so that names which cannot
//! be removed are in nobody's way.
//!
//! # Invariants
//! Runs are derived data. A file is removed when the last user of its run lets go and no image names it; what a process left
//! behind that no image names is removed at the next open, unread. A file is synced only for an image.
//!
//! # Failure
//! A run whose file cannot be written or mapped stays in memory and is counted; no operation fails for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use cortenkv_index::{RamRuns, RunBytes, RunStore};
use cortenkv_wal::vfs::{FileKind, OpenMode, ReadMap, Vfs, VfsFile, write_all_at};

use crate::parts::Platform;
use crate::sync::lock;

const SUFFIX: &str = ".run";

/// Where the runs of a database are kept.
pub(crate) struct RunFiles(pub(super) Arc<Store>);

#[derive(Default)]
pub(super) struct Store {
    /// `None` for a database in memory.
    pub(super) dir: Option<Arc<Dir>>,
    failures: AtomicU64,
}

/// The files of a directory.
pub(super) struct Dir {
    pub(super) vfs: Arc<dyn Vfs>,
    path: PathBuf,
    next: AtomicU64,
    pub(super) files: Mutex<BTreeMap<u64, Uses>>,
}

/// Who needs a file.
#[derive(Default)]
pub(super) struct Uses {
    /// It is mapped.
    pub(super) open: Option<Arc<dyn VfsFile>>,
    /// Images that name it.
    pub(super) images: u32,
}

impl RunFiles {
    pub(crate) fn in_memory() -> Self {
        RunFiles(Arc::default())
    }

    /// Keeps runs in a directory, whose lock the caller holds, and removes what an earlier process left there, but for the
    /// files of these numbers.
    pub(crate) fn open(platform: &Platform, dir: &Path, named: &BTreeSet<u64>) -> Self {
        let vfs = Arc::clone(&platform.vfs);
        remove_leftovers(vfs.as_ref(), dir, named);
        let mut seed = [0; 8];
        // Without random numbers they start with 0, which is worse and not wrong.
        let _ = vfs.fill_random(&mut seed);
        let next = AtomicU64::new(u64::from_le_bytes(seed));
        let dir = Dir { vfs, path: dir.to_path_buf(), next, files: Mutex::default() };
        RunFiles(Arc::new(Store { dir: Some(Arc::new(dir)), ..Store::default() }))
    }

    /// False for a database in memory.
    pub(crate) fn are_on_disk(&self) -> bool {
        self.0.dir.is_some()
    }

    pub(crate) fn store(&self) -> Arc<dyn RunStore> {
        Arc::clone(&self.0) as Arc<dyn RunStore>
    }

    /// Files of runs that are in use now.
    pub(crate) fn count(&self) -> u64 {
        let open = |dir: &Arc<Dir>| {
            lock(&dir.files).values().filter(|uses| uses.open.is_some()).count() as u64
        };
        self.0.dir.as_ref().map_or(0, open)
    }

    /// Runs that were to be files and stayed in memory.
    pub(crate) fn failures(&self) -> u64 {
        self.0.failures.load(Relaxed)
    }
}

impl RunStore for Store {
    fn store(&self, bytes: Vec<u8>) -> cortenkv_index::Result<Arc<dyn RunBytes>> {
        let Some(dir) = &self.dir else { return RamRuns.store(bytes) };
        match dir.write(&bytes) {
            Ok(run) => Ok(Arc::new(run)),
            Err(_) => {
                self.failures.fetch_add(1, Relaxed);
                RamRuns.store(bytes)
            }
        }
    }
}

impl Dir {
    fn write(self: &Arc<Self>, bytes: &[u8]) -> io::Result<RunFile> {
        let number = self.next.fetch_add(1, Relaxed);
        let file = self.vfs.open(&self.path_of(number), OpenMode::CreateNew)?;
        let name = self.used(number, &file);
        // DURABILITY: none. After a crash nobody reads the file; what cannot be written shows here.
        write_all_at(file.as_ref(), bytes, 0)?;
        self.mapped(name, &file, bytes.len())
    }

    /// Notes that a file is in use until the name goes.
    pub(super) fn used(self: &Arc<Self>, number: u64, file: &Arc<dyn VfsFile>) -> Name {
        lock(&self.files).entry(number).or_default().open = Some(Arc::clone(file));
        Name { dir: Arc::clone(self), number }
    }

    pub(super) fn mapped(
        &self,
        name: Name,
        file: &Arc<dyn VfsFile>,
        len: usize,
    ) -> io::Result<RunFile> {
        let map = self.vfs.map_read(file, len as u64)?;
        Ok(RunFile { map, len, name })
    }

    pub(super) fn path_of(&self, number: u64) -> PathBuf {
        self.path.join(file_name(number))
    }

    /// Changes who needs a file, which is removed if nobody does then.
    pub(super) fn change_uses(&self, number: u64, change: impl FnOnce(&mut Uses)) {
        let mut files = lock(&self.files);
        let Some(uses) = files.get_mut(&number) else { return };
        change(uses);
        if uses.open.is_none() && uses.images == 0 {
            files.remove(&number);
            // What stays is removed by the next open.
            let _ = self.vfs.remove_file(&self.path_of(number));
        }
    }
}

/// A run in a mapped file.
pub(super) struct RunFile {
    map: Box<dyn ReadMap>,
    len: usize,
    name: Name,
}

impl RunBytes for RunFile {
    fn bytes(&self) -> &[u8] {
        self.map.bytes(0, self.len)
    }

    fn is_mapped(&self) -> bool {
        true
    }

    fn number(&self) -> Option<u64> {
        Some(self.name.number)
    }
}

/// The name of a file in use.
pub(super) struct Name {
    dir: Arc<Dir>,
    number: u64,
}

impl Drop for Name {
    fn drop(&mut self) {
        self.dir.change_uses(self.number, |uses| uses.open = None);
    }
}

/// Removes the files that bear a name of ours; links, directories and everything else stay.
fn remove_leftovers(vfs: &dyn Vfs, dir: &Path, named: &BTreeSet<u64>) {
    // What cannot be listed or removed is in nobody's way.
    for entry in vfs.list(dir).unwrap_or_default() {
        let number = number_of(&entry.name).filter(|number| !named.contains(number));
        if entry.kind == FileKind::File && number.is_some() {
            let _ = vfs.remove_file(&dir.join(&entry.name));
        }
    }
}

fn file_name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

/// The number in a name of ours.
fn number_of(name: &str) -> Option<u64> {
    let number = u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?;
    (name == file_name(number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_pattern_are_ours() {
        assert!(number_of(&file_name(7)) == Some(7) && number_of(&file_name(u64::MAX)).is_some());
        for name in ["", ".run", "1.run", "000000000000000G.run", "0000000000000001.seg"] {
            assert!(number_of(name).is_none(), "{name}");
        }
        let others = ["00000000000000001.run", "0000000000000001.run.bak", "+000000000000001.run"];
        assert!(others.iter().all(|name| number_of(name).is_none()));
    }
}
