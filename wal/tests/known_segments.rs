//! Segments that their owner knows: an open neither scans nor replays them, keeps them where they are, and takes nothing for
//! granted that their files contradict.
#![expect(clippy::disallowed_methods, reason = "a test spoils files from outside")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cortenkv_wal::{
    Background, Batch, Durability, ErrorKind, KnownSegment, Location, RecordRef, RecoveryReport,
    Wal, WalOptions,
};

type Seen = Arc<Mutex<BTreeMap<Vec<u8>, Location>>>;

fn options(compression: bool) -> WalOptions {
    WalOptions::default()
        .segment_bytes(16 << 10)
        .durability(Durability::None)
        .background(Background::Manual)
        .compression(compression)
}

fn open(dir: &Path, options: WalOptions) -> cortenkv_wal::Result<(Wal, RecoveryReport, Seen)> {
    let seen = Seen::default();
    let handler = {
        let seen = Arc::clone(&seen);
        Arc::new(move |records: &[RecordRef<'_>]| {
            let mut seen = seen.lock().unwrap();
            seen.extend(records.iter().map(|record| (record.key.to_vec(), record.location)));
        })
    };
    let (wal, report) = Wal::open(dir, options, handler)?;
    Ok((wal, report, seen))
}

fn put(wal: &Wal, n: u32) {
    let mut batch = Batch::new();
    // Some are long enough to be compressed.
    let value = n.to_be_bytes().repeat(if n.is_multiple_of(3) { 1_500 } else { 40 });
    batch.put(0, &n.to_be_bytes(), &value).unwrap();
    wal.append(&batch).unwrap();
}

/// A log of 60 records in several segments, the known ones among them, and 5 records behind these.
fn log(dir: &Path, compression: bool) -> (Vec<KnownSegment>, Seen) {
    let (wal, _, seen) = open(dir, options(compression)).unwrap();
    (0..60).for_each(|n| put(&wal, n));
    wal.seal_active().unwrap();
    let segments = wal.segments();
    wal.sync_segments().unwrap();
    let known = segments.iter().filter(|segment| segment.sealed).map(|segment| segment.known());
    let known: Vec<KnownSegment> = known.collect();
    assert!(known.len() > 1);
    (60..65).for_each(|n| put(&wal, n));
    wal.close().unwrap();
    (known, seen)
}

#[test]
fn known_segments_are_not_replayed_and_are_read_where_they_were() {
    for compression in [false, cfg!(feature = "snappy")] {
        let root = tempfile::tempdir().unwrap();
        let (known, places) = log(root.path(), compression);
        for _ in 0..3 {
            let options = options(compression).known(known.clone());
            let (wal, report, seen) = open(root.path(), options).unwrap();
            assert_eq!(report.records, 5);
            assert!((60..65u32).all(|n| seen.lock().unwrap().contains_key(&n.to_be_bytes()[..])));
            for (key, place) in places.lock().unwrap().iter().take(60) {
                let same = wal.read_with(*place, |record| record.key == &key[..]);
                assert!(same.unwrap(), "{key:?} at {place:?}");
            }
            for segment in &known {
                let found = wal.segments().into_iter().find(|found| found.id == segment.id);
                assert_eq!(found.unwrap().known(), *segment);
            }
        }
    }
}

