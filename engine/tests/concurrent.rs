//! Promises between threads, checked under real concurrency; they hold for every feature set.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use cortenkv::Db;

fn number(value: Option<bytes::Bytes>) -> u64 {
    value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()))
}

// Rule 13: the keys of a batch change together, so of two reads the second is never older.
#[test]
fn stress_nobody_sees_half_a_batch() {
    let db = Db::open_in_memory().unwrap();
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
        for round in 1..=3000u64 {
            let mut batch = db.batch();
            batch.put(&db, "a", round.to_be_bytes()).put(&other, "b", round.to_be_bytes());
            if round % 2 == 0 {
                batch.commit().unwrap();
            } else {
                batch.commit_async().unwrap().wait().unwrap();
            }
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn stress_compare_and_swap_loses_no_increment() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 300;
    let db = Db::open_in_memory().unwrap();
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
            for n in 0..1000u32 {
                db.put(n.to_be_bytes(), "x").unwrap();
            }
        });
    });
    assert_eq!(number(db.get("counter").unwrap()), THREADS * ROUNDS);
}

// Every key that stays during the whole scan comes exactly once, in order.
#[test]
fn stress_a_scan_beside_writers_keeps_order_and_misses_no_steady_key() {
    let db = Db::open_in_memory().unwrap();
    if !db.stats().build.ordered {
        return;
    }
    let steady = |n: u32| (n * 2).to_be_bytes();
    for n in 0..2000 {
        db.put(steady(n), "steady").unwrap();
    }
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
        done.store(true, Relaxed);
    });
}
