//! Files and directories as a seam.
//!
//! Everything that the log (and the engine above it) does to a disk goes through [`Vfs`], so that a simulated file
//! system sees every store and can show what a crash leaves, and a fault injector can fail any operation.
//!
//! # Layout
//! [`OsVfs`] is the real one. `SimVfs` keeps synced and unsynced images apart; `FaultVfs` fails chosen operations of
//! any other (both with the feature `test-util`). [`ViewVfs`] keeps in memory what is written. `lock` holds the directory lock that all of them share.
//!
//! # Promises that an implementation makes
//! - Bytes given to [`VfsFile::write_at`] or stored through a [`TailMap`] are seen by every later read of that file,
//!   through any handle or mapping, and survive the death of the process.
//! - They survive a power cut only once a `sync` that started later has returned `Ok`. Until then any subset of the
//!   512-byte sectors may survive, each in any of the states that it went through.
//! - A created, renamed or removed name survives a power cut only once [`Vfs::sync_dir`] on its directory returned.
//! - A failed sync may have dropped the bytes, and a later sync that says `Ok` does not bring them back.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "test-util")]
mod fault;
mod lock;
mod os;
mod region;
#[cfg(feature = "test-util")]
pub mod sim;
mod view;

#[cfg(feature = "test-util")]
pub use fault::{FaultKind, FaultPlan, FaultVfs, OpCounts, OpKind};
pub use lock::DirLock;
pub use os::OsVfs;
#[cfg(feature = "test-util")]
pub use sim::SimVfs;
pub use view::ViewVfs;

pub(crate) use region::{ForkSentinel, Region};

/// What stands at a path; links are not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// Anything else: a link, a FIFO, a device, a socket.
    Other,
}

/// Facts about a path.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes.
    pub len: u64,
    /// True when group or others may write to it.
    pub writable_by_others: bool,
}

/// A name in a directory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DirEntry {
    /// The name, without the directory. Names that are not UTF-8 are left out of listings: none of ours is such.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Its length in bytes.
    pub len: u64,
}

/// How [`Vfs::open`] opens a file. None follows a link, and all refuse what is not a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file (mode 0600) for reading and writing; `AlreadyExists` when the name is taken.
    CreateNew,
}

/// What [`Vfs::lock`] answers.
#[derive(Debug)]
pub enum LockOutcome {
    /// The lock is held until this value is dropped.
    Acquired(Box<dyn FileLock>),
    /// Somebody else holds it.
    Held {
        /// The holder's process id, where the file names it.
        pid: Option<u32>,
    },
}

/// A held lock; released on drop.
pub trait FileLock: fmt::Debug + Send + Sync {}

/// A file system.
pub trait Vfs: fmt::Debug + Send + Sync + 'static {
    /// Creates a directory (mode 0700) and its parents; one that exists is left as it is.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Facts about a path, not following a link.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Everything in a directory, in no particular order.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;

    /// Opens a regular file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>>;

    /// Renames a file, replacing what stands at `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, which must be free.
    ///
    /// # Errors
    /// `Unsupported` where a file has one name only; the caller copies then.
    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `Unsupported` where directories stay.
    fn remove_dir(&self, _dir: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Makes every creation, rename and removal in the directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock of a lock file, creating the file (mode 0600) when it is missing. Never waits.
    fn lock(&self, path: &Path) -> io::Result<LockOutcome>;

    /// Maps the first `span` bytes of a file for storing, whether or not the file is that long yet.
    ///
    /// # Errors
    /// `Unsupported` where mapping is impossible; the log then writes with [`VfsFile::write_at`].
    fn map_tail(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn TailMap>>;

    /// Maps the first `span` bytes of a file for reading, whether or not the file is that long yet.
    ///
    /// # Errors
    /// `Unsupported` where mapping is impossible; the log then reads with [`VfsFile::read_at`].
    fn map_read(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn ReadMap>>;

    /// Random bytes: salts and identities come from here, so that a test can replay them.
    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()>;
}

/// An open file. Handles may be shared by threads; offsets are explicit.
#[expect(
    clippy::len_without_is_empty,
    reason = "a length costs a system call; nobody asks whether it is zero"
)]
pub trait VfsFile: fmt::Debug + Send + Sync + 'static {
    /// Reads at an offset; fewer bytes than asked for only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at an offset; may write fewer bytes than given, as the system call does.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// The length of the file in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Cuts the file, or lengthens it by a hole.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves space for a range, lengthening the file, so that a store into it cannot fail for lack of space. The
    /// range reads as zeroes where nothing was written.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes every byte written or stored before the call durable, with the length of the file.
    fn sync_data(&self) -> io::Result<()>;

    /// For [`Vfs::map_tail`] and [`Vfs::map_read`] to find their own kind of file.
    fn as_any(&self) -> &dyn Any;
}

/// A window into a file that can be read without a system call.
pub trait ReadMap: fmt::Debug + Send + Sync + 'static {
    /// The bytes of a range.
    ///
    /// The caller asks only for bytes below the length of the file which nobody stores to any more.
    fn bytes(&self, offset: u64, len: usize) -> &[u8];
}

/// The mapped tail of the log: the simulator sees each store, and may keep any subset of sectors at any stage.
///
/// Stores touch reserved space only. A range is stored by one thread, once; readers touch it after `publish` of its
/// head word.
pub trait TailMap: ReadMap {
    /// Stores bytes that no reader looks at yet.
    fn store(&self, offset: u64, bytes: &[u8]);

    /// Stores the 8 bytes at `offset` (a multiple of 8), least significant byte first, by one release store: whoever
    /// sees the word sees everything stored before it.
    fn publish(&self, offset: u64, word: u64);

    /// Touches reserved space that will be stored to soon, so that the stores do not take page faults. A hint.
    fn prefault(&self, offset: u64, len: u64);

    /// Nobody stores to a range any more, and a sync is near: the mapping may let go of its pages, which stay in the
    /// file. A hint; reads go on.
    fn release(&self, offset: u64, len: u64);
}

/// Writes all bytes at an offset, continuing after short and interrupted writes.
pub fn write_all_at(file: &dyn VfsFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends, continuing after interrupted reads; returns the bytes read.
pub fn read_full_at(file: &dyn VfsFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
