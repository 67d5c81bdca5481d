//! Runs of keys in files of the database directory, mapped for reading.
//!
//! # Layout
//! A file is named by 16 hexadecimal digits and `.run`. The numbers count up from a random one, so that names which cannot
//! be removed are in nobody's way.
//!
//! # Invariants
//! Runs are derived data. A file is removed when the last user of its run lets go; what a process left behind is removed
//! at the next open, unread. Nothing is synced, and nothing is trusted after an open.
//!
//! # Failure
//! A run whose file cannot be written or mapped stays in memory and is counted; no operation fails for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use cortenkv_index::{RamRuns, RunBytes, RunStore};
use cortenkv_wal::vfs::{FileKind, OpenMode, ReadMap, Vfs, write_all_at};

use crate::parts::Platform;

const SUFFIX: &str = ".run";

/// Where the runs of a database are kept.
pub(crate) struct RunFiles(Arc<Store>);

#[derive(Default)]
struct Store {
    /// `None` for a database in memory.
    dir: Option<Dir>,
    /// Files that are there.
    files: Arc<AtomicU64>,
    failures: AtomicU64,
}

struct Dir {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    next: AtomicU64,
}

impl RunFiles {
    pub(crate) fn in_memory() -> Self {
        RunFiles(Arc::default())
    }

    /// Keeps runs in a directory, whose lock the caller holds, and removes what an earlier process left there.
    pub(crate) fn open(platform: &Platform, dir: &Path) -> Self {
        let vfs = Arc::clone(&platform.vfs);
        remove_leftovers(vfs.as_ref(), dir);
        let mut seed = [0; 8];
        // Without random numbers they start with 0, which is worse and not wrong.
        let _ = vfs.fill_random(&mut seed);
        let next = AtomicU64::new(u64::from_le_bytes(seed));
        let dir = Some(Dir { vfs, path: dir.to_path_buf(), next });
        RunFiles(Arc::new(Store { dir, ..Store::default() }))
    }

    /// False for a database in memory.
    pub(crate) fn are_on_disk(&self) -> bool {
        self.0.dir.is_some()
    }

    pub(crate) fn store(&self) -> Arc<dyn RunStore> {
        Arc::clone(&self.0) as Arc<dyn RunStore>
    }

    /// Files that are there now.
    pub(crate) fn count(&self) -> u64 {
        self.0.files.load(Relaxed)
    }

    /// Runs that were to be files and stayed in memory.
    pub(crate) fn failures(&self) -> u64 {
        self.0.failures.load(Relaxed)
    }
}

impl RunStore for Store {
    fn store(&self, bytes: Vec<u8>) -> cortenkv_index::Result<Arc<dyn RunBytes>> {
        let Some(dir) = &self.dir else { return RamRuns.store(bytes) };
        match dir.write(&bytes, &self.files) {
            Ok(run) => Ok(Arc::new(run)),
            Err(_) => {
                self.failures.fetch_add(1, Relaxed);
                RamRuns.store(bytes)
            }
        }
    }
}

impl Dir {
    fn write(&self, bytes: &[u8], files: &Arc<AtomicU64>) -> io::Result<RunFile> {
        let number = self.next.fetch_add(1, Relaxed);
        let path = self.path.join(file_name(number));
        let file = self.vfs.open(&path, OpenMode::CreateNew)?;
        let name = Name { vfs: Arc::clone(&self.vfs), path, files: Arc::clone(files) };
        name.files.fetch_add(1, Relaxed);
        // DURABILITY: none. After a crash nobody reads the file; what cannot be written shows here.
        write_all_at(file.as_ref(), bytes, 0)?;
        let map = self.vfs.map_read(&file, bytes.len() as u64)?;
        Ok(RunFile { map, len: bytes.len(), _name: name })
    }
}

/// A run in a mapped file.
struct RunFile {
    map: Box<dyn ReadMap>,
    len: usize,
    _name: Name,
}

impl RunBytes for RunFile {
    fn bytes(&self) -> &[u8] {
        self.map.bytes(0, self.len)
    }

    fn is_mapped(&self) -> bool {
        true
    }
}

/// The name of a file, which goes with it.
struct Name {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    files: Arc<AtomicU64>,
}

impl Drop for Name {
    fn drop(&mut self) {
        // What stays is removed by the next open.
        let _ = self.vfs.remove_file(&self.path);
        self.files.fetch_sub(1, Relaxed);
    }
}

/// Removes the files that bear a name of ours; links, directories and everything else stay.
fn remove_leftovers(vfs: &dyn Vfs, dir: &Path) {
    // What cannot be listed or removed is in nobody's way.
    for entry in vfs.list(dir).unwrap_or_default() {
        if entry.kind == FileKind::File && is_ours(&entry.name) {
            let _ = vfs.remove_file(&dir.join(&entry.name));
        }
    }
}

fn file_name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

fn is_ours(name: &str) -> bool {
    let digits = name.strip_suffix(SUFFIX).unwrap_or_default();
    digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_pattern_are_ours() {
        assert!(is_ours(&file_name(0)) && is_ours(&file_name(u64::MAX)));
        for name in ["", ".run", "1.run", "000000000000000G.run", "0000000000000001.seg"] {
            assert!(!is_ours(name), "{name}");
        }
        assert!(!is_ours("00000000000000001.run") && !is_ours("0000000000000001.run.bak"));
    }
}
