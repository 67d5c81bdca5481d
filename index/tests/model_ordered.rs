//! The `btree` ordered index against the model, and the model against indexes with one defect each.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cortenkv_index::testkit::{check_ordered_index, ordered_contention, ordered_model};
use cortenkv_index::{
    BTreeOrdered, Direction, Grace, Hint, KeyBatch, KeyCursor, KeyOwner, KeyRange, KeyState,
    OrderStats, OrderedIndex, Result,
};

#[test]
fn model_btree_agrees_with_the_model() {
    check_ordered_index(&|| Box::new(BTreeOrdered::new()));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    CursorRepeatsAKey,
    CursorSkipsAKey,
    CursorIgnoresTheRange,
    CursorGoesOnAfterTheEnd,
    HintOfAnotherKey,
    KeyspacesMixed,
    NoteOutlivesAnInsert,
    DeadKeysStay,
    LiveKeysGo,
}

struct Broken {
    right: BTreeOrdered,
    defect: Defect,
    noted: Arc<Mutex<BTreeSet<Vec<u8>>>>,
}

impl Broken {
    fn boxed(defect: Defect) -> Box<dyn OrderedIndex> {
        Box::new(Broken { right: BTreeOrdered::new(), defect, noted: Arc::default() })
    }

    fn keyspace(&self, keyspace: u32) -> u32 {
        if self.defect == Defect::KeyspacesMixed { keyspace / 2 } else { keyspace }
    }
}

impl OrderedIndex for Broken {
    fn insert(&self, keyspace: u32, key: &[u8]) {
        self.right.insert(self.keyspace(keyspace), key);
    }

    fn remove_keyspace(&self, keyspace: u32) {
        self.right.remove_keyspace(self.keyspace(keyspace));
    }

    fn cursor(&self, keyspace: u32, range: KeyRange, direction: Direction) -> Box<dyn KeyCursor> {
        let keyspace = self.keyspace(keyspace);
        let range =
            if self.defect == Defect::CursorIgnoresTheRange { KeyRange::all() } else { range };
        let right = self.right.cursor(keyspace, range.clone(), direction);
        let again = self.right.cursor(keyspace, range, direction);
        let noted = Arc::clone(&self.noted);
        let (defect, last) = (self.defect, KeyBatch::new());
        Box::new(BrokenCursor { right, again: Some(again), defect, noted, last })
    }

    fn len(&self, keyspace: u32) -> usize {
        self.right.len(self.keyspace(keyspace))
    }

    fn memory_bytes(&self) -> usize {
        self.right.memory_bytes()
    }

    fn maintain(&self, owner: &dyn KeyOwner) -> Result<bool> {
        match self.defect {
            Defect::DeadKeysStay => Ok(false),
            Defect::LiveKeysGo => self.right.maintain(&Forgetful),
            _ => self.right.maintain(owner),
        }
    }

    fn stats(&self) -> OrderStats {
        self.right.stats()
    }
}

/// Calls one live key in eight dead.
struct Forgetful;

impl KeyOwner for Forgetful {
    fn states(&self, _keyspace: u32, keys: &KeyBatch, states: &mut Vec<KeyState>) -> Result<()> {
        let state = |n: usize| if n % 8 == 7 { KeyState::Dead } else { KeyState::Live(None) };
        *states = (0..keys.len()).map(state).collect();
        Ok(())
    }
}

struct BrokenCursor {
    right: Box<dyn KeyCursor>,
    again: Option<Box<dyn KeyCursor>>,
    defect: Defect,
    noted: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    last: KeyBatch,
}

