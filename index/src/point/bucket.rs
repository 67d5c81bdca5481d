//! The `bucket` kind of the point index: 8 bytes an entry, one cache line a look-up, no lock.
//!
//! # Layout
//! - `word`: a slot, and the states it goes through
//! - `geometry`: where a hash belongs in a table, and what of it a place and a tag give back
//! - `memory`: slots and links; the unsafe part
//! - `table`: buckets, groups, overflow, and the walk over the slots of a key
//! - `shard`: the operations
//! - `resize`: growth and shrinking; `content`: what a group of the next table begins with
//! - `export`: the walk over everything; `raw`: tables as bytes, for a file
//! - `metrics`: counts
//!
//! The doc-only module [`design`](crate::design) draws all of it.

mod content;
mod export;
mod geometry;
#[cfg(all(test, loom))]
mod loom_models;
mod memory;
mod metrics;
mod raw;
mod resize;
mod shard;
mod table;
mod word;

pub use metrics::BucketStats;

use metrics::{Memory, ResizeCounters};
use resize::Sizes;
use shard::{Shard, Shared};

use super::{BatchVerify, Entry, ExportPosition, Location, NewEntry, Outcome, PointIndex, Probe};
use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::prefetch::prefetch;
use crate::reclaim::{Guard, pin};
use crate::sync::atomic::Ordering;

/// Look-ups of a batch that wait for memory at the same time.
const BATCH: usize = 16;

/// LIMIT: far beyond any number of cores.
const SHARDS_MAX: u32 = 1 << 16;

/// How a [`BucketPoint`] is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketOptions {
    /// Shards, a power of two from 1 to 65,536; 256 unless set. More of them make a resize of one shorter; each takes
    /// 1 KiB when empty. Up to 1,024 are measured.
    pub shards: usize,
    /// Entries that the index is sized for from the start; 0 unless set. It grows beyond like any other.
    pub capacity: usize,
}

impl Default for BucketOptions {
    fn default() -> Self {
        BucketOptions { shards: 256, capacity: 0 }
    }
}

impl BucketOptions {
    /// Sets the number of shards.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Sets the number of entries to be sized for.
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity;
        self
    }
}

/// A lock-free point index: about 10 to 12 bytes of RAM per entry whatever the key, at any number of entries.
///
/// # Progress
/// - [`get`](PointIndex::get) and [`find`](Self::find) are wait-free as long as no resize of the shard ends meanwhile,
///   and look again once for each that does. They read one cache line of the index in the usual case.
/// - [`install`](PointIndex::install), [`remove`](PointIndex::remove) and [`swap`](PointIndex::swap) are lock-free: a
///   thread that is stopped anywhere, in the middle of a resize too, holds up nobody. What they wait for is the
///   allocator, when a shard begins to resize, and the closures that they are given.
/// - A call that changes the index moves at most 64 buckets for a resize that is under way, and at most the overflow of
///   their groups, which is empty unless hashes collide.
///
/// # Memory
/// A table is between 64 % and 85 % full, with an 8-byte slot for each entry; shards grow one after the other, so the
/// index as a whole stays near 11 bytes an entry. While a shard is resized it holds both tables.
///
/// # Limits
/// An entry tells keys apart by 23 bits of the hash. Each time an index doubles, one of them goes into the place of the
/// entry instead: an index that grew from empty to 20 million entries in 256 shards looks at a record of another key
/// once in 200 look-ups, at 200 million once in 20. [`BucketOptions::capacity`] and more shards avoid that. A shard
/// holds 7 million entries at its best; beyond, look-ups in it become slow.
///
/// ```
/// use cortenkv_index::{Address, BucketOptions, BucketPoint, NewEntry, PointIndex, Probe, Version};
///
/// let index = BucketPoint::with_options(BucketOptions::default().capacity(1_000_000))?;
/// let (hash, key) = (0x9E37_79B9_7F4A_7C15, b"key");
/// let version = Version { seq: 1, tombstone: false, segment: 0 };
/// let address = Address::new(0, 4096)?;
/// let probe = |_: Address, _: u32, key: &[u8]| match key {
///     b"key" => Probe::Same(version),
///     _ => Probe::Other,
/// };
/// let new = NewEntry { hash, keyspace: 0, key, address, version };
/// index.install(&new, &probe, &mut |_old| {});
/// assert_eq!(index.find(hash, |at| probe(at, 0, key)), Some(address));
/// # Ok::<(), cortenkv_index::Error>(())
/// ```
pub struct BucketPoint {
    shards: Box<[Shard]>,
    /// How far a hash is shifted left to leave the bits below those of the shard.
    shard_bits: u32,
    shared: Shared,
}

