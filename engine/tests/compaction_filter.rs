//! C10: what a compaction filter drops is gone for every read, stays gone, and uncovers nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use cortenkv::vfs::{OsVfs, Vfs};
use cortenkv::{Db, Durability, FilterDecision, Keyspace, KeyspaceOptions};

const KEYS: u32 = 600;

fn open(dir: &Path) -> Db {
    let builder = Db::builder(dir).durability(Durability::None).segment_bytes(64 << 10).manual();
    builder.build().unwrap()
}

fn key(n: u32) -> [u8; 4] {
    n.to_be_bytes()
}

fn value(word: &str) -> Vec<u8> {
    word.as_bytes().repeat(50)
}

/// Drops what begins with "old"; counts how often it was asked.
fn with_filter(db: &Db, asked: &Arc<AtomicU64>) -> Keyspace {
    let asked = Arc::clone(asked);
    let filter = move |_: &[u8], value: &[u8]| {
        asked.fetch_add(1, Relaxed);
        if value.starts_with(b"old") { FilterDecision::Drop } else { FilterDecision::Keep }
    };
    db.keyspace_with("filtered", KeyspaceOptions::new().compaction_filter(filter)).unwrap()
}

/// Leaves the segment that is written.
fn leave_segment(db: &Db) {
    for _ in 0..800 {
        db.put("filler", [0; 100]).unwrap();
    }
    db.sync().unwrap();
}

/// Rewrites these segments or all that there are, and nothing else.
fn rewrite(db: &Db, is_victim: impl Fn(u64) -> bool) {
    leave_segment(db);
    let victims: Vec<u64> =
        db.settled_segments().unwrap().into_iter().filter(|id| is_victim(*id)).collect();
    assert!(!victims.is_empty());
    assert!(db.compact_segments(&victims).unwrap());
}

/// True for the keys that are there, after all ways to read agree.
fn present(keyspace: &Keyspace) -> Vec<bool> {
    let scanned: Vec<_> = keyspace.keys().map(|key| key.unwrap()).collect();
    let backwards: Vec<_> = keyspace.keys().rev().map(|key| key.unwrap()).collect();
    assert!(scanned.iter().eq(backwards.iter().rev()));
    let is_there = |n| {
        let found = keyspace.contains_key(key(n)).unwrap();
        assert_eq!(scanned.binary_search_by(|other| other[..].cmp(&key(n))).is_ok(), found);
        found
    };
    (0..KEYS).map(is_there).collect()
}

fn reopen(db: Db, dir: &Path, removes_images: bool) -> Db {
    db.close().unwrap();
    drop(db);
    if removes_images {
        let vfs = OsVfs::new();
        let files = vfs.list(dir).unwrap();
        for image in files.iter().filter(|file| file.name.starts_with("CKPT-")) {
            vfs.remove_file(&dir.join(&image.name)).unwrap();
        }
    }
    open(dir)
}

#[test]
fn what_a_filter_drops_is_gone_through_images_and_replays() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let mut db = open(&dir);
    let plain = db.keyspace("filtered").unwrap();
    for n in 0..KEYS {
        plain.put(key(n), value(if n % 3 == 0 { "new" } else { "old" })).unwrap();
    }
    // Another keyspace with the same content has no filter.
    db.put(key(1), value("old")).unwrap();
    // Key order knows the places of records from here on.
    drop(plain);
    db = reopen(db, &dir, false);
    let asked = Arc::new(AtomicU64::new(0));
    let filtered = with_filter(&db, &asked);
    assert!(present(&filtered).iter().all(|is_there| *is_there));
    rewrite(&db, |_| true);
    assert!(asked.load(Relaxed) >= u64::from(KEYS));
    let expected: Vec<bool> = (0..KEYS).map(|n| n % 3 == 0).collect();
    assert_eq!(present(&filtered), expected);
    drop(filtered);
    for removes_images in [false, true, false] {
        db = reopen(db, &dir, removes_images);
        let again = db.keyspace("filtered").unwrap();
        assert_eq!(present(&again), expected, "images removed: {removes_images}");
        assert!(db.contains_key(key(1)).unwrap());
        assert!(db.verify().unwrap().findings.is_empty());
    }
}

