//! Key order as derived data: its files, its damage, its options, and merges that meet writers.
#![expect(clippy::disallowed_methods, reason = "these tests do to the files what a user would")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use cortenkv::vfs::SimVfs;
use cortenkv::{Builder, Db, Durability, ErrorKind, ManualClock, PutOptions, Stop, set_stop_hook};

fn builder(dir: &Path) -> Builder {
    Db::builder(dir).durability(Durability::None).tiny_runs()
}

/// Works until nothing is left to do.
fn settle(db: &Db) {
    // LIMIT: merges wait for readers of other tests, which come to an end.
    for _ in 0..100_000 {
        if !db.step().unwrap() && db.stats().index.delta_keys <= 3 {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the work does not end: {:?}", db.stats().index);
}

fn run_files(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|suffix| suffix == "run")).collect()
}

fn keys(db: &Db) -> Vec<Bytes> {
    db.keys().map(Result::unwrap).collect()
}

fn put_numbers(db: &Db, numbers: std::ops::Range<u32>) {
    for n in numbers {
        db.put(n.to_be_bytes(), n.to_be_bytes()).unwrap();
    }
}

#[test]
fn runs_go_to_files_that_go_with_them() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = builder(&dir).manual().build().unwrap();
    put_numbers(&db, 0..200);
    settle(&db);
    let stats = db.stats().index;
    assert!(stats.run_files > 0 && stats.order_mapped_bytes > 0, "{stats:?}");
    assert_eq!(run_files(&dir).len() as u64, stats.run_files);
    assert_eq!(keys(&db).len(), 200);
    drop(db);
    assert!(run_files(&dir).is_empty(), "nobody uses them any more");
}

// An iterator outlives the handles, and its runs live as long.
#[test]
fn a_scan_keeps_its_runs_when_every_handle_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = builder(&dir).manual().build().unwrap();
    put_numbers(&db, 0..200);
    settle(&db);
    let mut scan = db.iter();
    assert_eq!(scan.next().unwrap().unwrap().0, 0u32.to_be_bytes()[..]);
    drop(db);
    let held = run_files(&dir);
    assert!(!held.is_empty());
    // Somebody tidies up: what is mapped stays readable.
    fs::remove_file(&held[0]).unwrap();
    assert_eq!(scan.by_ref().map(Result::unwrap).count(), 199);
    drop(scan);
    assert!(run_files(&dir).is_empty());
    assert_eq!(keys(&builder(&dir).manual().build().unwrap()).len(), 200);
}

#[test]
fn an_open_removes_left_runs_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    builder(&dir).build().unwrap().put("k", "v").unwrap();
    let name = |n: u32| format!("{n:016x}.run");
    fs::write(dir.join(name(1)), b"left by a process that died").unwrap();
    let aside = root.path().join("aside");
    fs::write(&aside, b"somebody's").unwrap();
    symlink(&aside, dir.join(name(2))).unwrap();
    fs::create_dir(dir.join(name(3))).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(dir.join(name(4))).status();
    fs::write(dir.join("notes.run"), b"somebody's").unwrap();
    fs::write(dir.join(format!("{}.bak", name(5))), b"somebody's").unwrap();

    let db = builder(&dir).manual().build().unwrap();
    assert_eq!(keys(&db), ["k"]);
    assert!(!dir.join(name(1)).exists());
    let stays = [name(2), name(3), "notes.run".into(), format!("{}.bak", name(5))];
    assert!(stays.iter().all(|name| dir.join(name).symlink_metadata().is_ok()));
    assert!(fifo.is_err() || dir.join(name(4)).symlink_metadata().is_ok());
    assert_eq!(fs::read(&aside).unwrap(), b"somebody's");
}

// A file system that cannot map, or has no room, costs memory and nothing else.
#[test]
fn runs_that_cannot_be_files_stay_in_memory() {
    let sim = SimVfs::new(7).mapping(false);
    let db = builder(Path::new("db")).manual().vfs(Arc::new(sim)).build().unwrap();
    put_numbers(&db, 0..200);
    settle(&db);
    let stats = db.stats().index;
    assert!(stats.run_file_failures > 0, "{stats:?}");
    assert_eq!((stats.run_files, stats.order_mapped_bytes), (0, 0));
    assert_eq!(keys(&db).len(), 200);
}

