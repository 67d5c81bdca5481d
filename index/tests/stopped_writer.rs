//! A thread that is stopped at any step of a change holds up nobody: others change the same key, the same group and the
//! same shard, through several sizes of it, and everything is right after the stopped one goes on (row L1, L2 of the plan
//! of checks; design 4.1).
//!
//! # Layout
//! `Parked` is the stopped thread; `Ledger` an index with everything that was told about it; one test for each operation
//! and what it may be stopped at. A thread that waits for the stopped one shows as a test that does not end.
#![cfg(not(any(loom, shuttle)))]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use cortenkv_index::testkit::{Hashing, Records};
use cortenkv_index::{
    BucketOptions, BucketPoint, Entry, ExportPosition, Grace, Location, Outcome, PointIndex, Probe,
    Stop, Version, set_stop_hook,
};

/// Keyspaces: of the keys that the stopped thread works on, and of those that only the others do.
const CONTESTED: u32 = 0;
const OWN: u32 = 1;

/// Keys that the stopped thread works through until it meets its stop.
const KEYS: usize = 600;

const GROWTH_STOPS: [Stop; 4] =
    [Stop::BeforeBegin, Stop::BeforeFreeze, Stop::BeforeFill, Stop::BeforeFinish];

/// An index of one shard, and what its callers were told.
struct Ledger {
    index: BucketPoint,
    records: Records,
    seqs: AtomicU64,
    live: AtomicI64,
}

impl Ledger {
    fn new(hashing: Hashing) -> Self {
        let options = BucketOptions::default().shards(1);
        let index = BucketPoint::with_options(options).expect("legal");
        Ledger { index, records: Records::new(hashing), seqs: AtomicU64::new(1), live: 0.into() }
    }

    /// With so many contested keys, and in the middle of a resize if asked for.
    fn filled(hashing: Hashing, keys: usize, resizing: bool) -> Self {
        let ledger = Ledger::new(hashing);
        (0..keys).for_each(|n| {
            ledger.put(CONTESTED, n);
        });
        let mut n = keys;
        while resizing != (ledger.index.stats().resizes_under_way > 0) {
            assert!(n < 20 * KEYS + keys, "no resize, or one without an end");
            ledger.put(CONTESTED, n);
            n += 1;
        }
        ledger
    }

