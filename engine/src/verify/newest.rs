//! The newest record of a key by the index, tombstones and expired values too: rule 1 as a question.

use crate::address::Location;
use crate::core::Core;
use crate::error::Result;
use crate::record::{KeyspaceId, Rank, SeqNo};

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
/// What kept a record from being read that may be a newer one of the key.
pub(super) fn newest(core: &Core, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Newest>> {
    let newest = core.newest_of_all(keyspace, key, |record| record.expires_at_ms)?;
    Ok(newest.map(|(rank, _, expires_at_ms)| Newest { rank, expires_at_ms }))
}
