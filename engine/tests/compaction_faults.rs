//! C3, F1, U11: what goes wrong with a job of compaction is told, costs no data, and is not repeated without an end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use cortenkv::verify::FindingKind;
use cortenkv::vfs::{FaultKind, FaultPlan, FaultVfs, OpKind, OpenMode, OsVfs, SimVfs, Vfs};
use cortenkv::{Builder, Clock, ClosedReason, Db, Durability, ErrorKind, SystemClock};

const DIR: &str = "db";

fn key(n: u32) -> [u8; 8] {
    (u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_be_bytes()
}

fn value(n: u32, version: u32) -> Vec<u8> {
    format!("{n} {version} ").into_bytes().repeat(20)
}

fn builder(dir: &Path, vfs: &Arc<dyn Vfs>) -> Builder {
    let builder = Db::builder(dir).durability(Durability::None).segment_bytes(64 << 10).manual();
    builder.vfs(Arc::clone(vfs)).window_bytes(4 << 10)
}

type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// Some versions of some keys in several settled segments, all of which have garbage and something that lives.
fn fill(db: &Db) -> Content {
    let mut expected = Content::new();
    for version in 0..4 {
        for n in (0..1_200).filter(|n| version == 0 || n % 4 == version) {
            db.put(key(n), value(n, version)).unwrap();
            expected.insert(key(n).to_vec(), value(n, version));
        }
    }
    db.sync().unwrap();
    expected
}

fn content(db: &Db, expected: &Content) -> Content {
    let get = |key: &Vec<u8>| Some((key.clone(), db.get(key).unwrap()?.to_vec()));
    expected.keys().filter_map(get).collect()
}

// A damaged segment costs one attempt and is told with its place; the others are reclaimed, and what is intact is read.
#[test]
fn damage_in_a_victim_is_told_and_left_alone() {
    for (turn, offset) in [5_000, 17_001, 30_000].into_iter().enumerate() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(DIR);
        let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
        let db = builder(&dir, &vfs).build().unwrap();
        let expected = fill(&db);
        let segments = db.settled_segments().unwrap();
        let damaged = segments[turn];
        let report = db.segments().unwrap().into_iter().find(|it| it.id == damaged).unwrap();
        let path = dir.join(&report.file);
        let file = vfs.open(&path, OpenMode::Write).unwrap();
        let mut byte = [0];
        file.read_at(&mut byte, offset).unwrap();
        file.write_at(&[byte[0] ^ 0x10], offset).unwrap();

        let failed = db.compact().unwrap_err();
        assert!(failed.is_corruption(), "{failed}");
        let stats = db.stats().compaction;
        let told = &stats.damaged_segments[..];
        assert_eq!(told.len(), 1, "{stats:?}");
        assert_eq!((told[0].id, &told[0].file), (damaged, &path));
        assert!(told[0].offset <= offset && offset < told[0].offset + 1_000, "{told:?}");
        // Not retried, and in nobody's way.
        let retired: u64 = (0..3).map(|_| db.compact().unwrap().segments_retired).sum();
        assert!(retired > 0);
        let after = db.stats().compaction;
        assert_eq!((after.failures, after.jobs_given_up), (1, 1), "{after:?}");
        let left = db.settled_segments().unwrap();
        assert!(left.contains(&damaged) && !db.compact_segments(&[damaged]).unwrap(), "{left:?}");
        let others: Vec<u64> = left.into_iter().filter(|id| *id != damaged).collect();
        assert!(db.compact_segments(&others).unwrap());
        let found = db.verify().unwrap().findings;
        let is_it = |it: &&cortenkv::verify::Finding| it.file.as_ref() == Some(&path);
        let damage: Vec<_> =
            found.iter().filter(is_it).filter(|it| it.kind == FindingKind::Damage).collect();
        assert!(!damage.is_empty(), "{found:?}");
        let unreadable = expected
            .iter()
            .filter(|(key, value)| match db.get(key) {
                Ok(found) => {
                    assert_eq!(found.as_deref(), Some(&value[..]));
                    false
                }
                Err(error) => error.is_corruption(),
            })
            .count();
        assert!(unreadable <= 1, "{unreadable}");
        db.put(b"new", b"one").unwrap();
    }
}

