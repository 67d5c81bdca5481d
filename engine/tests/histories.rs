//! U8: histories of many threads, checked afterwards.
//!
//! Commits are totally ordered by their numbers, so a history of transactions is serialisable if each, replayed at its place,
//! reads what it has read: every value is written once, so a value says which write it was. Operations on single keys are linear
//! if their numbers agree with time: one that began after another had ended has no smaller number.
//!
//! `CORTEN_HISTORY_OPERATIONS` sets how many operations each history has; `CORTEN_SEED` repeats the choices of its threads.

#[path = "crash/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use cortenkv::{Db, Durability};
use random::{Random, mix};

const THREADS: u64 = 4;
const KEYS: u8 = 12;

type State = BTreeMap<u8, u64>;

/// What a transaction did, in its order.
#[derive(Debug, Clone)]
enum Step {
    Read(u8, Option<u64>),
    /// All of a range.
    Walk(u8, u8, Vec<(u8, u64)>),
    Write(u8, Option<u64>),
}

#[derive(Debug)]
struct Committed {
    seq: u64,
    /// Nothing is written, so it has the number of the commit before it.
    is_read_only: bool,
    steps: Vec<Step>,
}

/// An operation on one key, between two moments.
#[derive(Debug, Clone, Copy)]
struct Single {
    key: u8,
    seq: u64,
    is_write: bool,
    began: u64,
    ended: u64,
}

#[derive(Debug, Default)]
struct History {
    transactions: Mutex<Vec<Committed>>,
    singles: Mutex<Vec<Single>>,
    /// Values, and moments.
    next: AtomicU64,
}

fn from_env(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

fn decode(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.try_into().unwrap())
}

impl History {
    fn now(&self) -> u64 {
        self.next.fetch_add(1, SeqCst)
    }

    fn transaction(&self, db: &Db, random: &mut Random, is_ordered: bool) {
        let mut t = db.transaction();
        let mut steps = Vec::new();
        for _ in 0..2 + random.below(4) {
            let key = random.below(KEYS.into()) as u8;
            if random.percent(20) {
                // Few cores: others come between only if they are let.
                std::thread::yield_now();
            }
            match random.below(10) {
                0..5 => {
                    let found = t.get(db, [key]).unwrap().map(|value| decode(&value));
                    steps.push(Step::Read(key, found));
                }
                5 if is_ordered => {
                    let end = key + random.pick(&[0, 1, 2, 4]);
                    let entry = |entry: cortenkv::Result<(bytes::Bytes, bytes::Bytes)>| {
                        let (key, value) = entry.unwrap();
                        (key[0], decode(&value))
                    };
                    let walk = t.range(db, [key]..[end]);
                    let mut walked: Vec<_> = match random.percent(50) {
                        true => walk.map(entry).collect(),
                        false => walk.rev().map(entry).collect(),
                    };
                    walked.sort_unstable();
                    steps.push(Step::Walk(key, end, walked));
                }
                5..8 => {
                    let value = self.now();
                    t.put(db, [key], value.to_le_bytes()).unwrap();
                    steps.push(Step::Write(key, Some(value)));
                }
                8 => {
                    t.delete(db, [key]).unwrap();
                    steps.push(Step::Write(key, None));
                }
                // Reads alone.
                _ => break,
            }
        }
        let is_read_only = t.is_read_only();
        if let Ok(seq) = t.commit().unwrap() {
            self.transactions.lock().unwrap().push(Committed { seq, is_read_only, steps });
        }
    }

    fn single(&self, db: &Db, random: &mut Random) {
        let singles = db.keyspace("singles").unwrap();
        let key = random.below(4) as u8;
        let began = self.now();
        let (seq, is_write) = match random.below(10) {
            0..6 => (singles.get_entry([key]).unwrap().map_or(0, |entry| entry.seq), false),
            6..8 => (singles.put([key], began.to_le_bytes()).unwrap(), true),
            _ => {
                let old = singles.fetch_and_update([key], |_| Some(began.to_le_bytes().to_vec()));
                old.unwrap();
                return;
            }
        };
        let ended = self.now();
        self.singles.lock().unwrap().push(Single { key, seq, is_write, began, ended });
    }

