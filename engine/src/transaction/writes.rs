//! What a transaction will write: the last write of each key, and how to go back to a savepoint.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::range::KeyRange;
use crate::record::{Change, KeyspaceId, Write};
use crate::ttl;
use crate::write::{check_commit, check_write};

/// A write of the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Own {
    Put { value: Bytes, expires_at_ms: Option<u64> },
    Delete,
}

impl Own {
    /// The value that the key has by it.
    pub(super) fn live(&self, now_ms: u64) -> Option<&Bytes> {
        match self {
            Own::Put { expires_at_ms, .. } if ttl::is_expired(*expires_at_ms, now_ms) => None,
            Own::Put { value, .. } => Some(value),
            Own::Delete => None,
        }
    }

    fn change(&self) -> Change<'_> {
        match self {
            Own::Put { value, expires_at_ms } => {
                Change::Put { value, expires_at_ms: *expires_at_ms }
            }
            Own::Delete => Change::Delete,
        }
    }
}

type Key = (KeyspaceId, Bytes);

/// Numbers of savepoints: no two in a process are the same.
static SAVEPOINTS: AtomicU64 = AtomicU64::new(0);

/// The writes so far.
#[derive(Debug, Default)]
pub(super) struct Writes {
    last: BTreeMap<Key, Own>,
    /// What they will be charged.
    commit_bytes: usize,
    /// What stood in the place of each write since the first savepoint.
    undo: Vec<(Key, Option<Own>)>,
    /// Each with the length of `undo` at that time.
    savepoints: Vec<(u64, usize)>,
}

impl Writes {
    /// Adds a write in the place of an earlier one to the key.
    ///
    /// # Errors
    /// `LimitExceeded`; nothing is added then.
    pub(super) fn add(&mut self, keyspace: KeyspaceId, key: &[u8], own: Own) -> Result<()> {
        let charged = check_write(&Write { keyspace, key, change: own.change() })?;
        let key = (keyspace, Bytes::copy_from_slice(key));
        let before = self.last.get(&key).map_or(0, |before| charge(&key, before));
        let (records, commit_bytes) = (self.last.len() + 1, self.commit_bytes - before + charged);
        check_commit(records, commit_bytes)?;
        self.commit_bytes = commit_bytes;
        let replaced = self.last.insert(key.clone(), own);
        if !self.savepoints.is_empty() {
            self.undo.push((key, replaced));
        }
        Ok(())
    }

    pub(super) fn get(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&Own> {
        if self.last.is_empty() {
            return None;
        }
        self.last.get(&(keyspace, Bytes::copy_from_slice(key)))
    }

    pub(super) fn len(&self) -> usize {
        self.last.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// The writes of a range, in key order.
    pub(super) fn in_range(
        &self,
        keyspace: KeyspaceId,
        range: &KeyRange,
    ) -> VecDeque<(Bytes, Own)> {
        let is_above = |key: &Bytes| match &range.start {
            Bound::Included(start) => key >= start,
            Bound::Excluded(start) => key > start,
            Bound::Unbounded => true,
        };
        let is_below = |key: &Bytes| match &range.end {
            Bound::Included(end) => key <= end,
            Bound::Excluded(end) => key < end,
            Bound::Unbounded => true,
        };
        let first = match &range.start {
            Bound::Included(start) | Bound::Excluded(start) => start.clone(),
            Bound::Unbounded => Bytes::new(),
        };
        let from = self.last.range((keyspace, first)..);
        let mine = from.take_while(|((id, key), _)| *id == keyspace && is_below(key));
        let mine = mine.filter(|((_, key), _)| is_above(key));
        mine.map(|((_, key), own)| (key.clone(), own.clone())).collect()
    }

    pub(super) fn as_writes(&self) -> Vec<Write<'_>> {
        self.last
            .iter()
            .map(|((keyspace, key), own)| Write { keyspace: *keyspace, key, change: own.change() })
            .collect()
    }

    pub(super) fn savepoint(&mut self) -> u64 {
        let number = SAVEPOINTS.fetch_add(1, Relaxed);
        self.savepoints.push((number, self.undo.len()));
        number
    }

    /// Goes back to a savepoint.
    ///
    /// # Errors
    /// `InvalidArgument` when it is not one of these.
    pub(super) fn rollback_to(&mut self, number: u64) -> Result<()> {
        let known = self.savepoints.iter().position(|(known, _)| *known == number);
        let Some(n) = known else {
            return Err(Error::invalid(
                "the savepoint is not one of this transaction, or was gone back behind; make another one",
            ));
        };
        self.savepoints.truncate(n + 1);
        let (_, undo_len) = self.savepoints[n];
        for (key, before) in self.undo.split_off(undo_len).into_iter().rev() {
            let charged = before.as_ref().map_or(0, |own| charge(&key, own));
            let gone = match before {
                Some(own) => self.last.insert(key.clone(), own),
                None => self.last.remove(&key),
            };
            let freed = gone.map_or(0, |own| charge(&key, &own));
            self.commit_bytes = self.commit_bytes - freed + charged;
        }
        Ok(())
    }
}

/// What a write that is within the limits is charged.
fn charge((keyspace, key): &Key, own: &Own) -> usize {
    check_write(&Write { keyspace: *keyspace, key, change: own.change() }).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &'static [u8]) -> Own {
        Own::Put { value: Bytes::from_static(value), expires_at_ms: None }
    }

    #[test]
    fn going_back_restores_every_write_and_its_charge() {
        let mut writes = Writes::default();
        writes.add(0, b"a", put(b"1")).unwrap();
        let before = (writes.last.clone(), writes.commit_bytes);
        let outer = writes.savepoint();
        writes.add(0, b"a", put(b"22")).unwrap();
        writes.add(0, b"b", put(b"3")).unwrap();
        let inner = writes.savepoint();
        writes.add(0, b"a", Own::Delete).unwrap();
        writes.rollback_to(inner).unwrap();
        assert_eq!(writes.get(0, b"a"), Some(&put(b"22")));
        for _ in 0..2 {
            writes.rollback_to(outer).unwrap();
            assert_eq!((writes.last.clone(), writes.commit_bytes), before);
            writes.add(0, b"a", Own::Delete).unwrap();
        }
        assert!(writes.rollback_to(inner).is_err(), "it was gone back behind");
        assert!(Writes::default().rollback_to(outer).is_err());
    }

    #[test]
    fn a_write_beyond_the_limits_is_refused_and_changes_nothing() {
        let mut writes = Writes::default();
        let value = Own::Put { value: vec![0; 16 << 20].into(), expires_at_ms: None };
        writes.add(0, b"a", value.clone()).unwrap();
        writes.add(0, b"a", value.clone()).unwrap();
        assert!(writes.add(0, b"b", value).is_err());
        assert_eq!(writes.len(), 1);
    }
}
