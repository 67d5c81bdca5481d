//! What every [`StorageEngine`] must do, as cases that any engine can run.
//!
//! ```
//! use std::sync::Arc;
//! use cortenkv::{Db, StorageEngine, conformance};
//!
//! conformance::run(&|| Arc::new(Db::open_in_memory().unwrap()) as Arc<dyn StorageEngine>);
//! ```

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::options::Durability;
use crate::storage_engine::{
    Expectation, KeyspaceId, Operation, Precondition, ScanRange, StorageEngine, WriteBatch,
    WriteOutcome,
};
use crate::write::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

#[path = "conformance/random.rs"]
mod random;

/// Makes an empty engine for one case.
pub type Factory<'a> = &'a dyn Fn() -> Arc<dyn StorageEngine>;

/// A case: a claim and its check, which panics where the claim does not hold.
pub type Case = (&'static str, fn(&dyn StorageEngine));

/// All cases; each wants an empty engine. What an engine does not claim in its capabilities is left out.
pub const CASES: &[Case] = &[
    ("a_missing_key_is_none", a_missing_key_is_none),
    ("a_write_is_read_until_it_is_overwritten_or_deleted", a_write_is_read),
    ("sequence_numbers_rise_and_belong_to_the_value", sequence_numbers_rise),
    ("keyspaces_are_apart_and_stable", keyspaces_are_apart),
    ("bad_keyspace_names_are_refused", bad_keyspace_names_are_refused),
    ("the_last_write_of_a_batch_to_a_key_counts", the_last_write_counts),
    ("a_batch_reaches_several_keyspaces", a_batch_reaches_several_keyspaces),
    ("preconditions_hold_or_nothing_is_written", preconditions_hold),
    ("a_conditional_write_sees_pending_writes", a_conditional_write_sees_pending_writes),
    ("scans_come_in_order_both_ways_within_their_bounds", scans_come_in_order),
    ("a_cursor_brings_few_bytes_at_a_time_and_everything_in_the_end", a_cursor_brings_everything),
    ("an_entry_without_life_is_nowhere", an_entry_without_life_is_nowhere),
    ("limits_are_refused_before_a_byte_is_written", limits_are_refused),
    ("a_closed_engine_answers_closed", a_closed_engine_answers_closed),
    ("random_operations_agree_with_a_sorted_map", random::random_operations_agree),
];

/// Runs every case on an engine of its own.
///
/// # Panics
/// At the first case that fails; its name is printed before.
pub fn run(make: Factory<'_>) {
    for (name, case) in CASES {
        println!("conformance: {name}");
        case(make().as_ref());
    }
}

fn keyspace(engine: &dyn StorageEngine, name: &str) -> KeyspaceId {
    engine.keyspace(name).wait().unwrap()
}

fn put(keyspace: KeyspaceId, key: &[u8], value: &[u8]) -> Operation {
    let (key, value) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    Operation::Put { keyspace, key, value, ttl: None }
}

fn delete(keyspace: KeyspaceId, key: &[u8]) -> Operation {
    Operation::Delete { keyspace, key: Bytes::copy_from_slice(key) }
}

fn batch(operations: impl Into<Vec<Operation>>) -> WriteBatch {
    WriteBatch { operations: operations.into(), ..WriteBatch::default() }
}

fn commit(engine: &dyn StorageEngine, operations: impl Into<Vec<Operation>>) -> u64 {
    match engine.write(batch(operations)).wait().unwrap() {
        WriteOutcome::Committed(seq) => seq,
        WriteOutcome::Conflict(n) => panic!("a batch without preconditions met a conflict at {n}"),
    }
}

fn value(engine: &dyn StorageEngine, keyspace: KeyspaceId, key: &[u8]) -> Option<Bytes> {
    engine.get(keyspace, key).wait().unwrap().map(|found| found.value)
}

fn scan(
    engine: &dyn StorageEngine,
    keyspace: KeyspaceId,
    range: ScanRange,
    bytes_max: usize,
) -> Vec<(Bytes, Bytes)> {
    let mut cursor = engine.scan(keyspace, range).wait().unwrap();
    let mut all = Vec::new();
    loop {
        let entries = cursor.next_batch(bytes_max).wait().unwrap();
        if entries.is_empty() {
            return all;
        }
        all.extend(entries);
    }
}

fn a_missing_key_is_none(engine: &dyn StorageEngine) {
    let space = keyspace(engine, "default");
    assert_eq!(engine.get(space, b"nothing").wait().unwrap(), None);
    commit(engine, [delete(space, b"nothing")]);
    assert_eq!(engine.get(space, b"nothing").wait().unwrap(), None);
}

fn a_write_is_read(engine: &dyn StorageEngine) {
    let space = keyspace(engine, "default");
    for key in [&b""[..], b"k", &[0xFF; 3], &[0; 300]] {
        commit(engine, [put(space, key, b"one")]);
        assert_eq!(value(engine, space, key).as_deref(), Some(&b"one"[..]));
        commit(engine, [put(space, key, b"")]);
        assert_eq!(value(engine, space, key).as_deref(), Some(&b""[..]));
        commit(engine, [delete(space, key)]);
        assert_eq!(value(engine, space, key), None);
        commit(engine, [put(space, key, b"again")]);
        assert_eq!(value(engine, space, key).as_deref(), Some(&b"again"[..]));
    }
    let keys: [&[u8]; 3] = [b"k", b"absent", b""];
    let found = engine.multi_get(space, &keys).wait().unwrap();
    let found: Vec<bool> = found.iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, true]);
}

