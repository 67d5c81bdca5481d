//! What the greedy strategy promises, for examples and for any numbers.

use cortenkv_compaction::{
    Choice, Greedy, Limits, SegmentStats, Strategy as _, space_amplification,
};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn picked(segments: &[SegmentStats], limits: &Limits) -> Vec<u64> {
    match Greedy.pick(segments, limits) {
        Choice::Nothing => Vec::new(),
        Choice::Compact(ids) => {
            assert!(!ids.is_empty(), "Compact is never empty");
            ids
        }
    }
}

#[test]
fn most_garbage_goes_first_and_the_rest_stays_once_the_target_is_reached() {
    let segments = [
        SegmentStats::new(1, 10 * MIB, 9 * MIB),
        SegmentStats::new(2, 10 * MIB, 2 * MIB),
        SegmentStats::new(3, 10 * MIB, 5 * MIB),
        SegmentStats::new(4, 10 * MIB, 7 * MIB),
    ];
    // 40 of 23 MiB; without the garbage of 2 and 3 it is 27 of 23, below 1.33.
    assert_eq!(picked(&segments, &Limits::default()), [2, 3]);
}

#[test]
fn a_segment_without_a_live_record_goes_even_below_the_target() {
    let segments = [SegmentStats::new(1, 100 * MIB, 100 * MIB), SegmentStats::new(2, 8, 0)];
    assert_eq!(picked(&segments, &Limits::default()), [2]);
}

#[test]
fn the_active_segment_is_left_alone_whatever_is_in_it() {
    let segments = [SegmentStats::new(1, 10 * MIB, 0).active()];
    assert_eq!(picked(&segments, &Limits::default()), [0u64; 0]);
}

#[test]
fn a_segment_beyond_the_memory_of_a_round_goes_alone() {
    let mut limits = Limits::default();
    limits.live_bytes_max = MIB;
    let segments =
        [SegmentStats::new(1, 10 * MIB, 4 * MIB), SegmentStats::new(2, 10 * MIB, 5 * MIB)];
    assert_eq!(picked(&segments, &limits), [1]);
}

fn segments() -> impl Strategy<Value = Vec<SegmentStats>> {
    prop::collection::vec((0u64..4 * MIB, 0u64..=100, prop::bool::weighted(0.9)), 0..40).prop_map(
        |numbers| {
            let segment = |(id, (total, live_percent, sealed))| {
                let stats = SegmentStats::new(id as u64, total, total * live_percent / 100);
                if sealed { stats } else { stats.active() }
            };
            numbers.into_iter().enumerate().map(segment).collect::<Vec<_>>()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pick_is_legal_bounded_and_of_use(segments in segments(), target in 1.0f64..2.0) {
        let mut limits = Limits::default();
        limits.space_amplification_target = target;
        limits.segments_max = 5;
        limits.live_bytes_max = 3 * MIB;
        let ids = picked(&segments, &limits);
        let chosen: Vec<_> = ids.iter().map(|&id| segments[id as usize]).collect();
        prop_assert!(ids.len() <= 5);
        prop_assert!(chosen.iter().all(|s| s.sealed && (s.garbage_bytes() > 0 || s.live_bytes == 0)));
        let live: u64 = chosen.iter().map(|s| s.live_bytes).sum();
        prop_assert!(live <= limits.live_bytes_max || ids.len() == 1);
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        prop_assert_eq!(unique.len(), ids.len());
        prop_assert_eq!(picked(&segments, &limits), ids, "a pure function answers the same twice");
    }

    #[test]
    fn nothing_picked_means_that_the_store_is_good_or_no_segment_qualifies(segments in segments()) {
        let limits = Limits::default();
        if picked(&segments, &limits).is_empty() {
            let total = segments.iter().map(|s| s.total_bytes).sum();
            let live = segments.iter().map(|s| s.live_bytes).sum();
            let qualifies = |s: &SegmentStats| {
                s.sealed
                    && s.garbage_ratio() >= limits.garbage_ratio_min
                    && s.garbage_bytes() >= limits.garbage_bytes_min
            };
            prop_assert!(
                space_amplification(total, live) <= limits.space_amplification_target
                    || !segments.iter().any(qualifies)
            );
        }
    }
}
