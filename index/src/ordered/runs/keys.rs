//! Keys in an arena, appended as they come and sorted when somebody needs order.
//!
//! # Layout
//! `arena` holds each key behind its length (7 bits a byte, low ones first). An entry is where that starts and the first
//! eight bytes of the key, which decide most comparisons: 16 bytes, and no allocation per key.
//!
//! # Invariants
//! The first `sorted` entries are in strict order; duplicates can only be behind them.

use std::cmp::Ordering;
use std::ops::Bound;

use super::super::Direction;
use super::super::batch::KeyBatch;

/// The first eight bytes of a key, zeros behind its end: a lower prefix means a lower key, equal ones mean nothing.
#[inline]
pub(super) fn prefix_of(key: &[u8]) -> u64 {
    if let Some(first) = key.first_chunk::<8>() {
        return u64::from_be_bytes(*first);
    }
    let mut bytes = [0; 8];
    bytes[..key.len()].copy_from_slice(key);
    u64::from_be_bytes(bytes)
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    prefix: u64,
    at: usize,
}

/// A set of keys; see the head of this file.
#[derive(Debug, Default)]
pub(super) struct Keys {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    sorted: usize,
}

fn key_at(arena: &[u8], mut at: usize) -> &[u8] {
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let byte = arena[at];
        at += 1;
        length |= usize::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return &arena[at..at + length];
        }
        shift += 7;
    }
}

fn compare(arena: &[u8], a: &Entry, b: &Entry) -> Ordering {
    a.prefix.cmp(&b.prefix).then_with(|| key_at(arena, a.at).cmp(key_at(arena, b.at)))
}

/// With at most this many new keys each is moved to its place; more are sorted and merged.
const MOVED_MAX: usize = 8;

