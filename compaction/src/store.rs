//! What a store must offer to be compacted, in the words of this crate.
//!
//! # Invariants
//! - The store alone knows what may be forgotten (snapshots, tombstones that still cover something, expiry, filters); this
//!   crate asks for each record's [`Fate`] and does no less.
//! - No value passes through this crate: it holds keys and tokens, and the store copies a record from where it is to an
//!   output.

use std::error::Error;
use std::ops::ControlFlow;

use crate::stats::{AgeClass, SegmentId, SegmentStats};

/// A record of a victim, as it is shown to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The keyspace of the key.
    pub keyspace: u32,
    /// The key; outputs are sorted by keyspace and key.
    pub key: &'a [u8],
    /// Where the record is, in words of the store: with it the store finds the record again, and compares its index.
    pub token: u64,
    /// Its size.
    pub bytes: u64,
}

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is copied as it is.
    Keep,
    /// It is copied as a tombstone of the same sequence number: its value is needed no more, but that it was deleted is.
    Tombstone,
    /// It is the last trace of its key, and nothing needs it: it goes, and its entry in the index with it.
    Forget,
    /// The index does not point at it and no snapshot needs it: it goes.
    Drop,
}

/// Where a kind of records goes: each stream of a job has output segments of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    /// How often its records have survived, this time included.
    pub class: AgeClass,
    /// Whether it holds large values only.
    pub large: bool,
}

/// Where a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its token.
    pub token: u64,
    /// Its size in the output.
    pub bytes: u64,
}

/// What is done about an error of the store: the answer of [`SegmentStore::judge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The same piece of work is tried again later. A job that fails too often is given up, and its victims are left alone for a
    /// while.
    Later,
    /// The job is given up, and the next one may be picked at once: the store has done something about the cause.
    PickAnew,
    /// The job is given up, and its victims may be picked again: they are not the cause.
    GiveUp,
    /// The job is given up, and this victim is never picked again: it is damaged.
    LeaveAlone(SegmentId),
}

/// A store of segments. It may be written and read while it is compacted; no method may hold a lock that a writer needs
/// for longer than one record.
///
/// A job calls the methods from [`read`](Self::read) to [`retire`](Self::retire) in that order, from one thread at a time.
/// **Every one may fail and is then called again**: after a failed `append` or `seal` with new outputs, after the others
/// with the same arguments. So each must leave the store whole when it fails, and the last four must be no worse when
/// they are called twice.
pub trait SegmentStore: Send + Sync + 'static {
    /// What goes wrong with its files.
    type Error: Error + Send + Sync + 'static;
    /// A segment that a job writes. Dropped before it is published, it leaves nothing behind.
    type Output: Send;

    /// The segments that there are now. What [`retire`](Self::retire) was called for is not among them.
    ///
    /// # Errors
    /// What the store reports.
    fn segments(&self) -> Result<Vec<SegmentStats>, Self::Error>;

    /// Shows the records of a segment from `cursor` on (0 is the beginning), about `bytes_max` bytes of them, and says where
    /// to go on; `None` at the end. `visit` calls [`fate`](Self::fate), and ends the call early when that has failed.
    ///
    /// # Errors
    /// What the store reports; a record that cannot be read is an error, not a record to be left out.
    fn read(
        &self,
        segment: SegmentId,
        cursor: u64,
        bytes_max: u64,
        visit: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<Option<u64>, Self::Error>;

    /// Decides what becomes of a record. `victims` go together with it, so what they hold need not be covered by it.
    ///
    /// # Errors
    /// What the store reports.
    fn fate(&self, record: &Record<'_>, victims: &[SegmentId]) -> Result<Fate, Self::Error>;

    /// Begins an output. `created` is the age that it inherits: the greatest [`SegmentStats::created`] of the victims.
    ///
    /// # Errors
    /// What the store reports.
    fn create(&self, stream: Stream, created: u64) -> Result<Self::Output, Self::Error>;

    /// The segment that an output will be.
    fn id(&self, output: &Self::Output) -> SegmentId;

    /// Copies the record to the output, its sequence number unchanged; as a tombstone if that is its fate.
    ///
    /// # Errors
    /// What the store reports; the job then drops its outputs and writes new ones.
    fn append(
        &self,
        output: &mut Self::Output,
        record: &Record<'_>,
        fate: Fate,
    ) -> Result<Placed, Self::Error>;

    /// Ends an output and makes it durable.
    ///
    /// # Errors
    /// What the store reports; the job then drops its outputs and writes new ones, since a failed sync proves nothing
    /// when it is repeated.
    fn seal(&self, output: &mut Self::Output) -> Result<(), Self::Error>;

    /// Makes the outputs part of the store and marks the victims as retired, in one atomic step that a crash finds done or
    /// not. The victims' files stay readable. There may be no output at all.
    ///
    /// # Errors
    /// What the store reports. It may have been done all the same; called again it must then answer `Ok`.
    fn publish(
        &self,
        outputs: &mut [Self::Output],
        victims: &[SegmentId],
    ) -> Result<(), Self::Error>;

    /// Points the index at the copy, if it still points at `record.token`; whether it points at the copy now. The loser's
    /// bytes are dead.
    ///
    /// # Errors
    /// What the store reports.
    fn relocate(&self, record: &Record<'_>, to: Placed) -> Result<bool, Self::Error>;

    /// Removes the index entry of a forgotten record, if it still points at it.
    ///
    /// # Errors
    /// What the store reports.
    fn forget(&self, record: &Record<'_>) -> Result<(), Self::Error>;

    /// Gives up the victims. Before a file goes, the store must have synced its log up to the end that it has after this
    /// call began (what made a record dead must be durable first), and no reader and no snapshot may need it. May
    /// return before the files are gone.
    ///
    /// # Errors
    /// What the store reports.
    fn retire(&self, victims: &[SegmentId]) -> Result<(), Self::Error>;

    /// How many bytes the outputs of a job may take at the moment; what is picked follows that as far as whole segments can.
    fn room_bytes(&self) -> u64 {
        u64::MAX
    }

    /// What to do about an error of any of the calls above that `victims` are in a job of. A job that is published is not given
    /// up, whatever the answer is.
    fn judge(&self, _error: &Self::Error, _victims: &[SegmentId]) -> Verdict {
        Verdict::Later
    }
}
