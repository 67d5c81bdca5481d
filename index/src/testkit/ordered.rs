//! The families of checks for an ordered index.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::{Random, announce, seeds};
use crate::{Direction, KeyBatch, KeyCursor, KeyRange, Mark, OrderedIndex};

/// Makes an empty index.
type Make<'a> = &'a dyn Fn() -> Box<dyn OrderedIndex>;

const KEYSPACES: u32 = 3;

/// Runs every family with several seeds.
///
/// # Panics
/// If the index differs from the model anywhere.
pub fn check_ordered_index(make: Make<'_>) {
    for seed in seeds() {
        ordered_model(make, seed);
        ordered_contention(make, seed);
    }
}

/// Random operations of one thread, with walks that see changes under way, compared with sorted sets.
///
/// # Panics
/// If an answer differs.
pub fn ordered_model(make: Make<'_>, seed: u64) {
    announce("ordered_model", seed);
    let index = make();
    let mut model = Model {
        index: &*index,
        random: Random::new(seed),
        seed,
        keys: vec![BTreeSet::new(); KEYSPACES as usize],
        marks: BTreeMap::new(),
    };
    for _ in 0..4_000 {
        model.step();
    }
}

struct Model<'a> {
    index: &'a dyn OrderedIndex,
    random: Random,
    seed: u64,
    keys: Vec<BTreeSet<Vec<u8>>>,
    /// Marks that were taken and not used; the flag says whether they still count.
    marks: BTreeMap<(u32, Vec<u8>), (Mark, bool)>,
}

impl Model<'_> {
    fn keyspace(&mut self) -> u32 {
        self.random.below(KEYSPACES as usize) as u32
    }

    /// Short keys over bytes at both ends, so that prefixes, the empty key and 0xFF come up all the time.
    fn key(&mut self) -> Vec<u8> {
        const ALPHABET: [u8; 5] = [0x00, 0x01, b'a', 0xFE, 0xFF];
        (0..self.random.below(5)).map(|_| ALPHABET[self.random.below(5)]).collect()
    }

    fn bound(&mut self) -> Bound<Vec<u8>> {
        match self.random.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(self.key()),
            _ => Bound::Excluded(self.key()),
        }
    }

    fn range(&mut self) -> KeyRange {
        if self.random.one_in(3) {
            return KeyRange::prefix(&self.key());
        }
        let bounds = (self.bound(), self.bound());
        KeyRange::new::<Vec<u8>>(bounds)
    }

    fn direction(&mut self) -> Direction {
        if self.random.one_in(2) { Direction::Forward } else { Direction::Reverse }
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0..20 => {
                self.change();
            }
            20..30 => self.walk_in_peace(),
            30..38 => self.walk_among_changes(),
            38 => self.check_ends(),
            _ if self.random.one_in(10) => {
                let keyspace = self.keyspace();
                self.index.remove_keyspace(keyspace);
                self.keys[keyspace as usize].clear();
                for ((of, _), (_, counts)) in &mut self.marks {
                    *counts &= *of != keyspace;
                }
            }
            _ => {}
        }
    }

    /// One change, or none; returns the key that it was about.
    fn change(&mut self) -> (u32, Vec<u8>) {
        let (seed, keyspace, key) = (self.seed, self.keyspace(), self.key());
        let there = self.keys[keyspace as usize].contains(&key);
        let name = (keyspace, key.clone());
        let touched = name.clone();
        match self.random.below(6) {
            0..3 => {
                assert_eq!(
                    self.index.insert(keyspace, &key),
                    !there,
                    "insert {key:?}, seed {seed}"
                );
                self.keys[keyspace as usize].insert(key);
                if let Some((_, counts)) = self.marks.get_mut(&name) {
                    *counts = false;
                }
            }
            3 => {
                let mark = self.index.mark(keyspace, &key);
                assert_eq!(mark.is_some(), there, "mark {key:?}, seed {seed}");
                if let Some(mark) = mark {
                    self.marks.insert(name, (mark, true));
                }
            }
            _ => {
                let Some((mark, counts)) = self.marks.remove(&name) else { return touched };
                let removed = self.index.remove(keyspace, &key, mark);
                assert_eq!(removed, counts, "remove {key:?}, seed {seed}");
                assert!(!self.index.remove(keyspace, &key, mark), "twice {key:?}, seed {seed}");
                if removed {
                    self.keys[keyspace as usize].remove(&key);
                }
            }
        }
        touched
    }

    fn expected(&self, keyspace: u32, range: &KeyRange, direction: Direction) -> Vec<Vec<u8>> {
        let all = self.keys[keyspace as usize].iter();
        let mut keys: Vec<_> = all.filter(|key| range.contains(key)).cloned().collect();
        if direction == Direction::Reverse {
            keys.reverse();
        }
        keys
    }

    fn walk_in_peace(&mut self) {
        let (keyspace, range, direction) = (self.keyspace(), self.range(), self.direction());
        let keys_max = self.random.below(20);
        let cursor = self.index.cursor(keyspace, range.clone(), direction);
        let found = drain(cursor, keys_max, &mut || {});
        let expected = self.expected(keyspace, &range, direction);
        assert_eq!(found, expected, "{range:?} {direction:?}, seed {}", self.seed);
        assert!(!range.is_empty() || found.is_empty(), "{range:?}, seed {}", self.seed);
    }

    fn walk_among_changes(&mut self) {
        let (keyspace, range, direction) = (self.keyspace(), self.range(), self.direction());
        let keys_max = self.random.below(4);
        let cursor = self.index.cursor(keyspace, range.clone(), direction);
        let mut always = self.keys[keyspace as usize].clone();
        let mut ever = always.clone();
        let found = drain(cursor, keys_max, &mut || {
            let (of, key) = self.change();
            if of == keyspace && self.keys[keyspace as usize].contains(&key) {
                ever.insert(key);
            } else if of == keyspace {
                always.remove(&key);
            }
        });
        let context = format!("{range:?} {direction:?}, seed {}", self.seed);
        assert!(is_ordered(&found, direction), "{found:?} of {context}");
        assert!(found.iter().all(|k| range.contains(k) && ever.contains(k)), "{context}");
        let found: BTreeSet<_> = found.into_iter().collect();
        always.retain(|key| range.contains(key));
        assert!(always.is_subset(&found), "a key was passed over in {context}");
    }

    fn check_ends(&mut self) {
        for keyspace in 0..KEYSPACES {
            let keys = &self.keys[keyspace as usize];
            let seed = self.seed;
            assert_eq!(self.index.first(keyspace).as_ref(), keys.first(), "first, seed {seed}");
            assert_eq!(self.index.last(keyspace).as_ref(), keys.last(), "last, seed {seed}");
            assert_eq!(self.index.len(keyspace), keys.len(), "len, seed {seed}");
            assert_eq!(self.index.is_empty(keyspace), keys.is_empty(), "seed {seed}");
        }
        assert_eq!(self.index.len(KEYSPACES), 0);
        assert_eq!(self.index.first(KEYSPACES), None);
    }
}

