//! The families of checks for a point index.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::{Hashing, Random, Records, announce, seeds};
use crate::{Address, Entry, ExportPosition, Location, Outcome, PointIndex, Probe};

/// Makes an empty index.
type Make<'a> = &'a dyn Fn() -> Box<dyn PointIndex>;

/// Runs every family, each with several seeds and hashings.
///
/// # Panics
/// If the index differs from the model anywhere.
pub fn check_point_index(make: Make<'_>) {
    for seed in seeds() {
        for hashing in [Hashing::Good, Hashing::Few, Hashing::LowBits] {
            point_model(make, hashing, seed);
        }
        point_contention(make, seed);
    }
    point_colliding_keys(make, 10_000);
    point_moved_while_read(make);
}

/// Random operations of one thread, each answer compared with a map.
///
/// # Panics
/// If an answer differs.
pub fn point_model(make: Make<'_>, hashing: Hashing, seed: u64) {
    announce("point_model", seed);
    let (index, records) = (make(), Records::new(hashing));
    let mut model = Model::new(&*index, &records, 0, seed);
    for step in 0..6_000 {
        model.step();
        if step % 500 == 0 {
            model.check_everything();
        }
    }
    model.check_everything();
}

/// The naive model: what the index must answer for the keys of one keyspace.
struct Model<'a> {
    index: &'a dyn PointIndex,
    records: &'a Records,
    keyspace: u32,
    random: Random,
    seed: u64,
    steps: usize,
    entries: BTreeMap<Vec<u8>, Entry>,
    offered: Vec<(Vec<u8>, Entry)>,
}

impl<'a> Model<'a> {
    const KEYS: usize = 300;

    fn new(index: &'a dyn PointIndex, records: &'a Records, keyspace: u32, seed: u64) -> Self {
        let random = Random::new(seed ^ u64::from(keyspace) << 32);
        let (entries, offered) = (BTreeMap::new(), Vec::new());
        Model { index, records, keyspace, random, seed, steps: 0, entries, offered }
    }

    fn at(&self) -> String {
        format!("seed {}, keyspace {}, step {}", self.seed, self.keyspace, self.steps)
    }

    fn key(&mut self) -> Vec<u8> {
        format!("{}", self.random.below(Self::KEYS)).into_bytes()
    }

    fn step(&mut self) {
        self.steps += 1;
        match self.random.below(16) {
            0..7 => {
                let key = self.key();
                // A narrow range of sequence numbers, so that old and equal ones are frequent.
                let seq = (self.steps / 100 + self.random.below(40)) as u64;
                let (slot, tombstone) = (self.random.below(8), self.random.one_in(4));
                let entry = self.records.append(slot, self.keyspace, &key, seq, tombstone);
                self.offered.push((key.clone(), entry));
                self.install(&key, entry);
            }
            7 if !self.offered.is_empty() => {
                let again = self.random.below(self.offered.len());
                let (key, entry) = self.offered[again].clone();
                self.install(&key, entry);
            }
            8 => self.remove(),
            9..11 => self.swap(),
            11 => self.get_batch(),
            _ => {
                let key = self.key();
                let expected = self.entries.get(&key).map(|entry| entry.address);
                assert_eq!(self.get(&key), expected, "get at {}", self.at());
            }
        }
    }

    fn get(&self, key: &[u8]) -> Option<Address> {
        let hash = self.records.hash(self.keyspace, key);
        self.index.get(hash, &mut |at| self.records.probe(at, self.keyspace, key))
    }

    fn install(&mut self, key: &[u8], entry: Entry) {
        let expected = match self.entries.get(key) {
            None => Outcome::Inserted,
            Some(old) if old.address == entry.address => Outcome::Present,
            Some(old) if entry.supersedes(old) => Outcome::Replaced(*old),
            Some(old) => Outcome::Stale(*old),
        };
        let mut announced = None;
        let new = self.records.offer(self.keyspace, key, entry);
        let outcome = self.index.install(&new, self.records, &mut |old| announced = Some(old));
        assert_eq!(outcome, expected, "install at {}", self.at());
        let due = match expected {
            Outcome::Inserted => Some(None),
            Outcome::Replaced(old) => Some(Some(old)),
            Outcome::Stale(_) | Outcome::Present => None,
        };
        assert_eq!(announced, due, "on_replace at {}", self.at());
        if due.is_some() {
            self.entries.insert(key.to_vec(), entry);
        }
    }

