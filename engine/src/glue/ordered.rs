//! The adapter to the ordered index of `cortenkv-index`, and what makes its hints safe: dead bits.
//!
//! # Invariants
//! A record is marked dead before its successor becomes visible. So a record that was the newest of its key at some time
//! and bears no mark is the newest still.
//!
//! # Concurrency
//! Inserts, marks and walks run beside each other and beside the background work.
//!
//! # Failure
//! A damaged run answers `Corruption` once; background work then takes the keys of the keyspace from the records. While
//! it walks over them every put announces its key, for a walk may miss an entry that changes meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, OnceLock};

use cortenkv_index::{
    Grace, Hint, KeyBatch, KeyCursor, OrderedIndex, RunsKeyspace, RunsOptions, RunsOrdered,
};

use super::dead::DeadTable;
use super::index::{Before, ours, to_theirs};
use super::owner::{Owner, live_keys};
use crate::address::Address;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::options::IndexOptions;
use crate::parts::RunFiles;
use crate::parts::bugs::{Bug, planted};
use crate::range::{Direction, KeyRange};
use crate::record::KeyspaceId;
use crate::stats::IndexStats;
use crate::sync::lock;

/// LIMIT: a keyspace is sealed, merged and split in steps; so many inserts may wait for the next look.
const WAKE_INSERTS: u64 = 2_048;

/// Keyspaces that are found by their number alone; the others are looked up for each insert.
const FIRST_KEYSPACES: usize = 16;

/// The keys of each keyspace in order; or nothing at all, where the database was opened without.
pub(crate) struct KeyOrder(pub(super) Option<Kept>);

pub(super) struct Kept {
    pub(super) keys: RunsOrdered,
    /// The first keyspaces of it, which nobody has to look for: none is ever removed.
    first: [OnceLock<RunsKeyspace>; FIRST_KEYSPACES],
    /// `None` for a database in memory, whose segments are countless: there every key is looked up.
    pub(super) dead: Option<DeadTable>,
    pub(super) files: RunFiles,
    /// Inserts since background work last looked, and how many make it look.
    inserts: AtomicU64,
    wake_inserts: u64,
    /// Keyspaces whose runs are damaged; the flag says whether there is one.
    damaged: Mutex<Damaged>,
    is_damaged: AtomicBool,
    /// True while every put announces its key.
    pub(super) is_rebuilding: AtomicBool,
    rebuilds: AtomicU64,
}

#[derive(Default)]
struct Damaged {
    keyspaces: BTreeSet<KeyspaceId>,
    /// The wait for those that may not know of it yet.
    grace: Option<Grace>,
}

impl KeyOrder {
    pub(crate) fn new(options: &IndexOptions, files: RunFiles) -> Self {
        if options.ordered == Some(false) {
            return KeyOrder(None);
        }
        let mut runs = match options.tiny_runs {
            true => tiny_runs(),
            false => RunsOptions::default(),
        };
        runs.store = files.store();
        KeyOrder(Some(Kept {
            keys: RunsOrdered::new(runs),
            first: [const { OnceLock::new() }; FIRST_KEYSPACES],
            dead: files.are_on_disk().then(DeadTable::new),
            files,
            inserts: AtomicU64::new(0),
            wake_inserts: if options.tiny_runs { 1 } else { WAKE_INSERTS },
            damaged: Mutex::default(),
            is_damaged: AtomicBool::new(false),
            is_rebuilding: AtomicBool::new(false),
            rebuilds: AtomicU64::new(0),
        }))
    }

    /// Announces a key, under the pin of its installation and before it, unless what stood there before was live and will be
    /// for ever: then the order has the key.
    #[inline]
    pub(crate) fn announce(&self, keyspace: KeyspaceId, key: &[u8], before: Before) {
        let Some(kept) = &self.0 else { return };
        let was_to_stay = match before {
            Before::Nothing | Before::Expiring => false,
            Before::Tombstone => planted(Bug::KeyDroppedByMerge),
            Before::Lasting => true,
        };
        // ORDERING: Acquire, pairs with the store in `rebuild`, which then waits for every pin that may have missed it.
        if was_to_stay && !kept.is_rebuilding.load(Acquire) {
            return;
        }
        match kept.first.get(keyspace as usize) {
            Some(first) => first.get_or_init(|| kept.keys.keyspace(keyspace)).insert(key),
            None => kept.keys.insert(keyspace, key),
        }
        // ORDERING: SeqCst, as `Background::wake` says.
        kept.inserts.fetch_add(1, SeqCst);
    }

