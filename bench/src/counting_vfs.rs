//! Counts what a log asks of the file system, from outside the log: its own statistics are not believed.
//!
//! # Concurrency
//! Relaxed counters, one per kind; they are read while nothing runs.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cortenkv_wal::vfs::{
    DirEntry, LockOutcome, Metadata, OpenMode, OsVfs, ReadMap, TailMap, Vfs, VfsFile,
};

use crate::log_store::DiskCounts;

/// The real file system with counters; clones share them.
#[derive(Debug, Clone)]
pub struct CountingVfs {
    inner: OsVfs,
    counters: Arc<Counters>,
    /// Whether stores through a mapping are counted, at the price of an addition for each append.
    counts_stores: bool,
}

#[derive(Debug, Default)]
struct Counters {
    fsyncs: AtomicU64,
    dir_fsyncs: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
}

impl CountingVfs {
    /// Counts system calls only, so that appends through a mapping cost what they cost without it.
    pub fn counting_calls() -> Self {
        CountingVfs { inner: OsVfs::new(), counters: Arc::default(), counts_stores: false }
    }

    /// Also counts bytes stored through a mapping.
    pub fn counting_stores() -> Self {
        CountingVfs { counts_stores: true, ..CountingVfs::counting_calls() }
    }

    /// What was counted so far.
    pub fn counts(&self) -> DiskCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskCounts {
            fsyncs: read(&self.counters.fsyncs),
            dir_fsyncs: read(&self.counters.dir_fsyncs),
            writes: read(&self.counters.writes),
            written_bytes: read(&self.counters.written_bytes),
        }
    }
}

fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}

/// The file below a counting one; the real file system maps only its own files.
fn inner_of(file: &Arc<dyn VfsFile>) -> io::Result<&CountingFile> {
    file.as_any().downcast_ref().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the file was opened by another file system")
    })
}

impl Vfs for CountingVfs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.inner.metadata(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(CountingFile { inner, counters: self.counters.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        add(&self.counters.dir_fsyncs, 1);
        // DURABILITY: as asked by the log.
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        self.inner.lock(path)
    }

    fn map_tail(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn TailMap>> {
        let map = self.inner.map_tail(&inner_of(file)?.inner, span)?;
        match self.counts_stores {
            true => Ok(Box::new(CountingTail { inner: map, counters: self.counters.clone() })),
            false => Ok(map),
        }
    }

    fn map_read(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn ReadMap>> {
        self.inner.map_read(&inner_of(file)?.inner, span)
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.fill_random(bytes)
    }
}

#[derive(Debug)]
struct CountingFile {
    inner: Arc<dyn VfsFile>,
    counters: Arc<Counters>,
}

impl VfsFile for CountingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.inner.write_at(bytes, offset)?;
        add(&self.counters.writes, 1);
        add(&self.counters.written_bytes, written);
        Ok(written)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.allocate(offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        add(&self.counters.fsyncs, 1);
        // DURABILITY: as asked by the log.
        self.inner.sync_data()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct CountingTail {
    inner: Box<dyn TailMap>,
    counters: Arc<Counters>,
}

impl ReadMap for CountingTail {
    fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        self.inner.bytes(offset, len)
    }
}

impl TailMap for CountingTail {
    fn store(&self, offset: u64, bytes: &[u8]) {
        add(&self.counters.written_bytes, bytes.len());
        self.inner.store(offset, bytes);
    }

    fn publish(&self, offset: u64, word: u64) {
        add(&self.counters.written_bytes, 8);
        // ORDERING: the release store is that of the inner map.
        self.inner.publish(offset, word);
    }

    fn prefault(&self, offset: u64, len: u64) {
        self.inner.prefault(offset, len);
    }

    fn release(&self, offset: u64, len: u64) {
        self.inner.release(offset, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_and_bytes_are_counted_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let vfs = CountingVfs::counting_stores();
        let file = vfs.open(&dir.path().join("file"), OpenMode::CreateNew).unwrap();
        file.allocate(0, 4096).unwrap();
        let before = vfs.counts();
        file.write_at(b"12345678", 0).unwrap();
        file.sync_data().unwrap();
        vfs.sync_dir(dir.path()).unwrap();
        let map = vfs.map_tail(&file, 4096).unwrap();
        map.store(16, b"abc");
        map.publish(8, 7);
        let counted = vfs.counts().since(&before);
        let expected = DiskCounts { fsyncs: 1, dir_fsyncs: 1, writes: 1, written_bytes: 8 + 3 + 8 };
        assert_eq!(counted, expected);
        assert_eq!(map.bytes(16, 3), b"abc");
    }
}
