//! U8: transactions as their users see them, and the anomalies that serialisable ones must not have.

use std::ops::Bound;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cortenkv::transaction::ConflictKind;
use cortenkv::{Db, Durability, ErrorKind, Result, TransactOptions, Transaction};

/// Databases of every kind that the build has: in memory, durable, relaxed.
fn each_kind(test: impl Fn(&Db)) {
    test(&Db::open_in_memory().unwrap());
    if !Db::open_in_memory().unwrap().stats().build.wal {
        return;
    }
    for durability in [Durability::group(), Durability::EveryN(3), Durability::None] {
        println!("on disk, durability {durability}");
        let root = tempfile::tempdir().unwrap();
        let builder = Db::builder(root.path().join("db")).segment_bytes(64 << 10);
        test(&builder.durability(durability).build().unwrap());
    }
}

fn number(transaction: &Transaction, db: &Db, key: &str) -> i64 {
    let value = transaction.get(db, key).unwrap();
    value.map_or(0, |value| i64::from_le_bytes(value[..].try_into().unwrap()))
}

fn put(transaction: &mut Transaction, db: &Db, key: &str, number: i64) {
    transaction.put(db, key, number.to_le_bytes()).unwrap();
}

#[test]
fn a_lost_update_is_refused() {
    each_kind(|db| {
        db.put("n", 1i64.to_le_bytes()).unwrap();
        let (mut first, mut second) = (db.transaction(), db.transaction());
        for transaction in [&mut first, &mut second] {
            let n = number(transaction, db, "n");
            put(transaction, db, "n", n + 1);
        }
        first.commit().unwrap().unwrap();
        let conflict = second.commit().unwrap().unwrap_err();
        assert_eq!((&conflict.keyspace[..], &conflict.key[..]), ("default", &b"n"[..]));
        assert_eq!(conflict.kind, ConflictKind::Key);
        assert_eq!(number(&db.transaction(), db, "n"), 2);
    });
}

// Two doctors on call; each may leave if the other stays.
#[test]
fn a_write_skew_is_refused() {
    each_kind(|db| {
        db.put_batch([("a", [1], None), ("b", [1], None)]).unwrap();
        let leave = |who: &str| {
            let mut transaction = db.transaction();
            let on_call = |key| transaction.get(db, key).unwrap().unwrap()[0];
            assert_eq!(on_call("a") + on_call("b"), 2);
            transaction.put(db, who, [0]).unwrap();
            transaction
        };
        let (first, second) = (leave("a"), leave("b"));
        second.commit().unwrap().unwrap();
        assert_eq!(first.commit().unwrap().unwrap_err().key, "b");
    });
}

// What was not there is read, too: by key, and by range.
#[test]
fn a_phantom_is_refused() {
    each_kind(|db| {
        db.put_batch([("r1", "1", None), ("r3", "3", None), ("s", "", None)]).unwrap();
        let mut absent = db.transaction();
        assert!(!absent.contains_key(db, "r2").unwrap());
        absent.put(db, "seen", "").unwrap();
        let walks: [fn(&Transaction, &Db) -> usize; 4] = [
            |t, db| t.prefix(db, "r").count(),
            |t, db| t.prefix(db, "r").rev().count(),
            |t, db| t.range(db, "r1".."r9").take(2).count(),
            |t, db| t.iter(db).rev().take(3).count(),
        ];
        if !db.stats().build.ordered {
            db.put("r2", "new").unwrap();
            assert!(absent.commit().unwrap().is_err());
            return;
        }
        let walk = || {
            walks.map(|walk| {
                let mut transaction = db.transaction();
                assert!(walk(&transaction, db) >= 2);
                transaction.put(db, "seen", "").unwrap();
                transaction
            })
        };
        let before = walk();
        db.put("r2", "new").unwrap();
        assert_eq!(absent.commit().unwrap().unwrap_err().kind, ConflictKind::Key);
        for transaction in before {
            let conflict = transaction.commit().unwrap().unwrap_err();
            assert_eq!((&conflict.key[..], conflict.kind), (&b"r2"[..], ConflictKind::Range));
        }
        // A delete is one as well, also of what came and went.
        let before = walk();
        db.delete("r2").unwrap();
        for transaction in before {
            assert_eq!(transaction.commit().unwrap().unwrap_err().key, "r2");
        }
        // Behind the place that a walk came to, and in another keyspace, all may change.
        let other = db.keyspace("other").unwrap();
        let mut transaction = db.transaction();
        assert_eq!(transaction.prefix(db, "r").next().unwrap().unwrap().0, "r1");
        db.put("r2", "changed").unwrap();
        other.put("r1", "changed").unwrap();
        transaction.put(db, "seen", "").unwrap();
        transaction.commit().unwrap().unwrap();
    });
}

