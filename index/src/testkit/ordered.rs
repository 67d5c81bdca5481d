//! The families of checks for an ordered index.
//!
//! # Layout
//! This file has the model of one thread, `ordered_race` the race of several.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::ordered_race::ordered_contention;
use super::{Random, announce, mix, seeds};
use crate::{
    Address, Direction, Hint, KeyBatch, KeyCursor, KeyOwner, KeyRange, KeyState, OrderedIndex,
    Result, pin,
};

/// Makes an empty index.
pub(super) type Make<'a> = &'a dyn Fn() -> Box<dyn OrderedIndex>;

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

/// Random operations of one thread, background work among them, with walks that see changes under way, compared with
/// sorted sets.
///
/// # Panics
/// If a live key is passed over, a key comes that was never inserted, keys come out of order, a hint is not of its
/// key, or dead keys never go.
pub fn ordered_model(make: Make<'_>, seed: u64) {
    announce("ordered_model", seed);
    let index = make();
    let mut model = Model {
        index: &*index,
        random: Random::new(seed),
        seed,
        live: Live::default(),
        inserted: vec![BTreeSet::new(); KEYSPACES as usize],
    };
    for _ in 0..4_000 {
        model.step();
    }
    model.dead_keys_go();
}

type Keys = BTreeSet<Vec<u8>>;

/// The live keys of each keyspace: the owner that background work asks.
#[derive(Default)]
struct Live([Mutex<Keys>; KEYSPACES as usize]);

impl Live {
    fn of(&self, keyspace: u32) -> MutexGuard<'_, Keys> {
        self.0[keyspace as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hint that names its key.
fn hint_of(key: &[u8]) -> Hint {
    let segment = key.iter().fold(key.len() as u64, |sum, &byte| mix(sum << 8 | u64::from(byte)));
    Hint { segment, address: Address::MIN }
}

impl KeyOwner for Live {
    fn states(&self, keyspace: u32, keys: &KeyBatch, states: &mut Vec<KeyState>) -> Result<()> {
        let live = self.of(keyspace);
        let state = |key: &[u8]| match live.contains(key) {
            true if key.len().is_multiple_of(2) => KeyState::Live(Some(hint_of(key))),
            true => KeyState::Live(None),
            false => KeyState::Dead,
        };
        states.clear();
        states.extend(keys.iter().map(state));
        Ok(())
    }
}

struct Model<'a> {
    index: &'a dyn OrderedIndex,
    random: Random,
    seed: u64,
    live: Live,
    /// Every key that may come.
    inserted: Vec<Keys>,
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
                self.live.of(keyspace).clear();
                self.index.remove_keyspace(keyspace);
                self.inserted[keyspace as usize].clear();
            }
            _ => {}
        }
    }

    fn maintain(&self) {
        self.index.maintain(&self.live).expect("nothing stands in the way of background work");
    }

    /// One change, or background work; returns the key that it was about.
    fn change(&mut self) -> (u32, Vec<u8>) {
        let (keyspace, key) = (self.keyspace(), self.key());
        match self.random.below(6) {
            0..3 => self.put(keyspace, &key),
            3 => {
                self.live.of(keyspace).remove(&key);
            }
            _ => (0..self.random.below(6)).for_each(|_| self.maintain()),
        }
        (keyspace, key)
    }

    fn put(&mut self, keyspace: u32, key: &[u8]) {
        let _pin = pin();
        // A key that is there already may be inserted once more: it can expire.
        if !self.live.of(keyspace).contains(key) || self.random.one_in(4) {
            self.index.insert(keyspace, key);
        }
        self.live.of(keyspace).insert(key.to_vec());
        self.inserted[keyspace as usize].insert(key.to_vec());
    }

    fn walk_in_peace(&mut self) {
        let (keyspace, range, direction) = (self.keyspace(), self.range(), self.direction());
        let keys_max = self.random.below(20);
        let cursor = self.index.cursor(keyspace, range.clone(), direction);
        let notes = self.random.one_in(2);
        let found =
            drain(cursor, keys_max, &mut |key| notes && self.is_dead(keyspace, key), &mut || {});
        let live = self.live.of(keyspace).clone();
        self.check_walk(
            &found,
            (keyspace, &range, direction),
            live,
            &self.inserted[keyspace as usize],
        );
    }

    fn walk_among_changes(&mut self) {
        let (keyspace, range, direction) = (self.keyspace(), self.range(), self.direction());
        let keys_max = self.random.below(4);
        let cursor = self.index.cursor(keyspace, range.clone(), direction);
        let mut always = self.live.of(keyspace).clone();
        let mut ever = self.inserted[keyspace as usize].clone();
        let cell = std::cell::RefCell::new(&mut *self);
        let found =
            drain(cursor, keys_max, &mut |key| cell.borrow().is_dead(keyspace, key), &mut || {
                let mut model = cell.borrow_mut();
                let (of, key) = model.change();
                if of == keyspace && !model.is_dead(keyspace, &key) {
                    ever.insert(key);
                } else if of == keyspace {
                    always.remove(&key);
                }
            });
        self.check_walk(&found, (keyspace, &range, direction), always, &ever);
    }

    fn is_dead(&self, keyspace: u32, key: &[u8]) -> bool {
        !self.live.of(keyspace).contains(key)
    }

    fn check_walk(
        &self,
        found: &[Vec<u8>],
        (keyspace, range, direction): (u32, &KeyRange, Direction),
        mut always: Keys,
        ever: &Keys,
    ) {
        let context = format!("keyspace {keyspace} {range:?} {direction:?}, seed {}", self.seed);
        assert!(is_ordered(found, direction), "{found:?} of {context}");
        assert!(found.iter().all(|k| range.contains(k)), "{found:?} is out of {context}");
        assert!(found.iter().all(|k| ever.contains(k)), "a key out of nowhere in {context}");
        assert!(!range.is_empty() || found.is_empty(), "{context}");
        let found: Keys = found.iter().cloned().collect();
        always.retain(|key| range.contains(key));
        let lost: Vec<_> = always.difference(&found).collect();
        assert!(lost.is_empty(), "{lost:?} were passed over in {context}");
    }

    fn check_ends(&mut self) {
        for keyspace in 0..KEYSPACES {
            let (live, seed) = (self.live.of(keyspace), self.seed);
            let first = self.index.first(keyspace).expect("readable");
            let last = self.index.last(keyspace).expect("readable");
            assert!(live.is_empty() || first.as_ref() <= live.first(), "first, seed {seed}");
            assert!(last.as_ref() >= live.last(), "last, seed {seed}");
            assert!(self.index.len(keyspace) >= live.len(), "len, seed {seed}");
            assert!(!self.index.is_empty(keyspace) || live.is_empty(), "seed {seed}");
        }
        assert_eq!(self.index.len(KEYSPACES), 0);
        assert_eq!(self.index.first(KEYSPACES), Ok(None));
    }

    /// Kills a part of the keys; walks and background work by turns must get to where only live ones come.
    fn dead_keys_go(&mut self) {
        for keyspace in 0..KEYSPACES {
            self.live.of(keyspace).retain(|key| key.first() == Some(&b'a'));
        }
        let walk = |keyspace, direction| {
            let cursor = self.index.cursor(keyspace, KeyRange::all(), direction);
            drain(cursor, 50, &mut |key| self.is_dead(keyspace, key), &mut || {})
        };
        for round in 0.. {
            let gone = (0..KEYSPACES).all(|keyspace| {
                let live: Vec<_> = self.live.of(keyspace).iter().cloned().collect();
                walk(keyspace, Direction::Reverse);
                walk(keyspace, Direction::Forward) == live
            });
            if gone {
                return;
            }
            // A merge waits for the pins of other tests too, whose threads may not run at the moment.
            assert!(round < 20_000, "dead keys never go, seed {}", self.seed);
            thread::yield_now();
            (0..50).for_each(|_| self.maintain());
            thread::yield_now(); // a pin of another thread, of another test perhaps
        }
    }
}

