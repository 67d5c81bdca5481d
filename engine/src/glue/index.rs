//! The adapter to the point index of `cortenkv-index`, with key order beside it where the build has it.
//!
//! # Layout
//! `error` turns the errors of the crate into ours.
//!
//! # Invariants
//! Before a record becomes visible, under the pin of its installation: its key is in the order if no live record that
//! never expires stood there, and the record that it replaces is marked dead.
//!
//! # Concurrency
//! Nothing here is locked. Each installation is atomic by itself; `in_flight.rs` sees to whole batches.

use std::ops::ControlFlow;

use cortenkv_index::{
    BatchVerify, BucketOptions, BucketPoint, NewEntry, Outcome, PointIndex, Version,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::address::{Address, Location};
use crate::core::{Core, Installed, Probe};
use crate::error::Result;
use crate::install::Offered;
use crate::options::IndexOptions;
use crate::parts::RunFiles;
use crate::parts::locate::Locate;
use crate::parts::ordered::{KeyOrder, KeyWalk};
use crate::range::{Direction, KeyRange};
use crate::read_many::{BATCH_KEYS, Candidates};
use crate::record::{KeyspaceId, Rank, RecordRef, SeqNo};
use crate::stats::IndexStats;

#[path = "index/error.rs"]
mod error;

pub(crate) use cortenkv_index::pin;

/// Asks for the first cache lines of some bytes: what a record of 16 and 100 bytes takes, wherever in a line it starts.
#[inline]
pub(crate) fn prefetch(bytes: &[u8]) {
    const LINE_BYTES: usize = 64;
    for at in [0, LINE_BYTES, 2 * LINE_BYTES] {
        if let Some(byte) = bytes.get(at) {
            cortenkv_index::prefetch(byte);
        }
    }
}

/// What stood in the place of a record that is about to be installed.
pub(super) enum Before {
    Nothing,
    Tombstone,
    /// A value that has ended or may end.
    Expiring,
    /// A value that stays until it is replaced.
    Lasting,
}

/// Shards of an index that makes do with few.
const SHARDS_FEW: usize = 4;

/// From the hash of a key to the address of its newest record; keys are compared in the log.
pub(crate) struct Index {
    pub(super) hash_seed: u64,
    pub(super) point: BucketPoint,
    pub(super) order: KeyOrder,
}

impl Index {
    /// An empty index, sized for a number of keys.
    ///
    /// # Errors
    /// `InvalidArgument` for a number of shards that cannot be.
    pub(crate) fn new(
        hash_seed: u64,
        options: &IndexOptions,
        keys: usize,
        runs: RunFiles,
    ) -> Result<Self> {
        let sizes = BucketOptions::default().capacity(keys);
        let sizes = match options.shards {
            _ if options.few_shards => sizes.shards(SHARDS_FEW),
            Some(shards) => sizes.shards(shards as usize),
            None => sizes,
        };
        let point = BucketPoint::with_options(sizes)?;
        Ok(Index { hash_seed, point, order: KeyOrder::new(options, runs) })
    }

    /// Offers one record, with the hash of its key, and tells what became of it.
    #[inline]
    pub(crate) fn install_one(
        &self,
        record: &RecordRef<'_>,
        address: Address,
        hash: u64,
        core: &Core,
    ) -> Installed {
        let locate = Locate::new(core);
        let announce = |old| self.announce(record, true, old, &locate);
        let entry = new_entry(record, address, hash);
        let outcome = self.point.install_with(&entry, &locate, announce);
        self.installed(record, address, outcome, &locate)
    }

    /// Offers at most [`BATCH_KEYS`] records, in their order, and tells what became of each.
    pub(crate) fn install(
        &self,
        offered: &[Offered<'_>],
        core: &Core,
        follows_order: bool,
        mut told: impl FnMut(usize, Installed),
    ) {
        let locate = Locate::new(core);
        let mut announce =
            |n: usize, old| self.announce(&offered[n].0, follows_order, old, &locate);
        let mut done = |n: usize, outcome| {
            let (record, address) = &offered[n];
            told(n, self.installed(record, *address, outcome, &locate));
        };
        let Some((first, at)) = offered.first() else { return };
        let mut entries = [new_entry(first, *at, self.hash(first.keyspace, first.key)); BATCH_KEYS];
        let entries = &mut entries[..offered.len()];
        for (entry, (record, at)) in entries.iter_mut().zip(offered).skip(1) {
            *entry = new_entry(record, *at, self.hash(record.keyspace, record.key));
        }
        self.point.install_batch(entries, &locate, &mut announce, &mut done);
    }

    /// Before a record becomes visible: marks the one that it replaces, keeps it for snapshots, and puts its key in order.
    #[inline]
    fn announce(
        &self,
        record: &RecordRef<'_>,
        follows_order: bool,
        old: Option<cortenkv_index::Entry>,
        locate: &Locate<'_>,
    ) {
        let mut before = Before::Nothing;
        if let Some(old) = old {
            let address = ours(old.address);
            self.order.mark_dead(address);
            let seq = old.version.seq;
            // One of the same number is a copy.
            if locate.core.snapshots.covers(seq) && seq != record.seq {
                locate.core.keep_version(record.keyspace, record.key, seq, address);
            }
            before = match old.version.tombstone {
                true => Before::Tombstone,
                false if locate.saw_lasting(address) => Before::Lasting,
                // Whoever announces too often does no harm.
                false => Before::Expiring,
            };
        }
        if follows_order && !record.tombstone {
            self.order.announce(record.keyspace, record.key, before);
        }
    }

    /// What became of a record, in our words; one that came too late is marked.
    #[inline]
    fn installed(
        &self,
        record: &RecordRef<'_>,
        address: Address,
        outcome: Outcome,
        locate: &Locate<'_>,
    ) -> Installed {
        match outcome {
            Outcome::Inserted => Installed::Inserted,
            Outcome::Replaced(old) => {
                let address = ours(old.address);
                Installed::Replaced { old: address, was: locate.footprint_of(address) }
            }
            Outcome::Stale(newest) => {
                self.came_too_late(record, address, newest.version.seq, locate.core);
                Installed::Stale
            }
            Outcome::Present => Installed::Present,
        }
    }

    /// A newer record is there: this one is dead, but a snapshot may be of a moment between the two.
    #[cold]
    fn came_too_late(&self, record: &RecordRef<'_>, address: Address, newest: SeqNo, core: &Core) {
        self.order.mark_dead(address);
        if core.snapshots.covers(record.seq) && newest != record.seq {
            core.keep_version(record.keyspace, record.key, record.seq, address);
        }
    }

    /// Asks for the memory that the installation of a key needs first.
    #[inline]
    pub(crate) fn prefetch(&self, keyspace: KeyspaceId, key: &[u8]) {
        self.point.prefetch(self.hash(keyspace, key));
    }

    /// The address that the installation of a key is likely to ask about.
    #[inline]
    pub(crate) fn guess(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Address> {
        self.guess_hashed(self.hash(keyspace, key))
    }

    /// [`guess`](Self::guess) for a key whose hash is known.
    #[inline]
    pub(crate) fn guess_hashed(&self, hash: u64) -> Option<Address> {
        self.point.guess(hash).map(ours)
    }

    /// Takes out the entry of a key; false if it does not have this address any more.
    pub(crate) fn remove(&self, keyspace: KeyspaceId, key: &[u8], address: Address) -> bool {
        self.point.remove(self.hash(keyspace, key), to_theirs(address))
    }

    /// The record at an address is not the newest of its key any more.
    #[allow(dead_code, reason = "only compaction takes out what is not replaced")]
    pub(crate) fn mark_dead(&self, address: Address) {
        self.order.mark_dead(address);
    }

    /// Another segment gets a slot.
    pub(crate) fn begin_slot(&self, slot: u16) {
        self.order.begin_slot(slot);
    }

    /// Finds the record of a key; `verify` reads it, under no lock.
    #[inline]
    pub(crate) fn find(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        mut verify: impl FnMut(Address) -> Probe,
    ) {
        self.point.find(self.hash(keyspace, key), |address| theirs(verify(ours(address))));
    }

    /// [`find`](Self::find) for at most [`BATCH_KEYS`] keys, their memory asked for ahead.
    pub(crate) fn find_batch<K: AsRef<[u8]>>(
        &self,
        keyspace: KeyspaceId,
        keys: &[K],
        candidates: &mut dyn Candidates,
    ) {
        let mut hashes = [0; BATCH_KEYS];
        let hashes = &mut hashes[..keys.len()];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.hash(keyspace, key.as_ref());
        }
        let mut found = Vec::with_capacity(keys.len());
        self.point.get_batch(hashes, &mut Verify(candidates), &mut found);
    }

    /// Shows the addresses of all entries, some of them twice; of those that come or go meanwhile, some.
    pub(crate) fn for_each_address(&self, mut show: impl FnMut(Address)) {
        let _ = self.point.for_each(&mut |address| {
            show(ours(address));
            ControlFlow::Continue(())
        });
    }

    /// A walk over the candidate keys of a keyspace.
    pub(crate) fn keys(
        &self,
        keyspace: KeyspaceId,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<KeyWalk> {
        self.order.keys(keyspace, range, direction)
    }

    /// True if it is known of some records that they are not dead.
    #[inline]
    pub(crate) fn knows_dead(&self) -> bool {
        self.order.knows_dead()
    }

    /// False if the record at an address, the newest of its key at some time, was so still when this was called. True means
    /// nothing.
    #[inline]
    pub(crate) fn may_be_dead(&self, address: Address) -> bool {
        self.order.may_be_dead(address)
    }

    /// Takes the keys of a keyspace, in strict order and each with the segment and address of its record if that never
    /// expires, into the empty order.
    ///
    /// # Errors
    /// What kept the order from taking them.
    pub(crate) fn load_order<'k>(
        &self,
        keyspace: KeyspaceId,
        keys: impl Iterator<Item = (&'k [u8], Option<(u64, Address)>)>,
    ) -> Result<()> {
        self.order.load(keyspace, keys)
    }

    /// A walk met damage in the order of a keyspace: background work is to mend it.
    pub(crate) fn note_damage(&self, keyspace: KeyspaceId) {
        self.order.note_damage(keyspace);
    }

    /// True if somebody is to call `maintain` and `maintain_order`.
    pub(crate) fn has_background_work(&self) -> bool {
        self.order.is_kept()
    }

    /// True when background work has something to do.
    #[inline]
    pub(crate) fn wants_work(&self) -> bool {
        self.order.wants_work()
    }

    /// Inserts into the order since this was last asked.
    pub(crate) fn take_inserts(&self) -> u64 {
        self.order.take_inserts()
    }

    /// True while background work waits for readers.
    pub(crate) fn is_waiting(&self) -> bool {
        self.order.is_waiting()
    }

    /// One bounded unit of background work on the hash table; false if there was none.
    pub(crate) fn maintain(&self) -> bool {
        self.point.maintain()
    }

    /// One bounded unit of background work on the order; true if there is more to do now.
    ///
    /// # Errors
    /// `Corruption` of a run.
    pub(crate) fn maintain_order(&self, core: &Core) -> Result<bool> {
        self.order.maintain(core)
    }

    pub(crate) fn stats(&self) -> IndexStats {
        let point = self.point.stats();
        IndexStats {
            entries: point.entries as u64,
            shards: point.shards as u64,
            point_bytes: point.memory_bytes as u64,
            resizes: point.resizes,
            ..self.order.stats()
        }
    }

    /// Hash number 1 of the format: xxh3, the keyspace mixed into the seed of the database.
    #[inline]
    pub(crate) fn hash(&self, keyspace: KeyspaceId, key: &[u8]) -> u64 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        xxh3_64_with_seed(key, self.hash_seed ^ u64::from(keyspace).wrapping_mul(GOLDEN))
    }
}

/// Asks about the records of a batch of look-ups.
struct Verify<'a>(&'a mut dyn Candidates);

impl BatchVerify for Verify<'_> {
    fn probe(&mut self, n: usize, address: cortenkv_index::Address) -> cortenkv_index::Probe {
        theirs(self.0.probe(n, ours(address)))
    }

    fn prefetch(&mut self, n: usize, address: cortenkv_index::Address) {
        self.0.prefetch(n, ours(address));
    }
}

#[inline]
fn new_entry<'a>(record: &RecordRef<'a>, address: Address, hash: u64) -> NewEntry<'a> {
    let (keyspace, key, address) = (record.keyspace, record.key, to_theirs(address));
    NewEntry { hash, keyspace, key, address, version: version(record.rank()) }
}

#[inline]
pub(super) fn ours(address: cortenkv_index::Address) -> Address {
    address.to_bits().into()
}

#[inline]
pub(super) fn to_theirs(address: Address) -> cortenkv_index::Address {
    cortenkv_index::Address::from_bits(address.into()).expect("both pack into 39 bits")
}

#[inline]
fn theirs(probe: Probe) -> cortenkv_index::Probe {
    match probe {
        Probe::Same(rank) => cortenkv_index::Probe::Same(version(rank)),
        Probe::Other => cortenkv_index::Probe::Other,
        Probe::Gone => cortenkv_index::Probe::Gone,
    }
}

#[inline]
pub(super) fn version(rank: Rank) -> Version {
    let Rank { seq, tombstone, location: Location { segment, .. } } = rank;
    Version { seq, tombstone, segment }
}
