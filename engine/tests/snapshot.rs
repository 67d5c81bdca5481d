//! U8, rules 2, 10, 11 and 13: a snapshot shows what was there when it was opened, whatever is written, deleted, merged,
//! compacted or closed meanwhile.
//!
//! Seeded runs against a model; a failure prints the seed, and `CORTEN_SNAPSHOT_SEED` repeats that run alone.
//! `CORTEN_SNAPSHOT_RUNS` sets how many there are. `CORTEN_BUG` plants a defect, to see these tests fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cortenkv::segments::SegmentState;
use cortenkv::{
    Builder, Clock, Db, Durability, ErrorKind, Keyspace, ManualClock, PutOptions, Snapshot,
};

const START_MS: u64 = 1_700_000_000_000;
const SPACES: usize = 2;
const KEYS: u64 = 20;

/// A value and when it ends.
type Entry = (Vec<u8>, Option<u64>);
type State = [BTreeMap<Vec<u8>, Entry>; SPACES];

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn plant() {
    #[cfg(feature = "seeded-bugs")]
    if let Ok(name) = std::env::var("CORTEN_BUG") {
        assert!(cortenkv_wal::bugs::plant(&name), "there is no bug `{name}`");
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Memory,
    Disk,
}

/// A database, what it should show, and what each open snapshot should.
struct Life {
    kind: Kind,
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    db: Option<Db>,
    spaces: Vec<Keyspace>,
    state: State,
    open: Vec<(Snapshot, State, u64)>,
    random: Random,
    is_ordered: bool,
}

fn key(n: u64) -> Vec<u8> {
    format!("key {n:02}").into_bytes()
}

fn live(state: &BTreeMap<Vec<u8>, Entry>, now_ms: u64) -> Vec<(Vec<u8>, Vec<u8>)> {
    let live = state.iter().filter(|(_, (_, end))| end.is_none_or(|end| end > now_ms));
    live.map(|(key, (value, _))| (key.clone(), value.clone())).collect()
}

impl Life {
    fn begin(kind: Kind, seed: u64) -> Life {
        plant();
        let mut life = Life {
            kind,
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::at_wall_ms(START_MS)),
            db: None,
            spaces: Vec::new(),
            state: State::default(),
            open: Vec::new(),
            random: Random(seed),
            is_ordered: true,
        };
        life.open_db();
        life
    }

    fn builder(&self) -> Builder {
        let builder = match self.kind {
            Kind::Memory => Db::builder_in_memory(),
            Kind::Disk => Db::builder(self.dir.path().join("db")).segment_bytes(16 << 10),
        };
        with_tiny_runs(builder)
            .durability(Durability::None)
            .manual()
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
    }

    fn open_db(&mut self) {
        let db = self.builder().build().unwrap();
        self.is_ordered = db.stats().build.ordered;
        self.spaces = vec![db.keyspace("default").unwrap(), db.keyspace("users").unwrap()];
        self.db = Some(db);
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn now_ms(&self) -> u64 {
        self.clock.wall_ms()
    }

    fn value(&mut self) -> Vec<u8> {
        let len = if self.random.below(4) == 0 { self.random.below(2_000) } else { 8 };
        vec![self.random.below(256) as u8; len as usize]
    }

    fn put(&mut self) {
        let (space, n) = (self.random.below(SPACES as u64) as usize, self.random.below(KEYS));
        let (value, mut options) = (self.value(), PutOptions::new());
        let mut end = None;
        if self.random.below(4) == 0 {
            let ttl_ms = self.random.below(60);
            options = options.ttl(Duration::from_millis(ttl_ms));
            end = Some(self.now_ms() + ttl_ms);
        }
        self.spaces[space].put_with(key(n), &value, options).unwrap();
        self.state[space].insert(key(n), (value, end));
    }

    fn delete(&mut self) {
        let (space, n) = (self.random.below(SPACES as u64) as usize, self.random.below(KEYS));
        self.spaces[space].delete(key(n)).unwrap();
        self.state[space].remove(&key(n));
    }

    fn batch(&mut self) {
        let mut batch = self.db().batch();
        for _ in 0..self.random.below(6) {
            let (space, n) = (self.random.below(SPACES as u64) as usize, self.random.below(KEYS));
            if self.random.below(3) == 0 {
                batch.delete(&self.spaces[space], key(n));
                self.state[space].remove(&key(n));
            } else {
                let value = self.value();
                batch.put(&self.spaces[space], key(n), &value);
                self.state[space].insert(key(n), (value, None));
            }
        }
        match self.random.below(3) {
            0 => drop(batch.commit_async().unwrap()),
            _ => drop(batch.commit().unwrap()),
        }
    }

    fn snapshot(&mut self) {
        if self.open.len() < 5 {
            let snapshot = self.db().snapshot().unwrap();
            self.open.push((snapshot, self.state.clone(), self.now_ms()));
        }
    }

    fn compact(&mut self) {
        if self.kind == Kind::Memory || !self.db().stats().build.compaction {
            return;
        }
        if self.random.below(2) == 0 {
            self.db().compact().unwrap();
            return;
        }
        self.db().sync().unwrap();
        let settled: Vec<u64> = self.db().segments().unwrap().iter().map(|it| it.id).collect();
        let chosen: Vec<u64> = settled.into_iter().filter(|_| self.random.below(2) == 0).collect();
        // Some may not be settled: then nothing happens.
        let _ = self.db().compact_segments(&chosen);
    }

    fn reopen(&mut self) {
        if self.kind == Kind::Memory {
            return;
        }
        self.open.clear();
        self.spaces.clear();
        self.db.take().unwrap().close().unwrap();
        self.open_db();
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0..=13 => self.put(),
            14..=20 => self.delete(),
            21..=25 => self.batch(),
            26..=28 => self.snapshot(),
            29..=30 if !self.open.is_empty() => {
                let n = self.random.below(self.open.len() as u64) as usize;
                drop(self.open.remove(n));
            }
            31 => self.clock.advance(Duration::from_millis(self.random.below(40))),
            32..=34 => self.compact(),
            35 if self.random.below(6) == 0 => self.reopen(),
            _ => drop((0..20).take_while(|_| self.db().step().unwrap()).count()),
        }
    }

    /// What everybody sees, by every way of reading.
    fn check(&self) {
        for (snapshot, state, now_ms) in &self.open {
            for (space, keyspace) in self.spaces.iter().enumerate() {
                let view = snapshot.keyspace(keyspace);
                let expected = live(&state[space], *now_ms);
                let expected_of: BTreeMap<_, _> = expected.iter().cloned().collect();
                let keys: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
                let many = view.multi_get(&keys).unwrap();
                for (key, many) in keys.iter().zip(many) {
                    let expected = expected_of.get(key).map(|value| &value[..]);
                    assert_eq!(
                        many.as_deref(),
                        expected,
                        "multi_get {key:?} at {}",
                        snapshot.seq()
                    );
                    assert_eq!(view.get_with(key, <[u8]>::to_vec).unwrap().as_deref(), expected);
                    assert_eq!(view.contains_key(key).unwrap(), expected.is_some());
                    let entry = view.get_entry(key).unwrap();
                    assert!(entry.is_none_or(|entry| entry.seq <= snapshot.seq()));
                }
                if !self.is_ordered {
                    continue;
                }
                let owned = |entry: cortenkv::Result<(bytes::Bytes, bytes::Bytes)>| {
                    entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()
                };
                let place = format!("space {space} at {}", snapshot.seq());
                assert_eq!(view.iter().map(owned).collect::<Vec<_>>(), expected, "{place}");
                let mut back: Vec<_> = view.iter().rev().map(owned).collect();
                back.reverse();
                assert_eq!(back, expected, "{place}, backwards");
                let keys = view.keys().map(Result::unwrap);
                assert!(keys.eq(expected.iter().map(|(key, _)| key.clone())), "{place}, keys");
                let range = view.range(key(5)..key(12)).map(owned);
                let in_range = |(found, _): &&(Vec<u8>, Vec<u8>)| (key(5)..key(12)).contains(found);
                assert!(range.eq(expected.iter().filter(in_range).cloned()), "{place}, range");
                let prefix = view.prefix("key 1").map(owned);
                let has = |(found, _): &&(Vec<u8>, Vec<u8>)| found.starts_with(b"key 1");
                assert!(prefix.eq(expected.iter().filter(has).cloned()), "{place}, prefix");
                assert_eq!(
                    view.first_key_value().unwrap().map(Ok).map(owned),
                    expected.first().cloned()
                );
                assert_eq!(
                    view.last_key_value().unwrap().map(Ok).map(owned),
                    expected.last().cloned()
                );
            }
        }
        for (space, keyspace) in self.spaces.iter().enumerate() {
            let expected = live(&self.state[space], self.now_ms());
            for (key, value) in &expected {
                assert_eq!(keyspace.get(key).unwrap().as_deref(), Some(&value[..]));
            }
            if self.is_ordered {
                let found = keyspace.iter().map(|entry| entry.unwrap());
                assert!(
                    found.eq(expected.iter().map(|(k, v)| (k.clone().into(), v.clone().into())))
                );
            }
        }
    }
}

