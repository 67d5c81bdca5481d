//! Changes of one key, or of two keys that want one slot, beside each other.

use loom::thread;

use super::{A, B, Index, SAME_HASH, canary, model};
use crate::{Outcome, PointIndex};

/// Two versions of a new key.
fn two_inserts_of_one_key() {
    model(|| {
        let index = Index::with(&[]);
        let other = index.clone();
        let other = thread::spawn(move || other.put(A, 2));
        let outcomes = [index.put(A, 1), other.join().unwrap()];
        let inserted = outcomes.iter().filter(|outcome| **outcome == Outcome::Inserted).count();
        assert_eq!(inserted, 1, "{outcomes:?}");
        index.holds(&[(A, 2)]);
    });
}

/// Two keys of one hash: the second makes the index grow.
fn two_inserts_of_one_hash() {
    model(|| {
        let index = Index::with(&[]);
        let other = index.clone();
        let other = thread::spawn(move || other.put(SAME_HASH, 1));
        assert_eq!(index.put(A, 1), Outcome::Inserted);
        assert_eq!(other.join().unwrap(), Outcome::Inserted);
        index.holds(&[(A, 1), (SAME_HASH, 1)]);
    });
}

/// A removal of what a put replaces, and a look-up of the key behind it.
fn a_removal_and_a_late_put() {
    model(|| {
        let index = Index::with(&[A, SAME_HASH]);
        while index.help() {}
        let (remover, writer) = (index.clone(), index.clone());
        let remover = thread::spawn(move || remover.remove(A, 1));
        let writer = thread::spawn(move || writer.put(A, 2));
        assert_eq!(index.get(SAME_HASH), Some(1), "a key that nobody changed");
        let removed = remover.join().unwrap();
        let outcome = writer.join().unwrap();
        assert_eq!(removed, outcome == Outcome::Inserted, "{outcome:?}");
        index.holds(&[(A, 2), (SAME_HASH, 1)]);
    });
}

/// A copy of an old version beside a newer version.
fn a_swap_and_a_replacement() {
    model(|| {
        let index = Index::with(&[A]);
        let other = index.clone();
        let other = thread::spawn(move || other.swap(A, 1));
        assert!(matches!(index.put(A, 2), Outcome::Replaced(_)));
        assert_eq!(index.get(A), Some(2), "a newer version was taken back");
        other.join().unwrap();
        index.holds(&[(A, 2)]);
    });
}

#[test]
fn of_two_inserts_of_one_key_the_newer_version_stays() {
    two_inserts_of_one_key();
}

#[test]
fn two_keys_of_one_hash_are_both_inserted() {
    two_inserts_of_one_hash();
}

#[test]
fn a_late_put_stays_whatever_a_removal_does() {
    a_removal_and_a_late_put();
}

#[test]
fn a_swap_never_takes_back_a_replacement() {
    a_swap_and_a_replacement();
}

#[test]
fn one_of_two_removals_takes_it_out() {
    model(|| {
        let index = Index::with(&[A]);
        let other = index.clone();
        let other = thread::spawn(move || other.remove(A, 1));
        assert!(index.remove(A, 1) != other.join().unwrap(), "both or neither removed it");
        index.holds(&[]);
    });
}

// The removal may be counted before the insert.
#[test]
fn an_insert_beside_its_removal_does_not_wrap_the_count() {
    model(|| {
        let index = Index::with(&[]);
        let other = index.clone();
        let other = thread::spawn(move || other.put(A, 1));
        let removed = index.remove(A, 1);
        assert!(index.0.len() <= 1, "the count wrapped");
        assert_eq!(other.join().unwrap(), Outcome::Inserted);
        index.holds(if removed { &[] } else { &[(A, 1)] });
    });
}

// The second key must find the way past a slot whose entry was taken out while the table moves on.
#[test]
fn a_key_that_nobody_changes_is_always_found_behind_changes() {
    model(|| {
        let index = Index::with(&[A, B]);
        let other = index.clone();
        let other = thread::spawn(move || {
            assert!(other.remove(A, 1));
            assert_eq!(other.put(A, 2), Outcome::Inserted);
        });
        assert_eq!(index.get(B), Some(1));
        other.join().unwrap();
        index.holds(&[(A, 2), (B, 1)]);
    });
}

#[test]
fn canary_a_writer_that_lost_its_slot() {
    canary(
        "changes::canary_a_writer_that_lost_its_slot",
        "lost-slot-passed-over",
        two_inserts_of_one_key,
    );
}

#[test]
fn canary_a_look_up_that_stops_at_a_removal() {
    canary(
        "changes::canary_a_look_up_that_stops_at_a_removal",
        "deleted-taken-for-end",
        a_removal_and_a_late_put,
    );
}

#[test]
fn canary_a_swap_that_does_not_compare() {
    canary(
        "changes::canary_a_swap_that_does_not_compare",
        "late-swap-wins",
        a_swap_and_a_replacement,
    );
}
