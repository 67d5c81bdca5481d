//! Raw memory that one thread at a time stores to and any number of threads read: a mapped file or anonymous pages.
//!
//! # Invariants
//! - The memory stays mapped, at one address, until the region is dropped.
//! - A byte range is stored by one thread before its head word is published, and never again after that.
//! - Readers ask only for bytes below the file's length whose head word they have loaded with `load`, or that they
//!   know to be published by another synchronisation (the watermark of the log).
//!
//! This file and `os.rs` are the only ones in the crate with unsafe code.

#![expect(
    unsafe_code,
    reason = "raw mapped memory: no safe type expresses stores beside readers of other ranges"
)]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// A mapping of fixed length and address.
#[derive(Debug)]
pub(crate) struct Region {
    base: *mut u8,
    len: usize,
    /// Memory of the allocator, not of the kernel.
    #[cfg(feature = "test-util")]
    allocated: bool,
}

// SAFETY: the region is memory, not tied to a thread; who may touch which bytes when is the contract of the methods.
unsafe impl Send for Region {}
// SAFETY: as above; concurrent `store` and `bytes` touch disjoint ranges by the module's invariants, and head words
// are accessed atomically.
unsafe impl Sync for Region {}

impl Region {
    /// Zeroed anonymous memory; pages cost nothing until they are stored to.
    pub(crate) fn anonymous(len: u64) -> io::Result<Region> {
        let len = checked_len(len)?;
        // SAFETY: a fresh private mapping at an address chosen by the kernel aliases nothing.
        let base = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        Ok(Region::mapped(base, len))
    }

    /// The same from the allocator: what the simulator maps is small and short-lived, and two system calls with the page faults
    /// of fresh memory cost it more than everything that is done with the mapping.
    #[cfg(feature = "test-util")]
    pub(crate) fn allocated(len: u64) -> io::Result<Region> {
        let layout = allocated_layout(checked_len(len)?);
        // SAFETY: the layout is not empty, `checked_len` has seen to it.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        if base.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        Ok(Region { base, len: layout.size(), allocated: true })
    }

    fn mapped(base: *mut std::ffi::c_void, len: usize) -> Region {
        Region {
            base: base.cast(),
            len,
            #[cfg(feature = "test-util")]
            allocated: false,
        }
    }

    /// A shared mapping of the start of a file, longer than the file where `len` says so.
    pub(crate) fn of_file(fd: BorrowedFd<'_>, len: u64, writable: bool) -> io::Result<Region> {
        let len = checked_len(len)?;
        let prot = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a fresh mapping at an address chosen by the kernel aliases no Rust object. Other processes cannot
        // change the file while the directory lock is held, and this one stores through one `Region` only.
        let base = unsafe { mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, fd, 0)? };
        let region = Region::mapped(base, len);
        // SAFETY: the range is exactly the mapping just made. DONTFORK: a child must not store into the log.
        unsafe { madvise(region.base.cast(), region.len, Advice::LinuxDontFork)? };
        Ok(region)
    }

    /// Stores bytes that no reader looks at yet.
    pub(crate) fn store(&self, offset: u64, bytes: &[u8]) {
        let start = self.check(offset, bytes.len());
        // SAFETY: the range is inside the mapping (checked), nobody reads it before its head word is published and
        // nobody else stores to it (contract of `TailMap`), and `bytes` is a Rust slice outside the mapping.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(start), bytes.len());
        }
    }

    /// Stores a head word; see [`super::TailMap::publish`].
    pub(crate) fn publish(&self, offset: u64, word: u64) {
        // ORDERING: Release, pairs with the Acquire of `load`: publishes the record that the word heads.
        self.word(offset).store(word.to_le(), Ordering::Release);
    }

    /// Loads a head word; zero when nothing was published there.
    pub(crate) fn load(&self, offset: u64) -> u64 {
        // ORDERING: Acquire, pairs with the Release of `publish`.
        u64::from_le(self.word(offset).load(Ordering::Acquire))
    }

    /// The bytes of a published range.
    pub(crate) fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        let start = self.check(offset, len);
        // SAFETY: the range is inside the mapping (checked) and initialised (mapped memory is zeroed or file content);
        // by the contract nobody stores to published bytes again, so the shared slice stays valid while `self` lives.
        unsafe { std::slice::from_raw_parts(self.base.add(start), len) }
    }

    /// Lets go of the whole pages in a range; a hint.
    pub(crate) fn discard(&self, offset: u64, len: u64) {
        // On a shared mapping this takes the pages out of the mapping and leaves them, dirty or not, in the file, from
        // where the next access gets them again; anonymous staging memory is discarded when its bytes are in the file
        // and are never read from here again.
        self.advise(offset, len, Advice::LinuxDontNeed);
    }

    /// Takes the page faults of later stores to the whole pages in a range now; a hint.
    pub(crate) fn populate(&self, offset: u64, len: u64) {
        self.advise(offset, len, Advice::LinuxPopulateWrite);
    }

    fn advise(&self, offset: u64, len: u64, advice: Advice) {
        let page_bytes = rustix::param::page_size() as u64;
        let start = offset.next_multiple_of(page_bytes);
        let end = (offset.saturating_add(len)).min(self.len as u64) / page_bytes * page_bytes;
        if start >= end {
            return;
        }
        // SAFETY: the page range lies inside the mapping; populating changes no byte, and what discarding does to which
        // bytes is said above.
        let hint = unsafe {
            madvise(self.base.add(start as usize).cast(), (end - start) as usize, advice)
        };
        // A hint that the kernel refuses or does not know costs time, nothing else.
        let _ = hint;
    }

    fn word(&self, offset: u64) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "head words are aligned to 8 bytes, not at {offset}");
        let start = self.check(offset, 8);
        // SAFETY: 8 bytes inside the mapping, aligned (the mapping starts on a page, allocated memory at a word), and every access to a head word
        // before it is published goes through this atomic.
        unsafe { AtomicU64::from_ptr(self.base.add(start).cast()) }
    }

    fn check(&self, offset: u64, len: usize) -> usize {
        let end = offset.checked_add(len as u64);
        assert!(
            end.is_some_and(|end| end <= self.len as u64),
            "bytes {offset}+{len} lie outside a mapping of {}",
            self.len
        );
        offset as usize
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        #[cfg(feature = "test-util")]
        if self.allocated {
            // SAFETY: `allocated` made it with this layout, and no slice outlives `self`.
            unsafe { std::alloc::dealloc(self.base, allocated_layout(self.len)) };
            return;
        }
        // SAFETY: base and len are exactly what mmap returned, and no slice outlives `self`.
        let unmapped = unsafe { munmap(self.base.cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "munmap of a region failed");
    }
}

