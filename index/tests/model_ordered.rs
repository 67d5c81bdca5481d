//! The `btree` ordered index against the model, and the model against indexes with one defect each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cortenkv_index::testkit::{check_ordered_index, ordered_contention, ordered_model};
use cortenkv_index::{BTreeOrdered, Direction, KeyBatch, KeyCursor, KeyRange, Mark, OrderedIndex};

#[test]
fn model_btree_agrees_with_the_model() {
    check_ordered_index(&|| Box::new(BTreeOrdered::new()));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    RemoveIgnoresTheMark,
    CursorRepeatsAKey,
    CursorSkipsAKey,
    CursorIgnoresTheRange,
    CursorGoesOnAfterTheEnd,
    KeyspacesMixed,
}

struct Broken {
    right: BTreeOrdered,
    defect: Defect,
}

impl Broken {
    fn keyspace(&self, keyspace: u32) -> u32 {
        if self.defect == Defect::KeyspacesMixed { keyspace / 2 } else { keyspace }
    }
}

impl OrderedIndex for Broken {
    fn insert(&self, keyspace: u32, key: &[u8]) -> bool {
        self.right.insert(self.keyspace(keyspace), key)
    }

    fn mark(&self, keyspace: u32, key: &[u8]) -> Option<Mark> {
        self.right.mark(self.keyspace(keyspace), key)
    }

    fn remove(&self, keyspace: u32, key: &[u8], mark: Mark) -> bool {
        let keyspace = self.keyspace(keyspace);
        match self.right.mark(keyspace, key) {
            Some(now) if self.defect == Defect::RemoveIgnoresTheMark => {
                self.right.remove(keyspace, key, now)
            }
            _ => self.right.remove(keyspace, key, mark),
        }
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
        Box::new(BrokenCursor { right, again: Some(again), defect: self.defect })
    }

    fn len(&self, keyspace: u32) -> usize {
        self.right.len(self.keyspace(keyspace))
    }

    fn memory_bytes(&self) -> usize {
        self.right.memory_bytes()
    }
}

struct BrokenCursor {
    right: Box<dyn KeyCursor>,
    again: Option<Box<dyn KeyCursor>>,
    defect: Defect,
}

impl KeyCursor for BrokenCursor {
    fn next_batch(&mut self, keys_max: usize, batch: &mut KeyBatch) -> usize {
        let count = self.right.next_batch(keys_max, batch);
        match self.defect {
            Defect::CursorGoesOnAfterTheEnd if count == 0 => {
                if let Some(again) = self.again.take() {
                    self.right = again;
                    return 0;
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
            _ => {}
        }
        count
    }
}

#[test]
fn canary_every_seeded_defect_is_found() {
    for defect in [
        Defect::RemoveIgnoresTheMark,
        Defect::CursorRepeatsAKey,
        Defect::CursorSkipsAKey,
        Defect::CursorIgnoresTheRange,
        Defect::CursorGoesOnAfterTheEnd,
        Defect::KeyspacesMixed,
    ] {
        let make =
            || -> Box<dyn OrderedIndex> { Box::new(Broken { right: BTreeOrdered::new(), defect }) };
        let found = catch_unwind(AssertUnwindSafe(|| ordered_model(&make, 1)));
        assert!(found.is_err(), "{defect:?} went unnoticed");
    }
}

#[test]
fn canary_the_race_finds_a_remove_without_a_mark() {
    let defect = Defect::RemoveIgnoresTheMark;
    let make =
        || -> Box<dyn OrderedIndex> { Box::new(Broken { right: BTreeOrdered::new(), defect }) };
    let lost = |seed| catch_unwind(AssertUnwindSafe(|| ordered_contention(&make, seed))).is_err();
    assert!((1..=50).any(lost), "the race never lost a key");
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
            cursor.next_batch(10, &mut batch);
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
    while cursor.next_batch(1_000, &mut batch) > 0 {
        assert!(batch.bytes() < KeyBatch::BYTES_MAX + (64 << 10));
        firsts.extend(batch.iter().map(|key| key[0]));
    }
    assert_eq!(firsts, (0..40).collect::<Vec<u8>>());
}

#[test]
fn memory_follows_the_keys_both_ways() {
    let index = BTreeOrdered::new();
    index.insert(0, b"short");
    let before = index.memory_bytes();
    index.insert(0, &[b'x'; 10_000]);
    assert!(index.memory_bytes() >= before + 10_000);
    let mark = index.mark(0, &[b'x'; 10_000]).expect("inserted");
    assert!(index.remove(0, &[b'x'; 10_000], mark));
    assert_eq!(index.memory_bytes(), before);
}
