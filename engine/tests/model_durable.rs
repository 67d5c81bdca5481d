//! M1: the durable database against a model, through reopening, kills and power cuts; and the traps of rules 1, 5, 7, 12
//! and 13 of the design, one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cortenkv::vfs::SimVfs;
use cortenkv::vfs::sim::{CrashVariant, DiskModel, Image};
use cortenkv::{Db, Durability, ManualClock, PutOptions, TailKind};

#[path = "crash/harness.rs"]
mod harness;

use harness::{demand, from_env, machine, run_seed};

#[test]
fn lives_of_opens_kills_and_power_cuts_follow_the_model() {
    let seed = run_seed("model");
    let only = std::env::var("CORTEN_TRACE").is_ok().then(|| from_env("CORTEN_TRACE", 0));
    let lives = from_env("CORTEN_MODEL_LIVES", 2_000);
    demand(machine::run(machine::Budget { lives, operations: 100, seed, only }));
}

/// A database on a simulated disk, and the clock that it goes by.
fn open(sim: &SimVfs, durability: Durability) -> Db {
    try_open(sim, durability).unwrap()
}

fn try_open(sim: &SimVfs, durability: Durability) -> cortenkv::Result<Db> {
    Db::builder("db")
        .durability(durability)
        .segment_bytes(16 << 10)
        .window_bytes(4 << 10)
        .manual()
        .vfs(Arc::new(sim.clone()))
        .clock(Arc::new(ManualClock::at_wall_ms(1)))
        .build()
}

/// The disk after a power cut at this moment.
fn cut(sim: &SimVfs, variant: CrashVariant) -> Image {
    let trace = sim.trace();
    trace.crash_image(DiskModel::Posix, trace.len(), variant, 1)
}

fn after_kill(sim: &SimVfs) -> SimVfs {
    let trace = sim.trace();
    SimVfs::after_kill(&trace, trace.len(), 2)
}

/// The only segment of a database that was opened once.
const SEGMENT: &str = "db/0000000000000001.seg";

/// The byte at which a text stands in a segment.
fn find(image: &Image, path: &str, text: &[u8]) -> usize {
    let bytes = image.read(path).unwrap();
    bytes.windows(text.len()).position(|window| window == text).unwrap()
}

// Rule 1: the highest sequence wins, not the last position.
#[test]
fn a_ticket_that_is_settled_late_does_not_undo_a_newer_write() {
    let sim = SimVfs::new(1);
    let db = open(&sim, Durability::group());
    let mut older = db.batch();
    older.put(&db, b"k", b"older").delete(&db, b"gone");
    let ticket = older.commit_async().unwrap();
    let relaxed = || PutOptions::new().durability(Durability::None);
    let seq = db.put_with(b"k", b"newer", relaxed()).unwrap();
    db.put_with(b"gone", b"back", relaxed()).unwrap();
    assert!(ticket.wait().unwrap() < seq);
    for db in [db.clone(), open(&after_kill(&sim), Durability::group())] {
        assert_eq!(db.get(b"k").unwrap().as_deref(), Some(&b"newer"[..]));
        assert_eq!(db.get(b"gone").unwrap().as_deref(), Some(&b"back"[..]));
    }
}

// Rule 1: numbers go on, even past what a power cut took.
#[test]
fn a_number_that_was_acknowledged_and_lost_is_not_given_again() {
    let sim = SimVfs::new(1);
    let db = open(&sim, Durability::None);
    let lost = (0..50).map(|_| db.put(b"k", b"lost").unwrap()).max().unwrap();
    let image = cut(&sim, CrashVariant::AllLost);
    let db = open(&SimVfs::from_image(image, 2), Durability::None);
    assert_eq!(db.get(b"k").unwrap(), None);
    assert!(db.put(b"k", b"new").unwrap() > lost);
}

// Rule 5: what an open shows is durable.
#[test]
fn what_was_read_after_a_kill_survives_the_next_power_cut() {
    let sim = SimVfs::new(1);
    let db = open(&sim, Durability::None);
    db.put(b"k", b"never synced").unwrap();
    let sim = after_kill(&sim);
    assert!(open(&sim, Durability::None).get(b"k").unwrap().is_some());
    let image = cut(&sim, CrashVariant::AllLost);
    let db = open(&SimVfs::from_image(image, 3), Durability::None);
    assert_eq!(db.get(b"k").unwrap().as_deref(), Some(&b"never synced"[..]));
}

// Rule 5: after a failed sync the page cache is no proof.
#[test]
fn pages_that_a_failed_sync_left_clean_are_written_again() {
    let sim = SimVfs::new(1);
    let db = open(&sim, Durability::None);
    db.put(b"k", b"in the page cache only").unwrap();
    sim.fail_next_sync(std::io::Error::from_raw_os_error(5));
    db.sync().unwrap_err();
    let sim = after_kill(&sim);
    assert!(open(&sim, Durability::None).get(b"k").unwrap().is_some());
    let image = cut(&sim, CrashVariant::AllLost);
    let db = open(&SimVfs::from_image(image, 3), Durability::None);
    assert!(db.get(b"k").unwrap().is_some());
}

