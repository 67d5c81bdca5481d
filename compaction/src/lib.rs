//! Compaction of a store that keeps its data in append-only segments: what is live, what to rewrite, and the rewrite.
//!
//! - [`LivenessTable`] counts the live bytes of each segment exactly, from any number of threads.
//! - [`Strategy`] picks victims: a pure function from [`SegmentStats`] and [`Limits`] to a [`Choice`]. There are
//!   [`Greedy`] (most garbage first) and [`Never`] (the stand-in for a store without compaction).
//! - [`SegmentStore`] is what a store must offer, and [`compact_once`] runs one round over it: pick, read what is live,
//!   write it sorted by key, install, retire the inputs.
//!
//! # Guarantees
//! - A round retires a segment only after the copy of everything that the store called live is installed.
//! - A round that fails has changed nothing, or has installed its output and left only the retiring of inputs
//!   for later; the next round picks that up, because such inputs hold nothing live.
//! - No thread is started and no clock is read: one call does one round and returns.
//!
//! # When not to use it
//! - Your store updates in place, or merges sorted runs by level: this crate rewrites whole segments by garbage.
//! - You want work in the background, spread over workers and limited in rate: call [`compact_once`] from a thread of
//!   your own; a scheduler is not there yet.
//!
//! # Example
//! ```
//! use cortenkv_compaction::{Choice, Greedy, Limits, LivenessTable, Strategy};
//!
//! let table = LivenessTable::new();
//! table.add(1, 4 << 20); // a record of 4 MiB was written to segment 1,
//! table.add(2, 4 << 20); // its replacement to segment 2,
//! table.dead(1, 4 << 20); // so the first is dead
//! assert_eq!(table.space_amplification(), 2.0);
//! let choice = Greedy.pick(&table.stats(|segment| segment < 2), &Limits::default());
//! assert_eq!(choice, Choice::Compact(vec![1]));
//! ```

#![forbid(unsafe_code)]

mod job;
mod liveness;
mod stats;
mod store;
mod strategy;

pub use job::{Report, compact_once};
pub use liveness::{LivenessTable, Totals};
pub use stats::{SegmentId, SegmentStats, space_amplification};
pub use store::{Installed, LiveRecord, SegmentOutput, SegmentStore};
pub use strategy::greedy::Greedy;
pub use strategy::{Choice, Limits, Never, Strategy};
