//! Holds and the change feed: U5, U13, S1. `CORTEN_SEED` replays a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cortenkv::segments::SegmentState;
use cortenkv::vfs::sim::{CrashVariant, DiskModel};
use cortenkv::vfs::{SimVfs, Vfs};
use cortenkv::{Change, ChangeEvent, Db, Durability, ErrorKind, HoldOptions, WatchOptions};

#[path = "common/rounds.rs"]
mod rounds;

use rounds::{Model, Rounds};

fn open(dir: &std::path::Path) -> Db {
    Db::builder(dir)
        .segment_bytes(16 << 10)
        .durability(Durability::None)
        .async_compaction(false)
        .build()
        .unwrap()
}

fn held(db: &Db) -> usize {
    let segments = db.segments().unwrap();
    segments.iter().filter(|segment| segment.state == SegmentState::Held).count()
}

/// Overwrites the same keys until compaction has something to do, and compacts.
fn churn(db: &Db, rounds: u32) {
    for round in 0..rounds {
        for key in 0..40_u32 {
            db.put(key.to_be_bytes(), vec![round as u8; 500]).unwrap();
        }
    }
    db.compact().unwrap();
}

#[test]
fn a_hold_keeps_segments_until_it_moves_across_openings() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    churn(&db, 5);
    assert_eq!(held(&db), 0);
    let hold = db.hold("reader", HoldOptions::new()).unwrap();
    let seq = hold.seq().unwrap();
    db.delete(7_u32.to_be_bytes()).unwrap();
    churn(&db, 1);
    db.delete(7_u32.to_be_bytes()).unwrap();
    churn_all_but(&db, 7);
    let kept = held(&db);
    assert!(kept > 3, "{kept}");
    assert!(db.holds().unwrap()[0].held_bytes > 3 * (16 << 10));
    let report = db.verify().unwrap();
    assert!(report.is_intact(), "{:?}", report.findings);
    drop((db, hold));
    for _ in 0..2 {
        // No opening replays them: a key that was deleted stays so, and nothing counts.
        let db = open(dir.path());
        assert_eq!(held(&db), kept);
        assert_eq!(db.get(7_u32.to_be_bytes()).unwrap(), None);
        let report = db.verify().unwrap();
        assert!(report.is_intact() && report.is_quiet, "{:?}", report.findings);
    }
    let db = open(dir.path());
    let hold = db.hold("reader", HoldOptions::new()).unwrap();
    assert_eq!(hold.seq().unwrap(), seq, "an opening leaves it where it was");
    hold.advance(db.stats().last_seq).unwrap();
    assert_eq!(held(&db), 0);
    assert!(hold.clone().release().unwrap() && !hold.release().unwrap());
    assert!(db.holds().unwrap().is_empty());
}

fn churn_all_but(db: &Db, spared: u32) {
    for round in 0..5 {
        for key in (0..40_u32).filter(|key| *key != spared) {
            db.put(key.to_be_bytes(), vec![round; 500]).unwrap();
        }
    }
    db.compact().unwrap();
}

#[test]
fn a_hold_that_keeps_too_much_breaks_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let mut feed = db.watch(WatchOptions::new("slow").bytes_max(40 << 10)).unwrap();
    let hold = db.hold("patient", HoldOptions::new()).unwrap();
    churn(&db, 10);
    let holds = db.holds().unwrap();
    assert!(!holds[0].is_broken && holds[1].is_broken, "{holds:?}");
    // The other hold keeps them still, so the reader finds them; then they go.
    assert!(feed.try_next().unwrap().is_some());
    hold.advance(db.stats().last_seq).unwrap();
    let error = loop {
        match feed.try_next() {
            Ok(event) => assert!(event.is_some(), "it says that there is nothing more"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::Lagged { .. }), "{error}");
    drop((feed, hold));
    drop(db);
    let db = open(dir.path());
    let error = db.watch(WatchOptions::new("slow")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Lagged { .. }), "{error}");
    assert!(db.release_hold("slow").unwrap());
    let mut feed = db.watch(WatchOptions::new("slow")).unwrap();
    db.put("after", "it").unwrap();
    assert_eq!(feed.next_timeout(Duration::from_millis(1)).unwrap(), None, "not durable yet");
    db.sync().unwrap();
    assert_eq!(feed.try_next().unwrap().unwrap().key, "after");
}

#[test]
fn a_feed_shows_what_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(dir.path());
    let users = db.keyspace("users").unwrap();
    let mut feed = db.watch(WatchOptions::new("a").keyspace("users").prefix("x/")).unwrap();
    let mut all = db.watch(WatchOptions::new("b")).unwrap();
    let mut batch = db.batch();
    batch.put(&db, "x/1", "default");
    batch.put(&users, "y/1", "other prefix");
    batch.put(&users, "x/2", "value");
    batch.delete(&users, "x/3");
    let seq = batch.commit().unwrap();
    db.sync().unwrap();
    let next = |feed: &mut cortenkv::Feed| feed.next().unwrap().unwrap();
    let put = next(&mut feed);
    assert_eq!((put.seq, put.index, &put.key[..], &*put.keyspace), (seq, 2, &b"x/2"[..], "users"));
    let delete = next(&mut feed);
    assert_eq!((delete.index, delete.change), (3, Change::Delete));
    assert_eq!(feed.try_next().unwrap(), None);
    assert_eq!((0..4).map(|_| next(&mut all).index).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let mut within = db.watch(WatchOptions::new("b").after(seq, 1)).unwrap();
    assert_eq!(next(&mut within).index, 2);
    // A waiting consumer is woken by a commit.
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || next(&mut feed).key);
        users.put("x/9", "1").unwrap();
        db.sync().unwrap();
        assert_eq!(waiter.join().unwrap(), "x/9");
    });
    assert_eq!(
        Db::open_in_memory().unwrap().watch(WatchOptions::new("m")).unwrap_err().code(),
        ErrorKind::Unsupported.code()
    );
}

