//! The memory of the bucket kind, counted by the allocator: bytes a key while an index grows from empty, and when it was
//! sized in advance; and that `memory_bytes` tells the same.
//!
//! One test, alone in its process, because the allocator counts everything.
#![cfg(not(any(loom, shuttle)))]
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use cortenkv_index::{
    Address, BucketOptions, BucketPoint, Grace, NewEntry, Outcome, PointIndex, Probe, Version,
};

struct Counting;

static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the allocator of the system as it came; the count changes no answer. The methods that are
// not here are made of these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the rules of `dealloc`, and `alloc` gave the pointer.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KEYS: usize = 2_000_000;
const FIRST: usize = 100_000;

/// Puts in the nth key; nothing here allocates but the index.
fn insert(index: &BucketPoint, n: usize) {
    let hash = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let hash = (hash ^ hash >> 32).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let address = Address::from_bits(n as u64).expect("39 bits");
    let version = Version { seq: n as u64, tombstone: false, segment: 0 };
    let new = NewEntry { hash: hash ^ hash >> 29, keyspace: 0, key: b"", address, version };
    let outcome = index.install(&new, &|_: Address, _: u32, _: &[u8]| Probe::Other, &mut |_| {});
    assert_eq!(outcome, Outcome::Inserted);
}

/// Waits until what was retired is dropped.
fn settle() {
    for _ in 0..3 {
        let grace = Grace::begin();
        while !grace.is_over() {}
    }
}

/// Bytes a key of an index that has this many, as the allocator counts them; `memory_bytes` must say the same.
fn bytes_per_key(index: &BucketPoint, keys: usize, before: usize) -> f64 {
    settle();
    let allocated = ALLOCATED_BYTES.load(Ordering::Relaxed) - before + size_of::<BucketPoint>();
    let told = index.memory_bytes();
    let off = told as f64 / allocated as f64 - 1.0;
    assert!(off.abs() <= 0.03, "{told} bytes told, {allocated} counted at {keys} keys");
    allocated as f64 / keys as f64
}

#[test]
fn an_entry_takes_about_eleven_bytes_at_any_number_of_keys() {
    // What the epochs keep for a thread is not of the index.
    drop(BucketPoint::new());
    settle();
    let before = ALLOCATED_BYTES.load(Ordering::Relaxed);
    let index = BucketPoint::new();
    let (mut sum, mut samples, mut worst) = (0.0, 0, (0.0, 0));
    for n in 0..KEYS {
        insert(&index, n);
        let keys = n + 1;
        // Steps of 4 %, which no size of a table is a multiple of.
        if keys >= FIRST && keys >= next_sample(samples) {
            let bytes = bytes_per_key(&index, keys, before);
            sum += bytes;
            samples += 1;
            if bytes > worst.0 {
                worst = (bytes, keys);
            }
        }
        // Growth from nothing to a million keys and beyond moves few buckets in a call (issue 3, row 3).
        if keys == 1_000_000 {
            let stats = index.stats();
            assert!(stats.resizes > 1_000, "{stats:?}");
            assert!((1..=64).contains(&stats.buckets_moved_max), "{stats:?}");
        }
    }
    let mean = sum / samples as f64;
    println!("grown: mean {mean:.2}, worst {:.2} at {} keys, {samples} samples", worst.0, worst.1);
    assert!(samples > 50 && mean <= 12.0, "{mean:.2} bytes a key on average");
    assert!(worst.0 <= 13.0, "{:.2} bytes a key at {}", worst.0, worst.1);
    drop(index);
    settle();
    let left = ALLOCATED_BYTES.load(Ordering::Relaxed).saturating_sub(before);
    assert!(left < 16 << 10, "{left} bytes were not given back");

    for keys in [100_000, 1_000_000] {
        let before = ALLOCATED_BYTES.load(Ordering::Relaxed);
        let options = BucketOptions::default().capacity(keys);
        let index = BucketPoint::with_options(options).expect("legal");
        (0..keys).for_each(|n| insert(&index, n));
        let bytes = bytes_per_key(&index, keys, before);
        println!("sized in advance: {bytes:.2} at {keys} keys");
        assert_eq!(index.stats().resizes, 0, "it was sized for them");
        assert!(bytes <= 11.5 || keys < 1_000_000, "{bytes:.2} bytes a key at {keys}");
    }
}

/// The number of keys at which the next sample is taken.
fn next_sample(samples: usize) -> usize {
    (FIRST as f64 * 1.04f64.powi(samples as i32)) as usize
}
