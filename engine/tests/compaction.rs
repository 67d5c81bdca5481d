//! C3, U3: segments full of garbage go, and nothing that lives goes with them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cortenkv::vfs::{OsVfs, SimVfs, Vfs};
use cortenkv::{Builder, Db, Durability, ManualClock, PutOptions};

fn builder(dir: &Path) -> Builder {
    Db::builder(dir).durability(Durability::None).segment_bytes(64 << 10).manual()
}

fn key(n: u32) -> [u8; 8] {
    (u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_be_bytes()
}

fn value(n: u32, version: u32) -> Vec<u8> {
    format!("{n} {version} ").into_bytes().repeat(20)
}

fn content(db: &Db) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut content = BTreeMap::new();
    for entry in db.iter() {
        let (key, value) = entry.unwrap();
        assert_eq!(db.get(&key).unwrap().as_deref(), Some(&value[..]));
        content.insert(key.to_vec(), value.to_vec());
    }
    content
}

/// Bytes of the segment files.
fn segment_bytes(dir: &Path) -> u64 {
    let files = OsVfs::new().list(dir).unwrap();
    let is_segment = |name: &str| name.ends_with(".seg") || name.ends_with(".cseg");
    files.iter().filter(|file| is_segment(&file.name)).map(|file| file.len).sum()
}

#[test]
fn overwritten_segments_go_and_what_lives_stays_through_reopenings() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let mut db = builder(&dir).build().unwrap();
    let mut expected = BTreeMap::new();
    for version in 0..10 {
        for n in (0..500).filter(|n| version < 9 || n % 3 != 0) {
            db.put(key(n), value(n, version)).unwrap();
            expected.insert(key(n).to_vec(), value(n, version));
        }
    }
    let before = segment_bytes(&dir);
    let report = db.compact().unwrap();
    assert!(report.jobs > 0 && report.segments_retired > 10, "{report:?}");
    let stats = db.stats().compaction;
    assert!(stats.record_bytes < stats.live_bytes * 5 / 4, "{stats:?}");
    assert!(segment_bytes(&dir) < before / 3, "{} of {before}", segment_bytes(&dir));
    assert_eq!(content(&db), expected);
    for _ in 0..2 {
        db.close().unwrap();
        drop(db);
        db = builder(&dir).build().unwrap();
        assert_eq!(content(&db), expected);
        assert_eq!(db.stats().compaction.live_bytes, stats.live_bytes);
        assert_eq!(db.stats().keys, 500);
    }
}

#[test]
fn deleted_keys_stay_deleted_and_their_tombstones_go_in_the_end() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let mut db = builder(&dir).build().unwrap();
    for n in 0..2_000 {
        db.put(key(n), value(n, 0)).unwrap();
    }
    for n in (0..2_000).filter(|n| n % 20 != 0) {
        db.delete(key(n)).unwrap();
    }
    for round in 0..4 {
        db.compact().unwrap();
        assert_eq!(content(&db).len(), 100, "round {round}");
        db.close().unwrap();
        drop(db);
        db = builder(&dir).build().unwrap();
        assert_eq!(content(&db).len(), 100, "round {round}");
    }
    let stats = db.stats();
    assert_eq!(stats.tombstones, 0, "{:?}", stats.compaction);
    assert!(segment_bytes(&dir) < 400 << 10, "{}", segment_bytes(&dir));
}

// The trap: an expired put that is dropped while it still hides an older one.
#[test]
fn an_expired_value_does_not_bring_the_one_before_it_back() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let clock = Arc::new(ManualClock::at_wall_ms(1_700_000_000_000));
    let open = || {
        let clock: Arc<ManualClock> = Arc::clone(&clock);
        builder(&dir).clock(clock).build().unwrap()
    };
    let mut db = open();
    for n in 0..300 {
        db.put(key(n), value(n, 0)).unwrap();
    }
    db.compact().unwrap();
    let old = db.settled_segments().unwrap();
    let soon = PutOptions::new().ttl(Duration::from_secs(1));
    for n in 0..300 {
        db.put_with(key(n), value(n, 1), soon).unwrap();
    }
    db.put(b"last", b"one").unwrap();
    clock.advance(Duration::from_secs(2));
    assert_eq!(content(&db).len(), 1);
    // Only the segments of the expired values are rewritten: those of the older ones stay.
    settle(&db);
    let newer: Vec<u64> =
        db.settled_segments().unwrap().into_iter().filter(|id| !old.contains(id)).collect();
    assert!(!newer.is_empty());
    assert!(db.compact_segments(&newer).unwrap());
    for _ in 0..3 {
        assert_eq!(content(&db).len(), 1);
        db.close().unwrap();
        drop(db);
        db = open();
        db.compact().unwrap();
    }
    assert_eq!((content(&db).len(), db.stats().tombstones), (1, 0));
}

