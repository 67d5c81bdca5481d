//! The point index: from the hash of a key to the address of its newest record.
//!
//! # Layout
//! This file holds the trait and its vocabulary; the kinds are in the folder beside it.
//!
//! # Invariants
//! - At most one entry per (keyspace, key), and it is the highest version that was ever installed and not removed.
//! - An address stands in the index at most once.
//! - A delete is an install of the address of its tombstone: the entry stays until [`PointIndex::remove`].

use std::ops::ControlFlow;

use crate::address::Address;

pub(crate) mod btree;
pub(crate) mod bucket;
#[cfg(feature = "dashmap")]
pub(crate) mod dash;

/// What decides between two records of one key: the higher sequence number; on equal numbers the tombstone, then the
/// record in the newer segment.
///
/// The derived order is exactly that rule, so `a > b` reads "a is the newer version".
///
/// Equal numbers are normal for one record in two places (compaction copies it, or rewrites it as a tombstone, and
/// keeps its number). They are not a way to order two writes of one key: an owner that gives one number to a whole
/// batch must keep only the last write of each key in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The sequence number of the write.
    pub seq: u64,
    /// True if the record says that the key is deleted.
    pub tombstone: bool,
    /// The id of the segment that holds the record: grows with age and is never given out again, unlike the slot.
    pub segment: u64,
}

/// An entry together with the version of the record that it points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where the record is.
    pub address: Address,
    /// Which version it is.
    pub version: Version,
}

impl Entry {
    /// True if this entry must stand in the index instead of `other`, both of the same key: a higher [`Version`], or
    /// the later place in the same segment. A total order, so the order of arrival never matters.
    pub fn supersedes(&self, other: &Entry) -> bool {
        let rank = |entry: &Entry| (entry.version, entry.address.offset_bytes());
        rank(self) > rank(other)
    }
}

/// A record that is offered to [`PointIndex::install`].
#[derive(Debug, Clone, Copy)]
pub struct NewEntry<'a> {
    /// The hash of keyspace and key. The owner picks the hash function and keeps to it; all 64 bits should be good.
    pub hash: u64,
    /// The keyspace of the key.
    pub keyspace: u32,
    /// The key; the index passes it to [`Location::probe`] and does not keep it.
    pub key: &'a [u8],
    /// Where the record is.
    pub address: Address,
    /// Which version it is.
    pub version: Version,
}

impl NewEntry<'_> {
    /// The part that stands in the index.
    pub fn entry(&self) -> Entry {
        Entry { address: self.address, version: self.version }
    }
}

/// What the owner of the records finds at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// A record of the key in question, of this version.
    Same(Version),
    /// A record of another key: two keys share a hash, or as much of it as the index keeps.
    Other,
    /// No record any more: the segment was retired since the index was read. The index looks again, and an address
    /// that still stands there is passed over as [`Probe::Other`] is.
    Gone,
}

/// "Ask the log": how an index verifies a key that it does not store. Implemented by the owner of the records, also
/// by any closure of the same shape.
pub trait Location {
    /// Says whether the record at `address` is one of `key` in `keyspace`.
    ///
    /// May run while the index holds an internal lock, so it must not call the same index, and should be quick.
    fn probe(&self, address: Address, keyspace: u32, key: &[u8]) -> Probe;

    /// Asks for the record's memory ahead of a `probe` that is likely: a hint for batches, nothing unless overridden.
    fn prefetch(&self, _address: Address) {}
}

impl<F: Fn(Address, u32, &[u8]) -> Probe> Location for F {
    fn probe(&self, address: Address, keyspace: u32, key: &[u8]) -> Probe {
        self(address, keyspace, key)
    }
}

/// How [`PointIndex::get_batch`] asks about the records of many look-ups; each is named by its place among the hashes.
/// Implemented by the owner of the records, also by any closure of the shape of `probe`.
pub trait BatchVerify {
    /// Says whether the record at `address` is the one that look-up `n` is for.
    fn probe(&mut self, n: usize, address: Address) -> Probe;

    /// Asks for the memory of a record ahead of a `probe` that is likely: a hint, nothing unless overridden.
    fn prefetch(&mut self, _n: usize, _address: Address) {}
}

impl<F: FnMut(usize, Address) -> Probe> BatchVerify for F {
    fn probe(&mut self, n: usize, address: Address) -> Probe {
        self(n, address)
    }
}

/// What became of an offered record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The key had no entry.
    Inserted,
    /// The key had this older entry; its record is dead now.
    Replaced(Entry),
    /// The index holds this newer entry; the offered record is dead.
    ///
    /// An owner that may offer one record twice needs a mark per record to count its bytes as dead only once: the
    /// second offer is `Stale` too when a newer version came between.
    Stale(Entry),
    /// This very record already stands in the index; nothing changed and nothing is dead.
    Present,
}

/// Where a chunked export goes on; the default is the start. Only meaningful to the index that gave it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportPosition([u64; 2]);

impl ExportPosition {
    /// For kinds: a position made of two words of their own choice.
    pub fn from_words(words: [u64; 2]) -> Self {
        ExportPosition(words)
    }