fn sequence_numbers_rise(engine: &dyn StorageEngine) {
    let space = keyspace(engine, "default");
    let first = commit(engine, [put(space, b"a", b"1"), put(space, b"b", b"1")]);
    let second = commit(engine, [put(space, b"a", b"2")]);
    let third = commit(engine, [delete(space, b"a")]);
    assert!(0 < first && first < second && second < third);
    assert_eq!(engine.get(space, b"b").wait().unwrap().unwrap().seq, first);
}

fn keyspaces_are_apart(engine: &dyn StorageEngine) {
    let (one, two) = (keyspace(engine, "one"), keyspace(engine, "two"));
    assert_ne!(one, two);
    assert_eq!(keyspace(engine, "one"), one);
    commit(engine, [put(one, b"k", b"1"), put(two, b"k", b"2")]);
    commit(engine, [delete(two, b"k")]);
    assert_eq!(value(engine, one, b"k").as_deref(), Some(&b"1"[..]));
    assert_eq!(value(engine, two, b"k"), None);
    assert_eq!(value(engine, keyspace(engine, "default"), b"k"), None);
    assert_eq!(engine.keyspaces().wait().unwrap(), ["default", "one", "two"]);
}

fn bad_keyspace_names_are_refused(engine: &dyn StorageEngine) {
    for name in ["", "a/b", "../up", "a\0b", &"x".repeat(256), &"x".repeat(300)] {
        let error = engine.keyspace(name).wait().unwrap_err();
        assert!(matches!(error.code(), 3 | 4), "{name:?}: {error}");
    }
    for name in ["x", ".", "..", "ünïcode and spaces", &"x".repeat(255)] {
        keyspace(engine, name);
    }
}

fn the_last_write_counts(engine: &dyn StorageEngine) {
    let space = keyspace(engine, "default");
    commit(engine, [put(space, b"a", b"1"), delete(space, b"a"), put(space, b"a", b"2")]);
    commit(engine, [put(space, b"b", b"1"), delete(space, b"b")]);
    assert_eq!(value(engine, space, b"a").as_deref(), Some(&b"2"[..]));
    assert_eq!(value(engine, space, b"b"), None);
}

fn a_batch_reaches_several_keyspaces(engine: &dyn StorageEngine) {
    let (one, two) = (keyspace(engine, "one"), keyspace(engine, "two"));
    let seq = commit(engine, [put(one, b"k", b"1"), put(two, b"k", b"2"), put(two, b"l", b"3")]);
    for (space, key) in [(one, b"k"), (two, b"k"), (two, b"l")] {
        assert_eq!(engine.get(space, key).wait().unwrap().unwrap().seq, seq);
    }
}

