//! Dead bits: which records of one segment have been replaced, one bit for every 16 bytes.
//!
//! # Layout
//! The bits come in chunks of 8 KiB, each for 1 MiB of the segment, that are allocated when their first bit is set:
//! a segment whose records are all live costs 16 bytes per MiB.
//!
//! # Invariants
//! No two records start in the same 16 bytes, so a bit belongs to one record. Bits are only ever set.
//!
//! # Concurrency
//! `is_set` is wait-free. `set` is one atomic instruction once its chunk is there. Two threads that need the same
//! chunk for the first time both allocate it, and one of them may have to wait while the other puts it in its place,
//! a few instructions without an allocation.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::address::Address;

/// Bytes of the segment for one bit: no record is shorter.
const UNIT_BYTES: u32 = 16;
/// Bytes of the segment for one chunk of bits.
const CHUNK_BYTES: u32 = 1 << 20;
const WORD_BYTES: u32 = UNIT_BYTES * u64::BITS;

type Chunk = Box<[AtomicU64]>;

/// The dead bits of one segment.
///
/// The writer sets the bit of the old record **before** it makes the new version visible. Hence the guarantee: a bit
/// that is clear means that no later version of the record had become visible when it was read, "visible" in the sense
/// that the reader knows of it: it saw the version, or a sequence number or flag that was published after it. A bit
/// that is set means nothing yet: the point index decides.
///
/// # Example
/// ```
/// use cortenkv_index::DeadBits;
///
/// let dead = DeadBits::new(64 << 20);
/// assert!(dead.set(4096), "it was clear");
/// assert!(!dead.set(4096));
/// assert!(dead.is_set(4096) && !dead.is_set(4112));
/// assert_eq!(dead.count(), 1);
/// ```
pub struct DeadBits {
    chunks: Box<[OnceLock<Chunk>]>,
    segment_bytes: u32,
    count: AtomicUsize,
}

impl DeadBits {
    /// Clear bits for a segment of this many bytes, at most 64 MiB ([`Address::SEGMENT_BYTES_MAX`]); what is beyond
    /// has no bits.
    pub fn new(segment_bytes: u32) -> Self {
        let segment_bytes = segment_bytes.min(Address::SEGMENT_BYTES_MAX);
        let chunks = (0..segment_bytes.div_ceil(CHUNK_BYTES)).map(|_| OnceLock::new()).collect();
        DeadBits { chunks, segment_bytes, count: AtomicUsize::new(0) }
    }

    /// Bits that say of every record that it is dead, but for those that start at the offsets of `live`, each in bytes.
    ///
    /// Offsets beyond the segment are passed over.
    pub fn all_but(segment_bytes: u32, live: impl IntoIterator<Item = u32>) -> Self {
        let bits = DeadBits::new(segment_bytes);
        let mut chunks: Vec<Vec<u64>> = (0..bits.chunks.len() as u32)
            .map(|number| vec![u64::MAX; words_of_chunk(bits.segment_bytes, number)])
            .collect();
        let mut dead = chunks.iter().map(|chunk| chunk.len() * u64::BITS as usize).sum::<usize>();
        for offset_bytes in live {
            let chunk = chunks.get_mut((offset_bytes / CHUNK_BYTES) as usize);
            let (word, bit) = place(offset_bytes);
            let Some(word) = chunk.and_then(|chunk| chunk.get_mut(word)) else { continue };
            dead -= usize::from(*word & bit != 0);
            *word &= !bit;
        }
        for (cell, chunk) in bits.chunks.iter().zip(chunks) {
            let _new = cell.set(chunk.into_iter().map(AtomicU64::new).collect());
        }
        bits.count.store(dead, Ordering::Relaxed);
        bits
    }

    /// Marks the record that starts at this offset; true if it was not marked. Beyond the segment nothing happens.
    #[inline]
    pub fn set(&self, offset_bytes: u32) -> bool {
        if offset_bytes >= self.segment_bytes {
            return false;
        }
        let number = offset_bytes / CHUNK_BYTES;
        let cell = &self.chunks[number as usize];
        let chunk = cell.get().or_else(|| {
            // Built outside the cell, so that no other thread waits for the allocation.
            let words = words_of_chunk(self.segment_bytes, number);
            let words = (0..words).map(|_| AtomicU64::new(0));
            // It fails if another thread was faster, whose chunk is taken then.
            let _lost = cell.set(words.collect());
            cell.get()
        });
        let Some(chunk) = chunk else { return false };
        let (word, bit) = place(offset_bytes);
        // ORDERING: release pairs with the acquire in `is_set`: who finds the record dead sees what its writer did
        // before. That a reader who knows of the new version finds the bit needs no more than program order here and
        // the release that publishes the version. Acquire: who was second sees what the first one did.
        let first = chunk[word].fetch_or(bit, Ordering::AcqRel) & bit == 0;
        if first {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        first
    }

    /// True if the record that starts at this offset was marked, and for every offset beyond the segment: there the
    /// caller must not trust what it holds.
    pub fn is_set(&self, offset_bytes: u32) -> bool {
        if offset_bytes >= self.segment_bytes {
            return true;
        }
        let Some(chunk) = self.chunks[(offset_bytes / CHUNK_BYTES) as usize].get() else {
            return false; // The cell's own acquire load stands for the one below.
        };
        let (word, bit) = place(offset_bytes);
        // ORDERING: acquire pairs with the release in `set`, and keeps what the caller reads next behind this load.
        chunk[word].load(Ordering::Acquire) & bit != 0
    }

    /// The number of marked records. It may lag behind bits that are being set.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The memory of the bits, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let chunks = self.chunks.iter().filter_map(OnceLock::get);
        size_of::<Self>()
            + size_of_val(&*self.chunks)
            + chunks.map(|c| size_of_val(&**c)).sum::<usize>()
    }
}

/// The words that the bits of a chunk take.
fn words_of_chunk(segment_bytes: u32, number: u32) -> usize {
    (segment_bytes - number * CHUNK_BYTES).min(CHUNK_BYTES).div_ceil(WORD_BYTES) as usize
}

/// The word in its chunk and the bit in the word.
fn place(offset_bytes: u32) -> (usize, u64) {
    let unit = offset_bytes % CHUNK_BYTES / UNIT_BYTES;
    ((unit / u64::BITS) as usize, 1 << (unit % u64::BITS))
}

impl fmt::Debug for DeadBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, count) = (self.segment_bytes, self.count());
        f.debug_struct("DeadBits").field("segment_bytes", &bytes).field("count", &count).finish()
    }
}