// Fekete, O'Neil, O'Neil 2004: checking x, savings y; a withdrawal that goes below zero costs a fee of 1. The report must not see
// the deposit without the withdrawal's consequence that only the other order has.
#[test]
fn the_read_only_anomaly_is_refused() {
    each_kind(|db| {
        let mut withdrawal = db.transaction();
        let sum = number(&withdrawal, db, "x") + number(&withdrawal, db, "y");
        let mut deposit = db.transaction();
        let y = number(&deposit, db, "y");
        put(&mut deposit, db, "y", y + 20);
        deposit.commit().unwrap().unwrap();
        let report = db.transaction();
        assert_eq!((number(&report, db, "x"), number(&report, db, "y")), (0, 20));
        report.commit().unwrap().unwrap();
        let fee = i64::from(sum - 10 < 0);
        put(&mut withdrawal, db, "x", -10 - fee);
        assert_eq!(withdrawal.commit().unwrap().unwrap_err().key, "y");
    });
}

// A report alone: what it reads in pieces was there at one moment, and nothing refuses it.
#[test]
fn a_transaction_without_writes_sees_one_moment_and_never_conflicts() {
    each_kind(|db| {
        let before = db.put_batch([("a", "1", None), ("b", "1", None)]).unwrap();
        let report = db.transaction();
        assert_eq!(report.get(db, "a").unwrap().unwrap(), "1");
        let after = db.put_batch([("a", "2", None), ("b", "2", None)]).unwrap();
        db.put("c", "new").unwrap();
        assert_eq!(report.get(db, "b").unwrap().unwrap(), "1");
        assert_eq!(report.get(db, "c").unwrap(), None);
        if db.stats().build.ordered {
            assert_eq!(report.iter(db).count(), 2);
        }
        assert!(report.is_read_only());
        let last_seq = db.stats().last_seq;
        assert_eq!(report.commit().unwrap().unwrap(), before);
        assert_eq!((db.stats().last_seq, after), (last_seq, before + 1), "nothing was written");
    });
}

// A key that was deleted and put again is another one, though its value is the same.
#[test]
fn a_key_that_came_back_has_changed() {
    each_kind(|db| {
        db.put("k", "v").unwrap();
        let mut transaction = db.transaction();
        assert!(transaction.contains_key(db, "k").unwrap());
        transaction.put(db, "other", "").unwrap();
        db.delete("k").unwrap();
        db.put("k", "v").unwrap();
        assert!(transaction.commit().unwrap().is_err());
    });
}

// What came and went between two looks was seen all the same.
#[test]
fn a_key_that_was_seen_twice_and_differed_is_refused_though_the_first_is_so_again() {
    each_kind(|db| {
        let mut transaction = db.transaction();
        let first = transaction.contains_key(db, "k").unwrap();
        db.put("k", "v").unwrap();
        let second = transaction.contains_key(db, "k").unwrap();
        db.delete("k").unwrap();
        transaction.put(db, "other", "").unwrap();
        assert_eq!(transaction.commit().unwrap().is_ok(), first == second);
    });
}

#[test]
fn a_transaction_reads_its_own_writes_from_both_ends() {
    each_kind(|db| {
        db.put_batch([("a", "1", None), ("c", "3", None), ("e", "5", None)]).unwrap();
        let mut t = db.transaction();
        t.put(db, "b", "2").unwrap();
        t.put(db, "c", "33").unwrap();
        t.delete(db, "e").unwrap();
        t.put_with_ttl(db, "f", "6", Duration::from_secs(60)).unwrap();
        t.put_with_ttl(db, "g", "7", Duration::ZERO).unwrap();
        assert_eq!(t.get(db, "c").unwrap().unwrap(), "33");
        assert_eq!(t.get_with(db, "b", <[u8]>::len).unwrap(), Some(1));
        assert_eq!(t.get(db, "e").unwrap(), None);
        assert!(!t.contains_key(db, "g").unwrap());
        if db.stats().build.ordered {
            let all = ["a=1", "b=2", "c=33", "f=6"];
            let shown = |entry: Result<(bytes::Bytes, bytes::Bytes)>| {
                let (key, value) = entry.unwrap();
                format!("{}={}", key.escape_ascii(), value.escape_ascii())
            };
            assert_eq!(t.iter(db).map(shown).collect::<Vec<_>>(), all);
            let mut back: Vec<_> = t.iter(db).rev().map(shown).collect();
            back.reverse();
            assert_eq!(back, all);
            let bounds = (Bound::Excluded("a"), Bound::Included("c"));
            assert_eq!(t.range::<&str>(db, bounds).map(shown).collect::<Vec<_>>(), all[1..3]);
            // Ends that meet, whichever is asked when.
            for picks in 0..16u32 {
                let mut scan = t.iter(db);
                let (mut front, mut back) = (Vec::new(), Vec::new());
                for n in 0..4 {
                    match picks & 1 << n {
                        0 => front.extend(scan.next().map(shown)),
                        _ => back.extend(scan.next_back().map(shown)),
                    }
                }
                assert!(scan.next().is_none() && scan.next_back().is_none(), "{picks:b}");
                front.extend(back.into_iter().rev());
                assert_eq!(front, all, "{picks:b}");
            }
        }
        t.commit().unwrap().unwrap();
        assert_eq!(db.get("c").unwrap().unwrap(), "33");
        assert!(!db.contains_key("e").unwrap() && db.contains_key("f").unwrap());
    });
}

