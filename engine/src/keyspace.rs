//! The handle of a keyspace: every operation on keys and values.
//!
//! # Layout
//! `conditional` has the writes that depend on what a key holds, `options` what a keyspace is told when it is opened.
//!
//! # Concurrency
//! Handles are cheap clones, `Send + Sync + 'static`. Every operation is atomic by itself and may run beside any other.

mod conditional;
mod options;

use std::fmt;
use std::ops::{ControlFlow, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::batch::Batch;
use crate::db::Handle;
use crate::error::Result;
use crate::merge::MergeOperator;
use crate::options::{Lifetime, PutOptions};
use crate::pinned::PinnedValue;
use crate::range::{Direction, KeyRange};
use crate::read::{Entry, Found};
use crate::record::{Change, KeyspaceId, SeqNo, Write};
use crate::scan::{Keys, Scan};

pub use conditional::CasConflict;
pub(crate) use options::{CompactionFilter, Settings};
pub use options::{FilterDecision, KeyspaceOptions};

/// A named set of keys within a database; made by [`Db::keyspace`](crate::Db::keyspace).
///
/// ```
/// # let db = cortenkv::Db::open_in_memory()?;
/// let users = db.keyspace("users")?;
/// users.put(b"7", b"Ada")?;
/// assert_eq!(users.get(b"7")?.as_deref(), Some(&b"Ada"[..]));
/// assert_eq!(db.get(b"7")?, None); // the default keyspace is another one
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[derive(Clone)]
pub struct Keyspace {
    pub(crate) handle: Arc<Handle>,
    id: KeyspaceId,
    name: Arc<str>,
    settings: Arc<Settings>,
}

impl Keyspace {
    pub(crate) fn new(handle: Arc<Handle>, id: KeyspaceId, name: Arc<str>) -> Self {
        let settings = handle.core.catalog.settings(id);
        Keyspace { handle, id, name, settings }
    }

    pub(crate) fn id(&self) -> KeyspaceId {
        self.id
    }

    pub(crate) fn is_of(&self, handle: &Arc<Handle>) -> bool {
        Arc::ptr_eq(&self.handle, handle)
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The merge operator.
    ///
    /// # Errors
    /// `InvalidArgument` when there is none.
    pub(crate) fn merge_operator(&self) -> Result<Arc<dyn MergeOperator>> {
        self.settings.merge_operator(&self.name)
    }

    /// When an entry ends that is written now.
    #[inline]
    pub(crate) fn expires_at_ms(&self, lifetime: Lifetime) -> Option<u64> {
        self.settings.expires_at_ms(lifetime, || self.handle.core.now_ms())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sets the value of a key, which lives as long as the keyspace says, and returns the number of the commit.
    ///
    /// # Errors
    /// `LimitExceeded` when key or value is too long: nothing was written. `StorageFull` when the disk is full: writes
    /// resume by themselves. `Closed` after `close` or an earlier failure; `Io` when this one fails.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<SeqNo> {
        self.put_with(key, value, PutOptions::new())
    }

    /// Sets the value of a key with a time to live or a durability of its own.
    ///
    /// # Errors
    /// As [`Keyspace::put`], and `InvalidArgument` for a durability that can never work.
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: PutOptions,
    ) -> Result<SeqNo> {
        let core = &self.handle.core;
        let expires_at_ms = self.expires_at_ms(options.lifetime);
        let change = Change::Put { value: value.as_ref(), expires_at_ms };
        core.commit(&[self.write(key.as_ref(), change)], options.durability)
    }

    /// Sets many values in one commit: visible together, one sync. Of several items with one key the last counts. One without a
    /// time to live lives as long as the keyspace says.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// db.put_batch([("a", "1", None), ("b", "2", Some(Duration::from_secs(60)))])?;
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::put`], for the whole.
    pub fn put_batch<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        items: impl IntoIterator<Item = (K, V, Option<Duration>)>,
    ) -> Result<SeqNo> {
        let mut batch = Batch::new(Arc::clone(&self.handle));
        for (key, value, ttl) in items {
            batch.add_put(self, key.as_ref(), value.as_ref(), ttl);
        }
        batch.commit_as(None)
    }

    /// Removes a key, and returns the number of the commit. It does no harm when the key is not there.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<SeqNo> {
        self.handle.core.commit(&[self.write(key.as_ref(), Change::Delete)], None)
    }

    /// The value of a key; `None` when the key is not there or has expired.
    ///
    /// Values up to 64 KiB are copied; a longer one is not, and keeps its segment mapped as [`PinnedValue`] says.
    ///
    /// # Errors
    /// `Corruption` when the record of the key is damaged: never a wrong value. `Closed` after `close`.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.handle.core.get(self.id, key.as_ref())
    }

    /// Calls `f` with the value of a key where it lies, without a copy or an allocation, and returns what it returns;
    /// `None`, and no call, when the key is not there or has expired.
    ///
    /// No lock is held: `f` may use the database, also write to it, and take its time, though the memory of replaced index
    /// tables is not given back meanwhile. A value of a compressed commit is decompressed first.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// db.put(b"greeting", b"hello")?;
    /// let len = db.get_with(b"greeting", |value| value.len())?;
    /// assert_eq!(len, Some(5));
    /// // Another key, from what this one holds.
    /// db.get_with(b"greeting", |value| db.put(b"copy", value))?.transpose()?;
    /// assert_eq!(db.get(b"copy")?.as_deref(), Some(&b"hello"[..]));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.handle.core.get_with(self.id, key.as_ref(), f)
    }

    /// The value of a key without a copy, to be kept as long as it is needed; [`PinnedValue`] says what that keeps alive.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// db.put(b"page", vec![7; 100_000])?;
    /// let page = db.get_pinned(b"page")?.expect("it was put");
    /// db.delete(b"page")?;
    /// assert_eq!(page.len(), 100_000); // as it was
    /// std::thread::spawn(move || assert_eq!(page[0], 7)).join().expect("no panic");
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get_pinned(&self, key: impl AsRef<[u8]>) -> Result<Option<PinnedValue>> {
        self.handle.core.get_pinned(self.id, key.as_ref())
    }

    /// The value of a key with its expiry and the number of its commit.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn get_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        self.handle.core.get_entry(self.id, key.as_ref())
    }

    /// True when the key has a value.
    ///
    /// # Errors
    /// As [`Keyspace::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.handle.core.contains_key(self.id, key.as_ref())
    }

    /// The values of many keys, in their order: faster than as many gets, since memory is asked for ahead of its use.
    /// Not a snapshot: each is read at its own moment.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// db.put_batch([("a", "1", None), ("b", "2", None)])?;
    /// let values = db.multi_get(["b", "?", "a"])?;
    /// assert_eq!(values, [Some("2".into()), None, Some("1".into())]);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`], if one of the keys fails.
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        self.handle.core.multi_get(self.id, keys)
    }

    /// As [`Keyspace::multi_get`], but without copies: `f` is called once for each key, with its place among the keys and
    /// its value, in no particular order. What [`Keyspace::get_with`] allows, `f` may do here.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// db.put_batch([("a", "1", None), ("b", "22", None)])?;
    /// let mut bytes = [0; 3];
    /// db.multi_get_with(["a", "?", "b"], |n, value| bytes[n] = value.map_or(0, <[u8]>::len))?;
    /// assert_eq!(bytes, [1, 0, 2]);
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`], at a key that fails; `f` was called for some of the others.
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        mut f: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let show = |n, found: Option<Found<'_>>| f(n, found.map(|found| found.record.value));
        self.handle.core.get_many(self.id, keys, show)
    }

    /// All entries in key order. `.rev()` walks backwards, [`Scan::keys`] leaves the values out.
    pub fn iter(&self) -> Scan {
        self.scan(KeyRange::all())
    }

    /// The entries of a range of keys. Crossed bounds give an empty range.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// # if !db.stats().build.ordered { return Ok(()); }
    /// db.put_batch([("a", "1", None), ("b", "2", None), ("c", "3", None)])?;
    /// let newest = db.range("a".."c").next_back().transpose()?;
    /// assert_eq!(newest.expect("two entries").0, "b");
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.scan(KeyRange::new(range))
    }

    /// The entries whose keys start with a prefix; the empty prefix means all.
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.scan(KeyRange::prefix(prefix.as_ref()))
    }

    /// Shows the entries of a range to `f`, from the lowest key up, until `f` breaks. Nothing is copied: key and value are
    /// where they lie in the index and the log.
    ///
    /// No lock is held: `f` may use the database, also write to it. What was replaced or deleted is not freed meanwhile, for
    /// 16 entries at a time. As for [`Keyspace::iter`], this is not a snapshot.
    ///
    /// ```
    /// # use std::ops::ControlFlow;
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// # if !db.stats().build.ordered { return Ok(()); }
    /// db.put_batch([("a", "1", None), ("b", "22", None), ("c", "3", None)])?;
    /// let mut bytes = 0;
    /// let long = db.scan_with("a".., |key, value| {
    ///     bytes += value.len();
    ///     if value.len() > 1 { ControlFlow::Break(key.to_vec()) } else { ControlFlow::Continue(()) }
    /// })?;
    /// assert_eq!((long, bytes), (ControlFlow::Break(b"b".to_vec()), 3));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Keyspace::get`], at the first entry that cannot be read; and as [`Scan`] for the scan itself.
    pub fn scan_with<K: AsRef<[u8]>, B>(
        &self,
        range: impl RangeBounds<K>,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.handle.core.scan_with(self.id, &KeyRange::new(range), Direction::Forward, f)
    }

    /// As [`Keyspace::scan_with`], from the highest key down.
    ///
    /// # Errors
    /// As [`Keyspace::scan_with`].
    pub fn scan_with_rev<K: AsRef<[u8]>, B>(
        &self,
        range: impl RangeBounds<K>,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.handle.core.scan_with(self.id, &KeyRange::new(range), Direction::Reverse, f)
    }

    /// As [`Keyspace::scan_with`], over the keys that start with a prefix.
    ///
    /// # Errors
    /// As [`Keyspace::scan_with`].
    pub fn scan_prefix_with<B>(
        &self,
        prefix: impl AsRef<[u8]>,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        let range = KeyRange::prefix(prefix.as_ref());
        self.handle.core.scan_with(self.id, &range, Direction::Forward, f)
    }

    /// All keys in order.
    pub fn keys(&self) -> Keys {
        self.iter().keys()
    }

    /// The entry with the lowest key.
    ///
    /// # Errors
    /// As [`Keyspace::get`]; `Unsupported` when the build keeps no key order.
    pub fn first_key_value(&self) -> Result<Option<(Bytes, Bytes)>> {
        self.iter().next().transpose()
    }

    /// The entry with the highest key.
    ///
    /// # Errors
    /// As [`Keyspace::first_key_value`].
    pub fn last_key_value(&self) -> Result<Option<(Bytes, Bytes)>> {
        self.iter().next_back().transpose()
    }

    fn scan(&self, range: KeyRange) -> Scan {
        Scan::new(Arc::clone(&self.handle.core), self.id, range)
    }

    fn write<'a>(&self, key: &'a [u8], change: Change<'a>) -> Write<'a> {
        Write { keyspace: self.id, key, change }
    }
}

impl AsRef<Keyspace> for Keyspace {
    fn as_ref(&self) -> &Keyspace {
        self
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace").field("name", &self.name).finish_non_exhaustive()
    }
}
