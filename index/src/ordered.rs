//! The ordered index: the keys of each keyspace in byte order, for scans in both directions.
//!
//! # Layout
//! This file holds the trait and its vocabulary; `range` has the bounds, the kinds are in the folder beside it.
//!
//! # Invariants
//! - Every live key is in the index: the owner inserts a key before its first record becomes visible.
//! - A key in the index may be dead. Whoever scans confirms each key through the point index.

pub(crate) mod btree;
pub(crate) mod hint;
pub(crate) mod range;
#[cfg_attr(not(test), expect(dead_code, reason = "the kind that consists of runs comes next"))]
pub(crate) mod run;

use range::KeyRange;

/// The way a cursor walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the lowest key to the highest.
    Forward,
    /// From the highest key to the lowest.
    Reverse,
}

/// The state of a key at one moment, for [`OrderedIndex::remove`]. Every insert of the key, also of one that is there,
/// makes earlier marks void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// For kinds: a mark made of a word of their own choice.
    pub fn from_word(word: u64) -> Self {
        Mark(word)
    }

    /// For kinds: the word.
    pub fn word(self) -> u64 {
        self.0
    }
}

/// A reusable buffer of keys, filled by [`KeyCursor::next_batch`]: two allocations for any number of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyBatch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl KeyBatch {
    /// A cursor ends a batch early once it holds this many bytes of keys.
    pub const BYTES_MAX: usize = 1 << 20; // LIMIT: memory of one step of a scan over keys of 64 KiB.

    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all keys together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The key at this place, in the order of the cursor.
    pub fn get(&self, n: usize) -> Option<&[u8]> {
        let end = *self.ends.get(n)?;
        let start = if n == 0 { 0 } else { self.ends[n - 1] };
        Some(&self.bytes[start..end])
    }

    /// The keys in the order of the cursor.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        (0..self.len()).map(|n| self.get(n).unwrap_or_default())
    }

    /// Forgets the keys and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Appends a key; for cursors.
    pub fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }
}

/// A walk over the keys of one keyspace. It owns what it pins: it outlives the handle that it came from and may move
/// to another thread.
pub trait KeyCursor: Send {
    /// Replaces the content of `batch` by the next keys, at most `keys_max` (at least 1) and about
    /// [`KeyBatch::BYTES_MAX`], and returns how many there are; 0 at the end, and from then on.
    ///
    /// Keys come in strict order, each at most once. A key that is in the index during the whole walk comes; one that
    /// is inserted or removed meanwhile may come or not.
    fn next_batch(&mut self, keys_max: usize, batch: &mut KeyBatch) -> usize;
}

/// The keys of each keyspace in byte order.
///
/// # Concurrency
/// All methods take `&self`, may run at the same time from any thread, and are atomic each.
///
/// # Removing a key that may be written again
/// A writer inserts its key here before its record becomes visible in the point index, so "the point index has no
/// entry" does not mean that the key can go. The safe order is:
/// 1. [`mark`](Self::mark) the key;
/// 2. take its entry out of the point index;
/// 3. if the point index runs its `on_replace` outside a lock: wait until every install that was under way at step 2
///    is over, and stop if the key has an entry again;
/// 4. [`remove`](Self::remove) the key with the mark.
///
/// A writer that saw the key without an entry after step 2 has inserted it since, and its mark is void. One that saw
/// the old entry finds it gone, tries again, and inserts again. Step 3 is for a writer that found no entry even before
/// the old one came, and completes only now.
pub trait OrderedIndex: Send + Sync {
    /// Puts the key into its keyspace; true if it was not there. Marks of the key become void either way.
    fn insert(&self, keyspace: u32, key: &[u8]) -> bool;

    /// The present state of a key; `None` if it is not there.
    fn mark(&self, keyspace: u32, key: &[u8]) -> Option<Mark>;

    /// Takes the key out if it was not inserted again since `mark`; true if it did.
    fn remove(&self, keyspace: u32, key: &[u8], mark: Mark) -> bool;

    /// Takes out all keys of a keyspace at once; for keyspaces that are dropped, whose number is not used again.
    fn remove_keyspace(&self, keyspace: u32);

    /// A walk over the keys of a keyspace within a range.
    fn cursor(&self, keyspace: u32, range: KeyRange, direction: Direction) -> Box<dyn KeyCursor>;

    /// The lowest key of a keyspace.
    fn first(&self, keyspace: u32) -> Option<Vec<u8>> {
        first_of(self.cursor(keyspace, KeyRange::all(), Direction::Forward))
    }

    /// The highest key of a keyspace.
    fn last(&self, keyspace: u32) -> Option<Vec<u8>> {
        first_of(self.cursor(keyspace, KeyRange::all(), Direction::Reverse))
    }

    /// The number of keys of a keyspace, dead ones included.
    fn len(&self, keyspace: u32) -> usize;

    /// True if a keyspace has no key.
    fn is_empty(&self, keyspace: u32) -> bool {
        self.len(keyspace) == 0
    }

    /// The memory that the index holds, in bytes. A kind says whether it counts or estimates.
    fn memory_bytes(&self) -> usize;
}

fn first_of(mut cursor: Box<dyn KeyCursor>) -> Option<Vec<u8>> {
    let mut batch = KeyBatch::new();
    cursor.next_batch(1, &mut batch);
    batch.get(0).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_empty_keys_apart() {
        let mut batch = KeyBatch::new();
        for key in [&b""[..], b"a", b"", b"bc"] {
            batch.push(key);
        }
        assert_eq!(batch.iter().collect::<Vec<_>>(), [&b""[..], b"a", b"", b"bc"]);
        assert_eq!((batch.len(), batch.bytes(), batch.get(4)), (4, 3, None));
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!(batch.get(0), None);
    }
}
