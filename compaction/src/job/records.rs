//! The records of one job: keys, tokens and fates, sorted by key. No values.

use std::ops::Range;

use crate::store::{Fate, Placed, Record, Stream};

#[derive(Debug)]
struct Entry {
    keyspace: u32,
    key: Range<usize>,
    token: u64,
    bytes: u64,
    fate: Fate,
    stream: Stream,
    placed: Option<Placed>,
}

const _: () = assert!(size_of::<Entry>() <= 64, "the documentation of `Limits` says so");

/// Grows by what is read, is cut back when a read fails, and is then sorted once.
#[derive(Debug, Default)]
pub(super) struct Records {
    keys: Vec<u8>,
    entries: Vec<Entry>,
}

/// A length to return to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    keys: usize,
    entries: usize,
}

impl Records {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn push(&mut self, record: Record<'_>, fate: Fate, stream: Stream) {
        let start = self.keys.len();
        self.keys.extend_from_slice(record.key);
        let Record { keyspace, token, bytes, .. } = record;
        let key = start..self.keys.len();
        self.entries.push(Entry { keyspace, key, token, bytes, fate, stream, placed: None });
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { keys: self.keys.len(), entries: self.entries.len() }
    }

    pub(super) fn cut(&mut self, mark: Mark) {
        self.keys.truncate(mark.keys);
        self.entries.truncate(mark.entries);
    }

    /// By keyspace and key; several versions of one key by token.
    pub(super) fn sort(&mut self) {
        let key = |entry: &Entry| &self.keys[entry.key.clone()];
        self.entries.sort_unstable_by(|a, b| {
            (a.keyspace, key(a), a.token).cmp(&(b.keyspace, key(b), b.token))
        });
    }

    pub(super) fn get(&self, at: usize) -> (Record<'_>, Fate, Stream) {
        let entry = &self.entries[at];
        let Entry { keyspace, token, bytes, .. } = *entry;
        let key = &self.keys[entry.key.clone()];
        (Record { keyspace, key, token, bytes }, entry.fate, entry.stream)
    }

    pub(super) fn place(&mut self, at: usize, placed: Placed) {
        self.entries[at].placed = Some(placed);
    }

    pub(super) fn placed(&self, at: usize) -> Option<Placed> {
        self.entries[at].placed
    }
}
