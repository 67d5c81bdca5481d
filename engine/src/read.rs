//! The read path, on one screen: index, log, keyspace and key compared, tombstone and expiry.
//!
//! # Invariants
//! One function decides what is visible, for gets and scans alike.
//!
//! # Failure
//! A record that cannot be read might be the one that was asked for, so unless another one matches, the key answers the
//! error. Other keys stay readable.

use std::time::SystemTime;

use bytes::Bytes;

use crate::core::{Core, Probe};
use crate::error::Result;
use crate::record::{KeyspaceId, Rank, RecordRef, SeqNo};
use crate::ttl;

/// A value with what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// When the entry ends by the wall clock, to the millisecond.
    pub expires_at: Option<SystemTime>,
    /// The number of the commit that wrote it.
    pub seq: SeqNo,
}

impl Core {
    pub(crate) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>> {
        self.check_open()?;
        self.look_up(keyspace, key, self.now_ms(), |record| Bytes::copy_from_slice(record.value))
    }

    pub(crate) fn contains_key(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool> {
        self.check_open()?;
        self.look_up(keyspace, key, self.now_ms(), |_| ()).map(|found| found.is_some())
    }

    pub(crate) fn get_entry(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Entry>> {
        self.check_open()?;
        self.look_up(keyspace, key, self.now_ms(), |record| Entry {
            value: Bytes::copy_from_slice(record.value),
            expires_at: record.expires_at_ms.map(ttl::to_system_time),
            seq: record.seq,
        })
    }

    /// Shows the newest record of a key, unless it is a tombstone or has expired.
    ///
    /// `show` runs under a lock of the index: it must not call the database.
    pub(crate) fn look_up<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        now_ms: u64,
        mut show: impl FnMut(&RecordRef<'_>) -> R,
    ) -> Result<Option<R>> {
        // A record that could not be read when its successor came is still beside it: of several the newest counts.
        let mut answer: Option<(Rank, Option<R>)> = None;
        let mut failure = None;
        self.index.find(keyspace, key, &mut |address| {
            let read = self.log.read_with(self.slots.location(address), |record| {
                if record.keyspace != keyspace || record.key != key {
                    return Probe::Other;
                }
                let is_live = !record.tombstone && !ttl::is_expired(record.expires_at_ms, now_ms);
                if answer.as_ref().is_none_or(|(newest, _)| *newest < record.rank()) {
                    answer = Some((record.rank(), is_live.then(|| show(&record))));
                }
                // Not `Same`, which would end the search.
                Probe::Other
            });
            match read {
                Ok(probed) => probed.unwrap_or(Probe::Other),
                Err(error) => {
                    failure = Some(error);
                    Probe::Other
                }
            }
        });
        match (answer, failure) {
            (Some((_, shown)), _) => Ok(shown),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }
}
