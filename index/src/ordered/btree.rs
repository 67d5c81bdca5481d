//! The `btree` kind of the ordered index: one sorted map per keyspace, the oracle for every faster kind.
//!
//! # Layout
//! Each key maps to the number of its last insert: a mark, void as soon as the key is inserted again.
//!
//! # Concurrency
//! A reader-writer lock per keyspace. A cursor takes a batch under the read lock, lets go, and seeks behind its last
//! key for the next, so it never holds a lock between two calls. `maintain` walks the keys in chunks: it marks a chunk,
//! waits until all pins of that moment are gone, asks the owner, and removes what is dead and still bears its mark.
//!
//! # Failure
//! No caller's code runs under the lock of a keyspace, so a panic cannot leave a map half changed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use super::batch::KeyBatch;
use super::owner::{KeyOwner, KeyState};
use super::range::KeyRange;
use super::stats::OrderStats;
use super::{Direction, KeyCursor, OrderedIndex};
use crate::error::Result;
use crate::reclaim::Grace;

/// Bytes per key beside the key itself: 24 in nodes about 70 % full, with headers, and an allocation of its own.
const KEY_OVERHEAD_BYTES_ESTIMATE: usize = 56;

/// Keys of one unit of background work.
const CHUNK_KEYS: usize = 1_024;

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

    /// Takes the key out if it was not inserted again since the mark.
    fn remove(&self, key: &[u8], mark: u64) -> bool {
        let mut keys = self.write();
        if keys.inserts.get(key) != Some(&mark) {
            return false;
        }
        keys.inserts.remove(key);
        keys.bytes -= key.len();
        true
    }
}

/// A walk of the background work over all keys of all keyspaces.
#[derive(Debug, Default)]
struct Sweep {
    keyspace: u32,
    /// The keys of the keyspace that come next, all if `None`.
    after: Option<Box<[u8]>>,
    chunk: Option<Chunk>,
    dropped_keys: u64,
}

/// Keys of one keyspace, their marks, and the pins that were held when they were marked.
#[derive(Debug)]
struct Chunk {
    keys: KeyBatch,
    marks: Vec<u64>,
    grace: Grace,
}

/// An ordered index of sorted maps: simple and exact, the whole key and about 56 bytes in memory for each.
#[derive(Debug, Default)]
pub struct BTreeOrdered {
    keyspaces: RwLock<BTreeMap<u32, Arc<Keyspace>>>,
    sweep: Mutex<Sweep>,
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

    /// Marks the next chunk of keys; false at the end of all keyspaces, and the walk starts again.
    fn mark_chunk(&self, sweep: &mut Sweep) -> bool {
        let next =
            self.keyspaces().range(sweep.keyspace..).next().map(|(&n, k)| (n, Arc::clone(k)));
        let Some((number, keyspace)) = next else {
            (sweep.keyspace, sweep.after) = (0, None);
            return false;
        };
        if number != sweep.keyspace {
            (sweep.keyspace, sweep.after) = (number, None);
        }
        let (mut keys, mut marks) = (KeyBatch::new(), Vec::new());
        let start = sweep.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        for (key, &mark) in
            keyspace.read().inserts.range::<[u8], _>((start, Bound::Unbounded)).take(CHUNK_KEYS)
        {
            keys.push(key);
            marks.push(mark);
        }
        match keys.iter().next_back() {
            Some(last) => sweep.after = Some(last.into()),
            // The last number there can be has no successor: start again with it.
            None => (sweep.keyspace, sweep.after) = (number.wrapping_add(1), None),
        }
        if keys.is_empty() {
            return sweep.keyspace != 0;
        }
        // Only now: a pin that is taken later belongs to a writer whose insert makes the mark void.
        sweep.chunk = Some(Chunk { keys, marks, grace: Grace::begin() });
        true
    }

    fn remove_dead(&self, sweep: &mut Sweep, owner: &dyn KeyOwner) -> Result<()> {
        let (number, Some(chunk)) = (sweep.keyspace, &sweep.chunk) else { return Ok(()) };
        let mut states = Vec::with_capacity(chunk.keys.len());
        owner.states(number, &chunk.keys, &mut states)?;
        if let Some(keyspace) = self.find(number) {
            for ((key, &mark), state) in chunk.keys.iter().zip(&chunk.marks).zip(states) {
                if state == KeyState::Dead {
                    sweep.dropped_keys += u64::from(keyspace.remove(key, mark));
                }
            }
        }
        sweep.chunk = None;
        Ok(())
    }
}

impl OrderedIndex for BTreeOrdered {
    fn insert(&self, keyspace: u32, key: &[u8]) {
        let keyspace = self.find_or_add(keyspace);
        let mut keys = keyspace.write();
        keys.inserts_count += 1;
        let number = keys.inserts_count;
        if let Some(last) = keys.inserts.get_mut(key) {
            *last = number;
            return;
        }
        keys.bytes += key.len();
        keys.inserts.insert(key.into(), number);
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

    /// Walks all keys, a chunk at a time, and says `false` at the end of a walk; the next call begins another.
    fn maintain(&self, owner: &dyn KeyOwner) -> Result<bool> {
        let mut sweep = match self.sweep.try_lock() {
            Ok(sweep) => sweep,
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Poisoned(panicked)) => panicked.into_inner(),
        };
        match &sweep.chunk {
            None => Ok(self.mark_chunk(&mut sweep)),
            Some(chunk) if !chunk.grace.is_over() => Ok(false),
            Some(_) => self.remove_dead(&mut sweep, owner).map(|()| true),
        }
    }

    fn stats(&self) -> OrderStats {
        let keys = self.keyspaces().values().map(|keyspace| keyspace.read().inserts.len()).sum();
        let dropped_keys = self.sweep.lock().unwrap_or_else(PoisonError::into_inner).dropped_keys;
        let ram_bytes = self.memory_bytes();
        OrderStats { delta_keys: keys, dropped_keys, ram_bytes, ..OrderStats::default() }
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
    fn next_batch(&mut self, keys_max: usize, batch: &mut KeyBatch) -> Result<usize> {
        batch.clear();
        // `BTreeMap::range` panics on crossed bounds.
        if self.range.is_empty() {
            self.keyspace = None;
        }
        let Some(keyspace) = &self.keyspace else { return Ok(0) };
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
        Ok(batch.len())
    }

    /// The background work finds dead keys by itself.
    fn note_dead(&mut self, _n: usize) {}
}

fn fill<'a>(keys: impl Iterator<Item = &'a [u8]>, keys_max: usize, batch: &mut KeyBatch) {
    for key in keys.take(keys_max.max(1)) {
        batch.push(key);
        if batch.bytes() >= KeyBatch::BYTES_MAX {
            break;
        }
    }
}
