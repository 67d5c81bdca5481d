//! The accounting of live bytes, alone and under contention.

use std::thread;

use cortenkv_compaction::{LivenessTable, Totals};

#[test]
fn live_bytes_follow_additions_and_deaths() {
    let table = LivenessTable::new();
    assert_eq!(table.space_amplification(), 1.0);
    table.add(1, 100);
    table.add(1, 50);
    table.add(2, 50);
    assert!(table.dead(1, 100));
    assert_eq!(table.live_ratio(1), Some(50.0 / 150.0));
    assert_eq!(table.live_ratio(2), Some(1.0));
    assert_eq!(table.live_ratio(3), None);
    assert_eq!(table.space_amplification(), 2.0);
    let sums = Totals { segments: 2, total_bytes: 200, live_bytes: 100, overcounted_bytes: 0 };
    assert_eq!(table.totals(), sums);
}

#[test]
fn a_retired_segment_leaves_the_sums_and_takes_no_more_deaths() {
    let table = LivenessTable::new();
    table.add(1, 100);
    table.add(2, 10);
    table.dead(1, 60);
    let last = table.retire(1).expect("was there");
    assert_eq!((last.total_bytes, last.live_bytes), (100, 40));
    assert_eq!(table.retire(1), None);
    assert!(!table.dead(1, 40));
    assert_eq!((table.totals().total_bytes, table.space_amplification()), (10, 1.0));
}

#[test]
fn a_death_told_twice_is_reported_and_not_hidden() {
    let table = LivenessTable::new();
    table.add(1, 100);
    table.dead(1, 100);
    table.dead(1, 30);
    assert_eq!(table.totals().overcounted_bytes, 30);
    assert_eq!(table.totals().live_bytes, 0);
    assert_eq!(table.get(1).expect("there").garbage_bytes(), 100);
}

#[test]
fn stats_name_the_active_segment() {
    let table = LivenessTable::new();
    (1..=3).for_each(|segment| table.add(segment, 8));
    let sealed: Vec<_> = table.stats(|id| id != 3).iter().map(|s| (s.id, s.sealed)).collect();
    assert_eq!(sealed, [(1, true), (2, true), (3, false)]);
}

#[test]
fn stress_counts_are_exact_and_never_beyond_what_was_added() {
    const RECORDS: u64 = 20_000;
    let table = LivenessTable::new();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..3u64)
            .map(|worker| {
                let table = &table;
                scope.spawn(move || {
                    for n in 0..RECORDS {
                        let segment = n % 7;
                        table.add(segment, n);
                        if n % 3 != worker {
                            assert!(table.dead(segment, n));
                        }
                    }
                })
            })
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            let totals = table.totals();
            assert_eq!(totals.overcounted_bytes, 0, "a death was seen before its addition");
            assert!(totals.live_bytes <= totals.total_bytes);
        }
    });
    let all: u64 = (0..RECORDS).sum();
    let sums = Totals { segments: 7, total_bytes: 3 * all, live_bytes: all, overcounted_bytes: 0 };
    assert_eq!(table.totals(), sums);
}
