//! The adapter to the point index of `cortenkv-index`, with key order beside it where the build has it.
//!
//! # Concurrency
//! One installation at a time, so that key order follows the point index. Readers take no lock here, and see whole
//! commits by what `in_flight.rs` says (rule 13).

use std::sync::{Arc, Mutex};

use cortenkv_index::{BTreePoint, NewEntry, Outcome, PointIndex, Version};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::address::{Address, Location};
use crate::core::{Installed, Probe};
use crate::error::Result;
use crate::parts::ordered::KeyOrder;
use crate::range::{Direction, KeyRange, KeySource};
use crate::read_many::{BATCH_KEYS, Candidates};
use crate::record::{KeyspaceId, Rank, RecordRef};
use crate::sync::lock;

/// From the hash of a key to the address of its newest record; keys are compared in the log.
pub(crate) struct Index {
    hash_seed: u64,
    point: BTreePoint,
    order: KeyOrder,
    installing: Mutex<()>,
}

impl Index {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let (point, order) = (BTreePoint::new(), KeyOrder::default());
        Index { hash_seed, point, order, installing: Mutex::default() }
    }

    /// Offers records one after the other, and tells what became of each.
    pub(crate) fn install<'a>(
        &self,
        records: impl Iterator<Item = (RecordRef<'a>, Address)>,
        probe: &dyn Fn(Address, KeyspaceId, &[u8]) -> Probe,
        mut told: impl FnMut(&RecordRef<'a>, Address, Installed),
    ) {
        let locate = |address, keyspace, key: &[u8]| theirs(probe(ours(address), keyspace, key));
        let _one_at_a_time = lock(&self.installing);
        for (record, address) in records {
            let hash = self.hash(record.keyspace, record.key);
            let new = NewEntry {
                hash,
                keyspace: record.keyspace,
                key: record.key,
                address: to_theirs(address),
                version: version(record.rank()),
            };
            let outcome = installed(self.point.install(&new, &locate, &mut |_| {}));
            self.follow(&record, outcome);
            told(&record, address, outcome);
        }
    }

    /// Keeps key order in step: exactly the keys whose newest record is a put.
    fn follow(&self, record: &RecordRef<'_>, outcome: Installed) {
        match outcome {
            Installed::Stale | Installed::Present => {}
            Installed::Inserted | Installed::Replaced { .. } if record.tombstone => {
                self.order.remove(record.keyspace, record.key);
            }
            Installed::Replaced { old_tombstone: false, .. } => {}
            Installed::Inserted | Installed::Replaced { .. } => {
                self.order.insert(record.keyspace, record.key);
            }
        }
    }

    /// Takes out the entry of a key, if it still has this address.
    pub(crate) fn remove(&self, keyspace: KeyspaceId, key: &[u8], address: Address) {
        self.point.remove(self.hash(keyspace, key), to_theirs(address));
    }

    /// Finds the record of a key; `verify` reads it, under no lock.
    #[inline]
    pub(crate) fn find(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        mut verify: impl FnMut(Address) -> Probe,
    ) {
        self.point.get(self.hash(keyspace, key), &mut |address| theirs(verify(ours(address))));
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
        // The sorted sets have no moment at which they know an address and are not about to ask for it.
        let verify = &mut |n, address| {
            let address = ours(address);
            candidates.prefetch(n, address);
            theirs(candidates.probe(n, address))
        };
        self.point.get_batch(hashes, verify, &mut found);
    }

    /// A walk over the keys of a keyspace.
    pub(crate) fn keys(
        self: &Arc<Self>,
        keyspace: KeyspaceId,
        range: KeyRange,
        direction: Direction,
    ) -> Result<Box<dyn KeySource>> {
        self.order.keys(keyspace, range, direction)
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.point.memory_bytes() as u64 + self.order.memory_bytes()
    }

    /// Hash number 1 of the format: xxh3, the keyspace mixed into the seed of the database.
    fn hash(&self, keyspace: KeyspaceId, key: &[u8]) -> u64 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        xxh3_64_with_seed(key, self.hash_seed ^ u64::from(keyspace).wrapping_mul(GOLDEN))
    }
}

#[inline]
fn ours(address: cortenkv_index::Address) -> Address {
    address.to_bits().into()
}

#[inline]
fn to_theirs(address: Address) -> cortenkv_index::Address {
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
fn version(rank: Rank) -> Version {
    let Rank { seq, tombstone, location: Location { segment, .. } } = rank;
    Version { seq, tombstone, segment }
}

fn installed(outcome: Outcome) -> Installed {
    match outcome {
        Outcome::Inserted => Installed::Inserted,
        Outcome::Replaced(old) => {
            Installed::Replaced { old: ours(old.address), old_tombstone: old.version.tombstone }
        }
        Outcome::Stale(_) => Installed::Stale,
        Outcome::Present => Installed::Present,
    }
}
