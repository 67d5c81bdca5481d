//! Conditional commits beside syncs: what they see of commits that are not durable, and how many share a sync.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use cortenkv::storage_engine::{
    Expectation, Operation, Precondition, StorageEngine, WriteBatch, WriteOutcome,
};
use cortenkv::vfs::SimVfs;
use cortenkv::vfs::sim::{CrashVariant, DiskModel};
use cortenkv::{Builder, Db, Durability, ErrorKind, ManualClock, Result, Ticket};

fn builder(vfs: &SimVfs) -> Builder {
    Db::builder("data/db").vfs(Arc::new(vfs.clone())).clock(Arc::new(ManualClock::default()))
}

fn by_hand(vfs: &SimVfs) -> Db {
    builder(vfs).manual().build().unwrap()
}

/// What a power cut leaves at this moment.
fn after_a_power_cut(vfs: &SimVfs) -> SimVfs {
    let cut = CrashVariant::AllLost;
    SimVfs::from_image(vfs.trace().crash_image(DiskModel::Posix, vfs.point(), cut, 7), 8)
}

fn put_if(db: &Db, key: &str, expected: Expectation, value: &str) -> Ticket<WriteOutcome> {
    let keyspace = StorageEngine::keyspace(db, "default").wait().unwrap();
    let key = Bytes::copy_from_slice(key.as_bytes());
    let value = Bytes::copy_from_slice(value.as_bytes());
    db.write(WriteBatch {
        operations: vec![Operation::Put { keyspace, key: key.clone(), value, ttl: None }],
        preconditions: vec![Precondition { keyspace, key, expected }],
        durability: None,
    })
}

fn pending(db: &Db, key: &str, value: impl AsRef<[u8]>) -> Ticket<u64> {
    let mut batch = db.batch();
    batch.put(db, key, value);
    batch.commit_async().unwrap()
}

// Reliability 4: "conditional write misses an appended, not yet installed write". Small commits and large ones, alone and
// behind one another.
#[test]
fn what_is_in_the_log_and_not_visible_yet_counts_and_is_told_when_it_is_durable() {
    for bytes in [1, 5_000, 40_000] {
        let vfs = SimVfs::new(1);
        let db = by_hand(&vfs);
        let mut transaction = db.transaction();
        assert!(!transaction.contains_key(&db, "k").unwrap());
        transaction.put(&db, "k", "mine").unwrap();
        let seq = db.put("before", "").unwrap();
        let first = pending(&db, "k", vec![7; bytes]);
        let mut walked = db.transaction();
        assert_eq!(walked.prefix(&db, "k").count(), 0, "it is not visible");
        walked.put(&db, "seen", "").unwrap();
        assert_eq!(db.stats().durable_seq, seq);
        assert_eq!(transaction.commit().unwrap().unwrap_err().key, "k");
        assert!(db.stats().durable_seq > seq, "it was told too early");
        assert!(db.contains_key("k").unwrap());
        drop(first);
        let second = pending(&db, "k", "second");
        assert!(walked.commit().unwrap().is_err());
        drop(second);
        // What is expected may be pending as well.
        let third = pending(&db, "k", "third");
        let swapped = put_if(&db, "k", Expectation::Value("third".into()), "fourth");
        let refused = put_if(&db, "k", Expectation::Value("third".into()), "never");
        assert_eq!(refused.wait().unwrap(), WriteOutcome::Conflict(0));
        assert!(matches!(swapped.wait().unwrap(), WriteOutcome::Committed(_)));
        third.wait().unwrap();
        assert_eq!(db.get("k").unwrap().unwrap(), "fourth");
    }
}

#[test]
fn relaxed_commits_are_told_of_without_a_sync() {
    let vfs = SimVfs::new(2);
    let db = builder(&vfs).manual().durability(Durability::None).build().unwrap();
    db.put("k", "v").unwrap();
    let syncs = db.stats().log.syncs;
    assert!(!db.put_if_absent("k", "w").unwrap());
    assert!(db.compare_and_swap("k", Some(b"v"), Some(b"w")).unwrap().is_ok());
    let mut t = db.transaction();
    t.get(&db, "k").unwrap();
    db.put("k", "x").unwrap();
    t.put(&db, "k", "y").unwrap();
    assert!(t.commit().unwrap().is_err());
    assert_eq!(db.stats().log.syncs, syncs);
}

// U9: conditional commits that wait together share one sync.
#[test]
fn conditional_commits_share_syncs() {
    let vfs = SimVfs::new(3);
    let db = by_hand(&vfs);
    let syncs = db.stats().log.syncs;
    let keys: Vec<_> = (0..200).map(|n| format!("key-{n}")).collect();
    let tickets: Vec<_> =
        keys.iter().map(|key| put_if(&db, key, Expectation::Absent, "v")).collect();
    for ticket in tickets {
        assert!(matches!(ticket.wait().unwrap(), WriteOutcome::Committed(_)));
    }
    assert_eq!(db.stats().log.syncs, syncs + 1);
    let db = by_hand(&after_a_power_cut(&vfs));
    assert!(keys.iter().all(|key| db.contains_key(key).unwrap()));
}

