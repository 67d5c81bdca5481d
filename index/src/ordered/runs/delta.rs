//! The mutable part of a keyspace: range partitions, each under a lock of its own.
//!
//! # Invariants
//! - Partitions are in order and leave no gap: the bounds are the lowest keys of all but the first.
//! - A frozen partition never changes again. Freezing happens under its lock, so an insert either comes before and is
//!   in the partition, or finds it frozen and goes to the state that was published before the freezing.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use super::super::Direction;
use super::super::batch::KeyBatch;
use super::keys::{Keys, prefix_of};
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::sync::{Mutex, lock};

/// One range of keys.
#[derive(Debug, Default)]
pub(super) struct Partition {
    inner: Mutex<Inner>,
    /// Copies of what is under the lock, to be read without it.
    len: AtomicUsize,
    bytes: AtomicUsize,
    /// Inserts since the last look at the spread.
    inserts: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    keys: Keys,
    is_frozen: bool,
}

impl Partition {
    fn new(keys: Keys) -> Self {
        let partition = Partition::default();
        partition.count(&keys);
        lock(&partition.inner).keys = keys;
        partition
    }

    fn count(&self, keys: &Keys) {
        self.len.store(keys.len(), Relaxed);
        self.bytes.store(keys.bytes(), Relaxed);
    }

    /// False if the partition is frozen, and nothing happened.
    fn insert(&self, key: &[u8]) -> bool {
        let mut inner = lock(&self.inner);
        if inner.is_frozen {
            return false;
        }
        inner.keys.push(key);
        self.count(&inner.keys);
        let inserts = self.inserts.load(Relaxed);
        self.inserts.store(inserts + 1, Relaxed);
        true
    }

    pub(super) fn freeze(&self) {
        lock(&self.inner).is_frozen = true;
    }

    /// Keys, duplicates included.
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// The inserts since they were last taken.
    pub(super) fn take_inserts(&self) -> usize {
        self.inserts.swap(0, Relaxed)
    }

    /// See [`Keys::copy`].
    pub(super) fn copy(
        &self,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        keys_max: usize,
        out: &mut KeyBatch,
    ) {
        let mut inner = lock(&self.inner);
        inner.keys.copy(bounds, direction, keys_max, out);
        self.count(&inner.keys);
    }

    /// Drops duplicates and returns the number of keys.
    fn sort(&self) -> usize {
        let mut inner = lock(&self.inner);
        inner.keys.sort();
        self.count(&inner.keys);
        inner.keys.len()
    }
}

/// All partitions of one keyspace.
#[derive(Debug)]
pub(super) struct Delta {
    partitions: Vec<Arc<Partition>>,
    bounds: Vec<Box<[u8]>>,
    /// How many bytes all bounds start with alike.
    shared: usize,
    /// The prefixes of what is behind: one cache line or two in place of a key each.
    bound_prefixes: Vec<u64>,
}

impl Default for Delta {
    fn default() -> Self {
        Delta::new(vec![Arc::default()], Vec::new())
    }
}

impl Delta {
    fn new(partitions: Vec<Arc<Partition>>, bounds: Vec<Box<[u8]>>) -> Self {
        // They are in order, so what the first and the last share they all do.
        let (first, last) = (bounds.first(), bounds.last());
        let shared = first
            .zip(last)
            .map_or(0, |(first, last)| first.iter().zip(last).take_while(|(a, b)| a == b).count());
        let bound_prefixes = bounds.iter().map(|bound| prefix_of(&bound[shared..])).collect();
        Delta { partitions, bounds, shared, bound_prefixes }
    }

    /// Empty partitions with the same bounds, as far as they parted this many keys.
    pub(super) fn emptied(&self, keys_min: usize) -> Delta {
        let (mut bounds, mut keys) = (Vec::new(), 0);
        for (partition, bound) in self.partitions.iter().zip(&self.bounds) {
            keys += partition.len();
            if keys >= keys_min.max(1) {
                bounds.push(bound.clone());
                keys = 0;
            }
        }
        Delta::new((0..=bounds.len()).map(|_| Arc::default()).collect(), bounds)
    }

    /// The partition that a key belongs to.
    pub(super) fn place_of(&self, key: &[u8]) -> usize {
        let Some(first) = self.bounds.first() else { return 0 };
        // What all bounds share says nothing; the eight bytes behind it mostly decide.
        let mut rest = key;
        if self.shared > 0 {
            let (shared, behind) = key.split_at(self.shared.min(key.len()));
            match shared.cmp(&first[..self.shared]) {
                Ordering::Less => return 0,
                Ordering::Greater => return self.bounds.len(),
                Ordering::Equal => rest = behind,
            }
        }
        let prefix = prefix_of(rest);
        let low = self.bound_prefixes.partition_point(|bound| *bound < prefix);
        if self.bound_prefixes.get(low) != Some(&prefix) {
            return low;
        }
        let same = self.bound_prefixes[low..].partition_point(|bound| *bound == prefix);
        low + self.bounds[low..low + same].partition_point(|bound| **bound <= *key)
    }

    /// False if the partition is frozen: there is a newer state then.
    pub(super) fn insert(&self, key: &[u8]) -> bool {
        self.partitions[self.place_of(key)].insert(key)
    }

