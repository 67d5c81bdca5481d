//! What a transaction has seen of a range of keys, and whether that changed since.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::Core;
use crate::error::Result;
use crate::range::{Direction, KeyRange};
use crate::record::{KeyspaceId, RecordRef, SeqNo};
use crate::scan::Scan;

/// The part of a range that was walked, from one end or from both, with every entry in it.
#[derive(Debug, Clone)]
pub(crate) struct RangeRead {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) range: KeyRange,
    /// From the lowest key up, each with the number of its commit.
    front: Vec<(Bytes, SeqNo)>,
    /// From the highest key down.
    back: Vec<(Bytes, SeqNo)>,
    /// True once the ends have met: there is nothing else in the range.
    is_done: bool,
}

impl RangeRead {
    pub(crate) fn new(keyspace: KeyspaceId, range: KeyRange) -> Self {
        RangeRead { keyspace, range, front: Vec::new(), back: Vec::new(), is_done: false }
    }

    /// An entry came at an end, and nothing before it.
    pub(crate) fn note(&mut self, direction: Direction, key: Bytes, seq: SeqNo) {
        match direction {
            Direction::Forward => self.front.push((key, seq)),
            Direction::Reverse => self.back.push((key, seq)),
        }
    }

    /// Nothing more came.
    pub(crate) fn note_done(&mut self) {
        self.is_done = true;
    }

    /// The first key that came, went or changed since, of those that the walk went past.
    ///
    /// # Errors
    /// What a scan may answer.
    pub(crate) fn first_change(&self, core: &Arc<Core>) -> Result<Option<Bytes>> {
        if self.is_done {
            let seen = self.front.iter().chain(self.back.iter().rev());
            return self.compare(core, self.range.clone(), seen);
        }
        if let Some((last, _)) = self.front.last() {
            let (start, end) = (self.range.start.clone(), Bound::Included(last.clone()));
            let change = self.compare(core, KeyRange { start, end }, self.front.iter())?;
            if change.is_some() {
                return Ok(change);
            }
        }
        if let Some((last, _)) = self.back.last() {
            let (start, end) = (Bound::Included(last.clone()), self.range.end.clone());
            return self.compare(core, KeyRange { start, end }, self.back.iter().rev());
        }
        Ok(None)
    }

    fn compare<'s>(
        &self,
        core: &Arc<Core>,
        range: KeyRange,
        seen: impl Iterator<Item = &'s (Bytes, SeqNo)>,
    ) -> Result<Option<Bytes>> {
        let mut now = Scan::new(Arc::clone(core), self.keyspace, range);
        for expected in seen {
            match now.next_version(Direction::Forward, |_, _| ()).transpose()? {
                Some((key, seq, ())) if key == expected.0 && seq == expected.1 => {}
                Some((key, ..)) => return Ok(Some(key.min(expected.0.clone()))),
                None => return Ok(Some(expected.0.clone())),
            }
        }
        let more = now.next_version(Direction::Forward, |_, _| ()).transpose()?;
        Ok(more.map(|(key, ..)| key))
    }

    /// True if a record of the log changes what was seen. One that was seen itself, or is older than what was seen of its key,
    /// does not.
    pub(crate) fn is_changed_by(&self, record: &RecordRef<'_>) -> bool {
        if record.keyspace != self.keyspace || !self.covers(record.key) {
            return false;
        }
        let key = record.key;
        let front = self.front.binary_search_by(|(seen, _)| seen.as_ref().cmp(key));
        let back = self.back.binary_search_by(|(seen, _)| key.cmp(seen.as_ref()));
        let front = front.ok().and_then(|n| self.front.get(n));
        let seen = front.or_else(|| back.ok().and_then(|n| self.back.get(n)));
        match seen {
            Some((_, seq)) => record.seq > *seq,
            None => !record.tombstone,
        }
    }

    /// True if the walk went past the place of a key.
    fn covers(&self, key: &[u8]) -> bool {
        let is_above = match &self.range.start {
            Bound::Included(start) => key >= start,
            Bound::Excluded(start) => key > start,
            Bound::Unbounded => true,
        };
        let is_below = match &self.range.end {
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
            Bound::Unbounded => true,
        };
        let is_passed = self.is_done
            || self.front.last().is_some_and(|(last, _)| key <= last)
            || self.back.last().is_some_and(|(last, _)| key >= last);
        is_above && is_below && is_passed
    }
}
