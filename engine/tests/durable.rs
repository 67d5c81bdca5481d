//! A database on disk: what a reopening brings back, what is refused at the door, and what a crash leaves.

#![expect(clippy::disallowed_methods, reason = "the tests look at the files from outside")]

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cortenkv::vfs::sim::{CrashVariant, DiskModel};
use cortenkv::vfs::{FaultKind, FaultPlan, FaultVfs, OpKind, SimVfs, Vfs};
use cortenkv::{Builder, Clock, Config, Db, Durability, Error, ErrorKind, ManualClock, PutOptions};

const START_MS: u64 = 1_700_000_000_000;

fn is_ordered(db: &Db) -> bool {
    db.stats().build.ordered
}

/// Every name in a directory with its bytes.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let read = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

/// The manifest that CURRENT names.
fn manifest_name(dir: &Path) -> String {
    let text = fs::read_to_string(dir.join("CURRENT")).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

fn corrupt_file(error: &Error) -> String {
    match error.kind() {
        ErrorKind::Corruption { file, .. } => {
            file.file_name().unwrap().to_str().unwrap().to_owned()
        }
        kind => panic!("{kind:?}: {error}"),
    }
}

#[test]
fn everything_that_was_acknowledged_is_there_after_a_reopen() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let last_seq;
    {
        let db = Db::open(&dir).unwrap();
        assert!(db.open_report().created);
        let users = db.keyspace("users").unwrap();
        for n in 0..500u32 {
            db.put(n.to_be_bytes(), vec![n as u8; n as usize]).unwrap();
        }
        db.delete(7u32.to_be_bytes()).unwrap();
        let mut batch = db.batch();
        batch.put(&users, "a", "1").put(&db, 7u32.to_be_bytes(), "back").put(&users, "a", "2");
        batch.commit().unwrap();
        db.delete(8u32.to_be_bytes()).unwrap();
        last_seq = db.stats().last_seq;
        assert_eq!(db.stats().durable_seq, last_seq);
    }
    let db = Db::builder(&dir).index_images(false).build().unwrap();
    let report = db.open_report();
    assert!(!report.created);
    assert_eq!((report.keys, report.bytes_cut), (500, 0));
    assert_eq!(report.records, 504);
    let users = db.keyspace("users").unwrap();
    assert_eq!(users.get("a").unwrap().as_deref(), Some(&b"2"[..]));
    assert_eq!(db.get(7u32.to_be_bytes()).unwrap().as_deref(), Some(&b"back"[..]));
    assert_eq!(db.get(8u32.to_be_bytes()).unwrap(), None);
    assert_eq!(db.get(499u32.to_be_bytes()).unwrap().unwrap().len(), 499);
    assert_eq!((db.stats().keys, db.stats().tombstones), (500, 1));
    if is_ordered(&db) {
        assert_eq!(db.iter().map(Result::unwrap).count(), 499);
    }
    // I4: numbers go on.
    assert!(db.put("k", "v").unwrap() > last_seq);
}

// C10: the expiry is absolute, and holds on every path after a reopen too.
#[test]
fn a_life_goes_on_across_a_reopen_and_ends_on_time() {
    let root = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at_wall_ms(START_MS));
    let open = || {
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        Db::builder(root.path().join("db")).clock(clock).build().unwrap()
    };
    let db = open();
    db.put("older", "hidden by a short life").unwrap();
    let short = PutOptions::new().ttl(Duration::from_millis(100));
    db.put_with("older", "short", short).unwrap();
    db.put_batch([("long", "v", Some(Duration::from_secs(10))), ("ever", "v", None)]).unwrap();
    drop(db);
    clock.advance(Duration::from_millis(99));
    let db = open();
    assert_eq!(db.get("older").unwrap().as_deref(), Some(&b"short"[..]));
    clock.advance(Duration::from_millis(1));
    assert_eq!(db.get("older").unwrap(), None);
    drop(db);
    let db = open();
    assert_eq!(db.get("older").unwrap(), None, "an expired record still hides the older one");
    assert!(db.get_entry("long").unwrap().unwrap().expires_at.is_some());
    if is_ordered(&db) {
        let keys: Vec<_> = db.keys().map(Result::unwrap).collect();
        assert_eq!(keys, ["ever", "long"]);
    }
}

