//! The whole surface against a sorted map, with a clock that the test moves. Failures shrink, and proptest prints what
//! replays them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use cortenkv::{Clock, Db, Durability, Keyspace, ManualClock, PutOptions};
use proptest::prelude::*;

const START_MS: u64 = 1_700_000_000_000;

#[derive(Debug, Clone)]
enum Operation {
    Put { space: usize, key: Vec<u8>, value: Vec<u8>, ttl_ms: Option<u64> },
    PutBatch { space: usize, items: Vec<(Vec<u8>, Vec<u8>, Option<u64>)> },
    Delete { space: usize, key: Vec<u8> },
    Batch { writes: Vec<(usize, Vec<u8>, Option<Vec<u8>>)>, kind: usize },
    CompareAndSwap { space: usize, key: Vec<u8>, expect_present: bool, new: Option<Vec<u8>> },
    PutIfAbsent { space: usize, key: Vec<u8>, value: Vec<u8> },
    Advance { ms: u64 },
    Range { space: usize, start: Bound<Vec<u8>>, end: Bound<Vec<u8>>, turns: Vec<bool> },
    Prefix { space: usize, prefix: Vec<u8> },
    Get { space: usize, key: Vec<u8> },
}

/// Few keys, so that they meet; bytes at the edges, so that order and prefixes are strange.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0x00, b'a', b'b', 0xFE, 0xFF]), 0..4)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..20)
}

fn ttl_ms() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![3 => Just(None), 2 => (0..50u64).prop_map(Some), 1 => Just(Some(u64::MAX))]
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded)
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let space = || 0..3usize;
    prop_oneof![
        6 => (space(), key(), value(), ttl_ms())
            .prop_map(|(space, key, value, ttl_ms)| Operation::Put { space, key, value, ttl_ms }),
        2 => (space(), prop::collection::vec((key(), value(), ttl_ms()), 0..6))
            .prop_map(|(space, items)| Operation::PutBatch { space, items }),
        3 => (space(), key()).prop_map(|(space, key)| Operation::Delete { space, key }),
        3 => (prop::collection::vec((space(), key(), prop::option::of(value())), 0..8), 0..3usize)
            .prop_map(|(writes, kind)| Operation::Batch { writes, kind }),
        2 => (space(), key(), any::<bool>(), prop::option::of(value())).prop_map(
            |(space, key, expect_present, new)|
                Operation::CompareAndSwap { space, key, expect_present, new }
        ),
        1 => (space(), key(), value())
            .prop_map(|(space, key, value)| Operation::PutIfAbsent { space, key, value }),
        2 => (0..40u64).prop_map(|ms| Operation::Advance { ms }),
        2 => (space(), bound(), bound(), prop::collection::vec(any::<bool>(), 0..40))
            .prop_map(|(space, start, end, turns)| Operation::Range { space, start, end, turns }),
        1 => (space(), key()).prop_map(|(space, prefix)| Operation::Prefix { space, prefix }),
        2 => (space(), key()).prop_map(|(space, key)| Operation::Get { space, key }),
    ]
}

/// A value, when it ends, and the number of its commit.
type Entry = (Vec<u8>, Option<u64>, u64);

struct Model {
    clock: Arc<ManualClock>,
    spaces: [BTreeMap<Vec<u8>, Entry>; 3],
}

impl Model {
    fn live(&self, space: usize, key: &[u8]) -> Option<&Entry> {
        let now_ms = self.clock.wall_ms();
        self.spaces[space].get(key).filter(|(_, ends_ms, _)| ends_ms.is_none_or(|ms| ms > now_ms))
    }

    fn put(&mut self, space: usize, key: &[u8], value: &[u8], ttl_ms: Option<u64>, seq: u64) {
        let now_ms = self.clock.wall_ms();
        let ends_ms = ttl_ms.map(|ttl_ms| now_ms.saturating_add(ttl_ms).min((1 << 48) - 1));
        self.spaces[space].insert(key.to_vec(), (value.to_vec(), ends_ms, seq));
    }

