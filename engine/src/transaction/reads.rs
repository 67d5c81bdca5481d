//! What a transaction has read, which its commit depends on.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::range::{Direction, KeyRange};
use crate::record::{KeyspaceId, SeqNo};
use crate::write::{Check, Expected, Premises, RangeRead};

/// Keys and ranges, with the numbers of what was found.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// The number of the commit whose value was seen first, `None` for nothing.
    keys: BTreeMap<(KeyspaceId, Bytes), Option<SeqNo>>,
    /// What was seen of a key later and was something else. Both cannot be so at the commit, though one may be again.
    changed: Vec<(KeyspaceId, Bytes, Option<SeqNo>)>,
    ranges: Vec<RangeRead>,
}

impl Reads {
    /// A key was looked at.
    pub(super) fn note_key(&mut self, keyspace: KeyspaceId, key: &[u8], seq: Option<SeqNo>) {
        let key = Bytes::copy_from_slice(key);
        let first = *self.keys.entry((keyspace, key.clone())).or_insert(seq);
        if first != seq {
            self.changed.push((keyspace, key, seq));
        }
    }

    /// A walk over a range begins; returns its number.
    pub(super) fn begin_range(&mut self, keyspace: KeyspaceId, range: KeyRange) -> usize {
        self.ranges.push(RangeRead::new(keyspace, range));
        self.ranges.len() - 1
    }

    /// A walk came to an entry, or at its end. One that goes on behind the end of its transaction is not noted.
    pub(super) fn note_step(&mut self, n: usize, direction: Direction, to: Option<(Bytes, SeqNo)>) {
        let Some(range) = self.ranges.get_mut(n) else { return };
        match to {
            Some((key, seq)) => range.note(direction, key, seq),
            None => range.note_done(),
        }
    }

    /// What must hold at the commit.
    pub(super) fn premises(&self, now_ms: u64) -> Premises<'_> {
        let check = |(keyspace, key, seq): (KeyspaceId, _, Option<SeqNo>)| Check {
            keyspace,
            key,
            expected: seq.map_or(Expected::Absent, Expected::Seq),
        };
        let first = self.keys.iter().map(|((keyspace, key), seq)| (*keyspace, &key[..], *seq));
        let later = self.changed.iter().map(|(keyspace, key, seq)| (*keyspace, &key[..], *seq));
        Premises::new(first.chain(later).map(check), &self.ranges, now_ms)
    }
}