#[test]
fn what_is_dropped_or_taken_back_is_not_written_and_everything_is_counted() {
    each_kind(|db| {
        let mut t = db.transaction();
        t.put(db, "gone", "").unwrap();
        drop(t);
        let mut t = db.transaction();
        t.put(db, "gone", "").unwrap();
        t.rollback();
        let mut t = db.transaction();
        t.put(db, "kept", "").unwrap();
        let before = t.savepoint();
        t.put(db, "gone", "").unwrap();
        t.delete(db, "kept").unwrap();
        t.rollback_to(before).unwrap();
        let kind = db.transaction().rollback_to(before).unwrap_err().kind().clone();
        assert_eq!(kind, ErrorKind::InvalidArgument);
        let ticket = t.commit_async().unwrap();
        ticket.wait().unwrap().unwrap();
        assert!(db.contains_key("kept").unwrap() && !db.contains_key("gone").unwrap());
        assert!(!db.put_if_absent("kept", "").unwrap());
        let stats = db.stats().transactions;
        assert_eq!((stats.committed, stats.rolled_back), (1, 3));
        assert_eq!((stats.conflicts, stats.retries), (1, 0));
    });
}

#[test]
fn what_cannot_be_written_is_refused_at_once_and_the_transaction_goes_on() {
    let (db, other) = (Db::open_in_memory().unwrap(), Db::open_in_memory().unwrap());
    let mut t = db.transaction();
    let kind = |result: Result<()>| result.unwrap_err().kind().clone();
    assert_eq!(kind(t.put(&db, vec![0; 65 << 10], "")), ErrorKind::LimitExceeded);
    assert_eq!(kind(t.put(&db, "k", vec![0; 32 << 20])), ErrorKind::LimitExceeded);
    assert_eq!(kind(t.put(&other, "k", "")), ErrorKind::InvalidArgument);
    assert_eq!(kind(t.get(&other, "k").map(drop)), ErrorKind::InvalidArgument);
    assert_eq!(kind(t.iter(&other).next().unwrap().map(drop)), ErrorKind::InvalidArgument);
    t.put(&db, "k", "v").unwrap();
    t.commit_with(Durability::Always).unwrap().unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), "v");
}

// O5: bounded, typed, counted.
#[test]
fn attempts_are_bounded_and_an_error_ends_them() {
    let db = Db::open_in_memory().unwrap();
    let attempts = AtomicU64::new(0);
    let options = TransactOptions::new().attempts_max(3).backoff(Duration::ZERO);
    let never = db.transact_with(options, |t| {
        t.get(&db, "k")?;
        db.put("k", attempts.fetch_add(1, Relaxed).to_le_bytes())?;
        t.put(&db, "k", "never")
    });
    assert_eq!(*never.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(attempts.load(Relaxed), 3);
    let stats = db.stats().transactions;
    assert_eq!((stats.conflicts, stats.retries, stats.committed), (3, 2, 0));
    let error = cortenkv::Error::new(ErrorKind::InvalidArgument, "not today");
    let ended: Result<()> = db.transact(|t| {
        t.put(&db, "x", "")?;
        Err(error.clone())
    });
    assert_eq!(ended.unwrap_err().context(), "not today");
    assert!(!db.contains_key("x").unwrap());
}

// U9, O5: nobody is starved, nothing is lost.
#[test]
fn stress_counters_that_threads_share_lose_nothing() {
    const THREADS: u64 = 4;
    let rounds: u64 = if cfg!(debug_assertions) { 50 } else { 500 };
    each_kind(|db| {
        let count = |old: Option<&[u8]>| {
            let old = old.map_or(0, |old| u64::from_le_bytes(old.try_into().unwrap()));
            Some((old + 1).to_le_bytes().to_vec())
        };
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        db.fetch_and_update("a", count).unwrap();
                        let options = TransactOptions::new().attempts_max(u32::MAX);
                        let both = db.transact_with(options, |t| {
                            for key in ["b", "c"] {
                                let new = count(t.get(db, key)?.as_deref()).unwrap();
                                t.put(db, key, new)?;
                            }
                            Ok(())
                        });
                        both.unwrap();
                    }
                });
            }
        });
        for key in ["a", "b", "c"] {
            let counted = db.get(key).unwrap().unwrap();
            assert_eq!(u64::from_le_bytes(counted[..].try_into().unwrap()), THREADS * rounds);
        }
        assert_eq!(db.stats().transactions.committed, THREADS * rounds);
    });
}
