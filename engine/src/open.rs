//! Opening: options checked, the log replayed, the index filled, the handle made.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::background;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::core::Core;
use crate::db::Db;
use crate::error::{Error, ErrorKind, Result};
use crate::install::{Installer, ReplayTable};
use crate::log::{Log, Opened};
use crate::memory_log::MemoryLog;
use crate::options::{Compression, Durability, Options};
use crate::parts::{
    Clock, Compaction, Images, Index, Liveness, RunFiles, WorkerPool, open_durable,
};
use crate::record::KeyspaceId;
use crate::stats::{OpenReport, Progress};

/// The options of an opening; made by [`Db::builder`]. Of two settings of one thing the last wins.
///
/// An option of a part that this build lacks makes [`Builder::build`] answer `Unsupported`; none is ignored.
///
/// ```
/// # use cortenkv::{Db, Durability};
/// let db = Db::builder_in_memory().durability(Durability::None).build()?;
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[must_use = "a builder opens nothing before `build`"]
pub struct Builder {
    /// `None` for a database in memory.
    dir: Option<PathBuf>,
    pub(crate) options: Options,
    /// The first setting that made no sense; `build` answers it.
    failure: Option<Error>,
}

impl Builder {
    pub(crate) fn on_disk(dir: &Path) -> Self {
        Builder { dir: Some(dir.to_path_buf()), options: Options::default(), failure: None }
    }

    pub(crate) fn in_memory() -> Self {
        Builder { dir: None, options: Options::default(), failure: None }
    }

