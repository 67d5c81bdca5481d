//! C11: readers of every kind while segments are retired under them, by two jobs at a time: no error, right values, and no
//! file stays behind.
//!
//! `CORTEN_READER_SECONDS` sets how long, 5 unless set.
//!
//! # Invariants
//! Each key has one writer, which counts its versions. A read shows a version between the last that was acknowledged before
//! it began and the last that was begun when it ended.
#![expect(clippy::disallowed_methods, reason = "real threads on a real file system")]

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cortenkv::{Db, Durability, PinnedValue};

const KEYS: usize = 1_500;
const WRITERS: usize = 2;
const READERS: usize = 8;
/// Pinned values that each reader holds on to, with the bytes that they had.
const PINS: usize = 32;

/// The versions of a key.
#[derive(Default)]
struct Versions {
    begun: AtomicU32,
    acknowledged: AtomicU32,
}

struct Shared {
    db: Db,
    versions: Vec<Versions>,
    done: AtomicBool,
    reads: AtomicU64,
}

/// A counter that is all the randomness that is needed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        ((self.0 >> 33) as usize) % bound
    }
}

fn key(n: usize) -> [u8; 4] {
    (n as u32).to_be_bytes()
}

/// Every eighth version is a delete; before the first there is nothing.
fn value(n: usize, version: u32) -> Option<Vec<u8>> {
    if version.is_multiple_of(8) {
        return None;
    }
    let mut value = vec![version as u8; 40 + (n * 7 + version as usize * 13) % 400];
    value[..4].copy_from_slice(&key(n));
    value[4..8].copy_from_slice(&version.to_be_bytes());
    Some(value)
}

impl Shared {
    fn floor(&self, n: usize) -> u32 {
        self.versions[n].acknowledged.load(SeqCst)
    }

    fn floors(&self) -> Vec<u32> {
        (0..KEYS).map(|n| self.floor(n)).collect()
    }

    /// What a read that began at a floor may show.
    fn check(&self, n: usize, floor: u32, found: Option<&[u8]>, how: &str) {
        self.reads.fetch_add(1, SeqCst);
        let begun = self.versions[n].begun.load(SeqCst);
        let is_right = (floor..=begun).any(|version| value(n, version).as_deref() == found);
        let bytes = found.map(|found| found.get(..8));
        assert!(is_right, "{how} of key {n} shows {bytes:?}, not versions {floor} to {begun}");
    }

    fn write(&self, writer: usize) {
        let mut draw = Draw(writer as u64);
        while !self.done.load(SeqCst) {
            let n = draw.below(KEYS / WRITERS) * WRITERS + writer;
            let version = self.floor(n) + 1;
            self.versions[n].begun.store(version, SeqCst);
            match value(n, version) {
                Some(value) => self.db.put(key(n), value).unwrap(),
                None => self.db.delete(key(n)).unwrap(),
            };
            self.versions[n].acknowledged.store(version, SeqCst);
        }
    }

    fn compact(&self) {
        while !self.done.load(SeqCst) {
            self.db.compact().unwrap();
        }
    }

    fn read(&self, reader: usize) {
        let mut draw = Draw(1_000 + reader as u64);
        let mut pins: VecDeque<(PinnedValue, Vec<u8>)> = VecDeque::new();
        while !self.done.load(SeqCst) {
            match draw.below(40) {
                0 => self.scan(&mut draw),
                1 => self.scan_with(&mut draw),
                2..6 => self.multi_get(&mut draw),
                6..12 => {
                    let n = draw.below(KEYS);
                    let floor = self.floor(n);
                    let pinned = self.db.get_pinned(key(n)).unwrap();
                    self.check(n, floor, pinned.as_deref(), "a pinned get");
                    let bytes = pinned.as_ref().map(|pinned| pinned.to_vec());
                    pins.extend(pinned.zip(bytes));
                }
                _ => {
                    let n = draw.below(KEYS);
                    let floor = self.floor(n);
                    let found = self.db.get(key(n)).unwrap();
                    self.check(n, floor, found.as_deref(), "a get");
                }
            }
            while pins.len() > PINS {
                let (pinned, bytes) = pins.pop_front().unwrap();
                assert_eq!(*pinned, *bytes, "a pinned value changed");
            }
        }
    }

