//! The `dashmap` kind of the point index: a concurrent hash map of hashes behind sharded locks, the usual way to do it.
//! It is here to be compared with.
//!
//! # Layout
//! A `DashMap` from the hash to the address of its one key, or to a list where keys share a hash.
//!
//! # Concurrency
//! `install`, `remove` and `swap` hold the write lock of the shard of the entry, `install` also while it asks the log.
//! `get` copies the candidates under the read lock and verifies them outside.
//!
//! # Failure
//! A panic in a caller's closure leaves the index as it was: closures run before the change.

use std::collections::BinaryHeap;
use std::hash::{BuildHasherDefault, Hasher};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;

use super::{Entry, ExportPosition, Location, NewEntry, Outcome, PointIndex, Probe};
use crate::address::Address;
use crate::reclaim::pin;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of an entry: the hash, its candidates, and a byte of the map for each slot.
const SLOT_BYTES: usize = size_of::<(u64, Candidates)>() + 1;

/// A point index over `DashMap`: about 40 bytes an entry, and a lock for each shard.
///
/// # Limits
/// A chunk of an export walks the whole map: fit for checks and measurements, not for images of large indexes.
#[derive(Debug, Default)]
pub struct DashPoint {
    map: DashMap<u64, Candidates, BuildHasherDefault<Mix>>,
    /// Entries, of which one hash may have several.
    entries: AtomicUsize,
}

/// The entries of one hash, at least one.
#[derive(Debug, Clone)]
enum Candidates {
    One(Address),
    #[expect(clippy::box_collection, reason = "rare, and a word less in every entry")]
    Many(Box<Vec<Address>>),
}

impl Candidates {
    fn as_slice(&self) -> &[Address] {
        match self {
            Candidates::One(address) => std::slice::from_ref(address),
            Candidates::Many(addresses) => addresses,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Address] {
        match self {
            Candidates::One(address) => std::slice::from_mut(address),
            Candidates::Many(addresses) => addresses,
        }
    }

    fn push(&mut self, address: Address) {
        match self {
            Candidates::One(first) => *self = Candidates::Many(Box::new(vec![*first, address])),
            Candidates::Many(addresses) => addresses.push(address),
        }
    }

    /// Puts `new` where `old` is; false if it is not there.
    fn replace(&mut self, old: Address, new: Address) -> bool {
        let place = self.as_mut_slice().iter_mut().find(|address| **address == old);
        place.map(|address| *address = new).is_some()
    }
}

/// Spreads what is a hash already, but perhaps not in all its bits.
#[derive(Debug, Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, hash: u64) {
        let mixed = (self.0 ^ hash).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }
}

impl DashPoint {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    fn candidates(&self, hash: u64) -> Option<Candidates> {
        self.map.get(&hash).map(|candidates| candidates.clone())
    }

    fn count_insert(&self) {
        // ORDERING: Relaxed, as below: a count.
        self.entries.fetch_add(1, Ordering::Relaxed);
    }
}

impl PointIndex for DashPoint {
    fn install(
        &self,
        new: &NewEntry<'_>,
        locate: &dyn Location,
        on_replace: &mut dyn FnMut(Option<Entry>),
    ) -> Outcome {
        // What the hook does and the change that follows are one to a `Grace`.
        let _pin = pin();
        let mut place = match self.map.entry(new.hash) {
            Place::Vacant(place) => {
                on_replace(None);
                place.insert(Candidates::One(new.address));
                self.count_insert();
                return Outcome::Inserted;
            }
            Place::Occupied(place) => place,
        };
        let candidates = place.get_mut();
        if candidates.as_slice().contains(&new.address) {
            return Outcome::Present;
        }
        let old = candidates.as_slice().iter().find_map(|&address| {
            match locate.probe(address, new.keyspace, new.key) {
                Probe::Same(version) => Some(Entry { address, version }),
                Probe::Other | Probe::Gone => None,
            }
        });
        match old {
            Some(old) if !new.entry().supersedes(&old) => Outcome::Stale(old),
            Some(old) => {
                on_replace(Some(old));
                candidates.replace(old.address, new.address);
                Outcome::Replaced(old)
            }
            None => {
                on_replace(None);
                candidates.push(new.address);
                self.count_insert();
                Outcome::Inserted
            }
        }
    }

    fn get(&self, hash: u64, verify: &mut dyn FnMut(Address) -> Probe) -> Option<Address> {
        loop {
            let candidates = self.candidates(hash)?;
            let mut moved = false;
            for &address in candidates.as_slice() {
                match verify(address) {
                    Probe::Same(_) => return Some(address),
                    Probe::Other => {}
                    Probe::Gone => {
                        let now = self.candidates(hash);
                        moved |= now.is_none_or(|now| !now.as_slice().contains(&address));
                    }
                }
            }
            // Looking again is only of use if somebody changed the entry, so this loop ends when the changes do.
            if !moved {
                return None;
            }
        }
    }

    fn remove(&self, hash: u64, address: Address) -> bool {
        let Place::Occupied(mut place) = self.map.entry(hash) else { return false };
        let Some(n) = place.get().as_slice().iter().position(|found| *found == address) else {
            return false;
        };
        match place.get_mut() {
            Candidates::One(_) => drop(place.remove()),
            Candidates::Many(addresses) => {
                addresses.swap_remove(n);
                if let [only] = addresses[..] {
                    *place.get_mut() = Candidates::One(only);
                }
            }
        }
        self.entries.fetch_sub(1, Ordering::Relaxed);
        true
    }

    fn swap(&self, hash: u64, old: Address, new: Address) -> bool {
        self.map.get_mut(&hash).is_some_and(|mut candidates| candidates.replace(old, new))
    }

    fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    fn export(
        &self,
        from: ExportPosition,
        entries_max: usize,
        out: &mut Vec<Address>,
    ) -> Option<ExportPosition> {
        // The map has no order of its own that bears changes: the lowest entries from the position on, and one more.
        let [hash, bits] = from.words();
        let (from, entries_max) = ((hash, Address::from_bits(bits)?), entries_max.max(1));
        let mut lowest = BinaryHeap::with_capacity(entries_max.min(1 << 16) + 2);
        for entry in &self.map {
            for &address in entry.value().as_slice() {
                if (*entry.key(), address) >= from {
                    lowest.push((*entry.key(), address));
                    if lowest.len() > entries_max + 1 {
                        lowest.pop();
                    }
                }
            }
        }
        let more = if lowest.len() > entries_max { lowest.pop() } else { None };
        out.extend(lowest.into_sorted_vec().into_iter().map(|(_, address)| address));
        more.map(|(hash, address)| ExportPosition::from_words([hash, address.to_bits()]))
    }

    /// An estimate: the slots of the map, and the lists of hashes that have several keys.
    fn memory_bytes(&self) -> usize {
        let listed = self.len().saturating_sub(self.map.len());
        self.map.capacity() * 8 / 7 * SLOT_BYTES + listed * 2 * size_of::<Address>()
    }
}