// An entry that is forgotten leaves the index before its segment is gone, and key order knows it as one that stays.
#[test]
fn scans_and_gets_agree_at_every_step_of_a_job() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let mut db = open(&dir);
    let plain = db.keyspace("filtered").unwrap();
    for n in 0..KEYS {
        plain.put(key(n), value(if n % 3 == 0 { "new" } else { "old" })).unwrap();
    }
    drop(plain);
    db = reopen(db, &dir, true);
    let filtered = with_filter(&db, &Arc::default());
    for n in (0..KEYS).filter(|n| n % 2 == 0) {
        filtered.delete(key(n)).unwrap();
    }
    leave_segment(&db);
    let mut steps = 0;
    while db.step().unwrap() {
        steps += 1;
        let present = present(&filtered);
        let stays = |n: u32| n % 6 == 3;
        assert!((0..KEYS).filter(|n| stays(*n)).all(|n| present[n as usize]), "step {steps}");
    }
    assert!(steps > 10, "{steps}");
    assert!(present(&filtered).iter().filter(|is_there| **is_there).count() < KEYS as usize / 4);
    assert!(db.verify().unwrap().findings.is_empty());
}

// Rule 2: an older put in a segment that stays must not come back.
#[test]
fn a_filtered_entry_does_not_bring_the_one_before_it_back() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let mut db = open(&dir);
    let asked = Arc::new(AtomicU64::new(0));
    let filtered = with_filter(&db, &asked);
    for n in 0..KEYS {
        filtered.put(key(n), value("new")).unwrap();
    }
    rewrite(&db, |_| true);
    let older = db.settled_segments().unwrap();
    for n in 0..KEYS {
        filtered.put(key(n), value("old")).unwrap();
    }
    rewrite(&db, |id| !older.contains(&id));
    let none = vec![false; KEYS as usize];
    assert_eq!(present(&filtered), none);
    drop(filtered);
    for removes_images in [true, false] {
        db = reopen(db, &dir, removes_images);
        assert_eq!(present(&db.keyspace("filtered").unwrap()), none);
        db.compact().unwrap();
        assert_eq!(present(&db.keyspace("filtered").unwrap()), none);
    }
    assert!(db.verify().unwrap().findings.is_empty());
}

#[test]
fn nothing_is_filtered_while_a_snapshot_is_open() {
    let root = tempfile::tempdir().unwrap();
    let db = open(&root.path().join("db"));
    let asked = Arc::new(AtomicU64::new(0));
    let filtered = with_filter(&db, &asked);
    for n in 0..KEYS {
        filtered.put(key(n), value("old")).unwrap();
    }
    let snapshot = db.snapshot().unwrap();
    rewrite(&db, |_| true);
    assert_eq!(asked.load(Relaxed), 0);
    assert_eq!(snapshot.keyspace(&filtered).iter().count(), KEYS as usize);
    drop(snapshot);
    rewrite(&db, |_| true);
    assert_eq!(present(&filtered), vec![false; KEYS as usize]);
}

#[test]
fn a_filter_that_panics_keeps_the_entry_and_is_counted() {
    let root = tempfile::tempdir().unwrap();
    let db = open(&root.path().join("db"));
    let panics = |key: &[u8], _: &[u8]| match key[3] % 2 {
        0 => panic!("this filter does so on purpose"),
        _ => FilterDecision::Drop,
    };
    let options = KeyspaceOptions::new().compaction_filter(panics);
    let filtered = db.keyspace_with("filtered", options).unwrap();
    for n in 0..KEYS {
        filtered.put(key(n), value("old")).unwrap();
    }
    rewrite(&db, |_| true);
    assert_eq!(present(&filtered), (0..KEYS).map(|n| n % 2 == 0).collect::<Vec<_>>());
    assert!(db.stats().compaction.filter_panics >= u64::from(KEYS) / 2);
    filtered.put("still", "writable").unwrap();
    assert!(db.verify().unwrap().findings.is_empty());
}
