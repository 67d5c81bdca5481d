//! Compacted segments: what goes in comes out, what is not intact is told, and what a released version wrote opens for ever.
//!
//! `CORTENKV_BLESS=1 cargo test -p cortenkv-wal --all-features --test compacted` writes the golden files again; those of a
//! released version are never written again.
#![expect(
    clippy::disallowed_methods,
    reason = "golden files lie beside the tests, on the real file system"
)]

mod common;

#[allow(dead_code, reason = "the worked example is of the log")]
#[path = "golden/dump.rs"]
mod dump;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{DIR, SEED, noise, open, options, put, segment_path};
use cortenkv_wal::fuzzing::{MARK, RECORD, SEAL, put_frame};
use cortenkv_wal::vfs::sim::Image;
use cortenkv_wal::vfs::{FaultKind, FaultPlan, FaultVfs, OpKind, OsVfs, SimVfs};
use cortenkv_wal::{
    COMPACTED_ID_MIN, CompactedBuilder, CompactedReport, ErrorKind, Location, Record, RecordKind,
    RecordRef, Result, SegmentReader, Wal, WalOptions,
};
use dump::{dump, undump};

const ID: u64 = COMPACTED_ID_MIN + 5;

fn path_of(id: u64) -> String {
    format!("{DIR}/{id:016x}.cseg")
}

fn owned(sim: &SimVfs, compression: bool) -> WalOptions {
    options(sim).owner(*b"golden-file-ownr").compression(compression)
}

fn record<'a>(seq: u64, key: &'a [u8], value: &'a [u8]) -> RecordRef<'a> {
    RecordRef {
        location: Location { segment: 1, offset: 4096 },
        seq,
        keyspace: 0,
        kind: RecordKind::Put,
        expires_at_ms: None,
        in_batch: true,
        key,
        value,
    }
}

/// Every kind of record; in no order of sequence, as compaction moves them.
fn samples() -> Vec<Record> {
    let value: Vec<u8> = (0..7_000_u32).map(|i| (i / 64) as u8).collect();
    let put = record(1 << 40, b"key", b"value");
    let gone = RecordRef { kind: RecordKind::Delete, value: b"", ..record(7, b"gone", b"") };
    let mut samples = vec![
        put.to_record(),
        gone.to_record(),
        RecordRef { expires_at_ms: Some(1_700_000_060_000), keyspace: 300, ..put }.to_record(),
        RecordRef { expires_at_ms: Some((1 << 48) - 1), keyspace: u32::MAX, ..put }.to_record(),
        record(1, b"", b"").to_record(),
    ];
    for i in 0..6 {
        samples.push(record(100 - i, format!("large-{i}").as_bytes(), &value).to_record());
    }
    samples.push(record(50, b"noise", &noise(3, 900)).to_record());
    samples
}

fn as_ref(record: &Record) -> RecordRef<'_> {
    RecordRef {
        location: record.location,
        seq: record.seq,
        keyspace: record.keyspace,
        kind: record.kind,
        expires_at_ms: record.expires_at_ms,
        in_batch: record.in_batch,
        key: &record.key,
        value: &record.value,
    }
}

/// Writes the records; they come back as they must be found.
fn build(wal: &Wal, id: u64, records: &[Record]) -> Vec<Record> {
    let mut builder = CompactedBuilder::create(wal, id).unwrap();
    let mut expected = Vec::new();
    for record in records {
        let offset = builder.append(&as_ref(record)).unwrap();
        let location = Location { segment: id, offset };
        expected.push(Record { location, in_batch: false, ..record.clone() });
    }
    let bytes = builder.bytes();
    let built = builder.finish().unwrap();
    assert_eq!((built.id, built.records), (id, records.len() as u64));
    assert_eq!(built.last_seq, records.iter().map(|record| record.seq).max().unwrap_or(0));
    assert!(built.bytes <= bytes);
    expected
}

fn replay(wal: &Wal, reader: &SegmentReader) -> Result<(Vec<Record>, CompactedReport)> {
    let mut found = Vec::new();
    let report = wal.replay_compacted(reader, &mut |record| found.push(record.to_record()))?;
    Ok((found, report))
}

