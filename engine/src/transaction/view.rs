//! What a transaction reads of the database: the newest committed state, with the number of the commit beside each entry.
//!
//! # Invariants
//! Everything that is shown comes with the number of its commit, so that the commit can tell whether it is the newest still.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::Core;
use crate::error::Result;
use crate::range::{Direction, KeyRange};
use crate::read::Found;
use crate::record::{KeyspaceId, SeqNo};
use crate::scan::Scan;

/// The database as a transaction sees it.
pub(super) struct View {
    core: Arc<Core>,
    /// Time to live is judged as of this moment.
    now_ms: u64,
}

/// A walk over a range of it.
pub(super) struct ViewScan(Scan);

impl View {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        View { core: Arc::clone(core), now_ms: core.now_ms() }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Shows the value of a key; with the number of its commit.
    pub(super) fn get<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        mut show: impl FnMut(&Core, &Found<'_>) -> R,
    ) -> Result<Option<(SeqNo, R)>> {
        self.core.check_open()?;
        let core = &self.core;
        core.find_live(
            keyspace,
            key,
            || self.now_ms,
            |found| (found.record.seq, show(core, &found)),
        )
    }

    pub(super) fn scan(&self, keyspace: KeyspaceId, range: KeyRange) -> ViewScan {
        ViewScan(Scan::new(Arc::clone(&self.core), keyspace, range))
    }
}

impl ViewScan {
    /// The next entry at an end: key, number of the commit, value.
    pub(super) fn next(&mut self, direction: Direction) -> Option<Result<(Bytes, SeqNo, Bytes)>> {
        self.0.next_version(direction, Core::value_of)
    }
}