// Rule 7: nothing comes back behind a torn record, though new records of the same size end where dropped ones start.
#[test]
fn records_behind_a_torn_one_stay_dropped_when_new_ones_meet_them() {
    let sim = SimVfs::new(1);
    let db = open(&sim, Durability::None);
    for number in 0..6 {
        db.put(format!("k{number}"), format!("value-{number}-of-one-size")).unwrap();
    }
    let mut image = cut(&sim, CrashVariant::Kill);
    let torn = find(&image, SEGMENT, b"value-2-of-one-size");
    assert!(image.flip_bit(SEGMENT, torn as u64 * 8));
    let sim = SimVfs::from_image(image, 2);
    let db = open(&sim, Durability::None);
    assert_eq!(db.keys().count(), 2);
    db.put("k2", "value-2-of-one-size").unwrap();
    for sim in [after_kill(&sim), SimVfs::from_image(cut(&sim, CrashVariant::AllKept), 3)] {
        let db = open(&sim, Durability::None);
        assert_eq!(db.keys().map(|key| key.unwrap()).collect::<Vec<_>>(), ["k0", "k1", "k2"]);
    }
}

// Rule 7: a zeroed tail is a clean end.
#[test]
fn a_zeroed_tail_is_a_clean_end() {
    let sim = SimVfs::new(1);
    let db = open(&sim, Durability::None);
    db.put(b"a", b"first").unwrap();
    db.sync().unwrap();
    db.put(b"b", vec![1; 2_000]).unwrap();
    let image = cut(&sim, CrashVariant::NamesOnly);
    let db = open(&SimVfs::from_image(image, 2), Durability::None);
    assert_eq!(db.keys().map(|key| key.unwrap()).collect::<Vec<_>>(), ["a"]);
}

// Rule 7: damage in the middle is no end.
#[test]
fn damage_below_what_was_durable_is_corruption() {
    let sim = SimVfs::new(1);
    let db = open(&sim, Durability::Always);
    for number in 0..6 {
        db.put(format!("k{number}"), format!("value-{number}")).unwrap();
    }
    let mut image = cut(&sim, CrashVariant::AllLost);
    let at = find(&image, SEGMENT, b"value-2");
    assert!(image.flip_bit(SEGMENT, at as u64 * 8));
    let before = image.clone();
    let sim = SimVfs::from_image(image, 2);
    assert!(try_open(&sim, Durability::Always).unwrap_err().is_corruption());
    let unchanged = |path: &&std::path::Path| sim.image().read(path) == before.read(path);
    assert!(before.paths().filter(|path| path.extension().is_some()).all(|path| unchanged(&path)));
}

// Rule 12: a relaxed commit stands on everything below it, tickets and all.
#[test]
fn a_relaxed_commit_survives_a_kill_with_the_ticket_below_it() {
    for tail in [TailKind::Mapped, TailKind::Written] {
        let sim = SimVfs::new(1);
        let build = |sim: &SimVfs| {
            let builder = Db::builder("db").tail(tail).manual().vfs(Arc::new(sim.clone()));
            builder.build().unwrap()
        };
        let db = build(&sim);
        let mut below = db.batch();
        below.put(&db, b"below", vec![7; 9_000]);
        drop(below.commit_async().unwrap());
        db.put_with(b"above", b"1", PutOptions::new().durability(Durability::None)).unwrap();
        let db = build(&after_kill(&sim));
        assert_eq!(db.get(b"above").unwrap().as_deref(), Some(&b"1"[..]), "{tail:?}");
        assert_eq!(db.get(b"below").unwrap().map(|value| value.len()), Some(9_000), "{tail:?}");
    }
}

// Rule 13: nobody sees half a batch: not from a torn disk, not while it is installed.
#[test]
fn a_batch_is_whole_or_absent_at_every_crash_point() {
    let sim = SimVfs::new(1);
    let db = open(&sim, Durability::None);
    let mut batch = db.batch();
    for number in 0..40 {
        batch.put(&db, format!("k{number}"), vec![number; 100]);
    }
    batch.commit().unwrap();
    let trace = sim.trace();
    let mut counts = std::collections::BTreeSet::new();
    trace.for_each_crash_point(DiskModel::Posix, |cursor| {
        for variant in CrashVariant::STANDARD {
            let sim = SimVfs::from_image(cursor.image(variant, 1), 2);
            counts.insert(open(&sim, Durability::None).keys().count());
        }
    });
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [0, 40]);
}

// Rule 13
#[test]
fn a_reader_beside_a_writer_of_batches_never_sees_half_of_one() {
    let db = open(&SimVfs::new(1), Durability::None);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..2_000_u32 {
                let number = number.to_le_bytes();
                db.put_batch([("a", number, None), ("b", number, None)]).unwrap();
            }
            done.store(true, Relaxed);
        });
        let read = |key| {
            db.get(key)
                .unwrap()
                .map_or(0, |value| 1 + u32::from_le_bytes(value[..].try_into().unwrap()))
        };
        while !done.load(Relaxed) {
            // Written together and read in this order, `b` is never the older.
            let (a, b) = (read("a"), read("b"));
            assert!(a <= b, "{a} of one batch and {b} of an older");
        }
    });
}
