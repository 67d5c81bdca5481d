//! Which parts this build has. The only file with `cfg(feature)`: everything else names a part and gets either the
//! adapter to its crate (`glue/`) or a working stand-in (`parts/`).
//!
//! # Layout
//! | part | with its feature | without |
//! |---|---|---|
//! | log on disk, manifest, file system | `glue/log.rs`, `glue/segment.rs`, `glue/inspect.rs`, `manifest.rs` (`wal`) | `parts/no_wal.rs`: opening answers `Unsupported` |
//! | clock | that of `cortenkv-wal` | `parts/clock.rs`, the same by name and shape |
//! | index | `glue/index.rs` over `cortenkv-index`, `glue/locate.rs`, `glue/slot_cell.rs` | `parts/tree_index.rs`, a sorted map of whole keys; `parts/slot_cell.rs` |
//! | key order | `glue/ordered.rs`, `owner.rs`, `dead.rs` (`ordered`) | `parts/no_order.rs` when `index` is on: scans answer `Unsupported` |
//! | compaction | `glue/compaction.rs`, `glue/directory.rs` (`compaction` and `wal`) | `parts/no_compaction.rs`: files only grow |
//! | images of the index | `glue/image.rs` (`ordered`, `compaction` and `wal`) | `parts/no_image.rs`: every open replays the log |
//! | files of key runs | `glue/run_files.rs` (`ordered` and `wal`) | `parts/ram_runs.rs`, runs in memory; `parts/no_runs.rs`, none |
//!
//! The log in memory (`memory_log.rs`) is part of every build.

use crate::stats::Build;

#[cfg(feature = "wal")]
#[path = "glue/log.rs"]
mod durable;
#[cfg(not(feature = "wal"))]
#[path = "parts/no_wal.rs"]
mod durable;

#[cfg(feature = "wal")]
#[path = "backup.rs"]
mod backup;
#[cfg(feature = "wal")]
#[path = "checkpoint.rs"]
mod checkpoint;
#[cfg(feature = "wal")]
#[path = "feed.rs"]
mod feed;
#[cfg(feature = "wal")]
#[path = "hold.rs"]
mod hold;
#[cfg(not(feature = "wal"))]
use durable as hold;
#[cfg(feature = "wal")]
#[path = "glue/inspect.rs"]
mod inspect;
#[cfg(feature = "wal")]
#[path = "glue/log_reader.rs"]
mod log_reader;
#[cfg(feature = "wal")]
#[path = "manifest.rs"]
mod manifest;
#[cfg(feature = "wal")]
#[path = "glue/reserve.rs"]
mod reserve;
#[cfg(feature = "wal")]
#[path = "glue/segment.rs"]
mod segment;
#[cfg(feature = "wal")]
#[path = "glue/view.rs"]
mod view;
#[cfg(not(feature = "wal"))]
use durable as segment;

#[cfg(feature = "wal")]
use cortenkv_wal::clock;
#[cfg(not(feature = "wal"))]
#[path = "parts/clock.rs"]
mod clock;
#[cfg(all(feature = "test-util", not(feature = "wal")))]
#[path = "parts/manual_clock.rs"]
mod manual_clock;

#[cfg(feature = "index")]
#[path = "glue/index.rs"]
mod index;
#[cfg(not(feature = "index"))]
#[path = "parts/tree_index.rs"]
mod index;

#[cfg(all(feature = "compaction", feature = "wal"))]
#[path = "glue/compaction.rs"]
mod compaction;
#[cfg(not(all(feature = "compaction", feature = "wal")))]
#[path = "parts/no_compaction.rs"]
mod compaction;
#[cfg(all(feature = "compaction", feature = "wal"))]
#[path = "glue/directory.rs"]
mod directory;
#[cfg(all(feature = "compaction", feature = "wal", feature = "index"))]
use cortenkv_index as grace;
#[cfg(all(feature = "compaction", feature = "wal", not(feature = "index")))]
#[path = "parts/no_grace.rs"]
mod grace;

#[cfg(all(feature = "wal", feature = "ordered", feature = "compaction"))]
#[path = "glue/image.rs"]
mod image;
#[cfg(not(all(feature = "wal", feature = "ordered", feature = "compaction")))]
#[path = "parts/no_image.rs"]
mod image;

#[cfg(feature = "index")]
#[path = "glue/locate.rs"]
mod locate;