// C4: small commits are not worth compressing one by one; together they are.
#[test]
fn what_was_written_in_small_commits_is_compressed_in_the_end() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let mut db = builder(&dir).compression(true).build().unwrap();
    let document =
        |n: u32| format!("{{\"city\":\"Graz\",\"country\":\"AT\",\"number\":{n}}}").repeat(4);
    for n in 0..4_000 {
        db.put(key(n), document(n)).unwrap();
    }
    let before = segment_bytes(&dir);
    let report = db.compact().unwrap();
    assert!(report.segments_written > 0);
    assert!(segment_bytes(&dir) < before / 2, "{} of {before}", segment_bytes(&dir));
    assert_eq!(db.compact().unwrap().jobs, 0, "once is enough");
    for compression in [true, false] {
        assert!((0..4_000).all(|n| db.get(key(n)).unwrap().unwrap() == document(n).as_bytes()));
        db.close().unwrap();
        drop(db);
        db = builder(&dir).compression(compression).build().unwrap();
    }
    assert!((0..4_000).all(|n| db.get(key(n)).unwrap().unwrap() == document(n).as_bytes()));
}

// C3: without workers the writers reclaim, in proportion to what they write; nobody calls `compact` or `step`.
#[test]
fn without_workers_writers_keep_the_space_bounded() {
    for (manual, threads) in [(true, 1), (false, 1), (false, 3)] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("db");
        let open = || {
            let builder = Db::builder(&dir).durability(Durability::None).segment_bytes(64 << 10);
            let builder = if manual { builder.manual() } else { builder };
            builder.async_compaction(false).build().unwrap()
        };
        let db = open();
        let keys = 2_000;
        for version in 0..20 {
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let db = &db;
                    scope.spawn(move || {
                        for n in (0..keys).filter(|n| n % threads == thread) {
                            db.put(key(n), value(n, version)).unwrap();
                        }
                    });
                }
            });
            let stats = db.stats().compaction;
            let bytes_max = stats.live_bytes * 5 / 2 + (8 << 16);
            let bytes = segment_bytes(&dir);
            assert!(bytes < bytes_max, "version {version}: {bytes} of {bytes_max}, {stats:?}");
        }
        let stats = db.stats().compaction;
        assert!(stats.jobs > 0 && stats.writer_work_us > 0, "{stats:?}");
        let expected: BTreeMap<_, _> = (0..keys).map(|n| (key(n).to_vec(), value(n, 19))).collect();
        assert_eq!(content(&db), expected);
        db.close().unwrap();
        drop(db);
        let db = open();
        assert_eq!(content(&db), expected);
        assert!(db.verify().unwrap().is_intact());
    }
}

// U11: a job that finds no room is given up or waits, and costs nothing but its try.
#[test]
fn a_full_disk_stops_a_job_and_nothing_else() {
    let sim = SimVfs::new(3);
    let open = || {
        let vfs = Arc::new(sim.clone());
        let builder = builder(Path::new("db")).vfs(vfs).window_bytes(4 << 10);
        builder.build().unwrap()
    };
    let mut db = open();
    let mut expected = BTreeMap::new();
    for version in 0..4 {
        for n in (0..300).filter(|n| version == 0 || n % 3 == version % 3) {
            db.put(key(n), value(n, version)).unwrap();
            expected.insert(key(n).to_vec(), value(n, version));
        }
    }
    db.sync().unwrap();
    let segments = db.settled_segments().unwrap();
    sim.set_capacity(Some(0));
    let refused = db.compact_segments(&segments).unwrap_err();
    assert_eq!(*refused.kind(), cortenkv::ErrorKind::StorageFull, "{refused}");
    assert_eq!(content(&db), expected);
    sim.set_capacity(None);
    assert!(db.compact_segments(&segments).unwrap());
    assert_eq!(content(&db), expected);
    db.close().unwrap();
    drop(db);
    db = open();
    assert_eq!(content(&db), expected);
    assert!(db.verify().unwrap().findings.is_empty());
}

/// Fills the segment that is being written, and makes it durable.
fn settle(db: &Db) {
    for n in 0..400 {
        db.put(b"filler", value(n, 9)).unwrap();
    }
    db.delete(b"filler").unwrap();
    db.sync().unwrap();
    while db.step().unwrap() && !db.settled_segments().unwrap().is_empty() {}
}

// A scan keeps addresses between two entries. Once its slot has another segment, one may lead to a record of the same key that
// nobody is to see yet.
#[test]
fn a_scan_that_rests_shows_nothing_of_a_segment_that_took_a_slot_since() {
    let root = tempfile::tempdir().unwrap();
    let db = builder(&root.path().join("db")).durability(Durability::group()).build().unwrap();
    let at_once = || PutOptions::new().durability(Durability::None);
    let put = |key: &str| db.put_with(key, [1; 100], at_once()).unwrap();
    put("a");
    put("b");
    for _ in 0..50 {
        put("a");
    }
    // Key order knows places of records only once it was loaded.
    db.close().unwrap();
    drop(db);
    let db = builder(&root.path().join("db")).durability(Durability::group()).build().unwrap();
    let mut scan = db.iter();
    assert_eq!(scan.next().unwrap().unwrap().0, "a");
    assert!(db.compact().unwrap().segments_retired > 0);
    while db.step().unwrap() {}
    // These stand where `a` and `b` stood, in another segment in the same slot.
    db.put_with("a", [1; 100], at_once()).unwrap();
    let mut batch = db.batch();
    batch.put(&db, "b", [2; 100]);
    let pending = batch.commit_async().unwrap();
    assert_eq!(db.get("b").unwrap().unwrap()[..], [1; 100]);
    assert_eq!(scan.next().unwrap().unwrap().1[..], [1; 100]);
    pending.wait().unwrap();
    assert_eq!(db.get("b").unwrap().unwrap()[..], [2; 100]);
}
