//! U12: `verify` finds nothing in an intact database, whatever goes on meanwhile, and every damage in a broken one.

#![expect(clippy::disallowed_methods, reason = "damages the files of a database")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use cortenkv::segments::{SegmentKind, SegmentState};
use cortenkv::verify::FindingKind;
use cortenkv::{Builder, Db, Durability, ManualClock, PutOptions, VerifyReport};

fn builder(dir: &Path) -> Builder {
    Db::builder(dir).durability(Durability::None).segment_bytes(64 << 10)
}

fn key(n: u32) -> [u8; 8] {
    u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()
}

fn value(n: u32, version: u32) -> Vec<u8> {
    format!("{n} {version} ").into_bytes().repeat(20)
}

/// A database with segments of both kinds, a second keyspace, batches, tombstones and values that end.
fn fill(db: &Db, clock: &ManualClock) {
    let other = db.keyspace("other").unwrap();
    for version in 0..4 {
        for n in 0..400 {
            db.put(key(n), value(n, version)).unwrap();
        }
    }
    for n in 0..100 {
        let mut batch = db.batch();
        batch.put(&other, key(n), value(n, 9));
        batch.delete(db, key(n * 3));
        batch.commit().unwrap();
    }
    db.compact().unwrap();
    let soon = PutOptions::new().ttl(Duration::from_secs(10));
    for n in 0..50 {
        other.put_with(key(n), value(n, 5), soon).unwrap();
        db.delete(key(n)).unwrap();
    }
    clock.advance(Duration::from_secs(20));
    for n in 0..400 {
        db.put(key(1_000 + n), value(n, 0)).unwrap();
    }
    db.sync().unwrap();
}

fn open(dir: &Path) -> (Db, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at_wall_ms(1_700_000_000_000));
    let shared: Arc<ManualClock> = Arc::clone(&clock);
    (builder(dir).clock(shared).manual().build().unwrap(), clock)
}

fn intact(db: &Db) -> VerifyReport {
    let report = db.verify().unwrap();
    assert!(report.is_intact(), "{report:#?}");
    report
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect();
    files.sort();
    files
}

// Rule 11, C3
#[test]
fn nothing_is_found_in_an_intact_database_through_compactions_and_reopenings() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let (db, clock) = open(&dir);
    fill(&db, &clock);
    let before = intact(&db);
    assert!(before.is_quiet && before.is_ordered, "{before:?}");
    assert!(before.tombstones > 0 && before.records > before.keys + before.tombstones);
    assert_eq!(before.keys, db.stats().keys);
    db.close().unwrap();
    drop(db);
    let (db, clock) = open(&dir);
    clock.advance(Duration::from_secs(60));
    let reopened = intact(&db);
    assert!(reopened.is_quiet, "{reopened:?}");
    assert_eq!((reopened.keys, reopened.tombstones), (before.keys, before.tombstones));
    assert_eq!(reopened.keyspaces, before.keyspaces);
    db.compact().unwrap();
    assert!(intact(&db).is_quiet);
    for id in db.settled_segments().unwrap() {
        db.compact_segments(&[id]).unwrap();
        intact(&db);
    }
}

#[test]
fn segments_are_listed_with_what_lives_in_them() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let (db, clock) = open(&dir);
    fill(&db, &clock);
    let segments = db.segments().unwrap();
    let named: BTreeSet<String> = segments.iter().map(|segment| segment.file.clone()).collect();
    assert!(named.iter().all(|file| dir.join(file).exists()), "{named:?}");
    let kind = |kind| segments.iter().filter(move |segment| segment.kind == kind);
    assert!(kind(SegmentKind::Log).count() > 1 && kind(SegmentKind::Compacted).count() > 0);
    assert!(kind(SegmentKind::Compacted).all(|segment| segment.survived == 1));
    let active: Vec<_> =
        segments.iter().filter(|segment| segment.state == SegmentState::Active).collect();
    assert_eq!(active.len(), 1, "{segments:#?}");
    let figures = segments.iter().map(|segment| segment.figures.unwrap());
    let (record_bytes, live_bytes) = figures.fold((0, 0), |(records, live), figures| {
        (records + figures.record_bytes, live + figures.live_bytes)
    });
    let stats = db.stats().compaction;
    assert_eq!((record_bytes, live_bytes), (stats.record_bytes, stats.live_bytes));
    assert!(segments.iter().all(|segment| segment.seq_min <= segment.seq_max), "{segments:#?}");
    let settled: Vec<u64> = db.settled_segments().unwrap();
    let listed = segments.iter().filter(|segment| segment.state == SegmentState::Settled);
    assert_eq!(listed.map(|segment| segment.id).collect::<Vec<_>>(), settled);
}

