//! The index of a build without the index crate: one sorted map of whole keys, exact and simple.
//!
//! # Concurrency
//! One reader-writer lock; an installation holds it for writing from its first record to its last. Readers look at
//! records outside it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use crate::address::Address;
use crate::core::{Core, Installed, Probe};
use crate::error::{Error, Result};
use crate::install::Offered;
use crate::options::IndexOptions;
use crate::parts::RunFiles;
use crate::range::{Direction, KeyRange};
use crate::read_many::Candidates;
use crate::record::{Footprint, KeyspaceId, Rank, RecordRef};
use crate::stats::IndexStats;
use crate::sync::{read, write};

/// A sorted map from key to the place and rank of its newest record.
pub(crate) struct Index {
    /// Shared with the walks.
    spaces: Spaces,
    /// False if nobody may walk.
    is_ordered: bool,
    hashing: RandomState,
}

type Spaces = Arc<RwLock<BTreeMap<KeyspaceId, Keys>>>;
type Keys = BTreeMap<Bytes, Standing>;

/// The newest record of a key.
#[derive(Clone, Copy)]
struct Standing {
    address: Address,
    rank: Rank,
}

impl Index {
    /// The seed is for indexes that hash, the number of keys for those that can be sized, the files for runs.
    pub(crate) fn new(
        _hash_seed: u64,
        options: &IndexOptions,
        _keys: usize,
        _: RunFiles,
    ) -> Result<Self> {
        let (spaces, is_ordered) = (Arc::default(), options.ordered != Some(false));
        Ok(Index { spaces, is_ordered, hashing: RandomState::new() })
    }

