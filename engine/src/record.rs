//! The words that the write path, the log and the index share: a write that is asked for, a record that is stored.

use crate::address::Location;
use crate::parts;

/// The number of a commit. Numbers rise in the order of the log, never repeat and never go back, across reopening too;
/// they are not consecutive.
pub type SeqNo = u64;

/// The number of a keyspace; never reused.
pub(crate) type KeyspaceId = u32;

/// One write of a commit that is not in the log yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write<'a> {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) key: &'a [u8],
    pub(crate) change: Change<'a>,
}

impl Write<'_> {
    /// Bytes of key and value.
    pub(crate) fn payload_bytes(&self) -> usize {
        let value_bytes = match self.change {
            Change::Put { value, .. } => value.len(),
            Change::Delete => 0,
        };
        self.key.len() + value_bytes
    }
}

/// What a write does to its key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change<'a> {
    Put { value: &'a [u8], expires_at_ms: Option<u64> },
    Delete,
}

/// A record as the log shows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecordRef<'a> {
    pub(crate) location: Location,
    pub(crate) seq: SeqNo,
    pub(crate) keyspace: KeyspaceId,
    pub(crate) tombstone: bool,
    pub(crate) expires_at_ms: Option<u64>,
    /// Its commit has other records: whoever sees it may have to see them too (`in_flight.rs`).
    pub(crate) in_batch: bool,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl RecordRef<'_> {
    pub(crate) fn rank(&self) -> Rank {
        Rank { seq: self.seq, tombstone: self.tombstone, location: self.location }
    }

    #[inline]
    pub(crate) fn footprint(&self) -> Footprint {
        let RecordRef { tombstone, expires_at_ms, .. } = *self;
        Footprint { bytes: parts::stored_bytes(self), tombstone, expires_at_ms }
    }
}

/// What is counted of a record: what its segment gains with it, and loses when it is replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Footprint {
    pub(crate) bytes: u32,
    pub(crate) tombstone: bool,
    pub(crate) expires_at_ms: Option<u64>,
}

/// Which of two records of one key counts (rule 1): the higher seq; on equal seq the tombstone, then the later place.
/// The order of the fields is the rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) seq: SeqNo,
    pub(crate) tombstone: bool,
    pub(crate) location: Location,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_seq_wins_then_the_tombstone_then_the_newer_segment() {
        let rank = |seq, tombstone, segment| {
            let location = Location { segment, offset: 0 };
            Rank { seq, tombstone, location }
        };
        assert!(rank(2, false, 1) > rank(1, true, 9));
        assert!(rank(2, true, 1) > rank(2, false, 9));
        assert!(rank(2, false, 2) > rank(2, false, 1));
    }
}
