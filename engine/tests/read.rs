//! Every way to read a value, on every kind of database: they agree, they copy no more than they say, and what is pinned
//! outlives all else.

#![expect(clippy::disallowed_methods, reason = "the tests damage files from outside")]

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cortenkv::vfs::{
    DirEntry, LockOutcome, Metadata, OpenMode, OsVfs, ReadMap, TailMap, Vfs, VfsFile,
};
use cortenkv::{Builder, Db, Durability, ErrorKind, Keyspace, ManualClock, PutOptions, TailKind};

const START_MS: u64 = 1_700_000_000_000;

/// A file system that cannot map files.
#[derive(Debug)]
struct Unmapped(OsVfs);

impl Vfs for Unmapped {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.0.metadata(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.list(dir)
    }
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        self.0.open(path, mode)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        self.0.lock(path)
    }
    fn map_tail(&self, _: &Arc<dyn VfsFile>, _: u64) -> io::Result<Box<dyn TailMap>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn map_read(&self, _: &Arc<dyn VfsFile>, _: u64) -> io::Result<Box<dyn ReadMap>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.0.fill_random(bytes)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Memory,
    /// Staged, written by the leader of the sync.
    Durable,
    /// Stored into the mapped tail.
    Relaxed,
    Compressed,
    /// By `read_at`.
    Unmapped,
}

const KINDS: [Kind; 5] =
    [Kind::Memory, Kind::Durable, Kind::Relaxed, Kind::Compressed, Kind::Unmapped];

/// A database, and what it takes to open it again.
struct Fixture {
    kind: Kind,
    root: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Fixture {
    fn new(kind: Kind) -> Self {
        println!("{kind:?}");
        let clock = Arc::new(ManualClock::at_wall_ms(START_MS));
        Fixture { kind, root: tempfile::tempdir().unwrap(), clock }
    }

    fn builder(&self) -> Builder {
        let builder = match self.kind {
            Kind::Memory => Db::builder_in_memory(),
            _ => Db::builder(self.root.path().join("db")),
        };
        let builder = builder.clock(self.clock.clone());
        match self.kind {
            Kind::Memory | Kind::Durable => builder,
            Kind::Relaxed => builder.durability(Durability::None).tail(TailKind::Mapped),
            Kind::Compressed => builder.durability(Durability::None).compression(true),
            Kind::Unmapped => {
                builder.durability(Durability::None).vfs(Arc::new(Unmapped(OsVfs::new())))
            }
        }
    }

    fn open(&self) -> Db {
        self.builder().build().unwrap()
    }

    /// The segments whose records are read, by path.
    fn segments(&self) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(self.root.path().join("db")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension().is_some_and(|suffix| suffix == "seg")).collect()
    }

    /// Flips a bit of the place where the files have these bytes.
    fn flip(&self, bytes: &[u8]) {
        for path in self.segments() {
            let content = std::fs::read(&path).unwrap();
            if let Some(at) = content.windows(bytes.len()).position(|window| window == bytes) {
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                return file.write_all_at(&[bytes[0] ^ 1], at as u64).unwrap();
            }
        }
        panic!("no segment has {bytes:?}");
    }
}

/// Bytes that compress a little.
fn value(n: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i / 3 * 7 + n) % 251) as u8).collect()
}

/// Asks in every way for the value of a key.
fn check(of: &Keyspace, key: &[u8], expected: Option<&[u8]>) {
    assert_eq!(of.get(key).unwrap().as_deref(), expected);
    assert_eq!(of.get_with(key, <[u8]>::to_vec).unwrap().as_deref(), expected);
    assert_eq!(of.get_pinned(key).unwrap().as_deref(), expected);
    assert_eq!(of.get_entry(key).unwrap().map(|entry| entry.value).as_deref(), expected);
    assert_eq!(of.contains_key(key).unwrap(), expected.is_some());
    assert_eq!(of.multi_get([key]).unwrap()[0].as_deref(), expected);
    let mut seen = Vec::new();
    of.multi_get_with([key], |n, value| seen.push((n, value.map(<[u8]>::to_vec)))).unwrap();
    assert_eq!(seen, [(0, expected.map(<[u8]>::to_vec))]);
}