    pub(super) fn partitions(&self) -> &[Arc<Partition>] {
        &self.partitions
    }

    /// The lowest key that partition `n` may hold; the first may hold any.
    pub(super) fn bound(&self, n: usize) -> Option<&[u8]> {
        n.checked_sub(1).and_then(|n| self.bounds.get(n)).map(|bound| &**bound)
    }

    pub(super) fn len(&self) -> usize {
        self.partitions.iter().map(|partition| partition.len()).sum()
    }

    pub(super) fn inserts(&self) -> usize {
        self.partitions.iter().map(|partition| partition.inserts.load(Relaxed)).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        let of_partition = size_of::<Partition>() + size_of::<Arc<Partition>>();
        let keys: usize =
            self.partitions.iter().map(|partition| partition.bytes.load(Relaxed)).sum();
        keys + self.partitions.len() * of_partition
    }

    pub(super) fn freeze(&self) {
        self.partitions.iter().for_each(|partition| partition.freeze());
    }

    /// Puts several partitions in the place of partition `n`, of about `keys_max / 2` keys each, or as `parts`
    /// says; false if it is not so large when duplicates are gone. `publish` is called with the result under the lock
    /// of the old partition, which is frozen then: an insert that waited for it finds the new state.
    pub(super) fn split(&self, n: usize, parts: Parts, publish: impl FnOnce(Delta)) -> bool {
        let partition = &self.partitions[n];
        let len = partition.sort();
        let wanted = match parts {
            Parts::OfKeys(keys_max) if len <= keys_max => return false,
            Parts::OfKeys(keys_max) => len.div_ceil(keys_max.div_ceil(2).max(1)),
            Parts::Equal(parts) => parts,
        };
        let mut inner = lock(&partition.inner);
        inner.keys.sort();
        let cuts = inner.keys.cuts(wanted.max(2));
        if cuts.is_empty() {
            return false;
        }
        let new = inner.keys.parts(&cuts).into_iter().map(|keys| Arc::new(Partition::new(keys)));
        let mut partitions = self.partitions.clone();
        partitions.splice(n..=n, new);
        let mut bounds = self.bounds.clone();
        bounds.splice(n..n, cuts);
        publish(Delta::new(partitions, bounds));
        inner.is_frozen = true;
        true
    }

    /// Puts one partition in the place of `n` and its right neighbour, in the manner of [`split`](Self::split).
    pub(super) fn join(&self, n: usize, publish: impl FnOnce(Delta)) {
        let (mut left, mut right) =
            (lock(&self.partitions[n].inner), lock(&self.partitions[n + 1].inner));
        let mut keys = Keys::default();
        keys.append(&mut left.keys);
        keys.append(&mut right.keys);
        let mut partitions = self.partitions.clone();
        partitions.splice(n..=n + 1, [Arc::new(Partition::new(keys))]);
        let mut bounds = self.bounds.clone();
        bounds.remove(n);
        publish(Delta::new(partitions, bounds));
        (left.is_frozen, right.is_frozen) = (true, true);
    }
}

/// How to cut a partition.
#[derive(Debug, Clone, Copy)]
pub(super) enum Parts {
    /// If it has more keys than this, into parts of half as many.
    OfKeys(usize),
    /// Into so many equal parts.
    Equal(usize),
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    fn bounds(keys: &[&str]) -> Delta {
        let partitions = (0..=keys.len()).map(|_| Arc::default()).collect();
        Delta::new(partitions, keys.iter().map(|key| key.as_bytes().into()).collect())
    }

    #[test]
    fn a_key_belongs_behind_every_bound_that_is_not_above_it() {
        for keys in [
            &[][..],
            &["m"],
            &["a", "b", "c"],
            &["user:00000001", "user:00000002", "user:00000002x", "user:1"],
            &["same prefix of all 1", "same prefix of all 12", "same prefix of all 2"],
        ] {
            let delta = bounds(keys);
            let probes = ["", "a", "b\0", "m", "same", "same prefix of all ", "user:0", "z"];
            for probe in probes.iter().chain(keys) {
                let expected = keys.iter().filter(|bound| *bound <= probe).count();
                assert_eq!(delta.place_of(probe.as_bytes()), expected, "{probe} in {keys:?}");
                let longer = format!("{probe}!");
                let expected = keys.iter().filter(|bound| **bound <= &*longer).count();
                assert_eq!(delta.place_of(longer.as_bytes()), expected, "{longer} in {keys:?}");
            }
        }
    }

    #[test]
    fn an_emptied_delta_keeps_the_bounds_between_enough_keys() {
        let delta = bounds(&["b", "c", "d", "e"]);
        for key in ["a", "a1", "b", "d1", "d2", "d3", "e"] {
            assert!(delta.insert(key.as_bytes()));
        }
        let emptied = delta.emptied(3);
        assert_eq!((emptied.partitions().len(), emptied.len()), (3, 0));
        assert_eq!((emptied.bound(1), emptied.bound(2)), (Some(&b"c"[..]), Some(&b"e"[..])));
        delta.freeze();
        assert!(!delta.insert(b"a") && emptied.insert(b"a"));
    }
}
