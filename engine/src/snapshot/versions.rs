//! The versions that a snapshot keeps: from the hash of a key to the address of a record that was replaced.
//!
//! # Layout
//! Shards of hash maps without lists: the second version of one hash stands under the next of a fixed row of numbers that
//! begins with the hash. Nothing is taken out of a map, it goes as a whole, so no row ever has a hole. An entry takes 17
//! bytes in a table that is between 7/16 and 7/8 full: 19.4 to 38.9 bytes.
//!
//! A version that nobody asks for does no harm: whoever reads compares key and number.
//!
//! # Concurrency
//! One lock for each shard, held for one entry, or while the shard grows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, OnceLock};

use crate::address::Address;
use crate::sync::lock;

const SHARDS: usize = 64;
/// Bytes of an entry and of its control byte.
const ENTRY_BYTES: usize = size_of::<(u64, Address)>() + 1;

type Shard = HashMap<u64, Address, BuildHasherDefault<AsItIs>>;

/// Versions that were replaced while one snapshot was the newest.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// Made with the first version: most snapshots keep none.
    shards: OnceLock<Box<[Mutex<Shard>]>>,
    len: AtomicUsize,
    /// Records of a database in memory, which nothing else keeps.
    records: Mutex<Vec<Address>>,
    /// Tombstones of a database in memory that nothing else would keep.
    tombstones: Mutex<Vec<Address>>,
}

/// A hash is its own hash.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The numbers under which versions of one hash stand.
fn row(hash: u64) -> impl Iterator<Item = u64> {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    (0..).map(move |n: u64| hash.wrapping_add(n.wrapping_mul(GOLDEN)))
}

impl Versions {
    /// Keeps a version; one that is kept already is not kept twice.
    pub(super) fn keep(&self, hash: u64, address: Address) {
        let new = || (0..SHARDS).map(|_| Mutex::default()).collect();
        let mut shard = lock(&self.shards.get_or_init(new)[shard_of(hash)]);
        for number in row(hash) {
            match shard.entry(number) {
                Entry::Vacant(vacant) => {
                    vacant.insert(address);
                    self.len.fetch_add(1, Relaxed);
                    return;
                }
                Entry::Occupied(occupied) if *occupied.get() == address => return,
                Entry::Occupied(_) => {}
            }
        }
    }

    /// Adds the addresses of the versions of a hash.
    pub(super) fn find(&self, hash: u64, found: &mut Vec<Address>) {
        let Some(shards) = self.shards.get() else { return };
        let shard = lock(&shards[shard_of(hash)]);
        found.extend(row(hash).map_while(|number| shard.get(&number).copied()));
    }

    /// Shows every version, with the hash if it is the first of its row; versions that come meanwhile may be missed.
    pub(super) fn for_each(&self, mut show: impl FnMut(u64, Address)) {
        for shard in self.shards.get().into_iter().flatten() {
            let versions: Vec<(u64, Address)> =
                lock(shard).iter().map(|(number, address)| (*number, *address)).collect();
            versions.into_iter().for_each(|(number, address)| show(number, address));
        }
    }

    /// Keeps a record of a database in memory that was replaced.
    pub(super) fn keep_record(&self, address: Address) {
        lock(&self.records).push(address);
    }

    /// Keeps a tombstone of a database in memory.
    pub(super) fn keep_tombstone(&self, address: Address) {
        lock(&self.tombstones).push(address);
    }

    /// What is kept of a database in memory, to be kept no more: records and tombstones.
    pub(super) fn take_owned(&self) -> (Vec<Address>, Vec<Address>) {
        (std::mem::take(&mut *lock(&self.records)), std::mem::take(&mut *lock(&self.tombstones)))
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Memory of the maps: of their buckets, which are a power of two and at most 7/8 full.
    pub(super) fn memory_bytes(&self) -> usize {
        let buckets = |shard: &Mutex<Shard>| (lock(shard).capacity() * 8 / 7).next_power_of_two();
        let full = |shard: &&Mutex<Shard>| !lock(shard).is_empty();
        let shards = self.shards.get().into_iter().flatten();
        shards.filter(full).map(buckets).sum::<usize>() * ENTRY_BYTES
    }
}

/// Neither the bits that pick a bucket, nor those that mark one.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_one_hash_stand_beside_each_other_and_none_twice() {
        let versions = Versions::default();
        let address = |n: u64| Address::from(n);
        for n in [1, 2, 2, 3, 1] {
            versions.keep(7, address(n));
            versions.keep(8, address(n + 10));
        }
        let found = |hash| {
            let mut found = Vec::new();
            versions.find(hash, &mut found);
            found
        };
        assert_eq!(found(7), [1, 2, 3].map(address));
        assert_eq!(found(8), [11, 12, 13].map(address));
        assert!(found(9).is_empty());
        assert_eq!(versions.len(), 6);
        let mut shown = 0;
        versions.for_each(|_, _| shown += 1);
        assert_eq!(shown, 6);
    }

    // The second number of one row may be the first of another: both are found under both, and readers compare keys.
    #[test]
    fn rows_that_cross_lose_nothing() {
        let versions = Versions::default();
        let next = row(7).nth(1).unwrap();
        versions.keep(next, Address::from(1));
        versions.keep(7, Address::from(2));
        versions.keep(7, Address::from(3));
        let mut found = Vec::new();
        versions.find(7, &mut found);
        assert!(
            found.contains(&Address::from(2)) && found.contains(&Address::from(3)),
            "{found:?}"
        );
    }
}