#[test]
fn all_ways_to_read_agree_about_values_of_every_size() {
    const SIZES: [usize; 12] =
        [0, 1, 16, 100, 127, 128, 4_095, 5_000, 65_536, 65_537, 300_000, 2 << 20];
    for kind in KINDS {
        let fixture = Fixture::new(kind);
        let mut db = fixture.open();
        let ttl = |ms| PutOptions::new().ttl(Duration::from_millis(ms));
        for (n, len) in SIZES.into_iter().enumerate() {
            let key = |what: &str| format!("{what} {len}");
            db.put(key("old"), value(n + 1, len)).unwrap();
            db.put(key("plain"), value(n, len)).unwrap();
            db.put_with(key("brief"), value(n, len), ttl(10)).unwrap();
            db.put_with(key("long"), value(n, len), ttl(1 << 40)).unwrap();
            db.put(key("deleted"), value(n, len)).unwrap();
            let mut batch = db.batch();
            batch.put(&db, key("old"), value(n, len)).delete(&db, key("deleted"));
            batch.put(&db, key("in a batch"), value(n, len));
            batch.commit().unwrap();
        }
        fixture.clock.advance(Duration::from_millis(10));
        for reopened in [false, true] {
            if reopened && kind != Kind::Memory {
                drop(db);
                db = fixture.open();
            }
            for (n, len) in SIZES.into_iter().enumerate() {
                let expected = value(n, len);
                for what in ["plain", "long", "old", "in a batch"] {
                    check(db.as_ref(), format!("{what} {len}").as_bytes(), Some(&expected));
                }
                for what in ["brief", "deleted", "never"] {
                    check(db.as_ref(), format!("{what} {len}").as_bytes(), None);
                }
            }
            assert_eq!(db.stats().pinned_bytes, 0, "nothing is pinned for longer than asked");
        }
    }
}

#[test]
fn many_keys_come_in_their_order_each_once() {
    for kind in KINDS {
        let fixture = Fixture::new(kind);
        let db = fixture.open();
        let key = |n: usize| format!("key {n}");
        db.put_batch((0..100).step_by(2).map(|n| (key(n), value(n, n * 10), None))).unwrap();
        // Repeated keys, missing ones, and counts around the size of a batch.
        for count in [0, 1, 15, 16, 17, 33, 300] {
            let asked: Vec<usize> = (0..count).map(|i| i * 37 % 110).collect();
            let expected = |n: &usize| (n.is_multiple_of(2) && *n < 100).then(|| value(*n, n * 10));
            let expected: Vec<_> = asked.iter().map(expected).collect();
            let found = db.multi_get(asked.iter().map(|&n| key(n))).unwrap();
            assert!(found.iter().map(Option::as_deref).eq(expected.iter().map(Option::as_deref)));
            let mut seen = vec![None; count];
            db.multi_get_with(asked.iter().map(|&n| key(n)), |n, value| {
                let before = seen[n].replace(value.map(<[u8]>::to_vec));
                assert_eq!(before, None, "{n} came twice");
            })
            .unwrap();
            assert!(seen.into_iter().map(Option::unwrap).eq(expected));
        }
    }
}

// Rule 10, and the stand-in of a database in memory.
#[test]
fn a_pinned_value_outlives_key_segment_database_and_directory() {
    for kind in KINDS {
        let fixture = Fixture::new(kind);
        let db = fixture.builder().segment_bytes(256 << 10).build().unwrap();
        let sizes = [0, 100, 5_000, 70_000];
        let keys: Vec<_> = sizes.iter().map(|len| format!("key {len}")).collect();
        for (n, len) in sizes.into_iter().enumerate() {
            db.put(&keys[n], value(n, len)).unwrap();
        }
        let pinned: Vec<_> = keys.iter().map(|key| db.get_pinned(key).unwrap().unwrap()).collect();
        let large = db.get(&keys[3]).unwrap().unwrap();
        let is_copied = |len: usize| match kind {
            Kind::Memory | Kind::Durable | Kind::Relaxed => false,
            Kind::Compressed => len >= 4096,
            Kind::Unmapped => true,
        };
        let counted = sizes.into_iter().chain([70_000]).filter(|len| !is_copied(*len));
        assert_eq!(db.stats().pinned_bytes, counted.sum::<usize>() as u64);
        for n in 0..2_000_u32 {
            db.put(n.to_le_bytes(), [7; 1000]).unwrap();
        }
        for key in &keys {
            db.delete(key).unwrap();
        }
        assert!(kind == Kind::Memory || db.stats().log.segments > 3);
        drop(db);
        drop(fixture);
        let threads = pinned.into_iter().zip(sizes).enumerate().map(|(n, (pinned, len))| {
            std::thread::spawn(move || assert_eq!(*pinned, *value(n, len)))
        });
        threads.for_each(|thread| thread.join().unwrap());
        assert_eq!(large, value(3, 70_000));
    }
}