fn preconditions_hold(engine: &dyn StorageEngine) {
    if !engine.capabilities().cas {
        return;
    }
    let space = keyspace(engine, "default");
    let seq = commit(engine, [put(space, b"k", b"old")]);
    let expects = |key: &'static [u8], expected| Precondition {
        keyspace: space,
        key: Bytes::from_static(key),
        expected,
    };
    let conflicting = [
        vec![expects(b"k", Expectation::Absent)],
        vec![expects(b"k", Expectation::Value("other".into()))],
        vec![expects(b"absent", Expectation::Value("".into()))],
        vec![expects(b"k", Expectation::Seq(seq - 1))],
        vec![expects(b"k", Expectation::Seq(seq)), expects(b"k", Expectation::Absent)],
    ];
    for preconditions in conflicting {
        let conflict = WriteOutcome::Conflict(preconditions.len() - 1);
        let operations = vec![put(space, b"k", b"new"), put(space, b"x", b"new")];
        let batch = WriteBatch { operations, preconditions, durability: None };
        assert_eq!(engine.write(batch).wait().unwrap(), conflict);
        assert_eq!(value(engine, space, b"k").as_deref(), Some(&b"old"[..]));
        assert_eq!(value(engine, space, b"x"), None);
    }
    let preconditions = vec![
        expects(b"k", Expectation::Seq(seq)),
        expects(b"k", Expectation::Value("old".into())),
        expects(b"x", Expectation::Absent),
    ];
    let operations = vec![delete(space, b"k"), put(space, b"x", b"new")];
    let batch = WriteBatch { operations, preconditions, durability: None };
    assert!(matches!(engine.write(batch).wait().unwrap(), WriteOutcome::Committed(_)));
    assert_eq!(value(engine, space, b"k"), None);
    assert_eq!(value(engine, space, b"x").as_deref(), Some(&b"new"[..]));
}

// Reliability 4: "conditional write misses an appended, not yet installed write".
fn a_conditional_write_sees_pending_writes(engine: &dyn StorageEngine) {
    if !engine.capabilities().cas {
        return;
    }
    let space = keyspace(engine, "default");
    for n in 0..20u8 {
        let key = Bytes::copy_from_slice(&[n]);
        let pending = engine.write(batch([put(space, &key, b"first")]));
        let conditional = WriteBatch {
            operations: vec![put(space, &key, b"second")],
            preconditions: vec![Precondition {
                keyspace: space,
                key,
                expected: Expectation::Absent,
            }],
            durability: Some(Durability::None),
        };
        assert_eq!(engine.write(conditional).wait().unwrap(), WriteOutcome::Conflict(0));
        assert!(matches!(pending.wait().unwrap(), WriteOutcome::Committed(_)));
    }
}

/// Keys at the edges of the order, in order.
const KEYS: &[&[u8]] =
    &[b"", b"\0", b"a", b"a\0", b"ab", b"a\xFF", b"a\xFF\xFF", b"b", b"\xFE", b"\xFF", b"\xFF\xFF"];

fn scans_come_in_order(engine: &dyn StorageEngine) {
    if !engine.capabilities().ordered {
        return;
    }
    let space = keyspace(engine, "default");
    let all: Vec<Operation> = KEYS.iter().rev().map(|key| put(space, key, key)).collect();
    commit(engine, all);
    commit(engine, [put(keyspace(engine, "other"), b"aa", b"not here")]);
    let check = |range: ScanRange| {
        let reverse = range.reverse;
        let bounds = (range.start.clone(), range.end.clone());
        let within = |key: &Bytes| std::ops::RangeBounds::contains(&bounds, key);
        let mut expected: Vec<Bytes> =
            KEYS.iter().map(|key| Bytes::from_static(key)).filter(within).collect();
        if reverse {
            expected.reverse();
        }
        let found = scan(engine, space, range, 1 << 20);
        let keys: Vec<Bytes> = found.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(keys, expected, "{bounds:?} reverse {reverse}");
        assert!(found.iter().all(|(key, value)| key == value));
    };
    let bounds: Vec<Bound<Bytes>> = KEYS
        .iter()
        .flat_map(|key| {
            [Bound::Included(Bytes::from_static(key)), Bound::Excluded(Bytes::from_static(key))]
        })
        .chain([Bound::Unbounded])
        .collect();
    for start in &bounds {
        for end in &bounds {
            for reverse in [false, true] {
                check(ScanRange { start: start.clone(), end: end.clone(), reverse });
            }
        }
    }
    for prefix in KEYS {
        let found = scan(engine, space, ScanRange::prefix(prefix), 1 << 20);
        let expected = KEYS.iter().filter(|key| key.starts_with(prefix)).count();
        assert_eq!(found.len(), expected, "prefix {}", prefix.escape_ascii());
    }
}

