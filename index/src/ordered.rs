//! The ordered index: the keys of each keyspace in byte order, for scans in both directions.
//!
//! # Layout
//! This file holds the traits; their vocabulary (`batch`, `owner`, `range`, `stats`) and the kinds are in the folder
//! beside it.
//!
//! # Invariants
//! - Every live key is in the index: the owner inserts a key before its first record becomes visible.
//! - A key in the index may be dead. Whoever scans confirms each key through the point index.

pub(crate) mod batch;
pub(crate) mod btree;
pub(crate) mod hint;
pub(crate) mod owner;
pub(crate) mod range;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod stats;

use crate::error::Result;
use batch::KeyBatch;
use owner::KeyOwner;
use range::KeyRange;
use stats::OrderStats;

/// The way a cursor walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the lowest key to the highest.
    Forward,
    /// From the highest key to the lowest.
    Reverse,
}

/// A walk over the keys of one keyspace. It owns what it pins: it outlives the handle that it came from and may move
/// to another thread.
pub trait KeyCursor: Send {
    /// Replaces the content of `batch` by the next keys, at most `keys_max` (at least 1) and about
    /// [`KeyBatch::BYTES_MAX`], and returns how many there are; 0 at the end, and from then on.
    ///
    /// Keys come in strict order, each at most once. A key comes if it was inserted before the walk began and is live
    /// during the whole of it. One that is dead, or inserted meanwhile, may come or not.
    ///
    /// # Errors
    /// `Corruption` if a part of the index fails its checksum, `Io` if it cannot be read. The walk cannot go on; the
    /// owner has the records and may rebuild the index.
    fn next_batch(&mut self, keys_max: usize, batch: &mut KeyBatch) -> Result<usize>;

    /// Says that key `n` of the last batch was found to be dead after it was returned, and that nobody can see an
    /// older version of it: later walks may pass over it, until it is inserted again. Other numbers are ignored.
    fn note_dead(&mut self, n: usize);
}

/// The keys of each keyspace in byte order.
///
/// # Concurrency
/// All methods take `&self` and may run at the same time from any thread.
///
/// # Writing a key that may be on its way out
/// [`maintain`](Self::maintain) takes dead keys out while writers go on. A writer that finds its key without a live
/// entry in the point index follows this order, which point indexes keep by running `on_replace` and the change after
/// it under one pin:
/// 1. [`pin`](crate::pin);
/// 2. [`insert`](Self::insert) the key if its old entry is absent, a tombstone, or can expire;
/// 3. put the new entry into the point index, by a compare-and-swap against that very old entry (or under a lock);
/// 4. let go of the pin.
///
/// Background work counts on it: it asks the owner for the state of a key only when all pins that were held when the
/// insert became part of a sealed set are gone ([`Grace`](crate::Grace)). So an answer "dead" is of a time after the
/// change that the insert announced, and a later change announces itself again.
pub trait OrderedIndex: Send + Sync {
    /// Puts the key into its keyspace; nothing changes if it is there.
    fn insert(&self, keyspace: u32, key: &[u8]);

    /// A walk over the keys of a keyspace within a range.
    fn cursor(&self, keyspace: u32, range: KeyRange, direction: Direction) -> Box<dyn KeyCursor>;

    /// Takes out all keys of a keyspace at once; for keyspaces that are dropped, whose number is not used again.
    /// Inserts that run at the same time may be lost or not. A cursor that is under way may go on or end.
    fn remove_keyspace(&self, keyspace: u32);

    /// The number of candidates of a keyspace: an upper bound of its live keys. Dead keys count, and a key may count
    /// more than once.
    fn len(&self, keyspace: u32) -> usize;

    /// True if a keyspace has no candidate.
    fn is_empty(&self, keyspace: u32) -> bool {
        self.len(keyspace) == 0
    }

    /// The lowest candidate of a keyspace.
    ///
    /// # Errors
    /// As [`KeyCursor::next_batch`].
    fn first(&self, keyspace: u32) -> Result<Option<Vec<u8>>> {
        first_of(self.cursor(keyspace, KeyRange::all(), Direction::Forward))
    }

    /// The highest candidate of a keyspace.
    ///
    /// # Errors
    /// As [`KeyCursor::next_batch`].
    fn last(&self, keyspace: u32) -> Result<Option<Vec<u8>>> {
        first_of(self.cursor(keyspace, KeyRange::all(), Direction::Reverse))
    }

    /// The main memory that the index holds, in bytes. A kind says whether it counts or estimates.
    fn memory_bytes(&self) -> usize;

    /// One bounded unit of background work: takes dead keys out, sorts, merges. True if there is more to do now;
    /// false also while it waits for pins to go, which it never blocks on. The caller must hold no pin.
    ///
    /// Two calls at once are legal; they work on different keyspaces, or one returns at once.
    ///
    /// # Errors
    /// Those of the owner, and `Corruption` or `Io` of a part of the index. The index is as it was before; the next
    /// call tries again.
    fn maintain(&self, owner: &dyn KeyOwner) -> Result<bool>;

    /// Figures of a moment.
    fn stats(&self) -> OrderStats;
}

fn first_of(mut cursor: Box<dyn KeyCursor>) -> Result<Option<Vec<u8>>> {
    let mut batch = KeyBatch::new();
    cursor.next_batch(1, &mut batch)?;
    Ok(batch.get(0).map(<[u8]>::to_vec))
}
