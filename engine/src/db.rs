//! The handle of a database.
//!
//! # Layout
//! A [`Db`] is the handle of its default keyspace plus what concerns the whole database; both reach the shared `Core`
//! through one [`Handle`], which closes the database when the last of them goes.

use std::fmt;
use std::ops::{ControlFlow, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::batch::Batch;
use crate::catalog::{DEFAULT_KEYSPACE, DEFAULT_KEYSPACE_ID};
use crate::config::Config;
use crate::core::Core;
use crate::error::Result;
use crate::keyspace::{CasConflict, Keyspace};
use crate::log::Log;
use crate::open::Builder;
use crate::options::PutOptions;
use crate::parts;
use crate::pinned::PinnedValue;
use crate::read::Entry;
use crate::record::SeqNo;
use crate::scan::{Keys, Scan};
use crate::stats::{OpenReport, Stats};

/// An open database, which is also the handle of its keyspace "default".
///
/// Clones are cheap and share the database; it closes when the last handle is dropped, or at [`Db::close`].
///
/// ```no_run
/// # use cortenkv::Db;
/// let db = Db::open("data")?;
/// db.put(b"key", b"value")?;
/// assert_eq!(db.get(b"key")?.as_deref(), Some(&b"value"[..]));
/// db.close()?;
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[derive(Clone)]
pub struct Db {
    default: Keyspace,
}

/// What all handles of one opening share; closes the database when it is dropped.
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Whoever wants to know whether it went well calls `close`.
        let _ = self.core.close();
    }
}

/// Opening and closing.
impl Db {
    /// Opens the database in a directory, and creates it where there is none, with the defaults:
    /// [`Durability::group()`](crate::Durability::group).
    ///
    /// # Errors
    /// `Locked` when it is open already, here or in another process; `InvalidArgument` when the path is not a directory
    /// or others may write to it; `Corruption` when a file is damaged; `Unsupported` when it was written by a newer
    /// version, or this build has no log on disk; `Io`, `StorageFull` from the operating system.
    pub fn open(path: impl AsRef<Path>) -> Result<Db> {
        Db::builder(path).build()
    }

    /// The options of an opening, to be ended by [`Builder::build`].
    pub fn builder(path: impl AsRef<Path>) -> Builder {
        Builder::on_disk(path.as_ref())
    }

    /// Opens the database in a directory with the settings of a configuration.
    ///
    /// # Errors
    /// As [`Db::open`], `InvalidArgument` for settings that can never work, and `Unsupported` for those that this build
    /// cannot do.
    pub fn open_with_config(path: impl AsRef<Path>, config: Config) -> Result<Db> {
        Db::builder(path).config(config).build()
    }

    /// A new database in memory, gone with its last handle.
    ///
    /// # Errors
    /// None today; a build with limits of its own may refuse.
    pub fn open_in_memory() -> Result<Db> {
        Db::builder_in_memory().build()
    }

    /// The options of a database in memory.
    pub fn builder_in_memory() -> Builder {
        Builder::in_memory()
    }

    pub(crate) fn new(core: Arc<Core>) -> Db {
        let handle = Arc::new(Handle { core });
        Db { default: Keyspace::new(handle, DEFAULT_KEYSPACE_ID, DEFAULT_KEYSPACE.into()) }
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.default.handle.core
    }

    #[allow(
        dead_code,
        reason = "a build without a log on disk gives out nothing that keeps it open"
    )]
    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.default.handle
    }

    /// What opening found and did.
    pub fn open_report(&self) -> OpenReport {
        self.core().report.get().cloned().unwrap_or_default()
    }

    /// Closes the database: syncs, resolves every pending ticket, and releases the directory. Other handles answer
    /// `Closed` from then on; iterators go on until they are dropped. Closing twice does nothing.
    ///
    /// # Errors
    /// `Io` or `Closed` when the last sync fails: what was acknowledged without a sync may be lost.
    pub fn close(&self) -> Result<()> {
        self.core().close()
    }
}