fn a_cursor_brings_everything(engine: &dyn StorageEngine) {
    if !engine.capabilities().ordered {
        return;
    }
    let space = keyspace(engine, "default");
    let all: Vec<Operation> =
        (0..1000u32).map(|n| put(space, &n.to_be_bytes(), &[0; 10])).collect();
    commit(engine, all);
    for bytes_max in [0, 1, 14, 100, 1 << 30] {
        for range in [ScanRange::all(), ScanRange::all().rev()] {
            assert_eq!(scan(engine, space, range, bytes_max).len(), 1000);
        }
    }
    let mut cursor = engine.scan(space, ScanRange::all()).wait().unwrap();
    assert!(cursor.next_batch(140).wait().unwrap().len() <= 11);
}

fn an_entry_without_life_is_nowhere(engine: &dyn StorageEngine) {
    if !engine.capabilities().ttl {
        return;
    }
    let space = keyspace(engine, "default");
    let with_ttl = |key: &'static [u8], ttl| Operation::Put {
        keyspace: space,
        key: Bytes::from_static(key),
        value: "v".into(),
        ttl: Some(ttl),
    };
    commit(engine, [put(space, b"dead", b"v"), put(space, b"first", b"v")]);
    commit(engine, [with_ttl(b"dead", Duration::ZERO), with_ttl(b"live", Duration::MAX)]);
    assert_eq!(value(engine, space, b"dead"), None);
    assert_eq!(value(engine, space, b"live").as_deref(), Some(&b"v"[..]));
    if engine.capabilities().ordered {
        assert_eq!(scan(engine, space, ScanRange::all(), 1 << 20).len(), 2);
        assert_eq!(scan(engine, space, ScanRange::all().rev(), 1 << 20).len(), 2);
    }
    if engine.capabilities().cas {
        let expected = Expectation::Absent;
        let preconditions = vec![Precondition { keyspace: space, key: "dead".into(), expected }];
        let operations = vec![put(space, b"dead", b"new")];
        let batch = WriteBatch { operations, preconditions, durability: None };
        assert!(matches!(engine.write(batch).wait().unwrap(), WriteOutcome::Committed(_)));
    }
}

fn limits_are_refused(engine: &dyn StorageEngine) {
    let space = keyspace(engine, "default");
    let long_key = vec![1; KEY_BYTES_MAX + 1];
    let long_value = vec![2; VALUE_BYTES_MAX + 1];
    commit(engine, [put(space, &long_key[1..], b"v")]);
    assert!(value(engine, space, &long_key[1..]).is_some());
    commit(engine, [put(space, b"long", &long_value[1..])]);
    assert_eq!(value(engine, space, b"long").unwrap().len(), VALUE_BYTES_MAX);
    let half = &long_value[..VALUE_BYTES_MAX / 2 + (64 << 10)];
    for refused in [
        vec![put(space, b"x", b"v"), put(space, &long_key, b"v")],
        vec![put(space, b"x", b"v"), put(space, b"y", &long_value)],
        vec![put(space, b"x", b"v"), delete(space, &long_key)],
        vec![put(space, b"x", half), put(space, b"y", half), put(space, b"z", half)],
    ] {
        let error = engine.write(batch(refused)).wait().unwrap_err();
        assert_eq!(error.code(), 4, "{error}");
        assert_eq!(value(engine, space, b"x"), None);
    }
}

fn a_closed_engine_answers_closed(engine: &dyn StorageEngine) {
    let space = keyspace(engine, "default");
    let pending = engine.write(batch([put(space, b"k", b"v")]));
    engine.close().wait().unwrap();
    assert!(matches!(pending.wait().unwrap(), WriteOutcome::Committed(_)));
    engine.close().wait().unwrap();
    assert_eq!(engine.get(space, b"k").wait().unwrap_err().code(), 7);
    assert_eq!(engine.write(batch([put(space, b"k", b"v")])).wait().unwrap_err().code(), 7);
    assert_eq!(engine.keyspace("new").wait().unwrap_err().code(), 7);
    assert_eq!(engine.sync().wait().unwrap_err().code(), 7);
}
