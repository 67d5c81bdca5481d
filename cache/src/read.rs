//! The read cache: values that were expensive to make, kept as long as there is room.

use crate::stats::{CacheCounters, CacheStats};

/// A cache of values that can be made again at any time.
///
/// A key names content that never changes, such as (segment, generation, chunk): then a late fill can never bring back
/// an old value. Data that is overwritten in place must not be cached under one key.
///
/// # Concurrency
/// All methods take `&self` and may run at the same time from any thread.
pub trait ReadCache<K, V>: Send + Sync {
    /// The value, if it is here. Counts as a hit or a miss.
    fn get(&self, key: &K) -> Option<V>;

    /// Offers a value; the cache may keep it or not. `bytes` is what it takes from the budget.
    fn fill(&self, key: K, value: V, bytes: u64);

    /// Forgets a value, if it is here; for content that is gone.
    fn remove(&self, key: &K);

    /// What the cache did and holds.
    fn stats(&self) -> CacheStats;
}

/// Keeps nothing: each look-up is a miss. For a program without a read cache.
#[derive(Debug, Default)]
pub struct NoCache {
    counters: CacheCounters,
}

impl<K, V> ReadCache<K, V> for NoCache {
    fn get(&self, _key: &K) -> Option<V> {
        self.counters.miss();
        None
    }

    fn fill(&self, _key: K, _value: V, _bytes: u64) {}

    fn remove(&self, _key: &K) {}

    fn stats(&self) -> CacheStats {
        self.counters.snapshot(0, 0)
    }
}
