//! A file system that fails chosen operations of another one.
//!
//! Every call counts, in the order of the calls; a [`FaultPlan`] names the one that fails, and whether later ones do
//! too. A run without a plan tells how many operations there are to fail.
//!
//! # Failure
//! A failing operation does nothing, with two exceptions. A short write takes half of the bytes. A failing `sync_data`
//! of a [`SimVfs`](super::SimVfs) file leaves the unsynced bytes readable and clean, so that a later sync answers `Ok`
//! and does not write them, as Linux does. Stores through a mapping do not fail and do not count.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::sim::SimFile;
use super::{DirEntry, LockOutcome, Metadata, OpenMode, ReadMap, TailMap, Vfs, VfsFile};

/// A kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the call of `Vfs` or `VfsFile` that it is named after")]
pub enum OpKind {
    CreateDir,
    Metadata,
    List,
    /// [`Vfs::open`] of an existing file.
    Open,
    /// [`Vfs::open`] of a new file.
    Create,
    Rename,
    Remove,
    SyncDir,
    Lock,
    MapTail,
    MapRead,
    Random,
    Read,
    Write,
    Len,
    SetLen,
    Allocate,
    SyncData,
}

impl OpKind {
    /// All kinds.
    pub const ALL: [OpKind; 18] = [
        OpKind::CreateDir,
        OpKind::Metadata,
        OpKind::List,
        OpKind::Open,
        OpKind::Create,
        OpKind::Rename,
        OpKind::Remove,
        OpKind::SyncDir,
        OpKind::Lock,
        OpKind::MapTail,
        OpKind::MapRead,
        OpKind::Random,
        OpKind::Read,
        OpKind::Write,
        OpKind::Len,
        OpKind::SetLen,
        OpKind::Allocate,
        OpKind::SyncData,
    ];
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// EIO: the device failed.
    Io,
    /// ENOSPC: the disk is full.
    StorageFull,
    /// EDQUOT: the quota is used up.
    QuotaExceeded,
    /// EINTR: a signal came; to be tried again.
    Interrupted,
    /// EMFILE: too many open files.
    TooManyFiles,
    /// A write takes half of its bytes, at least one; other operations succeed.
    ShortWrite,
    /// A write takes no byte and reports no error; other operations succeed.
    ZeroWrite,
    /// The call panics, as a defect in the thread that makes it would.
    Panic,
}

impl FaultKind {
    /// All kinds that a disk can show: all but `Panic`.
    pub const ALL: [FaultKind; 7] = [
        FaultKind::Io,
        FaultKind::StorageFull,
        FaultKind::QuotaExceeded,
        FaultKind::Interrupted,
        FaultKind::TooManyFiles,
        FaultKind::ShortWrite,
        FaultKind::ZeroWrite,
    ];

    fn error(self) -> Option<io::Error> {
        let errno = match self {
            FaultKind::Io => Errno::IO,
            FaultKind::StorageFull => Errno::NOSPC,
            FaultKind::QuotaExceeded => Errno::DQUOT,
            FaultKind::Interrupted => Errno::INTR,
            FaultKind::TooManyFiles => Errno::MFILE,
            FaultKind::ShortWrite | FaultKind::ZeroWrite | FaultKind::Panic => return None,
        };
        Some(errno.into())
    }
}

/// Which operations fail, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultPlan {
    fault: FaultKind,
    only: Option<OpKind>,
    number: u64,
    for_good: bool,
}

impl FaultPlan {
    /// Operation `number` fails, the first being 0, all kinds counted together.
    pub fn nth(number: u64, fault: FaultKind) -> Self {
        FaultPlan { fault, only: None, number, for_good: false }
    }

    /// Operation `number` of one kind fails, the first of that kind being 0.
    pub fn nth_of(kind: OpKind, number: u64, fault: FaultKind) -> Self {
        FaultPlan { fault, only: Some(kind), number, for_good: false }
    }

    /// Every operation from that one on fails: of the one kind, or of all.
    ///
    /// # Panics
    /// For [`FaultKind::Interrupted`]: who is interrupted tries again, and would for ever.
    #[must_use]
    pub fn for_good(mut self) -> Self {
        assert_ne!(self.fault, FaultKind::Interrupted, "nobody is interrupted for ever");
        self.for_good = true;
        self
    }
}

/// How many operations were called since the file system was wrapped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpCounts {
    by_kind: [u64; OpKind::ALL.len()],
    fired: u64,
}

impl OpCounts {
    /// Operations of one kind.
    pub fn of(&self, kind: OpKind) -> u64 {
        self.by_kind[kind as usize]
    }

    /// Operations of all kinds.
    pub fn total(&self) -> u64 {
        self.by_kind.iter().sum()
    }

    /// Operations that a plan made fail; a plan that never fired tested nothing.
    pub fn fired(&self) -> u64 {
        self.fired
    }
}

#[derive(Debug, Default)]
struct Faults {
    plan: Option<FaultPlan>,
    counts: OpCounts,
}

