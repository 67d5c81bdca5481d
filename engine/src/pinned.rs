//! Values without a copy: what a read hands out instead of bytes of its own.
//!
//! # Invariants
//! A pinned value keeps its segment readable (rule 10), whatever becomes of the key, the file and the database.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use crate::parts::{DurableSegment, PinnedBytes};
use crate::record::RecordRef;

/// A value in the log, kept without a copy; made by [`Keyspace::get_pinned`](crate::Keyspace::get_pinned).
///
/// It reads as a byte slice, and stays as it is when the key is written or deleted, the database closed, or its
/// directory removed. As long as it lives, the whole segment of the value stays mapped (and on disk, its space is not
/// given back): keep it for as long as the value is in use. [`Stats::pinned_bytes`](crate::Stats::pinned_bytes) counts
/// the values. `Bytes::from` makes it a shareable `Bytes`, still without a copy.
///
/// Copied all the same are values of compressed commits, and all values where the file system cannot map files. In a
/// forked child it must not be looked at.
pub struct PinnedValue {
    bytes: Kept,
    /// Where the bytes are counted; `None` for a copy.
    counter: Option<Arc<AtomicU64>>,
}

enum Kept {
    Mapped(PinnedBytes),
    /// Shared with a database in memory, or a copy.
    Bytes(Bytes),
}

/// Where a record that is being shown comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// From memory; the value as it is shared there.
    Memory(&'a Bytes),
    Durable(&'a DurableSegment),
}

impl PinnedValue {
    /// Keeps the value of a record that is being shown.
    pub(crate) fn new(
        record: &RecordRef<'_>,
        source: Source<'_>,
        counter: &Arc<AtomicU64>,
    ) -> Self {
        let kept = match source {
            Source::Memory(value) => Some(Kept::Bytes(value.clone())),
            Source::Durable(segment) => segment.pin(record).map(Kept::Mapped),
        };
        let Some(bytes) = kept else {
            let copy = Bytes::copy_from_slice(record.value);
            return PinnedValue { bytes: Kept::Bytes(copy), counter: None };
        };
        counter.fetch_add(record.value.len() as u64, Relaxed);
        PinnedValue { bytes, counter: Some(Arc::clone(counter)) }
    }
}

impl Deref for PinnedValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Kept::Mapped(bytes) => bytes,
            Kept::Bytes(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for PinnedValue {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<PinnedValue> for Bytes {
    fn from(pinned: PinnedValue) -> Bytes {
        Bytes::from_owner(pinned)
    }
}

impl Drop for PinnedValue {
    fn drop(&mut self) {
        if let Some(counter) = &self.counter {
            counter.fetch_sub(self.len() as u64, Relaxed);
        }
    }
}

impl fmt::Debug for PinnedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedValue").field("len", &self.len()).finish_non_exhaustive()
    }
}

const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<PinnedValue>();
};
