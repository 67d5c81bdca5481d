//! Backups, restores to a moment, and what a self-test finds: U5. `CORTEN_SEED` replays a run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cortenkv::vfs::{OpenMode, OsVfs, Vfs};
use cortenkv::{
    BackupKind, BackupOptions, Db, Durability, ErrorKind, HoldOptions, ManualClock, PutOptions,
    RestoreTo, list_backups, restore, restore_from_log, verify_backup,
};

#[path = "common/rounds.rs"]
mod rounds;

use rounds::{Model, Rounds, content};

#[test]
fn every_moment_since_the_first_backup_comes_back() {
    let mut rounds = Rounds::new("backup");
    let dir = tempfile::tempdir().unwrap();
    let (data, target) = (dir.path().join("db"), dir.path().join("target"));
    let mut db = rounds.open(&data);
    rounds.write(&db, 300);
    let first = db.backup(&target, BackupOptions::full().self_test(true)).unwrap();
    assert!(first.kind == BackupKind::Full && first.keys_compared > 20, "{first:?}");
    for round in 0..6 {
        rounds.write(&db, 200);
        db.compact().unwrap();
        if round == 3 {
            drop(db);
            db = rounds.open(&data);
        }
        let options = BackupOptions::incremental().self_test(round % 2 == 0);
        let report = db.backup(&target, options).unwrap();
        assert!(report.kind == BackupKind::Incremental && report.since >= first.seq);
    }
    assert!(rounds.had_jobs());
    let verified = verify_backup(&target).unwrap();
    assert_eq!((verified.backups, verified.commits), (7, 1200));
    let seqs: Vec<u64> = rounds.past().range(first.seq..).map(|(seq, _)| *seq).collect();
    for n in 0..20 {
        let seq = seqs[rounds.below(seqs.len() as u64) as usize];
        let copy = dir.path().join(format!("copy{n}"));
        let report = restore(&target, &copy, RestoreTo::Seq(seq)).unwrap();
        assert_eq!(report.seq, seq);
        let restored = Db::open(&copy).unwrap();
        assert_eq!(content(&restored), rounds.past()[&seq], "commit {seq}");
        assert!(restored.verify().unwrap().is_intact());
    }
    let copy = dir.path().join("latest");
    restore(&target, &copy, RestoreTo::Latest).unwrap();
    assert_eq!(content(&Db::open(&copy).unwrap()), *rounds.model());
    for seq in [first.seq - 1, seqs[seqs.len() - 1] + 1] {
        let error = restore(&target, dir.path().join("no"), RestoreTo::Seq(seq)).unwrap_err();
        assert_eq!(error.code(), ErrorKind::InvalidArgument.code(), "{error}");
    }
    // A restored database is another one: it does not go on with these backups.
    let error = Db::open(&copy).unwrap().backup(&target, BackupOptions::incremental());
    assert_eq!(error.unwrap_err().code(), ErrorKind::InvalidArgument.code());
}

#[test]
fn a_delete_between_two_incremental_backups_stays_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let db = Db::builder(dir.path().join("db"))
        .segment_bytes(16 << 10)
        .async_compaction(false)
        .durability(Durability::None)
        .build()
        .unwrap();
    let churn = || {
        for n in 0..400_u32 {
            db.put((n % 20).to_be_bytes(), vec![0; 300]).unwrap();
        }
        db.compact().unwrap();
    };
    db.put("gone", "1").unwrap();
    db.backup(&target, BackupOptions::full()).unwrap();
    db.put("later", "1").unwrap();
    churn();
    db.backup(&target, BackupOptions::incremental()).unwrap();
    db.delete("gone").unwrap();
    db.delete("later").unwrap();
    // Nothing holds a put of them any more, so compaction forgets the deletes; the held log has them.
    churn();
    churn();
    db.backup(&target, BackupOptions::incremental().self_test(true)).unwrap();
    restore(&target, dir.path().join("copy"), RestoreTo::Latest).unwrap();
    let copy = Db::open(dir.path().join("copy")).unwrap();
    assert_eq!((copy.get("gone").unwrap(), copy.get("later").unwrap()), (None, None));
    assert_eq!(content(&copy), content(&db));
}

#[test]
fn a_moment_of_the_clock_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let clock = Arc::new(ManualClock::at_wall_ms(1_000_000));
    let db = Db::builder(dir.path().join("db"))
        .clock(clock.clone())
        .manual()
        .durability(Durability::Always)
        .segment_bytes(16 << 10)
        .build()
        .unwrap();
    db.backup(&target, BackupOptions::full()).unwrap();
    for n in 0..300_u64 {
        clock.advance(std::time::Duration::from_secs(1));
        let forever = PutOptions::new().ttl(std::time::Duration::from_secs(1 << 40));
        db.put_with(
            (n % 7).to_be_bytes(),
            [vec![7; 200], n.to_be_bytes().to_vec()].concat(),
            forever,
        )
        .unwrap();
        if n == 150 {
            db.compact().unwrap();
            db.backup(&target, BackupOptions::incremental()).unwrap();
        }
    }
    db.backup(&target, BackupOptions::incremental()).unwrap();
    for (n, last) in [3_u64, 77, 149, 151, 260].into_iter().enumerate() {
        let copy = dir.path().join(format!("copy{n}"));
        // Between two commits, the first of which was second `last + 1`.
        let at_ms = 1_000_000 + (last + 1) * 1_000 + 500;
        restore(&target, &copy, RestoreTo::TimeMs(at_ms)).unwrap();
        let expected: BTreeMap<Vec<u8>, u64> =
            (0..=last).map(|n| ((n % 7).to_be_bytes().to_vec(), n)).collect();
        let opened = Db::builder(&copy).clock(clock.clone()).build().unwrap();
        let found = opened.iter().map(|entry| {
            let (key, value) = entry.unwrap();
            (key.to_vec(), u64::from_be_bytes(value[200..].try_into().unwrap()))
        });
        assert_eq!(found.collect::<BTreeMap<_, _>>(), expected, "second {last}");
        let entry = opened.get_entry(0_u64.to_be_bytes()).unwrap().unwrap();
        assert!(entry.expires_at.is_some(), "its end is kept");
    }
    let error = restore(&target, dir.path().join("no"), RestoreTo::TimeMs(10)).unwrap_err();
    assert_eq!(error.code(), ErrorKind::InvalidArgument.code());
}

