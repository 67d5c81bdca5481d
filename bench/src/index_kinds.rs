//! The index kinds that suites measure: the one place to change when another kind becomes the default.
//!
//! Suites name [`Point`] and [`Order`] and call the functions here; what differs between kinds (how one is sized in
//! advance, which counters it has, what its background work is) stays here.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use std::time::{Duration, Instant};

use cortenkv_index::{
    Address, BatchVerify, BucketOptions, BucketPoint, Direction, Guard, KeyBatch, KeyOwner,
    KeyRange, OrderedIndex, PointIndex, Probe, RunsOptions, RunsOrdered,
};

use crate::error::{Context, Error, Result};
use crate::run_files::RunFiles;

/// The point index that is measured.
pub type Point = BucketPoint;
/// Its name in reports.
pub const POINT_NAME: &str = "bucket";
/// The ordered index that is measured.
pub type Order = RunsOrdered;
/// Its name in reports.
pub const ORDER_NAME: &str = "runs";

/// The keyspace of all keys.
const KEYSPACE: u32 = 0;

/// LIMIT: how long [`settle`] waits for background work that nothing may hold up.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// An empty point index, for so many keys where that is known.
pub fn new_point(keys: Option<u64>) -> Point {
    let capacity = keys.and_then(|keys| usize::try_from(keys).ok()).unwrap_or(0);
    let options = BucketOptions::default().capacity(capacity);
    BucketPoint::with_options(options).expect("the default number of shards is legal")
}

/// An empty point index of so many shards.
///
/// # Errors
/// When there cannot be so many.
pub fn new_point_of_shards(shards: usize) -> Result<Point> {
    let context = || format!("an index cannot have {shards} shards");
    BucketPoint::with_options(BucketOptions::default().shards(shards)).context(context)
}

/// An empty ordered index that keeps its runs in mapped files of a directory, as in the engine.
pub fn new_order(dir: &Path) -> Order {
    let mut options = RunsOptions::default();
    options.store = Arc::new(RunFiles::new(dir));
    RunsOrdered::new(options)
}

/// Bytes of an ordered index that are mapped files.
pub fn mapped_bytes(order: &Order) -> usize {
    order.stats().mapped_bytes
}

/// The look-up that a program uses that knows the kind and holds a pin: inlined where the kind has such a one.
#[inline]
pub fn find(
    point: &Point,
    hash: u64,
    guard: &Guard,
    verify: impl FnMut(Address) -> Probe,
) -> Option<Address> {
    point.find_pinned(hash, guard, verify)
}

/// Many look-ups at once. The closures tell which by its place; `prefetch` may be called before `verify` asks.
pub fn find_batch(
    point: &Point,
    hashes: &[u64],
    prefetch: impl Fn(usize, Address),
    verify: impl FnMut(usize, Address) -> Probe,
    found: &mut Vec<Option<Address>>,
) {
    point.get_batch(hashes, &mut Both { prefetch, verify }, found);
}

struct Both<P, V> {
    prefetch: P,
    verify: V,
}

impl<P: Fn(usize, Address), V: FnMut(usize, Address) -> Probe> BatchVerify for Both<P, V> {
    fn probe(&mut self, n: usize, address: Address) -> Probe {
        (self.verify)(n, address)
    }

    fn prefetch(&mut self, n: usize, address: Address) {
        (self.prefetch)(n, address);
    }
}

/// The counters that the point index keeps of itself, by name.
pub fn point_counters(point: &Point) -> Vec<(&'static str, f64)> {
    let stats = point.stats();
    vec![
        ("shards", stats.shards as f64),
        ("slots_used_share", stats.slots_used as f64 / stats.slots.max(1) as f64),
        ("resizes", stats.resizes as f64),
        ("resizes_under_way", stats.resizes_under_way as f64),
        ("buckets_moved", stats.buckets_moved as f64),
        ("buckets_moved_max", stats.buckets_moved_max as f64),
        ("useful_tag_bits_min", f64::from(stats.useful_tag_bits_min)),
    ]
}

/// One unit of the background work of an index pair; true if there may be more.
///
/// # Errors
/// Those of the ordered index.
pub fn maintain(point: &Point, order: Option<&Order>, owner: &dyn KeyOwner) -> Result<bool> {
    let more = point.maintain();
    match order {
        Some(order) => {
            let context = || "the ordered index cannot merge".into();
            Ok(order.maintain(owner).context(context)? || more)
        }
        None => Ok(more),
    }
}

/// Does all background work of an index pair. Nobody may hold a pin meanwhile.
///
/// # Errors
/// As [`maintain`], and when something waits for ever.
pub fn settle(point: &Point, order: Option<&Order>, owner: &dyn KeyOwner) -> Result<()> {
    let start = Instant::now();
    // What is sealed waits for pins that other threads still let go of; `maintain` does not block on them.
    let waits = || order.is_some_and(|order| order.stats().sealed_keys > 0);
    while maintain(point, order, owner)? || waits() {
        if start.elapsed() > SETTLE_MAX {
            return Err(Error::new("the background work of the index does not end"));
        }
    }
    Ok(())
}

/// Puts a key into the order.
#[inline]
pub fn insert_order(order: &Order, key: &[u8]) {
    order.insert(KEYSPACE, key);
}

/// Visits keys in order from `from` on, in batches of `batch_keys`, until `see` breaks.
///
/// # Errors
/// When a part of the index cannot be read.
pub fn scan_order(
    order: &Order,
    from: &[u8],
    batch_keys: usize,
    batch: &mut KeyBatch,
    mut see: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<()> {
    let range = KeyRange::new::<&[u8]>((Bound::Included(from), Bound::Unbounded));
    let mut cursor = order.cursor(KEYSPACE, range, Direction::Forward);
    let context = || "the ordered index cannot be read".into();
    while cursor.next_batch(batch_keys, batch).context(context)? > 0 {
        if batch.iter().try_for_each(&mut see).is_break() {
            break;
        }
    }
    Ok(())
}
