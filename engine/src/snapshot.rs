//! Snapshots: all keyspaces as they were at one moment, for as many reads as it takes.
//!
//! # Layout
//! [`Snapshot`] and [`SnapshotKeyspace`] are what users hold. `open` begins and ends one, `registry` has those that are
//! open, `word` is what writers look at, `versions` what is kept when a record is replaced, `read` how a key is found,
//! `limits` when one is given up.
//!
//! # Invariants
//! - A snapshot shows every commit up to its number in full, and nothing of later ones; lives are judged at one moment.
//!   So repeated reads answer the same, whatever is written, deleted or compacted meanwhile.
//! - While none is open, a writer that replaces a record pays for the load of one word.
//! - Nobody waits for a snapshot that is open.

mod limits;
mod open;
mod read;
mod registry;
mod versions;
pub(crate) mod word;

use std::fmt;
use std::ops::{Deref, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::DEFAULT_KEYSPACE_ID;
use crate::core::Core;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::keyspace::Keyspace;
use crate::range::KeyRange;
use crate::read::{Entry, Found};
use crate::read_many::BATCH_KEYS;
use crate::record::{KeyspaceId, SeqNo};
use crate::scan::{Keys, Scan};
pub(crate) use limits::SnapshotOptions;
pub(crate) use open::OpenSnapshot;
pub(crate) use registry::Snapshots;

/// The database at one moment; made by [`Db::snapshot`](crate::Db::snapshot).
///
/// It reads as its keyspace "default", through the methods of [`SnapshotKeyspace`]; [`Snapshot::keyspace`] reads the
/// others. All commits up to [`Snapshot::seq`] are shown, each in full, and nothing else; entries that had a time to live
/// are there if they were when the snapshot was opened.
///
/// Clones are cheap and share the snapshot; it ends with the last of them and of what was made of it (keyspaces,
/// iterators). It outlives the handles of the database and [`Db::close`](crate::Db::close). What it shows cannot be
/// reclaimed, so it should not be kept for long:
/// [`Builder::snapshot_age_max`](crate::Builder::snapshot_age_max) and
/// [`Builder::snapshot_retained_bytes_max`](crate::Builder::snapshot_retained_bytes_max) bound what a forgotten one
/// costs, [`Stats::snapshots`](crate::Stats::snapshots) shows it. Beyond them reads answer `SnapshotTooOld`.
///
/// ```
/// # let db = cortenkv::Db::open_in_memory()?;
/// let users = db.keyspace("users")?;
/// db.put("k", "old")?;
/// users.put("7", "Ada")?;
/// let then = db.snapshot()?;
/// db.put("k", "new")?;
/// users.delete("7")?;
/// assert_eq!(then.get("k")?.as_deref(), Some(&b"old"[..]));
/// assert_eq!(then.keyspace(&users).get("7")?.as_deref(), Some(&b"Ada"[..]));
/// assert_eq!(db.get("k")?.as_deref(), Some(&b"new"[..]));
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[derive(Clone)]
pub struct Snapshot {
    default: SnapshotKeyspace,
}

/// A keyspace at one moment: what [`Keyspace`] reads, read at a [`Snapshot`].
///
/// # Errors
/// Every read answers as the one of [`Keyspace`] does, but not `Closed`; and besides `SnapshotTooOld` once the snapshot was
/// given up, and `InvalidArgument` if the keyspace belongs to another database.
#[derive(Clone)]
pub struct SnapshotKeyspace {
    at: Arc<OpenSnapshot>,
    id: KeyspaceId,
    /// The keyspace is of another database.
    is_foreign: bool,
}

impl Db {
    /// The database as it is now, for as many reads as it takes: see [`Snapshot`]. It shows every commit that was
    /// acknowledged before this call.
    ///
    /// Nobody waits for a snapshot that is open. Opening one keeps commits from being installed for a moment; it waits for no
    /// sync, unless modes of durability are mixed.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// db.put("k", "old")?;
    /// let then = db.snapshot()?;
    /// db.put("k", "new")?;
    /// assert_eq!(then.get("k")?.as_deref(), Some(&b"old"[..]));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed` after `close`; `Io` or `Closed` when a commit of a ticket is under way and cannot be made durable.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let at = self.core().snapshot()?;
        let default = SnapshotKeyspace { at, id: DEFAULT_KEYSPACE_ID, is_foreign: false };
        Ok(Snapshot { default })
    }
}

impl Snapshot {
    /// The number of the newest commit that it shows.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// let seq = db.put("k", "v")?;
    /// assert!(db.snapshot()?.seq() >= seq);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn seq(&self) -> SeqNo {
        self.default.at.seq()
    }

    /// A keyspace as it was. One that was created since is empty.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// let then = db.snapshot()?;
    /// let users = db.keyspace("users")?;
    /// users.put("7", "Ada")?;
    /// assert_eq!(then.keyspace(&users).get("7")?, None);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn keyspace(&self, keyspace: impl AsRef<Keyspace>) -> SnapshotKeyspace {
        let (at, keyspace) = (Arc::clone(&self.default.at), keyspace.as_ref());
        let is_foreign = !Arc::ptr_eq(&keyspace.handle.core, &at.core);
        SnapshotKeyspace { at, id: keyspace.id(), is_foreign }
    }
}

impl Deref for Snapshot {
    type Target = SnapshotKeyspace;

    fn deref(&self) -> &SnapshotKeyspace {
        &self.default
    }
}

impl SnapshotKeyspace {
    fn core(&self) -> Result<&Core> {
        match self.is_foreign {
            false => Ok(&self.at.core),
            true => Err(Error::invalid(
                "the keyspace belongs to another database; a snapshot shows those of the database that it was made by",
            )),
        }
    }

