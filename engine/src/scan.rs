//! Iterators over the entries of a keyspace in key order, both ways.
//!
//! # Invariants
//! Keys come in strict order, each at most once. Every key is confirmed by the read path as it is yielded, so an entry
//! is never older than the moment of its `next`, and deleted and expired ones do not come.
//!
//! # Concurrency
//! A scan owns what it pins: it outlives the handles, and moves between threads. It is not a snapshot: a key that is
//! written or deleted while the scan runs may come or not.

use std::collections::VecDeque;

use bytes::Bytes;

use std::sync::Arc;

use crate::core::Core;
use crate::error::Result;
use crate::range::{Direction, KeyRange, KeySource};
use crate::record::KeyspaceId;

/// Keys fetched at a time: few at first, because many scans want one entry.
const BATCH_KEYS_MIN: usize = 4;
/// LIMIT: keys that one end of a scan holds.
const BATCH_KEYS_MAX: usize = 256;

/// An iterator over entries; made by `iter`, `range` and `prefix` of a keyspace.
///
/// An entry that cannot be read is yielded as its error, and the scan goes on behind it. An error of the scan itself
/// (the build keeps no key order, the database was closed before) comes once, as the only item.
#[must_use = "iterators do nothing before they are asked"]
pub struct Scan {
    keys: KeyWalk,
}

/// The keys of a [`Scan`] without the values; made by [`Scan::keys`].
#[must_use = "iterators do nothing before they are asked"]
pub struct Keys {
    keys: KeyWalk,
}

/// Candidate keys from both ends, until the ends meet.
struct KeyWalk {
    core: Arc<Core>,
    keyspace: KeyspaceId,
    range: KeyRange,
    front: End,
    back: End,
    is_done: bool,
}

/// One end of a walk.
struct End {
    direction: Direction,
    source: Option<Box<dyn KeySource>>,
    keys: VecDeque<Bytes>,
    batch_keys: usize,
    /// The last key that this end gave.
    last: Option<Bytes>,
}

impl Scan {
    pub(crate) fn new(core: Arc<Core>, keyspace: KeyspaceId, range: KeyRange) -> Self {
        let front = End::new(Direction::Forward);
        let back = End::new(Direction::Reverse);
        Scan { keys: KeyWalk { core, keyspace, range, front, back, is_done: false } }
    }

    /// Yields keys only. Each is still looked at in the log, because it may have expired.
    pub fn keys(self) -> Keys {
        Keys { keys: self.keys }
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.keys.next_live(Direction::Forward, Bytes::copy_from_slice)
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.keys.next_live(Direction::Reverse, Bytes::copy_from_slice)
    }
}

impl Iterator for Keys {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.keys.next_live(Direction::Forward, |_| ())?.map(|(key, ())| key))
    }
}

impl DoubleEndedIterator for Keys {
    fn next_back(&mut self) -> Option<Self::Item> {
        Some(self.keys.next_live(Direction::Reverse, |_| ())?.map(|(key, ())| key))
    }
}

impl std::iter::FusedIterator for Scan {}
impl std::iter::FusedIterator for Keys {}

impl KeyWalk {
    /// The next key that has a live entry, with what `show` makes of the value.
    fn next_live<V>(
        &mut self,
        direction: Direction,
        show: impl Fn(&[u8]) -> V,
    ) -> Option<Result<(Bytes, V)>> {
        loop {
            let key = match self.next_key(direction) {
                Ok(key) => key?,
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
            };
            let now_ms = self.core.now_ms();
            let found = self.core.look_up(self.keyspace, &key, now_ms, |record| show(record.value));
            match found {
                Ok(Some(value)) => return Some(Ok((key, value))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn next_key(&mut self, direction: Direction) -> Result<Option<Bytes>> {
        if self.is_done {
            return Ok(None);
        }
        let (end, other) = match direction {
            Direction::Forward => (&mut self.front, &self.back),
            Direction::Reverse => (&mut self.back, &self.front),
        };
        if end.keys.is_empty() {
            end.fetch(&self.core, self.keyspace, &self.range)?;
        }
        let key = end.keys.pop_front();
        let meets = |key: &Bytes, theirs: &Bytes| match direction {
            Direction::Forward => key >= theirs,
            Direction::Reverse => key <= theirs,
        };
        let key = key.filter(|key| !other.last.as_ref().is_some_and(|theirs| meets(key, theirs)));
        self.is_done = key.is_none();
        end.last.clone_from(&key);
        Ok(key)
    }
}

impl End {
    fn new(direction: Direction) -> Self {
        let (source, keys, last) = (None, VecDeque::new(), None);
        End { direction, source, keys, batch_keys: BATCH_KEYS_MIN, last }
    }

    fn fetch(&mut self, core: &Arc<Core>, keyspace: KeyspaceId, range: &KeyRange) -> Result<()> {
        let source = match &mut self.source {
            Some(source) => source,
            none => {
                core.check_open()?;
                none.insert(core.index.keys(keyspace, range.clone(), self.direction)?)
            }
        };
        let mut keys = Vec::from(std::mem::take(&mut self.keys));
        source.next_batch(self.batch_keys, &mut keys);
        self.keys = keys.into();
        self.batch_keys = (self.batch_keys * 2).min(BATCH_KEYS_MAX);
        Ok(())
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("range", &self.keys.range).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("range", &self.keys.range).finish_non_exhaustive()
    }
}
