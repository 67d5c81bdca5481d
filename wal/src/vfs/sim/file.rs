//! Open files and mappings of the simulated file system.
//!
//! # Invariants
//! - The content behind the lock is what the file holds. A mapping shows the content that it was made from until a
//!   byte of the file changes; from then on it is a [`Region`] to which every change is applied under the lock.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::content::Content;
use super::state::{Shared, Via};
use super::trace::{FileNumber, Op};
use crate::vfs::{FileLock, ReadMap, Region, TailMap, VfsFile};

/// An open file.
#[derive(Clone)]
pub(crate) struct SimFile {
    pub(super) shared: Arc<Shared>,
    pub(super) number: FileNumber,
    pub(super) writable: bool,
}

impl SimFile {
    /// A sync that fails: it covers nothing, and the bytes that it should have covered count as clean.
    pub(crate) fn sync_data_failing(&self, error: io::Error) -> io::Result<()> {
        self.sync(Some(error))
    }

    fn sync(&self, failure: Option<io::Error>) -> io::Result<()> {
        let (begin, failure) = {
            let mut state = self.shared.state();
            let failure = failure.or_else(|| state.sync_failure.take());
            (state.trace.push(Op::SyncBegin { file: self.number }), failure)
        };
        race_window();
        let ok = failure.is_none();
        // DURABILITY: what was logged before `begin`.
        self.shared.state().trace.push(Op::SyncEnd { file: self.number, begin, ok });
        failure.map_or(Ok(()), Err)
    }

    fn check_writable(&self) -> io::Result<()> {
        // EBADF, as the system call answers on a handle for reading.
        if self.writable { Ok(()) } else { Err(rustix::io::Errno::BADF.into()) }
    }
}

/// Lets other threads store between the start and the end of a sync when a checker schedules them; so a sync under a
/// checker works inside of one of its runs only.
pub(super) fn race_window() {
    #[cfg(any(loom, shuttle))]
    crate::sync::thread::yield_now();
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("number", &self.number).finish_non_exhaustive()
    }
}

impl VfsFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.shared.state().content(self.number).read(buf, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.check_writable()?;
        self.shared.state().write(self.number, offset, bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.shared.state().content(self.number).len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.shared.state().set_len(self.number, len);
        Ok(())
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.shared.state().allocate(self.number, offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(None)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The memory of a mapping.
#[derive(Debug)]
pub(super) struct MapCell {
    span: u64,
    frozen: Arc<Content>,
    live: OnceLock<Region>,
}

impl MapCell {
    pub(super) fn new(span: u64, frozen: Arc<Content>) -> Self {
        MapCell { span, frozen, live: OnceLock::new() }
    }

    pub(super) fn store(&self, offset: u64, bytes: &[u8], via: Via) {
        let live = self.live();
        let inside = self.span.saturating_sub(offset).min(bytes.len() as u64) as usize;
        match (via, <[u8; 8]>::try_from(&bytes[..inside])) {
            (Via::Publish, Ok(word)) => {
                assert_eq!(live.load(offset), 0, "the head word at {offset} is published twice");
                live.publish(offset, u64::from_le_bytes(word));
            }
            _ if inside > 0 => live.store(offset, &bytes[..inside]),
            _ => {}
        }
    }

    pub(super) fn zero(&self, start: u64, end: u64) {
        let live = self.live();
        let end = end.min(self.span);
        if start < end {
            live.store(start, &vec![0; (end - start) as usize]);
        }
    }

    fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        let end = offset + len as u64;
        assert!(end <= self.span, "bytes {offset}..{end} lie outside a mapping of {}", self.span);
        match self.live.get() {
            Some(live) => live.bytes(offset, len),
            None => match self.frozen.stored().get(offset as usize..end as usize) {
                Some(bytes) => bytes,
                None => self.live().bytes(offset, len),
            },
        }
    }

    fn live(&self) -> &Region {
        self.live.get_or_init(|| {
            let region = Region::allocated(self.span).expect("memory for a simulated mapping");
            let stored = self.frozen.stored();
            region.store(0, &stored[..stored.len().min(self.span as usize)]);
            region
        })
    }
}

/// A mapping of a file, for reading and for storing.
pub(super) struct SimMap {
    pub(super) file: SimFile,
    pub(super) cell: Arc<MapCell>,
    pub(super) len: Arc<AtomicU64>,
}

impl fmt::Debug for SimMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimMap").field("file", &self.file).finish_non_exhaustive()
    }
}

impl ReadMap for SimMap {
    /// # Panics
    /// When the range reaches beyond the end of the file, where the real access may be a SIGBUS.
    fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        // ORDERING: Relaxed, see `LiveFile::set_len_seen`.
        let file_len = self.len.load(Ordering::Relaxed);
        let end = offset + len as u64;
        assert!(end <= file_len, "bytes {offset}..{end} are read from a mapped file of {file_len}");
        self.cell.bytes(offset, len)
    }
}

impl TailMap for SimMap {
    fn store(&self, offset: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.file.shared.state().store(self.file.number, offset, bytes, Via::Store);
        }
    }

    fn publish(&self, offset: u64, word: u64) {
        assert!(offset.is_multiple_of(8), "head words are aligned to 8 bytes, not at {offset}");
        let bytes = word.to_le_bytes();
        self.file.shared.state().store(self.file.number, offset, &bytes, Via::Publish);
    }

    fn prefault(&self, _offset: u64, _len: u64) {}

    fn release(&self, _offset: u64, _len: u64) {}
}

/// A held lock.
#[derive(Debug)]
pub(super) struct SimLock(pub(super) SimFile);

impl FileLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.0.shared.state();
        state.locked.remove(&self.0.number);
        state.trace.push(Op::Unlock { file: self.0.number });
    }
}
