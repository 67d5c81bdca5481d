//! What the accounting promises, alone and under threads.

use std::thread;

use cortenkv_compaction::{AgeClass, LivenessTable, Origin, RecordInfo, Totals};

fn put(bytes: u64) -> RecordInfo {
    RecordInfo::put(bytes)
}

#[test]
fn live_bytes_follow_additions_and_deaths() {
    let table = LivenessTable::new();
    assert_eq!(table.space_amplification(), 1.0);
    table.add(1, put(100));
    table.add(1, put(50));
    table.add(2, put(50));
    assert!(table.dead(1, put(100)));
    assert_eq!(table.live_ratio(1), Some(50.0 / 150.0));
    assert_eq!(table.live_ratio(2), Some(1.0));
    assert_eq!(table.live_ratio(3), None);
    assert_eq!(table.space_amplification(), 2.0);
    let sums = Totals { segments: 2, total_bytes: 200, live_bytes: 100, overcounted_bytes: 0 };
    assert_eq!(table.totals(), sums);
}

#[test]
fn records_tombstones_and_expiry_are_counted_apart() {
    let table = LivenessTable::new();
    let mut origin = Origin::new(7);
    (origin.created_ms, origin.class, origin.large) = (1_000_000, AgeClass::SurvivedOnce, true);
    assert!(table.create(1, origin));
    assert!(!table.create(1, Origin::new(8)), "a segment is created once");
    table.add(1, put(10));
    table.add(1, RecordInfo::tombstone(3));
    table.add(1, RecordInfo::tombstone(4));
    table.add(1, put(20).expiring_at(1_060_000));
    table.add(1, put(30).expiring_at(9_000_000));
    table.dead(1, RecordInfo::tombstone(4));
    let stats = table.get(1, 0).expect("there");
    assert_eq!((stats.created, stats.class, stats.large), (7, AgeClass::SurvivedOnce, true));
    assert_eq!((stats.total_bytes, stats.live_bytes, stats.live_records), (67, 63, 4));
    assert_eq!((stats.tombstones, stats.tombstone_bytes), (1, 3));
    assert_eq!((stats.expiring_bytes, stats.earliest_expiry_ms), (50, Some(1_060_000)));
    assert_eq!(stats.expired_bytes, 0);
    assert_eq!(table.get(1, 1_100_000).expect("there").expired_bytes, 20);
    table.dead(1, put(20).expiring_at(1_060_000));
    let stats = table.get(1, 1_100_000).expect("there");
    assert_eq!((stats.expired_bytes, stats.expiring_bytes), (0, 30));
}

#[test]
fn tombstones_wait_until_what_blocks_them_is_retired() {
    let table = LivenessTable::new();
    table.add(1, put(100));
    table.add(2, RecordInfo::tombstone(8));
    table.add(2, RecordInfo::tombstone(8));
    table.wait(2, 1, 16);
    table.wait(2, 99, 16);
    let stats = table.stats(0, |_| true);
    assert_eq!((stats[0].blocks_bytes, stats[0].waiting_bytes), (16, 0));
    assert_eq!((stats[1].waiting_bytes, stats[1].free_tombstone_bytes()), (16, 0));
    table.dead(2, RecordInfo::tombstone(8));
    assert_eq!(table.get(2, 0).expect("there").waiting_bytes, 8, "no more than there are");
    table.retire(1);
    assert_eq!(table.get(2, 0).expect("there").free_tombstone_bytes(), 8);
}

#[test]
fn a_retired_segment_leaves_the_sums_and_takes_no_more_deaths() {
    let table = LivenessTable::new();
    table.add(1, put(100));
    table.add(2, put(10));
    table.dead(1, put(60));
    let last = table.retire(1).expect("was there");
    assert_eq!((last.total_bytes, last.live_bytes), (100, 40));
    assert_eq!(table.retire(1), None);
    assert!(!table.dead(1, put(40)));
    assert_eq!((table.totals().total_bytes, table.space_amplification()), (10, 1.0));
}

#[test]
fn a_death_told_twice_is_reported_and_not_hidden() {
    let table = LivenessTable::new();
    table.add(1, put(100));
    table.dead(1, put(100));
    table.dead(1, put(30));
    assert_eq!(table.totals().overcounted_bytes, 30);
    assert_eq!(table.totals().live_bytes, 0);
    assert_eq!(table.get(1, 0).expect("there").garbage_bytes(), 100);
}

#[test]
fn stats_name_the_active_segment() {
    let table = LivenessTable::new();
    (1..=3).for_each(|segment| table.add(segment, put(8)));
    let sealed: Vec<_> = table.stats(0, |id| id != 3).iter().map(|s| (s.id, s.sealed)).collect();
    assert_eq!(sealed, [(1, true), (2, true), (3, false)]);
}

#[test]
fn what_is_exported_is_what_is_loaded_and_counting_goes_on() {
    let table = LivenessTable::new();
    for n in 0..1_000u64 {
        let (segment, record) = (n % 5, put(n).expiring_at(n * 100_000));
        match n % 3 {
            0 => table.add(segment, put(n)),
            1 => table.add(segment, record),
            _ => table.add(segment, RecordInfo::tombstone(n)),
        }
        if n % 7 == 1 && n % 3 == 1 {
            table.dead(segment, record);
        }
    }
    let copy = LivenessTable::new();
    copy.add(3, put(77));
    table.export().iter().for_each(|counts| assert!(copy.load(counts)));
    assert_eq!(copy.export(), table.export());
    let now_ms = 40_000_000;
    assert_eq!(copy.stats(now_ms, |_| true), table.stats(now_ms, |_| true));
    for table in [&table, &copy] {
        table.dead(4, put(4).expiring_at(400_000));
    }
    assert_eq!(copy.stats(now_ms, |_| true), table.stats(now_ms, |_| true));
}

#[test]
fn numbers_that_contradict_themselves_are_not_loaded() {
    let table = LivenessTable::new();
    table.add(1, put(10).expiring_at(5));
    let good = table.export().remove(0);
    let (mut live, mut steps) = (good.clone(), good.clone());
    live.live.bytes = 11;
    steps.expiry_bytes = vec![0; 10_000];
    assert!(!table.load(&live) && !table.load(&steps));
    assert_eq!(table.export(), [good]);
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
                        table.add(segment, put(n));
                        if n % 3 != worker {
                            assert!(table.dead(segment, put(n)));
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
    assert!(table.stats(0, |_| true).iter().all(|stats| stats.live_records > 0));
}
