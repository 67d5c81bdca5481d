//! Key runs in mapped files of a directory, as the engine keeps them, for suites of the ordered index alone.
//!
//! A file goes when the last user of its run does. Mapped bytes are no allocations, so a count of those shows what stays
//! in main memory beside the page cache.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cortenkv_index::{Error, ErrorKind, RunBytes, RunStore};
use cortenkv_wal::vfs::{OpenMode, OsVfs, ReadMap, Vfs, write_all_at};

/// Runs in files of one directory.
pub struct RunFiles {
    vfs: OsVfs,
    dir: PathBuf,
    next: AtomicU64,
}

impl RunFiles {
    /// In this directory, which must have no runs of another one.
    pub fn new(dir: &Path) -> Self {
        RunFiles { vfs: OsVfs::new(), dir: dir.to_path_buf(), next: AtomicU64::new(0) }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<RunFile> {
        // ORDERING: relaxed; only that no number comes twice.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{number:016x}.run"));
        let file = self.vfs.open(&path, OpenMode::CreateNew)?;
        // DURABILITY: none. Nobody reads the file after this process.
        write_all_at(file.as_ref(), bytes, 0)?;
        let map = self.vfs.map_read(&file, bytes.len() as u64)?;
        Ok(RunFile { map, len: bytes.len(), vfs: self.vfs.clone(), path })
    }
}

impl RunStore for RunFiles {
    fn store(&self, bytes: Vec<u8>) -> cortenkv_index::Result<Arc<dyn RunBytes>> {
        match self.write(&bytes) {
            Ok(run) => Ok(Arc::new(run)),
            Err(error) => Err(Error::new(ErrorKind::Io, format!("cannot write a run: {error}"))),
        }
    }
}

struct RunFile {
    map: Box<dyn ReadMap>,
    len: usize,
    vfs: OsVfs,
    path: PathBuf,
}

impl RunBytes for RunFile {
    fn bytes(&self) -> &[u8] {
        self.map.bytes(0, self.len)
    }

    fn is_mapped(&self) -> bool {
        true
    }
}

impl Drop for RunFile {
    fn drop(&mut self) {
        // What stays goes with the directory of the case.
        let _ = self.vfs.remove_file(&self.path);
    }
}
