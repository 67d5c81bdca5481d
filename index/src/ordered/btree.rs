//! The `btree` kind of the ordered index: one sorted map per keyspace, the oracle for every faster kind.
//!
//! # Layout
//! Each key maps to the number of its last insert, which is what a [`Mark`] holds.
//!
//! # Concurrency
//! A reader-writer lock per keyspace. A cursor takes a batch under the read lock, lets go, and seeks behind its last
//! key for the next, so it never holds a lock between two calls.
//!
//! # Failure
//! No caller's code runs under a lock, so a panic cannot leave a map half changed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::range::KeyRange;
use super::{Direction, KeyBatch, KeyCursor, Mark, OrderedIndex};

/// Bytes per key beside the key itself: 24 in nodes about 70 % full, with headers, and an allocation of its own.
const KEY_OVERHEAD_BYTES_ESTIMATE: usize = 56;

#[derive(Debug, Default)]
struct Keys {
    inserts: BTreeMap<Box<[u8]>, u64>,
    inserts_count: u64,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Keyspace(RwLock<Keys>);

impl Keyspace {
    fn read(&self) -> RwLockReadGuard<'_, Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Keys> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An ordered index of sorted maps: simple and exact, the whole key and about 56 bytes in memory for each.
#[derive(Debug, Default)]
pub struct BTreeOrdered {
    keyspaces: RwLock<BTreeMap<u32, Arc<Keyspace>>>,
}

impl BTreeOrdered {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    fn keyspaces(&self) -> RwLockReadGuard<'_, BTreeMap<u32, Arc<Keyspace>>> {
        self.keyspaces.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, keyspace: u32) -> Option<Arc<Keyspace>> {
        self.keyspaces().get(&keyspace).cloned()
    }

    fn find_or_add(&self, keyspace: u32) -> Arc<Keyspace> {
        self.find(keyspace).unwrap_or_else(|| {
            let mut all = self.keyspaces.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(keyspace).or_default())
        })
    }
}

impl OrderedIndex for BTreeOrdered {
    fn insert(&self, keyspace: u32, key: &[u8]) -> bool {
        let keyspace = self.find_or_add(keyspace);
        let mut keys = keyspace.write();
        keys.inserts_count += 1;
        let number = keys.inserts_count;
        if let Some(last) = keys.inserts.get_mut(key) {
            *last = number;
            return false;
        }
        keys.bytes += key.len();
        keys.inserts.insert(key.into(), number);
        true
    }

    fn mark(&self, keyspace: u32, key: &[u8]) -> Option<Mark> {
        self.find(keyspace)?.read().inserts.get(key).map(|&number| Mark::from_word(number))
    }

    fn remove(&self, keyspace: u32, key: &[u8], mark: Mark) -> bool {
        let Some(keyspace) = self.find(keyspace) else { return false };
        let mut keys = keyspace.write();
        if keys.inserts.get(key) != Some(&mark.word()) {
            return false;
        }
        keys.inserts.remove(key);
        keys.bytes -= key.len();
        true
    }

    fn remove_keyspace(&self, keyspace: u32) {
        // Emptied, not unlinked: a cursor or an insert on its way holds the same keyspace and must see the change,
        // and marks must not repeat.
        if let Some(keyspace) = self.find(keyspace) {
            let mut keys = keyspace.write();
            keys.inserts = BTreeMap::new();
            keys.bytes = 0;
        }
    }

    fn cursor(&self, keyspace: u32, range: KeyRange, direction: Direction) -> Box<dyn KeyCursor> {
        let keyspace = self.find(keyspace);
        Box::new(BTreeCursor { keyspace, range, direction })
    }

    fn len(&self, keyspace: u32) -> usize {
        self.find(keyspace).map_or(0, |keyspace| keyspace.read().inserts.len())
    }

    /// Counts the bytes of the keys and estimates the rest.
    fn memory_bytes(&self) -> usize {
        let of_keyspace = |keyspace: &Arc<Keyspace>| {
            let keys = keyspace.read();
            size_of::<Keyspace>() + keys.bytes + keys.inserts.len() * KEY_OVERHEAD_BYTES_ESTIMATE
        };
        self.keyspaces().values().map(of_keyspace).sum()
    }
}

struct BTreeCursor {
    /// `None` once the walk is over.
    keyspace: Option<Arc<Keyspace>>,
    /// What is still to come.
    range: KeyRange,
    direction: Direction,
}

impl KeyCursor for BTreeCursor {
    fn next_batch(&mut self, keys_max: usize, batch: &mut KeyBatch) -> usize {
        batch.clear();
        // `BTreeMap::range` panics on crossed bounds.
        if self.range.is_empty() {
            self.keyspace = None;
        }
        let Some(keyspace) = &self.keyspace else { return 0 };
        {
            let keys = keyspace.read();
            let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (self.range.start(), self.range.end());
            let found = keys.inserts.range::<[u8], _>(bounds).map(|(key, _)| &**key);
            match self.direction {
                Direction::Forward => fill(found, keys_max, batch),
                Direction::Reverse => fill(found.rev(), keys_max, batch),
            }
        }
        match batch.iter().next_back() {
            None => self.keyspace = None,
            Some(last) if self.direction == Direction::Forward => self.range.start_after(last),
            Some(last) => self.range.end_before(last),
        }
        batch.len()
    }
}

fn fill<'a>(keys: impl Iterator<Item = &'a [u8]>, keys_max: usize, batch: &mut KeyBatch) {
    for key in keys.take(keys_max.max(1)) {
        batch.push(key);
        if batch.bytes() >= KeyBatch::BYTES_MAX {
            break;
        }
    }
}
