//! The arms do the work that they say: every record is there again, and syncs are as many as promised.

#![expect(clippy::disallowed_methods, reason = "files are damaged on purpose")]

use std::time::Duration;

use cortenkv_bench::by_hand::ByHand;
use cortenkv_bench::cortenkv_log::CortenkvLog;
use cortenkv_bench::driver::{self, Load, Simple, Until};
use cortenkv_bench::log_cases::{RECORD_BYTES, Records};
use cortenkv_bench::log_store::{Class, DiskCounts, LogKind};
use cortenkv_bench::naive::Naive;
use cortenkv_wal::Durability;

const RECORDS: u64 = 300;

/// Appends by some threads, and closes.
fn fill(kind: &dyn LogKind, dir: &std::path::Path, threads: usize) -> Option<DiskCounts> {
    let log = kind.open(dir).unwrap();
    let before = log.disk_counts();
    let load = Load::closed(threads, "append", Duration::ZERO, Until::Operations(RECORDS));
    driver::run(&load, |thread| {
        let mut writer = log.writer()?;
        let mut records = Records::new(7, thread, RECORD_BYTES);
        Ok(Box::new(Simple(move || writer.append(records.advance()))))
    })
    .unwrap();
    let counts = log.disk_counts().zip(before).map(|(after, before)| after.since(&before));
    log.close().unwrap();
    counts
}

fn kinds() -> Vec<Box<dyn LogKind>> {
    vec![
        Box::new(ByHand::Buffered { buffer_bytes: 1000 }),
        Box::new(ByHand::Written),
        Box::new(ByHand::SyncedGrowing),
        Box::new(ByHand::SyncedPrewritten { ring_bytes: 1 << 20 }),
        Box::new(Naive { ring_bytes: 1 << 20 }),
        Box::new(CortenkvLog::group()),
        Box::new(CortenkvLog::new("none", Durability::None)),
    ]
}

#[test]
fn every_arm_gives_back_every_record() {
    for kind in kinds() {
        for threads in [1, 3] {
            let dir = tempfile::tempdir().unwrap();
            fill(kind.as_ref(), dir.path(), threads);
            let (replayed, _open) = kind.replay(dir.path()).unwrap();
            let name = kind.name();
            assert_eq!(replayed.records, RECORDS, "{name}");
            assert_eq!(replayed.payload_bytes, RECORDS * RECORD_BYTES as u64, "{name}");
        }
    }
}

#[test]
fn synced_arms_sync_and_the_naive_one_syncs_each_record() {
    for kind in kinds().iter().filter(|kind| kind.promise().class == Class::Synced) {
        let dir = tempfile::tempdir().unwrap();
        let alone = fill(kind.as_ref(), dir.path(), 1).unwrap();
        // One writer that waits for each sync cannot share any.
        assert!(alone.fsyncs >= RECORDS, "{}: {alone:?}", kind.name());
    }
    let dir = tempfile::tempdir().unwrap();
    let naive = fill(&Naive { ring_bytes: 1 << 20 }, dir.path(), 8).unwrap();
    assert_eq!((naive.fsyncs, naive.writes), (RECORDS, RECORDS)); // D5, P1
}

#[test]
fn writers_of_a_shared_sync_use_fewer_syncs_than_records() {
    let dir = tempfile::tempdir().unwrap();
    let shared = fill(&ByHand::SyncedGrowing, dir.path(), 16).unwrap();
    assert!(shared.fsyncs < RECORDS, "{shared:?}");
}

#[test]
fn a_ring_goes_round_without_growing() {
    let dir = tempfile::tempdir().unwrap();
    let ring = ByHand::SyncedPrewritten { ring_bytes: 8192 };
    fill(&ring, dir.path(), 1);
    assert_eq!(std::fs::metadata(dir.path().join("by-hand.log")).unwrap().len(), 8192);
}

#[test]
fn damage_in_a_log_by_hand_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fill(&ByHand::Written, dir.path(), 1);
    let path = dir.path().join("by-hand.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = ByHand::Written.replay(dir.path()).err().unwrap();
    assert!(error.to_string().contains("by-hand.log"), "{error}");
}

#[test]
fn records_replay_from_the_seed_and_differ_from_each_other() {
    let draw = |seed, thread| {
        let mut records = Records::new(seed, thread, RECORD_BYTES);
        [records.advance().to_vec(), records.advance().to_vec()]
    };
    assert_eq!(draw(1, 0), draw(1, 0));
    assert_ne!(draw(1, 0), draw(2, 0));
    assert_ne!(draw(1, 0), draw(1, 1));
    assert_ne!(draw(1, 0)[0], draw(1, 0)[1]);
}
