//! Rounds of compaction over a store in memory: nothing is lost, whatever fails or comes between.

mod common;

use common::{Injected, MemoryStore};
use cortenkv_compaction::{Choice, Greedy, Limits, Never, SegmentStats, Strategy, compact_once};
use proptest::prelude::*;

fn eager() -> Limits {
    let mut limits = Limits::default();
    limits.space_amplification_target = 1.0;
    limits.garbage_ratio_min = 0.0;
    limits.garbage_bytes_min = 1;
    limits
}

const ROUNDS_MAX: usize = 200;

/// Rounds until nothing is worth the work.
fn drain(store: &MemoryStore) {
    for _ in 0..ROUNDS_MAX {
        if compact_once(store, &Greedy, &eager()).expect("nothing fails any more").is_none() {
            return;
        }
    }
    panic!("compaction does not come to an end");
}

/// 40 keys written three times in different orders: every segment has garbage and some live records.
fn updated_store() -> MemoryStore {
    let store = MemoryStore::default();
    for round in 0..3u8 {
        for n in 0..40u8 {
            let key = [b'k', n.wrapping_mul(7 + round) % 40];
            store.put(&key, &[round; 20]);
        }
    }
    store
}

#[test]
fn compaction_keeps_every_live_record_and_frees_the_garbage() {
    let store = updated_store();
    let before = store.contents();
    let mut freed = 0;
    for rounds in 0.. {
        assert!(rounds < ROUNDS_MAX, "compaction does not come to an end");
        let report = compact_once(&store, &Greedy, &eager()).expect("nothing fails");
        let Some(report) = report else { break };
        freed += report.input_bytes - report.copied_bytes;
        store.check_liveness();
        assert_eq!(store.contents(), before);
    }
    assert!(freed > 0);
    assert_eq!(store.liveness.space_amplification(), 1.0);
}

#[test]
fn the_output_is_sorted_by_key() {
    let store = updated_store();
    compact_once(&store, &Greedy, &eager()).expect("nothing fails").expect("there is garbage");
    let output = *store.segment_ids().last().expect("there is an output");
    let keys = store.keys_of(output);
    assert!(keys.len() > 1 && keys.is_sorted(), "{keys:?}");
}

#[test]
fn a_write_during_a_round_wins_over_the_copy() {
    let store = updated_store();
    let mut expected = store.contents();
    let key = store.keys_of(1).into_iter().find(|key| key[1] != 0).expect("segment 1 has keys");
    expected.insert(key.clone(), b"late".to_vec());
    store.late_write.replace(Some((key, b"late".to_vec())));
    // Everything sealed, so that the key is among the copies for certain.
    struct All;
    impl Strategy for All {
        fn pick(&self, segments: &[SegmentStats], _: &Limits) -> Choice {
            Choice::Compact(segments.iter().filter(|s| s.sealed).map(|s| s.id).collect())
        }
    }
    store.put(b"other", b"in a segment of its own");
    expected.insert(b"other".to_vec(), b"in a segment of its own".to_vec());
    let report = compact_once(&store, &All, &eager()).expect("nothing fails").expect("work");
    assert_eq!(report.installed.records_lost, 1);
    assert_eq!(store.contents(), expected);
    store.check_liveness();
}

#[test]
fn a_failure_at_any_operation_loses_nothing_and_the_next_round_finishes_the_work() {
    let mut failures = 0;
    for fail_at in 0.. {
        let store = updated_store();
        let before = store.contents();
        store.fail_at.set(Some(fail_at));
        match compact_once(&store, &Greedy, &eager()) {
            Err(error) => assert_eq!(error, Injected(fail_at)),
            Ok(_) => break,
        }
        failures += 1;
        assert_eq!(store.contents(), before, "after a failure of operation {fail_at}");
        store.check_liveness();
        drain(&store);
        assert_eq!(store.contents(), before, "after recovery from operation {fail_at}");
        assert_eq!(store.liveness.space_amplification(), 1.0, "operation {fail_at}");
    }
    // segments, read_live, output, append, install and retire at least.
    assert!(failures >= 6, "only {failures} operations were made to fail");
}

#[test]
fn never_does_nothing() {
    let store = updated_store();
    let ids = store.segment_ids();
    assert_eq!(compact_once(&store, &Never, &eager()), Ok(None));
    assert_eq!(store.segment_ids(), ids);
}

#[test]
#[should_panic(expected = "segment 99 was picked but is not on offer")]
fn a_strategy_that_makes_up_a_segment_is_a_panic() {
    struct Wrong;
    impl Strategy for Wrong {
        fn pick(&self, _: &[SegmentStats], _: &Limits) -> Choice {
            Choice::Compact(vec![99])
        }
    }
    let _ = compact_once(&updated_store(), &Wrong, &eager());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn model_any_history_of_writes_rounds_and_failures_keeps_the_newest_values(
        steps in prop::collection::vec((0u8..30, any::<u8>(), prop::option::weighted(0.1, 0u32..40)), 1..300),
    ) {
        let store = MemoryStore::default();
        let mut model = std::collections::BTreeMap::new();
        for (key, value, round) in steps {
            let value = vec![value; 1 + value as usize % 50];
            store.put(&[key], &value);
            model.insert(vec![key], value);
            if let Some(fail_in) = round {
                store.fail_after(fail_in);
                let _ = compact_once(&store, &Greedy, &eager());
            }
        }
        store.fail_at.set(None);
        drain(&store);
        store.check_liveness();
        prop_assert_eq!(store.contents(), model);
    }
}