    /// For kinds: the two words.
    pub fn words(self) -> [u64; 2] {
        self.0
    }
}

/// A map from the hash of a key to the address of the newest record of that key.
///
/// # Concurrency
/// All methods take `&self` and may run at the same time from any thread. Each is atomic: it takes effect at one
/// moment during the call. The closures and the [`Location`] of an `install` may run under an internal lock and
/// must not call the same index; those of `get` and `get_batch` may.
pub trait PointIndex: Send + Sync {
    /// Offers a record. It takes the place of an older one of its key ([`Entry::supersedes`]) and of nothing else.
    ///
    /// `on_replace` is called with the entry that is about to be replaced (`None`: the key is new) before the change
    /// becomes visible, and not at all for `Stale` and `Present`. A kind without locks calls it before every attempt,
    /// so it may run more than once, and an attempt may come to nothing: what it does must bear repetition. The last
    /// call before a success named exactly the entry that was replaced.
    fn install(
        &self,
        new: &NewEntry<'_>,
        locate: &dyn Location,
        on_replace: &mut dyn FnMut(Option<Entry>),
    ) -> Outcome;

    /// Finds the entry under `hash` for which `verify` answers [`Probe::Same`], tombstones included.
    ///
    /// `verify` sees addresses that stood in the index during the call, in no order, one possibly more than once. The
    /// entry may be replaced as soon as this returns: an owner that frees segments keeps them readable for the
    /// duration of the call and of what it does with the answer.
    fn get(&self, hash: u64, verify: &mut dyn FnMut(Address) -> Probe) -> Option<Address>;

    /// [`get`](Self::get) for many hashes; `verify` is told which, by its place in `hashes`. The answers replace what is in
    /// `found`. Each look-up is atomic by itself, all together are not.
    fn get_batch(
        &self,
        hashes: &[u64],
        verify: &mut dyn BatchVerify,
        found: &mut Vec<Option<Address>>,
    ) {
        found.clear();
        let hashes = hashes.iter().enumerate();
        found.extend(hashes.map(|(n, &hash)| self.get(hash, &mut |at| verify.probe(n, at))));
    }

    /// [`install`](Self::install) for many records, in their order; both closures are told which, by its place in `new`.
    fn install_batch(
        &self,
        new: &[NewEntry<'_>],
        locate: &dyn Location,
        on_replace: &mut dyn FnMut(usize, Option<Entry>),
        on_outcome: &mut dyn FnMut(usize, Outcome),
    ) {
        for (n, entry) in new.iter().enumerate() {
            let outcome = self.install(entry, locate, &mut |old| on_replace(n, old));
            on_outcome(n, outcome);
        }
    }

    /// Takes out the entry with this hash and address; false if it is not there (any more).
    fn remove(&self, hash: u64, address: Address) -> bool;

    /// Lets the entry with this hash and address `old` point at `new`, a copy of the same record at an address that
    /// is not in the index; false, and no change, if `old` is not there (any more).
    fn swap(&self, hash: u64, old: Address, new: Address) -> bool;

    /// The number of entries, those of tombstones included. A count of a moment that is past when it returns.
    fn len(&self) -> usize;

    /// True if there is no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends up to `entries_max` (at least 1) addresses to `out` and says where to go on; `None` at the end.
    ///
    /// An entry that stays as it is during the whole walk is named at least once; one that comes, moves or goes
    /// meanwhile may be named or not. Writers wait for at most one chunk.
    fn export(
        &self,
        from: ExportPosition,
        entries_max: usize,
        out: &mut Vec<Address>,
    ) -> Option<ExportPosition>;

    /// Visits the addresses as [`export`](Self::export) does, in chunks and outside any lock, until `visit` breaks.
    fn for_each(&self, visit: &mut dyn FnMut(Address) -> ControlFlow<()>) -> ControlFlow<()> {
        const CHUNK_ENTRIES: usize = 1024;
        let mut chunk = Vec::with_capacity(CHUNK_ENTRIES);
        let mut next = Some(ExportPosition::default());
        while let Some(position) = next {
            chunk.clear();
            next = self.export(position, CHUNK_ENTRIES, &mut chunk);
            chunk.iter().try_for_each(|&address| visit(address))?;
        }
        ControlFlow::Continue(())
    }

    /// Does one bounded unit of work that would else be left to later changes, such as a part of a resize; false if
    /// there was none.
    fn maintain(&self) -> bool {
        false
    }

    /// The memory that the index holds, in bytes. A kind says whether it counts or estimates.
    fn memory_bytes(&self) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, tombstone: bool, segment: u64, offset_bytes: u32) -> Entry {
        let address = Address::new(0, offset_bytes).expect("legal");
        Entry { address, version: Version { seq, tombstone, segment } }
    }

    // Rule 1 of the design.
    #[test]
    fn sequence_then_tombstone_then_segment_then_offset_decide() {
        let ascending = [
            entry(1, true, 9, 80),
            entry(2, false, 3, 8),
            entry(2, false, 3, 16),
            entry(2, false, 4, 0),
            entry(2, true, 1, 0),
            entry(3, false, 0, 0),
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.supersedes(b), i > j, "{a:?} against {b:?}");
            }
        }
    }
}