#[test]
fn only_values_beyond_64_kib_are_pinned_by_a_get() {
    let fixture = Fixture::new(Kind::Durable);
    let db = fixture.open();
    db.put("short", value(1, 64 << 10)).unwrap();
    db.put("long", value(2, (64 << 10) + 1)).unwrap();
    let (short, long) = (db.get("short").unwrap().unwrap(), db.get("long").unwrap().unwrap());
    assert_eq!(db.stats().pinned_bytes, long.len() as u64);
    let part = long.slice(10..20);
    drop((short, long));
    assert_eq!(db.stats().pinned_bytes, (64 << 10) + 1, "a part keeps the whole");
    assert_eq!(part, value(2, 20)[10..]);
    drop(part);
    assert_eq!(db.stats().pinned_bytes, 0);
    let pinned = db.get_pinned("short").unwrap().unwrap();
    assert_eq!(db.stats().pinned_bytes, 64 << 10);
    let shared = bytes::Bytes::from(pinned);
    assert_eq!(shared.clone(), value(1, 64 << 10));
    drop(shared);
    assert_eq!(db.stats().pinned_bytes, 0);
}

#[test]
fn a_closure_may_use_the_database_as_it_likes() {
    for kind in KINDS {
        let fixture = Fixture::new(kind);
        let db = fixture.open();
        db.put_batch([("a", "1", None), ("b", "2", None)]).unwrap();
        db.get_with("a", |before| {
            // Other keys, the same key, several ways; what is shown stays.
            db.put("c", before).unwrap();
            db.put("a", "new").unwrap();
            db.delete("b").unwrap();
            assert_eq!(db.get("a").unwrap().unwrap(), "new");
            db.put_batch([("a", "newer", None), ("d", "4", None)]).unwrap();
            assert!(db.compare_and_swap("a", Some(b"newer"), Some(b"newest")).unwrap().is_ok());
            assert_eq!(before, b"1");
        })
        .unwrap();
        let mut seen = Vec::new();
        db.multi_get_with(["a", "b", "c", "d"], |n, value| {
            db.put(format!("copy of {n}"), value.unwrap_or(b"nothing")).unwrap();
            db.put("d", "changed before it is read, or after").unwrap();
            seen.push(n);
        })
        .unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
        assert_eq!(db.get("copy of 0").unwrap().unwrap(), "newest");
        assert_eq!(db.get("copy of 1").unwrap().unwrap(), "nothing");
        assert_eq!(db.get("copy of 2").unwrap().unwrap(), "1");
    }
}

#[test]
fn a_damaged_record_is_an_error_until_its_key_is_written_again() {
    for kind in [Kind::Durable, Kind::Relaxed, Kind::Unmapped] {
        let fixture = Fixture::new(kind);
        let db = fixture.open();
        db.put("damaged", "the value of the damaged key").unwrap();
        db.put("whole", "as it was").unwrap();
        fixture.flip(b"the value of the damaged key");
        let is_corruption = |error: cortenkv::Error| {
            assert!(matches!(error.kind(), ErrorKind::Corruption { .. }), "{error}");
        };
        is_corruption(db.get("damaged").unwrap_err());
        is_corruption(db.get_with("damaged", |_| ()).unwrap_err());
        is_corruption(db.get_pinned("damaged").unwrap_err());
        is_corruption(db.contains_key("damaged").unwrap_err());
        is_corruption(db.multi_get(["whole", "damaged"]).unwrap_err());
        check(db.as_ref(), b"whole", Some(b"as it was"));
        check(db.as_ref(), b"never", None);
        // Now the unreadable record stands beside a readable one, and then beside a tombstone.
        db.put("damaged", "healed").unwrap();
        check(db.as_ref(), b"damaged", Some(b"healed"));
        check(db.as_ref(), b"whole", Some(b"as it was"));
        check(db.as_ref(), b"never", None);
        // The old record reads again: it is still the older one.
        let flipped: Vec<u8> = [&[b't' ^ 1], &b"he value of the damaged key"[..]].concat();
        fixture.flip(&flipped);
        check(db.as_ref(), b"damaged", Some(b"healed"));
        db.delete("damaged").unwrap();
        check(db.as_ref(), b"damaged", None);
        let many: Vec<_> = (0..20).map(|_| "damaged").chain(["whole"]).collect();
        assert_eq!(db.multi_get(many).unwrap().iter().flatten().count(), 1);
    }
}

#[test]
fn reads_that_verify_nothing_do_not_notice() {
    for kind in [Kind::Durable, Kind::Relaxed, Kind::Unmapped] {
        let fixture = Fixture::new(kind);
        let db = fixture.builder().verify_reads(false).build().unwrap();
        db.put("damaged", "trusted").unwrap();
        check(db.as_ref(), b"damaged", Some(b"trusted"));
        fixture.flip(b"trusted");
        check(db.as_ref(), b"damaged", Some(b"urusted"));
        fixture.flip(b"urusted");
        drop(db);
        // An opening verifies everything all the same.
        check(fixture.open().as_ref(), b"damaged", Some(b"trusted"));
    }
}
