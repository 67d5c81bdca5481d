//! The way from the log into the index: the only one (rule 8).
//!
//! # Layout
//! While a log is replayed it cannot be read at random yet, and an index that keeps no keys must read the log to tell
//! two keys of one hash apart. So a replay is first gathered in a [`ReplayTable`], sorted and with one entry a key, and
//! goes into the index in one run once the log is open. From then on every call goes straight to the index.
//!
//! # Invariants
//! The highest [`Rank`] of a key stays (rule 1), so records may come out of order and more than once.
//!
//! # Concurrency
//! Calls come from recovery, from the leader of a sync and from appending threads. All records of one call become
//! visible together, and a call brings whole commits: nobody sees half a batch (rule 13).
//!
//! # Failure
//! A record that finds no slot latches the database: the index no longer follows the log.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Mutex, OnceLock, Weak};

use crate::core::Core;
use crate::record::{KeyspaceId, Rank, RecordRef};
use crate::sync::lock;

/// Receives every record of the log.
#[derive(Default)]
pub(crate) struct Installer {
    replay: Mutex<ReplayTable>,
    /// The database, from the end of the replay on; weak, because it owns the log that owns this.
    core: OnceLock<Weak<Core>>,
}

/// The newest record of each key of a replay, in key order.
#[derive(Default)]
pub(crate) struct ReplayTable {
    newest: BTreeMap<(KeyspaceId, Box<[u8]>), Rank>,
}

impl Installer {
    /// Takes note of records that are in the log: one commit or more, whole.
    pub(crate) fn apply<'a>(&self, records: impl Iterator<Item = RecordRef<'a>>) {
        match self.core.get() {
            Some(core) => {
                // A database whose last handle is gone has no readers left to tell.
                if let Some(core) = core.upgrade() {
                    core.install(records);
                }
            }
            None => lock(&self.replay).absorb(records),
        }
    }

    /// Ends the replay: from now on records go to this database, which first takes what was gathered.
    pub(crate) fn go_live(&self, core: &std::sync::Arc<Core>) {
        let table = std::mem::take(&mut *lock(&self.replay));
        core.install(table.iter());
        self.core.set(std::sync::Arc::downgrade(core)).expect("a database goes live once");
    }

    /// Looks at what a replay gathered.
    pub(crate) fn with_replayed<R>(&self, look: impl FnOnce(&ReplayTable) -> R) -> R {
        look(&lock(&self.replay))
    }
}

impl ReplayTable {
    fn absorb<'a>(&mut self, records: impl Iterator<Item = RecordRef<'a>>) {
        for record in records {
            match self.newest.entry((record.keyspace, record.key.into())) {
                Entry::Vacant(vacant) => {
                    vacant.insert(record.rank());
                }
                Entry::Occupied(mut occupied) => {
                    let newest = occupied.get_mut();
                    *newest = record.rank().max(*newest);
                }
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.newest.iter().map(|((keyspace, key), rank)| RecordRef {
            location: rank.location,
            seq: rank.seq,
            keyspace: *keyspace,
            tombstone: rank.tombstone,
            // What the index does not keep.
            expires_at_ms: None,
            in_batch: false,
            key,
            value: &[],
        })
    }

    /// A keyspace that has records and that nobody knows.
    pub(crate) fn unknown_keyspace(
        &self,
        mut is_known: impl FnMut(KeyspaceId) -> bool,
    ) -> Option<KeyspaceId> {
        let mut last_known = None;
        let mut ids = self.newest.keys().map(|(keyspace, _)| *keyspace);
        ids.find(|&id| {
            let is_new = last_known != Some(id);
            last_known = Some(id);
            is_new && !is_known(id)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Location;

    fn record(key: &[u8], seq: u64, tombstone: bool, segment: u64) -> RecordRef<'_> {
        let location = Location { segment, offset: 0 };
        let (keyspace, expires_at_ms, in_batch, value) = (0, None, false, &b""[..]);
        RecordRef { location, seq, keyspace, tombstone, expires_at_ms, in_batch, key, value }
    }

    // Rule 1: by seq, never by position, and the tombstone on equal seq.
    #[test]
    fn a_replay_in_any_order_keeps_the_same_record() {
        let records = [
            record(b"k", 3, false, 1),
            record(b"k", 4, false, 2),
            record(b"k", 4, true, 1),
            record(b"k", 2, true, 9),
        ];
        for rotation in 0..records.len() {
            let mut rotated = records;
            rotated.rotate_left(rotation);
            let installer = Installer::default();
            rotated.iter().for_each(|record| installer.apply(std::iter::once(*record)));
            installer.with_replayed(|table| {
                let kept: Vec<_> = table.iter().map(|record| record.rank()).collect();
                assert_eq!(kept, [record(b"k", 4, true, 1).rank()], "rotation {rotation}");
            });
        }
    }
}