#[cfg(feature = "index")]
#[path = "glue/slot_cell.rs"]
mod slot_cell;
#[cfg(not(feature = "index"))]
#[path = "parts/slot_cell.rs"]
mod slot_cell;

#[cfg(all(feature = "index", feature = "ordered"))]
#[path = "glue/dead.rs"]
mod dead;
#[cfg(all(feature = "index", feature = "ordered"))]
#[path = "glue/newest.rs"]
mod newest;
#[cfg(all(feature = "index", feature = "ordered"))]
#[path = "glue/ordered.rs"]
mod ordered;
#[cfg(all(feature = "index", not(feature = "ordered")))]
#[path = "parts/no_order.rs"]
mod ordered;
#[cfg(all(feature = "index", feature = "ordered"))]
#[path = "glue/owner.rs"]
mod owner;

#[cfg(all(feature = "wal", feature = "ordered"))]
#[path = "glue/run_files.rs"]
mod runs;
#[cfg(all(not(feature = "wal"), feature = "ordered"))]
#[path = "parts/ram_runs.rs"]
mod runs;
#[cfg(not(feature = "ordered"))]
#[path = "parts/no_runs.rs"]
mod runs;

#[cfg(feature = "wal")]
pub(crate) use cortenkv_wal::bugs;
#[cfg(not(feature = "wal"))]
#[path = "parts/no_bugs.rs"]
pub(crate) mod bugs;

#[cfg(feature = "test-util")]
#[path = "conformance.rs"]
pub mod conformance;

pub(crate) use clock::{Clock, SystemClock};
pub(crate) use compaction::{Compaction, Liveness, SegmentLiveness, WorkerPool, check_compaction};
pub(crate) use durable::{DurableLog, DurableMark, Manifest, Platform, open_durable};
pub(crate) use hold::Holds;
#[cfg_attr(
    not(feature = "wal"),
    expect(unused_imports, reason = "only a log on disk has images")
)]
pub(crate) use image::remove_unnamed as remove_unnamed_images;
pub(crate) use image::{Images, Loaded, OnDisk, check_images};
#[cfg(not(feature = "index"))]
pub(crate) use index::KeyWalk;
pub(crate) use index::{Index, pin, prefetch};
#[cfg(feature = "index")]
pub(crate) use ordered::KeyWalk;
pub(crate) use runs::RunFiles;
pub(crate) use segment::{DurableSegment, PinnedBytes, stored_bytes};
pub(crate) use slot_cell::SlotCell;

/// What users see of the parts.
pub(crate) mod public {
    #[cfg(feature = "wal")]
    pub use super::backup::{
        Backup, BackupKind, BackupOptions, BackupReport, BackupVerifyReport, RestoreReport,
        RestoreTo, list_backups, restore, restore_from_log, verify_backup,
    };
    #[cfg(feature = "wal")]
    pub use super::checkpoint::{CheckpointOptions, CheckpointReport};
    pub use super::clock::{Clock, SystemClock};
    pub use super::compaction::WorkerPool;
    #[cfg(feature = "test-util")]
    pub use super::conformance;
    #[cfg(feature = "wal")]
    pub use super::feed::{Change, ChangeEvent, Feed, WatchOptions};
    #[cfg(feature = "wal")]
    pub use super::hold::{Hold, HoldInfo, HoldOptions};
    #[cfg(all(feature = "test-util", feature = "wal"))]
    pub use super::manifest::fuzzing;
    #[cfg(all(feature = "test-util", not(feature = "wal")))]
    pub use super::manual_clock::ManualClock;
    #[cfg(all(feature = "test-util", feature = "index", not(any(loom, shuttle))))]
    pub use cortenkv_index::{Stop, set_stop_hook};
    #[cfg(all(feature = "test-util", feature = "wal"))]
    pub use cortenkv_wal::TailKind;
    #[cfg(all(feature = "test-util", feature = "wal"))]
    pub use cortenkv_wal::clock::ManualClock;
    #[cfg(feature = "wal")]
    pub use cortenkv_wal::vfs;
}

/// The parts of this build.
pub(crate) const BUILD: Build = Build {
    wal: cfg!(feature = "wal"),
    snappy: cfg!(all(feature = "wal", feature = "snappy")),
    index: cfg!(feature = "index"),
    ordered: cfg!(any(feature = "ordered", not(feature = "index"))),
    cache: cfg!(feature = "cache"),
    compaction: cfg!(feature = "compaction"),
};
