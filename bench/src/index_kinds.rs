//! The index kinds that suites measure: the one place to change when another kind becomes the default.
//!
//! Suites name [`Point`] and [`Order`] and call the functions here; what differs between kinds (how one is sized in
//! advance, which counters it has, what its background work is) stays here.

use std::ops::{Bound, ControlFlow};

use cortenkv_index::{
    Address, BTreeOrdered, BTreePoint, Direction, KeyBatch, KeyRange, OrderedIndex, PointIndex,
    Probe,
};

/// The point index that is measured.
pub type Point = BTreePoint;
/// Its name in reports.
pub const POINT_NAME: &str = "btree";
/// The ordered index that is measured.
pub type Order = BTreeOrdered;
/// Its name in reports.
pub const ORDER_NAME: &str = "btree";

/// The keyspace of all keys.
const KEYSPACE: u32 = 0;

/// An empty point index, for so many keys where that is known. This kind cannot be sized in advance.
pub fn new_point(keys: Option<u64>) -> Point {
    let _ = keys;
    BTreePoint::new()
}

/// An empty ordered index.
pub fn new_order() -> Order {
    BTreeOrdered::new()
}

/// The look-up that a program uses that knows the kind: inlined where the kind has such a one.
#[inline]
pub fn find(point: &Point, hash: u64, mut verify: impl FnMut(Address) -> Probe) -> Option<Address> {
    point.get(hash, &mut verify)
}

/// Many look-ups at once. The closures tell which by its place; `prefetch` may be called before `verify` asks.
pub fn find_batch(
    point: &Point,
    hashes: &[u64],
    prefetch: impl Fn(usize, Address),
    mut verify: impl FnMut(usize, Address) -> Probe,
    found: &mut Vec<Option<Address>>,
) {
    // This kind cannot tell an address before it verifies it.
    let _ = prefetch;
    point.get_batch(hashes, &mut verify, found);
}

/// One unit of background work of the point index; true if there may be more. This kind has none.
pub fn maintain_point(point: &Point) -> bool {
    let _ = point;
    false
}

/// One unit of background work of the ordered index; true if there may be more. This kind has none.
pub fn maintain_order(order: &Order) -> bool {
    let _ = order;
    false
}

/// The counters that the point index keeps of itself, by name. This kind has none.
pub fn point_counters(point: &Point) -> Vec<(&'static str, f64)> {
    let _ = point;
    Vec::new()
}

/// Puts a key into the order.
#[inline]
pub fn insert_order(order: &Order, key: &[u8]) {
    order.insert(KEYSPACE, key);
}

/// Visits keys in order from `from` on, in batches of `batch_keys`, until `see` breaks.
pub fn scan_order(
    order: &Order,
    from: &[u8],
    batch_keys: usize,
    batch: &mut KeyBatch,
    mut see: impl FnMut(&[u8]) -> ControlFlow<()>,
) {
    let range = KeyRange::new::<&[u8]>((Bound::Included(from), Bound::Unbounded));
    let mut cursor = order.cursor(KEYSPACE, range, Direction::Forward);
    while cursor.next_batch(batch_keys, batch) > 0 {
        if batch.iter().try_for_each(&mut see).is_break() {
            return;
        }
    }
}