    /// When commits are acknowledged that ask for nothing else.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.options.durability = durability;
        self
    }

    /// Short for [`Durability::Interval`].
    pub fn sync_interval(self, interval: Duration) -> Self {
        self.durability(Durability::Interval(interval))
    }

    /// The old switch: `true` is [`Durability::Always`], `false` is [`Durability::None`].
    #[deprecated(note = "use `durability(Durability::Always)` or `durability(Durability::None)`")]
    pub fn fsync_on_commit(self, on: bool) -> Self {
        self.durability(if on { Durability::Always } else { Durability::None })
    }

    /// The codec of commits of 4 KiB and more: `true` is Snappy. What is stored is read whatever is set.
    pub fn compression(mut self, compression: impl Into<Compression>) -> Self {
        self.options.compression = compression.into();
        self
    }

    /// Nominal size of a log segment in bytes: 0 = by the size of the database, else 16 KiB to 64 MiB.
    pub fn segment_bytes(mut self, segment_bytes: u64) -> Self {
        self.options.segment_bytes = segment_bytes;
        self
    }

    /// Under [`Durability::Checkpoint`]: unsynced bytes past which a background sync starts; 0 = only on request.
    pub fn checkpoint_threshold_bytes(mut self, threshold_bytes: u64) -> Self {
        self.options.checkpoint_threshold_bytes = threshold_bytes;
        self
    }

    /// The most tickets that may be pending; beyond it `commit_async` answers `Busy`. 65,536 unless set.
    pub fn tickets_max(mut self, tickets_max: usize) -> Self {
        self.options.tickets_max = tickets_max;
        self
    }

    /// Starts no thread: background work is done by [`Db::step`], so that one thread can drive everything.
    pub fn manual(mut self) -> Self {
        self.options.manual = true;
        self
    }

    /// Opens a damaged database with every commit that is intact, and counts what is not in the report. Without it,
    /// damage that no crash explains is `Corruption`, and nothing is changed.
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.options.salvage = salvage;
        self
    }

    /// Opens a database only to look at it: a fixed view of this moment, also while another process writes. No file is created,
    /// changed, removed or locked; writes answer `Unsupported`, and no thread is started. What an opening repairs
    /// (a torn end, say) is repaired in memory: it takes memory for what a crash left behind the last mark.
    ///
    /// If the owner removes files meanwhile, the opening begins anew, up to 10 times. A database in memory is not affected.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.options.read_only = read_only;
        self
    }

    /// Whether every read verifies the checksum of the record, as it does unless set: about 20 ns for a small record. With
    /// `false` damage that a disk or memory did after the opening can come out as a wrong value.
    pub fn verify_reads(mut self, verify: bool) -> Self {
        self.options.verify_reads = verify;
        self
    }

    /// Opens although group or others may write to the directory.
    pub fn allow_writable_by_others(mut self, allow: bool) -> Self {
        self.options.allow_writable_by_others = allow;
        self
    }

    /// Shards of the hash index, a power of two from 64 to 1024; 256 unless set. More of them make a resize of one shorter.
    pub fn index_shards(mut self, shards: u32) -> Self {
        self.options.index.shards = Some(shards);
        self
    }

    /// Makes do with a few shards of the hash index, fewer than are worth it for a database that lives longer than a moment.
    #[cfg(feature = "test-util")]
    pub fn few_index_shards(mut self) -> Self {
        self.options.index.few_shards = true;
        self
    }

    /// Whether keys are kept in order for scans, as they are unless this says `false`. Without it scans answer `Unsupported`,
    /// and key order costs nothing.
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.options.index.ordered = Some(ordered);
        self
    }

    /// The clock that expiries and intervals are measured by.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.options.clock = clock;
        self
    }

    /// Bytes of the disk that are kept for what frees space, in a file `RESERVE`; 0 = none. Unless set: 1 MiB, or more for a
    /// large database, up to 5 % of what lives and one segment.
    ///
    /// When the disk is full, deletes, compaction and the manifest get this room, and puts answer `StorageFull` until space is
    /// back; then it is reserved again. A database in memory has none.
    pub fn reserve_bytes(mut self, reserve_bytes: u64) -> Self {
        self.options.reserve_bytes = Some(reserve_bytes);
        self
    }

    /// A listener to the progress of the opening; it is called from the opening thread or its helpers.
    pub fn progress(mut self, listener: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.options.progress = Some(Arc::new(listener));
        self
    }

    /// Whether segments that fill with garbage are rewritten in the background, as they are unless this says `false`: then
    /// whoever writes does a piece of that work first, in proportion to the write and to how much there is to do, so that
    /// space stays bounded without a worker (commits with a ticket do none); [`Db::compact`] and [`Db::step`] do it, too.
    pub fn async_compaction(mut self, on: bool) -> Self {
        self.options.async_compaction = Some(on);
        self
    }

    /// Whether an image of the index is kept, which an open reads in place of the log before it, as it is unless this says
    /// `false`: then every open replays all segments.
    pub fn index_images(mut self, on: bool) -> Self {
        self.options.index_images = Some(on);
        self
    }

    /// An image is written in the background once an open would have to read so many bytes more, in place of 64 MiB.
    #[cfg(feature = "test-util")]
    pub fn image_log_bytes_min(mut self, bytes: u64) -> Self {
        self.options.image_log_bytes_min = Some(bytes);
        self
    }

    /// The workers that do the background work, shared with other databases. Unless set, all databases of the process share
    /// one pool.
    pub fn worker_pool(mut self, pool: &WorkerPool) -> Self {
        self.options.pool = Some(pool.clone());
        self
    }

    /// A write-back cache. This version has none: `true` is `Unsupported`.
    pub fn write_back_cache(mut self, on: bool) -> Self {
        self.options.write_back_cache = on;
        self
    }

    /// Capacity of the read cache in bytes. This version has none: anything but 0 is `Unsupported`.
    pub fn cache_capacity(mut self, capacity_bytes: u64) -> Self {
        self.options.cache_capacity_bytes = capacity_bytes;
        self
    }

    /// A bound of memory in bytes. This version holds none: anything but 0 is `Unsupported`.
    pub fn memory_budget(mut self, budget_bytes: u64) -> Self {
        self.options.memory_budget_bytes = budget_bytes;
        self
    }

    /// Takes every setting that a configuration has.
    pub fn config(mut self, config: Config) -> Self {
        if let Err(error) = config.apply_to(&mut self.options) {
            self.failure.get_or_insert(error);
        }
        self
    }

    /// Opens the database.
    ///
    /// # Errors
    /// As [`Db::open`], `InvalidArgument` for options that can never work, and `Unsupported` for those that this build
    /// cannot do.
    pub fn build(self) -> Result<Db> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        self.options.validate()?;
        match self.dir {
            Some(dir) if self.options.read_only => open_read_only(&dir, self.options),
            Some(dir) => open_on_disk(&dir, self.options),
            None => open_in_memory(self.options),
        }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn open_in_memory(options: Options) -> Result<Db> {
    if options.compression != Compression::None {
        return Err(Error::unsupported(
            "compression is set, but a database in memory stores values as they are; leave it off",
        ));
    }
    let installer = Arc::new(Installer::default());
    let log = Log::Memory(MemoryLog::new(Arc::clone(&installer)));
    // Nothing of it leaves the process, so any seed does; with a fixed one runs repeat.
    let index = Index::new(0, &options.index, 0, RunFiles::in_memory())?;
    let core =
        Core::new(log, index, Catalog::in_memory(), Compaction::none(), Images::none(), options);
    go_live(Arc::new(core), &installer, OpenReport { created: true, ..OpenReport::default() })
}