/// A file system whose operations fail by plan. Clones share the plan and the counts.
#[derive(Debug, Clone)]
pub struct FaultVfs {
    inner: Arc<dyn Vfs>,
    faults: Arc<Mutex<Faults>>,
}

impl FaultVfs {
    /// Wraps a file system; nothing fails until [`FaultVfs::set_plan`].
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        FaultVfs { inner, faults: Arc::default() }
    }

    /// Wraps a file system with a plan.
    pub fn with_plan(inner: Arc<dyn Vfs>, plan: FaultPlan) -> Self {
        let vfs = FaultVfs::new(inner);
        vfs.set_plan(Some(plan));
        vfs
    }

    /// Replaces the plan; `None` repairs everything. Counting goes on: numbers are from the wrapping, not from here.
    pub fn set_plan(&self, plan: Option<FaultPlan>) {
        lock(&self.faults).plan = plan;
    }

    /// The operations so far.
    pub fn counts(&self) -> OpCounts {
        lock(&self.faults).counts
    }

    fn check(&self, kind: OpKind) -> io::Result<()> {
        check(&self.faults, kind)
    }

    fn wrap(&self, inner: Arc<dyn VfsFile>) -> Arc<dyn VfsFile> {
        Arc::new(FaultFile { inner, faults: Arc::clone(&self.faults) })
    }
}

/// Counts an operation; the fault that strikes it, if one does.
fn strike(faults: &Mutex<Faults>, kind: OpKind) -> Option<FaultKind> {
    let mut faults = lock(faults);
    let total = faults.counts.total();
    let of_kind = faults.counts.of(kind);
    faults.counts.by_kind[kind as usize] += 1;
    let plan = faults.plan?;
    let number = match plan.only {
        Some(only) if only != kind => return None,
        Some(_) => of_kind,
        None => total,
    };
    let is_hit = if plan.for_good { number >= plan.number } else { number == plan.number };
    let is_of_writes = matches!(plan.fault, FaultKind::ShortWrite | FaultKind::ZeroWrite);
    if !is_hit || (is_of_writes && kind != OpKind::Write) {
        return None;
    }
    faults.counts.fired += 1;
    drop(faults);
    assert_ne!(plan.fault, FaultKind::Panic, "injected panic in {kind:?}");
    Some(plan.fault)
}

fn check(faults: &Mutex<Faults>, kind: OpKind) -> io::Result<()> {
    strike(faults, kind).and_then(FaultKind::error).map_or(Ok(()), Err)
}

fn lock(faults: &Mutex<Faults>) -> MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file of the wrapped file system, which alone can map it.
fn inner(file: &Arc<dyn VfsFile>) -> &Arc<dyn VfsFile> {
    file.as_any().downcast_ref::<FaultFile>().map_or(file, |file| &file.inner)
}

impl Vfs for FaultVfs {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.check(OpKind::CreateDir)?;
        self.inner.create_dir(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.check(OpKind::Metadata)?;
        self.inner.metadata(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.check(OpKind::List)?;
        self.inner.list(dir)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        self.check(if mode == OpenMode::CreateNew { OpKind::Create } else { OpKind::Open })?;
        Ok(self.wrap(self.inner.open(path, mode)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(OpKind::Rename)?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check(OpKind::Remove)?;
        self.inner.remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check(OpKind::SyncDir)?;
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        self.check(OpKind::Lock)?;
        self.inner.lock(path)
    }

    fn map_tail(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn TailMap>> {
        self.check(OpKind::MapTail)?;
        self.inner.map_tail(inner(file), span)
    }

    fn map_read(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn ReadMap>> {
        self.check(OpKind::MapRead)?;
        self.inner.map_read(inner(file), span)
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.check(OpKind::Random)?;
        self.inner.fill_random(bytes)
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn VfsFile>,
    faults: Arc<Mutex<Faults>>,
}

impl VfsFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        check(&self.faults, OpKind::Read)?;
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match strike(&self.faults, OpKind::Write) {
            None => self.inner.write_at(bytes, offset),
            Some(FaultKind::ZeroWrite) => Ok(0),
            Some(FaultKind::ShortWrite) => {
                self.inner.write_at(&bytes[..bytes.len().div_ceil(2)], offset)
            }
            Some(fault) => Err(fault.error().unwrap_or_else(|| Errno::IO.into())),
        }
    }

    fn len(&self) -> io::Result<u64> {
        check(&self.faults, OpKind::Len)?;
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        check(&self.faults, OpKind::SetLen)?;
        self.inner.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        check(&self.faults, OpKind::Allocate)?;
        self.inner.allocate(offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let Err(error) = check(&self.faults, OpKind::SyncData) else {
            // DURABILITY: the promise of the wrapped file, unchanged.
            return self.inner.sync_data();
        };
        match self.inner.as_any().downcast_ref::<SimFile>() {
            Some(file) => file.sync_data_failing(error),
            None => Err(error),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
