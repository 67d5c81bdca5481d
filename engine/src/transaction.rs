//! Optimistic serialisable transactions: read and write as if alone, and find out at the commit whether that was so.
//!
//! # Layout
//! `view` is what a transaction reads of the database, `reads` what it has read, `writes` what it will write, `scan` both
//! merged in key order, `conflict` how a refusal is told, `retry` the loop around all of it. The commit itself is `write/conditional.rs`.
//!
//! # Invariants
//! - A transaction that commits has read what was there at its place in the log: every key that it read, found or not, and
//!   every part of a range that it walked is the same there. So the transactions that commit are as if run one after the
//!   other, in the order of their numbers.
//! - Nothing of a transaction is in the log before its commit, which is one commit.
//!
//! # Concurrency
//! No lock is held between two calls. A transaction belongs to one thread at a time; its scans may go to others.

mod conflict;
mod reads;
mod retry;
mod scan;
mod view;
mod writes;

use std::fmt;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::core::Core;
use crate::db::{Db, Handle};
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::options::{Durability, Lifetime};
use crate::range::KeyRange;
use crate::read::Found;
use crate::record::{KeyspaceId, SeqNo};
use crate::sync::lock;
use crate::ticket::Ticket;
pub use conflict::{Conflict, ConflictKind};
use reads::Reads;
pub use retry::TransactOptions;
pub use scan::TransactionScan;
use view::View;
use writes::{Own, Writes};

/// Reads and writes that take effect together, at one moment, or not at all; made by [`Db::transaction`].
///
/// It reads the database as it was at its first read (a [`Snapshot`](crate::Snapshot)), and its own writes over that.
/// [`commit`](Transaction::commit) writes if nothing that was read has changed since: keys that were found and keys that were
/// not, and the ranges that were walked, as far as they were. Otherwise it answers a [`Conflict`], which is no error: try again,
/// or let [`Db::transact`] do that. One without writes never conflicts.
///
/// Dropping it rolls it back. What it has read and written is in memory until its end; the bounds of snapshots hold for it,
/// so that the reads of one that goes on for hours end with `SnapshotTooOld`.
///
/// ```
/// # let db = cortenkv::Db::open_in_memory()?;
/// db.put(b"stock", b"1")?;
/// let mut order = db.transaction();
/// if order.get(&db, b"stock")?.as_deref() == Some(b"1") {
///     order.put(&db, b"stock", b"0")?;
///     order.put(&db, b"order:1", b"sold")?;
/// }
/// let mut rival = db.transaction();
/// rival.get(&db, b"stock")?;
/// rival.put(&db, b"order:2", b"sold")?;
/// assert!(order.commit()?.is_ok());
/// let conflict = rival.commit()?.unwrap_err();
/// assert_eq!(conflict.key, "stock");
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[must_use = "a transaction that is dropped writes nothing"]
pub struct Transaction {
    handle: Arc<Handle>,
    view: View,
    reads: Arc<Mutex<Reads>>,
    writes: Writes,
    is_over: bool,
}

/// A state of a transaction's writes to come back to; made by [`Transaction::savepoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Savepoint(u64);

impl Db {
    /// Begins a transaction.
    pub fn transaction(&self) -> Transaction {
        let handle = Arc::clone(self.handle());
        let view = View::new(&handle.core);
        let reads = Arc::default();
        Transaction { handle, view, reads, writes: Writes::default(), is_over: false }
    }
}

impl Transaction {
    /// The value of a key, as [`Keyspace::get`] gives it. `keyspace` is a [`Keyspace`], or the [`Db`] for its default one.
    ///
    /// # Errors
    /// As [`Keyspace::get`], and `InvalidArgument` when the keyspace belongs to another database.
    pub fn get(
        &self,
        keyspace: impl AsRef<Keyspace>,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Bytes>> {
        let (id, key) = (self.id_of(keyspace.as_ref())?, key.as_ref());
        match self.writes.get(id, key) {
            Some(own) => Ok(own.live(self.view.now_ms()).cloned()),
            None => self.read(id, key, |core, found| core.value_of(found)),
        }
    }

    /// Calls `f` with the value of a key where it lies, as [`Keyspace::get_with`] does.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn get_with<R>(
        &self,
        keyspace: impl AsRef<Keyspace>,
        key: impl AsRef<[u8]>,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        let (id, key) = (self.id_of(keyspace.as_ref())?, key.as_ref());
        if let Some(own) = self.writes.get(id, key) {
            return Ok(own.live(self.view.now_ms()).map(|value| f(value)));
        }
        // A record is shown at most once; the type of the search does not say so.
        let mut f = Some(f);
        let show = |_: &Core, found: &Found<'_>| f.take().map(|f| f(found.record.value));
        self.read(id, key, show).map(Option::flatten)
    }