#[test]
fn keyspaces_keep_their_names_and_numbers() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    for round in 0..4 {
        let db = Db::open(&dir).unwrap();
        for n in 0..round {
            let keyspace = db.keyspace(&format!("space {n}")).unwrap();
            assert_eq!(keyspace.get("round").unwrap().unwrap()[..], [n as u8][..]);
        }
        db.keyspace(&format!("space {round}")).unwrap().put("round", [round as u8]).unwrap();
        assert_eq!(db.keyspaces().unwrap().len(), round + 2);
    }
}

// U10, K2
#[test]
fn a_second_opening_is_locked_out_until_the_first_one_ends() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = Db::open(&dir).unwrap();
    let error = Db::open(&dir).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Locked { pid: Some(std::process::id()) }, "{error}");
    db.put("k", "v").unwrap();
    let keyspace = db.keyspace("users").unwrap();
    drop(db);
    assert_eq!(Db::open(&dir).unwrap_err().code(), 6, "a keyspace is a handle too");
    drop(keyspace);
    assert!(Db::open(&dir).unwrap().contains_key("k").unwrap());
}

#[test]
fn a_path_that_cannot_be_a_database_is_refused_and_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert_eq!(Db::open(&file).unwrap_err().code(), 3);
    assert_eq!(fs::read(&file).unwrap(), b"precious");

    let open_to_all = root.path().join("open");
    fs::create_dir(&open_to_all).unwrap();
    fs::set_permissions(&open_to_all, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Db::open(&open_to_all).unwrap_err();
    assert_eq!(error.code(), 3);
    assert!(error.to_string().contains("chmod"), "{error}");
    assert!(contents(&open_to_all).is_empty());
    Db::builder(&open_to_all).allow_writable_by_others(true).build().unwrap();
}

// U6: refused before any write.
#[test]
fn a_newer_format_is_unsupported_and_nothing_is_changed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    drop(Db::open(&dir).unwrap());
    let manifest = dir.join(manifest_name(&dir));
    let mut bytes = fs::read(&manifest).unwrap();
    bytes[8] += 1;
    fs::write(&manifest, bytes).unwrap();
    let before = contents(&dir);
    assert_eq!(Db::open(&dir).unwrap_err().code(), 12);
    assert_eq!(contents(&dir), before);
}

#[test]
fn a_damaged_manifest_is_corruption_with_its_file_and_nothing_is_changed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = Db::open(&dir).unwrap();
    db.keyspace("users").unwrap().put("k", "v").unwrap();
    db.keyspace("orders").unwrap();
    drop(db);
    let name = manifest_name(&dir);
    let (manifest, current) = (dir.join(&name), dir.join("CURRENT"));
    let (bytes, text) = (fs::read(&manifest).unwrap(), fs::read(&current).unwrap());
    let check = |what: &str, file: &str| {
        let before = contents(&dir);
        let error = Db::open(&dir).unwrap_err();
        assert_eq!(corrupt_file(&error), file, "{what}: {error}");
        assert_eq!(contents(&dir), before, "{what}");
    };
    fs::write(&manifest, &bytes[..40]).unwrap();
    check("a cut header", &name);
    fs::write(&manifest, []).unwrap();
    check("an empty manifest", &name);
    let mut flipped = bytes.clone();
    flipped[66] ^= 1;
    fs::write(&manifest, &flipped).unwrap();
    check("a flipped bit in an edit with another behind it", &name);
    fs::write(&manifest, &bytes).unwrap();
    fs::write(&current, "MANIFEST-000099 crc32c=00000000\n").unwrap();
    check("a CURRENT of another checksum", "CURRENT");
    fs::write(&current, []).unwrap();
    check("an empty CURRENT", "CURRENT");
    fs::remove_file(&current).unwrap();
    check("a lost CURRENT beside segments", "CURRENT");
    fs::write(&current, &text).unwrap();
    fs::remove_file(&manifest).unwrap();
    check("a lost manifest", &name);
    fs::write(&manifest, &bytes).unwrap();
    let db = Db::open(&dir).unwrap();
    assert!(db.keyspace("users").unwrap().contains_key("k").unwrap());
}

