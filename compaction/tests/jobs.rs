//! Jobs over a store in memory: nothing is lost, whatever fails, is stopped or comes between.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::{Injected, ManualClock, MemoryStore};
use cortenkv_compaction::{
    AgeClass, Chain, Choice, Greedy, Job, Limits, Never, Progress, Reason, Scheduler,
    SchedulerOptions, SegmentStats, Stage, Step, Strategy, TokenBucket, Unpaced, Verdict, Work,
};

fn eager() -> Limits {
    let mut limits = Limits::default();
    (limits.target_busy, limits.target_idle) = (1.0, 1.0);
    (limits.garbage_ratio_min, limits.garbage_bytes_min) = (0.0, 1);
    (limits.segment_bytes, limits.large_bytes_min, limits.idle) = (240, 100, true);
    limits
}

fn scheduler(store: &Arc<MemoryStore>, strategy: impl Strategy) -> Scheduler<MemoryStore> {
    let clock = Arc::new(ManualClock::default());
    let strategy: Box<dyn Strategy> = Box::new(strategy);
    let options = SchedulerOptions { strategy, limits: eager(), clock, ..Default::default() };
    Scheduler::new(Arc::clone(store), options)
}

fn job(store: &Arc<MemoryStore>) -> Job<MemoryStore> {
    let victims = store.stats().into_iter().filter(|segment| segment.sealed).collect();
    Job::new(Arc::clone(store), victims, Reason::Manual, eager(), Arc::new(Unpaced))
}

/// 40 keys written three times in different orders, some deleted, some large, some expired: all there is in one store.
fn updated_store() -> Arc<MemoryStore> {
    let store = MemoryStore::default();
    for round in 0..3u8 {
        for n in 0..40u8 {
            let key = [b'k', n.wrapping_mul(7 + round) % 40];
            match n {
                5 | 6 => store.delete(&key),
                8 => store.put_with_ttl(&key, &[round; 20], 1_000),
                _ => store.put(&key, &[round; 20]),
            }
        }
        store.pass_ms(2_000);
    }
    store.put(b"large", &[1; 150]);
    store.seal_active();
    Arc::new(store)
}

#[test]
fn compaction_keeps_every_live_record_and_frees_the_garbage() {
    let store = updated_store();
    let before = store.contents();
    let scheduler = scheduler(&store, Chain::default());
    let summary = scheduler.compact().expect("nothing fails");
    store.check_liveness();
    assert_eq!(store.contents(), before);
    assert_eq!(store.contents_after_crash(), before);
    assert!(summary.freed_bytes() > 0 && summary.jobs > 0, "{summary:?}");
    assert_eq!(store.space_amplification(), 1.0);
    let stats = scheduler.stats();
    assert_eq!((stats.jobs, stats.output_bytes), (summary.jobs, summary.copied_bytes));
    assert_eq!(stats.freed_bytes, summary.freed_bytes());
    assert_eq!(stats.jobs_by_reason.iter().sum::<u64>(), stats.jobs);
    assert!((stats.write_amplification(summary.copied_bytes) - 2.0).abs() < 1e-9);
}

#[test]
fn outputs_are_sorted_by_key_one_class_older_and_large_values_apart() {
    let store = updated_store();
    let newest = *store.segment_ids().last().expect("there are segments");
    let mut job = job(&store);
    while !matches!(job.step().expect("nothing fails"), Progress::Done(_)) {}
    let outputs: Vec<_> = store.segment_ids().into_iter().filter(|&id| id > newest).collect();
    assert!(outputs.len() >= 3, "several outputs: by size and by stream");
    for &output in &outputs {
        let keys = store.keys_of(output);
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(store.origin_of(output).class, AgeClass::SurvivedOnce);
        assert_eq!(store.origin_of(output).created, newest, "the age of the youngest victim");
    }
    let large = outputs.iter().filter(|&&output| store.origin_of(output).large).count();
    assert_eq!(large, 1);
}

