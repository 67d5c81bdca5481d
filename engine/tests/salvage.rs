//! S5: salvage of compacted segments keeps what is intact, shows nothing wrong, and tells what is lost.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cortenkv::segments::SegmentKind;
use cortenkv::vfs::{OpenMode, OsVfs, SimVfs, Vfs};
use cortenkv::{Builder, Db, Durability};

const DIR: &str = "db";

/// All versions of a key, the newest last; `None` is a delete.
type History = BTreeMap<Vec<u8>, Vec<Option<Vec<u8>>>>;

fn builder(dir: &Path, vfs: &Arc<dyn Vfs>, compression: bool) -> Builder {
    let builder = Db::builder(dir).durability(Durability::None).segment_bytes(64 << 10).manual();
    builder.vfs(Arc::clone(vfs)).window_bytes(4 << 10).compression(compression).reserve_bytes(0)
}

fn key(n: u32) -> [u8; 8] {
    (u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_be_bytes()
}

fn value(n: u32, version: u32) -> Vec<u8> {
    format!("{n} {version} ").into_bytes().repeat(20)
}

/// Puts, overwrites and deletes, most of which end up in compacted segments. The oldest values stay in segments of the log, so
/// that tombstones have something to hide.
fn fill(db: &Db) -> History {
    let mut history = History::new();
    let mut note = |n: u32, value: Option<Vec<u8>>| {
        history.entry(key(n).to_vec()).or_default().push(value);
    };
    for n in 0..800 {
        db.put(key(n), value(n, 0)).unwrap();
        note(n, Some(value(n, 0)));
    }
    db.sync().unwrap();
    let old = db.settled_segments().unwrap();
    for n in 0..800 {
        if n % 7 == 0 {
            db.delete(key(n)).unwrap();
            note(n, None);
        } else if n % 2 == 0 {
            db.put(key(n), value(n, 1)).unwrap();
            note(n, Some(value(n, 1)));
        }
    }
    db.put(b"end", b"").unwrap();
    history.insert(b"end".to_vec(), vec![Some(Vec::new())]);
    db.sync().unwrap();
    let newer: Vec<u64> =
        db.settled_segments().unwrap().into_iter().filter(|id| !old.contains(id)).collect();
    assert!(db.compact_segments(&newer).unwrap());
    history
}

/// The keys that do not have their newest value.
fn lost(db: &Db, history: &History) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut lost = Vec::new();
    for (key, versions) in history {
        let found = db.get(key).unwrap().map(|value| value.to_vec());
        assert!(found.is_none() || versions.contains(&found), "{key:?} has a value it never had");
        if Some(&found) != versions.last() {
            lost.push((key.clone(), found));
        }
    }
    lost
}

fn is_between(key: &[u8], place: &cortenkv::LostPlace) -> bool {
    place.after.as_ref().is_none_or(|after| after.key[..] < *key)
        && place.before.as_ref().is_none_or(|before| *key < before.key[..])
}

