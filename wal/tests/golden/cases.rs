//! The logs behind the golden files: small, and the same in every run.

use cortenkv_wal::fuzzing::{frames, put_frame};
use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::vfs::sim::Image;
use cortenkv_wal::{Batch, Durability, Wal, WalOptions};

use crate::common::{DIR, SEED, open, options, put, segment_path};

pub struct Case {
    pub name: &'static str,
    pub says: &'static str,
    pub image: Image,
}

pub fn cases() -> Vec<Case> {
    let case = |name, says, image| Case { name, says, image };
    vec![
        case("record", "One put, synced, and the mark of a clean close.", record()),
        case("delete", "A put and the delete of its key.", delete()),
        case(
            "expiry",
            "Puts with an expiry: a near one, and the last that 48 bits hold.",
            expiry(),
        ),
        case(
            "batch",
            "Three records in one commit, in several keyspaces, one of them a delete.",
            batch(),
        ),
        case(
            "compressed",
            "A commit of two records that Snappy made smaller, and one behind it.",
            compressed(),
        ),
        case("marks", "Three synced commits: marks ride with the next commit.", marks()),
        case("relaxed", "Two commits in a relaxed mode, no sync but that of the close.", relaxed()),
        case(
            "rotation",
            "Two segments: a seal at the end of one, a chain frame that continues it.",
            rotation(),
        ),
        case(
            "reopened",
            "A log that was opened again: the durable part stays, a new segment follows.",
            reopened(),
        ),
        case("purge", "A log whose oldest segments were purged.", purge()),
        case(
            "optional",
            "A frame of kind 200, which no version knows yet, between two commits.",
            optional(),
        ),
        case("torn", "A commit whose second sector never reached the disk.", torn()),
    ]
}

/// A log made by `fill` and closed; only the segments.
fn log(set: impl Fn(WalOptions) -> WalOptions, fill: impl Fn(&Wal)) -> Image {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(set(options(&sim)).owner(*b"golden-file-ownr")).unwrap();
    fill(&wal);
    drop(wal);
    segments_of(&sim)
}

fn segments_of(sim: &SimVfs) -> Image {
    let mut image = sim.image();
    image.remove(format!("{DIR}/LOCK"));
    image
}

fn record() -> Image {
    log(
        |options| options,
        |wal| {
            wal.append(&put("key", b"value")).unwrap();
        },
    )
}

fn delete() -> Image {
    log(
        |options| options,
        |wal| {
            let mut delete = Batch::new();
            delete.delete(0, b"key").unwrap();
            wal.append(&put("key", b"value")).unwrap();
            wal.append(&delete).unwrap();
        },
    )
}

fn expiry() -> Image {
    log(
        |options| options,
        |wal| {
            for (key, at_ms) in [("near", 1_700_000_060_000), ("last", u64::MAX)] {
                let mut batch = Batch::new();
                batch.put_expiring(3, key.as_bytes(), b"value", at_ms).unwrap();
                wal.append(&batch).unwrap();
            }
        },
    )
}

fn batch() -> Image {
    log(
        |options| options,
        |wal| {
            let mut batch = Batch::new();
            batch.put(0, b"first", b"1").unwrap();
            batch.put(300, b"", b"the empty key").unwrap();
            batch.delete(u32::MAX, b"gone").unwrap();
            wal.append(&batch).unwrap();
        },
    )
}

fn compressed() -> Image {
    log(
        |options| options.compression(true),
        |wal| {
            let mut batch = Batch::new();
            batch.put(0, b"first", &[b'a'; 3000]).unwrap();
            batch.put(0, b"second", &[b'b'; 3000]).unwrap();
            wal.append(&batch).unwrap();
            wal.append(&put("behind", b"plain")).unwrap();
        },
    )
}

fn marks() -> Image {
    log(
        |options| options,
        |wal| {
            for key in ["one", "two", "three"] {
                wal.append(&put(key, b"value")).unwrap();
            }
        },
    )
}

fn relaxed() -> Image {
    log(
        |options| options.durability(Durability::None),
        |wal| {
            wal.append(&put("one", b"value")).unwrap();
            wal.append(&put("two", b"")).unwrap();
        },
    )
}

fn fill(wal: &Wal, commits: u32) {
    for i in 0..commits {
        wal.append(&put(&format!("key-{i}"), &[0; 3000])).unwrap();
    }
}

fn rotation() -> Image {
    log(|options| options, |wal| fill(wal, 5))
}

fn reopened() -> Image {
    let sim = SimVfs::new(SEED);
    let owned = || options(&sim).owner(*b"golden-file-ownr");
    let (wal, _, _) = open(owned()).unwrap();
    fill(&wal, 3);
    drop(wal);
    let (wal, _, _) = open(owned()).unwrap();
    wal.append(&put("later", b"value")).unwrap();
    drop(wal);
    segments_of(&sim)
}

fn purge() -> Image {
    log(
        |options| options,
        |wal| {
            fill(wal, 8);
            assert!(wal.purge(wal.last_seq()).unwrap() > 0);
        },
    )
}

/// The log of one put, changed behind its frames.
fn changed(change: impl FnOnce(&mut Vec<u8>, usize)) -> Image {
    let mut image = record();
    let path = segment_path(1);
    let mut bytes = image.read(&path).unwrap();
    let end = frames(&bytes).iter().map(|frame| frame.offset + frame.stored_bytes).max();
    change(&mut bytes, end.unwrap());
    image.insert(&path, bytes);
    image
}

fn optional() -> Image {
    changed(|bytes, end| {
        let end = put_frame(bytes, end, 200, 7, b"a later version knows");
        let body = [&[0, 0, 6, 1][..], b"behind", b"v"].concat();
        put_frame(bytes, end, cortenkv_wal::fuzzing::RECORD, (1 << 30) + 5, &body);
    })
}

fn torn() -> Image {
    changed(|bytes, end| {
        let body = [&[0, 0, 4, 0xd0, 0x0f][..], b"torn", &[b't'; 2000]].concat();
        let torn_end = put_frame(bytes, end, cortenkv_wal::fuzzing::RECORD, (1 << 30) + 5, &body);
        bytes[end.next_multiple_of(512)..torn_end].fill(0);
    })
}
