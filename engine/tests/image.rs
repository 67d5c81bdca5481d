//! C3, C11, D9: an open that reads an image of the index shows what a replay of everything shows, whatever was written,
//! compacted or cut off since.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cortenkv::vfs::sim::{CrashVariant, DiskModel, Image};
use cortenkv::vfs::{SimVfs, Vfs};
use cortenkv::{Builder, Db, Durability, ErrorKind, ManualClock, PutOptions};

const DIR: &str = "/db";
const NOW_MS: u64 = 1_700_000_000_000;
const KEYS: u64 = 24;

/// What each key shows.
type State = BTreeMap<Vec<u8>, Vec<u8>>;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Plants the bug that `CORTEN_BUG` names, so that whoever wants can see these tests fail.
fn plant() {
    #[cfg(feature = "seeded-bugs")]
    if let Ok(name) = std::env::var("CORTEN_BUG") {
        assert!(cortenkv_wal::bugs::plant(&name), "there is no bug `{name}`");
    }
}

fn builder(vfs: &SimVfs, durability: Durability) -> Builder {
    // All that ends soon is over by then.
    builder_at(vfs, durability, Arc::new(ManualClock::at_wall_ms(NOW_MS + 60_000)))
}

fn builder_at(vfs: &SimVfs, durability: Durability, clock: Arc<ManualClock>) -> Builder {
    builder_of_any_size(vfs, durability, clock).index_shards(64)
}

/// Leaves it to the caller how many shards there are, which is the size of an image.
fn builder_of_any_size(vfs: &SimVfs, durability: Durability, clock: Arc<ManualClock>) -> Builder {
    plant();
    let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
    Db::builder(DIR)
        .durability(durability)
        .segment_bytes(16 << 10)
        .window_bytes(4 << 10)
        .tiny_runs()
        .image_log_bytes_min(2 << 10)
        .manual()
        .vfs(vfs)
        .clock(clock)
}

fn key(n: u64) -> Vec<u8> {
    format!("key {n:02}").into_bytes()
}

fn state_of(db: &Db) -> State {
    db.iter().map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect()
}

/// Everything, by scan, by get and by the verification of the database itself.
fn checked(db: &Db, place: &str) -> State {
    let state = state_of(db);
    for n in 0..KEYS {
        let got = db.get(key(n)).unwrap().map(|value| value.to_vec());
        assert_eq!(got.as_ref(), state.get(&key(n)), "{place}: key {n}");
    }
    let report = db.verify().unwrap();
    assert!(report.findings.is_empty(), "{place}: {report:?}");
    state
}

/// A database and what it should show.
struct Life {
    db: Option<Db>,
    sim: SimVfs,
    clock: Arc<ManualClock>,
    durability: Durability,
    state: State,
    /// After each commit; its number is noted in the trace once it is acknowledged.
    states: Vec<State>,
    random: Random,
}