// Bytes are flipped all over a compacted segment, its header and its footer too. Without salvage the database is refused; with
// it no value is wrong, what is lost stands between the keys that are told, and no deleted key comes back that was not counted.
#[test]
fn what_is_intact_of_a_damaged_compacted_segment_stays() {
    let (mut refused, mut lost_total, mut revived_total) = (0, 0, 0);
    for compression in [false, cfg!(feature = "snappy")] {
        let sim = SimVfs::new(21);
        let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
        let db = builder(Path::new(DIR), &vfs, compression).build().unwrap();
        let history = fill(&db);
        let segments = db.segments().unwrap();
        let compacted = segments.iter().find(|it| it.kind == SegmentKind::Compacted).unwrap();
        let (file, len) = (compacted.file.clone(), compacted.stored_bytes);
        db.close().unwrap();
        drop(db);
        let image = sim.image();
        let places = (0..len).step_by(if compression { 701 } else { 1_409 });
        let edges = [0, 8, 4_000, len - 8, len - 40];
        for offset in places.chain(edges).filter(|offset| *offset < len) {
            let vfs: Arc<dyn Vfs> = Arc::new(SimVfs::from_image(image.clone(), 1));
            flip(vfs.as_ref(), &file, offset);
            let open = || {
                let builder = builder(Path::new(DIR), &vfs, compression);
                builder.index_images(false)
            };
            match open().build() {
                Ok(db) => {
                    // The other copy of the header, or what no reader looks at.
                    assert!(lost(&db, &history).is_empty(), "byte {offset}");
                    continue;
                }
                Err(error) => assert!(error.is_corruption(), "byte {offset}: {error}"),
            }
            refused += 1;
            let db = open().salvage(true).build().unwrap();
            let report = db.open_report();
            let [salvaged] = &report.salvaged[..] else { panic!("byte {offset}: {report:?}") };
            assert!(salvaged.file.ends_with(&file) && report.damaged_places > 0);
            let lost = lost(&db, &history);
            let place = format!("byte {offset}: {salvaged:?}");
            assert!(lost.len() as u64 <= salvaged.records_lost, "{place}");
            for (key, _) in &lost {
                assert!(salvaged.places.iter().any(|place| is_between(key, place)), "{place}");
            }
            let is_revived = |(key, found): &&(Vec<u8>, Option<Vec<u8>>)| {
                found.is_some() && history[key].last() == Some(&None)
            };
            let revived = lost.iter().filter(is_revived).count() as u64;
            assert!(revived <= salvaged.tombstones_lost, "{place}");
            lost_total += lost.len();
            revived_total += revived;
            let names = vfs.list(Path::new(DIR)).unwrap();
            assert!(names.iter().any(|it| it.name == format!("{file}.damaged")), "{names:?}");
            // What was counted is counted right, and the next opening needs no salvage.
            assert!(db.verify().unwrap().is_intact(), "{place}");
            db.put(b"new", b"one").unwrap();
            db.close().unwrap();
            drop(db);
            let db = open().build().unwrap();
            assert_eq!(self::lost(&db, &history), lost, "{place}");
            assert!(db.verify().unwrap().is_intact() && db.open_report().salvaged.is_empty());
        }
    }
    println!("{refused} damaged, {lost_total} keys lost, {revived_total} of them revived");
    assert!(refused > 20 && lost_total > 20, "{refused} {lost_total}");
}

fn flip(vfs: &dyn Vfs, file: &str, offset: u64) {
    let file = vfs.open(&Path::new(DIR).join(file), OpenMode::Write).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, offset).unwrap();
    file.write_at(&[byte[0] ^ 0x40], offset).unwrap();
}

// One that is cut, and one that is gone.
#[test]
fn a_compacted_segment_that_is_cut_or_gone_is_salvaged_as_far_as_it_goes() {
    for keep in [None, Some(0), Some(5_000), Some(20_000)] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(DIR);
        let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
        let db = builder(&dir, &vfs, false).build().unwrap();
        let history = fill(&db);
        let segments = db.segments().unwrap();
        let compacted = segments.iter().find(|it| it.kind == SegmentKind::Compacted).unwrap();
        let path = dir.join(&compacted.file);
        db.close().unwrap();
        drop(db);
        match keep {
            Some(bytes) => vfs.open(&path, OpenMode::Write).unwrap().set_len(bytes).unwrap(),
            None => vfs.remove_file(&path).unwrap(),
        }
        let open = || builder(&dir, &vfs, false).index_images(false);
        assert!(open().build().is_err_and(|error| error.is_corruption()), "{keep:?}");
        let db = open().salvage(true).build().unwrap();
        let salvaged = db.open_report().salvaged;
        assert_eq!(salvaged.len(), 1);
        assert_eq!(salvaged[0].records_kept > 0, keep > Some(5_000 - 1), "{salvaged:?}");
        assert!(salvaged[0].records_lost > 0 && salvaged[0].tombstones_lost > 0);
        assert!(lost(&db, &history).len() as u64 <= salvaged[0].records_lost);
        assert!(db.verify().unwrap().is_intact());
    }
}