// Nobody announces that a record has expired: only a look at it tells, so merges must not go by hints for such keys, not
// for those that a replay brought either.
#[test]
fn merges_drop_keys_that_expired_before_and_after_an_open() {
    for reopened in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("db");
        let clock = Arc::new(ManualClock::at_wall_ms(1_700_000_000_000));
        let open = || {
            let clock: Arc<ManualClock> = Arc::clone(&clock);
            builder(&dir).manual().clock(clock).build().unwrap()
        };
        let mut db = open();
        let expiring = PutOptions::new().ttl(Duration::from_secs(1));
        for n in 0..50u32 {
            db.put_with(n.to_be_bytes(), b"", expiring).unwrap();
        }
        settle(&db);
        if reopened {
            drop(db);
            db = open();
        }
        assert_eq!(keys(&db).len(), 50);
        clock.advance(Duration::from_secs(2));
        // Enough for the old runs to be merged with the new ones; no scan looks at the keys meanwhile.
        for round in 0..8 {
            put_numbers(&db, 1_000 + round * 50..1_050 + round * 50);
            settle(&db);
        }
        let stats = db.stats().index;
        assert_eq!(stats.run_keys + stats.delta_keys, 400, "reopened {reopened}: {stats:?}");
        assert_eq!(keys(&db).len(), 400);
    }
}

#[test]
fn a_damaged_run_is_told_once_and_the_order_is_rebuilt() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = builder(&dir).manual().build().unwrap();
    let other = db.keyspace("other").unwrap();
    put_numbers(&db, 0..200);
    settle(&db);
    for n in 0..40u32 {
        other.put(n.to_be_bytes(), b"").unwrap();
        db.delete((n * 5).to_be_bytes()).unwrap();
    }
    for path in run_files(&dir) {
        // In place: the mapping shows it. Behind the header, where the keys are.
        let mut bytes = fs::read(&path).unwrap();
        bytes[64..].iter_mut().for_each(|byte| *byte ^= 0x55);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    }
    let told = db.iter().find_map(Result::err).expect("no scan may pass over damage");
    assert!(matches!(told.kind(), ErrorKind::Corruption { .. }), "{told}");
    let with = db.scan_with::<&[u8], ()>(.., |_, _| std::ops::ControlFlow::Continue(()));
    assert!(with.unwrap_err().is_corruption());

    put_numbers(&db, 500..510);
    while db.stats().index.rebuilds == 0 {
        // What the merges meet of the damage is told here.
        let _ = db.step();
    }
    let mended = keys(&db);
    let wanted = (0..200u32).filter(|n| n % 5 != 0).chain(500..510);
    assert_eq!(mended, wanted.map(|n| Bytes::from(n.to_be_bytes().to_vec())).collect::<Vec<_>>());
    while db.step().is_err() {}
    settle(&db);
    assert_eq!(other.keys().map(Result::unwrap).count(), 40);
}

#[test]
fn a_rebuild_beside_writers_loses_no_key() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = builder(&dir).build().unwrap();
    put_numbers(&db, 0..2_000);
    let damage_runs = || {
        for path in run_files(&dir) {
            let Ok(file) = fs::OpenOptions::new().write(true).open(&path) else { continue };
            let _ = std::os::unix::fs::FileExt::write_all_at(&file, &[0xAA; 128], 64);
        }
    };
    // A block is checked when it is first looked at, so damage to a run that nobody has read yet is told.
    let told = (0..100_000).any(|_| {
        std::thread::yield_now();
        damage_runs();
        !run_files(&dir).is_empty() && db.iter().any(|entry| entry.is_err())
    });
    assert!(told, "a scan took a damaged run for sound");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..20u32 {
                for n in 0..2_000u32 {
                    db.put(n.to_be_bytes(), round.to_be_bytes()).unwrap();
                }
            }
        });
        for _ in 0..30 {
            damage_runs();
            // Told or not: some of these runs were read before.
            let _ = db.iter().count();
        }
    });
    // A scan that meets damage asks for a rebuild; after the last one all is well.
    let whole = (0..10_000).find_map(|_| {
        let all: Result<Vec<_>, _> = db.keys().collect();
        std::thread::yield_now();
        all.ok()
    });
    assert_eq!(whole.expect("it is never mended").len(), 2_000);
    assert!(db.stats().index.rebuilds > 0);
}