impl Life {
    fn begin(seed: u64, durability: Durability) -> Life {
        let sim = SimVfs::new(seed);
        let clock = Arc::new(ManualClock::at_wall_ms(NOW_MS));
        let db = Some(builder_at(&sim, durability, Arc::clone(&clock)).build().unwrap());
        let (state, states) = (State::new(), vec![State::new()]);
        Life { db, sim, clock, durability, state, states, random: Random(seed) }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn committed(&mut self) {
        self.states.push(self.state.clone());
        if self.durability == Durability::Always {
            self.sim.note(self.states.len() as u64 - 1);
        }
    }

    fn synced(&mut self) {
        self.db().sync().unwrap();
        self.sim.note(self.states.len() as u64 - 1);
    }

    fn put(&mut self, n: u64) {
        let value = vec![self.states.len() as u8; 200 + self.random.below(1_500) as usize];
        // A put that has an end, and one that is over at once.
        let ttl_ms = match self.random.below(8) {
            0 => Some(3_600_000),
            1 => Some(1),
            _ => None,
        };
        let options = PutOptions::new();
        let options = ttl_ms.map_or(options, |ms| options.ttl(Duration::from_millis(ms)));
        self.db().put_with(key(n), value.clone(), options).unwrap();
        self.clock.advance(Duration::from_millis(2));
        match ttl_ms {
            Some(1) => drop(self.state.remove(&key(n))),
            _ => drop(self.state.insert(key(n), value)),
        }
        self.committed();
    }

    fn delete(&mut self, n: u64) {
        self.state.remove(&key(n));
        self.db().delete(key(n)).unwrap();
        self.committed();
    }

    fn batch(&mut self) {
        let mut batch = self.db().batch();
        let value = vec![self.states.len() as u8; 300];
        for n in 0..3 {
            let n = (self.states.len() as u64 * 5 + n * 7) % KEYS;
            self.state.insert(key(n), value.clone());
            batch.put(self.db(), key(n), value.clone());
        }
        batch.commit().unwrap();
        self.committed();
    }

    /// Rewrites some of the segments that can be, all of them at times.
    fn compact(&mut self) {
        let mut segments = self.db().settled_segments().unwrap();
        let all = self.random.below(3) == 0;
        segments.retain(|_| all || self.random.below(2) == 0);
        if !segments.is_empty() {
            self.db().compact_segments(&segments).unwrap();
        }
    }

    fn steps(&mut self, steps: u64) {
        for _ in 0..steps {
            self.db().step().unwrap();
        }
    }

    fn reopen(&mut self) {
        self.db().close().unwrap();
        self.sim.note(self.states.len() as u64 - 1);
        self.db = None;
        let db = builder_at(&self.sim, self.durability, Arc::clone(&self.clock)).build().unwrap();
        assert_eq!(checked(&db, "reopened"), self.state);
        self.db = Some(db);
    }

    fn run(&mut self, operations: u64) {
        for _ in 0..operations {
            match self.random.below(20) {
                0..8 => {
                    let n = self.random.below(KEYS);
                    self.put(n);
                }
                8..11 => {
                    let n = self.random.below(KEYS);
                    self.delete(n);
                }
                11..13 => self.batch(),
                13..15 => self.compact(),
                15 => self.synced(),
                16 => self.reopen(),
                _ => {
                    let steps = 1 + self.random.below(12);
                    self.steps(steps);
                }
            }
        }
    }
}

/// Opens what a crash left, with and without images, on copies of the same disk.
fn survive(image: &Image, life: &Life, acknowledged: usize, place: &str) -> u64 {
    let open = |images: bool| {
        let sim = SimVfs::from_image(image.clone(), 7);
        let db = builder(&sim, life.durability).index_images(images).build();
        let db = db.unwrap_or_else(|e| panic!("{place}: images {images}: {e:?}"));
        (checked(&db, place), db)
    };
    let ((with, db), (without, _)) = (open(true), open(false));
    assert_eq!(with, without, "{place}");
    let found = life.states.iter().rposition(|state| *state == with);
    let found = found.unwrap_or_else(|| panic!("{place}: no state of the history"));
    assert!(found >= acknowledged, "{place}: {found} of {acknowledged}");
    // It lives on, and so does what it writes next.
    db.put(b"later", b"later").unwrap();
    while db.step().unwrap() {}
    db.compact().unwrap();
    db.close().unwrap();
    db.open_report().image_keys
}

/// Crashes at every point of a history, with disks that take turns; how often an image was of use.
fn crash_everywhere(life: &Life, seed: u64, every: usize) -> u64 {
    let trace = life.sim.trace();
    let mut used = 0;
    for model in DiskModel::ALL {
        trace.for_each_crash_point(model, |cursor| {
            let point = cursor.point();
            if !(point + seed as usize).is_multiple_of(every) {
                return;
            }
            let variants = [
                CrashVariant::Kill,
                CrashVariant::AllLost,
                CrashVariant::Arbitrary(point as u32),
                CrashVariant::PrefixTorn512,
                CrashVariant::NamesReordered,
                CrashVariant::ZeroTail,
            ];
            let variant = variants[(point / every) % variants.len()];
            let acknowledged = cursor.notes().last().map_or(0, |(_, tag)| *tag as usize);
            let place = format!("seed {seed} {model:?} point {point} {variant:?}");
            let image = cursor.image(variant, seed);
            used += u64::from(survive(&image, life, acknowledged, &place) > 0);
        });
    }
    used
}

// S1 to S4 with images: a power cut at every operation of short histories.
#[test]
fn crash_images_on_and_off_show_the_same_at_every_point() {
    let mut used = 0;
    for seed in 0..10 {
        let durability = if seed % 2 == 0 { Durability::Always } else { Durability::None };
        let mut life = Life::begin(seed, durability);
        life.run(60);
        used += crash_everywhere(&life, seed, 11);
    }
    assert!(used > 200, "images were used {used} times");
}

#[test]
fn long_lives_of_opens_and_compactions_follow_the_model() {
    for seed in 100..130 {
        let durability = if seed % 2 == 0 { Durability::Always } else { Durability::None };
        let mut life = Life::begin(seed, durability);
        life.run(400);
        life.reopen();
    }
}

/// Writes until images were written, and closes.
fn with_images(seed: u64) -> Life {
    let mut life = Life::begin(seed, Durability::Always);
    for n in 0..60 {
        life.put(n % KEYS);
        life.steps(8);
    }
    life
}

fn files(image: &Image, ending: &str) -> Vec<std::path::PathBuf> {
    let name = |path: &&Path| path.to_string_lossy().contains(ending);
    image.paths().filter(name).map(Path::to_path_buf).collect()
}

#[test]
fn a_rotten_image_or_run_is_passed_over_and_nothing_is_lost() {
    let mut life = with_images(3);
    life.db().close().unwrap();
    life.db = None;
    let whole = life.sim.image();
    let images = files(&whole, "/CKPT-");
    assert_eq!(images.len(), 2, "{images:?}");
    let runs = files(&whole, ".run");
    assert!(!runs.is_empty());
    let mut spoilt = 0;
    for path in images.iter().chain(&runs) {
        let len = whole.len_of(path).unwrap();
        for at in (0..len).step_by(1 + len as usize / 25) {
            for damage in 0..4 {
                let mut image = whole.clone();
                match damage {
                    0 => drop(image.flip_bit(path, at * 8 + 3)),
                    1 => drop(image.zero_sector(path, at / 512)),
                    2 => drop(image.truncate(path, at)),
                    _ => drop(image.remove(path)),
                }
                spoilt += 1;
                let sim = SimVfs::from_image(image, 1);
                let db = builder(&sim, life.durability).build().unwrap();
                for n in 0..KEYS {
                    let got = db.get(key(n)).unwrap().map(|value| value.to_vec());
                    assert_eq!(got.as_ref(), life.state.get(&key(n)), "{path:?} {at} {damage}");
                }
                // A damaged block of a run is found when it is touched, and mended.
                // Pins of other tests hold that up.
                while db.iter().any(|entry| entry.is_err()) {
                    let _ = db.step();
                    std::thread::yield_now();
                }
                assert_eq!(state_of(&db), life.state, "{path:?} {at} {damage}");
            }
        }
    }
    assert!(spoilt > 200);
}

#[test]
fn two_images_are_kept_and_nothing_else_stays() {
    let mut life = with_images(5);
    life.reopen();
    let report = life.db().open_report();
    assert!(report.image_keys > 0 && report.image_bytes > 0, "{report:?}");
    life.steps(200);
    let image = life.sim.image();
    assert_eq!(files(&image, "/CKPT-").len(), 2);
    life.db().close().unwrap();
    life.db = None;
    let db = builder(&life.sim, life.durability).index_images(false).build().unwrap();
    assert_eq!((db.open_report().image_keys, checked(&db, "off")), (0, life.state.clone()));
    assert!(files(&life.sim.image(), "/CKPT-").is_empty());
}

/// A database whose images are small, so that they are due soon.
fn with_small_images(vfs: &SimVfs) -> Builder {
    let clock = Arc::new(ManualClock::at_wall_ms(NOW_MS));
    builder_of_any_size(vfs, Durability::Always, clock).few_index_shards()
}

/// A database that was killed: a job of compaction was so many steps under way when a record died that it may have copied, and
/// an image was written before the job went on. With the value of the newer record, which is in a segment that the image covers.
fn killed_in_a_job(steps: u64) -> (Image, Vec<u8>) {
    let sim = SimVfs::new(steps);
    let db = with_small_images(&sim).build().unwrap();
    db.put("key", "the older value, which the job may have copied").unwrap();
    // Garbage enough for a job, and an image before it.
    for n in 0..160 {
        db.put(key(n % KEYS), vec![n as u8; 700]).unwrap();
    }
    let images = || {
        let is_done = |path: &&std::path::PathBuf| path.extension().is_none();
        files(&sim.image(), "/CKPT-").iter().filter(is_done).count()
    };
    while images() < 1 {
        db.step().unwrap();
    }
    for _ in 0..steps {
        db.step().unwrap();
    }
    let newest = b"the newest value, and the one that rots".to_vec();
    db.put("key", newest.clone()).unwrap();
    for n in 0..3 * KEYS {
        db.put(key(n % KEYS), vec![n as u8; 700]).unwrap();
    }
    while images() < 2 && db.step().unwrap() {}
    (sim.image(), newest)
}

// S5: the copy is offered again, and cannot be compared with the record that is newer.
#[test]
fn a_damaged_record_does_not_give_way_to_an_older_copy_that_its_image_does_not_cover() {
    let mut beside = 0;
    for steps in 0..60 {
        let (mut image, newest) = killed_in_a_job(steps);
        let place = files(&image, ".seg").into_iter().find_map(|path| {
            let content = image.read(&path)?;
            let at = content.windows(newest.len()).position(|window| window == newest)?;
            Some((path, at as u64))
        });
        let (path, at) = place.unwrap();
        image.flip_bit(&path, at * 8);
        let db = with_small_images(&SimVfs::from_image(image, 1)).build().unwrap();
        assert!(db.open_report().image_keys > 0, "after {steps} steps the image was of no use");
        beside += u64::from(db.stats().index.entries > KEYS + 1);
        let error = db.get("key").expect_err("an older value came back");
        assert!(matches!(error.kind(), ErrorKind::Corruption { .. }), "{error}");
        assert!(db.multi_get(["key"]).is_err());
        assert!(db.iter().any(|entry| entry.is_err()));
        for n in 0..KEYS {
            assert_eq!(db.get(key(n)).unwrap().unwrap(), vec![(2 * KEYS + n) as u8; 700]);
        }
        // Whoever writes it again has it.
        db.put("key", "healed").unwrap();
        assert_eq!(db.get("key").unwrap().unwrap(), "healed");
    }
    assert!(beside > 0, "no copy was offered beside the damaged record");
}

// The copying of shards beside writers and compaction: what a kill leaves at any moment.
#[test]
fn images_that_were_copied_beside_writers_lose_nothing() {
    let sim = SimVfs::new(11);
    let open = |sim: &SimVfs, images: bool| {
        let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
        let builder =
            Db::builder(DIR).durability(Durability::None).segment_bytes(64 << 10).vfs(vfs);
        builder.image_log_bytes_min(64 << 10).index_images(images)
    };
    let db = open(&sim, true).build().unwrap();
    let mut used = 0;
    std::thread::scope(|scope| {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        for writer in 0..2 {
            let (db, stop) = (db.clone(), Arc::clone(&stop));
            scope.spawn(move || {
                let mut random = Random(writer);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let n = random.below(3_000);
                    match random.below(5) {
                        0 => drop(db.delete(n.to_be_bytes()).unwrap()),
                        _ => drop(db.put(n.to_be_bytes(), vec![n as u8; 60]).unwrap()),
                    }
                }
            });
        }
        for round in 0..8 {
            let target = db.stats().last_seq + 6_000;
            while db.stats().last_seq < target {
                std::thread::yield_now();
            }
            let left = sim.image();
            let both = [true, false].map(|images| {
                let sim = SimVfs::from_image(left.clone(), round);
                let db = open(&sim, images).manual().build().unwrap();
                let state = state_of(&db);
                let report = db.verify().unwrap();
                assert!(report.findings.is_empty(), "round {round}: {report:?}");
                (state, db.stats().keys, db.open_report().image_keys)
            });
            assert_eq!(both[0].0, both[1].0, "round {round}");
            assert_eq!(both[0].1, both[1].1, "round {round}");
            used += u64::from(both[0].2 > 0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(used > 3, "images were used {used} times");
}