#[test]
fn a_backup_under_full_load_is_of_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let db = Db::builder(dir.path().join("db"))
        .segment_bytes(64 << 10)
        .durability(Durability::None)
        .build()
        .unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..400_000_u64 {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let mut batch = db.batch();
                batch.put(&db, (n % 500).to_be_bytes(), n.to_be_bytes());
                batch.put(&db, "last", n.to_be_bytes());
                batch.commit().unwrap();
            }
        });
        db.backup(&target, BackupOptions::full()).unwrap();
        for _ in 0..4 {
            db.backup(&target, BackupOptions::incremental().self_test(true)).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    for (n, backup) in list_backups(&target).unwrap().iter().enumerate() {
        let copy = dir.path().join(format!("copy{n}"));
        restore(&target, &copy, RestoreTo::Seq(backup.seq)).unwrap();
        let copy = Db::open(&copy).unwrap();
        let number = |value: &[u8]| u64::from_be_bytes(value.try_into().unwrap());
        let Some(last) = copy.get("last").unwrap().map(|value| number(&value)) else { continue };
        let first = last.saturating_sub(499);
        for n in first..=last {
            let found = copy.get((n % 500).to_be_bytes()).unwrap().unwrap();
            assert_eq!(number(&found), n, "commit {}", backup.seq);
        }
    }
}

#[test]
fn a_checkpoint_and_the_log_of_its_source_give_every_moment_between() {
    let mut rounds = Rounds::new("log");
    let dir = tempfile::tempdir().unwrap();
    let (data, base) = (dir.path().join("db"), dir.path().join("base"));
    let db = rounds.open(&data);
    rounds.write(&db, 100);
    let too_old = dir.path().join("too old");
    db.checkpoint(&too_old).unwrap();
    rounds.write(&db, 400);
    db.compact().unwrap();
    db.hold("archive", HoldOptions::new()).unwrap();
    let first = db.checkpoint(&base).unwrap().seq;
    for _ in 0..3 {
        rounds.write(&db, 200);
        db.compact().unwrap();
    }
    let last = db.sync().unwrap();
    let seqs: Vec<u64> = rounds.past().range(first..).map(|(seq, _)| *seq).collect();
    for (n, at) in [0, seqs.len() / 3, seqs.len() - 1].into_iter().enumerate() {
        let copy = dir.path().join(format!("copy{n}"));
        let report = restore_from_log(&base, &data, &copy, RestoreTo::Seq(seqs[at])).unwrap();
        assert_eq!((report.seq, report.commits), (seqs[at], at as u64));
        assert_eq!(content(&Db::open(&copy).unwrap()), rounds.past()[&seqs[at]]);
    }
    let copy = dir.path().join("all");
    assert_eq!(restore_from_log(&base, &data, &copy, RestoreTo::Latest).unwrap().seq, last);
    let error = restore_from_log(&too_old, &data, dir.path().join("no"), RestoreTo::Latest);
    assert!(matches!(error.unwrap_err().kind(), ErrorKind::Lagged { .. }));
    assert!(!dir.path().join("no/CURRENT").exists());
}

#[test]
fn damage_and_holes_are_told() {
    let mut rounds = Rounds::new("damage");
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let db = rounds.open(&dir.path().join("db"));
    let error = db.backup(&target, BackupOptions::incremental()).unwrap_err();
    assert_eq!(error.code(), ErrorKind::InvalidArgument.code(), "no full one: {error}");
    rounds.write(&db, 100);
    db.backup(&target, BackupOptions::full().bytes_max(20 << 10)).unwrap();
    rounds.write(&db, 10);
    db.backup(&target, BackupOptions::incremental().bytes_max(20 << 10)).unwrap();
    let files = list_backups(&target).unwrap().into_iter().flat_map(|backup| backup.files);
    for file in files {
        let path = target.join(&file.name);
        flip(&path, file.bytes / 2);
        assert!(verify_backup(&target).unwrap_err().is_corruption(), "{}", file.name);
        let copy = dir.path().join("damaged");
        assert!(restore(&target, &copy, RestoreTo::Latest).unwrap_err().is_corruption());
        assert!(!copy.join("CURRENT").exists());
        flip(&path, file.bytes / 2);
    }
    verify_backup(&target).unwrap();
    // More is retired than the hold may keep.
    for _ in 0..4 {
        rounds.write(&db, 300);
        db.compact().unwrap();
    }
    let error = db.backup(&target, BackupOptions::incremental()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Lagged { .. }), "{error}");
    db.backup(&target, BackupOptions::full().self_test(true)).unwrap();
    rounds.write(&db, 10);
    db.backup(&target, BackupOptions::incremental().self_test(true)).unwrap();
    restore(&target, dir.path().join("copy"), RestoreTo::Latest).unwrap();
    let model: &Model = rounds.model();
    assert_eq!(content(&Db::open(dir.path().join("copy")).unwrap()), *model);
}

fn flip(path: &Path, at: u64) {
    let file = OsVfs::new().open(path, OpenMode::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 1], at).unwrap();
}
