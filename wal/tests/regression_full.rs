//! A disk that is full at a bad moment.
#![cfg(feature = "test-util")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cortenkv_wal::clock::ManualClock;
use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::{
    Background, Batch, Durability, ErrorKind, Location, RecordRef, Wal, WalOptions,
};

fn commit_of(value_bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(0, b"key", &vec![7; value_bytes]).unwrap();
    batch
}

/// The segment was left for the next, in which only smaller commits had room: nothing in it could be read.
#[test]
fn a_commit_is_readable_when_the_disk_was_full_right_behind_a_rotation() {
    let (sim, clock) = (SimVfs::new(1), Arc::new(ManualClock::default()));
    let seen: Arc<Mutex<Vec<Location>>> = Arc::default();
    let handler = {
        let seen = Arc::clone(&seen);
        Arc::new(move |records: &[RecordRef<'_>]| {
            seen.lock().unwrap().extend(records.iter().map(|record| record.location));
        })
    };
    let options = WalOptions::default()
        .vfs(Arc::new(sim.clone()))
        .clock(Arc::clone(&clock) as Arc<_>)
        .durability(Durability::None)
        .background(Background::Manual)
        .segment_bytes(16 << 10)
        .window_bytes(4 << 10);
    let (wal, _) = Wal::open("log", options, handler).unwrap();
    let mut refused_behind_a_rotation = 0;
    for _ in 0..12 {
        while wal.step().unwrap() {}
        sim.set_capacity(Some(sim.used_bytes()));
        let rotations = wal.stats().rotations;
        let large = wal.append(&commit_of(3000));
        if let Err(e) = large {
            assert_eq!(*e.kind(), ErrorKind::StorageFull);
            refused_behind_a_rotation += wal.stats().rotations - rotations;
        }
        wal.append(&commit_of(10)).unwrap();
        for location in seen.lock().unwrap().iter() {
            wal.read(*location).unwrap();
        }
        sim.set_capacity(None);
        clock.advance(Duration::from_secs(2));
    }
    assert!(refused_behind_a_rotation > 0, "the disk was never full at the bad moment");
}
