//! What each strategy promises, for examples and for any numbers.

use cortenkv_compaction::{
    AgeClass, Chain, Choice, CostBenefit, GarbageRatio, Greedy, Limits, Reason, SegmentStats,
    SmallSegments, Strategy, Tombstones, Ttl,
};
use proptest::prelude::{Strategy as _, prop, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::Config as ProptestConfig;

const MIB: u64 = 1 << 20;

fn picked(strategy: &dyn Strategy, segments: &[SegmentStats], limits: &Limits) -> Vec<u64> {
    match strategy.pick(segments, limits) {
        Choice::Nothing => Vec::new(),
        Choice::Compact { segments, .. } => {
            assert!(!segments.is_empty(), "Compact is never empty");
            segments
        }
    }
}

fn all() -> Vec<(&'static str, Box<dyn Strategy>)> {
    vec![
        ("cost-benefit", Box::new(CostBenefit)),
        ("greedy", Box::new(Greedy)),
        ("garbage-ratio", Box::new(GarbageRatio::default())),
        ("ttl", Box::new(Ttl)),
        ("tombstones", Box::new(Tombstones)),
        ("small-segments", Box::new(SmallSegments)),
        ("chain", Box::new(Chain::default())),
        ("chain by ratio", Box::new(Chain::around(GarbageRatio::default()))),
    ]
}

#[test]
fn cost_benefit_prefers_age_and_greedy_prefers_garbage() {
    let mut segments = [
        SegmentStats::new(1, 10 * MIB, 6 * MIB),
        SegmentStats::new(2, 10 * MIB, 6 * MIB),
        SegmentStats::new(9, 10 * MIB, 5 * MIB),
    ];
    let mut limits = Limits::default();
    limits.segments_max = 1;
    assert_eq!(picked(&CostBenefit, &segments, &limits), [1]);
    assert_eq!(picked(&Greedy, &segments, &limits), [9]);
    segments[0].created = 20;
    assert_eq!(picked(&CostBenefit, &segments, &limits), [2], "age is what the owner says");
}

#[test]
fn the_rest_stays_once_the_target_is_reached_and_the_target_is_lower_when_idle() {
    let segments = [
        SegmentStats::new(1, 10 * MIB, 9 * MIB),
        SegmentStats::new(2, 10 * MIB, 2 * MIB),
        SegmentStats::new(3, 10 * MIB, 5 * MIB),
        SegmentStats::new(4, 10 * MIB, 7 * MIB),
    ];
    // 40 of 23 MiB; without the garbage of 2 and 3 it is 27 of 23, below 1.33 and above 1.15.
    let mut limits = Limits::default();
    assert_eq!(picked(&Greedy, &segments, &limits), [2, 3]);
    limits.idle = true;
    assert_eq!(picked(&Greedy, &segments, &limits), [2, 3, 4]);
}

#[test]
fn segments_without_a_live_record_go_first_and_at_any_amplification() {
    let segments = [SegmentStats::new(1, 100 * MIB, 100 * MIB), SegmentStats::new(2, 8, 0)];
    for (name, strategy) in all().into_iter().filter(|(name, _)| name.contains('-')) {
        if ["small-segments", "ttl"].contains(&name) {
            continue;
        }
        let choice = strategy.pick(&segments, &Limits::default());
        assert_eq!(choice, Choice::Compact { segments: vec![2], reason: Reason::Empty }, "{name}");
    }
}

#[test]
fn garbage_ratio_has_the_classic_thresholds() {
    let pick = |total, live| {
        let segments = [SegmentStats::new(1, total, live)];
        !picked(&GarbageRatio::default(), &segments, &Limits::default()).is_empty()
    };
    assert!(pick(4 * MIB, 2 * MIB), "half, and 2 MiB");
    assert!(!pick(2 * MIB, MIB), "half, but only 1 MiB");
    assert!(!pick(10 * MIB, 8 * MIB), "2 MiB, but only a fifth");
    assert!(pick(64 * MIB, 55 * MIB), "9 MiB, whatever the share");
}

#[test]
fn mostly_expired_segments_go() {
    let mut segment = SegmentStats::new(1, 100, 100);
    segment.expired_bytes = 49;
    assert!(picked(&Ttl, &[segment], &Limits::default()).is_empty());
    segment.expired_bytes = 50;
    assert_eq!(picked(&Ttl, &[segment], &Limits::default()), [1]);
    assert!(picked(&Ttl, &[segment.active()], &Limits::default()).is_empty());
}

#[test]
fn tombstones_go_when_free_and_else_what_blocks_them_goes() {
    let mut segments = [SegmentStats::new(1, 100, 20), SegmentStats::new(2, 100, 100)];
    (segments[1].live_records, segments[1].tombstones) = (10, 3);
    segments[1].tombstone_bytes = 24;
    let pick = |segments: &[SegmentStats]| Tombstones.pick(segments, &Limits::default());
    let one = |id, reason| Choice::Compact { segments: vec![id], reason };
    assert_eq!(pick(&segments), one(2, Reason::Tombstones));
    (segments[1].waiting_bytes, segments[0].blocks_bytes) = (24, 24);
    assert_eq!(pick(&segments), one(1, Reason::BlocksTombstones));
    segments[0].live_bytes = segments[0].total_bytes;
    assert_eq!(pick(&segments), Choice::Nothing, "without garbage it cannot be in the way");
}

#[test]
fn small_segments_of_one_stream_are_merged_when_that_leaves_fewer() {
    let mut limits = Limits::default();
    limits.idle = true;
    let small = |id| SegmentStats::new(id, MIB, MIB);
    let segments: Vec<_> = (1..=3).map(small).collect();
    assert!(picked(&SmallSegments, &segments, &limits).is_empty(), "3 MiB in 3 files are no harm");
    let mut segments: Vec<_> = (1..=4).map(small).collect();
    assert_eq!(picked(&SmallSegments, &segments, &limits), [1, 2, 3, 4]);
    segments[0].large = true;
    segments[1].class = AgeClass::SurvivedOnce;
    assert!(picked(&SmallSegments, &segments, &limits).is_empty(), "they go to three streams");
    let pair = [SegmentStats::new(1, 15 * MIB, 9 * MIB), SegmentStats::new(2, 15 * MIB, 9 * MIB)];
    assert_eq!(picked(&SmallSegments, &pair, &limits), [1, 2], "together they are not small");
    limits.idle = false;
    assert!(picked(&SmallSegments, &pair, &limits).is_empty(), "a busy store has better to do");
}

#[test]
fn a_segment_beyond_the_memory_of_a_round_goes_alone() {
    let mut limits = Limits::default();
    limits.live_bytes_max = MIB;
    let segments =
        [SegmentStats::new(1, 10 * MIB, 4 * MIB), SegmentStats::new(2, 10 * MIB, 5 * MIB)];
    assert_eq!(picked(&Greedy, &segments, &limits), [1]);
}

type Numbers = (u64, u64, bool, u8, bool, (u64, u64, u64, u64));

/// Percentages to a segment whose numbers do not contradict one another.
fn segment(id: u64, numbers: &Numbers) -> SegmentStats {
    let (total, live, sealed, class, large, (tombstones, waiting, blocks, expired)) = *numbers;
    let mut stats = SegmentStats::new(id, total, total * live / 100);
    stats.live_records = stats.live_bytes.div_ceil(64);
    stats.tombstones = stats.live_records * tombstones / 100;
    stats.tombstone_bytes = stats.live_bytes * tombstones / 100;
    stats.waiting_bytes = stats.tombstone_bytes * waiting / 100;
    stats.blocks_bytes = stats.garbage_bytes() * blocks / 100;
    stats.expiring_bytes = stats.live_bytes * expired / 100;
    stats.expired_bytes = stats.expiring_bytes;
    stats.class = [AgeClass::New, AgeClass::SurvivedOnce, AgeClass::SurvivedTwice][class as usize];
    stats.large = large;
    if sealed { stats } else { stats.active() }
}

fn segments() -> impl proptest::strategy::Strategy<Value = Vec<SegmentStats>> {
    let percentages = (0u64..=100, 0u64..=100, 0u64..=100, 0u64..=100);
    let numbers = (
        0u64..4 * MIB,
        0u64..=100,
        prop::bool::weighted(0.9),
        0u8..3,
        prop::bool::ANY,
        percentages,
    );
    prop::collection::vec(numbers, 0..40).prop_map(|numbers| {
        numbers.iter().enumerate().map(|(id, numbers)| segment(id as u64, numbers)).collect()
    })
}

/// What a round leaves, when the store does its worst: nothing dies meanwhile, and each stream gets a segment.
fn after_round(segments: &mut Vec<SegmentStats>, victims: &[u64], newest: &mut u64) {
    let gone: Vec<_> = segments.iter().copied().filter(|s| victims.contains(&s.id)).collect();
    segments.retain(|segment| !victims.contains(&segment.id));
    let mut outputs: Vec<SegmentStats> = Vec::new();
    for victim in &gone {
        let class = victim.class.survived();
        let kept = victim.live_bytes - victim.free_tombstone_bytes().min(victim.live_bytes);
        // Half of what survives a segment of new records is large, so that it splits.
        let parts = match (victim.class, victim.large) {
            (AgeClass::New, false) => vec![(false, kept / 2), (true, kept - kept / 2)],
            (_, large) => vec![(large, kept)],
        };
        for (large, bytes) in parts.into_iter().filter(|(_, bytes)| *bytes > 0) {
            let same = outputs.iter_mut().find(|o| (o.class, o.large) == (class, large));
            match same {
                Some(output) => {
                    (output.total_bytes, output.live_bytes) =
                        (output.total_bytes + bytes, output.live_bytes + bytes)
                }
                None => {
                    *newest += 1;
                    let mut output = SegmentStats::new(*newest, bytes, bytes);
                    (output.class, output.large) = (class, large);
                    outputs.push(output);
                }
            }
        }
    }
    for output in &mut outputs {
        output.live_records = output.live_bytes.div_ceil(64);
    }
    segments.append(&mut outputs);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pick_is_legal_bounded_and_repeatable(segments in segments(), idle in prop::bool::ANY) {
        let mut limits = Limits::default();
        (limits.segments_max, limits.live_bytes_max, limits.idle) = (5, 3 * MIB, idle);
        limits.segment_bytes = 4 * MIB;
        for (name, strategy) in all() {
            let ids = picked(&strategy, &segments, &limits);
            let chosen: Vec<_> = ids.iter().map(|&id| segments[id as usize]).collect();
            prop_assert!(ids.len() <= 5, "{name}");
            prop_assert!(chosen.iter().all(|s| s.sealed), "{name} picks what is still written");
            let live: u64 = chosen.iter().map(|s| s.live_bytes).sum();
            prop_assert!(live <= limits.live_bytes_max || ids.len() == 1, "{name}");
            let mut unique = ids.clone();
            unique.sort_unstable();
            unique.dedup();
            prop_assert_eq!(unique.len(), ids.len(), "{} picks twice", name);
            prop_assert_eq!(picked(&strategy, &segments, &limits), ids, "{}", name);
        }
    }

    #[test]
    fn rounds_come_to_an_end(segments in segments(), idle in prop::bool::ANY) {
        let mut limits = Limits::default();
        (limits.segments_max, limits.live_bytes_max, limits.idle) = (5, 3 * MIB, idle);
        limits.segment_bytes = 4 * MIB;
        for (name, strategy) in all() {
            let (mut segments, mut newest) = (segments.clone(), 100);
            for round in 0.. {
                prop_assert!(round < 500, "{name} does not come to an end: {segments:?}");
                let victims = picked(&strategy, &segments, &limits);
                if victims.is_empty() {
                    break;
                }
                let total = |segments: &[SegmentStats]| {
                    segments.iter().map(|s| s.total_bytes).sum::<u64>()
                };
                let before = total(&segments);
                after_round(&mut segments, &victims, &mut newest);
                prop_assert!(total(&segments) <= before);
            }
        }
    }
}
