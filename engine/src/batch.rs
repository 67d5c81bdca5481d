//! A commit in the making: writes to any keyspaces that become visible and durable together or not at all.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::db::Handle;
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::record::{Change, KeyspaceId, SeqNo, Write};
use crate::ticket::Ticket;

/// Writes that are committed together; made by [`Db::batch`](crate::Db::batch).
///
/// Nothing happens before a commit; dropping the batch drops the writes. Of several writes to one key the last counts.
///
/// ```
/// # let db = cortenkv::Db::open_in_memory()?;
/// let users = db.keyspace("users")?;
/// let mut batch = db.batch();
/// batch.put(&users, b"7", b"Ada");
/// batch.put(&db, b"last_user", b"7");
/// batch.delete(&users, b"6");
/// batch.commit()?;
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a batch does nothing before it is committed"]
pub struct Batch {
    handle: Arc<Handle>,
    bytes: Vec<u8>,
    writes: Vec<Buffered>,
    /// A keyspace of another database was named: nothing can be committed.
    is_foreign: bool,
}

/// A write whose bytes are in the buffer of the batch.
#[derive(Debug)]
struct Buffered {
    keyspace: KeyspaceId,
    key: Range<usize>,
    change: BufferedChange,
}

#[derive(Debug)]
enum BufferedChange {
    Put { value: Range<usize>, expires_at_ms: Option<u64> },
    Delete,
}

impl Batch {
    pub(crate) fn new(handle: Arc<Handle>) -> Self {
        Batch { handle, bytes: Vec::new(), writes: Vec::new(), is_foreign: false }
    }

    /// Adds a put. `keyspace` is a [`Keyspace`], or the [`Db`](crate::Db) for its default one.
    pub fn put(
        &mut self,
        keyspace: impl AsRef<Keyspace>,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.add_put(keyspace.as_ref(), key.as_ref(), value.as_ref(), None)
    }

    /// Adds a put that ends after `ttl`, counted from this call.
    pub fn put_with_ttl(
        &mut self,
        keyspace: impl AsRef<Keyspace>,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> &mut Self {
        self.add_put(keyspace.as_ref(), key.as_ref(), value.as_ref(), Some(ttl))
    }

    /// Adds a delete; it does no harm when the key is not there.
    pub fn delete(&mut self, keyspace: impl AsRef<Keyspace>, key: impl AsRef<[u8]>) -> &mut Self {
        let key = self.push_bytes(key.as_ref());
        self.add(keyspace.as_ref(), key, BufferedChange::Delete)
    }

    /// The number of writes, overwritten ones included.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// True when there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Commits with the durability of the database, and returns the number of the commit; of an empty batch the number
    /// of the newest commit.
    ///
    /// # Errors
    /// `LimitExceeded` when a key, a value or the whole is beyond the limits, `InvalidArgument` when a keyspace belongs
    /// to another database: nothing was written. `Closed`, `StorageFull` or `Io` as for every write.
    pub fn commit(self) -> Result<SeqNo> {
        self.commit_as(None)
    }

    /// Commits with the given durability.
    ///
    /// # Errors
    /// As [`Batch::commit`].
    pub fn commit_with(self, durability: Durability) -> Result<SeqNo> {
        self.commit_as(Some(durability))
    }

    /// Commits without waiting. The ticket resolves when [`Batch::commit`] would return; whoever drops it gives up the
    /// answer, not the commit.
    ///
    /// # Errors
    /// As [`Batch::commit`], and `Busy` when too many tickets are pending; nothing was written then. What fails later
    /// is the answer of the ticket.
    pub fn commit_async(self) -> Result<Ticket<SeqNo>> {
        self.handle.core.commit_async(&self.writes()?, None)
    }

    pub(crate) fn commit_as(&self, durability: Option<Durability>) -> Result<SeqNo> {
        self.handle.core.commit(&self.writes()?, durability)
    }

    pub(crate) fn add_put(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        value: &[u8],
        ttl: Option<Duration>,
    ) -> &mut Self {
        let expires_at_ms = keyspace.expires_at_ms(ttl.into());
        let key = self.push_bytes(key);
        let value = self.push_bytes(value);
        self.add(keyspace, key, BufferedChange::Put { value, expires_at_ms })
    }

    fn add(&mut self, keyspace: &Keyspace, key: Range<usize>, change: BufferedChange) -> &mut Self {
        self.is_foreign |= !keyspace.is_of(&self.handle);
        self.writes.push(Buffered { keyspace: keyspace.id(), key, change });
        self
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    /// The writes to commit: the last of each key.
    fn writes(&self) -> Result<Vec<Write<'_>>> {
        if self.is_foreign {
            return Err(Error::invalid(
                "the batch names a keyspace of another database; a batch writes to the database that made it",
            ));
        }
        let bytes = |range: &Range<usize>| &self.bytes[range.clone()];
        let all = self.writes.iter().map(|buffered| Write {
            keyspace: buffered.keyspace,
            key: bytes(&buffered.key),
            change: match &buffered.change {
                BufferedChange::Put { value, expires_at_ms } => {
                    Change::Put { value: bytes(value), expires_at_ms: *expires_at_ms }
                }
                BufferedChange::Delete => Change::Delete,
            },
        });
        Ok(keep_last(all))
    }
}

/// Drops every write that a later one to its key makes void.
pub(crate) fn keep_last<'a>(
    writes: impl DoubleEndedIterator<Item = Write<'a>> + ExactSizeIterator,
) -> Vec<Write<'a>> {
    let mut seen = HashSet::with_capacity(writes.len());
    let mut kept: Vec<_> =
        writes.rev().filter(|write| seen.insert((write.keyspace, write.key))).collect();
    kept.reverse();
    kept
}
