//! The newest record of a key by the index, tombstones and expired values too: rule 1 as a question.

use crate::address::Location;
use crate::core::{Core, Probe};
use crate::error::{Error, Result};
use crate::record::{KeyspaceId, Rank, RecordRef, SeqNo};

/// What is known of the newest record of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) rank: Rank,
    pub(super) expires_at_ms: Option<u64>,
}

impl Newest {
    /// The number of its commit, and whether it is a tombstone: what a compaction leaves as it is.
    pub(super) fn version(&self) -> (SeqNo, bool) {
        (self.rank.seq, self.rank.tombstone)
    }

    pub(super) fn location(&self) -> Location {
        self.rank.location
    }
}

/// Asks the index for the newest record of a key; `None` where it has none.
///
/// # Errors
/// What kept a record from being read that may be of the key, if no other one is.
pub(super) fn newest(core: &Core, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Newest>> {
    let (mut newest, mut failure) = (None::<Newest>, None::<Error>);
    let facts = |record: &RecordRef<'_>| {
        let is_it = record.keyspace == keyspace && record.key == key;
        is_it.then(|| Newest { rank: record.rank(), expires_at_ms: record.expires_at_ms })
    };
    core.index.find(keyspace, key, |address| {
        match core.read_at(address, |record, _| facts(record)) {
            Ok(Some(Some(found))) => {
                if newest.is_none_or(|newest| newest.rank < found.rank) {
                    newest = Some(found);
                }
            }
            Ok(Some(None)) => {}
            Ok(None) => return Probe::Gone,
            Err(error) => failure = Some(error),
        }
        // Not `Same`, which would end the search: a record that could not be read once stands beside its successor.
        Probe::Other
    });
    match (newest, failure) {
        (None, Some(failure)) => Err(failure),
        (newest, _) => Ok(newest),
    }
}
