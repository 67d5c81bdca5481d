//! Group commit: hand-over, acknowledgement after the covering sync, failure of a leader, the latch.

use super::canary;
use super::toy::{Defect, Toy};
use crate::error::{ClosedReason, Error, ErrorKind};
use crate::sync::{Arc, thread};

/// Three threads, one commit each; the sync of a number fails if one is given.
fn three_commits(failing: Option<u64>, panics: bool, defect: Defect) {
    loom::model(move || {
        let mut toy = Toy::new(failing, defect);
        toy.panics = panics;
        let toy = Arc::new(toy);
        let others = [0, 1].map(|_| {
            let toy = Arc::clone(&toy);
            thread::spawn(move || toy.commit())
        });
        let mut results = vec![toy.commit()];
        results.extend(others.map(|other| other.join().unwrap()));
        let acknowledged = results.iter().flatten().count() as u64;
        let failed = toy.latch.check().is_err();
        assert!(failed || acknowledged == 3, "a commit failed without a reason");
        assert!(
            !failed || acknowledged < 3,
            "the log was poisoned, but everybody was told that all is well"
        );
        if failed {
            let error = toy.commit().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Closed(_)), "{error}");
        }
        toy.assert_idle();
    });
}

#[test]
fn leadership_is_handed_on_until_everybody_is_covered_by_a_later_sync() {
    three_commits(None, false, Defect::None);
}

#[test]
fn a_leader_that_fails_takes_all_that_it_did_not_cover_with_it() {
    three_commits(Some(0), false, Defect::None);
}

#[test]
fn a_later_leader_that_fails_leaves_the_covered_ones_acknowledged() {
    three_commits(Some(1), false, Defect::None);
}

#[test]
fn a_leader_that_panics_closes_the_log_and_leaves_nobody_asleep() {
    three_commits(Some(0), true, Defect::None);
}

#[test]
fn a_latch_closed_from_outside_resolves_every_queued_writer() {
    loom::model(|| {
        let toy = Arc::new(Toy::new(None, Defect::None));
        let writer = {
            let toy = Arc::clone(&toy);
            thread::spawn(move || toy.commit())
        };
        let closer = {
            let toy = Arc::clone(&toy);
            thread::spawn(move || {
                toy.latch.close(Error::closed(ClosedReason::Clean));
                toy.train.wake_all();
            })
        };
        let mine = toy.commit();
        for result in [mine, writer.join().unwrap()] {
            if let Err(error) = result {
                assert_eq!(*error.kind(), ErrorKind::Closed(ClosedReason::Clean));
            }
        }
        closer.join().unwrap();
        assert!(toy.commit().is_err());
        toy.assert_idle();
    });
}

#[test]
fn canary_a_sync_that_covers_what_was_published_after_its_start() {
    canary(
        "train::canary_a_sync_that_covers_what_was_published_after_its_start",
        "was acknowledged, but the disk has",
        || three_commits(None, false, Defect::LateSnapshot),
    );
}

#[test]
fn canary_riders_woken_before_the_watermark_moves() {
    canary(
        "train::canary_riders_woken_before_the_watermark_moves",
        "a train ended without covering its rider",
        || three_commits(None, false, Defect::EarlyWake),
    );
}

#[test]
fn canary_a_failed_sync_that_is_taken_for_a_good_one() {
    canary(
        "train::canary_a_failed_sync_that_is_taken_for_a_good_one",
        "was acknowledged, but the disk has",
        || three_commits(Some(0), false, Defect::FailureSwallowed),
    );
}

#[test]
fn canary_a_failed_sync_that_leaves_the_latch_open() {
    canary(
        "train::canary_a_failed_sync_that_leaves_the_latch_open",
        "a failed sync must close the latch",
        || three_commits(Some(0), false, Defect::LatchLeftOpen),
    );
}
