//! K2: one opening at a time has a directory, whatever happens to its lock file.
#![expect(clippy::disallowed_methods, reason = "these tests do to the files what a user would")]

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use cortenkv::{Db, Durability, ErrorKind};

fn open(dir: &Path) -> cortenkv::Result<Db> {
    Db::builder(dir).durability(Durability::None).manual().build()
}

fn assert_locked(result: cortenkv::Result<Db>) {
    match result {
        Ok(_) => panic!("violation: two openings have the directory at once: seed=none"),
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Locked { .. }), "{error}"),
    }
}

#[test]
fn of_openers_that_race_one_wins() {
    const OPENERS: usize = 4;
    const RACES: usize = 500;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("db");
    let (inside, wins) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let barrier = Barrier::new(OPENERS);
    std::thread::scope(|scope| {
        for _ in 0..OPENERS {
            scope.spawn(|| {
                for _ in 0..RACES {
                    barrier.wait();
                    match open(&dir) {
                        Ok(db) => {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                            wins.fetch_add(1, Ordering::SeqCst);
                            db.put(b"k", b"v").unwrap();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            db.close().unwrap();
                        }
                        Err(error) => {
                            assert!(matches!(error.kind(), ErrorKind::Locked { .. }), "{error}");
                        }
                    }
                }
            });
        }
    });
    assert!(wins.into_inner() >= RACES, "each race has a winner");
}

#[test]
fn a_process_that_has_the_directory_cannot_open_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    assert_locked(open(dir.path()));
    first.close().unwrap();
    drop(first);
    open(dir.path()).unwrap();
}

#[test]
fn a_deleted_lock_file_lets_nobody_else_in() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    assert_locked(open(dir.path()));
    first.put(b"k", b"v").unwrap();
}

#[test]
fn an_empty_lock_file_locks_and_one_left_by_the_dead_does_not() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("LOCK"), b"").unwrap();
    let first = open(dir.path()).unwrap();
    std::fs::write(dir.path().join("LOCK"), b"").unwrap();
    assert_locked(open(dir.path()));
    drop(first);
    std::fs::write(dir.path().join("LOCK"), b"999999\n").unwrap();
    open(dir.path()).unwrap();
}

#[test]
fn a_link_a_fifo_or_a_directory_in_place_of_the_lock_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("LOCK");
    let elsewhere = dir.path().join("elsewhere");
    std::fs::write(&elsewhere, b"precious").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &lock).unwrap();
    assert!(!matches!(open(dir.path()).unwrap_err().kind(), ErrorKind::Locked { .. }));
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"precious", "the link was not followed");
    std::fs::remove_file(&lock).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&lock).status().unwrap().success());
    open(dir.path()).unwrap_err();
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    open(dir.path()).unwrap_err();
}
