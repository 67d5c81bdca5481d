//! The seams of a write-back cache and a read cache, with stand-ins that work.
//!
//! - [`WriteBack`] is what a cache asks of the store below: append a sorted atomic [`Group`], and make it durable.
//! - [`WriteFront`] is what a database asks of the cache: take writes, answer for those that are not appended yet, flush.
//!   [`WriteThrough`] is the stand-in: it passes each write straight on and holds nothing.
//! - [`ReadCache`] keeps values that were expensive to make. [`NoCache`] is the stand-in that keeps none.
//! - [`Dirtiness`] names the states of a buffered entry, [`CacheStats`] the numbers of a read cache.
//!
//! # Guarantees
//! A program that is written against the traits is right with the stand-ins, and stays right with a real cache: the
//! contracts of the traits say what may change, such as [`Accepted::Buffered`].
//!
//! # When not to use it
//! Nothing in this version keeps a value in memory, so it makes nothing faster. Take it to build against the seams.
//!
//! # Example
//! ```
//! use cortenkv_cache::{Change, Group, Write};
//!
//! let put = |key, value| Write { keyspace: 0, key, change: Change::Put { value, expires_at_ms: None } };
//! let group = Group::from_writes([put(b"b", b"1"), put(b"a", b"2"), put(b"b", b"3")]);
//! assert_eq!(group.writes(), [put(b"a", b"2"), put(b"b", b"3")]); // sorted, the last write of each key
//! ```

#![forbid(unsafe_code)]

mod dirty;
mod read;
mod stats;
mod write_back;

pub use dirty::Dirtiness;
pub use read::{NoCache, ReadCache};
pub use stats::{CacheCounters, CacheStats};
pub use write_back::{
    Accepted, Change, Group, Pending, Write, WriteBack, WriteFront, WriteThrough,
};