// The trap of the design: a merge drops the key of a tombstone while a put on it is on its way.
#[test]
fn a_key_that_is_put_on_its_tombstone_beside_a_merge_is_scanned() {
    // On disk: installations in memory come one after the other.
    let root = tempfile::tempdir().unwrap();
    let db = builder(&root.path().join("db")).manual().build().unwrap();
    db.put("k", "first").unwrap();
    put_numbers(&db, 0..50);
    settle(&db);
    db.delete("k").unwrap();
    put_numbers(&db, 50..60);
    settle(&db);

    let (stopped, is_stopped) = channel();
    let (go_on, may_go_on) = channel();
    std::thread::scope(|scope| {
        let writer = scope.spawn({
            let db = &db;
            move || {
                let mut once = Some(());
                set_stop_hook(move |at| {
                    if at == Stop::BeforeInstall && once.take().is_some() {
                        stopped.send(()).unwrap();
                        may_go_on.recv().unwrap();
                    }
                });
                db.put("k", "second").unwrap();
            }
        });
        is_stopped.recv().unwrap();
        // The key is announced, its record not installed. Enough others come for the work to take it up.
        put_numbers(&db, 60..80);
        for _ in 0..1_000 {
            db.step().unwrap();
        }
        assert_eq!(db.get("k").unwrap(), None);
        go_on.send(()).unwrap();
        writer.join().unwrap();
    });
    put_numbers(&db, 80..100);
    settle(&db);
    assert_eq!(db.get("k").unwrap().as_deref(), Some(&b"second"[..]));
    assert!(
        keys(&db).contains(&Bytes::from("k")),
        "violation: a key vanished from scans: seed=none"
    );
}

#[test]
fn keys_that_were_deleted_or_have_ended_leave_the_order() {
    let db = Db::builder_in_memory().manual().tiny_runs().build().unwrap();
    put_numbers(&db, 0..300);
    settle(&db);
    for n in 0..290u32 {
        db.delete(n.to_be_bytes()).unwrap();
    }
    // Walks tell what they met, and merges drop it.
    for _ in 0..10 {
        assert_eq!(keys(&db).len(), 10);
        settle(&db);
    }
    let stats = db.stats().index;
    assert!(stats.delta_keys + stats.run_keys < 30, "{stats:?}");
    put_numbers(&db, 0..290);
    assert_eq!(keys(&db).len(), 300);
}

#[test]
fn without_order_scans_are_unsupported_and_all_else_works() {
    let root = tempfile::tempdir().unwrap();
    let db = builder(&root.path().join("db")).ordered(false).build().unwrap();
    put_numbers(&db, 0..100);
    let told = db.iter().next().unwrap().unwrap_err();
    assert!(matches!(told.kind(), ErrorKind::Unsupported) && told.context().contains("ordered"));
    assert_eq!(db.first_key_value().unwrap_err().code(), 12);
    assert_eq!(db.get(7u32.to_be_bytes()).unwrap().unwrap(), 7u32.to_be_bytes()[..]);
    let stats = db.stats().index;
    assert!(!stats.ordered && stats.order_bytes == 0 && stats.dead_bits_bytes == 0);
    drop(db);
    // The next opening may have it.
    let db = builder(&root.path().join("db")).ordered(true).build().unwrap();
    assert_eq!(keys(&db).len(), 100);
}

#[test]
fn shards_are_a_power_of_two_from_64_to_1024() {
    for shards in [0, 1, 32, 63, 65, 100, 1_025, 2_048, u32::MAX] {
        let refused = Db::builder_in_memory().index_shards(shards).build().unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::InvalidArgument), "{shards}: {refused}");
    }
    for shards in [64, 256, 1_024] {
        let db = Db::builder_in_memory().index_shards(shards).build().unwrap();
        assert_eq!(db.stats().index.shards, u64::from(shards));
    }
    let mut config = cortenkv::Config::default();
    config.index.shards = 12;
    assert_eq!(Db::builder_in_memory().config(config).build().unwrap_err().code(), 3);
}

#[test]
fn a_close_ends_the_background_work_and_a_scan_goes_on() {
    let db = Db::builder_in_memory().tiny_runs().build().unwrap();
    put_numbers(&db, 0..1_000);
    let mut scan = db.iter();
    assert!(scan.next().is_some());
    db.close().unwrap();
    assert_eq!(scan.map(Result::unwrap).count(), 999);
    assert_eq!(db.put("k", "v").unwrap_err().code(), 7);
}