    /// See [`Keyspace::get`].
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// db.put("k", "v")?;
    /// let then = db.snapshot()?;
    /// db.delete("k")?;
    /// assert_eq!(then.get("k")?.as_deref(), Some(&b"v"[..]));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.core()?.get_at(self.id, key.as_ref(), &self.at)
    }

    /// See [`Keyspace::get_entry`].
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// let seq = db.put("k", "v")?;
    /// let then = db.snapshot()?;
    /// db.put("k", "w")?;
    /// assert_eq!(then.get_entry("k")?.map(|entry| entry.seq), Some(seq));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn get_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        self.core()?.get_entry_at(self.id, key.as_ref(), &self.at)
    }

    /// See [`Keyspace::get_with`].
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// db.put("k", "value")?;
    /// let then = db.snapshot()?;
    /// assert_eq!(then.get_with("k", |value| value.len())?, Some(5));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        // A record is shown at most once; the type of the search does not say so.
        let mut f = Some(f);
        let show = |found: Found<'_>| f.take().map(|f| f(found.record.value));
        self.core()?.find_at(self.id, key.as_ref(), &self.at, show).map(Option::flatten)
    }

    /// See [`Keyspace::contains_key`].
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// let then = db.snapshot()?;
    /// db.put("k", "v")?;
    /// assert!(!then.contains_key("k")?);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        let found = self.core()?.find_at(self.id, key.as_ref(), &self.at, |_| ());
        found.map(|found| found.is_some())
    }

    /// See [`Keyspace::multi_get`]; here all values are of one moment.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// db.put("a", "1")?;
    /// let then = db.snapshot()?;
    /// db.put_batch([("a", "2", None), ("b", "2", None)])?;
    /// assert_eq!(then.multi_get(["b", "a"])?, [None, Some("1".into())]);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        let core = self.core()?;
        let (mut keys, mut chunk) = (keys.into_iter(), Vec::with_capacity(BATCH_KEYS));
        let mut values = Vec::new();
        loop {
            chunk.extend(keys.by_ref().take(BATCH_KEYS));
            if chunk.is_empty() {
                return Ok(values);
            }
            chunk.iter().for_each(|key: &K| core.index.prefetch(self.id, key.as_ref()));
            for key in chunk.drain(..) {
                values.push(core.get_at(self.id, key.as_ref(), &self.at)?);
            }
        }
    }

    /// See [`Keyspace::iter`].
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// # if !db.stats().build.ordered { return Ok(()); }
    /// db.put("a", "1")?;
    /// let then = db.snapshot()?;
    /// db.delete("a")?;
    /// db.put("b", "2")?;
    /// let entries = then.iter().collect::<cortenkv::Result<Vec<_>>>()?;
    /// assert_eq!(entries, [("a".into(), "1".into())]);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn iter(&self) -> Scan {
        self.scan(KeyRange::all())
    }

    /// See [`Keyspace::range`].
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// # if !db.stats().build.ordered { return Ok(()); }
    /// db.put_batch([("a", "1", None), ("b", "2", None), ("c", "3", None)])?;
    /// let then = db.snapshot()?;
    /// db.delete("b")?;
    /// let newest = then.range("a".."c").next_back().transpose()?;
    /// assert_eq!(newest, Some(("b".into(), "2".into())));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.scan(KeyRange::new(range))
    }

    /// See [`Keyspace::prefix`].
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// # if !db.stats().build.ordered { return Ok(()); }
    /// db.put_batch([("a:1", "x", None), ("b:1", "y", None)])?;
    /// let then = db.snapshot()?;
    /// db.put("a:2", "z")?;
    /// assert_eq!(then.prefix("a:").count(), 1);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.scan(KeyRange::prefix(prefix.as_ref()))
    }

    /// See [`Keyspace::keys`].
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// # if !db.stats().build.ordered { return Ok(()); }
    /// db.put("a", "1")?;
    /// let then = db.snapshot()?;
    /// db.put("b", "2")?;
    /// assert_eq!(then.keys().rev().collect::<cortenkv::Result<Vec<_>>>()?, ["a"]);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn keys(&self) -> Keys {
        self.iter().keys()
    }

    /// See [`Keyspace::first_key_value`].
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// # if !db.stats().build.ordered { return Ok(()); }
    /// db.put("b", "2")?;
    /// let then = db.snapshot()?;
    /// db.put("a", "1")?;
    /// assert_eq!(then.first_key_value()?, Some(("b".into(), "2".into())));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn first_key_value(&self) -> Result<Option<(Bytes, Bytes)>> {
        self.iter().next().transpose()
    }

    /// See [`Keyspace::last_key_value`].
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// # if !db.stats().build.ordered { return Ok(()); }
    /// db.put("b", "2")?;
    /// let then = db.snapshot()?;
    /// db.put("c", "3")?;
    /// assert_eq!(then.last_key_value()?, Some(("b".into(), "2".into())));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn last_key_value(&self) -> Result<Option<(Bytes, Bytes)>> {
        self.iter().next_back().transpose()
    }

    fn scan(&self, range: KeyRange) -> Scan {
        let refused = self.core().err();
        Scan::at(Arc::clone(&self.at), self.id, range, refused)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("seq", &self.seq()).finish_non_exhaustive()
    }
}

impl fmt::Debug for SnapshotKeyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotKeyspace").field("seq", &self.at.seq()).finish_non_exhaustive()
    }
}

const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Snapshot>();
    shared::<SnapshotKeyspace>();
};
