//! U10: a database is opened to be looked at, beside its owner, and nothing of it is touched.

#![expect(clippy::disallowed_methods, reason = "compares the files of a database")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cortenkv::{Builder, Db, Durability};

fn builder(dir: &Path) -> Builder {
    Db::builder(dir).durability(Durability::None).segment_bytes(64 << 10)
}

fn value(n: u32, version: u32) -> Vec<u8> {
    format!("{n} {version} ").into_bytes().repeat(20)
}

fn fill(db: &Db) {
    for version in 0..3 {
        for n in (0..1_000_u32).filter(|n| version == 0 || n % 3 != 0) {
            db.put(n.to_be_bytes(), value(n, version)).unwrap();
        }
    }
    db.delete(7_u32.to_be_bytes()).unwrap();
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
    files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()))
        .collect()
}

fn content(db: &Db) -> BTreeMap<Vec<u8>, Vec<u8>> {
    db.iter().map(Result::unwrap).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

#[test]
fn a_look_changes_nothing_and_writes_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = builder(&dir).manual().build().unwrap();
    fill(&db);
    db.compact().unwrap();
    db.put(b"unsynced", b"end").unwrap();
    let expected = content(&db);
    let before = files(&dir);
    // Its owner has it open: no lock is taken.
    let look = builder(&dir).read_only(true).build().unwrap();
    assert_eq!(content(&look), expected);
    assert_eq!(look.get(b"unsynced").unwrap().as_deref(), Some(&b"end"[..]));
    assert_eq!(look.get(7_u32.to_be_bytes()).unwrap(), None);
    assert_eq!(look.put(b"k", b"v").unwrap_err().code(), 12);
    assert_eq!(look.keyspace("new").unwrap_err().code(), 12);
    assert_eq!(look.compact().unwrap_err().code(), 12);
    assert!(look.put(b"k", b"v").unwrap_err().to_string().contains("read-only"));
    let report = look.verify().unwrap();
    assert!(report.is_intact() && report.is_quiet, "{report:#?}");
    assert!(look.segments().unwrap().len() > 1);
    assert_eq!(files(&dir), before);
    // The view stays as it was.
    db.put(b"unsynced", b"later").unwrap();
    db.put(b"another", b"later").unwrap();
    assert_eq!(content(&look), expected);
    look.close().unwrap();
    drop(look);
    db.close().unwrap();
    let before = files(&dir);
    let look = builder(&dir).read_only(true).build().unwrap();
    assert_eq!(look.get(b"another").unwrap().as_deref(), Some(&b"later"[..]));
    drop(look);
    assert_eq!(files(&dir), before);
}

#[test]
fn nothing_is_made_where_nothing_is() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    assert!(builder(&dir).read_only(true).build().is_err());
    assert!(!dir.exists());
    fs::create_dir(&dir).unwrap();
    assert_eq!(builder(&dir).read_only(true).build().unwrap_err().code(), 3);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    let memory = Db::builder_in_memory().read_only(true).build().unwrap();
    memory.put(b"k", b"v").unwrap();
}

#[test]
fn damage_is_told_and_stays_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    // With an image of the index nobody reads the segment before it is asked for a record.
    let db = builder(&dir).manual().index_images(false).build().unwrap();
    fill(&db);
    db.compact().unwrap();
    db.close().unwrap();
    drop(db);
    let damaged = files(&dir).into_keys().find(|name| name.ends_with(".cseg")).unwrap();
    let mut bytes = fs::read(dir.join(&damaged)).unwrap();
    bytes[5_000] ^= 1;
    fs::write(dir.join(&damaged), bytes).unwrap();
    let before = files(&dir);
    let error = builder(&dir).read_only(true).build().unwrap_err();
    assert!(error.code() == 2 && error.to_string().contains(&damaged), "{error}");
    assert_eq!(files(&dir), before);
}

// S1 for whoever looks: every key that was there before is seen, while segments come and go.
#[test]
fn looks_beside_a_writer_and_its_compaction_see_all_that_was_there_before() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = builder(&dir).build().unwrap();
    fill(&db);
    let keys = content(&db).len();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stop, db) = (&stop, &db);
        scope.spawn(move || {
            let mut version = 10;
            while !stop.load(Relaxed) {
                version += 1;
                for n in (0..1_000_u32).filter(|n| *n != 7 && n % 5 == version % 5) {
                    db.put(n.to_be_bytes(), value(n, version)).unwrap();
                }
                db.compact().unwrap();
            }
        });
        let mut looks = 0;
        for _ in 0..30 {
            match builder(&dir).read_only(true).build() {
                Ok(look) => {
                    looks += 1;
                    assert_eq!(content(&look).len(), keys);
                    let report = look.verify().unwrap();
                    assert!(report.is_intact(), "{report:#?}");
                }
                // The owner was faster ten times in a row.
                Err(error) => println!("no look: {error}"),
            }
        }
        stop.store(true, Relaxed);
        assert!(looks > 0);
    });
}
