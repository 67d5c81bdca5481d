//! Scans over the entries of a keyspace in key order, both ways.
//!
//! # Layout
//! `walk` is one end of a scan; iterators have two, which meet. `with` is the scan that copies nothing.
//!
//! # Invariants
//! Keys come in strict order, each at most once. Every key is confirmed by the read path as it is yielded, so an entry
//! is never older than the moment of its `next`, and deleted and expired ones do not come.
//!
//! # Concurrency
//! A scan owns what it pins: it outlives the handles, and moves between threads. Unless it is one of a snapshot, a key that
//! is written or deleted while it runs may come or not.

mod walk;
mod with;

use std::sync::Arc;

use bytes::Bytes;

use crate::core::Core;
use crate::error::{Error, Result};
use crate::range::{Direction, KeyRange};
use crate::read::Found;
use crate::record::{KeyspaceId, SeqNo};
use crate::snapshot::OpenSnapshot;
use walk::Walk;

/// An iterator over entries; made by `iter`, `range` and `prefix` of a keyspace.
///
/// An entry that cannot be read is yielded as its error, and the scan goes on behind it. An error of the scan itself comes
/// once, as the last item: `Unsupported` when there is no key order, `Closed` when the database was closed before,
/// `Corruption` when a part of key order is damaged, which is then rebuilt in the background.
#[must_use = "iterators do nothing before they are asked"]
pub struct Scan {
    ends: Ends,
}

/// The keys of a [`Scan`] without the values; made by [`Scan::keys`].
#[must_use = "iterators do nothing before they are asked"]
pub struct Keys {
    ends: Ends,
}

/// Two walks from both ends of a range, until they meet.
struct Ends {
    core: Arc<Core>,
    /// The moment that is shown; `None` for the present.
    at: Option<Arc<OpenSnapshot>>,
    /// Comes in place of all entries.
    refused: Option<Error>,
    keyspace: KeyspaceId,
    range: KeyRange,
    front: Walk,
    back: Walk,
    is_done: bool,
}

impl Scan {
    pub(crate) fn new(core: Arc<Core>, keyspace: KeyspaceId, range: KeyRange) -> Self {
        let (front, back) = (Walk::new(Direction::Forward), Walk::new(Direction::Reverse));
        let (at, refused, is_done) = (None, None, false);
        Scan { ends: Ends { core, at, refused, keyspace, range, front, back, is_done } }
    }

    /// A scan of what a snapshot shows, or of the error that it is refused with.
    pub(crate) fn at(
        at: Arc<OpenSnapshot>,
        keyspace: KeyspaceId,
        range: KeyRange,
        refused: Option<Error>,
    ) -> Self {
        let mut scan = Scan::new(Arc::clone(at.core()), keyspace, range);
        (scan.ends.at, scan.ends.refused) = (Some(at), refused);
        scan
    }

    /// The next entry at an end, with the number of its commit and what `show` makes of it.
    pub(crate) fn next_version<V>(
        &mut self,
        direction: Direction,
        show: impl Fn(&Core, &Found<'_>) -> V,
    ) -> Option<Result<(Bytes, SeqNo, V)>> {
        let shown = |core: &Core, found: &Found<'_>| (found.record.seq, show(core, found));
        let next = self.ends.next_live(direction, shown)?;
        Some(next.map(|(key, (seq, value))| (key, seq, value)))
    }

    /// Yields keys only. Each is still looked at in the log, because it may have expired.
    pub fn keys(self) -> Keys {
        Keys { ends: self.ends }
    }
}

impl Iterator for Scan {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.ends.next_live(Direction::Forward, Core::value_of)
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.ends.next_live(Direction::Reverse, Core::value_of)
    }
}

impl Iterator for Keys {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.ends.next_live(Direction::Forward, |_, _| ())?.map(|(key, ())| key))
    }
}

impl DoubleEndedIterator for Keys {
    fn next_back(&mut self) -> Option<Self::Item> {
        Some(self.ends.next_live(Direction::Reverse, |_, _| ())?.map(|(key, ())| key))
    }
}

impl std::iter::FusedIterator for Scan {}
impl std::iter::FusedIterator for Keys {}

impl Ends {
    /// The next key that has a live entry, with what `show` makes of it.
    fn next_live<V>(
        &mut self,
        direction: Direction,
        show: impl Fn(&Core, &Found<'_>) -> V,
    ) -> Option<Result<(Bytes, V)>> {
        if let Some(refused) = self.refused.take() {
            self.is_done = true;
            return Some(Err(refused));
        }
        while !self.is_done {
            match self.advance(direction) {
                Ok(true) => {}
                Ok(false) => self.is_done = true,
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
            }
            let Ends { core, at, keyspace, front, back, is_done, .. } = self;
            let end = if direction == Direction::Forward { front } else { back };
            let shown = match is_done {
                true => return None,
                false => end.confirm(core, *keyspace, at.as_deref(), |key, found| {
                    (Bytes::copy_from_slice(key), show(core, &found))
                }),
            };
            if let Some(shown) = shown.transpose() {
                return Some(shown);
            }
        }
        None
    }

    /// Goes on to the next candidate at one end; false when there is none, or the other end was there.
    fn advance(&mut self, direction: Direction) -> Result<bool> {
        let (end, other) = match direction {
            Direction::Forward => (&mut self.front, &self.back),
            Direction::Reverse => (&mut self.back, &self.front),
        };
        if !end.advance(&self.core, self.keyspace, &self.range, self.at.as_deref())? {
            return Ok(false);
        }
        Ok(match (other.key(), end.key()) {
            (Some(theirs), Some(key)) if direction == Direction::Forward => key < theirs,
            (Some(theirs), Some(key)) => key > theirs,
            _ => true,
        })
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("range", &self.ends.range).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("range", &self.ends.range).finish_non_exhaustive()
    }
}

const _: () = {
    const fn owns_what_it_pins<T: Send + 'static>() {}
    owns_what_it_pins::<Scan>();
    owns_what_it_pins::<Keys>();
};