    fn remove(&mut self) {
        let key = self.key();
        let hash = self.records.hash(self.keyspace, &key);
        let Some(entry) = self.entries.get(&key).copied() else { return };
        let stale = self.offered.iter().find(|(k, e)| *k == key && e.address != entry.address);
        if let Some((_, stale)) = stale {
            assert!(!self.index.remove(hash, stale.address), "stale remove at {}", self.at());
        }
        if self.random.one_in(2) {
            assert!(self.index.remove(hash, entry.address), "remove at {}", self.at());
            assert!(!self.index.remove(hash, entry.address), "second remove at {}", self.at());
            self.entries.remove(&key);
        }
    }

    fn swap(&mut self) {
        let key = self.key();
        let hash = self.records.hash(self.keyspace, &key);
        let Some(old) = self.entries.get(&key).copied() else { return };
        let slot = self.random.below(8);
        let (seq, tombstone) = (old.version.seq, old.version.tombstone);
        let new = self.records.append(slot, self.keyspace, &key, seq, tombstone);
        assert!(self.index.swap(hash, old.address, new.address), "swap at {}", self.at());
        assert!(!self.index.swap(hash, old.address, new.address), "late swap at {}", self.at());
        self.entries.insert(key, new);
    }

    fn get_batch(&mut self) {
        let keys: Vec<_> = (0..self.random.below(40)).map(|_| self.key()).collect();
        let hashes: Vec<_> = keys.iter().map(|k| self.records.hash(self.keyspace, k)).collect();
        let mut found = vec![None; 3];
        let mut verify = |n: usize, at| self.records.probe(at, self.keyspace, &keys[n]);
        self.index.get_batch(&hashes, &mut verify, &mut found);
        let expected: Vec<_> =
            keys.iter().map(|key| self.entries.get(key).map(|e| e.address)).collect();
        assert_eq!(found, expected, "get_batch at {}", self.at());
    }

    fn check_keys(&self) {
        for n in 0..Self::KEYS {
            let key = format!("{n}").into_bytes();
            let expected = self.entries.get(&key).map(|entry| entry.address);
            assert_eq!(self.get(&key), expected, "key {n} at {}", self.at());
        }
    }

    /// Only for a model that has the index to itself.
    fn check_everything(&self) {
        self.check_keys();
        assert_eq!(self.index.len(), self.entries.len(), "len at {}", self.at());
        assert_eq!(self.index.is_empty(), self.entries.is_empty(), "is_empty at {}", self.at());
        let expected: BTreeSet<Address> = self.entries.values().map(|e| e.address).collect();
        let mut visited = BTreeSet::new();
        let end = self.index.for_each(&mut |address| {
            visited.insert(address);
            ControlFlow::Continue(())
        });
        assert_eq!((end, &visited), (ControlFlow::Continue(()), &expected), "at {}", self.at());
        for chunk_entries in [0, 1, 3, 1_000] {
            let (mut all, mut next) = (Vec::new(), Some(ExportPosition::default()));
            while let Some(from) = next {
                let before = all.len();
                next = self.index.export(from, chunk_entries, &mut all);
                assert!(all.len() - before <= chunk_entries.max(1), "chunk at {}", self.at());
            }
            let all: BTreeSet<Address> = all.into_iter().collect();
            assert_eq!(all, expected, "export by {chunk_entries} at {}", self.at());
        }
        // 39 bits of address, some of which a kind may derive from the place of the entry.
        assert!(self.index.memory_bytes() >= self.index.len() * 4, "memory at {}", self.at());
    }
}