/// Makes runs of keys small, in a build that has them.
fn with_tiny_runs(builder: Builder) -> Builder {
    #[cfg(feature = "ordered")]
    let builder = builder.tiny_runs();
    builder
}

/// Runs one history; the seed is in the panic message of whoever fails.
fn run(kind: Kind, seed: u64) {
    let mut life = Life::begin(kind, seed);
    for step in 0..400 {
        life.step();
        if step % 5 == 0 {
            life.check();
        }
    }
    life.check();
    life.open.clear();
    life.check();
    let stats = life.db().stats();
    assert_eq!((stats.snapshots.open, stats.snapshots.versions), (0, 0));
    assert_eq!(stats.snapshots.retained_bytes, 0);
    if kind == Kind::Memory {
        assert_eq!(stats.tombstones, 0, "a tombstone outlived the snapshots");
        assert_eq!(stats.log.records_held, stats.keys, "a record outlived the snapshots");
    }
    assert_eq!(life.db().verify().unwrap().findings, [], "kind {kind:?}");
}

fn runs(kind: Kind) {
    if let Ok(seed) = std::env::var("CORTEN_SNAPSHOT_SEED") {
        return run(kind, seed.parse().expect("a number"));
    }
    let runs =
        std::env::var("CORTEN_SNAPSHOT_RUNS").map_or(10, |runs| runs.parse().expect("a number"));
    for seed in 0..runs {
        let outcome = std::panic::catch_unwind(|| run(kind, seed));
        if let Err(panic) = outcome {
            println!("{kind:?} failed: CORTEN_SNAPSHOT_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn snapshots_of_a_database_on_disk_follow_the_model() {
    runs(Kind::Disk);
}

#[test]
fn snapshots_of_a_database_in_memory_follow_the_model() {
    runs(Kind::Memory);
}

fn memory() -> (Arc<ManualClock>, Builder) {
    let clock = Arc::new(ManualClock::at_wall_ms(START_MS));
    let builder = Db::builder_in_memory().manual().clock(Arc::clone(&clock) as Arc<dyn Clock>);
    (clock, builder)
}

fn is_too_old<T: std::fmt::Debug>(read: cortenkv::Result<T>) -> bool {
    read.is_err_and(|error| *error.kind() == ErrorKind::SnapshotTooOld)
}

#[test]
fn a_snapshot_that_is_too_old_says_so_and_releases_what_it_kept() {
    let (clock, builder) = memory();
    let db = builder.snapshot_age_max(Duration::from_secs(10)).build().unwrap();
    db.put("k", "old").unwrap();
    let old = db.snapshot().unwrap();
    let mut walk = db.stats().build.ordered.then(|| old.iter());
    db.put("k", "new").unwrap();
    clock.advance(Duration::from_secs(6));
    let young = db.snapshot().unwrap();
    assert_eq!(old.get("k").unwrap().as_deref(), Some(&b"old"[..]));
    let stats = db.stats().snapshots;
    assert_eq!((stats.open, stats.oldest_age_ms, stats.versions), (2, 6_000, 1));
    assert!(stats.retained_bytes > 0 && stats.version_bytes > 0);
    clock.advance(Duration::from_secs(5));
    assert!(db.step().unwrap(), "background work gives it up");
    assert!(is_too_old(old.get("k")) && is_too_old(old.multi_get(["k"])));
    assert!(is_too_old(old.get_with("k", |_| ())) && is_too_old(old.contains_key("k")));
    if let Some(walk) = &mut walk {
        assert!(is_too_old(walk.next().unwrap()) && walk.next().is_none());
        assert!(is_too_old(old.first_key_value()));
    }
    assert_eq!(young.get("k").unwrap().as_deref(), Some(&b"new"[..]));
    let stats = db.stats();
    assert_eq!(
        (stats.snapshots.open, stats.snapshots.versions, stats.snapshots.given_up),
        (1, 0, 1)
    );
    assert_eq!((stats.snapshots.retained_bytes, stats.log.records_held), (0, 1));
    drop((old, young, walk));
    assert_eq!(db.stats().snapshots.open, 0);
}

// Nobody has to look for it: the read itself does.
#[test]
fn a_read_finds_its_snapshot_too_old() {
    let (clock, builder) = memory();
    let db = builder.snapshot_age_max(Duration::from_secs(10)).build().unwrap();
    let old = db.snapshot().unwrap();
    clock.advance(Duration::from_secs(11));
    assert!(is_too_old(old.get("k")));
    assert_eq!(db.stats().snapshots.open, 0);
}

#[test]
fn a_snapshot_that_retains_too_much_is_given_up_the_oldest_first() {
    let (_, builder) = memory();
    let db = builder.snapshot_retained_bytes_max(10_000).build().unwrap();
    db.put("k", [0; 6_000]).unwrap();
    let old = db.snapshot().unwrap();
    db.put("k", [1; 6_000]).unwrap();
    let young = db.snapshot().unwrap();
    assert!(old.get("k").unwrap().is_some());
    db.put("k", [2; 6_000]).unwrap();
    db.step().unwrap();
    assert!(is_too_old(old.get("k")));
    assert_eq!(young.get("k").unwrap().unwrap()[0], 1);
}

// U5: also after `close`, and after the last handle is gone.
#[test]
fn a_snapshot_outlives_the_database() {
    for kind in [Kind::Memory, Kind::Disk] {
        let mut life = Life::begin(kind, 1);
        let (db, users) = (life.db.take().unwrap(), life.spaces[1].clone());
        db.put("a", "1").unwrap();
        users.put("u", "2").unwrap();
        let then = db.snapshot().unwrap();
        let view = then.keyspace(&users);
        db.put("a", "3").unwrap();
        users.delete("u").unwrap();
        db.close().unwrap();
        assert!(matches!(db.snapshot().unwrap_err().kind(), ErrorKind::Closed(_)));
        life.spaces.clear();
        drop((db, users));
        assert_eq!(then.get("a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(view.get("u").unwrap().as_deref(), Some(&b"2"[..]));
        if life.is_ordered {
            assert_eq!(view.iter().count(), 1);
            let mut iter = then.iter();
            drop((then, view));
            assert_eq!(iter.next().unwrap().unwrap().1, "1");
        }
    }
}

#[test]
fn a_keyspace_of_another_database_is_refused() {
    let (db, other) = (Db::open_in_memory().unwrap(), Db::open_in_memory().unwrap());
    let view = db.snapshot().unwrap().keyspace(&other);
    let is_refused = |error: &cortenkv::Error| *error.kind() == ErrorKind::InvalidArgument;
    assert!(is_refused(&view.get("k").unwrap_err()));
    let entries: Vec<_> = view.iter().collect();
    assert!(matches!(&entries[..], [Err(error)] if is_refused(error)));
}

// Rule 2 and rule 10: what a snapshot needs outlives its segment; what nobody needs does not.
#[test]
fn segments_stay_while_a_snapshot_needs_them_and_their_space_is_counted() {
    let life = Life::begin(Kind::Disk, 1);
    if !life.db().stats().build.compaction {
        return;
    }
    for n in 0..60 {
        life.db().put(key(n % KEYS), [n as u8; 1_000]).unwrap();
    }
    let then = life.db().snapshot().unwrap();
    for n in 0..200 {
        life.db().put(key(n % KEYS), [200 + (n / 40) as u8; 1_000]).unwrap();
    }
    life.db().delete(key(0)).unwrap();
    // Garbage, so that the segment of the tombstone is left.
    for _ in 0..2 {
        life.db().put(key(1), [204; 1_000]).unwrap();
    }
    let report = life.db().compact().unwrap();
    assert!(report.segments_retired > 0);
    for n in 0..KEYS {
        let value = then.get(key(n)).unwrap().unwrap();
        assert_eq!(value, vec![40 + n as u8; 1_000], "key {n}");
    }
    let stats = life.db().stats().snapshots;
    assert!(stats.retained_bytes >= 10_000 && stats.versions == KEYS, "{stats:?}");
    assert_eq!(then.keyspace(life.db()).iter().count() as u64, KEYS);
    rewrite_all(life.db());
    assert_eq!(life.db().stats().tombstones, 1, "it hides a version that a snapshot keeps");
    drop(then);
    assert_eq!(life.db().stats().snapshots.retained_bytes, 0);
    rewrite_all(life.db());
    assert_eq!(life.db().stats().tombstones, 0);
}

/// Rewrites every segment that can be.
fn rewrite_all(db: &Db) {
    db.compact().unwrap();
    let is_left = |it: &cortenkv::SegmentReport| it.state != SegmentState::Active;
    let all: Vec<u64> =
        db.segments().unwrap().iter().filter(|it| is_left(it)).map(|it| it.id).collect();
    assert!(!all.is_empty() && db.compact_segments(&all).unwrap());
}

// Lives are judged at the opening: a rewrite meanwhile takes nothing away.
#[test]
fn what_expires_under_a_snapshot_stays_for_it() {
    let life = Life::begin(Kind::Disk, 1);
    let db = life.db();
    if !db.stats().build.compaction {
        return;
    }
    let lasting = |ms| PutOptions::new().ttl(Duration::from_millis(ms));
    db.put_with("short", "1", lasting(10)).unwrap();
    db.put_with("long", "1", lasting(1_000)).unwrap();
    for _ in 0..40 {
        db.put("other", [0; 1_000]).unwrap();
    }
    life.clock.advance(Duration::from_millis(20));
    let then = db.snapshot().unwrap();
    life.clock.advance(Duration::from_millis(2_000));
    for _ in 0..2 {
        rewrite_all(db);
        assert_eq!(then.get("long").unwrap().as_deref(), Some(&b"1"[..]));
        assert!(then.get("short").unwrap().is_none() && db.get("long").unwrap().is_none());
        if life.is_ordered {
            assert_eq!(then.iter().count(), 2);
        }
    }
    drop(then);
    rewrite_all(db);
    assert_eq!(db.stats().keys, 1, "it is forgotten once nobody can see it");
}