fn open_on_disk(dir: &Path, options: Options) -> Result<Db> {
    let liveness = Liveness::default();
    let installer = Arc::new(Installer::new(liveness.clone()));
    let Opened { log, manifest, keyspaces, hash_seed, images, mut image, mut report } =
        open_durable(dir, &options, &installer)?;
    let runs = RunFiles::open(&options.platform, dir, &images.run_files());
    images.hold_runs(&runs);
    let images = images.into_images(&options, &manifest, &liveness);
    let compaction = Compaction::new(liveness, Arc::clone(&manifest));
    let catalog = Catalog::durable(manifest, keyspaces);
    check_keyspaces(dir, &catalog, &installer)?;
    let keys = installer.with_replayed(ReplayTable::len);
    let index = match &mut image {
        Some(image) => image.index(hash_seed, &options.index, runs),
        None => Index::new(hash_seed, &options.index, keys, runs)?,
    };
    let core = Core::new(Log::Durable(log), index, catalog, compaction, images, options);
    let core = Arc::new(core);
    if let Some(image) = image {
        let started = core.clock().monotonic();
        let (records, unknown) = image.fill(&core, &installer)?;
        if let Some(id) = unknown {
            return Err(unknown_keyspace(dir, id));
        }
        report.records += records;
        report.index_ms = (core.clock().monotonic() - started).as_millis() as u64;
    }
    let db = go_live(core, &installer, report)?;
    // An index that could not take every record would answer "not there" for the rest.
    db.core().check_writable()?;
    Ok(db)
}

fn open_read_only(dir: &Path, options: Options) -> Result<Db> {
    let platform = options.platform.clone();
    let db = platform.with_view(dir, |platform| {
        open_on_disk(dir, Options { platform, manual: true, ..options.clone() })
    })?;
    db.core().refuse_writes();
    Ok(db)
}

/// A keyspace is durable before its first record, so a record of an unknown one means a damaged manifest.
fn check_keyspaces(dir: &Path, catalog: &Catalog, installer: &Installer) -> Result<()> {
    let unknown =
        installer.with_replayed(|table| table.unknown_keyspace(|id| catalog.contains(id)));
    unknown.map_or(Ok(()), |id| Err(unknown_keyspace(dir, id)))
}

fn unknown_keyspace(dir: &Path, id: KeyspaceId) -> Error {
    let kind = ErrorKind::Corruption {
        file: dir.join("CURRENT"),
        offset: 0,
        expected: format!("a manifest that names keyspace {id}, which the log has records of"),
        found: "a manifest without it".into(),
    };
    Error::new(
        kind,
        format!(
            "the manifest of {} lacks keyspace {id}, which the log has records of: it is older than the log, or damaged; \
             restore CURRENT and the manifest from a copy",
            dir.display()
        ),
    )
}

fn go_live(core: Arc<Core>, installer: &Installer, mut report: OpenReport) -> Result<Db> {
    use std::sync::atomic::Ordering::Relaxed;
    let started = core.clock().monotonic();
    installer.go_live(&core)?;
    report.index_ms += (core.clock().monotonic() - started).as_millis() as u64;
    report.keys = core.counters.keys.load(Relaxed);
    core.report.set(report).expect("a database is opened once");
    let db = Db::new(core);
    let has_work = db.core().index.has_background_work() || db.core().images.are_kept();
    if !db.core().options.manual && has_work {
        background::start(db.core())?;
    }
    db.core().compaction.start(db.core())?;
    Ok(db)
}