/// Many keys with one hash: slow is allowed, wrong or unbounded growth is not.
///
/// # Panics
/// If a key is lost or mistaken for another.
pub fn point_colliding_keys(make: Make<'_>, keys: usize) {
    let (index, records) = (make(), Records::new(Hashing::Constant));
    let key = |n: usize| format!("key-{n}").into_bytes();
    let mut entries = Vec::with_capacity(keys);
    for n in 0..keys {
        let entry = records.append(n, 0, &key(n), 10, false);
        let outcome = index.install(&records.offer(0, &key(n), entry), &records, &mut |old| {
            assert_eq!(old, None, "key {n} was taken for another");
        });
        assert_eq!(outcome, Outcome::Inserted, "key {n}");
        entries.push(entry);
    }
    assert_eq!(index.len(), keys);
    let bytes_max = keys * 256 + (1 << 20);
    assert!(index.memory_bytes() < bytes_max, "{} bytes for {keys} keys", index.memory_bytes());
    let hash = records.hash(0, b"");
    for n in (0..keys).step_by(keys.div_ceil(200)) {
        let (key, old) = (key(n), entries[n]);
        let stale = records.append(n, 0, &key, 9, true);
        let outcome = index.install(&records.offer(0, &key, stale), &records, &mut |_| {});
        assert_eq!(outcome, Outcome::Stale(old), "key {n}");
        let newer = records.append(n, 0, &key, 11, false);
        let outcome = index.install(&records.offer(0, &key, newer), &records, &mut |_| {});
        assert_eq!(outcome, Outcome::Replaced(old), "key {n}");
        let found = index.get(hash, &mut |at| records.probe(at, 0, &key));
        assert_eq!(found, Some(newer.address), "key {n}");
        assert!(index.remove(hash, newer.address), "key {n}");
        assert_eq!(index.get(hash, &mut |at| records.probe(at, 0, &key)), None, "key {n}");
    }
}

/// A record that moves, or goes for good, while a look-up holds its old address.
///
/// # Panics
/// If the look-up does not look again, or does not stop looking.
pub fn point_moved_while_read(make: Make<'_>) {
    let (index, records) = (make(), Records::new(Hashing::Constant));
    let hash = records.hash(0, b"key");
    let old = records.append(0, 0, b"key", 1, false);
    let moved = records.append(1, 0, b"key", 1, false);
    index.install(&records.offer(0, b"key", old), &records, &mut |_| {});
    let swapped = Cell::new(false);
    let found = index.get(hash, &mut |at| {
        if at != old.address {
            return records.probe(at, 0, b"key");
        }
        if !swapped.replace(true) {
            assert!(index.swap(hash, old.address, moved.address));
        }
        Probe::Gone
    });
    assert_eq!(found, Some(moved.address), "the look-up must follow a record that moved");
    let found = index.get(hash, &mut |_| Probe::Gone);
    assert_eq!(found, None, "an entry without a record is passed over");
}

/// Threads that race on the same keys, then threads with a model each that share only the table.
///
/// # Panics
/// If the newest version of a key loses, a record is accounted twice or never, a reader sees time go back, a change is
/// visible before it was announced, or a model differs.
pub fn point_contention(make: Make<'_>, seed: u64) {
    announce("point_contention", seed);
    for hashing in [Hashing::Good, Hashing::Few] {
        shared_keys(&*make(), hashing, seed);
        let (index, records) = (make(), Records::new(hashing));
        let (index, records) = (&*index, &records);
        let entries: usize = thread::scope(|scope| {
            let model = |keyspace| {
                let mut model = Model::new(index, records, keyspace, seed);
                (0..1_500).for_each(|_| model.step());
                model.check_keys();
                model.entries.len()
            };
            let models: Vec<_> = (0..4).map(|k| scope.spawn(move || model(k))).collect();
            models.into_iter().map(|m| m.join().expect("a model differs")).sum()
        });
        assert_eq!(index.len(), entries, "seed {seed}");
    }
}