    fn entries(&self, space: usize) -> Vec<(Bytes, Bytes)> {
        let keys = self.spaces[space].keys();
        let live = keys.filter_map(|key| self.live(space, key).map(|(value, ..)| (key, value)));
        live.map(|(key, value)| (Bytes::from(key.clone()), Bytes::from(value.clone()))).collect()
    }
}

fn apply(db: &Db, spaces: &[Keyspace; 3], model: &mut Model, operation: &Operation) {
    match operation {
        Operation::Put { space, key, value, ttl_ms } => {
            let mut options = PutOptions::new().durability(Durability::None);
            if let Some(ttl_ms) = ttl_ms {
                options = options.ttl(Duration::from_millis(*ttl_ms));
            }
            let seq = spaces[*space].put_with(key, value, options).unwrap();
            model.put(*space, key, value, *ttl_ms, seq);
        }
        Operation::PutBatch { space, items } => {
            let timed = items.iter().map(|(k, v, ttl)| (k, v, ttl.map(Duration::from_millis)));
            let seq = spaces[*space].put_batch(timed).unwrap();
            for (key, value, ttl_ms) in items {
                model.put(*space, key, value, *ttl_ms, seq);
            }
        }
        Operation::Delete { space, key } => {
            spaces[*space].delete(key).unwrap();
            model.spaces[*space].remove(key);
        }
        Operation::Batch { writes, kind } => {
            let mut batch = db.batch();
            for (space, key, value) in writes {
                match value {
                    Some(value) => batch.put(&spaces[*space], key, value),
                    None => batch.delete(&spaces[*space], key),
                };
            }
            let seq = match kind {
                0 => batch.commit().unwrap(),
                1 => batch.commit_with(Durability::Always).unwrap(),
                _ => batch.commit_async().unwrap().wait().unwrap(),
            };
            for (space, key, value) in writes {
                match value {
                    Some(value) => model.put(*space, key, value, None, seq),
                    None => drop(model.spaces[*space].remove(key)),
                }
            }
        }
        Operation::CompareAndSwap { space, key, expect_present, new } => {
            let present = model.live(*space, key).map(|(value, ..)| value.clone());
            let expected = if *expect_present { present.as_deref() } else { None };
            let outcome = spaces[*space].compare_and_swap(key, expected, new.as_deref()).unwrap();
            assert_eq!(outcome.is_ok(), expected == present.as_deref());
            if outcome.is_ok() {
                match new {
                    Some(value) => {
                        let seq = spaces[*space].get_entry(key).unwrap().unwrap().seq;
                        model.put(*space, key, value, None, seq);
                    }
                    None => drop(model.spaces[*space].remove(key)),
                }
            }
        }
        Operation::PutIfAbsent { space, key, value } => {
            let is_absent = model.live(*space, key).is_none();
            assert_eq!(spaces[*space].put_if_absent(key, value).unwrap(), is_absent);
            if is_absent {
                let seq = spaces[*space].get_entry(key).unwrap().unwrap().seq;
                model.put(*space, key, value, None, seq);
            }
        }
        Operation::Advance { ms } => model.clock.advance(Duration::from_millis(*ms)),
        Operation::Range { space, start, end, turns } => {
            check_range(&spaces[*space], model, *space, (start.clone(), end.clone()), turns);
        }
        Operation::Prefix { space, prefix } => {
            if !db.stats().build.ordered {
                return;
            }
            let found: Vec<_> = spaces[*space].prefix(prefix).map(Result::unwrap).collect();
            let mut expected = model.entries(*space);
            expected.retain(|(key, _)| key.starts_with(prefix));
            assert_eq!(found, expected);
        }
        Operation::Get { space, key } => check_key(&spaces[*space], model, *space, key),
    }
}

