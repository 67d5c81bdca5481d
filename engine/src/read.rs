//! The read path, on one screen: index, log, keyspace and key compared, tombstone and expiry.
//!
//! # Invariants
//! One function decides what is visible, for gets and scans alike: [`Core::show_live`].
//!
//! # Concurrency
//! A get takes no lock and touches no count that readers share. A record of a batch that is still being installed is
//! waited for (rule 13); the wait is outside the index.
//!
//! # Failure
//! A record that cannot be read might be the one that was asked for, so unless another one matches, the key answers the
//! error. Other keys stay readable. A record that was unreadable when another of its key was installed stands beside that in
//! the index; only then, or when a candidate cannot be read at this very moment, all candidates of a hash are compared
//! (`damaged.rs`).

use std::time::SystemTime;

use bytes::Bytes;

use crate::address::Address;
use crate::core::{Core, Probe};
use crate::error::Result;
use crate::pinned::{PinnedValue, Source};
use crate::record::{KeyspaceId, Rank, RecordRef, SeqNo};
use crate::ttl;

/// Longer values are not copied by a get: they are pinned. A copy of so much takes longer than a page fault.
const COPY_BYTES_MAX: usize = 64 << 10;

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

/// A live record while it is shown.
pub(crate) struct Found<'a> {
    pub(crate) record: &'a RecordRef<'a>,
    pub(crate) source: Source<'a>,
}

/// What a look at a record led to.
pub(crate) enum Look<R> {
    /// It is of another key.
    Other,
    /// It is the one; what came of it, `None` for a tombstone and an expired one.
    Shown(Rank, Option<R>),
    /// It is the one, but its batch is not installed in full yet.
    UnderWay(Rank),
}

impl Core {
    pub(crate) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>> {
        self.check_open()?;
        self.find_live(keyspace, key, || self.now_ms(), |found| self.value_of(&found))
    }

    pub(crate) fn contains_key(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool> {
        self.check_open()?;
        self.find_live(keyspace, key, || self.now_ms(), |_| ()).map(|found| found.is_some())
    }

    pub(crate) fn get_with<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.check_open()?;
        // A record is shown at most once; the type of the search does not say so.
        let mut f = Some(f);
        let show = |found: Found<'_>| f.take().map(|f| f(found.record.value));
        self.find_live(keyspace, key, || self.now_ms(), show).map(Option::flatten)
    }

    pub(crate) fn get_pinned(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
    ) -> Result<Option<PinnedValue>> {
        self.check_open()?;
        self.find_live(keyspace, key, || self.now_ms(), |found| self.pin(&found))
    }

    pub(crate) fn get_entry(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Entry>> {
        self.check_open()?;
        self.find_live(keyspace, key, || self.now_ms(), |found| self.entry_of(&found))
    }

    /// Shows the newest record of a key, at most once, unless it is a tombstone or has expired. `show` runs under no lock.
    pub(crate) fn look_up<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        now_ms: u64,
        mut show: impl FnMut(&RecordRef<'_>) -> R,
    ) -> Result<Option<R>> {
        self.find_live(keyspace, key, || now_ms, |found| show(found.record))
    }

    /// The value as users get it.
    #[inline]
    pub(crate) fn value_of(&self, found: &Found<'_>) -> Bytes {
        let value = found.record.value;
        if value.len() > COPY_BYTES_MAX {
            return self.pin(found).into();
        }
        Bytes::copy_from_slice(value)
    }

    /// What users see of a record.
    pub(crate) fn entry_of(&self, found: &Found<'_>) -> Entry {
        Entry {
            value: self.value_of(found),
            expires_at: found.record.expires_at_ms.map(ttl::to_system_time),
            seq: found.record.seq,
        }
    }

    fn pin(&self, found: &Found<'_>) -> PinnedValue {
        PinnedValue::new(found.record, found.source, &self.counters.pinned_bytes)
    }

    /// As [`Core::look_up`], with a clock that is only read for a record that can expire.
    #[inline]
    pub(crate) fn find_live<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        now_ms: impl Fn() -> u64,
        mut show: impl FnMut(Found<'_>) -> R,
    ) -> Result<Option<R>> {
        while !self.met_unreadable() {
            let mut answer = None;
            let mut under_way = None;
            let mut failed = false;
            self.index.find(keyspace, key, |address| {
                if failed {
                    return Probe::Other;
                }
                match self.look_at(address, keyspace, key, &now_ms, &mut show) {
                    Ok(Some(Look::Other)) => Probe::Other,
                    Ok(Some(Look::Shown(rank, shown))) => {
                        answer = shown;
                        Probe::Same(rank)
                    }
                    Ok(Some(Look::UnderWay(rank))) => {
                        under_way = Some(rank.seq);
                        Probe::Same(rank)
                    }
                    Ok(None) => Probe::Gone,
                    Err(_) => {
                        failed = true;
                        Probe::Other
                    }
                }
            });
            if failed {
                break;
            }
            match under_way {
                Some(seq) => self.in_flight.wait_if_under_way(seq),
                None => return Ok(answer),
            };
        }
        self.find_among_all(keyspace, key, &now_ms, &mut show)
    }

    /// Looks at one candidate; `None` when there is no record any more.
    #[inline]
    pub(crate) fn look_at<R>(
        &self,
        address: Address,
        keyspace: KeyspaceId,
        key: &[u8],
        now_ms: impl Fn() -> u64,
        show: impl FnOnce(Found<'_>) -> R,
    ) -> Result<Option<Look<R>>> {
        self.read_at(address, |record, source| {
            if record.key != key || record.keyspace != keyspace {
                return Look::Other;
            }
            if record.in_batch && self.in_flight.is_under_way(record.seq) {
                return Look::UnderWay(record.rank());
            }
            let shown = self.show_live(Found { record, source }, now_ms, show);
            Look::Shown(record.rank(), shown)
        })
    }

    /// Shows a record unless it is a tombstone or has expired.
    #[inline]
    pub(crate) fn show_live<R>(
        &self,
        found: Found<'_>,
        now_ms: impl Fn() -> u64,
        show: impl FnOnce(Found<'_>) -> R,
    ) -> Option<R> {
        let RecordRef { tombstone, expires_at_ms, .. } = *found.record;
        let is_dead =
            tombstone || (expires_at_ms.is_some() && ttl::is_expired(expires_at_ms, now_ms()));
        (!is_dead).then(|| show(found))
    }

    /// The long way: of several records of the key the newest counts.
    #[cold]
    fn find_among_all<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        now_ms: &impl Fn() -> u64,
        show: &mut impl FnMut(Found<'_>) -> R,
    ) -> Result<Option<R>> {
        loop {
            let newest = self.newest_of_all(keyspace, key, |_| ())?;
            let Some((rank, address, ())) = newest else { return Ok(None) };
            self.in_flight.wait_if_under_way(rank.seq);
            let shown = self.read_at(address, |record, source| {
                let is_it = record.keyspace == keyspace && record.key == key;
                is_it.then(|| self.show_live(Found { record, source }, now_ms, &mut *show))
            })?;
            // Forgotten meanwhile, so there is a newer one.
            if let Some(Some(shown)) = shown {
                return Ok(shown);
            }
        }
    }
}