#[test]
fn a_write_between_read_and_relocate_wins_over_the_copy() {
    let store = updated_store();
    let key = store.keys_of(1)[0].clone();
    store.put(&key, b"early");
    store.seal_active();
    let victims: Vec<_> = store.stats().into_iter().filter(|s| s.sealed).collect();
    let limits = eager();
    let mut job = Job::new(Arc::clone(&store), victims, Reason::Manual, limits, Arc::new(Unpaced));
    while job.stage() != Stage::Relocate {
        job.step().expect("nothing fails");
    }
    store.put(&key, b"late");
    let report = loop {
        if let Progress::Done(report) = job.step().expect("nothing fails") {
            break report;
        }
    };
    assert_eq!(report.records_not_moved, 1);
    assert_eq!(store.contents()[&key], b"late");
    store.check_liveness();
}

#[test]
fn a_failure_of_any_call_loses_nothing_and_its_repetition_finishes_the_work() {
    let (calls, copied_bytes) = {
        let store = updated_store();
        let summary = scheduler(&store, Chain::default()).compact().expect("nothing fails");
        (store.calls(), summary.copied_bytes)
    };
    assert!(calls > 100);
    for (fail_at, late) in (0..calls).flat_map(|n| [(n, false), (n, true)]) {
        let store = updated_store();
        let before = store.contents();
        let scheduler = scheduler(&store, Chain::default());
        store.fail_late.store(late, SeqCst);
        store.fail_after(fail_at);
        let mut compactor = scheduler.compactor();
        let mut failures = 0;
        loop {
            match compactor.step() {
                Ok(Step::Again) => {}
                Ok(_) => break,
                Err(Injected(_)) => {
                    failures += 1;
                    assert_eq!(store.contents(), before, "call {fail_at} failed, late: {late}");
                    assert_eq!(store.contents_after_crash(), before, "crash at call {fail_at}");
                }
            }
        }
        assert_eq!(failures, 1, "call {fail_at}");
        assert_eq!(scheduler.stats().output_bytes, copied_bytes, "nothing is copied twice");
        store.check_liveness();
        assert_eq!(store.contents(), before, "after call {fail_at} was repeated");
        assert_eq!(store.space_amplification(), 1.0, "call {fail_at}");
    }
}

#[test]
fn a_stop_before_any_step_leaves_the_store_whole_and_a_published_job_finished() {
    let (mut given_up, mut finished) = (0, 0);
    for steps in 0.. {
        let store = updated_store();
        let before = store.contents();
        let scheduler = scheduler(&store, Greedy);
        let mut compactor = scheduler.compactor();
        let ended = (0..steps).any(|_| compactor.step() != Ok(Step::Again));
        Work::stop(&mut compactor);
        drop(compactor);
        store.check_liveness();
        assert_eq!(store.contents(), before, "stopped after {steps} steps");
        assert_eq!(store.contents_after_crash(), before, "stopped after {steps} steps");
        given_up += scheduler.stats().jobs_given_up;
        finished += scheduler.stats().jobs;
        scheduler.compact().expect("nothing fails");
        assert_eq!(store.space_amplification(), 1.0, "leases are given back");
        if ended {
            break;
        }
    }
    assert!(given_up > 10 && finished > 10, "{given_up} {finished}");
}

#[test]
fn a_published_job_whose_compactor_goes_is_finished_by_the_next_one() {
    let store = updated_store();
    let before = store.contents();
    let scheduler = scheduler(&store, Greedy);
    let mut compactor = scheduler.compactor();
    while store.is_at_rest() {
        compactor.step().expect("nothing fails");
    }
    drop(compactor);
    assert_eq!(scheduler.stats().jobs, 0);
    assert_eq!(store.contents(), before, "victims can be read until they are retired");
    scheduler.compact().expect("nothing fails");
    store.check_liveness();
    assert_eq!(store.contents(), before);
    assert_eq!(scheduler.stats().jobs_given_up, 0);
}