    /// Another segment gets a slot: what was marked dead in it was of the one before.
    pub(crate) fn begin_slot(&self, slot: u16) {
        if let Some(dead) = self.dead() {
            dead.clear(slot);
        }
    }

    /// Marks a record that is about to be replaced, or that came too late.
    #[inline]
    pub(crate) fn mark_dead(&self, address: Address) {
        if let Some(dead) = self.dead() {
            dead.set(to_theirs(address));
        }
    }

    /// False if the record was the newest of its key when this was called, provided that it ever was; true means nothing.
    #[inline]
    pub(crate) fn may_be_dead(&self, address: Address) -> bool {
        if planted(Bug::HintTrustedAfterUpdate) {
            return false;
        }
        self.dead().is_none_or(|dead| dead.is_set(to_theirs(address)))
    }

    #[inline]
    fn dead(&self) -> Option<&DeadTable> {
        self.0.as_ref().and_then(|kept| kept.dead.as_ref())
    }

    /// True if places of records are worth finding: some day one is said not to be dead.
    pub(crate) fn knows_dead(&self) -> bool {
        self.dead().is_some()
    }

    /// A walk over the candidate keys of a keyspace.
    pub(crate) fn keys(
        &self,
        keyspace: KeyspaceId,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<KeyWalk> {
        let kept = self.kept()?;
        let bounds = (range.start.as_ref(), range.end.as_ref());
        let range = cortenkv_index::KeyRange::new::<&bytes::Bytes>(bounds);
        let direction = match direction {
            Direction::Forward => cortenkv_index::Direction::Forward,
            Direction::Reverse => cortenkv_index::Direction::Reverse,
        };
        let cursor = kept.keys.cursor(keyspace, range, direction);
        Ok(KeyWalk { cursor, batch: KeyBatch::new() })
    }

    /// False for a database without order.
    pub(crate) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    fn kept(&self) -> Result<&Kept> {
        self.0.as_ref().ok_or_else(|| {
            Error::unsupported(
                "this database was opened without key order; open it with `ordered(true)`",
            )
        })
    }

    /// True when enough was inserted for background work to have something to do, or something is damaged.
    #[inline]
    pub(crate) fn wants_work(&self) -> bool {
        // ORDERING: SeqCst, as `Background::wake` says.
        self.0
            .as_ref()
            .is_some_and(|kept| kept.inserts.load(SeqCst) >= kept.wake_inserts || kept.is_damaged())
    }

    /// Inserts since this was last asked.
    pub(crate) fn take_inserts(&self) -> u64 {
        self.0.as_ref().map_or(0, |kept| kept.inserts.swap(0, Relaxed))
    }

    /// True while background work waits for pins to go.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.as_ref().is_some_and(|kept| kept.is_damaged() || kept.keys.stats().sealed_keys > 0)
    }

    /// One bounded unit of background work; true if there is more to do now. The caller holds no pin.
    ///
    /// # Errors
    /// `Corruption` if a run is damaged.
    pub(crate) fn maintain(&self, core: &Core) -> Result<bool> {
        let Some(kept) = &self.0 else { return Ok(false) };
        if kept.is_damaged() {
            return kept.rebuild(core);
        }
        Ok(kept.keys.maintain(&Owner(core)).inspect_err(|error| {
            if error.kind() == cortenkv_index::ErrorKind::Corruption {
                // It does not say of which.
                let names = core.catalog.names();
                let all = names.iter().filter_map(|name| core.catalog.get(name));
                kept.note_damage(all.map(|(_, keyspace)| keyspace));
            }
        })?)
    }

    /// Takes the keys of a keyspace, in strict order, in the place of all runs.
    pub(crate) fn load<'k>(
        &self,
        keyspace: KeyspaceId,
        keys: impl Iterator<Item = (&'k [u8], Option<(u64, Address)>)>,
    ) -> Result<()> {
        let Some(kept) = &self.0 else { return Ok(()) };
        let hint = |(segment, address)| Hint { segment, address: to_theirs(address) };
        let mut keys = keys.map(|(key, place)| (key.to_vec(), place.map(hint)));
        Ok(kept.keys.rebuild(keyspace, &mut keys)?)
    }

    /// A walk met damage: background work rebuilds the keyspace.
    pub(crate) fn note_damage(&self, keyspace: KeyspaceId) {
        if let Some(kept) = &self.0 {
            kept.note_damage([keyspace]);
        }
    }

