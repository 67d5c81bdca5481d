//! Any history of writes, deletes, expiry, compaction of any segments, failures, stops and crashes, beside a model.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::{ManualClock, MemoryStore, Model};
use cortenkv_compaction::{
    Chain, GarbageRatio, Limits, Scheduler, SchedulerOptions, SegmentId, Step, Work,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Action {
    Put {
        key: u8,
        bytes: u8,
        ttl_ms: Option<u64>,
    },
    Delete {
        key: u8,
    },
    Seal,
    Pass {
        ms: u64,
    },
    /// Compaction of the segments whose places are named, with a call that fails.
    CompactSubset {
        places: Vec<u8>,
        fail_in: Option<u64>,
    },
    /// So many steps of a compactor, then it is stopped, or dropped without that.
    Steps {
        steps: u8,
        fail_in: Option<u64>,
        stop: bool,
    },
    Compact,
    Crash,
}

fn action() -> impl Strategy<Value = Action> {
    let fail_in = || prop::option::of(0u64..60);
    let places = prop::collection::vec(0u8..40, 1..6);
    prop_oneof![
        40 => (0u8..24, 0u8..120, prop::option::weighted(0.2, 1u64..100_000))
            .prop_map(|(key, bytes, ttl_ms)| Action::Put { key, bytes, ttl_ms }),
        15 => (0u8..24).prop_map(|key| Action::Delete { key }),
        3 => Just(Action::Seal),
        5 => (1u64..60_000).prop_map(|ms| Action::Pass { ms }),
        6 => (places, fail_in()).prop_map(|(places, fail_in)| Action::CompactSubset { places, fail_in }),
        6 => (0u8..60, fail_in(), any::<bool>())
            .prop_map(|(steps, fail_in, stop)| Action::Steps { steps, fail_in, stop }),
        2 => Just(Action::Compact),
        2 => Just(Action::Crash),
    ]
}

fn scheduler(store: &Arc<MemoryStore>, thresholds: bool) -> Scheduler<MemoryStore> {
    let mut limits = Limits::default();
    (limits.target_busy, limits.target_idle) = (1.3, 1.1);
    (limits.garbage_bytes_min, limits.segments_max, limits.live_bytes_max) = (1, 4, 600);
    (limits.segment_bytes, limits.large_bytes_min) = (300, 90);
    let mut garbage = GarbageRatio::default();
    garbage.bytes_min = 30;
    let strategy: Box<dyn cortenkv_compaction::Strategy> =
        if thresholds { Box::new(Chain::around(garbage)) } else { Box::new(Chain::default()) };
    let clock = Arc::new(ManualClock::default());
    let options = SchedulerOptions { strategy, limits, clock, ..Default::default() };
    Scheduler::new(Arc::clone(store), options)
}

fn fail_in(store: &MemoryStore, calls: Option<u64>) {
    if let Some(calls) = calls {
        store.fail_late.store(calls % 2 == 0, SeqCst);
        store.fail_after(calls);
    }
}

fn apply(
    action: &Action,
    store: &Arc<MemoryStore>,
    model: &mut Model,
    scheduler: &mut Scheduler<MemoryStore>,
    thresholds: bool,
) {
    match action {
        Action::Put { key, bytes, ttl_ms } => {
            let value = vec![*bytes; *bytes as usize];
            match ttl_ms {
                Some(ttl_ms) => store.put_with_ttl(&[*key], &value, *ttl_ms),
                None => store.put(&[*key], &value),
            }
            model.put(&[*key], &value, *ttl_ms);
        }
        Action::Delete { key } => {
            store.delete(&[*key]);
            model.delete(&[*key]);
        }
        Action::Seal => store.seal_active(),
        Action::Pass { ms } => {
            store.pass_ms(*ms);
            model.pass_ms(*ms);
        }
        Action::CompactSubset { places, fail_in: calls } => {
            fail_in(store, *calls);
            let sealed: Vec<SegmentId> =
                store.stats().iter().filter(|s| s.sealed).map(|s| s.id).collect();
            let places = places.iter().filter_map(|&place| sealed.get(place as usize));
            let _ = scheduler.compact_segments(&places.copied().collect::<Vec<_>>());
            store.fail_never();
        }
        Action::Steps { steps, fail_in: calls, stop } => {
            fail_in(store, *calls);
            let mut compactor = scheduler.compactor();
            for _ in 0..*steps {
                let _ = compactor.step();
            }
            if *stop {
                Work::stop(&mut compactor);
            }
            store.fail_never();
        }
        Action::Compact => {
            scheduler.compact().expect("nothing fails now");
        }
        Action::Crash => {
            store.crash();
            *scheduler = self::scheduler(store, thresholds);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn model_any_history_keeps_the_newest_values_and_comes_to_rest(
        actions in prop::collection::vec(action(), 1..250),
        thresholds in any::<bool>(),
    ) {
        let store = Arc::new(MemoryStore::default());
        let mut model = Model::default();
        let mut scheduler = scheduler(&store, thresholds);
        for action in &actions {
            apply(action, &store, &mut model, &mut scheduler, thresholds);
            if store.is_at_rest() {
                store.check_liveness();
            }
            prop_assert_eq!(store.contents(), model.contents());
            prop_assert_eq!(store.contents_after_crash(), model.contents(), "after a crash");
        }
        let mut compactor = scheduler.compactor();
        // Twice, since one answer to wait may mean that some jobs in a row were of no use.
        let (mut steps, mut waits) = (0, 0);
        while waits < 2 {
            let step = compactor.step().expect("nothing fails any more");
            waits = if step == Step::Again { 0 } else { waits + 1 };
            steps += 1;
            prop_assert!(steps < 50_000, "compaction does not come to an end");
        }
        prop_assert!(store.is_at_rest());
        store.check_liveness();
        prop_assert_eq!(store.contents_after_crash(), model.contents());
    }
}

#[test]
fn tombstones_go_once_nothing_is_left_that_they_delete() {
    let store = Arc::new(MemoryStore::default());
    for n in 0..200u8 {
        store.put(&[n], b"a value of some bytes");
    }
    (0..200u8).for_each(|n| store.delete(&[n]));
    store.put(b"last", b"one");
    store.seal_active();
    scheduler(&store, false).compact().expect("nothing fails");
    store.check_liveness();
    assert_eq!(store.contents().len(), 1);
    assert_eq!(store.records_on_disk(), 1, "every put and every tombstone is gone");
}

#[test]
fn expired_records_give_their_space_back_though_nobody_deletes_them() {
    let store = Arc::new(MemoryStore::default());
    for n in 0..200u8 {
        store.put_with_ttl(&[n], b"a value of some bytes", 60_000);
    }
    store.put(b"last", b"one");
    store.seal_active();
    let scheduler = scheduler(&store, false);
    assert_eq!(scheduler.compact().expect("nothing fails").freed_bytes(), 0);
    store.pass_ms(100_000);
    scheduler.compact().expect("nothing fails");
    store.check_liveness();
    assert!(store.records_on_disk() <= 1, "{}", store.records_on_disk());
    assert!(scheduler.stats().jobs_for(cortenkv_compaction::Reason::Expired) > 0);
}
