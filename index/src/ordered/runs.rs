//! The `runs` kind of the ordered index: a small mutable delta and large immutable runs, kept up by background work.
//!
//! # Layout
//! A keyspace is one `OrderState` (`runs/state`), published as a whole and replaced as a whole: a delta of range
//! partitions (`delta`, `keys`), at times a sealed one, and sorted runs in pieces (`level`, `super::run`). A cursor
//! (`cursor`) keeps the state of its beginning and merges its parts (`sources`). Background work (`work`, `merge`,
//! `entropy`) seals, merges and splits. `saved` is what an owner keeps of runs beyond the process.
//!
//! # Concurrency
//! An insert reads two published values and locks one partition for a copy of the key. A walk locks a partition for
//! 32 keys at a time and nothing else; if keys came since somebody needed order, it sorts them first, some 1,000 keys at
//! most where background work keeps up. Background work makes a new state beside the present one; one thread at a time
//! works on a keyspace, and others pass it by.
//!
//! # Failure
//! A damaged run shows as `Corruption` in a walk or in background work; [`RunsOrdered::rebuild`] replaces it.

mod cursor;
mod delta;
mod entropy;
mod keys;
mod level;
mod merge;
mod options;
mod saved;
mod sources;
mod state;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hint::Hint;
use super::owner::KeyOwner;
use super::range::KeyRange;
use super::stats::OrderStats;
use super::{Direction, KeyCursor, OrderedIndex};
use crate::error::{Error, ErrorKind, Result};
use crate::reclaim::Grace;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Mutex, Published, lock};
use cursor::RunsCursor;
use level::LevelBuilder;
pub use options::RunsOptions;
pub use saved::{SavedPiece, SavedRun};
use state::Keyspace;
use work::Task;

/// An ordered index of key runs: a few bytes of memory per key, or almost none with runs in mapped files, and an insert
/// that copies one key.
///
/// Somebody has to call [`maintain`](OrderedIndex::maintain) again and again, about every 10 ms while keys are inserted:
/// until then all new keys stay in memory as they are.
///
/// Keys are at most 64 KiB long; longer ones are not kept, and no walk shows them.
///
/// # Example
/// ```
/// use cortenkv_index::{Direction, KeyBatch, KeyRange, OrderedIndex, RunsOptions, RunsOrdered};
///
/// let index = RunsOrdered::new(RunsOptions::default());
/// for key in ["b", "a", "c"] {
///     index.insert(0, key.as_bytes());
/// }
/// let mut cursor = index.cursor(0, KeyRange::new("b"..), Direction::Forward);
/// let mut batch = KeyBatch::new();
/// assert_eq!(cursor.next_batch(16, &mut batch)?, 2);
/// assert_eq!(batch.get(0), Some(&b"b"[..]));
/// # Ok::<(), cortenkv_index::Error>(())
/// ```
#[derive(Debug)]
pub struct RunsOrdered {
    keyspaces: Published<BTreeMap<u32, Arc<Keyspace>>>,
    /// Held by who replaces the map.
    changing: Mutex<()>,
    options: RunsOptions,
    /// Where the next unit of background work looks first.
    turn: AtomicUsize,
}

impl RunsOrdered {
    /// An empty index.
    pub fn new(options: RunsOptions) -> Self {
        RunsOrdered {
            keyspaces: Published::new(BTreeMap::new()),
            changing: Mutex::new(()),
            options,
            turn: AtomicUsize::new(0),
        }
    }

    /// A keyspace to insert into without looking for it again; made if it is not there.
    pub fn keyspace(&self, keyspace: u32) -> RunsKeyspace {
        RunsKeyspace(self.find(keyspace).unwrap_or_else(|| self.find_or_add(keyspace)))
    }

    fn find(&self, keyspace: u32) -> Option<Arc<Keyspace>> {
        self.keyspaces.with(|all| all.get(&keyspace).cloned())
    }

    fn find_or_add(&self, number: u32) -> Arc<Keyspace> {
        let _changing = lock(&self.changing);
        let all = self.keyspaces.get();
        if let Some(keyspace) = all.get(&number) {
            return Arc::clone(keyspace);
        }
        let keyspace = Arc::<Keyspace>::default();
        let mut all = (*all).clone();
        all.insert(number, Arc::clone(&keyspace));
        self.keyspaces.set(all);
        keyspace
    }