struct Flag(AtomicBool, std::thread::Thread);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Release);
        self.1.unpark();
    }
}

/// Drives all of them from this thread, and sleeps while none can go on.
fn drive<F: Future + Unpin>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let task = |future| {
        let woken = Arc::new(Flag(AtomicBool::new(true), std::thread::current()));
        (future, Waker::from(Arc::clone(&woken)), woken)
    };
    let mut tasks: Vec<_> = futures.into_iter().map(task).collect();
    let mut answers = Vec::new();
    while !tasks.is_empty() {
        let before = answers.len();
        tasks.retain_mut(|(future, waker, woken)| {
            if !woken.0.swap(false, Acquire) {
                return true;
            }
            match Pin::new(future).poll(&mut Context::from_waker(waker)) {
                Poll::Ready(answer) => {
                    answers.push(answer);
                    false
                }
                Poll::Pending => true,
            }
        });
        if answers.len() == before {
            std::thread::park();
        }
    }
    answers
}

// U9: ten thousand operations of one thread, in less than a tenth as many syncs.
#[test]
fn ten_thousand_tickets_of_one_thread_share_a_few_syncs_and_survive_a_power_cut() {
    const OPERATIONS: usize = 10_000;
    let vfs = SimVfs::new(4);
    let db = builder(&vfs).build().unwrap();
    let syncs = db.stats().log.syncs;
    for chunk in 0..OPERATIONS / 500 {
        let keys = (chunk * 500..(chunk + 1) * 500).map(|n| n.to_string());
        let tickets: Vec<Ticket<u64>> = keys.map(|key| pending(&db, &key, &key)).collect();
        assert!(drive(tickets).iter().all(Result::is_ok));
    }
    assert!(drive([db.sync_async().unwrap(), db.flush_async().unwrap()]).iter().all(Result::is_ok));
    let syncs = db.stats().log.syncs - syncs;
    assert!(syncs < 1_000, "{syncs} syncs");
    let db = by_hand(&after_a_power_cut(&vfs));
    let missing = (0..OPERATIONS).find(|n| !db.contains_key(n.to_string()).unwrap());
    assert_eq!(missing, None);
}

#[test]
fn too_many_tickets_are_refused_and_blocking_commits_are_not() {
    let vfs = SimVfs::new(5);
    let db = builder(&vfs).manual().tickets_max(3).build().unwrap();
    let tickets: Vec<_> = (0..3).map(|n| pending(&db, &n.to_string(), "")).collect();
    let mut transaction = db.transaction();
    transaction.put(&db, "k", "").unwrap();
    assert_eq!(*transaction.commit_async().unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(*db.sync_async().unwrap_err().kind(), ErrorKind::Busy);
    assert!(db.put_if_absent("k", "").unwrap());
    assert!(tickets.into_iter().all(|ticket| ticket.wait().is_ok()));
}

// I1, U8: what is committed survives, in its order, through one power cut after the other.
#[test]
fn transactions_go_on_behind_power_cuts() {
    let total = |db: &Db| -> u64 {
        let value = |key: &str| db.get(key).unwrap().map_or(0, |value| u64::from(value[0]));
        value("a") + value("b")
    };
    for durability in [Durability::group(), Durability::None] {
        let mut vfs = SimVfs::new(6);
        let (mut least, mut moves) = (0, 0);
        for life in 0..20u8 {
            let db = builder(&vfs).durability(durability).build().unwrap();
            if life == 0 {
                let all = Durability::Always;
                db.transact_with(cortenkv::TransactOptions::new().durability(all), |t| {
                    t.put(&db, "a", [200])
                })
                .unwrap();
            }
            assert_eq!(total(&db), 200, "a transfer is whole or not there");
            let survived = db.get("moves").unwrap().map_or(0, |value| value[0]);
            assert!((least..=moves).contains(&survived), "{survived} of {least}..={moves}");
            moves = survived;
            for _ in 0..5 {
                db.transact(|t| {
                    let of = |key: &str| -> Result<u8> {
                        Ok(t.get(&db, key)?.map_or(0, |value| value[0]))
                    };
                    let (a, b, n) = (of("a")?, of("b")?, of("moves")?);
                    t.put(&db, "a", [a - 1])?;
                    t.put(&db, "b", [b + 1])?;
                    t.put(&db, "moves", [n + 1])
                })
                .unwrap();
                moves += 1;
            }
            least = if durability.is_durable() { moves } else { 0 };
            vfs = after_a_power_cut(&vfs);
            drop(db);
        }
        assert!(!durability.is_durable() || moves == 100);
    }
}