    /// Replays what was committed in the order of the numbers.
    fn replay(&self, until: u64) -> State {
        let mut transactions = self.transactions.lock().unwrap();
        transactions.sort_by_key(|committed| (committed.seq, committed.is_read_only));
        let mut state = State::new();
        for committed in transactions.iter().filter(|committed| committed.seq <= until) {
            for step in &committed.steps {
                match step {
                    Step::Read(key, found) => {
                        assert_eq!(state.get(key), found.as_ref(), "key {key} of {committed:?}");
                    }
                    Step::Walk(start, end, walked) => {
                        let there = state.range(start..end).map(|(key, value)| (*key, *value));
                        assert_eq!(&there.collect::<Vec<_>>(), walked, "{committed:?}");
                    }
                    Step::Write(key, Some(value)) => {
                        state.insert(*key, *value);
                    }
                    Step::Write(key, None) => {
                        state.remove(key);
                    }
                }
            }
        }
        state
    }

    /// Holds the numbers of operations on single keys against time.
    fn check_singles(&self) {
        let singles = self.singles.lock().unwrap();
        for key in 0..4 {
            let mut by_begin: Vec<_> = singles.iter().filter(|single| single.key == key).collect();
            let mut by_end = by_begin.clone();
            by_begin.sort_by_key(|single| single.began);
            by_end.sort_by_key(|single| single.ended);
            let (mut seen, mut ended) = (0, by_end.iter().peekable());
            for single in by_begin {
                while let Some(before) = ended.next_if(|other| other.ended < single.began) {
                    seen = seen.max(before.seq);
                }
                // A write has a number of its own.
                let is_later = single.seq > seen || (!single.is_write && single.seq == seen);
                assert!(is_later, "{single:?} after {seen}");
            }
        }
    }

    fn run(&self, db: &Db, operations: u64, seed: u64) {
        let is_ordered = db.stats().build.ordered;
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                scope.spawn(move || {
                    let mut random = Random::new(mix(seed, thread));
                    for _ in 0..operations / THREADS {
                        match random.percent(70) {
                            true => self.transaction(db, &mut random, is_ordered),
                            false => self.single(db, &mut random),
                        }
                    }
                });
            }
        });
    }
}

/// What is in the keyspace of the transactions.
fn shown(db: &Db) -> State {
    let value = |key| Some((key, decode(&db.get([key]).unwrap()?)));
    (0..KEYS + 4).filter_map(value).collect()
}

fn seed() -> u64 {
    let drawn = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_nanos() as u64);
    let seed = from_env("CORTEN_SEED", drawn);
    println!("CORTEN_SEED={seed} repeats this");
    seed
}

fn check(db: &Db, operations: u64, seed: u64) {
    let history = History::default();
    history.run(db, operations, seed);
    assert_eq!(history.replay(u64::MAX), shown(db));
    history.check_singles();
    let stats = db.stats().transactions;
    println!("{stats:?}, {} syncs", db.stats().log.syncs);
    assert_eq!(stats.committed, history.transactions.lock().unwrap().len() as u64);
}

#[test]
fn stress_histories_in_memory_are_serialisable() {
    let operations = from_env("CORTEN_HISTORY_OPERATIONS", 40_000);
    check(&Db::open_in_memory().unwrap(), operations, seed());
}

#[test]
fn stress_histories_on_disk_are_serialisable_in_every_mode() {
    if !Db::open_in_memory().unwrap().stats().build.wal {
        return;
    }
    let seed = seed();
    let ms = std::time::Duration::from_millis;
    for durability in [
        Durability::Always,
        Durability::group(),
        Durability::EveryN(5),
        Durability::Interval(ms(5)),
        Durability::Checkpoint,
        Durability::None,
    ] {
        // Those that sync each commit do less in the same time.
        let usual = if durability.is_durable() { 2_000 } else { 20_000 };
        println!("durability {durability}");
        let root = tempfile::tempdir().unwrap();
        let builder = Db::builder(root.path().join("db")).segment_bytes(256 << 10);
        let db = builder.durability(durability).build().unwrap();
        check(&db, from_env("CORTEN_HISTORY_OPERATIONS", usual), seed);
    }
}