/// Takes everything from a cursor, and does something between two batches.
fn drain(
    mut cursor: Box<dyn KeyCursor>,
    keys_max: usize,
    between: &mut dyn FnMut(),
) -> Vec<Vec<u8>> {
    let (mut batch, mut found) = (KeyBatch::new(), Vec::new());
    loop {
        let count = cursor.next_batch(keys_max, &mut batch);
        assert_eq!(count, batch.len());
        assert!(count <= keys_max.max(1), "{count} keys where {keys_max} were asked for");
        if count == 0 {
            between();
            assert_eq!(cursor.next_batch(keys_max, &mut batch), 0, "a walk that ended goes on");
            return found;
        }
        found.extend(batch.iter().map(<[u8]>::to_vec));
        between();
    }
}

fn is_ordered(keys: &[Vec<u8>], direction: Direction) -> bool {
    match direction {
        Direction::Forward => keys.is_sorted_by(|a, b| a < b),
        Direction::Reverse => keys.is_sorted_by(|a, b| a > b),
    }
}

/// Threads that write, forget and scan at the same time, by the protocol that [`OrderedIndex`] describes.
///
/// # Panics
/// If a key with an entry is not in the index, or a scan passes over a key that was there all the time.
pub fn ordered_contention(make: Make<'_>, seed: u64) {
    announce("ordered_contention", seed);
    const FIXED: u32 = 100;
    let index = make();
    for n in 0..FIXED {
        index.insert(0, &fixed_key(n));
    }
    // Stand-ins for the entries of the point index.
    let entries: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(ABSENT)).collect();
    let writing = AtomicBool::new(true);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3u64)
            .map(|n| {
                let (index, entries) = (&*index, &entries);
                scope.spawn(move || write_and_forget(index, entries, Random::new(seed << 8 | n)))
            })
            .collect();
        scope.spawn(|| {
            let mut direction = Direction::Forward;
            while writing.load(Ordering::Relaxed) {
                let found = drain(index.cursor(0, KeyRange::all(), direction), 7, &mut || {});
                assert!(is_ordered(&found, direction), "seed {seed}");
                let fixed = found.iter().filter(|key| key.len() == 5).count();
                assert_eq!(fixed, FIXED as usize, "a key was passed over, seed {seed}");
                direction = match direction {
                    Direction::Forward => Direction::Reverse,
                    Direction::Reverse => Direction::Forward,
                };
            }
        });
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        writing.store(false, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "a writer failed, seed {seed}");
    });
    for (n, entry) in entries.iter().enumerate() {
        if state(entry.load(Ordering::Relaxed)) != ABSENT {
            assert!(index.mark(0, &[n as u8]).is_some(), "key {n} was lost, seed {seed}");
        }
    }
}

/// What the low bits of a stand-in say; the bits above count its changes, so that no state comes back as it was.
const ABSENT: u64 = 0;
const TOMBSTONE: u64 = 1;
const LIVE: u64 = 2;
const STATE_BITS: u32 = 2;

fn state(entry: u64) -> u64 {
    entry & ((1 << STATE_BITS) - 1)
}

fn fixed_key(n: u32) -> [u8; 5] {
    let [a, b, c, d] = n.to_be_bytes();
    [b'f', a, b, c, d]
}

fn write_and_forget(index: &dyn OrderedIndex, entries: &[AtomicU64], mut random: Random) {
    // ORDERING: SeqCst throughout; the point of this race is the protocol, not the weakest order that carries it.
    let replace = |entry: &AtomicU64, old: u64, new| {
        let new = ((old >> STATE_BITS) + 1) << STATE_BITS | new;
        entry.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    };
    for _ in 0..3_000 {
        let n = random.below(entries.len());
        let (entry, key) = (&entries[n], [n as u8]);
        let mut dawdle = || {
            if random.one_in(2) {
                thread::yield_now();
            }
        };
        // A lost race is given up here; a point index would try again.
        let mark = index.mark(0, &key);
        let old = entry.load(Ordering::SeqCst);
        match (state(old), mark) {
            (ABSENT, _) => {
                index.insert(0, &key);
                dawdle();
                replace(entry, old, LIVE);
            }
            (LIVE, _) => {
                replace(entry, old, TOMBSTONE);
            }
            (_, Some(mark)) => {
                dawdle();
                if replace(entry, old, ABSENT) {
                    dawdle();
                    index.remove(0, &key, mark);
                }
            }
            (_, None) => {}
        }
    }
}