#[test]
fn what_goes_in_comes_out_at_the_address_that_was_promised() {
    for (mapping, compression) in [(true, false), (false, false), (true, true), (false, true)] {
        let sim = SimVfs::new(SEED).mapping(mapping);
        let (wal, _, _) = open(owned(&sim, compression)).unwrap();
        let samples = samples();
        let expected = build(&wal, ID, &samples);
        let reader = wal.open_compacted(ID).unwrap();
        let (found, report) = replay(&wal, &reader).unwrap();
        assert_eq!(found, expected);
        assert_eq!((report.records, report.last_seq), (samples.len() as u64, 1 << 40));
        assert_eq!(u64::from(report.bytes), sim.image().len_of(path_of(ID)).unwrap());
        assert_eq!(report.bytes < report.end_logical, compression);
        for record in &expected {
            let offset = record.location.offset;
            let read = reader.read_with(offset, |record| record.to_record()).unwrap();
            assert_eq!(read, *record);
            assert!(reader.read_with(offset + 8, |_| ()).is_err());
        }
        if !compression {
            let ends = expected[1..].iter().map(|record| record.location.offset);
            for (record, end) in expected.iter().zip(ends.chain([report.end_logical])) {
                assert_eq!(record.location.offset + as_ref(record).stored_bytes(), end);
            }
        }
    }
}

#[test]
fn a_segment_without_records_is_one() {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(owned(&sim, true)).unwrap();
    build(&wal, ID, &[]);
    assert_eq!(replay(&wal, &wal.open_compacted(ID).unwrap()).unwrap().0, []);
}

#[test]
fn a_full_segment_refuses_and_stays_as_it_is() {
    for compression in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions::default().compression(compression).vfs(Arc::new(OsVfs::new()));
        let (wal, _) = Wal::open(dir.path(), options, Arc::new(())).unwrap();
        let mut builder = CompactedBuilder::create(&wal, ID).unwrap();
        let large = vec![1; 30 << 20];
        let first = builder.append(&record(1, b"first", &large)).unwrap();
        builder.append(&record(2, b"second", &large)).unwrap();
        let before = builder.bytes();
        let refused = builder.append(&record(3, b"third", &large[..8 << 20])).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::LimitExceeded);
        assert_eq!(builder.bytes(), before);
        // Behind it there is room for less, up to the last byte.
        let mut fitted = 0;
        while builder.append(&record(4, b"small", &large[..1 << 18])).is_ok() {
            fitted += 1;
        }
        while builder.append(&record(5, b"", b"")).is_ok() {
            fitted += 1;
        }
        assert!(fitted > 10);
        let built = builder.finish().unwrap();
        assert!(built.end_logical <= 64 << 20 && built.end_logical > (64 << 20) - 100);
        let reader = wal.open_compacted(ID).unwrap();
        assert_eq!(replay(&wal, &reader).unwrap().1.records, 2 + fitted);
        assert!(reader.read_with(first, |record| record.value == large).unwrap());
    }
}

