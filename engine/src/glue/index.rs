//! The adapter to the point index of `cortenkv-index`, with key order beside it where the build has it.
//!
//! # Concurrency
//! One reader-writer lock around both: an installation holds it for writing from its first record to its last, so that
//! a get sees whole commits (rule 13).

use std::sync::{Arc, RwLock};

use cortenkv_index::{BTreePoint, NewEntry, Outcome, PointIndex, Version};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::address::{Address, Location};
use crate::core::{Installed, Probe};
use crate::error::Result;
use crate::parts::ordered::KeyOrder;
use crate::range::{Direction, KeyRange, KeySource};
use crate::record::{KeyspaceId, Rank, RecordRef};
use crate::sync::{read, write};

/// From the hash of a key to the address of its newest record; keys are compared in the log.
pub(crate) struct Index {
    hash_seed: u64,
    point: BTreePoint,
    order: KeyOrder,
    commits: RwLock<()>,
}

impl Index {
    pub(crate) fn new(hash_seed: u64) -> Self {
        let (point, order) = (BTreePoint::new(), KeyOrder::default());
        Index { hash_seed, point, order, commits: RwLock::default() }
    }

    /// Offers records, all visible together, and tells what became of each.
    pub(crate) fn install<'a>(
        &self,
        records: impl Iterator<Item = (RecordRef<'a>, Address)>,
        probe: &dyn Fn(Address, KeyspaceId, &[u8]) -> Probe,
        forgets_tombstones: bool,
        mut told: impl FnMut(&RecordRef<'a>, Address, Installed),
    ) {
        let locate = |address, keyspace, key: &[u8]| theirs(probe(ours(address), keyspace, key));
        let _whole_commits = write(&self.commits);
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
            if forgets_tombstones && record.tombstone && outcome != Installed::Stale {
                self.point.remove(hash, to_theirs(address));
            }
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

    /// Finds the record of a key; `verify` reads it.
    pub(crate) fn find(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        verify: &mut dyn FnMut(Address) -> Probe,
    ) {
        let _whole_commits = read(&self.commits);
        self.point.get(self.hash(keyspace, key), &mut |address| theirs(verify(ours(address))));
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

fn ours(address: cortenkv_index::Address) -> Address {
    address.to_bits().into()
}

fn to_theirs(address: Address) -> cortenkv_index::Address {
    cortenkv_index::Address::from_bits(address.into()).expect("both pack into 39 bits")
}

fn theirs(probe: Probe) -> cortenkv_index::Probe {
    match probe {
        Probe::Same(rank) => cortenkv_index::Probe::Same(version(rank)),
        Probe::Other => cortenkv_index::Probe::Other,
    }
}

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
