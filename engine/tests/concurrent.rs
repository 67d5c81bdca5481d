//! Promises between threads, checked under real concurrency; they hold for every feature set.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use cortenkv::{Db, Durability};

/// Databases of every kind that the build has: in memory, durable, relaxed.
fn each_kind(test: impl Fn(&Db)) {
    test(&Db::open_in_memory().unwrap());
    if !Db::open_in_memory().unwrap().stats().build.wal {
        return;
    }
    for durability in [Durability::group(), Durability::None] {
        println!("on disk, durability {durability}");
        let root = tempfile::tempdir().unwrap();
        // Small segments, so that the log moves on to new ones meanwhile.
        let builder = Db::builder(root.path().join("db")).segment_bytes(64 << 10);
        test(&builder.durability(durability).build().unwrap());
    }
}

/// Ends the other threads of a test, also when the thread that holds it fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn number(value: Option<bytes::Bytes>) -> u64 {
    value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()))
}

// Rule 13: the keys of a batch change together, so of two reads the second is never older.
#[test]
fn stress_nobody_sees_half_a_batch() {
    each_kind(nobody_sees_half_a_batch);
}

fn nobody_sees_half_a_batch(db: &Db) {
    let other = db.keyspace("other").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let first = number(db.get("a").unwrap());
                    let second = number(other.get("b").unwrap());
                    assert!(first <= second, "{first} was seen in a, then {second} in b");
                    let second = number(other.get("b").unwrap());
                    let first = number(db.get("a").unwrap());
                    assert!(second <= first, "{second} was seen in b, then {first} in a");
                }
            });
        }
        let _done = Done(&done);
        for round in 1..=1000u64 {
            let mut batch = db.batch();
            batch.put(db, "a", round.to_be_bytes()).put(&other, "b", round.to_be_bytes());
            if round % 2 == 0 {
                batch.commit().unwrap();
            } else {
                batch.commit_async().unwrap().wait().unwrap();
            }
        }
    });
}

// Rule 13 where a batch deletes: what is not there tells nobody to wait.
#[test]
fn stress_nobody_sees_a_delete_without_its_batch() {
    each_kind(nobody_sees_a_delete_without_its_batch);
}

/// In round n the counter becomes n; the flag is there with the number in even rounds, and absent in odd ones.
fn nobody_sees_a_delete_without_its_batch(db: &Db) {
    let counter = || number(db.get("counter").unwrap());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let before = counter();
                    match db.multi_get(["flag"]).unwrap().remove(0) {
                        Some(flag) => {
                            let flag = number(Some(flag));
                            assert!(flag >= before, "flag {flag} outlived round {before}");
                        }
                        None if before % 2 == 0 && before > 0 => {
                            let after = counter();
                            assert!(after > before, "round {after} has lost its flag");
                        }
                        None => {}
                    }
                }
            });
        }
        let _done = Done(&done);
        for round in 1..=2000_u64 {
            let mut batch = db.batch();
            let number = round.to_be_bytes();
            let flag = |batch: &mut cortenkv::Batch| {
                match round % 2 {
                    0 => batch.put(db, "flag", number),
                    _ => batch.delete(db, "flag"),
                };
            };
            let is_flag_first = round / 2 % 2 == 0;
            if is_flag_first {
                flag(&mut batch);
            }
            // Something between them takes its time.
            for n in 0..20_u8 {
                batch.put(db, [n], number);
            }
            batch.put(db, "counter", number);
            if !is_flag_first {
                flag(&mut batch);
            }
            batch.commit().unwrap();
        }
    });
}

#[test]
fn stress_compare_and_swap_loses_no_increment() {
    each_kind(compare_and_swap_loses_no_increment);
}

fn compare_and_swap_loses_no_increment(db: &Db) {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 100;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    loop {
                        let old = db.get("counter").unwrap();
                        let new = (number(old.clone()) + 1).to_be_bytes();
                        let swapped = db.compare_and_swap("counter", old.as_deref(), Some(&new));
                        if swapped.unwrap().is_ok() {
                            break;
                        }
                    }
                }
            });
        }
        // Plain writes beside it, to other keys.
        scope.spawn(|| {
            for n in 0..200u32 {
                db.put(n.to_be_bytes(), "x").unwrap();
            }
        });
    });
    assert_eq!(number(db.get("counter").unwrap()), THREADS * ROUNDS);
}

// Every key that stays during the whole scan comes exactly once, in order.
#[test]
fn stress_a_scan_beside_writers_keeps_order_and_misses_no_steady_key() {
    each_kind(a_scan_beside_writers_keeps_order_and_misses_no_steady_key);
}

fn a_scan_beside_writers_keeps_order_and_misses_no_steady_key(db: &Db) {
    if !db.stats().build.ordered {
        return;
    }
    let steady = |n: u32| (n * 2).to_be_bytes();
    db.put_batch((0..2000).map(|n| (steady(n), "steady", None))).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0u32;
            while !done.load(Relaxed) {
                n = (n + 7) % 2000;
                let odd = (n * 2 + 1).to_be_bytes();
                db.put(odd, "comes").unwrap();
                db.put(steady(n), "again").unwrap();
                db.delete(odd).unwrap();
            }
        });
        let _done = Done(&done);
        for round in 0..40 {
            let mut keys: Vec<_> = match round % 2 {
                0 => db.keys().map(Result::unwrap).collect(),
                _ => db.keys().rev().map(Result::unwrap).collect(),
            };
            if round % 2 == 1 {
                keys.reverse();
            }
            assert!(keys.is_sorted_by(|a, b| a < b));
            let evens = keys.iter().filter(|key| key[3] % 2 == 0).count();
            assert_eq!(evens, 2000);
        }
    });
}
