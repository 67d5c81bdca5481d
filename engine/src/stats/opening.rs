//! What an opening did and found, and what a salvage has lost.

use std::path::PathBuf;

/// What opening a database did and found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct OpenReport {
    /// True when there was no database before.
    pub created: bool,
    /// Segments that were replayed.
    pub segments: u64,
    /// Records that were replayed.
    pub records: u64,
    /// Bytes that were replayed.
    pub bytes: u64,
    /// Bytes cut off behind the last intact commit: what a crash left half written.
    pub bytes_cut: u64,
    /// Damaged places that salvage passed over.
    pub damaged_places: u64,
    /// Compacted segments that salvage has replaced by what was intact in them.
    pub salvaged: Vec<SalvagedSegment>,
    /// Keys that have a value.
    pub keys: u64,
    /// Time for lock and manifest, in milliseconds.
    pub manifest_ms: u64,
    /// Time for reading the log, in milliseconds.
    pub replay_ms: u64,
    /// Time for filling the index, in milliseconds.
    pub index_ms: u64,
    /// Time for reading the image of the index, in milliseconds.
    pub image_ms: u64,
    /// Bytes of the image; 0 if there was none, or it was of no use.
    pub image_bytes: u64,
    /// Keys that the image gave, those of tombstones included.
    pub image_keys: u64,
}

/// A damaged compacted segment of which salvage has kept what was intact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SalvagedSegment {
    /// The damaged file, which was set aside under the same name with `.damaged` behind it.
    pub file: PathBuf,
    /// Records that were intact.
    pub records_kept: u64,
    /// Records that are lost: their keys are gone, or have an older value where one was left.
    pub records_lost: u64,
    /// Those of them that were tombstones: so many keys may have come back that were deleted.
    pub tombstones_lost: u64,
    /// Where it was damaged.
    pub places: Vec<LostPlace>,
}

/// A place of a file that is lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LostPlace {
    /// Where it starts, in bytes of the file.
    pub offset: u64,
    /// How long it is; 0 for the whole file.
    pub bytes: u64,
    /// The keys that are lost come after this one, by keyspace and key; `None` at the beginning.
    pub after: Option<LostKey>,
    /// The keys that are lost come before this one; `None` at the end.
    pub before: Option<LostKey>,
}

/// A key beside a place that is lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LostKey {
    /// Its keyspace.
    pub keyspace: String,
    /// The key.
    pub key: Vec<u8>,
}
