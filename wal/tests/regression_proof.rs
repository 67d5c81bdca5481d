//! Damage is told from a torn tail by proofs of what was durable: they must be there, and losing one must not go
//! unnoticed. Both cases were found by the rot suite.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cortenkv_wal::clock::ManualClock;
use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::vfs::sim::Image;
use cortenkv_wal::{Background, Batch, Durability, RecordRef, Result, Wal, WalOptions};

const FIRST_FRAME: u64 = 4096;

fn open(sim: &SimVfs) -> Result<(Wal, u64)> {
    let records = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&records);
    let handler = move |run: &[RecordRef<'_>]| {
        counted.fetch_add(run.len() as u64, Relaxed);
    };
    let options = WalOptions::default()
        .durability(Durability::None)
        .segment_bytes(16 << 10)
        .window_bytes(4 << 10)
        .background(Background::Manual)
        .vfs(Arc::new(sim.clone()))
        .clock(Arc::new(ManualClock::at_wall_ms(1_700_000_000_000)));
    let (wal, _) = Wal::open("log", options, Arc::new(handler))?;
    Ok((wal, records.load(Relaxed)))
}

fn put(wal: &Wal, value_bytes: usize) {
    let mut batch = Batch::new();
    batch.put(0, b"key", &vec![7; value_bytes]).unwrap();
    wal.append(&batch).unwrap();
}

/// The segments of an image with the bytes that are used of each, oldest first.
fn segments(image: &Image) -> Vec<(PathBuf, u64)> {
    let used = |path: &PathBuf| {
        let bytes = image.read(path).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
    };
    let paths = image
        .paths()
        .map(PathBuf::from)
        .filter(|path| path.extension().is_some_and(|e| e == "seg"));
    paths.map(|path| (path.clone(), used(&path))).collect()
}

#[test]
fn regression_a_damaged_first_frame_of_a_built_segment_is_corruption() {
    let sim = SimVfs::new(1);
    let (wal, _) = open(&sim).unwrap();
    (0..3).for_each(|_| put(&wal, 100));
    drop(wal);
    // The commits are copied into a segment of their own, and nothing is appended to it.
    let (wal, records) = open(&sim).unwrap();
    assert_eq!(records, 3);
    drop(wal);
    let image = sim.image();
    let (built, used) =
        segments(&image).into_iter().rfind(|(_, used)| *used > FIRST_FRAME).unwrap();
    for byte in FIRST_FRAME..used {
        let mut damaged = image.clone();
        damaged.flip_bit(&built, byte * 8);
        let opened = open(&SimVfs::from_image(damaged, 2));
        assert!(opened.is_err_and(|e| e.is_corruption()), "byte {byte}");
    }
}

#[test]
fn regression_a_close_leaves_a_proof_also_at_the_end_of_a_segment() {
    for value_bytes in (0..4200).step_by(8) {
        let sim = SimVfs::new(1);
        let (wal, _) = open(&sim).unwrap();
        put(&wal, 12_150 - 4200);
        put(&wal, value_bytes);
        wal.close().unwrap();
        drop(wal);
        let image = sim.image();
        let (first, _) = segments(&image)[0].clone();
        let mut damaged = image.clone();
        // A bit of the first commit.
        damaged.flip_bit(&first, (FIRST_FRAME + 200) * 8);
        let opened = open(&SimVfs::from_image(damaged, 2));
        assert!(opened.is_err_and(|e| e.is_corruption()), "value of {value_bytes} bytes");
        let (_, records) = open(&SimVfs::from_image(image, 3)).unwrap();
        assert_eq!(records, 2);
    }
}
