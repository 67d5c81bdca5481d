//! Point index, delta, runs and merges under random schedules: writers put and delete, tombstones are forgotten, walks
//! and background work go on beside them (rows S7, U1).
//!
//! `cargo xtask shuttle` runs it. `CORTEN_SCHEDULES` is the number of schedules of all tests together (20,000), and
//! `CORTEN_SEED` repeats a run.
#![cfg(shuttle)]
#![expect(clippy::disallowed_methods, reason = "a test prints its rate and chooses its seed")]

mod schedules;

use std::sync::Arc;

use cortenkv_index::testkit::{Hashing, Records};
use cortenkv_index::{
    BTreePoint, Direction, Entry, Hint, KeyBatch, KeyOwner, KeyRange, KeyState, Location,
    OrderedIndex, PointIndex, Result, RunsOptions, RunsOrdered, pin,
};
use schedules::{explore, pct};
use shuttle::rand::Rng;
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

const KEYS: u8 = 5;
/// The keys from here on are never deleted.
const FIXED: u8 = 3;

struct Store {
    records: Records,
    point: BTreePoint,
    order: RunsOrdered,
    seqs: AtomicU64,
    writers_pin: bool,
}

impl Store {
    fn new(writers_pin: bool) -> Self {
        let mut options = RunsOptions::default();
        (options.delta_keys_min, options.delta_keys_max) = (1, 1);
        (options.partition_keys_max, options.partitions_start) = (1, 2);
        (options.spread_inserts, options.runs_max) = (4, 1);
        (options.piece_keys_max, options.chunk_keys) = (2, 2);
        let (point, order) = (BTreePoint::with_shards(1), RunsOrdered::new(options));
        let records = Records::new(Hashing::Good);
        Store { records, point, order, seqs: AtomicU64::new(1), writers_pin }
    }

    fn entry(&self, key: &[u8]) -> Option<Entry> {
        let hash = self.records.hash(0, key);
        let found = self.point.get(hash, &mut |at| self.records.probe(at, 0, key))?;
        Some(self.records.read(found).2)
    }

    fn live(&self, key: &[u8]) -> Option<Entry> {
        self.entry(key).filter(|entry| !entry.version.tombstone)
    }

    /// As a point index without locks: time may pass between the look at the old entry with the insert, and the change.
    fn write(&self, key: &[u8], tombstone: bool) {
        let _pin = self.writers_pin.then(pin);
        let seq = self.seqs.fetch_add(1, Ordering::SeqCst);
        let entry = self.records.append(seq as usize, 0, key, seq, tombstone);
        let is_new = !tombstone && self.live(key).is_none();
        if is_new {
            self.order.insert(0, key);
        }
        let offer = self.records.offer(0, key, entry);
        self.point.install(&offer, &self.records, &mut |old| {
            if !tombstone && !is_new && old.is_none_or(|old| old.version.tombstone) {
                self.order.insert(0, key);
            }
        });
    }

    /// What compaction does with a tombstone that nothing needs any more.
    fn forget(&self, key: &[u8]) {
        if let Some(entry) = self.entry(key).filter(|entry| entry.version.tombstone) {
            self.point.remove(self.records.hash(0, key), entry.address);
        }
    }

    fn walk(&self, direction: Direction) -> Vec<u8> {
        let mut cursor = self.order.cursor(0, KeyRange::all(), direction);
        let (mut batch, mut found) = (KeyBatch::new(), Vec::new());
        while cursor.next_batch(2, &mut batch).expect("nothing is damaged") > 0 {
            for (n, key) in batch.iter().enumerate() {
                match self.live(key) {
                    Some(_) => found.push(key[0]),
                    None => cursor.note_dead(n),
                }
            }
        }
        let fixed = found.iter().filter(|key| **key >= FIXED).count();
        assert_eq!(fixed, usize::from(KEYS - FIXED), "a key was passed over");
        found
    }

    fn maintain(&self, units: usize) {
        for _ in 0..units {
            if !self.order.maintain(self).expect("nothing is damaged") {
                thread::yield_now();
            }
        }
    }
}

impl KeyOwner for Store {
    fn states(&self, _keyspace: u32, keys: &KeyBatch, states: &mut Vec<KeyState>) -> Result<()> {
        states.clear();
        for key in keys.iter() {
            states.push(self.live(key).map_or(KeyState::Dead, |entry| {
                let Entry { address, version } = entry;
                KeyState::Live(Some(Hint { segment: version.segment, address }))
            }));
        }
        Ok(())
    }
}

fn schedule(writers_pin: bool) {
    let store = Arc::new(Store::new(writers_pin));
    (FIXED..KEYS).for_each(|key| store.write(&[key], false));
    let mut threads = Vec::new();
    for _ in 0..2 {
        let store = Arc::clone(&store);
        threads.push(thread::spawn(move || {
            let mut random = shuttle::rand::thread_rng();
            for _ in 0..5 {
                let key = [random.gen_range(0..KEYS)];
                match random.gen_range(0..5) {
                    0 if key[0] < FIXED => store.write(&key, true),
                    1 => store.forget(&key),
                    _ => store.write(&key, false),
                }
            }
        }));
    }
    let worker = Arc::clone(&store);
    threads.push(thread::spawn(move || worker.maintain(12)));
    let walker = Arc::clone(&store);
    threads.push(thread::spawn(move || {
        walker.walk(Direction::Forward);
        walker.walk(Direction::Reverse);
    }));
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    let live: Vec<u8> = (0..KEYS).filter(|key| store.live(&[*key]).is_some()).collect();
    assert_eq!(store.walk(Direction::Forward), live, "a key was lost");
    store.maintain(30);
    assert_eq!(store.walk(Direction::Forward), live, "a key was lost");
}

#[test]
fn no_key_is_lost_or_passed_over() {
    explore("order", 60, RandomScheduler::new_from_seed, || schedule(true));
}

#[test]
fn no_key_is_lost_when_few_preemptions_are_placed_badly() {
    explore("order, PCT", 40, pct, || schedule(true));
}

#[test]
#[should_panic(expected = "a key was")]
fn canary_writers_without_a_pin_lose_a_key() {
    // A writer that is stopped for as long as a flush takes: random schedules hardly ever do that.
    explore("canary", 100, pct, || schedule(false));
}