    /// Offers records, in their order, and tells what became of each.
    pub(crate) fn install(
        &self,
        offered: &[Offered<'_>],
        core: &Core,
        _follows_order: bool,
        mut told: impl FnMut(usize, Installed),
    ) {
        let mut spaces = write(&self.spaces);
        for (n, (record, address)) in offered.iter().enumerate() {
            let keys = spaces.entry(record.keyspace).or_default();
            told(n, offer(keys, record, *address, core));
        }
    }

    /// Offers one record, and tells what became of it.
    pub(crate) fn install_one(
        &self,
        record: &RecordRef<'_>,
        address: Address,
        _hash: u64,
        core: &Core,
    ) -> Installed {
        offer(write(&self.spaces).entry(record.keyspace).or_default(), record, address, core)
    }

    /// For what is kept by hash beside the index; it means nothing to another process.
    pub(crate) fn hash(&self, keyspace: KeyspaceId, key: &[u8]) -> u64 {
        self.hashing.hash_one((keyspace, key))
    }

    /// A tree has no one place to ask for.
    pub(crate) fn prefetch(&self, _keyspace: KeyspaceId, _key: &[u8]) {}

    /// The keys are here: an installation asks about no record.
    pub(crate) fn guess(&self, _keyspace: KeyspaceId, _key: &[u8]) -> Option<Address> {
        None
    }

    /// As [`guess`](Self::guess).
    pub(crate) fn guess_hashed(&self, _hash: u64) -> Option<Address> {
        None
    }

    /// Finds the record of a key; `verify` reads it.
    pub(crate) fn find(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        mut verify: impl FnMut(Address) -> Probe,
    ) {
        let mut gone = None;
        // The entry of a record that is gone has changed; one that has not leads nowhere.
        while let Some(address) = self.address(keyspace, key).filter(|found| gone != Some(*found)) {
            match verify(address) {
                Probe::Gone => gone = Some(address),
                Probe::Same(_) | Probe::Other => return,
            }
        }
    }

    /// Shows the addresses of all entries; of those that come or go meanwhile, some.
    pub(crate) fn for_each_address(&self, mut show: impl FnMut(Address)) {
        let addresses: Vec<Address> = {
            let spaces = read(&self.spaces);
            spaces.values().flat_map(BTreeMap::values).map(|standing| standing.address).collect()
        };
        addresses.into_iter().for_each(&mut show);
    }

    fn address(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Address> {
        let spaces = read(&self.spaces);
        spaces.get(&keyspace)?.get(key).map(|standing| standing.address)
    }

    /// [`find`](Self::find) for several keys.
    pub(crate) fn find_batch<K: AsRef<[u8]>>(
        &self,
        keyspace: KeyspaceId,
        keys: &[K],
        candidates: &mut dyn Candidates,
    ) {
        for (n, key) in keys.iter().enumerate() {
            self.find(keyspace, key.as_ref(), |address| {
                candidates.prefetch(n, address);
                candidates.probe(n, address)
            });
        }
    }

    /// Nothing is kept beside the keys that could know of a dead record.
    #[allow(dead_code, reason = "only compaction takes out what is not replaced")]
    pub(crate) fn mark_dead(&self, _: Address) {}

    /// Takes out the entry of a key; false if it does not have this address any more.
    pub(crate) fn remove(&self, keyspace: KeyspaceId, key: &[u8], address: Address) -> bool {
        let mut spaces = write(&self.spaces);
        let Some(keys) = spaces.get_mut(&keyspace) else { return false };
        let stands = keys.get(key).is_some_and(|standing| standing.address == address);
        if stands {
            keys.remove(key);
        }
        stands
    }

    /// Nothing is kept by slot.
    pub(crate) fn begin_slot(&self, _slot: u16) {}

    /// A walk over the keys of a keyspace.
    pub(crate) fn keys(
        &self,
        keyspace: KeyspaceId,
        range: &KeyRange,
        direction: Direction,
    ) -> Result<KeyWalk> {
        if !self.is_ordered {
            return Err(Error::unsupported(
                "this database was opened without key order; open it with `ordered(true)`",
            ));
        }
        let spaces = Arc::clone(&self.spaces);
        Ok(KeyWalk { spaces, keyspace, range: range.clone(), direction, batch: Vec::new() })
    }

    pub(crate) fn knows_dead(&self) -> bool {
        false
    }

    /// Nothing is kept of records that were replaced.
    pub(crate) fn may_be_dead(&self, _: Address) -> bool {
        true
    }

    /// The map is in order already.
    pub(crate) fn load_order<'k>(
        &self,
        _: KeyspaceId,
        _: impl Iterator<Item = (&'k [u8], Option<(u64, Address)>)>,
    ) -> Result<()> {
        Ok(())
    }

    pub(crate) fn note_damage(&self, _: KeyspaceId) {}

    pub(crate) fn has_background_work(&self) -> bool {
        false
    }

    pub(crate) fn wants_work(&self) -> bool {
        false
    }

    pub(crate) fn take_inserts(&self) -> u64 {
        0
    }

    pub(crate) fn is_waiting(&self) -> bool {
        false
    }

    pub(crate) fn maintain(&self) -> bool {
        false
    }

    pub(crate) fn maintain_order(&self, _: &Core) -> Result<bool> {
        Ok(false)
    }

    /// The memory is an estimate: keys and nodes.
    pub(crate) fn stats(&self) -> IndexStats {
        const ENTRY_BYTES: usize = size_of::<(Bytes, Standing)>();
        let spaces = read(&self.spaces);
        let bytes = spaces.values().flat_map(BTreeMap::keys).map(|key| key.len() + ENTRY_BYTES);
        IndexStats {
            entries: spaces.values().map(|keys| keys.len() as u64).sum(),
            point_bytes: bytes.sum::<usize>() as u64,
            ordered: self.is_ordered,
            ..IndexStats::default()
        }
    }
}

fn offer(keys: &mut Keys, record: &RecordRef<'_>, address: Address, core: &Core) -> Installed {
    let new = Standing { address, rank: record.rank() };
    let Some(standing) = keys.get_mut(record.key) else {
        keys.insert(Bytes::copy_from_slice(record.key), new);
        return Installed::Inserted;
    };
    // Whichever loses may have to be shown by a snapshot; one of the same number is a copy.
    let loser = if new.rank < standing.rank { new } else { *standing };
    let seq = loser.rank.seq;
    if core.snapshots.covers(seq) && new.rank.seq != standing.rank.seq {
        core.keep_version(record.keyspace, record.key, seq, loser.address);
    }
    match new.rank.cmp(&standing.rank) {
        Ordering::Equal => Installed::Present,
        Ordering::Less => Installed::Stale,
        Ordering::Greater => {
            let old = std::mem::replace(standing, new);
            // From the log: what an opening gathers has no values.
            let was = core.read_at(old.address, |record, _| record.footprint()).ok().flatten();
            let was = Footprint { tombstone: old.rank.tombstone, ..was.unwrap_or_default() };
            Installed::Replaced { old: old.address, was }
        }
    }
}

/// Nothing is freed under readers.
pub(crate) fn pin() {}

/// Nothing is known of the memory ahead.
pub(crate) fn prefetch(_: &[u8]) {}

/// A walk that looks its place up again for each step, and pins nothing but the index.
pub(crate) struct KeyWalk {
    spaces: Spaces,
    keyspace: KeyspaceId,
    range: KeyRange,
    direction: Direction,
    batch: Vec<Bytes>,
}

impl KeyWalk {
    pub(crate) fn next_batch(&mut self, keys_max: usize) -> Result<usize> {
        self.batch.clear();
        if is_crossed(&self.range) {
            return Ok(0);
        }
        if let Some(keys) = read(&self.spaces).get(&self.keyspace) {
            let KeyRange { start, end } = &self.range;
            let found = keys.range::<Bytes, _>((start.as_ref(), end.as_ref()));
            // Those of tombstones, too: a snapshot may be asked about them.
            let keys = found.map(|(key, _)| key.clone());
            match self.direction {
                Direction::Forward => self.batch.extend(keys.take(keys_max)),
                Direction::Reverse => self.batch.extend(keys.rev().take(keys_max)),
            }
        }
        if let Some(last) = self.batch.last() {
            match self.direction {
                Direction::Forward => self.range.start = Bound::Excluded(last.clone()),
                Direction::Reverse => self.range.end = Bound::Excluded(last.clone()),
            }
        }
        Ok(self.batch.len())
    }

    pub(crate) fn key(&self, n: usize) -> &[u8] {
        &self.batch[n]
    }

    pub(crate) fn hint(&self, _: usize) -> Option<(u64, Address)> {
        None
    }

    pub(crate) fn note_dead(&mut self, _: usize) {}
}

/// True when the bounds are crossed or touch without a key between them, which sorted maps do not take.
fn is_crossed(range: &KeyRange) -> bool {
    match (&range.start, &range.end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (
            Bound::Included(start) | Bound::Excluded(start),
            Bound::Included(end) | Bound::Excluded(end),
        ) => start >= end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossed_and_touching_bounds_are_empty() {
        use Bound::{Excluded, Included, Unbounded};
        let crossed =
            |start: Bound<&str>, end: Bound<&str>| is_crossed(&KeyRange::new::<&str>((start, end)));
        assert!(crossed(Included("b"), Included("a")));
        assert!(crossed(Included("a"), Excluded("a")));
        assert!(crossed(Excluded("a"), Excluded("a")));
        assert!(crossed(Excluded("a"), Included("a")));
        assert!(!crossed(Included("a"), Included("a")));
        assert!(!crossed(Unbounded, Excluded("")));
    }
}