impl KeyCursor for BrokenCursor {
    fn next_batch(&mut self, keys_max: usize, batch: &mut KeyBatch) -> Result<usize> {
        let count = self.right.next_batch(keys_max, batch)?;
        match self.defect {
            Defect::CursorGoesOnAfterTheEnd if count == 0 => {
                if let Some(again) = self.again.take() {
                    self.right = again;
                    return Ok(0);
                }
            }
            Defect::CursorSkipsAKey if count > 0 && self.again.take().is_some() => {
                return self.right.next_batch(keys_max, batch);
            }
            Defect::CursorRepeatsAKey if count == 0 => {
                if let Some(mut again) = self.again.take() {
                    return again.next_batch(1, batch);
                }
            }
            Defect::HintOfAnotherKey | Defect::NoteOutlivesAnInsert => {
                let noted = self.noted.lock().unwrap();
                let hint = Hint { segment: 1, address: cortenkv_index::Address::MIN };
                let hint = (self.defect == Defect::HintOfAnotherKey).then_some(hint);
                self.last = std::mem::take(batch);
                for key in self.last.iter().filter(|&key| !noted.contains(key)) {
                    batch.push_with_hint(key, hint);
                }
                return Ok(batch.len());
            }
            _ => {}
        }
        Ok(count)
    }

    fn note_dead(&mut self, n: usize) {
        if let (Defect::NoteOutlivesAnInsert, Some(key)) = (self.defect, self.last.get(n)) {
            self.noted.lock().unwrap().insert(key.to_vec());
        }
    }
}

#[test]
fn canary_every_seeded_defect_is_found() {
    for defect in [
        Defect::CursorRepeatsAKey,
        Defect::CursorSkipsAKey,
        Defect::CursorIgnoresTheRange,
        Defect::CursorGoesOnAfterTheEnd,
        Defect::HintOfAnotherKey,
        Defect::KeyspacesMixed,
        Defect::NoteOutlivesAnInsert,
        Defect::DeadKeysStay,
        Defect::LiveKeysGo,
    ] {
        let make = || Broken::boxed(defect);
        let found = catch_unwind(AssertUnwindSafe(|| ordered_model(&make, 1)));
        assert!(found.is_err(), "{defect:?} went unnoticed");
    }
}

/// Sorted keys of one keyspace with the number of their last insert, which takes dead keys out without one of the two
/// things that make it safe.
#[derive(Default)]
struct Hasty {
    keys: Mutex<BTreeMap<Vec<u8>, u64>>,
    inserts: AtomicU64,
    marked: Mutex<Option<Marked>>,
    without_grace: bool,
    without_marks: bool,
}

struct Marked {
    grace: Grace,
    marks: BTreeMap<Vec<u8>, u64>,
}

impl OrderedIndex for Hasty {
    fn insert(&self, _keyspace: u32, key: &[u8]) {
        let number = self.inserts.fetch_add(1, Ordering::SeqCst);
        self.keys.lock().unwrap().insert(key.to_vec(), number);
    }

    fn remove_keyspace(&self, _keyspace: u32) {
        self.keys.lock().unwrap().clear();
    }

    fn cursor(&self, _keyspace: u32, range: KeyRange, direction: Direction) -> Box<dyn KeyCursor> {
        let keys = self.keys.lock().unwrap();
        let keys = keys.keys().filter(|key| range.contains(key)).cloned();
        Box::new(match direction {
            Direction::Forward => Copied(keys.collect()),
            Direction::Reverse => Copied(keys.rev().collect()),
        })
    }

    fn len(&self, _keyspace: u32) -> usize {
        self.keys.lock().unwrap().len()
    }

    fn memory_bytes(&self) -> usize {
        0
    }

    fn maintain(&self, owner: &dyn KeyOwner) -> Result<bool> {
        let mut marked = self.marked.lock().unwrap();
        let Some(Marked { grace, marks }) = &*marked else {
            let marks = self.keys.lock().unwrap().clone();
            *marked = Some(Marked { grace: Grace::begin(), marks });
            return Ok(true);
        };
        if !self.without_grace && !grace.is_over() {
            return Ok(false);
        }
        let (mut batch, mut states) = (KeyBatch::new(), Vec::new());
        marks.keys().for_each(|key| batch.push(key));
        owner.states(0, &batch, &mut states)?;
        let mut keys = self.keys.lock().unwrap();
        for ((key, mark), state) in marks.iter().zip(states) {
            let holds = self.without_marks || keys.get(key) == Some(mark);
            if state == KeyState::Dead && holds {
                keys.remove(key);
            }
        }
        *marked = None;
        Ok(false)
    }

