//! Indexes over an append-only log of records.
//!
//! The log (yours or `cortenkv-wal`) owns keys and values; this crate only remembers where the newest record of each
//! key is, and in which order the keys come.
//!
//! - [`PointIndex`] maps a 64-bit hash of a key to the [`Address`] of its newest record. Keys are **not** stored: a
//!   hit is verified by the owner of the records, through [`Location`] or a closure. Memory per key does not depend
//!   on the length of the key.
//! - `OrderedIndex` (feature `ordered`, on by default) keeps the keys of each keyspace in byte order for scans in
//!   both directions. It may hold keys that are dead: the owner confirms each through the point index.
//!
//! # Kinds
//! [`BTreePoint`] and `BTreeOrdered` are the plain, obviously right kinds: B-trees of the standard library behind
//! reader-writer locks. They are fit for use, and they are the oracle that every faster kind is tested against
//! (`testkit`, feature `test-util`). Both traits are object-safe, so a program picks a kind at run time.
//!
//! `RunsOrdered` is the ordered kind for many keys: new keys go to a small mutable part, and background work, which you
//! drive by `maintain`, merges them into compact sorted runs in memory or in files that you map.
//!
//! # Guarantees
//! - At most one entry per key. An install replaces only an older version ([`Entry::supersedes`]), so records may be
//!   offered in any order, by any number of threads, and more than once: the end state is the same.
//! - A look-up that runs beside changes answers as of one moment during the call.
//! - Nothing is written to disk; the index is derived data, rebuilt from the log.
//!
//! # When not to use it
//! - You want an in-memory map: use `BTreeMap` or a concurrent hash map; here each hit costs a look at the record.
//! - Your records cannot be read at random, or a read costs a disk seek that you cannot afford on each look-up.
//! - You need a cheap count of live keys: [`PointIndex::len`] counts tombstones as well.
//!
//! # Example
//! ```
//! use cortenkv_index::{Address, BTreePoint, NewEntry, PointIndex, Probe, Version};
//!
//! // The owner's records; a record's address is its place in this list, in units of 8 bytes.
//! let records = [("apple", "red"), ("banana", "yellow")];
//! let hash = |key: &str| key.len() as u64; // use a real hash, such as xxh3
//! let probe = |at: Address, _keyspace: u32, key: &[u8]| match records.get(at.offset_bytes() as usize / 8) {
//!     Some((k, _)) if k.as_bytes() == key => {
//!         Probe::Same(Version { seq: u64::from(at.offset_bytes()) + 1, tombstone: false, segment: 0 })
//!     }
//!     Some(_) => Probe::Other,
//!     None => Probe::Gone,
//! };
//!
//! let index = BTreePoint::new();
//! for (n, (key, _)) in records.iter().enumerate() {
//!     let address = Address::new(0, n as u32 * 8)?;
//!     let version = Version { seq: n as u64 * 8 + 1, tombstone: false, segment: 0 };
//!     let new = NewEntry { hash: hash(key), keyspace: 0, key: key.as_bytes(), address, version };
//!     index.install(&new, &probe, &mut |_old| {});
//! }
//! let found = index.get(hash("banana"), &mut |at| probe(at, 0, b"banana")).expect("banana is there");
//! assert_eq!(records[found.offset_bytes() as usize / 8].1, "yellow");
//! # Ok::<(), cortenkv_index::Error>(())
//! ```

#![deny(unsafe_code)]

mod address;
#[doc(hidden)]
pub mod bugs;
mod dead;
pub mod design;
mod epoch_cell;
mod error;
#[cfg(all(test, loom))]
mod loom_models;
#[cfg(feature = "ordered")]
mod ordered;
mod point;
mod prefetch;
mod reclaim;
mod stops;
mod sync;
#[cfg(feature = "test-util")]
pub mod testkit;

pub use address::Address;
pub use dead::DeadBits;
pub use epoch_cell::EpochCell;
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "ordered")]
pub use ordered::batch::KeyBatch;
#[cfg(feature = "ordered")]
pub use ordered::btree::BTreeOrdered;
#[cfg(feature = "ordered")]
pub use ordered::hint::Hint;
#[cfg(feature = "ordered")]
pub use ordered::owner::{KeyOwner, KeyState};
#[cfg(feature = "ordered")]
pub use ordered::range::{KeyRange, prefix_end};
#[cfg(feature = "ordered")]
pub use ordered::run::{RamRuns, RunBytes, RunStore};
#[cfg(feature = "ordered")]
pub use ordered::runs::{RunsKeyspace, RunsOptions, RunsOrdered, SavedPiece, SavedRun};
#[cfg(feature = "ordered")]
pub use ordered::stats::OrderStats;
#[cfg(feature = "ordered")]
pub use ordered::{Direction, KeyCursor, OrderedIndex};
pub use point::btree::BTreePoint;
pub use point::bucket::{BucketOptions, BucketPoint, BucketStats};
#[cfg(feature = "dashmap")]
pub use point::dash::DashPoint;
pub use point::{
    BatchVerify, Entry, ExportPosition, Location, NewEntry, Outcome, PointIndex, Probe, Version,
};
pub use prefetch::prefetch;
pub use reclaim::{Grace, Guard, pin};
#[cfg(all(feature = "test-util", not(any(loom, shuttle))))]
pub use stops::{Stop, set_stop_hook};