#[test]
fn what_no_log_can_hold_is_refused() {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(owned(&sim, false)).unwrap();
    for id in [0, 1, COMPACTED_ID_MIN - 1] {
        let refused = CompactedBuilder::create(&wal, id).map(drop).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::InvalidArgument);
        assert_eq!(*wal.open_compacted(id).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(*wal.remove_compacted(&[id]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let mut builder = CompactedBuilder::create(&wal, ID).unwrap();
    let long_key = vec![0; (64 << 10) + 1];
    let delete_with_value = RecordRef { kind: RecordKind::Delete, ..record(1, b"key", b"value") };
    for bad in [
        record(0, b"key", b"value"),
        record(1 << 63, b"key", b"value"),
        record(1, &long_key, b"value"),
        delete_with_value,
    ] {
        assert_eq!(*builder.append(&bad).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    builder.append(&record(1, b"key", b"value")).unwrap();
    builder.finish().unwrap();
    let taken = CompactedBuilder::create(&wal, ID).map(drop).unwrap_err();
    assert_eq!(*taken.kind(), ErrorKind::InvalidArgument);
    wal.append(&put("key", b"value")).unwrap();
    let of_the_log = wal.segment(wal.segments()[0].id).unwrap();
    let refused = wal.replay_compacted(&of_the_log, &mut |_| ()).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn files_are_listed_and_removed_and_readers_go_on() {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(owned(&sim, false)).unwrap();
    let expected = build(&wal, ID, &samples());
    let mut abandoned = CompactedBuilder::create(&wal, ID + 1).unwrap();
    abandoned.append(&record(1, b"key", b"value")).unwrap();
    assert_eq!(abandoned.id(), ID + 1);
    let listed = || -> Vec<(u64, bool)> {
        wal.list_compacted().unwrap().iter().map(|file| (file.id, file.complete)).collect()
    };
    assert_eq!(listed(), [(ID, true), (ID + 1, false)]);
    drop(abandoned);
    assert_eq!(listed(), [(ID, true)]);
    let unfinished = CompactedBuilder::create(&wal, ID + 2).unwrap();
    let reader = wal.open_compacted(ID).unwrap();
    wal.remove_compacted(&[ID, ID + 2, ID + 3]).unwrap();
    assert_eq!(listed(), []);
    assert_eq!(replay(&wal, &reader).unwrap().0, expected);
    assert!(wal.open_compacted(ID).unwrap_err().is_corruption(), "it should be there");
    assert!(unfinished.finish().is_err());
    drop(wal);
    let mut image = sim.image();
    let foreign = ["8000000000000001.CSEG", "1.cseg", "0000000000000001.cseg", "notes.cseg"];
    for name in foreign {
        image.insert(format!("{DIR}/{name}"), vec![1]);
    }
    let sim = SimVfs::from_image(image.clone(), SEED);
    let (wal, _, _) = open(owned(&sim, false)).unwrap();
    assert_eq!(wal.list_compacted().unwrap(), []);
    assert!(foreign.iter().all(|name| sim.image().len_of(format!("{DIR}/{name}")) == Some(1)));
}

#[test]
fn each_kind_of_segment_is_refused_as_the_other_and_so_is_another_owner() {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(owned(&sim, false)).unwrap();
    wal.append(&put("key", b"value")).unwrap();
    build(&wal, ID, &samples());
    drop(wal);
    let image = sim.image();
    let mut swapped = image.clone();
    swapped.insert(path_of(ID), image.read(segment_path(1)).unwrap());
    let sim = SimVfs::from_image(swapped, SEED);
    let (wal, _, _) = open(owned(&sim, false)).unwrap();
    assert_eq!(*wal.open_compacted(ID).unwrap_err().kind(), ErrorKind::Unsupported);
    let mut swapped = image.clone();
    swapped.insert(segment_path(1), image.read(path_of(ID)).unwrap());
    let sim = SimVfs::from_image(swapped, SEED);
    let refused = open(owned(&sim, false)).map(drop).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Unsupported);
    let mut renamed = image.clone();
    renamed.insert(path_of(ID + 1), image.read(path_of(ID)).unwrap());
    let sim = SimVfs::from_image(renamed, SEED);
    let (wal, _, _) = open(owned(&sim, false)).unwrap();
    assert!(wal.open_compacted(ID + 1).unwrap_err().is_corruption());
    let mut alone = image.clone();
    alone.remove(segment_path(1));
    let sim = SimVfs::from_image(alone, SEED);
    let (wal, _, _) = open(options(&sim).owner([9; 16])).unwrap();
    assert_eq!(*wal.open_compacted(ID).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

/// What a damaged file shows: all that was in it, or an error that says what is wrong. Reads of single records too.
fn check(image: &Image, expected: &[Record], what: &str) -> bool {
    let sim = SimVfs::from_image(image.clone(), SEED);
    let (wal, _, _) = open(owned(&sim, false)).unwrap();
    let opened = wal.open_compacted(ID);
    let typed = |e: &cortenkv_wal::Error| {
        let kind = e.kind();
        assert!(e.is_corruption() || matches!(kind, ErrorKind::Unsupported), "{what}: {e}");
    };
    let reader = match opened {
        Ok(reader) => reader,
        Err(refused) => {
            typed(&refused);
            return false;
        }
    };
    for record in expected {
        match reader.read_with(record.location.offset, |record| record.to_record()) {
            Ok(found) => assert_eq!(found, *record, "{what}: another record"),
            Err(refused) => typed(&refused),
        }
    }
    match replay(&wal, &reader) {
        Ok((found, _)) => assert_eq!(found, expected, "{what}: other records"),
        Err(refused) => {
            typed(&refused);
            return false;
        }
    }
    true
}

#[test]
fn a_damaged_file_is_never_taken_for_another_content() {
    for compression in [false, true] {
        let sim = SimVfs::new(SEED);
        let (wal, _, _) = open(owned(&sim, compression)).unwrap();
        let mut samples = samples();
        samples.truncate(6);
        samples.push(record(9, b"short", b"value").to_record());
        let expected = build(&wal, ID, &samples);
        drop(wal);
        let (image, path) = (sim.image(), path_of(ID));
        let bytes = image.read(&path).unwrap();
        assert!(check(&image, &expected, "as it was"));
        let changed = |change: &dyn Fn(&mut Vec<u8>), what: String| {
            let mut damaged = bytes.clone();
            change(&mut damaged);
            let is_other = damaged != bytes;
            let mut image = image.clone();
            image.insert(&path, damaged);
            (is_other, check(&image, &expected, &what))
        };
        for at in 0..bytes.len() {
            let what = format!("{compression}: byte {at}");
            let (_, shown) = changed(&|bytes| bytes[at] ^= 1 << (at % 8), what.clone());
            assert_eq!(shown, at < 4096, "{what}: one copy of the header is enough");
            if at % 8 == 0 {
                let len = bytes.len();
                let zero = |bytes: &mut Vec<u8>| bytes[at..(at + 64).min(len)].fill(0);
                let (is_other, shown) = changed(&zero, format!("{what} zeroed"));
                let in_one_copy = at / 2048 == (at + 63) / 2048 && at < 4096;
                assert_eq!(shown, in_one_copy || !is_other, "{what} zeroed");
            }
            let (_, shown) = changed(&|bytes| bytes.truncate(at), format!("{what} cut"));
            assert!(!shown, "{what} cut");
        }
        let (_, shown) = changed(&|bytes| bytes.extend([7; 100]), "longer".to_owned());
        assert!(shown, "what stands behind the end counts for nothing");
        // Both copies of the header at once.
        for at in (0..112).chain([2044]) {
            let flip = |bytes: &mut Vec<u8>| {
                bytes[at] ^= 1;
                bytes[2048 + at] ^= 1;
            };
            assert!(!changed(&flip, format!("header byte {at}")).1);
        }
    }
}

#[test]
fn a_file_whose_frames_contradict_each_other_is_damaged() {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(owned(&sim, false)).unwrap();
    let expected = build(&wal, ID, &samples()[..5]);
    drop(wal);
    let (image, path) = (sim.image(), path_of(ID));
    let bytes = image.read(&path).unwrap();
    let forged = |at: usize, kind, seq, body: &[u8]| {
        let mut file = bytes.clone();
        put_frame(&mut file, at, kind, seq, body);
        assert_eq!(file.len(), bytes.len());
        let mut image = image.clone();
        image.insert(&path, file);
        let sim = SimVfs::from_image(image, SEED);
        let (wal, _, _) = open(owned(&sim, false)).unwrap();
        let reader = wal.open_compacted(ID)?;
        replay(&wal, &reader).map(|(found, _)| found)
    };
    let footer = bytes.len() - 24;
    let count = |count: u64| count.to_le_bytes();
    assert_eq!(forged(footer, SEAL, 1 << 40, &count(5)).unwrap(), expected);
    // The fifth record is empty: a frame of 24 bytes.
    let fifth = expected[4].location.offset as usize;
    assert_eq!(fifth + 24, footer);
    let forgeries: [(&str, usize, u8, u64, &[u8]); 6] = [
        ("fewer records", footer, SEAL, 1 << 40, &count(4)),
        ("more records", footer, SEAL, 1 << 40, &count(6)),
        ("another last commit", footer, SEAL, 1 << 41, &count(5)),
        ("another footer", footer, MARK, 1 << 40, &count(5)),
        ("another frame", fifth, MARK, 1, &count(5)),
        ("a part of a commit", fifth, RECORD, 1, &[4, 0, 0, 0]),
    ];
    for (what, at, kind, seq, body) in forgeries {
        let found = forged(at, kind, seq, body);
        assert!(found.is_err_and(|e| e.is_corruption()), "{what}");
    }
}

#[test]
fn a_failed_sync_of_the_directory_closes_the_log_and_one_of_the_file_does_not() {
    for (kind, closes) in [(OpKind::SyncData, false), (OpKind::SyncDir, true)] {
        let sim = SimVfs::new(SEED);
        let faulty = Arc::new(FaultVfs::new(Arc::new(sim.clone())));
        let (wal, _, _) = open(owned(&sim, false).vfs(faulty.clone())).unwrap();
        let mut builder = CompactedBuilder::create(&wal, ID).unwrap();
        builder.append(&record(1, b"key", b"value")).unwrap();
        let number = faulty.counts().of(kind);
        faulty.set_plan(Some(FaultPlan::nth_of(kind, number, FaultKind::Io)));
        assert_eq!(*builder.finish().unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(wal.list_compacted().unwrap().len(), usize::from(closes));
        assert_eq!(wal.append(&put("key", b"value")).is_err(), closes);
        assert_eq!(wal.remove_compacted(&[ID]).is_err(), closes, "nothing is removed any more");
        assert_eq!(CompactedBuilder::create(&wal, ID + 1).is_err(), closes);
    }
}

#[test]
fn golden_compacted_segments_are_written_and_read_as_they_were() {
    for (name, compression) in [("plain", false), ("grouped", true)] {
        let sim = SimVfs::new(SEED);
        let (wal, _, _) = open(owned(&sim, compression)).unwrap();
        let mut samples = samples();
        samples.truncate(if compression { 9 } else { 5 });
        let expected = build(&wal, ID, &samples);
        let mut image = Image::new();
        image.insert(path_of(ID), sim.image().read(path_of(ID)).unwrap());
        let mut text = format!("# Compacted records, {name}.\n{}", dump(&image));
        for record in &expected {
            text += &(line(record) + "\n");
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/golden/compacted-v1/{name}.hex"));
        if std::env::var_os("CORTENKV_BLESS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap();
        assert!(stored == text, "{} is not what today's writer makes", path.display());
        let sim = SimVfs::from_image(undump(&stored), SEED);
        let (wal, _, _) = open(owned(&sim, false)).unwrap();
        let (found, _) = replay(&wal, &wal.open_compacted(ID).unwrap()).unwrap();
        let lines: Vec<String> = found.iter().map(line).collect();
        let expected: Vec<&str> = stored.lines().filter(|line| line.starts_with("= ")).collect();
        assert_eq!(lines, expected);
    }
}

/// A record in one line of a golden file.
fn line(record: &Record) -> String {
    let (key, offset, seq) = (record.key.escape_ascii(), record.location.offset, record.seq);
    let expiry = record.expires_at_ms.map_or(String::new(), |at_ms| format!(" until {at_ms}"));
    let value = match (record.kind, &record.value[..]) {
        (RecordKind::Delete, _) => "deleted".to_owned(),
        (RecordKind::Put, short) if short.len() <= 64 => short.escape_ascii().to_string(),
        (RecordKind::Put, long) => format!("{} x {:02x}..", long.len(), long[0]),
    };
    format!("= {key} {seq} {offset} keyspace {}{expiry} {value}", record.keyspace)
}
