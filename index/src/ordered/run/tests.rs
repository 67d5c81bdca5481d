//! Runs against a sorted set: searches, walks in both directions, hints and skip bits.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::address::Address;
use crate::error::ErrorKind;
use crate::ordered::hint::Hint;

/// A hint that can be told from the number; every fifth is none.
fn hint_of(n: usize) -> Option<Hint> {
    let (segment, offset) = ((n % 7) as u64, (n as u32 * 40) % Address::SEGMENT_BYTES_MAX);
    let address =
        Address::new(segment as u16 * 9000, offset).expect("a multiple of 8 below the end");
    (n % 5 != 4).then_some(Hint { segment: segment << 40 | 5, address })
}

fn run_of<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Arc<Run> {
    let mut builder = RunBuilder::new();
    for (n, key) in keys.into_iter().enumerate() {
        builder.push(key.as_ref(), hint_of(n));
    }
    Arc::new(builder.finish(&RamRuns).expect("in memory, and under all limits"))
}

/// All positions and keys that a walk shows, checked to carry the right hints.
fn forward(run: &Arc<Run>) -> Result<Vec<(u32, Vec<u8>)>> {
    let mut cursor = run.cursor();
    let mut shown = Vec::new();
    cursor.seek(0)?;
    while let Some(key) = cursor.key() {
        assert_eq!(cursor.hint(), hint_of(cursor.position() as usize));
        shown.push((cursor.position(), key.to_vec()));
        cursor.advance()?;
    }
    assert_eq!((cursor.position() as usize, cursor.hint()), (run.len(), None));
    Ok(shown)
}

fn reverse(run: &Arc<Run>) -> Result<Vec<(u32, Vec<u8>)>> {
    let mut cursor = run.cursor();
    let mut shown = Vec::new();
    cursor.seek_before(u32::MAX)?;
    while let Some(key) = cursor.key() {
        assert_eq!(cursor.hint(), hint_of(cursor.position() as usize));
        shown.push((cursor.position(), key.to_vec()));
        cursor.retreat()?;
    }
    Ok(shown)
}

/// Compares everything that a run answers with the sorted set.
fn check(keys: &BTreeSet<Vec<u8>>, probes: &[Vec<u8>], skips: &[u32]) {
    let run = run_of(keys);
    assert_eq!(run.len(), keys.len());
    for probe in keys.iter().chain(probes) {
        let below = keys.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(&probe[..]))).count();
        let position = |bound| run.lower_bound(bound).expect("intact") as usize;
        assert_eq!(position(Bound::Included(probe)), below);
        let equal = usize::from(keys.contains(probe));
        assert_eq!(position(Bound::Excluded(probe)), below + equal);
    }
    assert_eq!(run.lower_bound(Bound::Unbounded).expect("intact"), 0);
    let dead: BTreeSet<u32> =
        skips.iter().copied().filter(|n| (*n as usize) < keys.len()).collect();
    skips.iter().for_each(|position| run.skip(*position));
    assert_eq!(run.dead(), dead.len());
    let all = (0..).zip(keys.iter().cloned());
    let live: Vec<(u32, Vec<u8>)> = all.filter(|(n, _)| !dead.contains(n)).collect();
    assert_eq!(forward(&run).expect("intact"), live);
    assert_eq!(reverse(&run).expect("intact"), live.iter().rev().cloned().collect::<Vec<_>>());
    check_seeks(&run, &live);
}

fn check_seeks(run: &Arc<Run>, live: &[(u32, Vec<u8>)]) {
    let mut cursor = run.cursor();
    for position in (0..run.len() as u32 + 2).chain([u32::MAX]) {
        let split = live.partition_point(|(n, _)| *n < position);
        let at = |n: usize| live.get(n).map(|(_, key)| &key[..]);
        let before = split.checked_sub(1).and_then(at);
        cursor.seek(position).expect("intact");
        assert_eq!(cursor.key(), at(split));
        cursor.retreat().expect("intact");
        assert_eq!(cursor.key(), before);
        cursor.advance().expect("intact");
        assert_eq!(cursor.key(), at(split));
        cursor.seek_before(position).expect("intact");
        assert_eq!(cursor.key(), before);
        cursor.advance().expect("intact");
        assert_eq!(cursor.key(), at(split));
    }
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(1), Just(b'a'), Just(0xFE), Just(0xFF), any::<u8>()]
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::collection::vec(byte(), 0..24),
        2 => prop::collection::vec(Just(0xFF), 0..40),
        // Keys that differ only behind many common bytes, where fences of eight bytes tell nothing.
        4 => (0..3usize, prop::collection::vec(byte(), 0..3)).prop_map(|(zeros, tail)| {
            [vec![b'p'; 50], vec![0; zeros * 9], tail].concat()
        }),
        1 => (0..300usize).prop_map(|length| vec![b'x'; length]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn model_run_agrees_with_a_sorted_set(
        keys in prop::collection::btree_set(key(), 0..700),
        prefix in prop_oneof![Just(0), Just(3), Just(2000usize)],
        probes in prop::collection::vec(key(), 0..100),
        skips in prop::collection::vec(0..800u32, 0..900),
    ) {
        let with_prefix = |key: &Vec<u8>| [&vec![7; prefix][..], &key[..]].concat();
        let probes = probes.iter().flat_map(|key| [key.clone(), with_prefix(key)]).collect::<Vec<_>>();
        check(&keys.iter().map(with_prefix).collect(), &probes, &skips);
    }
}
