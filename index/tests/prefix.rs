//! Prefixes and bounds, checked against what they mean for every key.

use std::ops::Bound;

use cortenkv_index::{KeyRange, prefix_end};
use proptest::prelude::*;

#[test]
fn prefixes_of_ff_bytes_and_the_empty_one_have_no_end() {
    assert_eq!(prefix_end(b""), None);
    assert_eq!(prefix_end(b"\xFF"), None);
    assert_eq!(prefix_end(b"\xFF\xFF\xFF"), None);
    assert_eq!(prefix_end(b"\xFF\xFE"), Some(b"\xFF\xFF".to_vec()));
    assert_eq!(prefix_end(b"a\xFF"), Some(b"b".to_vec()));
    assert_eq!(prefix_end(b"\x00"), Some(b"\x01".to_vec()));
}

#[test]
fn the_empty_prefix_and_the_whole_range_hold_the_empty_key() {
    assert!(KeyRange::prefix(b"").contains(b""));
    assert!(KeyRange::all().contains(b""));
    assert!(!KeyRange::prefix(b"a").contains(b""));
}

#[test]
fn crossed_bounds_are_empty_and_touching_ones_are_not() {
    let range = |start, end| KeyRange::new::<&[u8]>((start, end)).is_empty();
    let (a, a0, b) = (&b"a"[..], &b"a\0"[..], &b"b"[..]);
    assert!(range(Bound::Included(b), Bound::Included(a)));
    assert!(range(Bound::Included(a), Bound::Excluded(a)));
    assert!(range(Bound::Excluded(a), Bound::Included(a)));
    assert!(range(Bound::Excluded(a), Bound::Excluded(a0)));
    assert!(range(Bound::Unbounded, Bound::Excluded(b"")));
    assert!(!range(Bound::Included(a), Bound::Included(a)));
    assert!(!range(Bound::Excluded(a), Bound::Included(a0)));
    assert!(!range(Bound::Excluded(a), Bound::Excluded(b)));
    assert!(!range(Bound::Unbounded, Bound::Included(b"")));
}

/// Short keys over bytes at both ends, so that prefixes and neighbours are frequent.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0x00, 0x01, b'a', 0xFE, 0xFF]), 0..5)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        Just(Bound::Unbounded),
        key().prop_map(Bound::Included),
        key().prop_map(Bound::Excluded)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_prefix_range_holds_exactly_the_keys_with_the_prefix(prefix in key(), key in key()) {
        prop_assert_eq!(KeyRange::prefix(&prefix).contains(&key), key.starts_with(&prefix));
    }

    #[test]
    fn an_empty_range_holds_no_key(start in bound(), end in bound(), key in key()) {
        let range = KeyRange::new::<Vec<u8>>((start, end));
        prop_assert!(!(range.is_empty() && range.contains(&key)));
    }

    #[test]
    fn a_range_that_is_not_empty_holds_its_lowest_candidate(start in bound(), end in bound()) {
        let range = KeyRange::new::<Vec<u8>>((start.clone(), end));
        let lowest = match start {
            Bound::Unbounded => Vec::new(),
            Bound::Included(key) => key,
            Bound::Excluded(mut key) => { key.push(0); key }
        };
        prop_assert_eq!(!range.is_empty(), range.contains(&lowest));
    }
}
