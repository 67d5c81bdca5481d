//! Counts what this process allocates: the memory of an index, the allocations of an operation.
//!
//! Every program that links this package allocates through it. While nobody counts, an allocation costs one relaxed
//! load more, of a flag that never changes; timed cases therefore run with it off, unless they count allocations.
//!
//! # Invariants
//! Bytes are those that were asked for: what the allocator rounds up, and its own books, are not in them.
//!
//! # Concurrency
//! The counters are shared by all threads and relaxed: exact once the threads that allocate are joined.

#![allow(unsafe_code, reason = "the interface of an allocator is unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// What was allocated since counting began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllocCounts {
    /// Bytes allocated and not freed. Freeing what was allocated before the count makes it smaller, also negative.
    pub live_bytes: i64,
    /// Calls that allocated, or moved what was allocated.
    pub allocations: u64,
}

impl AllocCounts {
    /// What was added since an earlier count.
    pub fn since(&self, earlier: &AllocCounts) -> AllocCounts {
        AllocCounts {
            live_bytes: self.live_bytes - earlier.live_bytes,
            allocations: self.allocations - earlier.allocations,
        }
    }
}

/// Counts from now on, in the whole process, until it ends.
pub fn start() {
    IS_COUNTING.store(true, Relaxed);
}

/// The counts so far.
pub fn counts() -> AllocCounts {
    AllocCounts { live_bytes: LIVE_BYTES.load(Relaxed), allocations: ALLOCATIONS.load(Relaxed) }
}

fn note(allocations: u64, bytes: i64) {
    if IS_COUNTING.load(Relaxed) {
        LIVE_BYTES.fetch_add(bytes, Relaxed);
        ALLOCATIONS.fetch_add(allocations, Relaxed);
    }
}

/// The allocator of the system with counters.
struct CountingAllocator;

// SAFETY: every call goes to the allocator of the system with the arguments as they came, and its answer is returned;
// counting neither allocates nor panics.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller keeps the rules of `alloc`, which are the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(1, layout.size() as i64);
        // SAFETY: the caller keeps the rules of `alloc_zeroed`, which are the same there.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(0, -(layout.size() as i64));
        // SAFETY: the caller keeps the rules of `dealloc`; what it frees came from the allocator of the system.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note(1, new_size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps the rules of `realloc`; what it resizes came from the allocator of the system.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_and_what_moved_is_counted() {
        start();
        // Other tests of this process allocate meanwhile, but nothing of this size.
        const LARGE: usize = 64 << 20;
        let before = counts();
        let mut bytes: Vec<u8> = Vec::with_capacity(LARGE);
        bytes.reserve_exact(2 * LARGE);
        let grown = counts().since(&before);
        assert!(grown.allocations >= 2, "{grown:?}");
        assert!((grown.live_bytes - 2 * LARGE as i64).abs() < LARGE as i64 / 2, "{grown:?}");
        drop(bytes);
        assert!(counts().since(&before).live_bytes < LARGE as i64 / 2);
    }
}
