//! Exact accounting of what lives in each segment, told by whoever writes and whoever replaces.
//!
//! # Layout
//! `counts`: the numbers of one segment. `expiry`: when its bytes expire. `waits`: which tombstones wait for which segment.
//!
//! # Invariants
//! - A record is added once, before anybody can call it dead, and is called dead at most once, with the same
//!   [`RecordInfo`]. Then `live` is exactly the sum over records that are added and not dead.
//! - A death that is told twice shows in [`Totals::overcounted_bytes`] as soon as it makes a segment emptier than
//!   empty; live bytes never go below 0.
//!
//! # Concurrency
//! Every method takes `&self`. Counting takes a read lock on the list of segments, held for a few instructions; only the
//! first record of a segment and its retirement take the write lock.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::stats::{SegmentId, SegmentStats, space_amplification};

mod counts;
mod expiry;
mod waits;

use counts::Counters;
pub use counts::{Counts, Origin, RecordInfo, SegmentCounts};
use waits::Waits;

/// Live bytes, records, tombstones and expiring bytes per segment.
#[derive(Debug, Default)]
pub struct LivenessTable {
    segments: RwLock<BTreeMap<SegmentId, Arc<Counters>>>,
    waits: Waits,
}

/// The counters of one segment of a [`LivenessTable`], for an owner who has the segment at hand: counting takes no lock and
/// no look-up. It goes on counting, for nobody, when the segment was retired.
#[derive(Debug, Clone)]
pub struct SegmentLiveness(Arc<Counters>);

impl SegmentLiveness {
    /// As [`LivenessTable::add`].
    #[inline]
    pub fn add(&self, record: RecordInfo) {
        self.0.add(record);
    }

    /// As [`LivenessTable::dead`].
    #[inline]
    pub fn dead(&self, record: RecordInfo) {
        self.0.kill(record);
    }
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

    /// Enters a segment before its first record; false, and nothing changes, if it is there already.
    pub fn create(&self, segment: SegmentId, origin: Origin) -> bool {
        let mut segments = self.write();
        let is_new = !segments.contains_key(&segment);
        if is_new {
            segments.insert(segment, Arc::new(Counters::new(origin)));
        }
        is_new
    }

    /// The counters of a segment, which is entered if it is new.
    pub fn segment(&self, segment: SegmentId, origin: Origin) -> SegmentLiveness {
        let mut segments = self.write();
        let counters = segments.entry(segment).or_insert_with(|| Arc::new(Counters::new(origin)));
        SegmentLiveness(Arc::clone(counters))
    }

    /// A record is in this segment and live. A segment that was not created is entered, its id as its age.
    pub fn add(&self, segment: SegmentId, record: RecordInfo) {
        if let Some(counters) = self.read().get(&segment) {
            return counters.add(record);
        }
        let mut segments = self.write();
        let counters = segments.entry(segment);
        counters.or_insert_with(|| Arc::new(Counters::new(Origin::new(segment)))).add(record);
    }

    /// A record in this segment is dead. False if the segment is not in the table: it was retired while the caller was
    /// on its way, and nothing is left to count.
    pub fn dead(&self, segment: SegmentId, record: RecordInfo) -> bool {
        let segments = self.read();
        let counters = segments.get(&segment);
        counters.inspect(|counters| counters.kill(record)).is_some()
    }

    /// Tombstones of so many bytes in `segment` must stay, because `blocker` may hold what they delete.
    ///
    /// A job's store says so when it keeps a tombstone. It naming one of several blockers is enough: once that one is
    /// retired the tombstones are worth another try, which then names the next. A store that never says so has its
    /// tombstones rewritten again and again.
    pub fn wait(&self, segment: SegmentId, blocker: SegmentId, bytes: u64) {
        let segments = self.read();
        // Under the lock, so that no wait is entered behind the retirement of either.
        if segments.contains_key(&blocker) && segments.contains_key(&segment) {
            self.waits.add(segment, blocker, bytes);
        }
    }

    /// Takes a segment out, when its file goes; its last numbers, or `None` if it is not in the table.
    pub fn retire(&self, segment: SegmentId) -> Option<SegmentStats> {
        let mut segments = self.write();
        let counters = segments.remove(&segment)?;
        self.waits.retire(segment);
        Some(counters.stats(segment, 0))
    }

    /// The numbers of one segment, as a sealed one; `now_ms` decides what has expired.
    pub fn get(&self, segment: SegmentId, now_ms: u64) -> Option<SegmentStats> {
        let segments = self.read();
        let mut stats = [segments.get(&segment)?.stats(segment, now_ms)];
        self.waits.fill(&mut stats);
        Some(stats[0])
    }

    /// Live bytes by all bytes of one segment, 0 to 1; `None` if it is not in the table or empty.
    pub fn live_ratio(&self, segment: SegmentId) -> Option<f64> {
        let stats = self.get(segment, 0)?;
        (stats.total_bytes > 0).then(|| stats.live_bytes as f64 / stats.total_bytes as f64)
    }

    /// The numbers of all segments in order of id, for a strategy; `is_sealed` says which may be picked, and `now_ms`
    /// (milliseconds of the wall clock) decides what has expired.
    pub fn stats(&self, now_ms: u64, is_sealed: impl Fn(SegmentId) -> bool) -> Vec<SegmentStats> {
        let segments = self.read();
        let stats = segments.iter().map(|(&id, counters)| counters.stats(id, now_ms));
        let mark = |stats: SegmentStats| if is_sealed(stats.id) { stats } else { stats.active() };
        let mut stats: Vec<SegmentStats> = stats.map(mark).collect();
        self.waits.fill(&mut stats);
        stats
    }

    /// All numbers, in order of id, for an owner who keeps them on disk. Who waits for whom is not among them: after a
    /// [`load`](Self::load) each tombstone is tried once more.
    ///
    /// Each segment's numbers are of about one moment; told deaths may go on meanwhile.
    pub fn export(&self) -> Vec<SegmentCounts> {
        self.read().iter().map(|(&id, counters)| counters.export(id)).collect()
    }

    /// Enters a segment with numbers that [`export`](Self::export) gave, in place of what the table knew of it. False,
    /// and nothing changes, if the numbers contradict one another (more live than there is).
    pub fn load(&self, counts: &SegmentCounts) -> bool {
        let counters = Counters::import(counts);
        counters.map(|counters| self.write().insert(counts.id, Arc::new(counters))).is_some()
    }

    /// The sums over all segments. Each segment's numbers are of one moment, those of two segments need not be.
    pub fn totals(&self) -> Totals {
        let segments = self.read();
        let mut totals = Totals { segments: segments.len(), ..Totals::default() };
        for counters in segments.values() {
            let (added, dead) = counters.sums();
            totals.total_bytes += added.bytes;
            totals.live_bytes += added.bytes.saturating_sub(dead.bytes);
            totals.overcounted_bytes += dead.bytes.saturating_sub(added.bytes);
        }
        totals
    }

    /// All bytes by live bytes, see [`space_amplification`].
    pub fn space_amplification(&self) -> f64 {
        let totals = self.totals();
        space_amplification(totals.total_bytes, totals.live_bytes)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<SegmentId, Arc<Counters>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<SegmentId, Arc<Counters>>> {
        self.segments.write().unwrap_or_else(PoisonError::into_inner)
    }
}