    /// True when the key has a value.
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub fn contains_key(
        &self,
        keyspace: impl AsRef<Keyspace>,
        key: impl AsRef<[u8]>,
    ) -> Result<bool> {
        self.get_with(keyspace, key, |_| ()).map(|found| found.is_some())
    }

    /// All entries of a keyspace in key order; `.rev()` walks backwards. It shows the writes of the transaction as they are at
    /// this call. What the walk goes past is what the transaction depends on, no more.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// # if !db.stats().build.ordered { return Ok(()); }
    /// db.put_batch([("a", "1", None), ("c", "3", None)])?;
    /// let mut t = db.transaction();
    /// t.put(&db, b"b", b"2")?;
    /// t.delete(&db, b"c")?;
    /// let keys: Result<Vec<_>, _> = t.iter(&db).map(|entry| entry.map(|(key, _)| key)).collect();
    /// assert_eq!(keys?, ["a", "b"]);
    /// # t.rollback();
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn iter(&self, keyspace: impl AsRef<Keyspace>) -> TransactionScan {
        self.scan(keyspace.as_ref(), KeyRange::all())
    }

    /// The entries of a range of keys, as [`Transaction::iter`] shows them.
    pub fn range<K: AsRef<[u8]>>(
        &self,
        keyspace: impl AsRef<Keyspace>,
        range: impl RangeBounds<K>,
    ) -> TransactionScan {
        self.scan(keyspace.as_ref(), KeyRange::new(range))
    }

    /// The entries whose keys start with a prefix, as [`Transaction::iter`] shows them.
    pub fn prefix(
        &self,
        keyspace: impl AsRef<Keyspace>,
        prefix: impl AsRef<[u8]>,
    ) -> TransactionScan {
        self.scan(keyspace.as_ref(), KeyRange::prefix(prefix.as_ref()))
    }

    /// Sets the value of a key, which lives as long as the keyspace says, counted from this call.
    ///
    /// # Errors
    /// `LimitExceeded` when the key, the value or the transaction as a whole is too large, `InvalidArgument` when the keyspace
    /// belongs to another database: the transaction is as before, and goes on.
    pub fn put(
        &mut self,
        keyspace: impl AsRef<Keyspace>,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        let value = Bytes::copy_from_slice(value.as_ref());
        let expires_at_ms = keyspace.as_ref().expires_at_ms(Lifetime::Default);
        self.write(keyspace.as_ref(), key.as_ref(), Own::Put { value, expires_at_ms })
    }