impl BucketPoint {
    /// An empty index with [`BucketOptions::default`].
    pub fn new() -> Self {
        Self::with_options(BucketOptions::default()).expect("the defaults are legal")
    }

    /// An empty index.
    ///
    /// # Errors
    /// `InvalidArgument` if `shards` is not a power of two from 1 to 65,536.
    pub fn with_options(options: BucketOptions) -> Result<Self> {
        let BucketOptions { shards, capacity } = options;
        if !shards.is_power_of_two() || shards > SHARDS_MAX as usize {
            let text = format!("{shards} shards; choose a power of two from 1 to 65,536");
            return Err(Error::new(ErrorKind::InvalidArgument, text));
        }
        let shared = Shared { memory: Memory::default(), resizes: ResizeCounters::default() };
        let capacity_each = capacity_of_shard(capacity, shards);
        let shards = (0..shards)
            .map(|n| Shard::new(Sizes::new(n as f64 / shards as f64, capacity_each), &shared))
            .collect::<Box<[Shard]>>();
        shared.memory.add(size_of_val(&*shards) + size_of::<Self>());
        Ok(BucketPoint { shard_bits: shards.len().trailing_zeros(), shards, shared })
    }

    /// [`PointIndex::get`] for a closure whose type is known: the look-up without an indirect call.
    #[inline]
    pub fn find(&self, hash: u64, verify: impl FnMut(Address) -> Probe) -> Option<Address> {
        self.find_pinned(hash, &pin(), verify)
    }

    /// [`find`](Self::find) under a pin that the caller holds anyway.
    #[inline]
    pub fn find_pinned(
        &self,
        hash: u64,
        guard: &Guard,
        verify: impl FnMut(Address) -> Probe,
    ) -> Option<Address> {
        let (shard, cell) = self.locate(hash);
        shard.find(cell, guard, verify)
    }

    /// [`PointIndex::install`] for a location and a closure whose types are known: without an indirect call.
    #[inline]
    pub fn install_with<L: Location + ?Sized>(
        &self,
        new: &NewEntry<'_>,
        locate: &L,
        on_replace: impl FnMut(Option<Entry>),
    ) -> Outcome {
        let (shard, cell) = self.locate(new.hash);
        shard.install(cell, new, locate, on_replace, &self.shared, &pin())
    }

    /// Asks for the cache line that a look-up of this hash reads first: worth it some 100 ns ahead of an operation.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let (shard, cell) = self.locate(hash);
        prefetch(shard.table(&pin()).home(cell));
    }

    /// An address that a look-up of this hash is likely to ask about first, if there is one in its first cache line: for
    /// a prefetch of the record, and for nothing else.
    #[inline]
    pub fn guess(&self, hash: u64) -> Option<Address> {
        let (shard, cell) = self.locate(hash);
        shard.table(&pin()).guess(cell)
    }

    /// Counts of this moment.
    pub fn stats(&self) -> BucketStats {
        let guard = pin();
        // ORDERING: Relaxed: counts.
        let counted = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        let resizes = &self.shared.resizes;
        let mut stats = BucketStats {
            shards: self.shards.len(),
            entries: self.len(),
            resizes: counted(&resizes.begun),
            // One may be finished by another thread before whoever began it has counted it.
            resizes_under_way: counted(&resizes.begun).saturating_sub(counted(&resizes.finished))
                as usize,
            buckets_moved: counted(&resizes.buckets_moved),
            buckets_moved_max: counted(&resizes.buckets_moved_max),
            useful_tag_bits_min: u32::MAX,
            memory_bytes: self.shared.memory.bytes(),
            ..BucketStats::default()
        };
        for shard in &self.shards {
            let table = shard.table(&guard);
            stats.slots += table.geometry.groups() as usize * geometry::GROUP_SLOTS;
            stats.slots_used += table.progress.used.load(Ordering::Relaxed) as usize;
            let bits = table.geometry.useful_tag_bits();
            stats.useful_tag_bits_min = stats.useful_tag_bits_min.min(bits);
        }
        stats
    }

    fn shard_of(&self, hash: u64) -> usize {
        hash.checked_shr(u64::BITS - self.shard_bits).unwrap_or(0) as usize
    }

    /// The shard of a hash, and the cell in it. All tables of a shard have one level, so a cell is good for each.
    #[inline]
    fn locate(&self, hash: u64) -> (&Shard, geometry::Cell) {
        let shard = &self.shards[self.shard_of(hash)];
        (shard, shard.sizes.cell(hash << self.shard_bits))
    }
}

