//! Runs against a sorted set: searches, walks in both directions, hints and skip bits.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use proptest::prelude::*;

use super::format::KEY_BYTES_MAX;
use super::*;
use crate::address::Address;
use crate::error::ErrorKind;
use crate::ordered::hint::Hint;

/// A hint that can be told from the number; every fifth is none.
pub(super) fn hint_of(n: usize) -> Option<Hint> {
    let (segment, offset) = ((n % 7) as u64, (n as u32 * 40) % Address::SEGMENT_BYTES_MAX);
    let address =
        Address::new(segment as u16 * 9000, offset).expect("a multiple of 8 below the end");
    (n % 5 != 4).then_some(Hint { segment: segment << 40 | 5, address })
}

pub(super) fn run_of<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Arc<Run> {
    let mut builder = RunBuilder::new();
    for (n, key) in keys.into_iter().enumerate() {
        builder.push(key.as_ref(), hint_of(n));
    }
    Arc::new(builder.finish(&RamRuns).expect("in memory, and under all limits"))
}

/// All positions and keys that a walk shows, checked to carry the right hints.
pub(super) fn forward(run: &Arc<Run>) -> Result<Vec<(u32, Vec<u8>)>> {
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

pub(super) fn reverse(run: &Arc<Run>) -> Result<Vec<(u32, Vec<u8>)>> {
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

#[test]
fn the_empty_run_has_no_key_anywhere() {
    let run = run_of::<&[u8]>([]);
    assert_eq!((run.len(), run.lower_bound(Bound::Included(b"")).expect("intact")), (0, 0));
    let mut cursor = run.cursor();
    for _ in 0..2 {
        cursor.advance().expect("intact");
        assert_eq!((cursor.key(), cursor.hint(), cursor.position()), (None, None, 0));
        cursor.retreat().expect("intact");
        assert_eq!(cursor.key(), None);
    }
    run.skip(0);
    assert_eq!(run.dead(), 0);
}

#[test]
fn a_cursor_turns_at_both_ends_and_stays_there() {
    let run = run_of([b"a", b"b"]);
    let mut cursor = run.cursor();
    assert_eq!(cursor.key(), None);
    cursor.retreat().expect("intact");
    cursor.advance().expect("intact");
    assert_eq!(cursor.key(), Some(&b"a"[..]));
    for _ in 0..3 {
        cursor.advance().expect("intact");
    }
    assert_eq!((cursor.key(), cursor.position()), (None, 2));
    cursor.retreat().expect("intact");
    assert_eq!(cursor.key(), Some(&b"b"[..]));
}

#[test]
fn the_longest_keys_the_empty_one_and_those_of_ff_bytes_fit() {
    let keys: BTreeSet<Vec<u8>> = (0..40u8)
        .map(|n| [vec![n / 2; 64 << 10], vec![n]].concat())
        .chain([vec![], vec![0xFF], vec![0xFF; 1000], vec![0xFF; KEY_BYTES_MAX]])
        .collect();
    check(&keys, &[vec![0xFF; 999], vec![0xFF; 1001], vec![0; 70_000]], &[0, 1, 42, 43]);
    check(&BTreeSet::from([vec![9; KEY_BYTES_MAX]]), &[vec![9; 5], vec![9; 70_000]], &[]);
}

#[test]
fn a_key_between_two_groups_is_found_between_them() {
    // Each group has a prefix of its own, which the fences leave out and the sought keys do not share.
    let group = |first: u8| (0..256u32).map(move |n| [&[first; 5][..], &n.to_be_bytes()].concat());
    let keys: BTreeSet<Vec<u8>> = [b'b', b'd', b'f'].into_iter().flat_map(group).collect();
    let probes =
        ["", "a", "bbbb", "c", "cccccccccc", "dddd", "de", "e", "g", "bbbbb\u{7f}", "ddddde"];
    check(&keys, &probes.map(|probe| probe.as_bytes().to_vec()), &[255, 256, 300]);
}

#[test]
fn a_key_over_the_limit_makes_no_run() {
    let mut builder = RunBuilder::new();
    builder.push(&[0; KEY_BYTES_MAX + 1], None);
    assert_eq!(builder.len(), 0);
    assert_eq!(
        builder.finish(&RamRuns).map_err(|e| e.kind()).err(),
        Some(ErrorKind::LimitExceeded)
    );
}

#[test]
#[should_panic(expected = "strictly ascending")]
fn a_key_that_does_not_ascend_is_a_bug_of_the_caller() {
    let mut builder = RunBuilder::new();
    builder.push(b"ab", None);
    builder.push(b"ab", None);
}

#[test]
fn the_error_of_a_store_comes_through() {
    struct Full;
    impl RunStore for Full {
        fn store(&self, _bytes: Vec<u8>) -> Result<Arc<dyn RunBytes>> {
            Err(crate::error::Error::new(ErrorKind::Io, "no space"))
        }
    }
    let error = RunBuilder::new().finish(&Full).expect_err("the store is full");
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Io, "no space"));
}