/// Takes everything from a cursor, tells it which keys are dead, and does something between two batches.
pub(super) fn drain(
    mut cursor: Box<dyn KeyCursor>,
    keys_max: usize,
    is_dead: &mut dyn FnMut(&[u8]) -> bool,
    between: &mut dyn FnMut(),
) -> Vec<Vec<u8>> {
    let (mut batch, mut found) = (KeyBatch::new(), Vec::new());
    let mut next = |batch: &mut KeyBatch| {
        let count = cursor.next_batch(keys_max, batch).expect("nothing is damaged");
        assert_eq!(count, batch.len());
        assert!(count <= keys_max.max(1), "{count} keys where {keys_max} were asked for");
        for (n, key) in batch.iter().enumerate() {
            let hint = batch.hint(n);
            assert!(hint.is_none_or(|hint| hint == hint_of(key)), "{key:?} has a hint of another");
            if is_dead(key) {
                cursor.note_dead(n);
            }
        }
        cursor.note_dead(count);
        count
    };
    loop {
        if next(&mut batch) == 0 {
            between();
            assert_eq!(next(&mut batch), 0, "a walk that ended goes on");
            return found;
        }
        found.extend(batch.iter().map(<[u8]>::to_vec));
        between();
    }
}

pub(super) fn is_ordered(keys: &[Vec<u8>], direction: Direction) -> bool {
    match direction {
        Direction::Forward => keys.is_sorted_by(|a, b| a < b),
        Direction::Reverse => keys.is_sorted_by(|a, b| a > b),
    }
}
