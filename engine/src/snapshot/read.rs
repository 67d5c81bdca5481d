//! Reads at a snapshot.
//!
//! # How a key is found
//! The index leads to the newest record. If the snapshot covers it, that decides: tombstone, expiry, value. Else the newest
//! version that it covers is among those that were kept when they were replaced; a key without one was not there.
//! Whoever meets a record that is too new sees what was kept before that record became visible.
//!
//! # Concurrency
//! No read waits: every commit that the snapshot shows was installed before it was opened. The pin keeps a slot from being
//! given to another segment between a look at the versions and a look at the record.
//!
//! # Failure
//! As for other reads: a record that cannot be read might be the one, so unless another one matches, the key answers the error.
//! A snapshot that was given up meanwhile may have missed a version, so it is asked again at the end.

use bytes::Bytes;

use super::open::OpenSnapshot;
use crate::address::Address;
use crate::core::{Core, Probe};
use crate::error::Result;
use crate::parts;
use crate::read::{Entry, Found};
use crate::record::{KeyspaceId, Rank, RecordRef};

/// What one pass over the index came to.
struct Pass<R> {
    /// The record that decided, and what came of it.
    answer: Option<Option<R>>,
    /// The newest record in the index that the snapshot covers.
    newest: Option<(Rank, Address)>,
    failure: Option<crate::error::Error>,
}

impl Core {
    /// The value of a key at a snapshot.
    pub(crate) fn get_at(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        at: &OpenSnapshot,
    ) -> Result<Option<Bytes>> {
        self.find_at(keyspace, key, at, |found| self.value_of(&found))
    }

    /// The value of a key at a snapshot, with its expiry and the number of its commit.
    pub(crate) fn get_entry_at(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        at: &OpenSnapshot,
    ) -> Result<Option<Entry>> {
        self.find_at(keyspace, key, at, |found| self.entry_of(&found))
    }

    /// Shows the record of a key that a snapshot sees, unless it is a tombstone or has expired. `show` runs under no lock.
    ///
    /// # Errors
    /// `Corruption`; `SnapshotTooOld` once it was given up.
    pub(crate) fn find_at<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        at: &OpenSnapshot,
        mut show: impl FnMut(Found<'_>) -> R,
    ) -> Result<Option<R>> {
        at.check_age()?;
        let _pin = parts::pin();
        let found = self.find_version(keyspace, key, at, &mut show);
        at.check()?;
        found
    }

    /// Shows a record that a snapshot covers, unless it is a tombstone or has expired by then.
    pub(crate) fn show_at<R>(
        &self,
        found: Found<'_>,
        at: &OpenSnapshot,
        show: impl FnOnce(Found<'_>) -> R,
    ) -> Option<R> {
        self.show_live(found, || at.now_ms(), show)
    }

    fn find_version<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        at: &OpenSnapshot,
        show: &mut impl FnMut(Found<'_>) -> R,
    ) -> Result<Option<R>> {
        let is_it = |record: &RecordRef<'_>| record.keyspace == keyspace && record.key == key;
        // A key may have several records in the index then, of which the newest counts.
        let mut asks_all = self.met_unreadable();
        loop {
            let mut pass = self.look_into_index(keyspace, key, at, asks_all, show);
            if let Some(answer) = pass.answer {
                return Ok(answer);
            }
            if pass.failure.is_some() && !asks_all {
                asks_all = true;
                continue;
            }
            let hash = self.index.hash(keyspace, key);
            for address in self.snapshots.versions_since(at.view.serial, hash) {
                match self.read_at(address, |record, _| is_it(record).then(|| record.rank())) {
                    Ok(Some(Some(rank))) if rank.seq <= at.seq() => {
                        pass.newest = pass.newest.max(Some((rank, address)));
                    }
                    Ok(_) => {}
                    Err(error) => pass.failure = Some(error),
                }
            }
            let Some((_, address)) = pass.newest else { return pass.failure.map_or(Ok(None), Err) };
            let shown = self.read_at(address, |record, source| {
                is_it(record).then(|| self.show_at(Found { record, source }, at, &mut *show))
            })?;
            match shown.flatten() {
                Some(shown) => return Ok(shown),
                // It was released meanwhile, or moved.
                None => at.check()?,
            }
        }
    }

    /// Looks for the newest record of a key; one that the snapshot covers is shown at once, unless all have to be seen.
    fn look_into_index<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        at: &OpenSnapshot,
        asks_all: bool,
        show: &mut impl FnMut(Found<'_>) -> R,
    ) -> Pass<R> {
        let mut pass = Pass { answer: None, newest: None, failure: None };
        self.index.find(keyspace, key, |address| {
            let looked = self.read_at(address, |record, source| {
                if record.key != key || record.keyspace != keyspace {
                    return None;
                }
                let is_covered = record.seq <= at.seq();
                if is_covered && !asks_all && pass.failure.is_none() {
                    pass.answer = Some(self.show_at(Found { record, source }, at, &mut *show));
                }
                Some((record.rank(), is_covered))
            });
            match looked {
                Ok(Some(Some((rank, is_covered)))) => {
                    if is_covered {
                        pass.newest = pass.newest.max(Some((rank, address)));
                    }
                    // `Same` would end the search.
                    if asks_all { Probe::Other } else { Probe::Same(rank) }
                }
                Ok(Some(None)) => Probe::Other,
                Ok(None) => Probe::Gone,
                Err(error) => {
                    pass.failure = Some(error);
                    Probe::Other
                }
            }
        });
        pass
    }
}
