//! `SegmentReader`: what it reads, what it pins, and what it keeps alive.

use std::sync::{Arc, Mutex};

use cortenkv_wal::vfs::{OpenMode, OsVfs, SimVfs, Vfs};
use cortenkv_wal::{
    Background, Batch, Durability, ErrorKind, Location, PinnedBytes, RecordRef, TailKind, Wal,
    WalOptions,
};

type Places = Arc<Mutex<Vec<Location>>>;

fn open(options: WalOptions, dir: &std::path::Path) -> (Wal, Places) {
    let places = Places::default();
    let seen = Arc::clone(&places);
    let handler = Arc::new(move |records: &[RecordRef<'_>]| {
        seen.lock().unwrap().extend(records.iter().map(|record| record.location));
    });
    (Wal::open(dir, options.background(Background::Manual), handler).unwrap().0, places)
}

fn put(wal: &Wal, key: &[u8], value: &[u8], durability: Durability) {
    let mut batch = Batch::new();
    batch.put(0, key, value).unwrap();
    wal.append_with(&batch, durability).unwrap();
}

fn value(n: usize) -> Vec<u8> {
    (0..(n * 977) % 9000).map(|i| (i * 31 / 7 + n) as u8).collect()
}

/// Every record through a reader of its segment, and its value pinned; true if the value is mapped.
fn check(wal: &Wal, places: &[Location]) -> Vec<bool> {
    let mut mapped = Vec::new();
    for (n, place) in places.iter().enumerate() {
        let reader = wal.segment(place.segment).unwrap();
        let pinned = reader
            .read_with(place.offset, |record| {
                assert_eq!((record.location, record.key), (*place, &n.to_le_bytes()[..]));
                assert_eq!(record.value, value(n));
                reader.pin(place.offset, record.value)
            })
            .unwrap();
        mapped.push(pinned.is_some());
        assert!(pinned.is_none_or(|pinned| *pinned == *value(n)));
        let same = reader.read_unverified_with(place.offset, |record| record.value == value(n));
        assert!(same.unwrap());
        wal.read_with(*place, |record| assert_eq!(record.value, value(n))).unwrap();
    }
    mapped
}

#[test]
fn every_record_is_read_from_tails_and_reopened_segments() {
    for (tail, compression) in [
        (TailKind::Mapped, false),
        (TailKind::Written, false),
        (TailKind::Mapped, true),
        (TailKind::Written, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options =
            || WalOptions::default().tail(tail).compression(compression).segment_bytes(64 << 10);
        let (wal, places) = open(options(), dir.path());
        for n in 0..100_usize {
            let durability = if n % 3 == 0 { Durability::Always } else { Durability::None };
            put(&wal, &n.to_le_bytes(), &value(n), durability);
            let places = places.lock().unwrap().clone();
            assert_eq!(places.len(), n + 1);
            if n % 10 == 9 {
                check(&wal, &places);
            }
        }
        let mapped = check(&wal, &places.lock().unwrap());
        let copied = mapped.iter().filter(|is_mapped| !**is_mapped).count();
        assert_eq!(
            copied > 0,
            compression,
            "only values of compressed commits are copied: {copied}"
        );
        drop(wal);
        let (wal, places) = open(options(), dir.path());
        assert_eq!(check(&wal, &places.lock().unwrap()), mapped);
    }
}

// Rule 10: the bytes stay while somebody has them pinned.
#[test]
fn a_pinned_value_outlives_its_segment_and_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, places) = open(WalOptions::default().segment_bytes(16 << 10), dir.path());
    (0..20_usize).for_each(|n| put(&wal, &n.to_le_bytes(), &value(n), Durability::None));
    let places = places.lock().unwrap().clone();
    let readers: Vec<_> = places.iter().map(|place| wal.segment(place.segment).unwrap()).collect();
    let pinned: Vec<Option<PinnedBytes>> = places
        .iter()
        .zip(&readers)
        .map(|(place, reader)| {
            reader.read_with(place.offset, |record| reader.pin(place.offset, record.value)).unwrap()
        })
        .collect();
    assert!(wal.purge(u64::MAX).unwrap() > 1, "several segments went");
    assert!(wal.segment(places[0].segment).is_none());
    // A reader goes on as well.
    readers[0].read_with(places[0].offset, |record| assert_eq!(record.value, value(0))).unwrap();
    drop((wal, readers));
    drop(dir);
    for (n, pinned) in pinned.iter().enumerate() {
        assert_eq!(pinned.as_deref(), Some(&*value(n)));
    }
}

#[test]
fn places_without_a_record_are_damage() {
    let vfs = SimVfs::new(7);
    let options = WalOptions::default().vfs(Arc::new(vfs.clone()));
    let (wal, places) = open(options, std::path::Path::new("/log"));
    put(&wal, b"key", b"value", Durability::Always);
    let place = places.lock().unwrap()[0];
    let reader = wal.segment(place.segment).unwrap();
    for offset in [0, place.offset - 8, place.offset + 1, place.offset + 8, 1 << 20, u32::MAX - 7] {
        let kinds = [reader.read_with(offset, |_| ()), reader.read_unverified_with(offset, |_| ())]
            .map(|read| read.unwrap_err().kind().clone());
        for kind in kinds {
            assert!(matches!(kind, ErrorKind::Corruption { .. }), "{offset}: {kind:?}");
        }
    }
}

#[test]
fn trust_covers_the_checksum_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, places) = open(WalOptions::default().tail(TailKind::Mapped), dir.path());
    put(&wal, b"key", b"value", Durability::Always);
    let place = places.lock().unwrap()[0];
    let reader = wal.segment(place.segment).unwrap();
    let path = dir.path().join(format!("{:016x}.seg", place.segment));
    let file = OsVfs::new().open(&path, OpenMode::Write).unwrap();
    let flip = |at: u64| {
        let mut byte = [0];
        file.read_at(&mut byte, u64::from(place.offset) + at).unwrap();
        file.write_at(&[byte[0] ^ 1], u64::from(place.offset) + at).unwrap();
    };
    // Behind head word, sequence, flags and three lengths: the first byte of the key.
    flip(20);
    assert!(reader.read_with(place.offset, |_| ()).is_err());
    assert!(reader.read_unverified_with(place.offset, |record| record.key == b"jey").unwrap());
    flip(20);
    reader.read_with(place.offset, |record| assert_eq!(record.key, b"key")).unwrap();
    // The length of the value.
    flip(19);
    assert!(reader.read_with(place.offset, |_| ()).is_err());
    flip(19);
    for at in [16, 7] {
        // A flag that nobody knows; a kind that no record has.
        file.write_at(&[0xff], u64::from(place.offset) + at).unwrap();
        assert!(reader.read_unverified_with(place.offset, |_| ()).is_err(), "{at}");
        file.write_at(&[u8::from(at == 7)], u64::from(place.offset) + at).unwrap();
    }
}
