//! The handle of a database.
//!
//! # Layout
//! `operations` has those of the default keyspace.
//!
//! //! A [`Db`] is the handle of its default keyspace plus what concerns the whole database; both reach the shared `Core`
//! through one [`Handle`], which closes the database when the last of them goes.

mod operations;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::batch::Batch;
use crate::catalog::{DEFAULT_KEYSPACE, DEFAULT_KEYSPACE_ID};
use crate::config::Config;
use crate::core::Core;
use crate::error::Result;
use crate::keyspace::{Keyspace, KeyspaceOptions};
use crate::log::Log;
use crate::open::Builder;
use crate::parts;
use crate::record::SeqNo;
use crate::stats::{OpenReport, Stats};
use crate::ticket::Ticket;

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

    /// As [`Db::keyspace`], and tells it options for this opening of the database: see [`KeyspaceOptions`]. The name
    /// "default" stands for the keyspace of the `Db` itself.
    ///
    /// # Errors
    /// As [`Db::keyspace`], and `Unsupported` for an option that this build cannot honour.
    pub fn keyspace_with(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        options.validate()?;
        let keyspace = self.keyspace(name)?;
        keyspace.settings().set(options);
        Ok(keyspace)
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

    /// As [`Db::sync`], without blocking: the ticket shares a sync with whatever else waits for one.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// let seq = db.put(b"k", b"v")?;
    /// assert!(db.sync_async()?.wait()? >= seq); // or `.await`
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Closed`, and `Busy` when too many tickets are pending. What fails later is the answer of the ticket.
    pub fn sync_async(&self) -> Result<Ticket<SeqNo>> {
        let core = self.core();
        core.check_writable()?;
        core.log.sync_async().inspect_err(|error| core.note_failure(error))
    }

    /// As [`Db::flush`], without blocking.
    ///
    /// # Errors
    /// As [`Db::sync_async`].
    pub fn flush_async(&self) -> Result<Ticket<SeqNo>> {
        self.sync_async()
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
        Ok(core.log.step()?
            || core.give_up_snapshots()
            || core.maintain()?
            || core.compaction.step()?)
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
            snapshots: core.snapshot_stats(),
            transactions: core.counters.transactions.stats(),
            compaction: core.compaction.stats(),
            pool: core.compaction.pool_stats(),
            open: self.open_report(),
        }
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
