//! What a store must offer to be compacted, in the words of this crate.
//!
//! # Invariants
//! The store alone knows what may be forgotten (snapshots, tombstones that still cover something, expiry); this crate
//! only asks for what must be kept, and keeps all of it.

use crate::stats::{SegmentId, SegmentStats};

/// A record that must be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRecord<'a> {
    /// The keyspace of the key.
    pub keyspace: u32,
    /// The key; the output is sorted by keyspace and key.
    pub key: &'a [u8],
    /// Where the record is now, in words of the store: what [`SegmentOutput::install`] compares the index with.
    pub token: u64,
    /// Everything else (value, sequence number, flags), encoded as the store likes and passed on untouched.
    pub body: &'a [u8],
}

/// What became of the records of an output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Installed {
    /// Records that the store's index points at in their new place.
    pub records_moved: u64,
    /// Records that were replaced or deleted meanwhile; their copies are dead and counted so by the store.
    pub records_lost: u64,
}

/// A store of segments. It may be written and read while it is compacted.
pub trait SegmentStore {
    /// What goes wrong with its files.
    type Error: std::error::Error + Send + Sync + 'static;
    /// The segments that are being written for one round.
    type Output<'a>: SegmentOutput<Error = Self::Error>
    where
        Self: 'a;

    /// The segments that there are now.
    ///
    /// # Errors
    /// What the store reports.
    fn segments(&self) -> Result<Vec<SegmentStats>, Self::Error>;

    /// Shows every record of a segment that must be kept, in the form in which it must be kept: a record that is only
    /// needed as a tombstone is shown as one. A superset is legal, less is not.
    ///
    /// # Errors
    /// What the store reports; a record that cannot be read is an error, not a record to be left out.
    fn read_live(
        &self,
        segment: SegmentId,
        visit: &mut dyn FnMut(LiveRecord<'_>),
    ) -> Result<(), Self::Error>;

    /// Begins an output. Nothing of it can be seen, or survives a crash, before it is installed.
    ///
    /// # Errors
    /// What the store reports.
    fn output(&self) -> Result<Self::Output<'_>, Self::Error>;

    /// Gives up segments whose live records have all moved: once no reader and no snapshot needs them, their files
    /// go. May return before that; such a segment is no longer in [`segments`](Self::segments).
    ///
    /// # Errors
    /// What the store reports; a segment that is still there is offered again by a later round.
    fn retire(&self, segments: &[SegmentId]) -> Result<(), Self::Error>;
}

/// The output of one round. Dropped before it is installed, it leaves nothing behind.
pub trait SegmentOutput {
    /// What goes wrong with its files.
    type Error;

    /// Writes a copy of the record, its sequence number unchanged.
    ///
    /// # Errors
    /// What the store reports.
    fn append(&mut self, record: LiveRecord<'_>) -> Result<(), Self::Error>;

    /// Makes the output durable, then part of the store, then moves the index to it, each record only if its entry
    /// still is where `token` says.
    ///
    /// # Errors
    /// What the store reports. Whatever step it was, the store must be whole: inputs and output may both be there.
    fn install(self) -> Result<Installed, Self::Error>;
}
