//! The real file system.
//!
//! Files are opened with O_NOFOLLOW, O_CLOEXEC and O_NONBLOCK, so that a link, a FIFO or a device in place of one of
//! our files is an error at once and never a hang.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the seam: the one place that touches std::fs"
)]

use std::any::Any;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, fallocate, fdatasync, fsync, ftruncate};
use rustix::rand::{GetRandomFlags, getrandom};

use super::region::Region;
use super::{
    DirEntry, FileKind, FileLock, LockOutcome, Metadata, OpenMode, ReadMap, TailMap, Vfs, VfsFile,
};

/// The file system of the operating system.
#[derive(Debug, Clone)]
pub struct OsVfs {
    mapping: bool,
}

impl OsVfs {
    /// Files are mapped for reading and, in relaxed modes, for appending.
    pub fn new() -> Self {
        OsVfs { mapping: true }
    }

    /// Every access is a `pread` or a `pwrite`: slower, but a media error is an error and not a signal, and network
    /// file systems without coherent mappings work.
    pub fn without_mapping() -> Self {
        OsVfs { mapping: false }
    }

    fn region(&self, file: &Arc<dyn VfsFile>, span: u64, writable: bool) -> io::Result<OsMap> {
        if !self.mapping {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let file = file.as_any().downcast_ref::<OsFile>().ok_or(io::ErrorKind::Unsupported)?;
        Ok(OsMap { region: Region::of_file(file.0.as_fd(), span, writable)? })
    }
}

impl Default for OsVfs {
    fn default() -> Self {
        OsVfs::new()
    }
}

impl Vfs for OsVfs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let facts = fs::symlink_metadata(path)?;
        let kind = kind_of(facts.file_type());
        Ok(Metadata { kind, len: facts.len(), writable_by_others: facts.mode() & 0o022 != 0 })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // A file that is removed between the listing and the look is not there.
            let Ok(facts) = entry.metadata() else { continue };
            entries.push(DirEntry { name, kind: kind_of(facts.file_type()), len: facts.len() });
        }
        Ok(entries)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let flags = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::Write => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
        };
        Ok(Arc::new(OsFile(open_regular(path, flags)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        // DURABILITY: the names in the directory.
        Ok(fsync(dir)?)
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        let file = open_regular(path, OFlags::RDWR | OFlags::CREATE)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Ok(LockOutcome::Held { pid: read_pid(file) });
            }
            Err(fs::TryLockError::Error(e)) => return Err(e),
        }
        // A lock file that somebody deleted locks nobody out of a new one of its name, so the directory is locked, too.
        let dir = match lock_dir(path) {
            Err(fs::TryLockError::WouldBlock) => return Ok(LockOutcome::Held { pid: None }),
            // Where directories cannot be locked, the file has to do.
            locked => locked.ok(),
        };
        // The name of the holder is a courtesy: the lock itself is the kernel's.
        let pid = format!("{}\n", std::process::id());
        let _ = file.set_len(0).and_then(|()| file.write_all_at(pid.as_bytes(), 0));
        Ok(LockOutcome::Acquired(Box::new(OsLock { _dir: dir, _file: file })))
    }

    fn map_tail(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn TailMap>> {
        Ok(Box::new(self.region(file, span, true)?))
    }

    fn map_read(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn ReadMap>> {
        Ok(Box::new(self.region(file, span, false)?))
    }

    fn fill_random(&self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let filled = getrandom(&mut *bytes, GetRandomFlags::empty())?;
            bytes = &mut bytes[filled..];
        }
        Ok(())
    }
}

fn kind_of(file_type: fs::FileType) -> FileKind {
    if file_type.is_file() {
        FileKind::File
    } else if file_type.is_dir() {
        FileKind::Dir
    } else {
        FileKind::Other
    }
}

fn open_regular(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

fn lock_dir(path: &Path) -> Result<File, fs::TryLockError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty());
    let dir = File::from(dir.map_err(|e| fs::TryLockError::Error(e.into()))?);
    dir.try_lock().map(|()| dir)
}

fn read_pid(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The locks live as long as the open files. The one that is taken last is released first.
#[derive(Debug)]
struct OsLock {
    _dir: Option<File>,
    _file: File,
}

impl FileLock for OsLock {}

#[derive(Debug)]
struct OsFile(File);

impl VfsFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Ok(ftruncate(&self.0, len)?)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), offset, len) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        // DURABILITY: the bytes and the length of the file.
        Ok(fdatasync(&self.0)?)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct OsMap {
    region: Region,
}

impl ReadMap for OsMap {
    fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        self.region.bytes(offset, len)
    }
}

impl TailMap for OsMap {
    fn store(&self, offset: u64, bytes: &[u8]) {
        self.region.store(offset, bytes);
    }

    fn publish(&self, offset: u64, word: u64) {
        self.region.publish(offset, word);
    }

    fn prefault(&self, offset: u64, len: u64) {
        self.region.populate(offset, len);
    }

    fn release(&self, offset: u64, len: u64) {
        self.region.discard(offset, len);
    }
}