/// What the threads of [`shared_keys`] have in common.
struct Race<'a> {
    index: &'a dyn PointIndex,
    records: Records,
    seqs: AtomicU64,
    dead: AtomicUsize,
    live: AtomicUsize,
    /// Per key, the highest sequence number that `on_replace` was called for.
    announced: Vec<AtomicU64>,
}

const RACE_KEYS: usize = 16;
const RACE_STEPS: usize = 1_500;

fn race_key(n: usize) -> [u8; 1] {
    [n as u8]
}

fn shared_keys(index: &dyn PointIndex, hashing: Hashing, seed: u64) {
    let race = Race {
        index,
        records: Records::new(hashing),
        seqs: AtomicU64::new(1),
        dead: AtomicUsize::new(0),
        live: AtomicUsize::new(0),
        announced: (0..RACE_KEYS).map(|_| AtomicU64::new(0)).collect(),
    };
    thread::scope(|scope| {
        for n in 0..4u64 {
            let (race, random) = (&race, Random::new(seed << 8 | n));
            scope.spawn(
                move || if n == 0 { race.read_and_move(random) } else { race.write(random) },
            );
        }
    });
    let (live, dead) = (race.live.into_inner(), race.dead.into_inner());
    assert_eq!(live + dead, race.records.len(), "each record is live or dead, seed {seed}");
    assert_eq!((live, index.len()), (RACE_KEYS, RACE_KEYS), "seed {seed}");
    for (n, announced) in race.announced.iter().enumerate() {
        let key = race_key(n);
        let hash = race.records.hash(0, &key);
        let found = index.get(hash, &mut |at| race.records.probe(at, 0, &key)).expect("written");
        let newest = announced.load(Ordering::Relaxed);
        assert_eq!(race.records.read(found).2.version.seq, newest, "key {n}, seed {seed}");
    }
}

impl Race<'_> {
    fn write(&self, mut random: Random) {
        for step in 0..RACE_STEPS {
            // Every key is written at least once, so that all are there at the end.
            let n = if step < RACE_KEYS { step } else { random.below(RACE_KEYS) };
            let key = race_key(n);
            let seq = self.seqs.fetch_add(1, Ordering::Relaxed);
            if random.one_in(4) {
                thread::yield_now(); // lets later sequence numbers arrive first
            }
            let entry = self.records.append(step, 0, &key, seq, random.one_in(4));
            let new = self.records.offer(0, &key, entry);
            // ORDERING: pairs with the Acquire load in `read_and_move`; the announcement comes before the change.
            let mut announce = |_| {
                self.announced[n].fetch_max(seq, Ordering::Release);
            };
            match self.index.install(&new, &self.records, &mut announce) {
                Outcome::Inserted => self.live.fetch_add(1, Ordering::Relaxed),
                Outcome::Replaced(_) | Outcome::Stale(_) => {
                    self.dead.fetch_add(1, Ordering::Relaxed)
                }
                Outcome::Present => panic!("{new:?} was offered once"),
            };
        }
    }

    fn read_and_move(&self, mut random: Random) {
        let mut seen = [0; RACE_KEYS];
        for step in 0..RACE_STEPS {
            let n = random.below(RACE_KEYS);
            let key = race_key(n);
            let hash = self.records.hash(0, &key);
            let Some(at) = self.index.get(hash, &mut |at| self.records.probe(at, 0, &key)) else {
                assert_eq!(seen[n], 0, "key {n} disappeared");
                continue;
            };
            let version = self.records.read(at).2.version;
            assert!(version.seq >= seen[n], "key {n} went back from {} to {version:?}", seen[n]);
            seen[n] = version.seq;
            // ORDERING: pairs with the Release in `write`; what is visible was announced.
            let announced = self.announced[n].load(Ordering::Acquire);
            assert!(announced >= version.seq, "key {n}: {version:?} before its announcement");
            if random.one_in(3) {
                let copy = self.records.append(step, 0, &key, version.seq, version.tombstone);
                self.index.swap(hash, at, copy.address);
                // Either the old place is dead now, or the copy was in vain.
                self.dead.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