/// What [`Region::allocated`] asks for: aligned for head words.
#[cfg(feature = "test-util")]
fn allocated_layout(len: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(len, align_of::<AtomicU64>())
        .expect("it was checked before")
}

fn checked_len(len: u64) -> io::Result<usize> {
    usize::try_from(len).ok().filter(|len| *len > 0).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "a mapping needs a length of 1 byte or more")
    })
}

/// Tells a process that it is a forked child of the one that made the sentinel.
///
/// The kernel wipes the page in a child (MADV_WIPEONFORK), so a look costs one load and no system call.
/// All logs of a process share one page.
#[derive(Debug, Clone)]
pub(crate) struct ForkSentinel(Option<Arc<Region>>);

/// The page of this process, once it has opened a log; after a fork, that of its parent.
static SENTINEL: Mutex<Option<ForkSentinel>> = Mutex::new(None);

impl ForkSentinel {
    /// The sentinel of this process, which is made when there is none that was not forked.
    pub(crate) fn of_process() -> io::Result<Self> {
        // Whoever held the lock at a fork holds it for ever in the child, so nobody waits for it.
        let Ok(mut shared) = SENTINEL.try_lock() else { return ForkSentinel::new() };
        match shared.as_ref().filter(|sentinel| !sentinel.is_forked()) {
            Some(sentinel) => Ok(sentinel.clone()),
            None => Ok(shared.insert(ForkSentinel::new()?).clone()),
        }
    }

    fn new() -> io::Result<Self> {
        let region = Region::anonymous(rustix::param::page_size() as u64)?;
        // SAFETY: the range is exactly the fresh anonymous mapping; the advice changes what a child sees, nothing here.
        let wiped = unsafe { madvise(region.base.cast(), region.len, Advice::LinuxWipeOnFork) };
        // Kernels before 4.14 cannot tell; there a child is not recognised.
        if wiped.is_err() {
            return Ok(ForkSentinel(None));
        }
        region.publish(0, 1);
        Ok(ForkSentinel(Some(Arc::new(region))))
    }

    pub(crate) fn is_forked(&self) -> bool {
        self.0.as_ref().is_some_and(|region| region.load(0) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_word_reads_back() {
        let region = Region::anonymous(8192).unwrap();
        region.store(8, b"abc");
        region.publish(0, 0x0102_0304_0506_0708);
        assert_eq!(region.load(0), 0x0102_0304_0506_0708);
        assert_eq!(region.bytes(8, 3), b"abc");
        assert_eq!(region.bytes(0, 1), [8], "words are little-endian in memory");
    }

    #[test]
    fn discarded_pages_read_as_zeroes() {
        let region = Region::anonymous(16384).unwrap();
        region.store(4096, &[7; 4096]);
        region.discard(4096, 4096);
        assert_eq!(region.bytes(4096, 4096), [0; 4096]);
    }

    #[test]
    #[should_panic(expected = "outside a mapping")]
    fn bytes_outside_the_mapping_are_refused() {
        let region = Region::anonymous(4096).unwrap();
        region.bytes(4090, 7);
    }
}
