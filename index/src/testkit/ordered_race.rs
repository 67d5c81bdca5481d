//! Threads that put, delete, forget and scan at the same time, by the protocol that [`OrderedIndex`] describes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::ordered::{Make, drain, is_ordered};
use super::{Random, announce};
use crate::{Direction, KeyBatch, KeyOwner, KeyRange, KeyState, OrderedIndex, Result, pin};

/// Keys that are live all the time.
const FIXED: u32 = 100;
/// Keys that every writer changes.
const SHARED: usize = 4;
const WRITERS: usize = 3;
const STEPS: usize = 3_000;

/// What the low bits of an entry say; the bits above count its changes, so that no entry comes back as it was.
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

/// Races writers, walks and background work.
///
/// # Panics
/// If a walk passes over a key that was live all the time, also one that its only writer has just put.
pub fn ordered_contention(make: Make<'_>, seed: u64) {
    announce("ordered_contention", seed);
    let race = Race { index: make(), entries: Entries::default(), seed };
    for n in 0..FIXED {
        race.index.insert(0, &fixed_key(n));
    }
    let writing = AtomicBool::new(true);
    thread::scope(|scope| {
        let race = &race;
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| scope.spawn(move || race.write(n, Random::new(seed << 8 | n as u64))))
            .collect();
        scope.spawn(|| {
            while writing.load(Ordering::Relaxed) {
                if !race.index.maintain(&race.entries).expect("nothing is damaged") {
                    thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            while writing.load(Ordering::Relaxed) {
                race.walk(Direction::Forward);
                race.walk(Direction::Reverse);
            }
        });
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        writing.store(false, Ordering::Relaxed);
        assert!(results.iter().all(|result| result.is_ok()), "a writer failed, seed {seed}");
    });
    let found = race.walk(Direction::Forward);
    for (n, entry) in race.entries.0.iter().enumerate() {
        if state(entry.load(Ordering::SeqCst)) == LIVE {
            assert!(found.contains(&vec![n as u8]), "key {n} was lost, seed {seed}");
        }
    }
}

/// Stand-ins for the entries of the point index, each of the key that is its number.
#[derive(Default)]
struct Entries([AtomicU64; SHARED + WRITERS]);

impl Entries {
    fn is_dead(&self, key: &[u8]) -> bool {
        // ORDERING: SeqCst throughout; the point of this race is the protocol, not the weakest order that carries it.
        matches!(key, [n] if state(self.0[*n as usize].load(Ordering::SeqCst)) != LIVE)
    }
}

impl KeyOwner for Entries {
    fn states(&self, _keyspace: u32, keys: &KeyBatch, states: &mut Vec<KeyState>) -> Result<()> {
        let state = |key| if self.is_dead(key) { KeyState::Dead } else { KeyState::Live(None) };
        states.clear();
        states.extend(keys.iter().map(state));
        thread::yield_now(); // an answer may be old when it is used
        Ok(())
    }
}

struct Race {
    index: Box<dyn OrderedIndex>,
    entries: Entries,
    seed: u64,
}

impl Race {
    fn walk(&self, direction: Direction) -> Vec<Vec<u8>> {
        let cursor = self.index.cursor(0, KeyRange::all(), direction);
        let found = drain(cursor, 7, &mut |key| self.entries.is_dead(key), &mut || {});
        assert!(is_ordered(&found, direction), "seed {}", self.seed);
        let fixed = found.iter().filter(|key| key.len() == 5).count();
        assert_eq!(fixed, FIXED as usize, "a key was passed over, seed {}", self.seed);
        found
    }

    fn write(&self, writer: usize, mut random: Random) {
        for _ in 0..STEPS {
            if random.one_in(4) {
                self.put_alone(SHARED + writer, &mut random);
            } else {
                self.change(random.below(SHARED), &mut random);
            }
        }
    }

    /// Changes a key once: absent or dead to live, live to a tombstone or to live again, a tombstone also to absent.
    fn change(&self, n: usize, random: &mut Random) -> bool {
        let entry = &self.entries.0[n];
        let _pin = pin();
        let old = entry.load(Ordering::SeqCst);
        let new = match state(old) {
            TOMBSTONE if random.one_in(3) => ABSENT,
            LIVE if random.one_in(2) => TOMBSTONE,
            LIVE => LIVE,
            _ => {
                self.index.insert(0, &[n as u8]);
                LIVE
            }
        };
        if random.one_in(2) {
            thread::yield_now();
        }
        // A lost race is given up here; a point index would try again.
        let new = ((old >> STATE_BITS) + 1) << STATE_BITS | new;
        entry.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Changes a key that nobody else changes until it is live, and looks for it.
    fn put_alone(&self, n: usize, random: &mut Random) {
        let key = [n as u8];
        assert!(self.change(n, random), "nobody else changes key {n}");
        if self.entries.is_dead(&key) {
            return;
        }
        let direction = if random.one_in(2) { Direction::Forward } else { Direction::Reverse };
        let cursor = self.index.cursor(0, KeyRange::new(key..=key), direction);
        let found = drain(cursor, 2, &mut |_| false, &mut || {});
        assert_eq!(found, [key], "a put was passed over, seed {}", self.seed);
    }
}
