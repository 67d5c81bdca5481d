//! Exact accounting of live bytes: two counters per segment, told by whoever writes and whoever replaces.
//!
//! # Invariants
//! - A record is added once, before anybody can call it dead, and is called dead at most once. Then `live` is exactly
//!   the bytes of the records that are added and not dead.
//! - A death that is told twice shows in [`Totals::overcounted_bytes`] as soon as it makes a segment emptier than
//!   empty; live bytes never go below 0.
//!
//! # Concurrency
//! Every method takes `&self`. Counting takes a read lock on the list of segments, held for two instructions; only the
//! first record of a segment and its retirement take the write lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::stats::{SegmentId, SegmentStats, space_amplification};

#[derive(Debug, Default)]
struct Counters {
    added_bytes: AtomicU64,
    dead_bytes: AtomicU64,
}

impl Counters {
    /// (added, dead), where each death that is seen has its addition seen.
    fn load(&self) -> (u64, u64) {
        // ORDERING: Acquire pairs with the Release in `dead`: whoever tells of a death knows of the addition, so the
        // addition is visible here too, and dead <= added whatever else goes on.
        let dead_bytes = self.dead_bytes.load(Ordering::Acquire);
        (self.added_bytes.load(Ordering::Relaxed), dead_bytes)
    }
}

/// Live bytes per segment.
#[derive(Debug, Default)]
pub struct LivenessTable {
    segments: RwLock<BTreeMap<SegmentId, Counters>>,
}

/// Sums over the segments of a [`LivenessTable`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// The number of segments.
    pub segments: usize,
    /// The bytes of all records.
    pub total_bytes: u64,
    /// The bytes of live records.
    pub live_bytes: u64,
    /// Bytes that were called dead beyond all there were. Not 0: some death was told twice; tests assert 0.
    pub overcounted_bytes: u64,
}

impl LivenessTable {
    /// A table without segments.
    pub fn new() -> Self {
        Self::default()
    }

    /// A record of this size is in this segment and live. The segment is entered if it is new.
    pub fn add(&self, segment: SegmentId, bytes: u64) {
        if let Some(counters) = self.read().get(&segment) {
            counters.added_bytes.fetch_add(bytes, Ordering::Relaxed);
            return;
        }
        let mut segments = self.write();
        *segments.entry(segment).or_default().added_bytes.get_mut() += bytes;
    }

    /// A record of this size in this segment is dead. False if the segment is not in the table: it was retired while
    /// the caller was on its way, and nothing is left to count.
    pub fn dead(&self, segment: SegmentId, bytes: u64) -> bool {
        let segments = self.read();
        let Some(counters) = segments.get(&segment) else { return false };
        // ORDERING: AcqRel pairs with the Acquire in `load`. Acquire too, so that this write passes on the additions
        // behind earlier deaths.
        counters.dead_bytes.fetch_add(bytes, Ordering::AcqRel);
        true
    }

    /// Takes a segment out, when its file goes; its last numbers, or `None` if it is not in the table.
    pub fn retire(&self, segment: SegmentId) -> Option<SegmentStats> {
        let counters = self.write().remove(&segment)?;
        Some(stats_of(segment, &counters))
    }

    /// The numbers of one segment, as a sealed one.
    pub fn get(&self, segment: SegmentId) -> Option<SegmentStats> {
        self.read().get(&segment).map(|counters| stats_of(segment, counters))
    }

    /// Live bytes by all bytes of one segment, 0 to 1; `None` if it is not in the table or empty.
    pub fn live_ratio(&self, segment: SegmentId) -> Option<f64> {
        let stats = self.get(segment)?;
        (stats.total_bytes > 0).then(|| stats.live_bytes as f64 / stats.total_bytes as f64)
    }

    /// The numbers of all segments in order of id, for a strategy; `is_sealed` says which may be picked.
    pub fn stats(&self, is_sealed: impl Fn(SegmentId) -> bool) -> Vec<SegmentStats> {
        let segments = self.read();
        let stats = segments.iter().map(|(&id, counters)| stats_of(id, counters));
        stats.map(|stats| if is_sealed(stats.id) { stats } else { stats.active() }).collect()
    }

    /// The sums over all segments. Each segment's numbers are of one moment, those of two segments need not be.
    pub fn totals(&self) -> Totals {
        let segments = self.read();
        let mut totals = Totals { segments: segments.len(), ..Totals::default() };
        for counters in segments.values() {
            let (added_bytes, dead_bytes) = counters.load();
            totals.total_bytes += added_bytes;
            totals.live_bytes += added_bytes.saturating_sub(dead_bytes);
            totals.overcounted_bytes += dead_bytes.saturating_sub(added_bytes);
        }
        totals
    }

    /// All bytes by live bytes, see [`space_amplification`].
    pub fn space_amplification(&self) -> f64 {
        let totals = self.totals();
        space_amplification(totals.total_bytes, totals.live_bytes)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<SegmentId, Counters>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<SegmentId, Counters>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stats_of(segment: SegmentId, counters: &Counters) -> SegmentStats {
    let (added_bytes, dead_bytes) = counters.load();
    SegmentStats::new(segment, added_bytes, added_bytes.saturating_sub(dead_bytes))
}
