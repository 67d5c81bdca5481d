//! An embedded key-value store whose log is its only home of data.
//!
//! Values live in append-only segments, which are rewritten when they fill with garbage; an index in memory knows where. Batches are atomic across keyspaces, scans go
//! both ways, entries may have a time to live, and every commit is as durable as it asks to be.
//!
//! ```no_run
//! use cortenkv::Db;
//!
//! let db = Db::open("data")?;
//! db.put(b"city:1", b"Graz")?;
//! for entry in db.prefix(b"city:") {
//!     let (key, value) = entry?;
//!     println!("{key:?} = {value:?}");
//! }
//! # Ok::<(), cortenkv::Error>(())
//! ```
//!
//! # Guarantees
//! - What recovers after a crash is a prefix of the commits without a hole, at least as long as the [`Durability`] of
//!   the commits promises; a batch is whole or absent.
//! - A plain get never sees half a batch, and never a commit that a power cut can still take back (under `Always` and
//!   `Group`).
//! - A damaged record answers `Corruption`, never a wrong value.
//! - Handles are `Send + Sync + 'static` and cheap to clone.
//!
//! # Features
//! `wal` (databases on disk), `snappy`, `index`, `ordered` (key order), `cache`, `compaction` are on by default; a part
//! that is off has a stand-in, or its options answer `Unsupported`. With none of them the crate is a small in-memory
//! store. `serde` makes [`Config`] and [`Stats`] readable and writable; `test-util` adds the manual clock and the
//! conformance suite for engines.
//!
//! # When not to use it
//! - More keys than fit in memory: the index holds about 11 bytes for each, whatever its length, and key order some more.
//! - Several processes that write: one process has the directory.

#![forbid(unsafe_code)]

mod address;
mod background;
mod batch;
mod catalog;
pub mod config;
mod core;
mod damaged;
mod db;
pub mod error;
mod in_flight;
mod install;
mod keyspace;
mod log;
#[cfg(all(test, loom))]
mod loom_models;
mod memory_log;
pub mod merge;
mod open;
mod options;
mod parts;
mod pinned;
mod places;
mod range;
mod read;
mod read_many;
mod record;
mod scan;
pub mod segments;
mod slots;
mod snapshot;
pub mod stats;
pub mod storage_engine;
mod sync;
mod ticket;
pub mod transaction;
mod ttl;
pub mod verify;
mod write;

pub use batch::Batch;
pub use config::Config;
pub use db::Db;
pub use error::{ClosedReason, Error, ErrorKind, Result};
pub use keyspace::{CasConflict, FilterDecision, Keyspace, KeyspaceOptions};
pub use merge::MergeOperator;
pub use open::Builder;
pub use options::{Compression, Durability, PutOptions};
pub use parts::public::*;
pub use pinned::PinnedValue;
pub use read::Entry;
pub use record::SeqNo;
pub use scan::{Keys, Scan};
pub use segments::SegmentReport;
pub use snapshot::{Snapshot, SnapshotKeyspace};
pub use stats::{
    Build, CompactionReport, CompactionStats, DamagedSegment, LostKey, LostPlace, OpenReport,
    PoolStats, Progress, SalvagedSegment, SnapshotStats, Stats,
};
pub use storage_engine::StorageEngine;
pub use ticket::Ticket;
pub use transaction::{Conflict, TransactOptions, Transaction};
pub use verify::VerifyReport;
pub use write::{COMMIT_BYTES_MAX, KEY_BYTES_MAX, RECORD_OVERHEAD_BYTES, VALUE_BYTES_MAX};