    /// Replaces all runs of a keyspace by one of these keys, in strict order; what is not in a run yet stays. For loads
    /// in bulk, and after a run was found to be damaged.
    ///
    /// The first key is asked for when background work of the keyspace stands still, and until the end it does. So
    /// `keys` may be a walk over the records, begun at that first call, while writers go on: a key that it misses
    /// because it comes meanwhile is in the delta.
    ///
    /// # Errors
    /// `InvalidArgument` if the keys are not in strict order, and those of the store. Then nothing has changed.
    pub fn rebuild(
        &self,
        keyspace: u32,
        keys: &mut dyn Iterator<Item = (Vec<u8>, Option<Hint>)>,
    ) -> Result<()> {
        let options = &self.options;
        self.find_or_add(keyspace).replace_runs(|| {
            let (mut out, mut last) = (LevelBuilder::new(), None);
            for (key, hint) in keys.filter(|(key, _)| key.len() <= options::KEY_BYTES_MAX) {
                if last.as_ref() >= Some(&key) {
                    let context = "the keys of a rebuild must be in strict order";
                    return Err(Error::new(ErrorKind::InvalidArgument, context));
                }
                out.push(&key, hint, options)?;
                last = Some(key);
            }
            Ok(out.finish(options)?.into_iter().collect())
        })
    }

    /// [`maintain`](OrderedIndex::maintain) with another way to tell whether a wait is over.
    fn maintain_when(
        &self,
        owner: &dyn KeyOwner,
        is_over: &dyn Fn(&Grace) -> bool,
    ) -> Result<bool> {
        let all = self.keyspaces.get();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % all.len().max(1);
        for (&number, keyspace) in all.iter().cycle().skip(turn).take(all.len()) {
            let options = &self.options;
            if keyspace.unit(&Task { number, owner, options, is_over })? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// One keyspace of a [`RunsOrdered`], from [`RunsOrdered::keyspace`]. Once the keyspace was removed there, what is
/// inserted here is seen by nobody.
#[derive(Debug)]
pub struct RunsKeyspace(Arc<Keyspace>);

impl RunsKeyspace {
    /// [`OrderedIndex::insert`], under the same rules.
    #[inline]
    pub fn insert(&self, key: &[u8]) {
        if key.len() <= options::KEY_BYTES_MAX {
            self.0.insert(key);
        }
    }
}

impl Default for RunsOrdered {
    fn default() -> Self {
        Self::new(RunsOptions::default())
    }
}

impl OrderedIndex for RunsOrdered {
    fn insert(&self, keyspace: u32, key: &[u8]) {
        if key.len() > options::KEY_BYTES_MAX {
            return;
        }
        let is_there = self.keyspaces.with(|all| match all.get(&keyspace) {
            Some(keyspace) => {
                keyspace.insert(key);
                true
            }
            None => false,
        });
        if !is_there {
            self.find_or_add(keyspace).insert(key);
        }
    }

    fn cursor(&self, keyspace: u32, range: KeyRange, direction: Direction) -> Box<dyn KeyCursor> {
        let keyspace = self.find(keyspace).unwrap_or_default();
        Box::new(RunsCursor::new(keyspace, range, direction))
    }

    fn remove_keyspace(&self, keyspace: u32) {
        let _changing = lock(&self.changing);
        let mut all = (*self.keyspaces.get()).clone();
        all.remove(&keyspace);
        self.keyspaces.set(all);
    }

    fn len(&self, keyspace: u32) -> usize {
        self.find(keyspace).map_or(0, |keyspace| keyspace.len())
    }

    /// Counts what partitions, runs and merges hold; the states that cursors keep alive are not in it.
    fn memory_bytes(&self) -> usize {
        self.keyspaces.get().values().map(|keyspace| keyspace.ram_bytes()).sum()
    }

    fn maintain(&self, owner: &dyn KeyOwner) -> Result<bool> {
        self.maintain_when(owner, &Grace::is_over)
    }

    fn stats(&self) -> OrderStats {
        let mut stats = OrderStats::default();
        for keyspace in self.keyspaces.get().values() {
            let state = keyspace.state.get();
            stats.delta_keys += state.delta.len();
            stats.sealed_keys += state.sealed_keys();
            stats.partitions += state.delta.partitions().len();
            stats.runs = stats.runs.max(state.levels.len());
            stats.run_keys += state.run_keys();
            stats.skipped_keys += state.skipped_keys();
            stats.mapped_bytes += state.mapped_bytes();
            stats.ram_bytes += keyspace.ram_bytes();
            let figures = &keyspace.figures;
            let entropy = f64::from_bits(figures.entropy_bits.load(Ordering::Relaxed));
            stats.entropy = stats.entropy.min(entropy);
            stats.merged_keys += figures.merged_keys.load(Ordering::Relaxed);
            stats.dropped_keys += figures.dropped_keys.load(Ordering::Relaxed);
        }
        stats
    }
}

#[cfg(all(test, loom))]
mod loom_models;
#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
