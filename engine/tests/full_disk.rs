//! U11: a full database frees itself: puts answer `StorageFull`, while deletes, jobs of compaction and edits of the manifest have
//! a reserve; then puts go on, without a reopening.

#![expect(
    clippy::disallowed_methods,
    reason = "looks for the file of the reserve, and makes the image of a small file system"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use cortenkv::vfs::{SimVfs, Vfs};
use cortenkv::{Builder, Db, Durability, Error, ErrorKind, ManualClock};

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(n: u32) -> [u8; 8] {
    (u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_be_bytes()
}

fn value(n: u32, version: u32) -> Vec<u8> {
    format!("{n} {version} ").into_bytes().repeat(40)
}

fn is_full(error: &Error) -> bool {
    *error.kind() == ErrorKind::StorageFull
}

/// Overwrites keys at random until the disk is full.
fn fill(db: &Db, keys: u32, expected: &mut Content) {
    let mut version = 0;
    loop {
        for n in 0..keys {
            let n = n.wrapping_mul(7_919) % keys;
            match db.put(key(n), value(n, version)) {
                Ok(_) => drop(expected.insert(key(n).to_vec(), value(n, version))),
                Err(error) => {
                    assert!(is_full(&error), "{error}");
                    return;
                }
            }
        }
        version += 1;
    }
}

fn check(db: &Db, keys: u32, expected: &Content) {
    for n in 0..keys {
        let found = db.get(key(n)).unwrap();
        assert_eq!(found.as_deref(), expected.get(&key(n)[..]).map(Vec::as_slice), "key {n}");
    }
}

/// Deletes a part of the keys, which nothing may refuse.
fn delete_some(db: &Db, keys: u32, expected: &mut Content) {
    for n in (0..keys).filter(|n| n % 5 == 0) {
        db.delete(key(n)).unwrap();
        expected.remove(&key(n)[..]);
    }
    db.sync().unwrap();
}

/// Compacts; each call may find that the disk is full, and has a smaller job the next time.
fn compact(db: &Db) -> Result<u64, Error> {
    (0..4).map(|_| db.compact()).find_map(Result::ok).map_or_else(
        || db.compact().map(|report| report.segments_retired),
        |report| Ok(report.segments_retired),
    )
}

// 300 keys of 300 bytes live; the rest of the disk is garbage that only a job with room of its own can free.
#[test]
fn a_full_database_frees_itself_with_its_reserve_and_not_without() {
    for (reserve_bytes, frees_itself) in [(Some(96 << 10), true), (Some(0), false), (None, true)] {
        let sim = SimVfs::new(11);
        let clock = Arc::new(ManualClock::at_wall_ms(1_700_000_000_000));
        let open = || {
            let shared: Arc<ManualClock> = Arc::clone(&clock);
            let builder = Db::builder("db").durability(Durability::None).segment_bytes(64 << 10);
            let builder = builder.manual().vfs(Arc::new(sim.clone())).window_bytes(4 << 10);
            let builder = reserve_bytes.into_iter().fold(builder, Builder::reserve_bytes);
            builder.clock(shared).build().unwrap()
        };
        let has_reserve = || {
            let names = sim.list(Path::new("db")).unwrap();
            names.iter().any(|entry| entry.name == "RESERVE")
        };
        let db = open();
        assert_eq!(has_reserve(), reserve_bytes != Some(0));
        sim.set_capacity(Some(sim.used_bytes() + (400 << 10)));
        let (keys, mut expected) = (600, Content::new());
        fill(&db, keys, &mut expected);
        // Whatever is left by the log's own room is taken, so that only the reserve is there.
        sim.set_capacity(Some(sim.used_bytes()));
        delete_some(&db, keys, &mut expected);
        let freed = compact(&db);
        clock.advance(Duration::from_secs(2));
        let put = db.put(key(1), value(1, 99));
        if !frees_itself {
            assert!(freed.is_err_and(|error| is_full(&error)) && put.is_err_and(|e| is_full(&e)));
            check(&db, keys, &expected);
            continue;
        }
        assert!(freed.unwrap() > 0);
        put.unwrap();
        expected.insert(key(1).to_vec(), value(1, 99));
        assert!(has_reserve(), "it is there again");
        check(&db, keys, &expected);
        for _ in 0..10 {
            // Again and again: nothing wears off.
            clock.advance(Duration::from_secs(2));
            fill(&db, keys, &mut expected);
            compact(&db).unwrap();
        }
        check(&db, keys, &expected);
        assert!(db.verify().unwrap().is_intact());
        db.close().unwrap();
        drop(db);
        let db = open();
        check(&db, keys, &expected);
        assert!(db.verify().unwrap().is_intact());
    }
}

// While it is given up, the room is not for puts, whoever asks.
#[test]
fn puts_never_draw_on_the_reserve() {
    let sim = SimVfs::new(12);
    let clock = Arc::new(ManualClock::at_wall_ms(1_700_000_000_000));
    let shared: Arc<ManualClock> = Arc::clone(&clock);
    let builder = Db::builder("db").durability(Durability::None).segment_bytes(64 << 10).manual();
    let builder = builder.vfs(Arc::new(sim.clone())).window_bytes(4 << 10).clock(shared);
    let db = builder.reserve_bytes(128 << 10).build().unwrap();
    let (keys, mut expected) = (600, Content::new());
    sim.set_capacity(Some(sim.used_bytes() + (300 << 10)));
    fill(&db, keys, &mut expected);
    sim.set_capacity(Some(sim.used_bytes()));
    // Deletes use up what the log has, and then the reserve.
    let mut deletes = 0;
    while sim.used_bytes() > (128 << 10) && deletes < 20_000 {
        if let Err(error) = db.delete(key(deletes % keys)) {
            assert!(is_full(&error), "{error}");
            break;
        }
        deletes += 1;
        if deletes % 500 == 0 {
            clock.advance(Duration::from_secs(2));
            let refused = db.put(b"more", b"of it").unwrap_err();
            assert!(is_full(&refused), "{refused}");
            let refused = db.put_if_absent(b"more", b"of it").unwrap_err();
            assert!(is_full(&refused), "{refused}");
        }
    }
    assert!(deletes > 1_000, "{deletes}");
    sim.set_capacity(None);
    clock.advance(Duration::from_secs(2));
    db.put(b"more", b"of it").unwrap();
}

/// A small file system of its own, while it lives.
struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None` where that is not allowed, or cannot be done.
    fn new(kind: &str) -> Option<Mounted> {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("at");
        std::fs::create_dir(&at).unwrap();
        let run = |command: &mut Command| command.output().is_ok_and(|it| it.status.success());
        let is_done = if kind == "tmpfs" {
            run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(&at))
        } else {
            let image = dir.path().join("image");
            std::fs::write(&image, vec![0; 48 << 20]).unwrap();
            run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))
                && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at))
        };
        is_done.then_some(Mounted(dir))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.0.path().join("at");
        let _ = Command::new("umount").arg("-l").arg(&at).output();
    }
}

// The same with a disk that is really full, and everything in the background.
#[test]
fn a_full_file_system_is_freed_without_a_reopening() {
    let mut skipped = 0;
    for kind in ["tmpfs", "ext4"] {
        let Some(mounted) = Mounted::new(kind) else {
            skipped += 1;
            continue;
        };
        let dir = mounted.0.path().join("at/db");
        let builder = Db::builder(&dir).durability(Durability::None).segment_bytes(1 << 20);
        let db = builder.async_compaction(false).build().unwrap();
        let (keys, mut expected) = (12_000, Content::new());
        // New keys only: nothing can be reclaimed before something is deleted.
        let mut last = 0;
        for n in 0.. {
            match db.put(key(n), value(n, 0)) {
                Ok(_) => drop(expected.insert(key(n).to_vec(), value(n, 0))),
                Err(error) => {
                    assert!(is_full(&error), "{kind}: {error}");
                    last = n;
                    break;
                }
            }
        }
        assert!(last > keys, "{kind}: {last} keys");
        for n in (0..last).filter(|n| n % 3 != 0) {
            db.delete(key(n)).unwrap();
            expected.remove(&key(n)[..]);
        }
        // A file system gives back the blocks of removed files when it commits its journal, some seconds later.
        let mut compacted = compact(&db);
        for _ in 0..300 {
            if db.stats().compaction.segments_retired > 4 {
                break;
            }
            std::thread::park_timeout(Duration::from_millis(100));
            compacted = compact(&db);
        }
        let stats = db.stats().compaction;
        assert!(stats.segments_retired > 4, "{kind}: {compacted:?} {stats:?}");
        let put = (0..200).find_map(|_| {
            std::thread::park_timeout(Duration::from_millis(20));
            db.put(b"more", b"of it").ok()
        });
        assert!(put.is_some(), "{kind}: {:?}", db.put(b"more", b"of it"));
        for n in 0..1_000 {
            db.put(key(n), value(n, 1)).unwrap();
            expected.insert(key(n).to_vec(), value(n, 1));
        }
        check(&db, last, &expected);
        db.close().unwrap();
    }
    println!("{skipped} of 2 file systems skipped: they cannot be mounted here");
}