#[test]
fn a_torn_manifest_edit_is_dropped_and_never_appended_to() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = Db::open(&dir).unwrap();
    db.keyspace("users").unwrap().put("k", "v").unwrap();
    drop(db);
    let torn = manifest_name(&dir);
    let mut bytes = fs::read(dir.join(&torn)).unwrap();
    bytes.extend_from_slice(&[1, 2, 3, 4, 9, 0, 0, 0, 1]);
    fs::write(dir.join(&torn), bytes).unwrap();
    let db = Db::open(&dir).unwrap();
    assert!(db.keyspace("users").unwrap().contains_key("k").unwrap());
    assert_ne!(manifest_name(&dir), torn);
    assert!(!dir.join(&torn).exists());
    db.keyspace("more").unwrap().put("k", "v").unwrap();
    drop(db);
    assert_eq!(Db::open(&dir).unwrap().keyspaces().unwrap(), ["default", "more", "users"]);
}

#[test]
fn a_manifest_older_than_the_log_is_corruption() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    drop(Db::open(&dir).unwrap());
    let name = manifest_name(&dir);
    let old = fs::read(dir.join(&name)).unwrap();
    let db = Db::open(&dir).unwrap();
    db.keyspace("users").unwrap().put("k", "v").unwrap();
    drop(db);
    fs::write(dir.join(manifest_name(&dir)), old).unwrap();
    let error = Db::open(&dir).unwrap_err();
    assert!(error.is_corruption(), "{error}");
    assert!(error.to_string().contains("keyspace 1"), "{error}");
}

#[test]
fn segments_of_another_database_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let (one, two) = (root.path().join("one"), root.path().join("two"));
    for dir in [&one, &two] {
        Db::open(dir).unwrap().put("k", "v").unwrap();
    }
    for name in contents(&one).keys().filter(|name| name.ends_with(".seg")) {
        fs::copy(one.join(name), two.join(name)).unwrap();
    }
    let error = Db::open(&two).unwrap_err();
    assert!(matches!(error.code(), 2 | 3), "{error}");
}

/// A database on a disk whose operations fail by plan, driven by hand.
fn faulty(durability: Durability) -> (Db, FaultVfs) {
    let vfs = FaultVfs::new(Arc::new(SimVfs::new(1)));
    let db = on(Arc::new(vfs.clone())).durability(durability).build().unwrap();
    (db, vfs)
}

fn on(vfs: Arc<dyn Vfs>) -> Builder {
    Db::builder("db").vfs(vfs).manual()
}

fn next(vfs: &FaultVfs, kind: OpKind, fault: FaultKind) {
    vfs.set_plan(Some(FaultPlan::nth_of(kind, vfs.counts().of(kind), fault)));
}

// I7: no later call reports durability; reads go on.
#[test]
fn a_failed_sync_poisons_writes_and_leaves_reads() {
    let (db, vfs) = faulty(Durability::Always);
    db.put("before", "v").unwrap();
    next(&vfs, OpKind::SyncData, FaultKind::Io);
    assert!(matches!(db.put("lost", "v").unwrap_err().code(), 1 | 7));
    vfs.set_plan(None);
    assert_eq!(db.batch().commit().unwrap_err().code(), 7, "not even a commit of nothing");
    assert_eq!(db.put("after", "v").unwrap_err().code(), 7);
    assert_eq!(db.sync().unwrap_err().code(), 7);
    assert_eq!(db.put_if_absent("after", "v").unwrap_err().code(), 7);
    assert!(db.get("before").unwrap().is_some());
    assert_eq!(db.get("lost").unwrap(), None, "what was not acknowledged is not shown");
    assert!(db.close().is_err());
}