#[test]
fn an_owner_may_ask_for_the_replay_later() {
    let root = tempfile::tempdir().unwrap();
    let (known, _) = log(root.path(), false);
    let (wal, report, seen) =
        open(root.path(), options(false).known(known.clone()).replay(false)).unwrap();
    assert_eq!((report.records, seen.lock().unwrap().len()), (0, 0));
    let is_known = |id| known.iter().any(|known| known.id == id);
    let rest: Vec<u64> = wal.segments().iter().map(|s| s.id).filter(|id| !is_known(*id)).collect();
    let records: u64 = rest.iter().map(|id| wal.replay(*id).unwrap()).sum();
    assert_eq!((records, seen.lock().unwrap().len()), (5, 5));
    assert_eq!(*wal.replay(u64::MAX >> 1).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn what_is_not_as_it_is_said_to_be_is_scanned() {
    let root = tempfile::tempdir().unwrap();
    let (known, _) = log(root.path(), false);
    let mut wrong = known.clone();
    // No log can have this end, and no file is as long as that one.
    wrong[0].end_stored = 12;
    wrong[1].end_stored = 60 << 20;
    wrong[1].end_logical = 60 << 20;
    let (_wal, report, seen) = open(root.path(), options(false).known(wrong)).unwrap();
    let replayed = seen.lock().unwrap().len() as u64;
    assert!(report.records == replayed && replayed > 5, "{report:?}");
}

#[test]
fn a_known_segment_that_lost_its_end_or_its_successor_is_damage() {
    let root = tempfile::tempdir().unwrap();
    let (known, _) = log(root.path(), false);
    let path = |id: u64| root.path().join(format!("{id:016x}.seg"));
    let refused = || match open(root.path(), options(false).known(known.clone())) {
        Ok(_) => panic!("it was opened"),
        Err(error) => matches!(error.kind(), ErrorKind::Corruption { .. }),
    };
    let last = known.last().unwrap();
    let whole = std::fs::read(path(last.id)).unwrap();
    std::fs::write(path(last.id), &whole[..whole.len() / 2]).unwrap();
    assert!(refused());
    std::fs::write(path(last.id), &whole).unwrap();
    for entry in std::fs::read_dir(root.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let id = name.strip_suffix(".seg").and_then(|id| u64::from_str_radix(id, 16).ok());
        if id.is_some_and(|id| id > last.id) {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert!(refused());
}

/// What is done to a file that had this content.
type Damage<'a> = &'a dyn Fn(&Path, &[u8]);

/// The files of a log that was killed: its last known segment is the last with commits, and nothing that was written later
/// says that they are durable.
fn killed_log(dir: &Path) -> (Vec<KnownSegment>, Vec<(PathBuf, Vec<u8>)>) {
    let (wal, ..) = open(dir, options(false)).unwrap();
    (0..60).for_each(|n| put(&wal, n));
    wal.seal_active().unwrap();
    let known = wal.segments().into_iter().filter(|segment| segment.sealed);
    let known: Vec<KnownSegment> = known.map(|segment| segment.known()).collect();
    assert!(known.len() > 1);
    wal.sync_segments().unwrap();
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    (known, files)
}

#[test]
fn damage_to_a_known_segment_is_told_where_only_its_owner_knows_it_was_durable() {
    let root = tempfile::tempdir().unwrap();
    let (known, files) = killed_log(root.path());
    let open_damaged = |id: u64, damage: Damage<'_>| {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in &files {
            let to = root.path().join(path.file_name().unwrap());
            std::fs::write(&to, content).unwrap();
            if to.ends_with(format!("{id:016x}.seg")) {
                damage(&to, content);
            }
        }
        open(root.path(), options(false).known(known.clone())).map(|(_, report, _)| report)
    };
    let whole = open_damaged(0, &|_, _| {}).unwrap();
    assert_eq!((whole.records, whole.last_seq), (0, known.last().unwrap().last_seq));
    for segment in &known {
        let end = segment.end_stored as usize;
        let cut = |to: usize| {
            move |path: &Path, whole: &[u8]| {
                std::fs::write(path, &whole[..to]).unwrap();
            }
        };
        let flip = |path: &Path, whole: &[u8]| {
            let mut bytes = whole.to_vec();
            bytes[4096 + 9] ^= 1;
            std::fs::write(path, bytes).unwrap();
        };
        let removed = |path: &Path, _: &[u8]| std::fs::remove_file(path).unwrap();
        let damages: [(&str, Damage<'_>); 4] = [
            ("its first frame", &flip),
            ("half of it", &cut(end / 2)),
            ("its last frames", &cut(end - 100)),
            ("all of it", &removed),
        ];
        for (what, damage) in damages {
            match open_damaged(segment.id, damage) {
                Ok(report) => panic!("{what} of {:x} was lost: {report:?}", segment.id),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Corruption { .. }), "{error}");
                }
            }
        }
    }
}