// Every operation of a job fails in turn: on a full disk nothing is latched and the job is done later; a failed write or sync
// of an output or of the manifest ends the writes; no failure loses anything.
#[test]
fn a_failed_operation_of_a_job_latches_what_it_has_to_and_loses_nothing() {
    let run = |plan: Option<(OpKind, u64, FaultKind)>| {
        let sim: Arc<dyn Vfs> = Arc::new(SimVfs::new(5));
        let faults = FaultVfs::new(Arc::clone(&sim));
        let vfs: Arc<dyn Vfs> = Arc::new(faults.clone());
        let db = builder(Path::new(DIR), &vfs).build().unwrap();
        let expected = fill(&db);
        let segments = db.settled_segments().unwrap();
        let before = faults.counts();
        let plan = plan.map(|(kind, n, fault)| FaultPlan::nth_of(kind, before.of(kind) + n, fault));
        faults.set_plan(plan);
        let compacted = db.compact_segments(&segments);
        let counts = OpKind::ALL.map(|kind| faults.counts().of(kind) - before.of(kind));
        faults.set_plan(None);
        assert_eq!(content(&db, &expected), expected, "{plan:?}");
        let put = db.put(b"new", b"one");
        let is_latched = put.is_err_and(|error| error.is_closed());
        let stats = db.stats().compaction;
        if !is_latched {
            // It is done anew, or what was published is finished.
            let is_done = compacted.is_ok() || db.compact_segments(&segments).unwrap();
            db.compact().unwrap();
            let left = db.settled_segments().unwrap();
            let is_gone = !segments.iter().any(|id| left.contains(id));
            assert!(is_done || is_gone, "{plan:?}: {compacted:?}");
        }
        let _ = db.close();
        drop(db);
        let db = builder(Path::new(DIR), &vfs).build().unwrap();
        assert_eq!(content(&db, &expected), expected, "{plan:?}");
        assert!(db.verify().unwrap().is_intact(), "{plan:?}");
        (compacted, is_latched, stats, counts)
    };
    let (compacted, is_latched, _, counts) = run(None);
    assert!(compacted.unwrap() && !is_latched);
    let (mut latched, mut full, mut kept) = (0, 0, 0);
    for (kind, count) in OpKind::ALL.into_iter().zip(counts) {
        for n in 0..count {
            let (compacted, is_latched, stats, _) = run(Some((kind, n, FaultKind::Io)));
            let place = format!("{kind:?} {n}: {compacted:?} {stats:?}");
            match kind {
                // Of a segment it is the next opening's; of the manifest it is no segment.
                OpKind::Remove if stats.files_not_removed > 0 => {
                    assert!(compacted.is_ok() && !is_latched, "{place}");
                    kept += stats.files_not_removed;
                }
                OpKind::Remove
                | OpKind::Create
                | OpKind::Write
                | OpKind::Rename
                | OpKind::Allocate => {
                    assert!(compacted.is_ok() || is_latched, "{place}");
                }
                OpKind::SyncData | OpKind::SyncDir => {
                    assert!(compacted.is_err() && is_latched, "{place}");
                }
                _ => {}
            }
            latched += u32::from(is_latched);
            let (compacted, is_latched, ..) = run(Some((kind, n, FaultKind::StorageFull)));
            let is_sync = matches!(kind, OpKind::SyncData | OpKind::SyncDir);
            assert!(is_sync || !is_latched, "a full disk: {kind:?} {n}: {compacted:?}");
            full += u32::from(compacted.is_err());
        }
    }
    println!("{latched} latched, {full} met a full disk, {kept} files kept");
    assert!(latched >= 4 && full >= 4 && kept >= 2, "{latched} {full} {kept}");
}

/// A clock that panics in the workers once it is told to: a defect of background work.
#[derive(Debug, Default)]
struct Trap {
    clock: SystemClock,
    is_armed: AtomicBool,
}

impl Clock for Trap {
    fn monotonic(&self) -> Duration {
        let thread = std::thread::current();
        let is_worker = thread.name().is_some_and(|name| name.starts_with("corten-work"));
        assert!(!(is_worker && self.is_armed.load(SeqCst)), "planted");
        self.clock.monotonic()
    }

    fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }
}

// A worker looks for work each second at the latest, so the next call after that is told.
#[test]
fn a_panic_of_a_worker_closes_the_database_to_writes_and_only_this_one() {
    let root = tempfile::tempdir().unwrap();
    let trap = Arc::new(Trap::default());
    let open = |name: &str, clock: Arc<dyn Clock>| {
        let builder = Db::builder(root.path().join(name)).durability(Durability::None);
        builder.clock(clock).build().unwrap()
    };
    let (hit, other) = (open("hit", trap.clone()), open("other", Arc::new(SystemClock)));
    hit.put(b"key", b"value").unwrap();
    trap.is_armed.store(true, SeqCst);
    let told = (0..1_000).find_map(|_| {
        std::thread::park_timeout(Duration::from_millis(50));
        hit.put(b"key", b"value").err()
    });
    let told = told.expect("nobody was told");
    assert_eq!(*told.kind(), ErrorKind::Closed(ClosedReason::Panicked), "{told}");
    assert_eq!(hit.get(b"key").unwrap().unwrap(), b"value"[..]);
    other.put(b"key", b"value").unwrap();
    trap.is_armed.store(false, SeqCst);
    assert!(hit.close().is_err());
    drop(hit);
    assert_eq!(open("hit", trap).get(b"key").unwrap().unwrap(), b"value"[..]);
}

// A job in a worker holds no handle: the last one may go at any time, which ends it or lets it come to its end.
#[test]
fn the_last_handle_may_go_while_a_job_runs() {
    for round in 0..8 {
        let root = tempfile::tempdir().unwrap();
        let open = || {
            let builder = Db::builder(root.path().join(DIR)).durability(Durability::None);
            builder.segment_bytes(64 << 10).build().unwrap()
        };
        let db = open();
        let mut expected = Content::new();
        for version in 0..8 {
            for n in 0..1_500 {
                db.put(key(n), value(n, version)).unwrap();
                expected.insert(key(n).to_vec(), value(n, version));
            }
        }
        // Workers are at it, at another step each time.
        std::thread::park_timeout(Duration::from_millis(round));
        drop(db);
        let db = open();
        assert_eq!(content(&db, &expected), expected);
        db.compact().unwrap();
        assert!(db.verify().unwrap().is_intact(), "round {round}");
    }
}