#[test]
fn a_failed_sync_of_the_manifest_poisons_all_writes() {
    let (db, vfs) = faulty(Durability::None);
    next(&vfs, OpKind::SyncData, FaultKind::Io);
    assert_eq!(db.keyspace("users").unwrap_err().code(), 1);
    vfs.set_plan(None);
    assert_eq!(db.keyspace("users").unwrap_err().code(), 7);
    assert_eq!(db.put("k", "v").unwrap_err().code(), 7);
    assert_eq!(db.keyspaces().unwrap(), ["default"]);
    assert_eq!(db.get("k").unwrap(), None);
}

// U11
#[test]
fn a_full_disk_refuses_a_keyspace_and_takes_it_when_there_is_space() {
    let (db, vfs) = faulty(Durability::None);
    next(&vfs, OpKind::Write, FaultKind::StorageFull);
    assert_eq!(db.keyspace("users").unwrap_err().code(), 8);
    let users = db.keyspace("users").unwrap();
    users.put("k", "v").unwrap();
    db.close().unwrap();
    drop((db, users));
    let db = on(Arc::new(vfs)).build().unwrap();
    assert!(db.keyspace("users").unwrap().contains_key("k").unwrap());
}

// C1
#[test]
fn tickets_resolve_at_close() {
    let root = tempfile::tempdir().unwrap();
    let db = Db::builder(root.path().join("db")).manual().build().unwrap();
    let tickets: Vec<_> = (0..10u32)
        .map(|n| {
            let mut batch = db.batch();
            batch.put(&db, n.to_be_bytes(), "v");
            batch.commit_async().unwrap()
        })
        .collect();
    db.close().unwrap();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    drop(db);
    assert_eq!(Db::open(root.path().join("db")).unwrap().stats().keys, 10);
}

// C4: databases of both settings read each other.
#[test]
fn compressed_and_plain_commits_live_in_one_log() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let text = "all work and no play ".repeat(1000);
    for round in 0..4u32 {
        let builder = Db::builder(&dir).compression(round % 2 == 0);
        let db = match builder.build() {
            Err(error) if error.code() == 12 => return,
            opened => opened.unwrap(),
        };
        db.put(round.to_be_bytes(), &text).unwrap();
        let stats = db.stats().log;
        assert_eq!(stats.bytes < stats.bytes_raw / 2, round % 2 == 0, "{stats:?}");
        for n in 0..=round {
            assert_eq!(db.get(n.to_be_bytes()).unwrap().unwrap(), text);
        }
    }
}

#[test]
fn an_opening_reports_its_progress() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let db = Db::open_with_config(&dir, Config::benchmark()).unwrap();
    for n in 0..1000u32 {
        db.put(n.to_be_bytes(), [0; 100]).unwrap();
    }
    drop(db);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&seen);
    let builder = Db::builder(&dir).index_images(false);
    let db = builder.progress(move |at| listener.lock().unwrap().push(at)).build().unwrap();
    assert_eq!(db.open_report().records, 1000);
    let seen = seen.lock().unwrap();
    assert!(seen.iter().any(|at| at.bytes_done == at.bytes_total && at.bytes_total > 100_000));
}

/// A life in two openings, with a note for each acknowledgement: a keyspace, then a batch across two.
fn trace_of_keyspaces(sim: &SimVfs) {
    for round in 0..4u64 {
        let db = small(sim).durability(Durability::Always).build().unwrap();
        let keyspace = db.keyspace(&format!("space {round}")).unwrap();
        sim.note(round * 2);
        let mut batch = db.batch();
        batch.put(&keyspace, "k", "v").put(&db, round.to_be_bytes(), "v");
        batch.commit().unwrap();
        sim.note(round * 2 + 1);
    }
}

/// The smallest segments, so that images are small.
fn small(sim: &SimVfs) -> Builder {
    on(Arc::new(sim.clone())).segment_bytes(16 << 10)
}

