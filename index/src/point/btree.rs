//! The `btree` kind of the point index: sorted sets behind reader-writer locks, the oracle for every faster kind.
//!
//! # Layout
//! Shards by the top bits of the hash, each a `BTreeSet` of (hash, address). Shard order is hash order, so an export
//! walks the whole index in order.
//!
//! # Concurrency
//! `install`, `remove` and `swap` hold the write lock of one shard, `install` also while it asks the log. `get` copies
//! the candidates under the read lock and verifies them outside, so a slow log never delays writers.
//!
//! # Failure
//! A panic in a caller's closure leaves the index as it was: closures run before the change, and a poisoned lock is
//! taken over.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::PoisonError;

use super::{Entry, ExportPosition, Location, NewEntry, Outcome, PointIndex, Probe};
use crate::address::Address;
use crate::reclaim::pin;
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

const SHARDS_DEFAULT: usize = 64;
/// Bytes per entry in a B-tree of the standard library: 16 in nodes of 11 that are about 70 % full, with headers.
const ENTRY_BYTES_ESTIMATE: usize = 28;

type Shard = BTreeSet<(u64, Address)>;

/// A point index of sorted sets: simple, fully exact, about 28 bytes an entry.
#[derive(Debug)]
pub struct BTreePoint {
    shards: Box<[RwLock<Shard>]>,
    /// How far a hash is shifted right to give its shard; 64 for one shard.
    shift: u32,
}

impl BTreePoint {
    /// An empty index with 64 shards.
    pub fn new() -> Self {
        Self::with_shards(SHARDS_DEFAULT)
    }

    /// An empty index with this many shards, rounded up to a power of two: writers to different shards do not wait
    /// for each other.
    ///
    /// # Panics
    /// If `shards` is 0 or more than 65,536.
    pub fn with_shards(shards: usize) -> Self {
        // LIMIT: 65,536 shards, far beyond any number of cores.
        assert!((1..=1 << 16).contains(&shards), "an index has 1 to 65,536 shards, not {shards}");
        let shards = shards.next_power_of_two();
        BTreePoint {
            shards: (0..shards).map(|_| RwLock::new(Shard::new())).collect(),
            shift: u64::BITS - shards.trailing_zeros(),
        }
    }

    fn shard_of(&self, hash: u64) -> usize {
        hash.checked_shr(self.shift).unwrap_or(0) as usize
    }

    fn read(&self, shard: usize) -> RwLockReadGuard<'_, Shard> {
        self.shards[shard].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, Shard> {
        self.shards[self.shard_of(hash)].write().unwrap_or_else(PoisonError::into_inner)
    }

    fn contains(&self, hash: u64, address: Address) -> bool {
        self.read(self.shard_of(hash)).contains(&(hash, address))
    }

    /// All entries of one hash at one moment; the second part does not allocate for a hash of one key.
    fn candidates(&self, hash: u64) -> (Option<Address>, Vec<Address>) {
        let shard = self.read(self.shard_of(hash));
        let mut addresses = shard.range(entries_of(hash)).map(|&(_, address)| address);
        (addresses.next(), addresses.collect())
    }
}

impl Default for BTreePoint {
    fn default() -> Self {
        Self::new()
    }
}

impl PointIndex for BTreePoint {
    fn install(
        &self,
        new: &NewEntry<'_>,
        locate: &dyn Location,
        on_replace: &mut dyn FnMut(Option<Entry>),
    ) -> Outcome {
        // What the hook does and the change that follows are one to a `Grace`.
        let _pin = pin();
        let mut shard = self.write(new.hash);
        if shard.contains(&(new.hash, new.address)) {
            return Outcome::Present;
        }
        let old = shard.range(entries_of(new.hash)).find_map(|&(_, address)| {
            match locate.probe(address, new.keyspace, new.key) {
                Probe::Same(version) => Some(Entry { address, version }),
                Probe::Other | Probe::Gone => None,
            }
        });
        if let Some(old) = old
            && !new.entry().supersedes(&old)
        {
            return Outcome::Stale(old);
        }
        on_replace(old);
        shard.insert((new.hash, new.address));
        match old {
            Some(old) => {
                shard.remove(&(new.hash, old.address));
                Outcome::Replaced(old)
            }
            None => Outcome::Inserted,
        }
    }

    fn get(&self, hash: u64, verify: &mut dyn FnMut(Address) -> Probe) -> Option<Address> {
        loop {
            let (first, rest) = self.candidates(hash);
            let mut moved = false;
            for address in first.into_iter().chain(rest) {
                match verify(address) {
                    Probe::Same(_) => return Some(address),
                    Probe::Other => {}
                    Probe::Gone => moved |= !self.contains(hash, address),
                }
            }
            // Looking again is only of use if somebody changed the entry, so this loop ends when the changes do.
            if !moved {
                return None;
            }
        }
    }

    fn remove(&self, hash: u64, address: Address) -> bool {
        self.write(hash).remove(&(hash, address))
    }

    fn swap(&self, hash: u64, old: Address, new: Address) -> bool {
        let mut shard = self.write(hash);
        shard.remove(&(hash, old)) && {
            shard.insert((hash, new));
            true
        }
    }

    fn len(&self) -> usize {
        (0..self.shards.len()).map(|shard| self.read(shard).len()).sum()
    }

    fn export(
        &self,
        from: ExportPosition,
        entries_max: usize,
        out: &mut Vec<Address>,
    ) -> Option<ExportPosition> {
        let [hash, bits] = from.words();
        let start = (hash, Address::from_bits(bits)?);
        let mut left = entries_max.max(1);
        for shard in self.shard_of(hash)..self.shards.len() {
            for &(hash, address) in self.read(shard).range(start..) {
                if left == 0 {
                    return Some(ExportPosition::from_words([hash, address.to_bits()]));
                }
                out.push(address);
                left -= 1;
            }
        }
        None
    }

    /// An estimate from the number of entries; the standard library does not tell the size of a B-tree.
    fn memory_bytes(&self) -> usize {
        size_of_val(&*self.shards) + self.len() * ENTRY_BYTES_ESTIMATE
    }
}

fn entries_of(hash: u64) -> RangeInclusive<(u64, Address)> {
    (hash, Address::MIN)..=(hash, Address::MAX)
}
