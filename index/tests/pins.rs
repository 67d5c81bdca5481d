//! Pins and grace periods as the point index uses them; alone in its process, because any other pin holds a grace back.
#![cfg(not(any(loom, shuttle)))]

use cortenkv_index::testkit::{Hashing, Records};
use cortenkv_index::{BTreePoint, BucketPoint, Grace, NewEntry, Outcome, PointIndex};

// The contract with key order: what a hook did and the change that follows are under one pin, for every kind.
#[test]
fn every_kind_runs_the_hook_and_the_change_under_one_pin() {
    let kinds: Vec<Box<dyn PointIndex>> = vec![
        Box::new(BTreePoint::new()),
        Box::new(BucketPoint::new()),
        #[cfg(feature = "dashmap")]
        Box::new(cortenkv_index::DashPoint::new()),
    ];
    for index in kinds {
        let records = Records::new(Hashing::Good);
        let entry = records.append(0, 0, b"key", 1, false);
        let new: NewEntry<'_> = records.offer(0, b"key", entry);
        let mut grace = None;
        let outcome = index.install(&new, &records, &mut |_| {
            let begun = Grace::begin();
            assert!((0..1_000).all(|_| !begun.is_over()), "the hook runs without a pin");
            grace = Some(begun);
        });
        assert_eq!(outcome, Outcome::Inserted);
        let grace = grace.expect("the hook ran");
        assert!((0..1_000_000).any(|_| grace.is_over()), "the pin is never dropped");
    }
}