/// Flips a bit in the middle of a file, while it is open.
fn flip(path: &Path) -> u64 {
    let mut bytes = fs::read(path).unwrap();
    let at = 4096 + 3_000;
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
    at as u64
}

#[test]
fn every_damaged_file_is_named_with_its_place() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let (db, clock) = open(&dir);
    fill(&db, &clock);
    let log = files(&dir, ".seg").into_iter().rev().nth(1).unwrap();
    let damaged = [files(&dir, ".cseg")[0].clone(), log];
    let places: Vec<u64> = damaged.iter().map(|path| flip(path)).collect();
    let report = db.verify().unwrap();
    assert!(!report.is_intact());
    for (path, flipped_at) in damaged.iter().zip(places) {
        let of_file = report.findings.iter().filter(|finding| {
            finding.kind == FindingKind::Damage && finding.file.as_ref() == Some(path)
        });
        let offsets: Vec<u64> = of_file.map(|finding| finding.offset.unwrap()).collect();
        assert!(!offsets.is_empty(), "{}: {report:#?}", path.display());
        let is_near = |offset: &u64| *offset <= flipped_at && flipped_at - offset < 1 << 10;
        assert!(offsets.iter().any(is_near), "{offsets:?} {flipped_at}");
        let distinct: BTreeSet<&u64> = offsets.iter().collect();
        assert_eq!(distinct.len(), offsets.len(), "one place is told once");
    }
}

#[test]
fn files_that_contradict_the_manifest_are_found() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let (db, clock) = open(&dir);
    fill(&db, &clock);
    intact(&db);
    let compacted = files(&dir, ".cseg")[0].clone();
    let log = files(&dir, ".seg")[0].clone();
    let stranger = dir.join("0000000000000000.seg");
    assert!(!stranger.exists());
    fs::write(&stranger, b"").unwrap();
    fs::remove_file(&compacted).unwrap();
    fs::remove_file(&log).unwrap();
    let manifest = files(&dir, "")
        .into_iter()
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("MANIFEST-"))
        .unwrap();
    flip_first(&manifest);
    let report = db.verify().unwrap();
    let found = report.findings.iter().filter(|finding| finding.kind == FindingKind::Files);
    let found: BTreeSet<PathBuf> = found.map(|finding| finding.file.clone().unwrap()).collect();
    let expected = BTreeSet::from([compacted, log, manifest, stranger]);
    let found: BTreeSet<PathBuf> = found.intersection(&expected).cloned().collect();
    assert_eq!(found, expected, "{report:#?}");
}

fn flip_first(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[20] ^= 1;
    fs::write(path, bytes).unwrap();
}

// Rule 11 beside writers, deletes, batches and compaction in the background.
#[test]
fn nothing_is_found_while_others_write_and_compact() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = builder(&dir).build().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        for writer in 0..2_u32 {
            let db = db.clone();
            scope.spawn(move || {
                let mut n = 0_u32;
                while !stop.load(Relaxed) {
                    n = n.wrapping_add(1);
                    let k = key((n * 7 + writer) % 800);
                    match n % 5 {
                        0 => db.delete(k).map(drop).unwrap(),
                        1 => {
                            let mut batch = db.batch();
                            batch.put(&db, k, value(n, writer));
                            batch.put(&db, key(n % 800), value(n, writer));
                            batch.commit().map(drop).unwrap();
                        }
                        _ => db.put(k, value(n, writer)).map(drop).unwrap(),
                    }
                }
            });
        }
        let compactor = db.clone();
        scope.spawn(move || {
            while !stop.load(Relaxed) {
                compactor.compact().unwrap();
            }
        });
        let mut reports: Vec<VerifyReport> = Vec::new();
        while reports.len() < 20 || (db.stats().compaction.jobs < 20 && reports.len() < 5_000) {
            reports.push(db.verify().unwrap());
        }
        stop.store(true, Relaxed);
        for report in &reports {
            assert!(report.is_intact(), "{report:#?}");
        }
    });
    assert!(db.stats().compaction.jobs >= 20, "{:?}", db.stats().compaction);
    intact(&db);
}