impl Keys {
    /// The number of keys; duplicates count until the next [`sort`](Self::sort).
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The memory that is held.
    pub(super) fn bytes(&self) -> usize {
        self.arena.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    /// Adds a key.
    #[inline]
    pub(super) fn push(&mut self, key: &[u8]) {
        let entry = Entry { prefix: prefix_of(key), at: self.arena.len() };
        if self.sorted == self.entries.len() {
            // Keys that come in order stay sorted, and one that comes again is not stored.
            let last = self.entries.last().map_or(Ordering::Less, |last| {
                last.prefix.cmp(&entry.prefix).then_with(|| key_at(&self.arena, last.at).cmp(key))
            });
            match last {
                Ordering::Less => self.sorted += 1,
                Ordering::Equal => return,
                Ordering::Greater => {}
            }
        }
        let mut length = key.len();
        while length >= 0x80 {
            self.arena.push(length as u8 | 0x80);
            length >>= 7;
        }
        self.arena.push(length as u8);
        self.arena.extend_from_slice(key);
        self.entries.push(entry);
    }

    /// Puts the keys in order and drops duplicates.
    pub(super) fn sort(&mut self) {
        let arena = &self.arena;
        if self.entries.len() - self.sorted > MOVED_MAX {
            // A stable sort takes the sorted part as it is and merges the rest into it.
            self.entries.sort_by(|a, b| compare(arena, a, b));
            self.entries.dedup_by(|a, b| compare(arena, a, b) == Ordering::Equal);
            self.sorted = self.entries.len();
        }
        while self.sorted < self.entries.len() {
            let entry = self.entries[self.sorted];
            match self.entries[..self.sorted].binary_search_by(|e| compare(arena, e, &entry)) {
                Ok(_) => {
                    self.entries.remove(self.sorted);
                }
                Err(place) => {
                    self.entries[place..=self.sorted].rotate_right(1);
                    self.sorted += 1;
                }
            }
        }
    }

    fn get(&self, n: usize) -> &[u8] {
        key_at(&self.arena, self.entries[n].at)
    }

    /// The number of keys that are below `key`, or with `or_equal` not above it. The keys are sorted.
    fn count_below(&self, key: &[u8], or_equal: bool) -> usize {
        let sought = prefix_of(key);
        self.entries.partition_point(|entry| match entry.prefix.cmp(&sought) {
            Ordering::Equal if or_equal => key_at(&self.arena, entry.at) <= key,
            Ordering::Equal => key_at(&self.arena, entry.at) < key,
            order => order == Ordering::Less,
        })
    }

    /// Appends the first keys within the bounds, or the last ones from the highest down, to `out` until it holds
    /// `keys_max`.
    pub(super) fn copy(
        &mut self,
        (start, end): (Bound<&[u8]>, Bound<&[u8]>),
        direction: Direction,
        keys_max: usize,
        out: &mut KeyBatch,
    ) {
        self.sort();
        let from = match start {
            Bound::Unbounded => 0,
            Bound::Included(key) => self.count_below(key, false),
            Bound::Excluded(key) => self.count_below(key, true),
        };
        let to = match end {
            Bound::Unbounded => self.len(),
            Bound::Included(key) => self.count_below(key, true),
            Bound::Excluded(key) => self.count_below(key, false),
        };
        let mut take = |n: usize| {
            out.push(self.get(n));
            out.len() < keys_max && out.bytes() < KeyBatch::BYTES_MAX
        };
        match direction {
            Direction::Forward => (from..to).take_while(|&n| take(n)).for_each(drop),
            Direction::Reverse => (from..to).rev().take_while(|&n| take(n)).for_each(drop),
        }
    }

    /// Keys that cut this set into about `parts` parts of equal size, none of them empty: at most `parts - 1`, in
    /// strict order, the lowest key of all not among them. The keys are sorted.
    pub(super) fn cuts(&self, parts: usize) -> Vec<Box<[u8]>> {
        let mut places: Vec<_> = (1..parts).map(|n| n * self.len() / parts).collect();
        places.dedup();
        places.retain(|&place| place > 0);
        places.into_iter().map(|place| self.get(place).into()).collect()
    }

    /// Takes the set apart: the keys below the first cut, from there to the second, and so on.
    pub(super) fn parts(&mut self, cuts: &[Box<[u8]>]) -> Vec<Keys> {
        self.sort();
        let mut parts = Vec::with_capacity(cuts.len() + 1);
        let mut from = 0;
        for to in cuts.iter().map(|cut| self.count_below(cut, false)).chain([self.len()]) {
            let mut part = Keys::default();
            (from..to).for_each(|n| part.push(self.get(n)));
            parts.push(part);
            from = to;
        }
        parts
    }

    /// Adds all keys of another set.
    pub(super) fn append(&mut self, other: &mut Keys) {
        other.sort();
        (0..other.len()).for_each(|n| self.push(other.get(n)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(keys: &mut Keys, direction: Direction) -> Vec<Vec<u8>> {
        let mut out = KeyBatch::new();
        keys.copy((Bound::Unbounded, Bound::Unbounded), direction, usize::MAX, &mut out);
        out.iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn keys_come_back_sorted_and_once_whatever_the_order_of_pushes() {
        let mut expected = std::collections::BTreeSet::new();
        let mut keys = Keys::default();
        for n in 0..2_000u64 {
            let key = match n % 5 {
                0 => vec![],
                1 => (n * 7_919 % 300).to_be_bytes().to_vec(),
                2 => vec![0; (n % 13) as usize],
                3 => vec![b'x'; (n % 7 * 90) as usize],
                _ => n.to_be_bytes()[4..].to_vec(),
            };
            keys.push(&key);
            expected.insert(key);
            if n % 97 == 0 || (n > 1_000 && n % 3 == 0) {
                keys.sort();
                assert_eq!(keys.len(), expected.len());
            }
        }
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(all(&mut keys, Direction::Forward), expected);
        let mut reversed = all(&mut keys, Direction::Reverse);
        reversed.reverse();
        assert_eq!(reversed, expected);
    }

    #[test]
    fn parts_hold_what_lies_between_the_cuts() {
        let mut keys = Keys::default();
        (0..100u8).rev().for_each(|n| keys.push(&[n]));
        keys.sort();
        let cuts = keys.cuts(4);
        assert_eq!(cuts, [[25].into(), [50].into(), Box::<[u8]>::from([75])]);
        let parts: Vec<_> = keys.parts(&cuts).iter().map(Keys::len).collect();
        assert_eq!(parts, [25, 25, 25, 25]);
        let mut few = Keys::default();
        few.push(b"a");
        assert!(few.cuts(16).is_empty(), "one key cannot be cut");
        few.push(b"b");
        assert_eq!(few.cuts(16).len(), 1);
    }
}
