//! The adapter to the ordered index of `cortenkv-index`.

use bytes::Bytes;
use cortenkv_index::{BTreeOrdered, KeyBatch, KeyCursor, OrderedIndex};

use crate::error::Result;
use crate::range::{Direction, KeyRange, KeySource};
use crate::record::KeyspaceId;

/// The keys of each keyspace in order.
pub(crate) struct KeyOrder(BTreeOrdered);

impl Default for KeyOrder {
    fn default() -> Self {
        KeyOrder(BTreeOrdered::new())
    }
}

impl KeyOrder {
    pub(crate) fn insert(&self, keyspace: KeyspaceId, key: &[u8]) {
        self.0.insert(keyspace, key);
    }

    /// The caller keeps writers of the key away.
    pub(crate) fn remove(&self, keyspace: KeyspaceId, key: &[u8]) {
        if let Some(mark) = self.0.mark(keyspace, key) {
            self.0.remove(keyspace, key, mark);
        }
    }

    pub(crate) fn keys(
        &self,
        keyspace: KeyspaceId,
        range: KeyRange,
        direction: Direction,
    ) -> Result<Box<dyn KeySource>> {
        let range = cortenkv_index::KeyRange::new::<Bytes>((range.start, range.end));
        let direction = match direction {
            Direction::Forward => cortenkv_index::Direction::Forward,
            Direction::Reverse => cortenkv_index::Direction::Reverse,
        };
        let cursor = self.0.cursor(keyspace, range, direction);
        Ok(Box::new(Walk { cursor, batch: KeyBatch::new() }))
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.0.memory_bytes() as u64
    }
}

struct Walk {
    cursor: Box<dyn KeyCursor>,
    batch: KeyBatch,
}

impl KeySource for Walk {
    fn next_batch(&mut self, keys_max: usize, out: &mut Vec<Bytes>) {
        self.cursor.next_batch(keys_max, &mut self.batch);
        out.extend(self.batch.iter().map(Bytes::copy_from_slice));
    }
}
