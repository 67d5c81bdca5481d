//! The end of the log that is being written: one interface over a shared mapping and over staging plus `pwrite`.
//!
//! `Mapped` stores straight into the page cache: an append survives SIGKILL at memory speed. `Staged` keeps bytes in
//! anonymous memory until `flush`, which the leader of a sync calls once for the whole group: a `pwrite` dirties
//! exactly the blocks that it touches, where a store into a mapping dirties the whole folio, which the sync then
//! writes. `docs/decisions/002-tail.md` has the measurement.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};
use crate::vfs::{ReadMap, Region, TailMap, Vfs, VfsFile, read_full_at, write_all_at};

/// Staged memory is given back when so many bytes have been flushed.
const DISCARD_BYTES: u64 = 1 << 20;

/// Fewer finished bytes are not worth the system call that releases them.
const RELEASE_BYTES: u64 = 64 << 10;

/// The smallest page; releasing rounds to whole pages of the machine by itself.
const PAGE_BYTES: u64 = 4096;

#[derive(Debug)]
pub(crate) enum Tail {
    Mapped(Mapped),
    Staged(Staged),
}

/// Stores go straight to the page cache.
#[derive(Debug)]
pub(crate) struct Mapped {
    map: Box<dyn TailMap>,
    /// The mapping has let go of the pages below.
    released: AtomicU64,
}

impl Mapped {
    /// Lets go of finished pages before a sync writes them. Writing a page that is mapped interrupts every core that runs
    /// a thread of this process, to take the right to store to it away: a third of the time of a loaded log (measured).
    fn release(&self, end: u64) {
        let released = self.released.load(Ordering::Relaxed);
        if end.saturating_sub(released) >= RELEASE_BYTES {
            self.map.release(released, end - released);
            // A page that two leaders release is released twice, which is as good as once.
            self.released.store(end - end % PAGE_BYTES, Ordering::Relaxed);
        }
    }
}

impl Tail {
    /// A tail of `span` bytes over `file`; staged when asked for, or where mapping is impossible.
    pub(crate) fn new(
        vfs: &dyn Vfs,
        file: &Arc<dyn VfsFile>,
        span: u64,
        mapped: bool,
        flushed: u64,
    ) -> io::Result<Tail> {
        if mapped {
            match vfs.map_tail(file, span) {
                Ok(map) => return Ok(Tail::Mapped(Mapped { map, released: flushed.into() })),
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Tail::Staged(Staged::new(vfs, file, span, flushed)?))
    }

    /// Stores bytes that no reader looks at yet.
    #[inline]
    pub(crate) fn store(&self, offset: u64, bytes: &[u8]) {
        match self {
            Tail::Mapped(mapped) => mapped.map.store(offset, bytes),
            Tail::Staged(staged) => staged.stage.store(offset, bytes),
        }
    }

    /// Stores a head word after everything behind it.
    #[inline]
    pub(crate) fn publish(&self, offset: u64, word: u64) {
        match self {
            Tail::Mapped(mapped) => mapped.map.publish(offset, word),
            Tail::Staged(staged) => staged.stage.publish(offset, word),
        }
    }

    /// Hands everything below `end` to the kernel: after this it survives the death of the process.
    pub(crate) fn flush(&self, end: u64) -> io::Result<()> {
        match self {
            Tail::Mapped(mapped) => {
                mapped.release(end);
                Ok(())
            }
            Tail::Staged(staged) => staged.flush(end),
        }
    }

    /// True when bytes wait in memory for `flush`.
    #[inline]
    pub(crate) fn is_staged(&self) -> bool {
        matches!(self, Tail::Staged(_))
    }

    /// Takes the page faults of coming stores.
    pub(crate) fn prefault(&self, offset: u64, len: u64) {
        if let Tail::Mapped(mapped) = self {
            mapped.map.prefault(offset, len);
        }
    }

    /// Published bytes from `start` to `end` or a little less, where reading them takes neither a lock nor a copy. What was
    /// given once is given again.
    #[inline]
    pub(crate) fn mapped(&self, start: u64, end: u64) -> Option<&[u8]> {
        let (map, end): (&dyn ReadMap, u64) = match self {
            Tail::Mapped(mapped) => (mapped.map.as_ref(), end),
            // ORDERING: Acquire, pairs with the Release in `Staged::flush`: the bytes below are in the file.
            Tail::Staged(staged) => {
                (staged.read.as_deref()?, end.min(staged.flushed.load(Ordering::Acquire)))
            }
        };
        (start < end).then(|| map.bytes(start, (end - start) as usize))
    }

    /// Calls `f` with bytes below the published end, without handing them to the kernel where they wait in memory for that.
    pub(crate) fn with_bytes<R>(
        &self,
        offset: u64,
        len: usize,
        f: impl FnOnce(&[u8]) -> R,
    ) -> io::Result<R> {
        if let Tail::Staged(staged) = self {
            let discarded = lock(&staged.discarded);
            if offset >= *discarded {
                return Ok(f(staged.stage.bytes(offset, len)));
            }
        }
        self.bytes(offset, len).map(|bytes| f(&bytes))
    }

    /// Bytes below the published end.
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Tail::Mapped(mapped) => Ok(Cow::Borrowed(mapped.map.bytes(offset, len))),
            Tail::Staged(staged) => staged.bytes(offset, len),
        }
    }
}

