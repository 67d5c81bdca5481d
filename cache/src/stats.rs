//! The numbers of a read cache: counters that are cheap to add to, and the snapshot of them that users see.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters for a cache to keep; adding never waits.
#[derive(Debug, Default)]
pub struct CacheCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
}

impl CacheCounters {
    /// A look-up found its value.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Relaxed);
    }

    /// A look-up found nothing.
    pub fn miss(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    /// A value left to make room.
    pub fn evict(&self) {
        self.evictions.fetch_add(1, Relaxed);
    }

    /// The counters as they are, with what the cache knows about its own content.
    pub fn snapshot(&self, entries: u64, bytes: u64) -> CacheStats {
        let [hits, misses, evictions] =
            [&self.hits, &self.misses, &self.evictions].map(|counter| counter.load(Relaxed));
        CacheStats { hits, misses, evictions, entries, bytes }
    }
}

/// What a cache did since it was made, and what it holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Look-ups that found their value.
    pub hits: u64,
    /// Look-ups that found nothing.
    pub misses: u64,
    /// Values that left to make room.
    pub evictions: u64,
    /// Values held now.
    pub entries: u64,
    /// The bytes held now, as the cache accounts them.
    pub bytes: u64,
}

impl CacheStats {
    /// Hits by look-ups, 0 to 1; `None` before the first look-up.
    pub fn hit_rate(&self) -> Option<f64> {
        let lookups = self.hits + self.misses;
        (lookups > 0).then(|| self.hits as f64 / lookups as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_lands_in_its_own_counter() {
        let counters = CacheCounters::default();
        assert_eq!(counters.snapshot(0, 0).hit_rate(), None);
        (0..3).for_each(|_| counters.hit());
        counters.miss();
        (0..2).for_each(|_| counters.evict());
        let stats = counters.snapshot(5, 60);
        let expected = CacheStats { hits: 3, misses: 1, evictions: 2, entries: 5, bytes: 60 };
        assert_eq!((stats, stats.hit_rate()), (expected, Some(0.75)));
    }
}