// S1, S2: keyspaces and batches at every crash point, creation and swaps of the manifest included.
#[test]
fn crash_keyspaces_and_batches_are_whole_or_absent_at_every_point() {
    let sim = SimVfs::new(7);
    trace_of_keyspaces(&sim);
    let mut images = HashSet::new();
    for model in [DiskModel::Posix, DiskModel::Ext4] {
        sim.trace().for_each_crash_point(model, |cursor| {
            let acknowledged = cursor.notes().iter().map(|(_, tag)| *tag + 1).max().unwrap_or(0);
            for (seed, variant) in (0..8).flat_map(|seed| CrashVariant::STANDARD.map(|v| (seed, v)))
            {
                let image = cursor.image(variant, seed);
                if !images.insert((acknowledged, image.hash())) {
                    continue;
                }
                let at =
                    format!("{model:?} point {} variant {variant:?} seed {seed}", cursor.point());
                let disk = SimVfs::from_image(image, 1);
                for opening in 0..2 {
                    let db = small(&disk).build().unwrap_or_else(|error| panic!("{at}: {error}"));
                    check_keyspaces(&db, acknowledged, &format!("{at} opening {opening}"));
                    db.keyspace("after the crash").unwrap().put("k", "v").unwrap();
                }
            }
        });
    }
    println!("{} distinct images", images.len());
    assert!(images.len() > 500, "{} images", images.len());
}

fn check_keyspaces(db: &Db, acknowledged: u64, at: &str) {
    let names = db.keyspaces().unwrap();
    for round in 0..4u64 {
        let name = format!("space {round}");
        let exists = names.contains(&name);
        assert!(exists || acknowledged <= round * 2, "{at}: keyspace {round} is lost");
        let plain = db.contains_key(round.to_be_bytes()).unwrap();
        let other = exists && db.keyspace(&name).unwrap().contains_key("k").unwrap();
        assert_eq!(plain, other, "{at}: half of batch {round}");
        assert!(plain || acknowledged <= round * 2 + 1, "{at}: batch {round} is lost");
    }
}

// F1: each operation of an opening and of the life after it fails once.
#[test]
fn fault_every_operation_fails_once_and_nothing_acknowledged_is_lost() {
    for fault in [FaultKind::Io, FaultKind::StorageFull] {
        for number in 0.. {
            let sim = SimVfs::new(3);
            let vfs = FaultVfs::with_plan(Arc::new(sim.clone()), FaultPlan::nth(number, fault));
            let mut acknowledged = Vec::new();
            if let Ok(db) = on(Arc::new(vfs.clone())).durability(Durability::Always).build() {
                for name in ["one", "two"] {
                    let Ok(keyspace) = db.keyspace(name) else { continue };
                    if keyspace.put("k", name).is_ok() {
                        acknowledged.push(name);
                    }
                }
            }
            let fired = vfs.counts().fired() > 0;
            let db = small(&sim).build();
            let db = db.unwrap_or_else(|error| panic!("{fault:?} at {number}: {error}"));
            for name in acknowledged {
                let found = db.keyspace(name).unwrap().get("k").unwrap();
                assert_eq!(found.as_deref(), Some(name.as_bytes()), "{fault:?} at {number}");
            }
            if !fired {
                assert!(number > 20, "the plan must reach every operation");
                break;
            }
        }
    }
}

#[test]
fn a_database_without_key_order_opens_again() {
    let root = tempfile::tempdir().unwrap();
    let open = || {
        let builder = Db::builder(root.path().join("db")).ordered(false);
        builder.index_images(false).build().unwrap()
    };
    let db = open();
    let users = db.keyspace("users").unwrap();
    db.put("a", "1").unwrap();
    users.put("b", "2").unwrap();
    drop((db, users));
    let db = open();
    assert_eq!(db.get("a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(db.keyspace("users").unwrap().get("b").unwrap().as_deref(), Some(&b"2"[..]));
}