#[test]
fn a_segment_that_always_fails_does_not_keep_the_others_from_being_reclaimed() {
    let store = updated_store();
    let clock = Arc::new(ManualClock::default());
    let mut limits = eager();
    limits.segments_max = 1;
    let options = SchedulerOptions {
        strategy: Box::new(Greedy),
        limits,
        clock: clock.clone(),
        ..Default::default()
    };
    let scheduler = Scheduler::new(Arc::clone(&store), options);
    let mut compactor = scheduler.compactor();
    let mut failures = 0;
    for _ in 0..cortenkv_compaction::ATTEMPTS_MAX {
        // Looking for a job is a call, too, the first time.
        store.fail_after(u64::from(failures == 0));
        failures += u32::from(compactor.step().is_err());
    }
    store.fail_never();
    assert_eq!(failures, cortenkv_compaction::ATTEMPTS_MAX);
    assert_eq!(scheduler.stats().jobs_given_up, 1);
    while compactor.step() == Ok(Step::Again) {}
    assert!(scheduler.stats().jobs > 3 && store.space_amplification() > 1.0);
    clock.advance(cortenkv_compaction::SHUN);
    while compactor.step() == Ok(Step::Again) {}
    assert_eq!(store.space_amplification(), 1.0, "it is tried again later");
}

// A damaged segment costs one attempt, takes nothing else with it, and is no debt that writers would have to wait for.
#[test]
fn a_damaged_segment_is_left_alone_for_good_and_the_others_are_not() {
    let store = updated_store();
    let damaged = store.segment_ids()[1];
    let scheduler = scheduler(&store, Greedy);
    store.spoil(damaged, Verdict::LeaveAlone(damaged));
    let mut compactor = scheduler.compactor();
    let failures = (0..1_000).filter(|_| compactor.step().is_err()).count();
    assert_eq!(failures, 1);
    assert_eq!(scheduler.stats().jobs_given_up, 1);
    assert!(store.segment_ids().contains(&damaged) && scheduler.stats().jobs > 0);
    let others = store.stats().into_iter().filter(|it| it.id != damaged && it.sealed);
    assert_eq!(others.map(|it| it.garbage_bytes()).sum::<u64>(), 0);
    assert_eq!(scheduler.stats().debt_bytes, 0);
    assert_eq!(scheduler.compact_segments(&[damaged]), Ok(None));
}

#[test]
fn the_store_says_whether_a_job_is_given_up_and_whether_the_next_comes_at_once() {
    for verdict in [Verdict::GiveUp, Verdict::PickAnew] {
        let store = updated_store();
        let before = store.contents();
        let scheduler = scheduler(&store, Greedy);
        store.spoil(store.segment_ids()[1], verdict);
        let mut compactor = scheduler.compactor();
        let told = (0..100).filter(|_| compactor.step().is_err()).count() as u64;
        let stats = scheduler.stats();
        assert!(stats.failures > 5 && stats.failures == stats.jobs_given_up, "{stats:?}");
        assert_eq!(told, if verdict == Verdict::GiveUp { stats.failures } else { 0 });
        drop(compactor);
        store.mend();
        scheduler.compact().expect("nothing fails, and nothing is held against the victims");
        assert!(store.contents() == before && store.space_amplification() == 1.0);
    }
}

#[test]
fn a_job_takes_no_more_than_there_is_room_for() {
    let jobs = |room_bytes| {
        let store = updated_store();
        store.set_room(room_bytes);
        let summary = scheduler(&store, Greedy).compact().expect("nothing fails");
        assert_eq!(store.space_amplification(), 1.0);
        summary.jobs
    };
    assert!(jobs(300) > jobs(u64::MAX), "{} {}", jobs(300), jobs(u64::MAX));
}

#[test]
fn two_compactors_never_share_a_segment() {
    let store = updated_store();
    let before = store.contents();
    let mut options = eager();
    options.segments_max = 2;
    let scheduler = Scheduler::new(
        Arc::clone(&store),
        SchedulerOptions { strategy: Box::new(Greedy), limits: options, ..Default::default() },
    );
    // A victim that is in two jobs would be retired twice, which the store checks.
    let mut compactors = [scheduler.compactor(), scheduler.compactor()];
    loop {
        let steps = compactors.each_mut().map(|it| it.step().expect("nothing fails"));
        if steps.iter().all(|step| *step != Step::Again) {
            break;
        }
    }
    store.check_liveness();
    assert_eq!(store.contents(), before);
    assert_eq!(store.space_amplification(), 1.0);
}

