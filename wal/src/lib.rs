//! A segmented write-ahead log: atomic batches, checksums, Snappy, group commit with every durability mode, and
//! recovery that tells a torn tail from damage.
//!
//! The crate stands alone: it knows records (keyspace, key, value, expiry, delete) and gives each commit a sequence
//! number and a place, but it keeps no index. A [`ReplayHandler`] receives every record, from recovery and from
//! commits, and builds what it likes; [`Wal::read`] finds a record again by its [`Location`], and a [`SegmentReader`] does so
//! without a lock.
//!
//! # What it guarantees
//! - What an open finds is a prefix of the commits, without a hole, at least as long as the [`Durability`] of each
//!   promises. A batch is there whole or not at all.
//! - Nothing is appended behind a torn or damaged record: every open starts a new segment. What recovery shows was made
//!   durable first, so it survives the next power cut.
//! - Damage that no crash explains is an error with file and offset; nothing is changed then.
//! - After a failed write or sync the log takes no more writes until it is opened again, and says why.
//!
//! # When not to use it
//! For a few records a second in one file, plain appends and `sync_all` are simpler. For several processes writing one
//! log, use a server. On disks that lie about flushes no log can keep its promise.
//!
//! # Layout
//! `wal` is the handle; `core` the path of a commit; `appender` the end of the log under its lock; `train` and `leader` group
//! commit; `background` the timer and the thread; `space` new segments and windows; `tail` mapping or staging;
//! `recovery` the open; `retire` segments that go from anywhere, `compacted` those that take over what lives in them; `format` every byte on disk (specified in `FORMAT.md`); `vfs`, `clock` and `sync` the seams.

#![deny(unsafe_code)]

mod appender;
mod background;
mod batch;
#[doc(hidden)]
pub mod bugs;
pub mod clock;
mod commit;
mod compacted;
mod compress;
mod conditional;
mod core;
mod error;
mod format;
#[cfg(feature = "test-util")]
#[doc(hidden)]
pub mod fuzzing;
mod held;
mod install;
mod known;
mod latch;
mod leader;
#[cfg(all(test, loom))]
mod loom_models;
mod metrics;
mod moved;
mod options;
mod record;
mod recovery;
mod retire;
mod segment;
mod segment_reader;
mod space;
mod sync;
mod tail;
mod ticket;
mod train;
mod uninstalled;
mod unsynced;
pub mod vfs;
mod wal;
mod words;

pub use batch::{Batch, COMMIT_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use compacted::{
    COMPACTED_ID_MIN, CompactedBuilder, CompactedFile, CompactedReport, CompactedSegment, Salvaged,
};
pub use conditional::{Condition, Conditional, LogMark};
pub use error::{ClosedReason, Error, ErrorKind, Result};
pub use held::{HeldFile, hold_retired};
pub use known::KnownSegment;
pub use metrics::WalStats;
pub use options::{
    Background, Damage, Durability, Progress, ProgressCallback, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, TailKind, WalOptions,
};
pub use record::{Location, Record, RecordKind, RecordRef, ReplayHandler, SeqNo};
pub use recovery::RecoveryReport;
pub use retire::{RetiredSegment, SegmentInfo};
pub use segment_reader::{LogItem, MappedRecord, PinnedBytes, SegmentReader};
pub use ticket::Ticket;
pub use wal::Wal;

/// The example of the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
