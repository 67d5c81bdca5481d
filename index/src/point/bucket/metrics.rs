//! What the bucket index counts about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes held by tables and blocks; shared by them, because the last of them may go after the index.
// ORDERING: Relaxed throughout this file: counts publish nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory(Arc<AtomicUsize>);

impl Memory {
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What resizing did so far.
#[derive(Debug, Default)]
pub(super) struct ResizeCounters {
    pub(super) begun: AtomicU64,
    pub(super) finished: AtomicU64,
    pub(super) buckets_moved: AtomicU64,
    pub(super) buckets_moved_max: AtomicU64,
}

impl ResizeCounters {
    /// One call of the index moved so many buckets.
    pub(super) fn moved(&self, buckets: u32) {
        self.buckets_moved.fetch_add(u64::from(buckets), Ordering::Relaxed);
        self.buckets_moved_max.fetch_max(u64::from(buckets), Ordering::Relaxed);
    }
}

/// Counts of a [`BucketPoint`](crate::BucketPoint), each of a moment that is past when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BucketStats {
    /// Shards.
    pub shards: usize,
    /// Entries, those of tombstones included.
    pub entries: usize,
    /// Slots of all tables, overflow blocks not counted.
    pub slots: usize,
    /// Slots in use, those of entries that were taken out included.
    pub slots_used: usize,
    /// Shards that are being resized.
    pub resizes_under_way: usize,
    /// Resizes that were begun, of all shards together.
    pub resizes: u64,
    /// Buckets that were moved by all resizes together.
    pub buckets_moved: u64,
    /// The most buckets that one call moved.
    pub buckets_moved_max: u64,
    /// The fewest tag bits that tell apart the keys of one bucket, in any shard.
    pub useful_tag_bits_min: u32,
    /// Memory held, in bytes: counted, not estimated; what waits for its last reader included.
    pub memory_bytes: usize,
}