/// The entries that a shard may have when all together have so many: the mean and four deviations.
fn capacity_of_shard(capacity: usize, shards: usize) -> u64 {
    let mean = capacity as f64 / shards as f64;
    (mean + 4.0 * mean.sqrt()).ceil() as u64
}

impl Default for BucketPoint {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for BucketPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BucketPoint").field("stats", &self.stats()).finish()
    }
}

impl PointIndex for BucketPoint {
    fn install(
        &self,
        new: &NewEntry<'_>,
        locate: &dyn Location,
        on_replace: &mut dyn FnMut(Option<Entry>),
    ) -> Outcome {
        self.install_with(new, locate, on_replace)
    }

    fn get(&self, hash: u64, verify: &mut dyn FnMut(Address) -> Probe) -> Option<Address> {
        self.find(hash, verify)
    }

    fn get_batch(
        &self,
        hashes: &[u64],
        verify: &mut dyn BatchVerify,
        found: &mut Vec<Option<Address>>,
    ) {
        found.clear();
        let guard = pin();
        for (chunk, hashes) in hashes.chunks(BATCH).enumerate() {
            let first = chunk * BATCH;
            for &hash in hashes {
                let (shard, cell) = self.locate(hash);
                prefetch(shard.table(&guard).home(cell));
            }
            for (n, &hash) in hashes.iter().enumerate() {
                let (shard, cell) = self.locate(hash);
                if let Some(address) = shard.table(&guard).guess(cell) {
                    verify.prefetch(first + n, address);
                }
            }
            found.extend(hashes.iter().enumerate().map(|(n, &hash)| {
                self.find_pinned(hash, &guard, |address| verify.probe(first + n, address))
            }));
        }
    }

    fn install_batch(
        &self,
        new: &[NewEntry<'_>],
        locate: &dyn Location,
        on_replace: &mut dyn FnMut(usize, Option<Entry>),
        on_outcome: &mut dyn FnMut(usize, Outcome),
    ) {
        for (chunk, entries) in new.chunks(BATCH).enumerate() {
            let first = chunk * BATCH;
            // A pin a chunk, so that a long batch does not keep memory back.
            let guard = pin();
            for entry in entries {
                let (shard, cell) = self.locate(entry.hash);
                prefetch(shard.table(&guard).home(cell));
            }
            for entry in entries {
                let (shard, cell) = self.locate(entry.hash);
                if let Some(address) = shard.table(&guard).guess(cell) {
                    locate.prefetch(address);
                }
            }
            for (n, entry) in entries.iter().enumerate() {
                let (shard, cell) = self.locate(entry.hash);
                let hook = |old| on_replace(first + n, old);
                let outcome = shard.install(cell, entry, locate, hook, &self.shared, &guard);
                on_outcome(first + n, outcome);
            }
        }
    }

    fn remove(&self, hash: u64, address: Address) -> bool {
        let (shard, cell) = self.locate(hash);
        shard.change(cell, address, None, &self.shared, &pin())
    }

    fn swap(&self, hash: u64, old: Address, new: Address) -> bool {
        let (shard, cell) = self.locate(hash);
        shard.change(cell, old, Some(new), &self.shared, &pin())
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.live.count()).sum::<u64>() as usize
    }

    fn export(
        &self,
        from: ExportPosition,
        entries_max: usize,
        out: &mut Vec<Address>,
    ) -> Option<ExportPosition> {
        export::export(&self.shards, &self.shared, from, entries_max, out)
    }

    fn maintain(&self) -> bool {
        let guard = pin();
        self.shards.iter().any(|shard| shard.help_if_resizing(&self.shared, &guard))
    }

    /// Counted: tables, overflow blocks, and what waits for its last reader.
    fn memory_bytes(&self) -> usize {
        self.shared.memory.bytes()
    }
}
