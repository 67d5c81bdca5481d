//! Reads of many keys: in batches, so that the misses of memory overlap.
//!
//! # Layout
//! A batch goes through the index as one. What it cannot answer (a record that cannot be read, a batch of writes that is
//! still being installed) is looked up once more by itself, the usual way.
//!
//! # Concurrency
//! As for a single get; each key is read at its own moment.

use bytes::Bytes;

use crate::address::Address;
use crate::core::{Core, Probe};
use crate::error::Result;
use crate::read::{Found, Look};
use crate::record::KeyspaceId;

/// Keys that go through the index together: as many misses as a core has under way at once, and some.
pub(crate) const BATCH_KEYS: usize = 16;

/// How an index asks about the records of several look-ups, each named by its place in the batch.
pub(crate) trait Candidates {
    /// Says whether the record at an address is the one that look-up `n` is for.
    fn probe(&mut self, n: usize, address: Address) -> Probe;

    /// Asks for the memory of a record that is likely to be probed soon.
    fn prefetch(&mut self, n: usize, address: Address);
}

/// A batch on its way through the index.
struct Chunk<'a, K, F> {
    core: &'a Core,
    keyspace: KeyspaceId,
    keys: &'a [K],
    /// The place of the first key among all.
    first: usize,
    show: &'a mut F,
    outcomes: [Outcome; BATCH_KEYS],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// No record of the key so far.
    Missing,
    /// `show` was called, or is not to be called with a value.
    Shown,
    /// A tombstone, or expired.
    Dead,
    /// To be looked up by itself.
    Again,
}

impl Core {
    pub(crate) fn multi_get<K: AsRef<[u8]>>(
        &self,
        keyspace: KeyspaceId,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        let keys = keys.into_iter();
        // LIMIT: an iterator may promise more than it gives; what it gives makes room for itself.
        let mut values = Vec::with_capacity(keys.size_hint().0.min(1 << 16));
        self.get_many(keyspace, keys, |n, found| {
            if values.len() <= n {
                values.resize(n + 1, None);
            }
            values[n] = found.map(|found| self.value_of(&found));
        })?;
        Ok(values)
    }

    /// Shows the live record of each key, or that there is none, once each and in any order.
    pub(crate) fn get_many<K: AsRef<[u8]>>(
        &self,
        keyspace: KeyspaceId,
        keys: impl IntoIterator<Item = K>,
        mut show: impl FnMut(usize, Option<Found<'_>>),
    ) -> Result<()> {
        self.check_open()?;
        let mut keys = keys.into_iter();
        let mut chunk = Vec::with_capacity(BATCH_KEYS);
        let mut first = 0;
        loop {
            chunk.extend(keys.by_ref().take(BATCH_KEYS));
            if chunk.is_empty() {
                return Ok(());
            }
            self.get_chunk(keyspace, &chunk, first, &mut show)?;
            first += chunk.len();
            chunk.clear();
        }
    }

    fn get_chunk<K: AsRef<[u8]>>(
        &self,
        keyspace: KeyspaceId,
        keys: &[K],
        first: usize,
        show: &mut impl FnMut(usize, Option<Found<'_>>),
    ) -> Result<()> {
        let mut outcomes = [Outcome::Again; BATCH_KEYS];
        if !self.met_unreadable() {
            outcomes = [Outcome::Missing; BATCH_KEYS];
            let mut chunk = Chunk { core: self, keyspace, keys, first, show, outcomes };
            self.index.find_batch(keyspace, keys, &mut chunk);
            outcomes = chunk.outcomes;
        }
        for (n, key) in keys.iter().enumerate() {
            match outcomes[n] {
                Outcome::Shown => continue,
                Outcome::Missing | Outcome::Dead => {}
                Outcome::Again => {
                    let now_ms = || self.now_ms();
                    let show = |found: Found<'_>| show(first + n, Some(found));
                    if self.find_live(keyspace, key.as_ref(), now_ms, show)?.is_some() {
                        continue;
                    }
                }
            }
            show(first + n, None);
        }
        Ok(())
    }
}

impl<K: AsRef<[u8]>, F: FnMut(usize, Option<Found<'_>>)> Candidates for Chunk<'_, K, F> {
    fn probe(&mut self, n: usize, address: Address) -> Probe {
        let Chunk { core, keyspace, keys, first, .. } = *self;
        if self.outcomes[n] == Outcome::Again {
            return Probe::Other;
        }
        let key = keys[n].as_ref();
        let show = |found: Found<'_>| (self.show)(first + n, Some(found));
        let look = core.look_at(address, keyspace, key, || core.now_ms(), show);
        let (outcome, probe) = match look {
            Ok(Some(Look::Other)) => return Probe::Other,
            Ok(None) => return Probe::Gone,
            Ok(Some(Look::Shown(rank, Some(())))) => (Outcome::Shown, Probe::Same(rank)),
            Ok(Some(Look::Shown(rank, None))) => (Outcome::Dead, Probe::Same(rank)),
            Ok(Some(Look::UnderWay(rank))) => (Outcome::Again, Probe::Same(rank)),
            Err(_) => (Outcome::Again, Probe::Other),
        };
        self.outcomes[n] = outcome;
        probe
    }

    fn prefetch(&mut self, _n: usize, address: Address) {
        self.core.prefetch_record(address);
    }
}
