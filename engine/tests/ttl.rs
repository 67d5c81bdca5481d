//! C10, reliability 4: every path shows an entry until the very millisecond at which it ends and not after, and the disk
//! comes back without a write.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cortenkv::vfs::{OsVfs, Vfs};
use cortenkv::{Db, Durability, Keyspace, KeyspaceOptions, ManualClock, PutOptions, Result};

const START_MS: u64 = 1_700_000_000_000;
const DEFAULT_MS: u64 = 1_000;
const OWN_MS: u64 = 2_500;

fn open(dir: &Path, clock: &Arc<ManualClock>, segment_bytes: u64) -> Db {
    let clock: Arc<ManualClock> = Arc::clone(clock);
    let builder = Db::builder(dir).durability(Durability::None).segment_bytes(segment_bytes);
    builder.manual().clock(clock).build().unwrap()
}

fn with_default(db: &Db) -> Keyspace {
    let options = KeyspaceOptions::new().default_ttl(Duration::from_millis(DEFAULT_MS));
    let options = options.merge_operator(cortenkv::merge::Append);
    db.keyspace_with("lives", options).unwrap()
}

type Write = fn(&Db, &Keyspace, &str) -> Result<()>;

/// Every way to write, and after how many milliseconds that ends.
const WRITES: [(&str, Option<u64>, Write); 14] = [
    ("put", Some(DEFAULT_MS), |_, ks, key| ks.put(key, "v").map(drop)),
    ("put_with nothing", Some(DEFAULT_MS), |_, ks, key| {
        ks.put_with(key, "v", PutOptions::new()).map(drop)
    }),
    ("put_with ttl", Some(OWN_MS), |_, ks, key| {
        ks.put_with(key, "v", PutOptions::new().ttl(Duration::from_millis(OWN_MS))).map(drop)
    }),
    ("put_with no_ttl", None, |_, ks, key| {
        ks.put_with(key, "v", PutOptions::new().no_ttl()).map(drop)
    }),
    ("put_batch", Some(DEFAULT_MS), |_, ks, key| ks.put_batch([(key, "v", None)]).map(drop)),
    ("put_batch ttl", Some(OWN_MS), |_, ks, key| {
        ks.put_batch([(key, "v", Some(Duration::from_millis(OWN_MS)))]).map(drop)
    }),
    ("batch", Some(DEFAULT_MS), |db, ks, key| {
        let mut batch = db.batch();
        batch.put(ks, key, "v");
        batch.commit().map(drop)
    }),
    ("batch ttl", Some(OWN_MS), |db, ks, key| {
        let mut batch = db.batch();
        batch.put_with_ttl(ks, key, "v", Duration::from_millis(OWN_MS));
        batch.commit().map(drop)
    }),
    ("transaction", Some(DEFAULT_MS), |db, ks, key| db.transact(|t| t.put(ks, key, "v"))),
    ("transaction ttl", Some(OWN_MS), |db, ks, key| {
        db.transact(|t| t.put_with_ttl(ks, key, "v", Duration::from_millis(OWN_MS)))
    }),
    ("compare_and_swap", Some(DEFAULT_MS), |_, ks, key| {
        ks.compare_and_swap(key, None, Some(b"v")).map(|swapped| swapped.unwrap())
    }),
    ("put_if_absent", Some(DEFAULT_MS), |_, ks, key| {
        ks.put_if_absent(key, "v").map(|is_put| assert!(is_put))
    }),
    ("fetch_and_update", Some(DEFAULT_MS), |_, ks, key| {
        ks.fetch_and_update(key, |_| Some(b"v".to_vec())).map(drop)
    }),
    ("merge", Some(DEFAULT_MS), |_, ks, key| ks.merge(key, "v").map(drop)),
];

type Read = fn(&Db, &Keyspace, &str) -> Result<bool>;

fn has(mut entries: impl Iterator<Item = Result<(Bytes, Bytes)>>, key: &str) -> Result<bool> {
    entries.try_fold(false, |found, entry| entry.map(|(other, _)| found | (other == key)))
}

/// Every way to tell whether a key has a value.
const READS: [(&str, Read); 14] = [
    ("get", |_, ks, key| ks.get(key).map(|value| value.is_some())),
    ("get_with", |_, ks, key| ks.get_with(key, |_| ()).map(|value| value.is_some())),
    ("get_pinned", |_, ks, key| ks.get_pinned(key).map(|value| value.is_some())),
    ("get_entry", |_, ks, key| ks.get_entry(key).map(|value| value.is_some())),
    ("multi_get", |_, ks, key| ks.multi_get(["?", key]).map(|values| values[1].is_some())),
    ("contains_key", |_, ks, key| ks.contains_key(key)),
    ("iter", |_, ks, key| has(ks.iter(), key)),
    ("rev", |_, ks, key| has(ks.iter().rev(), key)),
    ("keys", |_, ks, key| {
        let mut keys = ks.keys();
        keys.try_fold(false, |found, other| other.map(|other| found | (other == key)))
    }),
    ("snapshot", |db, ks, key| {
        let at = db.snapshot()?.keyspace(ks);
        let found = at.contains_key(key)?;
        assert_eq!(has(at.iter(), key)?, found, "a scan of a snapshot");
        Ok(found)
    }),
    ("transaction", |db, ks, key| db.transaction().contains_key(ks, key)),
    ("scan of a transaction", |db, ks, key| has(db.transaction().iter(ks), key)),
    ("compare_and_swap", |_, ks, key| {
        // Refused one way or the other, so nothing is written.
        Ok(ks.compare_and_swap(key, Some(b"?"), None)?.is_err() && {
            let mut seen = false;
            let kept = |old: Option<&[u8]>| {
                seen = old.is_some();
                None
            };
            match ks.contains_key(key)? {
                true => true,
                false => ks.fetch_and_update(key, kept)?.is_some() || seen,
            }
        })
    }),
    ("scan_with", |_, ks, key| {
        let mut found = false;
        let _ = ks.scan_with::<&str, ()>(key..=key, |_, _| {
            found = true;
            std::ops::ControlFlow::Continue(())
        })?;
        Ok(found)
    }),
];