#[test]
fn regression_outputs_that_the_index_does_not_point_at_yet_are_left_alone() {
    let store = updated_store();
    let before = store.contents();
    let scheduler = scheduler(&store, Chain::default());
    let mut first = scheduler.compactor();
    let newest = |store: &MemoryStore| *store.segment_ids().last().expect("there are segments");
    let last_input = newest(&store);
    while newest(&store) == last_input {
        first.step().expect("nothing fails");
    }
    // Published: to the accounting of a store that counts by the index, the outputs are all garbage now.
    assert_eq!(scheduler.compact_segments(&[newest(&store)]), Ok(None));
    while first.step().expect("nothing fails") == Step::Again {}
    store.check_liveness();
    assert_eq!(store.contents(), before);
    assert!(scheduler.compact_segments(&store.segment_ids()).expect("nothing fails").is_some());
}

#[test]
fn named_segments_are_compacted_whatever_the_strategy_says_or_not_at_all() {
    let store = updated_store();
    let scheduler = scheduler(&store, Never);
    assert_eq!(scheduler.compact().expect("nothing fails").jobs, 0);
    assert_eq!(scheduler.compact_segments(&[1, 99]), Ok(None));
    assert_eq!(scheduler.compact_segments(&[]), Ok(None));
    let summary = scheduler.compact_segments(&[2, 1]).expect("nothing fails").expect("free");
    assert_eq!((summary.jobs, summary.segments_retired), (1, 2));
    assert_eq!(scheduler.stats().jobs_for(Reason::Manual), 1);
    assert!(!store.segment_ids().contains(&1));
}

#[test]
fn a_paced_job_says_how_long_to_wait_and_does_nothing_until_then() {
    let store = updated_store();
    let clock = Arc::new(ManualClock::default());
    let pacer = Arc::new(TokenBucket::new(100, 50, clock.clone()));
    let victims = store.stats().into_iter().filter(|segment| segment.sealed).take(4).collect();
    let mut job = Job::new(Arc::clone(&store), victims, Reason::Manual, eager(), pacer);
    let (mut moved, mut waited) = (0, Duration::ZERO);
    loop {
        let calls = store.calls();
        match job.step().expect("nothing fails") {
            Progress::Worked { bytes, .. } => moved += bytes,
            Progress::Wait(wait) => {
                assert_eq!(store.calls(), calls);
                waited += wait;
                clock.advance(wait);
            }
            Progress::Done(_) => break,
        }
    }
    // What is charged last is not waited for, and the burst comes for nothing.
    let paid = waited.as_secs_f64() * 100.0;
    assert!(moved > 1_000 && paid <= moved as f64 && paid >= moved as f64 * 0.5, "{paid} {moved}");
}

#[test]
#[should_panic(expected = "segment 1 was picked twice")]
fn a_victim_named_twice_is_a_panic() {
    let store = updated_store();
    let victims = vec![store.stats()[0]; 2];
    Job::new(store, victims, Reason::Manual, eager(), Arc::new(Unpaced));
}

#[test]
fn a_strategy_that_is_never_satisfied_does_not_wear_out_the_disk() {
    /// Rewrites the oldest segment, whatever it holds.
    struct Restless;
    impl Strategy for Restless {
        fn pick(&self, segments: &[SegmentStats], _: &Limits) -> Choice {
            let oldest = segments.iter().find(|segment| segment.sealed);
            oldest.map_or(Choice::Nothing, |segment| Choice::Compact {
                segments: vec![segment.id],
                reason: Reason::Garbage,
            })
        }
    }
    let store = Arc::new(MemoryStore::default());
    (0..40u8).for_each(|n| store.put(&[n], b"never overwritten"));
    store.seal_active();
    let scheduler = scheduler(&store, Restless);
    assert_eq!(scheduler.compact().expect("nothing fails").jobs, 4);
    let mut compactor = scheduler.compactor();
    while compactor.step() == Ok(Step::Again) {}
    assert_eq!(scheduler.stats().jobs, 8, "it waits after a few, and then tries again");
}