    fn stats(&self) -> OrderStats {
        OrderStats::default()
    }
}

struct Copied(VecDeque<Vec<u8>>);

impl KeyCursor for Copied {
    fn next_batch(&mut self, keys_max: usize, batch: &mut KeyBatch) -> Result<usize> {
        batch.clear();
        self.0.drain(..keys_max.max(1).min(self.0.len())).for_each(|key| batch.push(&key));
        Ok(batch.len())
    }

    fn note_dead(&mut self, _n: usize) {}
}

fn hasty_loses_a_key(without_grace: bool, without_marks: bool) -> bool {
    let make = || -> Box<dyn OrderedIndex> {
        Box::new(Hasty { without_grace, without_marks, ..Hasty::default() })
    };
    let lost = |seed| catch_unwind(AssertUnwindSafe(|| ordered_contention(&make, seed))).is_err();
    (1..=50).any(lost)
}

#[test]
fn canary_the_race_finds_background_work_without_grace() {
    assert!(hasty_loses_a_key(true, false), "the race never lost a key");
}

#[test]
fn canary_the_race_finds_background_work_without_marks() {
    assert!(hasty_loses_a_key(false, true), "the race never lost a key");
}

#[test]
fn the_race_finds_nothing_in_background_work_with_both() {
    let make = || -> Box<dyn OrderedIndex> { Box::<Hasty>::default() };
    (1..=5).for_each(|seed| ordered_contention(&make, seed));
}

#[test]
fn a_cursor_outlives_its_index_and_moves_to_another_thread() {
    let index = BTreeOrdered::new();
    for key in ["a", "b", "c"] {
        index.insert(7, key.as_bytes());
    }
    let mut cursor = index.cursor(7, KeyRange::new("b"..), Direction::Reverse);
    drop(index);
    let found = std::thread::scope(|scope| {
        let walk = move || {
            let mut batch = KeyBatch::new();
            cursor.next_batch(10, &mut batch).expect("readable");
            batch.iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        scope.spawn(walk).join().expect("the walk does not panic")
    });
    assert_eq!(found, [b"c".to_vec(), b"b".to_vec()]);
}

#[test]
fn a_batch_of_huge_keys_ends_early_and_loses_none() {
    let index = BTreeOrdered::new();
    for n in 0..40u8 {
        index.insert(0, &vec![n; 64 << 10]);
    }
    let mut cursor = index.cursor(0, KeyRange::all(), Direction::Forward);
    let (mut batch, mut firsts) = (KeyBatch::new(), Vec::new());
    while cursor.next_batch(1_000, &mut batch).expect("readable") > 0 {
        assert!(batch.bytes() < KeyBatch::BYTES_MAX + (64 << 10));
        firsts.extend(batch.iter().map(|key| key[0]));
    }
    assert_eq!(firsts, (0..40).collect::<Vec<u8>>());
}

/// Every key is dead.
struct Nobody;

impl KeyOwner for Nobody {
    fn states(&self, _keyspace: u32, keys: &KeyBatch, states: &mut Vec<KeyState>) -> Result<()> {
        *states = vec![KeyState::Dead; keys.len()];
        Ok(())
    }
}

#[test]
fn memory_follows_the_keys_both_ways() {
    let index = BTreeOrdered::new();
    let before = index.memory_bytes();
    index.insert(0, &[b'x'; 10_000]);
    assert!(index.memory_bytes() >= before + 10_000);
    while index.stats().dropped_keys == 0 {
        index.maintain(&Nobody).expect("nothing can fail");
    }
    assert!(index.memory_bytes() < before + 1_000);
}