fn check_key(keyspace: &Keyspace, model: &Model, space: usize, key: &[u8]) {
    let expected = model.live(space, key);
    let entry = keyspace.get_entry(key).unwrap();
    assert_eq!(entry.is_some(), expected.is_some());
    assert_eq!(keyspace.contains_key(key).unwrap(), expected.is_some());
    assert_eq!(keyspace.get(key).unwrap().as_deref(), expected.map(|(value, ..)| &value[..]));
    if let (Some(entry), Some((value, ends_ms, seq))) = (entry, expected) {
        assert_eq!(&entry.value[..], &value[..]);
        assert_eq!(entry.seq, *seq);
        let ends_at = ends_ms.map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
        assert_eq!(entry.expires_at, ends_at);
    }
}

/// Takes entries from the end that each turn names, and then the rest.
fn check_range(
    keyspace: &Keyspace,
    model: &Model,
    space: usize,
    bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    turns: &[bool],
) {
    let mut expected = std::collections::VecDeque::from(model.entries(space));
    expected.retain(|(key, _)| std::ops::RangeBounds::contains(&bounds, &key.to_vec()));
    let mut scan = keyspace.range::<Vec<u8>>(bounds);
    let mut found = match scan.next() {
        Some(Err(error)) => {
            assert_eq!(error.code(), 12, "only a build without key order may refuse");
            return;
        }
        first => first.map(Result::unwrap),
    };
    assert_eq!(found, expected.pop_front());
    for from_front in turns {
        let wanted;
        (found, wanted) = match from_front {
            true => (scan.next().map(Result::unwrap), expected.pop_front()),
            false => (scan.next_back().map(Result::unwrap), expected.pop_back()),
        };
        assert_eq!(found, wanted);
    }
    assert_eq!(scan.map(Result::unwrap).collect::<Vec<_>>(), Vec::from(expected));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    // M1, U8, C2, C10
    #[test]
    fn model_every_operation_agrees_with_a_sorted_map(
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        let clock = Arc::new(ManualClock::at_wall_ms(START_MS));
        let db = Db::builder_in_memory().clock(Arc::clone(&clock) as Arc<dyn Clock>).build().unwrap();
        let spaces = ["default", "one", "two"].map(|name| db.keyspace(name).unwrap());
        let mut model = Model { clock, spaces: Default::default() };
        for operation in &operations {
            apply(&db, &spaces, &mut model, operation);
        }
        for (space, keyspace) in spaces.iter().enumerate() {
            let mut keys: Vec<Vec<u8>> = model.spaces[space].keys().cloned().collect();
            keys.push(b"never written".to_vec());
            keys.iter().for_each(|key| check_key(keyspace, &model, space, key));
            let found = keyspace.multi_get(&keys).unwrap();
            let values = |key: &Vec<u8>| model.live(space, key).map(|(value, ..)| Bytes::from(value.clone()));
            prop_assert_eq!(found, keys.iter().map(values).collect::<Vec<_>>());
            if !db.stats().build.ordered {
                continue;
            }
            let expected = model.entries(space);
            prop_assert_eq!(&keyspace.iter().map(Result::unwrap).collect::<Vec<_>>(), &expected);
            let mut backwards: Vec<_> = keyspace.iter().rev().map(Result::unwrap).collect();
            backwards.reverse();
            prop_assert_eq!(&backwards, &expected);
            let keys: Vec<Bytes> = keyspace.keys().map(Result::unwrap).collect();
            prop_assert!(keys.iter().eq(expected.iter().map(|(key, _)| key)));
            prop_assert_eq!(keyspace.first_key_value().unwrap(), expected.first().cloned());
            prop_assert_eq!(keyspace.last_key_value().unwrap(), expected.last().cloned());
        }
        // What is counted is what is stored, expired entries included.
        let stored: usize = model.spaces.iter().map(BTreeMap::len).sum();
        prop_assert_eq!(db.stats().keys, stored as u64);
    }
}