#[test]
fn every_write_ends_at_its_millisecond_for_every_read() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("db");
    let clock = Arc::new(ManualClock::at_wall_ms(START_MS));
    let mut db = open(&dir, &clock, 64 << 10);
    let mut lives = with_default(&db);
    for (name, _, write) in WRITES {
        write(&db, &lives, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let mut now_ms = 0;
    // Up to the last millisecond of each sort, at its end, and long after.
    for (round, at_ms) in
        [0, DEFAULT_MS - 1, DEFAULT_MS, OWN_MS - 1, OWN_MS, 100_000].into_iter().enumerate()
    {
        clock.advance(Duration::from_millis(at_ms - now_ms));
        now_ms = at_ms;
        for state in ["as it was", "compacted", "reopened"] {
            match state {
                "compacted" => {
                    for n in 0..1_000 {
                        db.put("filler", [n as u8; 100]).unwrap();
                    }
                    db.compact().unwrap();
                    while db.step().unwrap() {}
                }
                "reopened" => {
                    drop(lives);
                    db.close().unwrap();
                    drop(db);
                    db = open(&dir, &clock, 64 << 10);
                    lives = with_default(&db);
                }
                _ => {}
            }
            for (name, ttl_ms, _) in WRITES {
                let expected = ttl_ms.is_none_or(|ttl_ms| at_ms < ttl_ms);
                for (read, is_there) in READS {
                    assert_eq!(
                        is_there(&db, &lives, name).unwrap(),
                        expected,
                        "round {round}, {at_ms} ms, {state}: {name} by {read}"
                    );
                }
            }
        }
    }
    // What has ended is absent to those who write on a condition.
    assert!(!lives.put_if_absent("put_with no_ttl", "w").unwrap());
    assert!(lives.put_if_absent("put", "w").unwrap());
    assert!(db.verify().unwrap().findings.is_empty());
}

// The default is of an opening, what was written keeps its end.
#[test]
fn a_default_is_for_writes_behind_it() {
    let clock = Arc::new(ManualClock::at_wall_ms(START_MS));
    let db = Db::builder_in_memory().clock(Arc::clone(&clock) as Arc<_>).build().unwrap();
    db.put("before", "1").unwrap();
    let options = KeyspaceOptions::new().default_ttl(Duration::from_millis(DEFAULT_MS));
    db.keyspace_with("default", options).unwrap();
    db.put("behind", "2").unwrap();
    db.keyspace_with("default", KeyspaceOptions::new()).unwrap();
    db.put("still", "3").unwrap();
    db.keyspace_with("default", KeyspaceOptions::new().default_ttl(Duration::MAX)).unwrap();
    db.put("taken back", "4").unwrap();
    clock.advance(Duration::from_millis(DEFAULT_MS));
    let there =
        ["before", "behind", "still", "taken back"].map(|key| db.contains_key(key).unwrap());
    assert_eq!(there, [true, false, false, true]);
}

fn segment_bytes(dir: &Path) -> u64 {
    let files = OsVfs::new().list(dir).unwrap();
    let is_segment = |name: &str| name.ends_with(".seg") || name.ends_with(".cseg");
    files.iter().filter(|file| is_segment(&file.name)).map(|file| file.len).sum()
}

/// Lets the clock run second by second, with all the background work that there is.
fn wait(db: &Db, clock: &ManualClock, seconds: u32) {
    for _ in 0..seconds {
        clock.advance(Duration::from_secs(1));
        while db.step().unwrap() {}
    }
}

// Nobody writes, and nobody asks for it: time passes, and background work does what there is to do. In large segments all of
// it is in the one that is being written.
#[test]
fn a_database_whose_entries_have_all_expired_gives_its_disk_back() {
    for segment_bytes_max in [64 << 10, 4 << 20] {
        println!("segments of {segment_bytes_max} bytes");
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("db");
        let clock = Arc::new(ManualClock::at_wall_ms(START_MS));
        let db = open(&dir, &clock, segment_bytes_max);
        let options = KeyspaceOptions::new().default_ttl(Duration::from_secs(10));
        let lives = db.keyspace_with("lives", options).unwrap();
        for n in 0..5_000_u32 {
            lives.put(n.to_be_bytes(), [n as u8; 200]).unwrap();
        }
        // Looked at while they live: that must not be the last look.
        wait(&db, &clock, 5);
        let before = db.stats();
        assert_eq!((before.keys, before.compaction.live_bytes > 1_000_000), (5_000, true));
        let bytes_before = segment_bytes(&dir);
        assert!(bytes_before > 1_000_000);
        wait(&db, &clock, 60);
        let after = db.stats();
        assert_eq!(after.last_seq, before.last_seq, "somebody wrote");
        assert!(after.compaction.record_bytes < 64 << 10, "{:?}", db.segments().unwrap());
        if segment_bytes_max < bytes_before {
            // In one large file it is the room that the log makes ahead of its writers.
            assert!(segment_bytes(&dir) < 200 << 10, "{:?}", db.segments().unwrap());
        }
        // A segment that is being written is left as it is if it is smaller than 64 KiB.
        assert!(after.keys < 300 && after.tombstones == 0, "{:?}", db.segments().unwrap());
        assert_eq!(lives.iter().count(), 0);
        assert!(db.verify().unwrap().findings.is_empty());
    }
}