#[test]
fn hints_beyond_the_segment_table_are_absent_and_not_wrong() {
    let hint = |n: u32| Hint {
        segment: u64::from(n) << 20,
        address: Address::new(n as u16, n % 8 * 8).expect("a multiple of 8"),
    };
    let mut builder = RunBuilder::new();
    (0..70_000u32).for_each(|n| builder.push(&n.to_be_bytes(), Some(hint(n))));
    let run = Arc::new(builder.finish(&RamRuns).expect("under all limits"));
    let mut cursor = run.cursor();
    for n in 0..70_000 {
        cursor.advance().expect("intact");
        assert_eq!(cursor.hint(), (n < 65_536).then(|| hint(n)));
    }
}

#[test]
fn threads_that_skip_and_walk_never_lose_a_live_key() {
    const KEYS: u32 = 5_000;
    let run = run_of((0..KEYS).map(u32::to_be_bytes));
    std::thread::scope(|scope| {
        for start in [0, KEYS / 2] {
            let run = &run;
            let dead = (0..KEYS).map(move |n| (n + start) % KEYS).filter(|n| n % 3 != 0);
            scope.spawn(move || dead.for_each(|n| run.skip(n)));
        }
        for _ in 0..5 {
            let shown = forward(&run).expect("intact");
            assert_eq!(shown.iter().filter(|(n, _)| n % 3 == 0).count(), KEYS.div_ceil(3) as usize);
        }
    });
    assert_eq!(run.dead(), (KEYS - KEYS.div_ceil(3)) as usize);
    assert!(forward(&run).expect("intact").iter().all(|(n, _)| n % 3 == 0));
}

/// The figures of a run: bytes of the file and bytes in memory beside it, per key.
#[test]
fn bytes_per_key_stay_within_the_budget() {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ state >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
    };
    let random16: BTreeSet<Vec<u8>> =
        (0..300_000).map(|_| [random().to_be_bytes(), random().to_be_bytes()].concat()).collect();
    let sequential16 = (0..300_000).map(|n| format!("{n:016}").into_bytes()).collect();
    let long64 = (0..300_000)
        .map(|_| format!("tenant/17/users/by-id/{:042}", random()).into_bytes())
        .collect();
    let kinds: [(&str, BTreeSet<Vec<u8>>, f64); 3] = [
        ("random 16", random16, 23.0),
        ("sequential 16", sequential16, 10.5),
        ("64", long64, 26.0),
    ];
    for (name, keys, file_max) in kinds {
        let run = run_of(&keys);
        let file = run.bytes.bytes().len();
        let beside = run.ram_bytes() - file;
        let per_key = |bytes: usize| bytes as f64 / keys.len() as f64;
        println!(
            "{name}: {:.2} bytes a key, {:.3} in memory beside them",
            per_key(file),
            per_key(beside)
        );
        assert_eq!(run.mapped_bytes(), 0);
        assert!(per_key(file) <= file_max && per_key(beside) <= 0.25, "{name}");
    }
}

#[test]
fn a_block_of_lengths_at_the_edge_of_one_byte_is_decoded() {
    for shared in [0, 1, 15, 16, 17, 126, 127, 128] {
        for rest in [1, 15, 16, 31, 32, 33, 126, 127, 128] {
            let key = |n: u8| [vec![b'a'; shared], vec![n; rest]].concat();
            let keys: BTreeSet<_> = (1..=16).map(key).collect();
            check(&keys, &[key(0), key(7), key(17)], &[]);
        }
    }
}