    pub(crate) fn stats(&self) -> IndexStats {
        let Some(kept) = &self.0 else { return IndexStats::default() };
        let stats = kept.keys.stats();
        IndexStats {
            ordered: true,
            order_bytes: stats.ram_bytes as u64,
            order_mapped_bytes: stats.mapped_bytes as u64,
            dead_bits_bytes: self.dead().map_or(0, DeadTable::memory_bytes) as u64,
            delta_keys: (stats.delta_keys + stats.sealed_keys) as u64,
            partitions: stats.partitions as u64,
            entropy_permille: (stats.entropy * 1e3) as u64,
            runs: stats.runs as u64,
            run_keys: stats.run_keys as u64,
            skipped_keys: stats.skipped_keys as u64,
            merged_keys: stats.merged_keys,
            dropped_keys: stats.dropped_keys,
            rebuilds: kept.rebuilds.load(Relaxed),
            run_files: kept.files.count(),
            run_file_failures: kept.files.failures(),
            ..IndexStats::default()
        }
    }
}

impl Kept {
    pub(super) fn is_damaged(&self) -> bool {
        // ORDERING: SeqCst, as `Background::wake` says.
        self.is_damaged.load(SeqCst)
    }

    fn note_damage(&self, keyspaces: impl IntoIterator<Item = KeyspaceId>) {
        let mut damaged = lock(&self.damaged);
        damaged.keyspaces.extend(keyspaces);
        self.is_damaged.store(true, SeqCst);
    }

    /// Takes the keys of a keyspace from the records, which nobody changes without announcing it.
    pub(super) fn take_from_records(&self, core: &Core, keyspace: KeyspaceId) -> Result<()> {
        let mut keys = None;
        let mut sorted =
            std::iter::from_fn(|| keys.get_or_insert_with(|| live_keys(core, keyspace)).pop());
        self.keys.rebuild(keyspace, &mut sorted)?;
        self.rebuilds.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Takes the keys of a damaged keyspace from the records, in the place of its runs. False while it waits for pins.
    fn rebuild(&self, core: &Core) -> Result<bool> {
        let mut damaged = lock(&self.damaged);
        let Some(&keyspace) = damaged.keyspaces.first() else { return Ok(false) };
        // ORDERING: Release, pairs with the load in `announce`. Whoever missed it holds a pin, which is waited for: its
        // change is over before the walk begins.
        self.is_rebuilding.store(true, Release);
        if !damaged.grace.get_or_insert_with(Grace::begin).is_over() {
            return Ok(false);
        }
        self.take_from_records(core, keyspace)?;
        damaged.keyspaces.remove(&keyspace);
        if damaged.keyspaces.is_empty() {
            damaged.grace = None;
            self.is_damaged.store(false, SeqCst);
            self.is_rebuilding.store(false, Release);
        }
        Ok(true)
    }
}

/// A walk over candidate keys, a batch at a time.
pub(crate) struct KeyWalk {
    cursor: Box<dyn KeyCursor>,
    batch: KeyBatch,
}

impl KeyWalk {
    /// Goes on to the next keys, at most `keys_max`, and returns how many they are; 0 at the end.
    ///
    /// # Errors
    /// `Corruption` if a part of the order is damaged.
    pub(crate) fn next_batch(&mut self, keys_max: usize) -> Result<usize> {
        Ok(self.cursor.next_batch(keys_max, &mut self.batch)?)
    }

    /// Key `n` of the batch.
    #[inline]
    pub(crate) fn key(&self, n: usize) -> &[u8] {
        self.batch.get(n).unwrap_or_default()
    }

    /// Where the newest record of key `n` was some time ago: a segment, and an address in it.
    #[inline]
    pub(crate) fn hint(&self, n: usize) -> Option<(u64, Address)> {
        self.batch.hint(n).map(|hint| (hint.segment, ours(hint.address)))
    }

    /// Key `n` has no live entry.
    pub(crate) fn note_dead(&mut self, n: usize) {
        self.cursor.note_dead(n);
    }
}

/// Runs so small that every few puts a merge is due.
fn tiny_runs() -> RunsOptions {
    let mut options = RunsOptions::default();
    options.delta_keys_min = 3;
    options.delta_keys_max = 8;
    options.delta_dead_min = 2;
    options.partitions_start = 2;
    options.partition_keys_max = 4;
    options.spread_inserts = 8;
    options.runs_max = 2;
    options.ram_run_keys_max = 0;
    options.piece_keys_max = 8;
    options.chunk_keys = 4;
    options
}

#[cfg(feature = "test-util")]
impl crate::open::Builder {
    /// Makes runs of keys so small that every few puts a merge is due, and keeps all of them in files.
    pub fn tiny_runs(mut self) -> Self {
        self.options.index.tiny_runs = true;
        self
    }
}
