//! Checkpoints: U5. `CORTEN_SEED` replays a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cortenkv::segments::SegmentKind;
use cortenkv::vfs::sim::{CrashVariant, DiskModel};
use cortenkv::vfs::{OpenMode, SimVfs, Vfs};
use cortenkv::{CheckpointOptions, Db, Durability, Error, HoldOptions};

#[path = "common/rounds.rs"]
mod rounds;

use rounds::{Rounds, content};

#[test]
fn a_checkpoint_is_the_database_at_its_commit() {
    let mut rounds = Rounds::new("checkpoint");
    let dir = tempfile::tempdir().unwrap();
    let mut db = rounds.open(&dir.path().join("db"));
    for round in 0..12 {
        rounds.write(&db, 150);
        match round % 4 {
            0 => drop(db.compact().unwrap()),
            1 => {
                drop(db);
                db = rounds.open(&dir.path().join("db"));
            }
            2 => drop(db.sync().unwrap()),
            _ => {}
        }
        let copy = dir.path().join(format!("copy{round}"));
        let options = CheckpointOptions::new().links(round % 3 != 0);
        let report = db.checkpoint_with(&copy, options).unwrap();
        assert_eq!(report.seq, db.stats().last_seq);
        assert_eq!(report.files_linked == 0, round % 3 == 0, "{report:?}");
        let model = rounds.model().clone();
        // What either does later, the other knows nothing of.
        rounds.write(&db, 50);
        let reader = Db::builder(&copy).read_only(true).build().unwrap();
        assert_eq!(content(&reader), model);
        drop(reader);
        for _ in 0..2 {
            let opened = rounds.open(&copy);
            assert_eq!(content(&opened), model);
            let found = opened.verify().unwrap();
            assert!(found.is_intact(), "{:?}", found.findings);
        }
        let opened = rounds.open(&copy);
        opened.put("only here", "1").unwrap();
        opened.compact().unwrap();
        drop(opened);
        assert_eq!(content(&db), *rounds.model());
        let found = db.verify().unwrap();
        assert!(found.is_intact(), "{:?}", found.findings);
        drop(db);
        db = rounds.open(&dir.path().join("db"));
        assert_eq!(content(&db), *rounds.model());
    }
    let has_compacted = |db: &Db| {
        db.segments().unwrap().iter().any(|segment| segment.kind == SegmentKind::Compacted)
    };
    assert!(has_compacted(&db) && rounds.had_jobs());
}

#[test]
fn a_checkpoint_goes_to_a_new_place_only_and_has_no_holds() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path().join("db")).unwrap();
    db.hold("mine", HoldOptions::new()).unwrap();
    let copy = dir.path().join("copy");
    db.checkpoint(&copy).unwrap();
    assert!(Db::open(&copy).unwrap().holds().unwrap().is_empty());
    let code = |outcome: Result<_, Error>| outcome.map(|_| ()).unwrap_err().code();
    assert_eq!(code(db.checkpoint(&copy)), 3);
    assert_eq!(code(Db::open_in_memory().unwrap().checkpoint(dir.path().join("m"))), 12);
}

/// Each commit writes the same number under two keys of two keyspaces, and deletes the number before it.
#[test]
fn a_checkpoint_under_writers_and_compactions_is_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let build = |path: &std::path::Path| {
        Db::builder(path).segment_bytes(16 << 10).durability(Durability::None).build().unwrap()
    };
    let db = build(&dir.path().join("db"));
    let second = db.keyspace("second").unwrap();
    let (is_over, padding) = (Arc::new(AtomicBool::new(false)), vec![0; 200]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..300_000_u64 {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let mut batch = db.batch();
                batch.put(&db, n.to_be_bytes(), &padding);
                batch.put(&second, n.to_be_bytes(), &padding);
                batch.put(&db, "last", n.to_be_bytes());
                if let Some(old) = n.checked_sub(100) {
                    batch.delete(&db, old.to_be_bytes());
                    batch.delete(&second, old.to_be_bytes());
                }
                batch.commit().unwrap();
            }
        });
        for n in 0..10 {
            let copy = dir.path().join(format!("copy{n}"));
            let report = db.checkpoint(&copy).unwrap();
            let opened = build(&copy);
            let Some(last) = opened.get_entry("last").unwrap() else { continue };
            assert_eq!(last.seq, report.seq, "every commit has one");
            let last = u64::from_be_bytes(last.value[..].try_into().unwrap());
            let expected: Vec<u64> = (last.saturating_sub(99)..=last).collect();
            let number = |key: &[u8]| u64::from_be_bytes(key.try_into().unwrap());
            let second = opened.keyspace("second").unwrap();
            let found = second.keys().map(|key| number(&key.unwrap()));
            assert_eq!(found.collect::<Vec<_>>(), expected);
            assert_eq!(opened.iter().count(), expected.len() + 1);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_crash_leaves_a_whole_checkpoint_or_none() {
    let sim = SimVfs::new(7);
    let open = |vfs: &SimVfs, dir: &str| {
        let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
        Db::builder(dir).vfs(vfs).segment_bytes(16 << 10).manual().build()
    };
    let db = open(&sim, "/db").unwrap();
    for n in 0..200_u32 {
        db.put((n % 50).to_be_bytes(), vec![n as u8; 300]).unwrap();
    }
    db.compact().unwrap();
    let before = sim.point();
    db.checkpoint("/copy").unwrap();
    let trace = sim.trace();
    let (mut whole, mut none) = (0, 0);
    for point in before..=trace.len() {
        for (n, variant) in CrashVariant::STANDARD.into_iter().enumerate() {
            let model = DiskModel::ALL[(point + n) % DiskModel::ALL.len()];
            let image = trace.crash_image(model, point, variant, point as u64);
            let vfs = SimVfs::from_image(image, 1);
            let has_current = vfs.open("/copy/CURRENT".as_ref(), OpenMode::Read).is_ok();
            match open(&vfs, "/copy") {
                Ok(copy) if has_current => {
                    whole += 1;
                    assert_eq!(copy.iter().count(), 50);
                    assert_eq!(copy.get(49_u32.to_be_bytes()).unwrap().unwrap()[0], 199);
                }
                Ok(copy) => assert_eq!(copy.iter().count(), 0, "nothing of it was there"),
                Err(error) => {
                    assert!(error.is_corruption(), "{error}");
                    none += 1;
                }
            }
        }
    }
    assert!(whole > 0 && none > 10, "{whole} {none}");
}