    fn scan(&self, draw: &mut Draw) {
        let floors = self.floors();
        let start = draw.below(KEYS);
        let mut next = start;
        for entry in self.db.range(key(start)..) {
            let (found, value) = entry.unwrap();
            let n = u32::from_be_bytes(found[..].try_into().unwrap()) as usize;
            (next..n).for_each(|absent| self.check(absent, floors[absent], None, "a scan"));
            self.check(n, floors[n], Some(&value), "a scan");
            next = n + 1;
        }
        (next..KEYS).for_each(|absent| self.check(absent, floors[absent], None, "a scan"));
    }

    fn scan_with(&self, draw: &mut Draw) {
        let floors = self.floors();
        let start = draw.below(KEYS);
        let mut next = start;
        let end = self.db.scan_with(key(start).., |found, value| {
            let n = u32::from_be_bytes(found.try_into().unwrap()) as usize;
            (next..n).for_each(|absent| self.check(absent, floors[absent], None, "scan_with"));
            self.check(n, floors[n], Some(value), "scan_with");
            next = n + 1;
            if n < start + 300 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert!(end.is_ok(), "{end:?}");
    }

    fn multi_get(&self, draw: &mut Draw) {
        let numbers: Vec<usize> = (0..20).map(|_| draw.below(KEYS)).collect();
        let floors: Vec<u32> = numbers.iter().map(|n| self.floor(*n)).collect();
        let keys: Vec<_> = numbers.iter().map(|n| key(*n)).collect();
        let found = self.db.multi_get(&keys).unwrap();
        for ((n, floor), found) in numbers.iter().zip(floors).zip(found) {
            self.check(*n, floor, found.as_deref(), "multi_get");
        }
    }

    /// At rest, everything is as the writers left it.
    fn check_all(&self) {
        let db = &self.db;
        for n in 0..KEYS {
            let floor = self.floor(n);
            self.check(n, floor, db.get(key(n)).unwrap().as_deref(), "a last get");
        }
        let live = (0..KEYS).filter(|n| value(*n, self.floor(*n)).is_some()).count() as u64;
        assert_eq!((db.stats().keys, db.iter().count() as u64), (live, live));
    }
}

fn open(dir: &Path) -> Db {
    Db::builder(dir).durability(Durability::None).segment_bytes(16 << 10).build().unwrap()
}

/// Files of segments and what belongs to them.
fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn stress_readers_never_notice_that_segments_go() {
    let seconds = std::env::var("CORTEN_READER_SECONDS").map_or(5, |text| text.parse().unwrap());
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let shared = Shared {
        db: open(&dir),
        versions: (0..KEYS).map(|_| Versions::default()).collect(),
        done: AtomicBool::new(false),
        reads: AtomicU64::new(0),
    };
    let mut files_max = 0;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WRITERS + READERS + 2)
            .map(|thread| {
                let shared = &shared;
                scope.spawn(move || {
                    let ran =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match thread {
                            ..WRITERS => shared.write(thread),
                            WRITERS..4 => shared.compact(),
                            _ => shared.read(thread),
                        }));
                    shared.done.store(true, SeqCst);
                    ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                })
            })
            .collect();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(seconds) && !shared.done.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(50));
            files_max = files_max.max(files(&dir));
        }
        shared.done.store(true, SeqCst);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    shared.db.compact().unwrap();
    let stats = shared.db.stats();
    println!(
        "{} reads; {} segments retired, at most {files_max} files, {} at the end",
        shared.reads.load(SeqCst),
        stats.compaction.segments_retired,
        files(&dir)
    );
    assert!(stats.compaction.segments_retired > 20, "{:?}", stats.compaction);
    assert_eq!((stats.compaction.failures, stats.compaction.jobs_given_up), (0, 0));
    // About 350 KB live, in segments of 16 KiB with some garbage, each with a directory of its keys. How far the writers may
    // run ahead meanwhile is for back-pressure to say.
    assert!(files(&dir) < 150, "{} files", files(&dir));
    shared.check_all();
    shared.db.close().unwrap();
    let Shared { db, versions, done, reads } = shared;
    drop(db);
    Shared { db: open(&dir), versions, done, reads }.check_all();
}