/// The whole database.
impl Db {
    /// The keyspace of this name, created (durably) where it does not exist.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty name or one with NUL or `/`, `LimitExceeded` for one beyond 255 bytes; otherwise as
    /// [`Keyspace::put`].
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        let core = self.core();
        core.check_open()?;
        let (name, id) = match core.catalog.get(name) {
            Some(existing) => existing,
            None => {
                core.check_writable()?;
                core.catalog.create(name).inspect_err(|error| core.note_failure(error))?
            }
        };
        Ok(Keyspace::new(Arc::clone(&self.default.handle), id, name))
    }

    /// The names of the keyspaces, in order; "default" is always there.
    ///
    /// # Errors
    /// `Closed` after `close`.
    pub fn keyspaces(&self) -> Result<Vec<String>> {
        self.core().check_open()?;
        Ok(self.core().catalog.names())
    }

    /// A new batch: writes to any keyspaces, committed together.
    pub fn batch(&self) -> Batch {
        Batch::new(Arc::clone(&self.default.handle))
    }

    /// Makes everything that was acknowledged durable, and returns the number of the newest commit covered.
    ///
    /// # Errors
    /// `Io` when the sync fails: nothing more can be promised, and every later write answers `Closed`.
    pub fn sync(&self) -> Result<SeqNo> {
        self.core().sync()
    }

    /// Brings everything that was acknowledged out of the process and makes it durable.
    ///
    /// # Errors
    /// As [`Db::sync`].
    pub fn flush(&self) -> Result<SeqNo> {
        self.core().sync()
    }

    /// Does one unit of background work, for a database built with [`Builder::manual`]; true if there was some.
    ///
    /// # Errors
    /// What the work ended with. A failure of the log is latched for later writes; `Corruption` of key order latches
    /// nothing, and later steps mend it.
    pub fn step(&self) -> Result<bool> {
        let core = self.core();
        core.check_open()?;
        Ok(core.log.step()? || core.maintain()? || core.compaction.step()?)
    }

    /// Sets the counters of [`Stats::log`] to zero; what exists (segments, pending tickets) stays counted.
    pub fn reset_stats(&self) {
        self.core().log.reset_stats();
    }

    /// The figures of the database.
    pub fn stats(&self) -> Stats {
        use std::sync::atomic::Ordering::Relaxed;
        let core = self.core();
        let index = core.index.stats();
        Stats {
            build: parts::BUILD,
            in_memory: matches!(core.log, Log::Memory(_)),
            durability: core.options.durability.to_string(),
            keyspaces: core.catalog.names().len() as u64,
            keys: core.counters.keys.load(Relaxed),
            tombstones: core.counters.tombstones.load(Relaxed),
            last_seq: core.log.last_seq(),
            durable_seq: core.log.durable_seq(),
            index_bytes: index.memory_bytes(),
            index,
            pinned_bytes: core.counters.pinned_bytes.load(Relaxed),
            log: core.log.stats(),
            compaction: core.compaction.stats(),
            pool: core.compaction.pool_stats(),
            open: self.open_report(),
        }
    }
}

/// The operations of the keyspace "default"; see [`Keyspace`] for what each promises.
impl Db {
    /// See [`Keyspace::put`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<SeqNo> {
        self.default.put(key, value)
    }

    /// See [`Keyspace::put_with`].
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: PutOptions,
    ) -> Result<SeqNo> {
        self.default.put_with(key, value, options)
    }

    /// See [`Keyspace::put_batch`].
    pub fn put_batch<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        items: impl IntoIterator<Item = (K, V, Option<Duration>)>,
    ) -> Result<SeqNo> {
        self.default.put_batch(items)
    }

    /// See [`Keyspace::delete`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<SeqNo> {
        self.default.delete(key)
    }

    /// See [`Keyspace::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.default.get(key)
    }

    /// See [`Keyspace::get_with`].
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.default.get_with(key, f)
    }

    /// See [`Keyspace::get_pinned`].
    pub fn get_pinned(&self, key: impl AsRef<[u8]>) -> Result<Option<PinnedValue>> {
        self.default.get_pinned(key)
    }

    /// See [`Keyspace::get_entry`].
    pub fn get_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        self.default.get_entry(key)
    }

    /// See [`Keyspace::contains_key`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.default.contains_key(key)
    }

    /// See [`Keyspace::multi_get`].
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        self.default.multi_get(keys)
    }

    /// See [`Keyspace::multi_get_with`].
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        f: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        self.default.multi_get_with(keys, f)
    }

    /// See [`Keyspace::compare_and_swap`].
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CasConflict>> {
        self.default.compare_and_swap(key, expected, new)
    }

    /// See [`Keyspace::put_if_absent`].
    pub fn put_if_absent(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<bool> {
        self.default.put_if_absent(key, value)
    }

    /// See [`Keyspace::iter`].
    pub fn iter(&self) -> Scan {
        self.default.iter()
    }

    /// See [`Keyspace::range`].
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.default.range(range)
    }

    /// See [`Keyspace::prefix`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.default.prefix(prefix)
    }

    /// See [`Keyspace::scan_with`].
    pub fn scan_with<K: AsRef<[u8]>, B>(
        &self,
        range: impl RangeBounds<K>,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.default.scan_with(range, f)
    }

    /// See [`Keyspace::scan_with_rev`].
    pub fn scan_with_rev<K: AsRef<[u8]>, B>(
        &self,
        range: impl RangeBounds<K>,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.default.scan_with_rev(range, f)
    }

    /// See [`Keyspace::scan_prefix_with`].
    pub fn scan_prefix_with<B>(
        &self,
        prefix: impl AsRef<[u8]>,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.default.scan_prefix_with(prefix, f)
    }

    /// See [`Keyspace::keys`].
    pub fn keys(&self) -> Keys {
        self.default.keys()
    }

    /// See [`Keyspace::first_key_value`].
    pub fn first_key_value(&self) -> Result<Option<(Bytes, Bytes)>> {
        self.default.first_key_value()
    }

    /// See [`Keyspace::last_key_value`].
    pub fn last_key_value(&self) -> Result<Option<(Bytes, Bytes)>> {
        self.default.last_key_value()
    }
}

impl AsRef<Keyspace> for Db {
    fn as_ref(&self) -> &Keyspace {
        &self.default
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("last_seq", &self.core().log.last_seq()).finish_non_exhaustive()
    }
}
