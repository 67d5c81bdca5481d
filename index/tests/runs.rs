//! What the public parts of key runs promise: dead bits, and the store that keeps runs in memory.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

use cortenkv_index::{DeadBits, RamRuns, RunBytes, RunStore};
use proptest::prelude::*;

const SEGMENT_BYTES: u32 = 64 << 20;

#[test]
fn an_all_live_segment_costs_next_to_nothing_and_a_dead_one_a_bit_per_16_bytes() {
    let dead = DeadBits::new(SEGMENT_BYTES);
    assert!(dead.memory_bytes() < 2_000, "{} bytes", dead.memory_bytes());
    dead.set(5 << 20);
    assert!(dead.memory_bytes() < 11_000, "one chunk of 8 KiB, {} bytes", dead.memory_bytes());
    for offset in (0..SEGMENT_BYTES).step_by(16) {
        dead.set(offset);
    }
    assert_eq!(dead.count() as u32, SEGMENT_BYTES / 16);
    assert!((512 << 10..(512 << 10) + 2_000).contains(&dead.memory_bytes()));
}

#[test]
fn a_small_segment_has_small_bits() {
    let dead = DeadBits::new(4096);
    assert!(dead.set(4080) && dead.is_set(4080) && !dead.is_set(4064));
    assert!(dead.memory_bytes() < 200, "{} bytes", dead.memory_bytes());
}

#[test]
fn offsets_beyond_the_segment_cannot_be_set_and_are_never_trusted() {
    for segment_bytes in [0, 4096, 4104, SEGMENT_BYTES, u32::MAX] {
        let dead = DeadBits::new(segment_bytes);
        for offset in [segment_bytes.min(SEGMENT_BYTES), SEGMENT_BYTES, u32::MAX - 7] {
            assert!(!dead.set(offset) && dead.is_set(offset), "{offset} of {segment_bytes}");
        }
        assert_eq!(dead.count(), 0);
        if let Some(last) = segment_bytes.min(SEGMENT_BYTES).checked_sub(8) {
            assert!(!dead.is_set(last) && dead.set(last) && dead.is_set(last));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn model_dead_bits_agree_with_a_set(
        segment_bytes in prop_oneof![1..10_000u32, Just(3 << 20), Just(SEGMENT_BYTES)],
        offsets in prop::collection::vec(any::<u32>(), 1..200),
    ) {
        let dead = DeadBits::new(segment_bytes);
        let mut model = BTreeSet::new();
        for offset in offsets.iter().map(|offset| offset % segment_bytes) {
            prop_assert_eq!(dead.set(offset), model.insert(offset / 16));
            prop_assert!(dead.is_set(offset));
            for near in [offset.saturating_sub(16), offset.saturating_add(16)] {
                let expected = near >= segment_bytes || model.contains(&(near / 16));
                prop_assert_eq!(dead.is_set(near), expected);
            }
        }
        prop_assert_eq!(dead.count(), model.len());
    }
}

/// Every record has one thread that kills it, also where threads fight for the same words and chunks.
#[test]
fn stress_each_record_dies_once_however_many_threads_try() {
    const UNITS: u32 = 100_000; // Two chunks.
    for _round in 0..20 {
        let dead = DeadBits::new(SEGMENT_BYTES);
        let killed = AtomicUsize::new(0);
        thread::scope(|scope| {
            for thread in 0..4u32 {
                let (dead, killed) = (&dead, &killed);
                scope.spawn(move || {
                    let units = (0..UNITS).map(|n| (n * 7919 + thread * 31) % UNITS);
                    let mine = units.filter(|unit| dead.set(unit * 16)).count();
                    killed.fetch_add(mine, Ordering::Relaxed);
                });
            }
        });
        assert_eq!((killed.into_inner(), dead.count()), (UNITS as usize, UNITS as usize));
    }
}

/// Two threads that allocate the same chunk at the same moment: one chunk is dropped, and no bit with it.
#[test]
fn stress_no_bit_is_lost_when_two_threads_need_a_new_chunk() {
    const CHUNK_BYTES: u32 = 1 << 20;
    for _round in 0..100 {
        let dead = DeadBits::new(SEGMENT_BYTES);
        let (arrived, lost) = (AtomicU32::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for offset_in_chunk in [0, 64] {
                let (dead, arrived, lost) = (&dead, &arrived, &lost);
                scope.spawn(move || {
                    for chunk in 0..SEGMENT_BYTES / CHUNK_BYTES {
                        arrived.fetch_add(1, Ordering::Relaxed);
                        // Spinning lets both leave together; yielding helps where one core is all there is.
                        let mut spins = 0;
                        while arrived.load(Ordering::Relaxed) < 2 * (chunk + 1) {
                            spins += 1;
                            if spins % 1_000 == 0 {
                                thread::yield_now()
                            } else {
                                std::hint::spin_loop()
                            }
                        }
                        let offset = chunk * CHUNK_BYTES + offset_in_chunk;
                        // A thread that panicked here would leave the other one waiting.
                        let kept = dead.set(offset) && dead.is_set(offset);
                        lost.fetch_add(usize::from(!kept), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!((lost.into_inner(), dead.count() as u32), (0, 2 * SEGMENT_BYTES / CHUNK_BYTES));
    }
}

/// The guarantee that scans rely on: a reader who knows of the new version finds the bit of the old one set.
#[test]
fn stress_a_published_version_has_its_predecessors_bit_set() {
    const RECORDS: u32 = 300_000;
    let dead = DeadBits::new(SEGMENT_BYTES);
    let published = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..RECORDS {
                dead.set(n * 16);
                published.store(n + 1, Ordering::Release);
            }
        });
        scope.spawn(|| {
            let mut seen = 0;
            while seen < RECORDS {
                seen = published.load(Ordering::Acquire);
                assert!(seen == 0 || dead.is_set((seen - 1) * 16), "record {seen} looks live");
            }
        });
    });
}

#[test]
fn a_store_in_memory_keeps_the_bytes_as_long_as_somebody_holds_them() {
    let store: Box<dyn RunStore> = Box::new(RamRuns);
    let bytes = store.store(b"some bytes".to_vec()).expect("memory does not fail");
    drop(store);
    let other = std::sync::Arc::clone(&bytes);
    drop(bytes);
    assert_eq!(other.bytes(), b"some bytes");
    assert!(!other.is_mapped());
    assert!(store_is_shareable(&*other));
}

fn store_is_shareable(_: &(dyn RunBytes + Send + Sync)) -> bool {
    true
}
