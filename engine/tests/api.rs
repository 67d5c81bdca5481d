//! What handles promise: they are `Send + Sync + 'static`, iterators outlive them, and closing ends them.

use cortenkv::{Batch, Db, Durability, Error, Keys, Keyspace, Scan, Ticket};

#[test]
fn handles_are_send_and_sync_and_own_what_they_use() {
    fn shared<T: Send + Sync + 'static>() {}
    fn movable<T: Send + 'static>() {}
    shared::<Db>();
    shared::<Keyspace>();
    shared::<Error>();
    shared::<Batch>();
    movable::<Scan>();
    movable::<Keys>();
    movable::<Ticket<u64>>();
}

// U8: iterators own what they pin.
#[test]
fn an_iterator_outlives_every_handle() {
    let db = Db::open_in_memory().unwrap();
    if !db.stats().build.ordered {
        return;
    }
    let users = db.keyspace("users").unwrap();
    for n in 0..2000u32 {
        users.put(n.to_be_bytes(), b"v").unwrap();
    }
    let mut scan = users.iter();
    assert!(scan.next().is_some());
    drop((db, users));
    let rest =
        std::thread::scope(|scope| scope.spawn(move || scan.map(Result::unwrap).count()).join());
    assert_eq!(rest.unwrap(), 1999);
}

#[test]
fn close_ends_every_handle_once() {
    let db = Db::open_in_memory().unwrap();
    let (clone, users) = (db.clone(), db.keyspace("users").unwrap());
    users.put("k", "v").unwrap();
    let mut batch = clone.batch();
    batch.put(&users, "k", "w");
    let (mut begun, fresh) = (users.iter(), users.iter());
    let is_ordered = db.stats().build.ordered;
    if is_ordered {
        assert!(begun.next().is_some());
    }
    db.close().unwrap();
    clone.close().unwrap();
    let closed = |error: Error| error.is_closed();
    assert!(closed(clone.get("k").unwrap_err()));
    assert!(closed(users.put("k", "v").unwrap_err()));
    assert!(closed(batch.commit().unwrap_err()));
    assert!(closed(clone.keyspace("users").unwrap_err()));
    assert!(closed(clone.keyspaces().unwrap_err()));
    assert!(closed(clone.sync().unwrap_err()));
    assert!(closed(clone.step().unwrap_err()));
    // An iterator that has begun goes on; one that has not answers once.
    if is_ordered {
        assert!(begun.next().is_none());
    }
    let answers: Vec<_> = fresh.collect();
    assert!(matches!(&answers[..], [Err(error)] if error.is_closed()));
}

#[test]
fn a_batch_takes_no_keyspace_of_another_database() {
    let (one, two) = (Db::open_in_memory().unwrap(), Db::open_in_memory().unwrap());
    let mut batch = one.batch();
    batch.put(&one, "k", "v").put(&two, "k", "v");
    assert_eq!(batch.commit().unwrap_err().code(), 3);
    assert_eq!(one.get("k").unwrap(), None);
}

#[test]
fn an_empty_batch_commits_nothing() {
    let db = Db::open_in_memory().unwrap();
    let seq = db.put("k", "v").unwrap();
    assert_eq!(db.batch().commit().unwrap(), seq);
    assert_eq!(db.batch().commit_async().unwrap().wait().unwrap(), seq);
    assert_eq!(db.put_batch::<&str, &str>([]).unwrap(), seq);
    assert_eq!(db.stats().log.commits, 1);
}

#[test]
fn an_impossible_durability_is_refused_before_anything_is_written() {
    let db = Db::open_in_memory().unwrap();
    let mut batch = db.batch();
    batch.put(&db, "k", "v");
    assert_eq!(batch.commit_with(Durability::EveryN(0)).unwrap_err().code(), 3);
    assert_eq!(db.get("k").unwrap(), None);
}

// An overwritten or deleted value leaves memory: an in-memory log is never compacted.
#[test]
fn overwriting_and_deleting_give_memory_back() {
    let db = Db::open_in_memory().unwrap();
    for n in 0..10_000u32 {
        db.put((n % 10).to_be_bytes(), b"v").unwrap();
    }
    assert_eq!((db.stats().keys, db.stats().tombstones), (10, 0));
    for n in 0..10u32 {
        db.delete(n.to_be_bytes()).unwrap();
    }
    let stats = db.stats();
    assert_eq!((stats.keys, stats.tombstones, stats.log.records_held), (0, 0, 0));
}
