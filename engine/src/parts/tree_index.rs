//! The index of a build without the index crate: one sorted map of whole keys, exact and simple.
//!
//! # Concurrency
//! One reader-writer lock; an installation holds it for writing from its first record to its last. Readers look at
//! records outside it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, RwLock};

use bytes::Bytes;

use crate::address::Address;
use crate::core::{Installed, Probe};
use crate::error::Result;
use crate::range::{Direction, KeyRange, KeySource};
use crate::read_many::Candidates;
use crate::record::{KeyspaceId, Rank, RecordRef};
use crate::sync::{read, write};

/// A sorted map from key to the place and rank of its newest record.
pub(crate) struct Index {
    spaces: RwLock<BTreeMap<KeyspaceId, Keys>>,
}

type Keys = BTreeMap<Bytes, (Address, Rank)>;

impl Index {
    /// The seed is for indexes that hash.
    pub(crate) fn new(_hash_seed: u64) -> Self {
        Index { spaces: RwLock::default() }
    }

    /// Offers records, all visible together, and tells what became of each.
    pub(crate) fn install<'a>(
        &self,
        records: impl Iterator<Item = (RecordRef<'a>, Address)>,
        _probe: &dyn Fn(Address, KeyspaceId, &[u8]) -> Probe,
        mut told: impl FnMut(&RecordRef<'a>, Address, Installed),
    ) {
        let mut spaces = write(&self.spaces);
        for (record, address) in records {
            let keys = spaces.entry(record.keyspace).or_default();
            let outcome = offer(keys, &record, address);
            told(&record, address, outcome);
        }
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

    fn address(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<Address> {
        let spaces = read(&self.spaces);
        spaces.get(&keyspace)?.get(key).map(|(address, _)| *address)
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

    /// Takes out the entry of a key, if it still has this address.
    pub(crate) fn remove(&self, keyspace: KeyspaceId, key: &[u8], address: Address) {
        let mut spaces = write(&self.spaces);
        let Some(keys) = spaces.get_mut(&keyspace) else { return };
        if keys.get(key).is_some_and(|(standing, _)| *standing == address) {
            keys.remove(key);
        }
    }

    /// A walk over the keys of a keyspace, dead ones included.
    pub(crate) fn keys(
        self: &Arc<Self>,
        keyspace: KeyspaceId,
        range: KeyRange,
        direction: Direction,
    ) -> Result<Box<dyn KeySource>> {
        Ok(Box::new(Walk { index: Arc::clone(self), keyspace, range, direction }))
    }

    /// An estimate: keys and nodes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        const ENTRY_BYTES: usize = size_of::<(Bytes, (Address, Rank))>();
        let spaces = read(&self.spaces);
        let bytes = spaces.values().flat_map(BTreeMap::keys).map(|key| key.len() + ENTRY_BYTES);
        bytes.sum::<usize>() as u64
    }
}

fn offer(keys: &mut Keys, record: &RecordRef<'_>, address: Address) -> Installed {
    let rank = record.rank();
    let Some((old_address, old_rank)) = keys.get_mut(record.key) else {
        keys.insert(Bytes::copy_from_slice(record.key), (address, rank));
        return Installed::Inserted;
    };
    if rank == *old_rank {
        return Installed::Present;
    }
    if rank < *old_rank {
        return Installed::Stale;
    }
    let outcome = Installed::Replaced { old: *old_address, old_tombstone: old_rank.tombstone };
    (*old_address, *old_rank) = (address, rank);
    outcome
}

/// A walk that looks its place up again for each step, and pins nothing but the index.
struct Walk {
    index: Arc<Index>,
    keyspace: KeyspaceId,
    range: KeyRange,
    direction: Direction,
}

impl KeySource for Walk {
    fn next_batch(&mut self, keys_max: usize, out: &mut Vec<Bytes>) {
        if is_crossed(&self.range) {
            return;
        }
        {
            let spaces = read(&self.index.spaces);
            let Some(keys) = spaces.get(&self.keyspace) else { return };
            let KeyRange { start, end } = &self.range;
            let found = keys.range::<Bytes, _>((start.as_ref(), end.as_ref()));
            let keys = found.filter(|(_, (_, rank))| !rank.tombstone).map(|(key, _)| key.clone());
            match self.direction {
                Direction::Forward => out.extend(keys.take(keys_max)),
                Direction::Reverse => out.extend(keys.rev().take(keys_max)),
            }
        }
        if let Some(last) = out.last() {
            match self.direction {
                Direction::Forward => self.range.start = Bound::Excluded(last.clone()),
                Direction::Reverse => self.range.end = Bound::Excluded(last.clone()),
            }
        }
    }
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