/// Bytes wait in memory at the offset that they will have in the file.
#[derive(Debug)]
pub(crate) struct Staged {
    stage: Region,
    file: Arc<dyn VfsFile>,
    read: Option<Box<dyn ReadMap>>,
    /// Bytes below are in the file; moved under the lock of `progress`.
    flushed: AtomicU64,
    progress: Mutex<()>,
    /// Pages below were given back; none is while the lock is held.
    discarded: Mutex<u64>,
}

impl Staged {
    fn new(vfs: &dyn Vfs, file: &Arc<dyn VfsFile>, span: u64, flushed: u64) -> io::Result<Staged> {
        let read = match vfs.map_read(file, span) {
            Ok(map) => Some(map),
            Err(e) if e.kind() == io::ErrorKind::Unsupported => None,
            Err(e) => return Err(e),
        };
        let (progress, discarded) = (Mutex::default(), Mutex::new(flushed));
        let (stage, file) = (Region::anonymous(span)?, Arc::clone(file));
        Ok(Staged { stage, file, read, flushed: flushed.into(), progress, discarded })
    }

    fn flush(&self, end: u64) -> io::Result<()> {
        let _progress = lock(&self.progress);
        let flushed = self.flushed.load(Ordering::Relaxed);
        if end <= flushed {
            return Ok(());
        }
        let bytes = self.stage.bytes(flushed, (end - flushed) as usize);
        write_all_at(self.file.as_ref(), bytes, flushed)?;
        // ORDERING: Release, pairs with the Acquire in `Tail::mapped`.
        self.flushed.store(end, Ordering::Release);
        // The page that `end` lies in may still be stored to; `advise` keeps to whole pages below.
        let mut discarded = lock(&self.discarded);
        if end - *discarded >= DISCARD_BYTES {
            self.stage.discard(*discarded, end - *discarded);
            *discarded = end;
        }
        Ok(())
    }

    fn bytes(&self, offset: u64, len: usize) -> io::Result<Cow<'_, [u8]>> {
        // Staged pages may be given back at any moment, so readers only ever look at the file.
        self.flush(offset + len as u64)?;
        match &self.read {
            Some(map) => Ok(Cow::Borrowed(map.bytes(offset, len))),
            None => read_owned(self.file.as_ref(), offset, len).map(Cow::Owned),
        }
    }
}

/// Reads exactly `len` bytes.
pub(crate) fn read_owned(file: &dyn VfsFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    if read_full_at(file, &mut bytes, offset)? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