// S1, U13
#[test]
fn a_crash_leaves_the_held_log_whole_and_none_of_it_is_replayed() {
    let sim = SimVfs::new(11);
    let open = |vfs: &SimVfs| {
        let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let db = Db::builder("db").vfs(vfs).segment_bytes(16 << 10).manual();
        db.durability(Durability::Always).build().unwrap()
    };
    let db = open(&sim);
    drop(db.watch(WatchOptions::new("reader")).unwrap());
    let begin = sim.point();
    // Each commit with the moment at which it was durable.
    let mut ledger: Vec<(usize, u64)> = Vec::new();
    for n in 0..300_u32 {
        let key = (n % 30).to_be_bytes();
        let seq = match n % 5 {
            4 => db.delete(key).unwrap(),
            _ => db.put(key, vec![n as u8; 400]).unwrap(),
        };
        ledger.push((sim.point(), seq));
        if n % 90 == 89 {
            db.compact().unwrap();
        }
    }
    let (trace, mut held_max) = (sim.trace(), 0);
    for (n, point) in (begin..=trace.len()).step_by(5).enumerate() {
        let variant = CrashVariant::STANDARD[n % CrashVariant::STANDARD.len()];
        let model = DiskModel::ALL[n / 13 % DiskModel::ALL.len()];
        let image = trace.crash_image(model, point, variant, n as u64);
        let place = format!("point={point} {variant:?} {model:?}");
        let db = open(&SimVfs::from_image(image, 1));
        held_max = held_max.max(held(&db));
        let mut feed = db.watch(WatchOptions::new("reader")).unwrap();
        let (mut mirror, mut seqs) = (BTreeMap::new(), Vec::new());
        while let Some(event) = feed.try_next().unwrap_or_else(|e| panic!("{place}: {e}")) {
            match event.change {
                Change::Put { value, .. } => drop(mirror.insert(event.key, value)),
                Change::Delete => drop(mirror.remove(&event.key)),
            }
            seqs.push(event.seq);
        }
        let durable = ledger.iter().filter(|(at, _)| *at <= point).count();
        let all: Vec<u64> = ledger.iter().map(|(_, seq)| *seq).take(seqs.len()).collect();
        assert!(seqs.len() >= durable && seqs == all, "{place}: {} of {durable}", seqs.len());
        let shown: BTreeMap<_, _> = db.iter().map(Result::unwrap).collect();
        assert_eq!(shown, mirror, "{place}");
        let report = db.verify().unwrap();
        assert!(report.is_intact(), "{place}: {:?}", report.findings);
    }
    assert!(held_max > 2, "{held_max}");
}

// U13
#[test]
fn a_consumer_that_is_killed_and_resumed_sees_each_change_once_and_in_order() {
    let mut rounds = Rounds::new("feed");
    let dir = tempfile::tempdir().unwrap();
    let mut db = rounds.open(dir.path());
    drop(db.watch(WatchOptions::new("ledger")).unwrap());
    let mut ledger: Vec<(u64, u32)> = Vec::new();
    let mut mirror = Model::new();
    for round in 0..100 {
        rounds.write(&db, 60);
        if round % 3 == 0 {
            db.compact().unwrap();
        }
        if round % 10 == 9 {
            drop(db);
            db = rounds.open(dir.path());
        }
        db.sync().unwrap();
        let options = WatchOptions::new("ledger");
        let mut feed = match ledger.last() {
            Some((seq, index)) if round % 2 == 0 => db.watch(options.after(*seq, *index)).unwrap(),
            _ => db.watch(options).unwrap(),
        };
        // It dies at some moment, having acknowledged less than it has seen.
        let taken = rounds.below(200);
        for _ in 0..taken {
            let Some(event) = feed.try_next().unwrap() else { break };
            if ledger.last().is_some_and(|last| (event.seq, event.index) <= *last) {
                continue;
            }
            ledger.push((event.seq, event.index));
            apply(&mut mirror, &event);
            if rounds.below(20) == 0 {
                feed.ack(event.seq - 1).unwrap();
            }
        }
    }
    let (seq, index) = *ledger.last().unwrap();
    let mut feed = db.watch(WatchOptions::new("ledger").after(seq, index)).unwrap();
    while let Some(event) = feed.try_next().unwrap() {
        ledger.push((event.seq, event.index));
        apply(&mut mirror, &event);
    }
    assert!(ledger.is_sorted_by(|a, b| a < b), "each once and in order");
    assert_eq!(ledger, rounds.changes());
    assert_eq!(mirror, *rounds.model());
    assert!(rounds.had_jobs(), "nothing was compacted");
}

fn apply(mirror: &mut Model, event: &ChangeEvent) {
    let keyspace = mirror.entry(event.keyspace.to_string()).or_default();
    match &event.change {
        Change::Put { value, .. } => keyspace.insert(event.key.to_vec(), value.to_vec()),
        Change::Delete => keyspace.remove(&event.key[..]),
    };
}
