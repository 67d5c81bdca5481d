//! U8, C10: what a keyspace is told when it is opened: merge operators and a default time to live.

use cortenkv::merge::{Append, Counter};
use cortenkv::{Db, Durability, ErrorKind, Keyspace, KeyspaceOptions};

const THREADS: u64 = 8;
const MERGES: u64 = 100;

fn counters(db: &Db) -> Keyspace {
    let options = KeyspaceOptions::new().merge_operator(Counter::U64);
    db.keyspace_with("counters", options).unwrap()
}

fn count(keyspace: &Keyspace, key: &str) -> u64 {
    let value = keyspace.get(key).unwrap();
    value.map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap()))
}

/// Half of the increments by merges, half by transactions.
fn increment_in_threads(db: &Db, counters: &Keyspace) {
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for n in 0..MERGES {
                    if (n + thread) % 2 == 0 {
                        counters.merge("n", 1_u64.to_le_bytes()).unwrap();
                    } else {
                        db.transact(|t| t.merge(counters, "n", 1_u64.to_le_bytes())).unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn no_increment_of_a_counter_is_lost_in_memory() {
    let db = Db::open_in_memory().unwrap();
    let counters = counters(&db);
    increment_in_threads(&db, &counters);
    assert_eq!(count(&counters, "n"), THREADS * MERGES);
}

#[test]
fn no_increment_of_a_counter_is_lost_across_a_reopen() {
    if !Db::open_in_memory().unwrap().stats().build.wal {
        return;
    }
    for durability in [Durability::group(), Durability::None] {
        println!("durability {durability}");
        let root = tempfile::tempdir().unwrap();
        let open = || {
            let builder = Db::builder(root.path().join("db")).segment_bytes(64 << 10);
            builder.durability(durability).build().unwrap()
        };
        for opening in 1..=2 {
            let db = open();
            let counters = counters(&db);
            assert_eq!(count(&counters, "n"), (opening - 1) * THREADS * MERGES);
            increment_in_threads(&db, &counters);
            assert_eq!(count(&counters, "n"), opening * THREADS * MERGES);
            db.close().unwrap();
        }
        // The operator is of an opening, the value is not.
        let db = open();
        let plain = db.keyspace("counters").unwrap();
        assert_eq!(count(&plain, "n"), 2 * THREADS * MERGES);
        let refused = plain.merge("n", 1_u64.to_le_bytes()).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn a_merge_that_is_refused_writes_nothing() {
    let db = Db::open_in_memory().unwrap();
    let missing = db.merge("k", "1").unwrap_err();
    assert_eq!(*missing.kind(), ErrorKind::InvalidArgument);
    let missing = db.transaction().merge(&db, "k", "1").unwrap_err();
    assert_eq!(*missing.kind(), ErrorKind::InvalidArgument);

    let counters = counters(&db);
    let before = counters.merge("n", u64::MAX.to_le_bytes()).unwrap();
    let refused = counters.merge("n", 1_u64.to_le_bytes()).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::LimitExceeded);
    assert_eq!(*counters.merge("n", "1").unwrap_err().kind(), ErrorKind::InvalidArgument);
    let entry = counters.get_entry("n").unwrap().unwrap();
    assert_eq!((entry.seq, count(&counters, "n")), (before, u64::MAX));
}

// The options are of the keyspace, not of a handle: an older handle has them, too, and so has the default keyspace.
#[test]
fn handles_of_a_keyspace_share_its_operator() {
    let db = Db::open_in_memory().unwrap();
    let older = db.keyspace("notes").unwrap();
    for name in ["notes", "default"] {
        db.keyspace_with(name, KeyspaceOptions::new().merge_operator(Append)).unwrap();
    }
    older.merge("n", "one,").unwrap();
    let seq = older.merge("n", "two").unwrap();
    let entry = older.get_entry("n").unwrap().unwrap();
    assert_eq!((&entry.value[..], entry.seq), (&b"one,two"[..], seq));
    db.merge("n", "three").unwrap();
    assert_eq!(db.get("n").unwrap().unwrap(), "three");
    // A merge sees the writes of its own transaction, and conflicts like any read.
    let mut t = db.transaction();
    t.put(&older, "n", "a").unwrap();
    t.merge(&older, "n", "b").unwrap();
    t.merge(&older, "m", "c").unwrap();
    older.put("m", "meanwhile").unwrap();
    assert_eq!(t.get(&older, "n").unwrap().unwrap(), "ab");
    assert_eq!(t.commit().unwrap().unwrap_err().key, "m");
}