    fn put(&self, keyspace: u32, n: usize) -> Outcome {
        let key = key(n);
        let seq = self.seqs.fetch_add(1, Ordering::Relaxed);
        let entry = self.records.append(n, keyspace, &key, seq, n.is_multiple_of(7));
        let new = self.records.offer(keyspace, &key, entry);
        let outcome = self.index.install(&new, &self.records, &mut |_| {});
        if outcome == Outcome::Inserted {
            self.live.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    fn get(&self, keyspace: u32, n: usize) -> Option<Entry> {
        let key = key(n);
        let hash = self.records.hash(keyspace, &key);
        let at = self.index.get(hash, &mut |at| self.records.probe(at, keyspace, &key))?;
        Some(self.records.read(at).2)
    }

    fn remove(&self, keyspace: u32, n: usize) -> bool {
        let Some(entry) = self.get(keyspace, n) else { return false };
        let removed = self.index.remove(self.records.hash(keyspace, &key(n)), entry.address);
        self.live.fetch_sub(i64::from(removed), Ordering::Relaxed);
        removed
    }

    fn swap(&self, keyspace: u32, n: usize) -> bool {
        let Some(old) = self.get(keyspace, n) else { return false };
        let (key, Version { seq, tombstone, .. }) = (key(n), old.version);
        let new = self.records.append(n, keyspace, &key, seq, tombstone);
        self.index.swap(self.records.hash(keyspace, &key), old.address, new.address)
    }

    fn exported(&self) -> Vec<(u32, Vec<u8>, Entry)> {
        let (mut all, mut next) = (Vec::new(), Some(ExportPosition::default()));
        while let Some(from) = next {
            next = self.index.export(from, 100, &mut all);
        }
        all.into_iter().map(|at| self.records.read(at)).collect()
    }

    /// What everybody else does while one thread is stopped: thousands of operations on its keys and on others, growth
    /// to several times the size and back, each answer checked where nobody else could have changed it.
    fn carry_on(&self, hashing: Hashing) {
        // Keys of few hashes share one chain, which each operation walks.
        let own = if hashing == Hashing::Good { 4 * KEYS } else { KEYS / 4 };
        for round in 0..2 {
            let mut newest = BTreeMap::new();
            for n in 0..own {
                assert_eq!(self.put(OWN, n), Outcome::Inserted, "own key {n}");
                let _ = self.put(CONTESTED, n % KEYS);
                let entry = self.get(OWN, n).expect("just put");
                newest.insert(n, entry.version.seq);
                if n.is_multiple_of(3) {
                    assert!(self.swap(OWN, n), "own key {n}");
                    self.swap(CONTESTED, n % KEYS);
                }
                if n.is_multiple_of(5) {
                    self.remove(CONTESTED, (n + round) % KEYS);
                }
            }
            let exported: BTreeSet<_> = self.exported().into_iter().map(|r| (r.0, r.1)).collect();
            for (&n, &seq) in &newest {
                let found = self.get(OWN, n).map(|entry| entry.version.seq);
                assert_eq!(found, Some(seq), "own key {n}");
                assert!(exported.contains(&(OWN, key(n))), "own key {n} was not exported");
            }
            for n in 0..own {
                assert!(self.remove(OWN, n), "own key {n}");
                assert_eq!(self.get(OWN, n), None, "own key {n}");
            }
            while self.index.maintain() {}
            assert!(self.index.len() <= KEYS * 21 + 1, "{} entries", self.index.len());
            let stats = self.index.stats();
            assert!(stats.resizes_under_way <= 1 && stats.buckets_moved_max <= 64, "{stats:?}");
        }
    }

    /// For a moment at which nobody changes anything.
    fn check(&self) {
        // Without a resize an export names each entry once.
        while self.index.maintain() {}
        let exported = self.exported();
        let entries: BTreeMap<_, _> = exported.iter().map(|(k, key, e)| ((*k, key), *e)).collect();
        assert_eq!(exported.len(), entries.len(), "a key has two entries");
        let live = self.live.load(Ordering::Relaxed) as usize;
        assert_eq!((entries.len(), self.index.len()), (live, live));
        for ((keyspace, key), entry) in entries {
            let hash = self.records.hash(keyspace, key);
            let found = self.index.get(hash, &mut |at| self.records.probe(at, keyspace, key));
            assert_eq!(found, Some(entry.address));
        }
    }
}

fn key(n: usize) -> Vec<u8> {
    format!("{n}").into_bytes()
}

/// A thread that does `work` and stops at the `nth` time that it comes to `stop`.
struct Parked {
    reached: Receiver<()>,
    go: Sender<()>,
}

impl Parked {
    fn start<'scope>(
        scope: &'scope thread::Scope<'scope, '_>,
        stop: Stop,
        mut nth: usize,
        work: impl FnOnce() + Send + 'scope,
    ) -> Parked {
        let (tell, reached) = channel();
        let (go, told) = channel::<()>();
        scope.spawn(move || {
            set_stop_hook(move |at| {
                if at == stop && nth > 0 {
                    nth -= 1;
                    if nth == 0 {
                        tell.send(()).expect("the test listens");
                        told.recv().expect("the test lets go");
                    }
                }
            });
            work();
        });
        let parked = Parked { reached, go };
        parked.reached.recv().unwrap_or_else(|_| panic!("the work never came to {stop:?}"));
        parked
    }

    fn go_on(self) {
        self.go.send(()).expect("it waits");
    }
}

/// Stops one thread in `work` at each of `stops`, when it comes there for the nth time for each of `nths`, and lets the
/// others go on meanwhile.
fn stopped_at(
    stops: &[Stop],
    nths: &[usize],
    make: impl Fn(Hashing) -> Ledger,
    work: impl Fn(&Ledger) + Send + Sync + Copy,
) {
    for &stop in stops {
        for hashing in [Hashing::Good, Hashing::Few] {
            for &nth in nths {
                let ledger = &make(hashing);
                thread::scope(|scope| {
                    let parked = Parked::start(scope, stop, nth, move || work(ledger));
                    let grace = Grace::begin();
                    thread::scope(|scope| {
                        scope.spawn(|| ledger.carry_on(hashing));
                        scope.spawn(|| read_on(ledger));
                    });
                    assert!(!grace.is_over(), "a stopped writer holds a pin, at {stop:?}");
                    parked.go_on();
                });
                ledger.check();
            }
        }
    }
}

/// A reader beside [`Ledger::carry_on`]: the version of a key never goes back unless the key was removed.
fn read_on(ledger: &Ledger) {
    for n in 0..4 * KEYS {
        let _ = ledger.get(CONTESTED, n % KEYS);
        let hashes = [0, 1, 2].map(|more| ledger.records.hash(CONTESTED, &key((n + more) % KEYS)));
        let mut found = Vec::new();
        let mut verify =
            |at_n: usize, at| ledger.records.probe(at, CONTESTED, &key((n + at_n) % KEYS));
        ledger.index.get_batch(&hashes, &mut verify, &mut found);
        if n.is_multiple_of(500) {
            let _ = ledger.index.for_each(&mut |_| ControlFlow::Continue(()));
        }
    }
}

#[test]
fn an_insert_that_stops_holds_up_nobody() {
    let stops = [&[Stop::BeforeInstall, Stop::BeforeCount], &GROWTH_STOPS[..]].concat();
    let insert = |ledger: &Ledger| {
        for n in 0..KEYS {
            let _ = ledger.put(CONTESTED, n);
        }
    };
    stopped_at(&stops, &[1, 2], Ledger::new, insert);
}

#[test]
fn a_replacement_that_stops_holds_up_nobody() {
    let replace = |ledger: &Ledger| {
        for n in 0..KEYS {
            let _ = ledger.put(CONTESTED, n);
        }
    };
    stopped_at(
        &[Stop::BeforeInstall],
        &[1, 300],
        |hashing| Ledger::filled(hashing, KEYS, false),
        replace,
    );
    let moving = [Stop::BeforeFreeze, Stop::BeforeFill, Stop::BeforeFinish];
    stopped_at(&moving, &[1], |hashing| Ledger::filled(hashing, 2 * KEYS, true), replace);
}

#[test]
fn a_removal_that_stops_holds_up_nobody() {
    let stops = [&[Stop::BeforeChange], &GROWTH_STOPS[..]].concat();
    let remove = |ledger: &Ledger| {
        for n in 0..20 * KEYS {
            ledger.remove(CONTESTED, n);
        }
    };
    stopped_at(&stops, &[1, 2], |hashing| Ledger::filled(hashing, KEYS, false), remove);
}

#[test]
fn a_swap_that_stops_holds_up_nobody() {
    let swap = |ledger: &Ledger| {
        for n in 0..KEYS {
            ledger.swap(CONTESTED, n);
        }
    };
    stopped_at(
        &[Stop::BeforeChange],
        &[1, 300],
        |hashing| Ledger::filled(hashing, KEYS, false),
        swap,
    );
    let moving = [Stop::BeforeFreeze, Stop::BeforeFill, Stop::BeforeFinish];
    stopped_at(&moving, &[1], |hashing| Ledger::filled(hashing, 2 * KEYS, true), swap);
}

#[test]
fn maintenance_and_an_export_that_stop_hold_up_nobody() {
    let moving = [Stop::BeforeFreeze, Stop::BeforeFill, Stop::BeforeFinish];
    let make = |hashing| Ledger::filled(hashing, 2 * KEYS, true);
    stopped_at(&moving, &[1], make, |ledger| while ledger.index.maintain() {});
    stopped_at(&moving[..2], &[1], make, |ledger| drop(ledger.exported()));
}

// A removal may be counted before the insert that it undoes.
#[test]
fn a_removal_that_is_counted_before_its_insert_does_not_make_the_count_wrap() {
    let ledger = &Ledger::new(Hashing::Good);
    thread::scope(|scope| {
        let parked = Parked::start(scope, Stop::BeforeCount, 1, || {
            assert_eq!(ledger.put(CONTESTED, 0), Outcome::Inserted);
        });
        assert!(ledger.remove(CONTESTED, 0));
        assert_eq!((ledger.index.len(), ledger.index.is_empty()), (0, true));
        // A table that takes its size from the count stays small.
        for n in 1..200 {
            assert!(ledger.put(OWN, n) == Outcome::Inserted && ledger.remove(OWN, n));
        }
        assert!(ledger.index.memory_bytes() < 16 << 10, "{:?}", ledger.index);
        parked.go_on();
    });
    ledger.check();
}

// The look-up of an entry whose record is gone for good, in a group that a stopped thread is moving.
#[test]
fn a_look_up_of_a_record_that_is_gone_does_not_wait_for_whoever_moves_its_group() {
    let ledger = &Ledger::new(Hashing::Good);
    thread::scope(|scope| {
        let parked = Parked::start(scope, Stop::BeforeFill, 1, || {
            (0..KEYS).for_each(|n| {
                let _ = ledger.put(CONTESTED, n);
            });
        });
        for n in 0..50 {
            let hash = ledger.records.hash(CONTESTED, &key(n));
            assert_eq!(ledger.index.get(hash, &mut |_| Probe::Gone), None, "key {n}");
            assert!(ledger.get(CONTESTED, n).is_some(), "key {n}");
        }
        parked.go_on();
    });
    ledger.check();
}