    /// Sets the value of a key that ends after `ttl`, counted from this call.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn put_with_ttl(
        &mut self,
        keyspace: impl AsRef<Keyspace>,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        let expires_at_ms = keyspace.as_ref().expires_at_ms(Lifetime::Ttl(ttl));
        let value = Bytes::copy_from_slice(value.as_ref());
        self.write(keyspace.as_ref(), key.as_ref(), Own::Put { value, expires_at_ms })
    }

    /// Puts what the merge operator of the keyspace makes of the value of a key and of `operand`: a read and a put of this
    /// transaction. See [`Keyspace::merge`].
    ///
    /// # Errors
    /// `InvalidArgument` when the keyspace has no merge operator; that of the operator; as [`Transaction::get`] and
    /// [`Transaction::put`].
    pub fn merge(
        &mut self,
        keyspace: impl AsRef<Keyspace>,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
    ) -> Result<()> {
        let (keyspace, key) = (keyspace.as_ref(), key.as_ref());
        let operator = keyspace.merge_operator()?;
        let old = self.get(keyspace, key)?;
        let new = operator.merge(key, old.as_deref(), operand.as_ref())?;
        self.put(keyspace, key, new)
    }

    /// Removes a key; it does no harm when the key is not there.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&mut self, keyspace: impl AsRef<Keyspace>, key: impl AsRef<[u8]>) -> Result<()> {
        self.write(keyspace.as_ref(), key.as_ref(), Own::Delete)
    }

    /// Remembers the writes as they are now.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// let mut t = db.transaction();
    /// t.put(&db, b"kept", b"1")?;
    /// let before = t.savepoint();
    /// t.put(&db, b"dropped", b"2")?;
    /// t.rollback_to(before)?;
    /// t.commit()?.expect("nobody else writes");
    /// assert_eq!(db.get(b"dropped")?, None);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn savepoint(&mut self) -> Savepoint {
        Savepoint(self.writes.savepoint())
    }

    /// Takes back the writes since a savepoint, which stays, and with it those made before it. What was read since is
    /// still depended on: it may have been acted on.
    ///
    /// # Errors
    /// `InvalidArgument` for a savepoint of another transaction, or one made after a savepoint that was gone back to.
    pub fn rollback_to(&mut self, savepoint: Savepoint) -> Result<()> {
        self.writes.rollback_to(savepoint.0)
    }

    /// True when it has nothing to write.
    pub fn is_read_only(&self) -> bool {
        self.writes.is_empty()
    }

    /// Commits with the durability of the database; returns the number of the commit, or the first conflict found. A transaction
    /// without writes writes nothing and never conflicts; its number is that of the newest commit that it could see.
    ///
    /// # Errors
    /// `Closed`, `StorageFull` or `Io` as for every write; `Corruption` when something that was read is unreadable by now.
    pub fn commit(self) -> Result<Result<SeqNo, Conflict>> {
        self.commit_as(None)
    }

    /// Commits with the given durability.
    ///
    /// # Errors
    /// As [`Transaction::commit`], and `InvalidArgument` for a durability that can never work.
    pub fn commit_with(self, durability: Durability) -> Result<Result<SeqNo, Conflict>> {
        self.commit_as(Some(durability))
    }

    /// Commits without waiting for the sync. The ticket resolves when [`Transaction::commit`] would return; whoever drops it
    /// gives up the answer, not the commit.
    ///
    /// # Errors
    /// As [`Transaction::commit`], and `Busy` when too many tickets are pending; nothing was written then.
    pub fn commit_async(mut self) -> Result<Ticket<Result<SeqNo, Conflict>>> {
        self.is_over = true;
        let core = &self.handle.core;
        if self.is_read_only() {
            return Ok(Ticket::ready(self.commit_reads().map(Ok)));
        }
        let reads = std::mem::take(&mut *lock(&self.reads));
        let premises = reads.premises(self.view.now_ms());
        let ticket = core.commit_if_async(&self.writes.as_writes(), premises, None)?;
        let handle = Arc::clone(&self.handle);
        Ok(ticket.map(move |outcome| handle.core.concluded(outcome)))
    }

    /// Ends it without a commit, as dropping does.
    pub fn rollback(self) {
        drop(self);
    }

    fn commit_as(mut self, durability: Option<Durability>) -> Result<Result<SeqNo, Conflict>> {
        self.is_over = true;
        let core = &self.handle.core;
        if self.is_read_only() {
            return self.commit_reads().map(Ok);
        }
        let reads = std::mem::take(&mut *lock(&self.reads));
        let premises = reads.premises(self.view.now_ms());
        let outcome = core.commit_if(&self.writes.as_writes(), premises, durability)?;
        Ok(core.concluded(outcome))
    }

    /// Ends a transaction that has read only: its place among the others is that of its snapshot.
    fn commit_reads(&self) -> Result<SeqNo> {
        let core = &self.handle.core;
        core.check_open()?;
        core.counters.transactions.note_committed();
        Ok(self.view.seq())
    }

    fn read<R>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        show: impl FnMut(&Core, &Found<'_>) -> R,
    ) -> Result<Option<R>> {
        let found = self.view.get(keyspace, key, show)?;
        lock(&self.reads).note_key(keyspace, key, found.as_ref().map(|(seq, _)| *seq));
        Ok(found.map(|(_, shown)| shown))
    }

    fn scan(&self, keyspace: &Keyspace, range: KeyRange) -> TransactionScan {
        let foreign = self.id_of(keyspace).err();
        let own = self.writes.in_range(keyspace.id(), &range);
        TransactionScan::new(&self.view, &self.reads, keyspace.id(), range, own, foreign)
    }

    fn write(&mut self, keyspace: &Keyspace, key: &[u8], own: Own) -> Result<()> {
        let id = self.id_of(keyspace)?;
        self.writes.add(id, key, own)
    }

    fn id_of(&self, keyspace: &Keyspace) -> Result<KeyspaceId> {
        match keyspace.is_of(&self.handle) {
            true => Ok(keyspace.id()),
            false => Err(Error::invalid(
                "the keyspace belongs to another database than the transaction; open one there",
            )),
        }
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.is_over {
            self.handle.core.counters.transactions.note_rolled_back();
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("writes", &self.writes.len()).finish_non_exhaustive()
    }
}

const _: () = {
    const fn moves_between_threads<T: Send + 'static>() {}
    moves_between_threads::<Transaction>();
    moves_between_threads::<TransactionScan>();
};
