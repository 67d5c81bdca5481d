//! What a transaction reads of the database: a snapshot, with the number of the commit beside each entry.
//!
//! # Invariants
//! - The snapshot is opened by the first read, so a transaction that only writes has none; from then on all reads are of that
//!   moment.
//! - Everything that is shown comes with the number of its commit, so that the commit can tell whether it is the newest still.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::range::{Direction, KeyRange};
use crate::read::Found;
use crate::record::{KeyspaceId, SeqNo};
use crate::scan::Scan;
use crate::snapshot::OpenSnapshot;

/// The database as a transaction sees it.
pub(super) struct View {
    core: Arc<Core>,
    began_at_ms: u64,
    at: OnceLock<Arc<OpenSnapshot>>,
}

/// A walk over a range of it, or what it is refused with.
pub(super) enum ViewScan {
    Walk(Box<Scan>),
    Refused(Option<Error>),
}

impl View {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        View { core: Arc::clone(core), began_at_ms: core.now_ms(), at: OnceLock::new() }
    }

    /// Time to live is judged as of this moment.
    pub(super) fn now_ms(&self) -> u64 {
        self.at.get().map_or(self.began_at_ms, |at| at.now_ms())
    }

    /// The newest commit that it shows, or could show.
    pub(super) fn seq(&self) -> SeqNo {
        self.at.get().map_or_else(|| self.core.log.last_seq(), |at| at.seq())
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
        core.find_at(keyspace, key, self.at()?, |found| (found.record.seq, show(core, &found)))
    }

    pub(super) fn scan(&self, keyspace: KeyspaceId, range: KeyRange) -> ViewScan {
        match self.at() {
            Ok(at) => ViewScan::Walk(Box::new(Scan::at(Arc::clone(at), keyspace, range, None))),
            Err(error) => ViewScan::Refused(Some(error)),
        }
    }

    fn at(&self) -> Result<&Arc<OpenSnapshot>> {
        if let Some(at) = self.at.get() {
            return Ok(at);
        }
        let at = self.core.snapshot()?;
        // The one that came first is the moment of the transaction.
        Ok(self.at.get_or_init(|| at))
    }
}

impl ViewScan {
    /// The next entry at an end: key, number of the commit, value.
    pub(super) fn next(&mut self, direction: Direction) -> Option<Result<(Bytes, SeqNo, Bytes)>> {
        match self {
            ViewScan::Walk(scan) => scan.next_version(direction, Core::value_of),
            ViewScan::Refused(error) => error.take().map(Err),
        }
    }
}
