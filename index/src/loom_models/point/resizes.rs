//! Changes, look-ups and exports beside a resize.

use loom::thread;

use super::{A, B, FAR, Index, MIDDLE, SAME_HASH, canary, large_model, model};
use crate::Outcome;

/// A replacement in a table that another thread replaces.
fn a_replacement_while_the_table_grows() {
    model(|| {
        let index = Index::with(&[A]);
        let other = index.clone();
        // The second key begins the resize, the third moves groups.
        let other = thread::spawn(move || {
            assert_eq!(other.put(FAR, 1), Outcome::Inserted);
            assert_eq!(other.put(B, 1), Outcome::Inserted);
        });
        assert!(matches!(index.put(A, 2), Outcome::Replaced(_)));
        other.join().unwrap();
        index.holds(&[(A, 2), (B, 1), (FAR, 1)]);
    });
}

/// Look-ups of a key that is replaced in the next table, which one call does not finish.
fn look_ups_while_it_is_moved_and_replaced() {
    model(|| {
        let index = Index::resizing(&[A, FAR, B, MIDDLE]);
        let writer = index.clone();
        let writer = thread::spawn(move || {
            assert!(matches!(writer.put(A, 2), Outcome::Replaced(_)));
            assert_eq!(writer.get(A), Some(2), "its own write");
        });
        let (first, second) = (index.get(A), index.get(A));
        assert!(first.is_some() && first <= second, "{first:?}, then {second:?}");
        writer.join().unwrap();
        index.holds(&[(A, 2), (B, 1), (FAR, 1), (MIDDLE, 1)]);
    });
}

/// The same while another thread moves groups and finishes.
fn look_ups_of_what_was_replaced_while_another_finishes() {
    large_model(|| {
        let index = Index::resizing(&[A, FAR]);
        let other = index.clone();
        let other = thread::spawn(move || other.help());
        assert!(matches!(index.put(A, 2), Outcome::Replaced(_)));
        assert_eq!(index.get(A), Some(2), "its own write");
        other.join().unwrap();
        index.holds(&[(A, 2), (FAR, 1)]);
    });
}

/// A full group, to which an insert adds a block, beside the begin of a resize.
fn an_overflow_beside_a_resize() {
    model(|| {
        let index = Index::with(&[A]);
        let other = index.clone();
        let other = thread::spawn(move || {
            assert_eq!(other.put(SAME_HASH, 1), Outcome::Inserted);
            other.help();
        });
        assert_eq!(index.put(B, 1), Outcome::Inserted);
        other.join().unwrap();
        index.holds(&[(A, 1), (SAME_HASH, 1), (B, 1)]);
    });
}

/// A helper that may be late, and a writer that helps as well and then changes what was moved.
fn a_helper_and_a_writer() {
    model(|| {
        let index = Index::resizing(&[A, FAR]);
        let helper = index.clone();
        let helper = thread::spawn(move || helper.help());
        assert!(index.remove(A, 1), "it stands there");
        assert_eq!(index.put(B, 1), Outcome::Inserted);
        assert_eq!((index.get(A), index.get(B)), (None, Some(1)), "its own changes");
        helper.join().unwrap();
        index.holds(&[(B, 1), (FAR, 1)]);
    });
}

/// Two helpers and a reader; a call of one of them moves half of the groups.
fn two_helpers_and_a_reader() {
    large_model(|| {
        let index = Index::resizing(&[A, FAR, B, MIDDLE]);
        let helpers =
            [index.clone(), index.clone()].map(|index| thread::spawn(move || index.help()));
        assert_eq!((index.get(A), index.get(FAR)), (Some(1), Some(1)));
        for helper in helpers {
            helper.join().unwrap();
        }
        index.holds(&[(A, 1), (B, 1), (FAR, 1), (MIDDLE, 1)]);
    });
}

/// An export beside growth: what stays is named, what came to the next table before it as well.
fn an_export_while_the_table_grows() {
    large_model(|| {
        let index = Index::resizing(&[A, FAR, B, MIDDLE]);
        assert_eq!(index.put(SAME_HASH, 1), Outcome::Inserted);
        let other = index.clone();
        let other = thread::spawn(move || other.put(A, 2));
        let exported = index.exported();
        for key in [B, FAR, MIDDLE, SAME_HASH] {
            let named = exported.iter().any(|address| address.slot() == key.id);
            assert!(named, "{key:?} was there all the time");
        }
        assert!(matches!(other.join().unwrap(), Outcome::Replaced(_)));
        index.holds(&[(A, 2), (B, 1), (FAR, 1), (MIDDLE, 1), (SAME_HASH, 1)]);
    });
}

/// The last entries leave, the table shrinks, and new ones come.
fn inserts_while_the_table_shrinks() {
    model(|| {
        let index = Index::with(&[A, FAR]);
        while index.help() {}
        assert!(index.remove(FAR, 1));
        let other = index.clone();
        let other = thread::spawn(move || {
            assert!(other.remove(A, 1));
            other.help()
        });
        assert_eq!(index.put(B, 1), Outcome::Inserted);
        assert_eq!(index.get(B), Some(1));
        other.join().unwrap();
        index.holds(&[(B, 1)]);
    });
}

#[test]
fn a_replacement_goes_with_its_group_or_after_it() {
    a_replacement_while_the_table_grows();
}

#[test]
fn a_look_up_never_goes_back_while_a_group_moves() {
    look_ups_while_it_is_moved_and_replaced();
}

#[test]
fn a_look_up_finds_what_the_next_table_holds() {
    look_ups_of_what_was_replaced_while_another_finishes();
}

#[test]
fn a_new_block_goes_with_its_group_or_after_it() {
    an_overflow_beside_a_resize();
}

#[test]
fn a_late_helper_changes_nothing() {
    a_helper_and_a_writer();
}

#[test]
fn a_reader_finds_everything_while_two_help() {
    two_helpers_and_a_reader();
}

#[test]
fn an_export_names_what_stays_while_the_table_grows() {
    an_export_while_the_table_grows();
}

#[test]
fn a_table_that_shrinks_takes_new_entries() {
    inserts_while_the_table_shrinks();
}

#[test]
fn canary_a_group_that_is_copied_before_it_is_frozen() {
    canary(
        "resizes::canary_a_group_that_is_copied_before_it_is_frozen",
        "fill-without-freeze",
        a_replacement_while_the_table_grows,
    );
}

#[test]
fn canary_a_chain_that_is_copied_before_it_is_frozen() {
    canary(
        "resizes::canary_a_chain_that_is_copied_before_it_is_frozen",
        "chain-not-frozen",
        an_overflow_beside_a_resize,
    );
}

#[test]
fn canary_a_group_that_is_whole_too_early() {
    canary(
        "resizes::canary_a_group_that_is_whole_too_early",
        "whole-by-first-slot",
        a_helper_and_a_writer,
    );
}

#[test]
fn canary_a_late_helper_that_stores_again() {
    canary("resizes::canary_a_late_helper_that_stores_again", "late-fill", a_helper_and_a_writer);
}

#[test]
fn canary_a_reader_that_trusts_the_old_table() {
    canary(
        "resizes::canary_a_reader_that_trusts_the_old_table",
        "frozen-taken-for-present",
        look_ups_while_it_is_moved_and_replaced,
    );
}

#[test]
fn canary_an_export_of_the_old_table_alone() {
    canary(
        "resizes::canary_an_export_of_the_old_table_alone",
        "export-of-one-table",
        an_export_while_the_table_grows,
    );
}
