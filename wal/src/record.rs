//! What goes into the log and comes out of it: records, their places, and the handler that receives them.

use bytes::Bytes;

use crate::format::{RecordFields, record_bytes};

/// Number of a commit. Log order is sequence order; numbers never go back or repeat, across reopen too, and leave a gap
/// of 2^30 at each open. The first is greater than 0.
pub type SeqNo = u64;

/// Where a record lies: stable until the segment is purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The id of the segment, greater than 0; ids grow with time.
    pub segment: u64,
    /// Offset in bytes in the uncompressed content of the segment; a multiple of 8 below 64 MiB.
    pub offset: u32,
}

/// What a record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// Sets the value of a key.
    Put,
    /// Removes a key: a tombstone.
    Delete,
}

/// A record in the log, borrowed from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Where it lies.
    pub location: Location,
    /// The commit that it belongs to.
    pub seq: SeqNo,
    /// The keyspace, a number that means something to the owner of the log only.
    pub keyspace: u32,
    /// Put or delete.
    pub kind: RecordKind,
    /// When a put ends, in wall-clock milliseconds; at most 2^48 - 1.
    pub expires_at_ms: Option<u64>,
    /// True when its commit has other records too.
    pub in_batch: bool,
    /// The key.
    pub key: &'a [u8],
    /// The value; empty for a delete.
    pub value: &'a [u8],
}

/// A record that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub location: Location,
    /// The commit that it belongs to.
    pub seq: SeqNo,
    /// The keyspace.
    pub keyspace: u32,
    /// Put or delete.
    pub kind: RecordKind,
    /// When a put ends, in wall-clock milliseconds.
    pub expires_at_ms: Option<u64>,
    /// True when its commit has other records too.
    pub in_batch: bool,
    /// The key.
    pub key: Bytes,
    /// The value; empty for a delete.
    pub value: Bytes,
}

impl RecordRef<'_> {
    /// The bytes that the record occupies in a segment, uncompressed, by its content alone.
    pub fn stored_bytes(&self) -> u32 {
        record_bytes(&self.fields()) as u32
    }

    /// What a record of its own, outside a group, says.
    pub(crate) fn fields(&self) -> RecordFields<'_> {
        RecordFields {
            keyspace: self.keyspace,
            delete: self.kind == RecordKind::Delete,
            in_group: false,
            expires_at_ms: self.expires_at_ms,
            key: self.key,
            value: self.value,
        }
    }

    /// Copies the bytes out of the log.
    pub fn to_record(&self) -> Record {
        Record {
            location: self.location,
            seq: self.seq,
            keyspace: self.keyspace,
            kind: self.kind,
            expires_at_ms: self.expires_at_ms,
            in_batch: self.in_batch,
            key: Bytes::copy_from_slice(self.key),
            value: Bytes::copy_from_slice(self.value),
        }
    }
}

/// Receives the records of the log: what an index is built from.
///
/// # When it is called
/// - By recovery, in log order, before `open` returns.
/// - In durable modes by the leader of a sync, in log order, once the commits are durable and before anybody is told.
/// - In relaxed modes by the appending thread, right after the append, unless it
///   [installs](crate::Wal::append_installing) its commit itself.
///
/// So calls may run concurrently and out of order, and the same record may be offered twice: keep the highest sequence
/// number per key. A call gets whole commits, one or more.
///
/// # Panics
/// A panic in the handler poisons the log: what memory says can no longer be trusted to follow it.
pub trait ReplayHandler: Send + Sync + 'static {
    /// Takes note of records that are in the log.
    fn apply(&self, records: &[RecordRef<'_>]);
}

/// A handler that keeps nothing, for a log that is only written.
impl ReplayHandler for () {
    fn apply(&self, _records: &[RecordRef<'_>]) {}
}

impl<F: Fn(&[RecordRef<'_>]) + Send + Sync + 'static> ReplayHandler for F {
    fn apply(&self, records: &[RecordRef<'_>]) {
        self(records);
    }
}
