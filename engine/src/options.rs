//! What a user can set: durability modes, compression, the options of an opening and of a single put.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::parts::{self, Clock, Platform, WorkerPool};
use crate::snapshot::SnapshotOptions;
use crate::stats::Progress;

/// When a commit is acknowledged. The contract of each mode:
///
/// | mode | acknowledged when | after SIGKILL | after a power cut |
/// |---|---|---|---|
/// | `Always` | an fdatasync that started after the append returned OK | all acknowledged | all acknowledged |
/// | `Group` | the same; the leader may gather other writers first | all | all |
/// | `EveryN(n)` | appended, while fewer than n acknowledged commits are unsynced; else the sync comes first | all | all but the newest n - 1 |
/// | `Interval(t)` | appended; a timer thread syncs | all | all older than max(t, d) + d, d = one sync; the rest is a prefix |
/// | `Checkpoint` | appended; synced at `sync()`, or past the checkpoint threshold | all | at least the last completed `sync()` |
/// | `None` | appended | all | a prefix |
///
/// A commit is durable together with everything before it. An in-memory database takes every mode, and keeps nothing
/// after the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Sync before each acknowledgement; concurrent commits share the sync.
    Always,
    /// As `Always`, but the leader of a sync may wait for other writers.
    Group {
        /// The longest that a leader waits; never for a lone writer.
        max_wait: Duration,
        /// So many waiting commits end the wait. It never limits how many share a sync.
        max_batch: u32,
    },
    /// At most `n - 1` acknowledged commits are unsynced.
    EveryN(u32),
    /// A background thread syncs at this interval.
    Interval(Duration),
    /// Synced on request.
    Checkpoint,
    /// Synced when a segment is full, and at close.
    None,
}

impl Durability {
    /// `Group` with its defaults: 1 ms, 100 commits.
    pub const fn group() -> Self {
        Durability::Group { max_wait: Duration::from_millis(1), max_batch: 100 }
    }

    /// True when an acknowledgement means "survives a power cut".
    pub fn is_durable(&self) -> bool {
        matches!(self, Durability::Always | Durability::Group { .. } | Durability::EveryN(0 | 1))
    }

    fn validate(&self) -> Result<()> {
        match self {
            Durability::Interval(t) if t.is_zero() => Err(Error::invalid(
                "a sync interval of zero never ends; use Durability::Always to sync each commit",
            )),
            Durability::EveryN(0) => Err(Error::invalid(
                "EveryN(0) means nothing; use EveryN(1) or Durability::Always to sync each commit",
            )),
            _ => Ok(()),
        }
    }
}

impl Default for Durability {
    fn default() -> Self {
        Durability::group()
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Durability::Always => f.write_str("always"),
            Durability::Group { max_wait, max_batch } => {
                write!(f, "group ({} ms, {max_batch})", max_wait.as_secs_f64() * 1e3)
            }
            Durability::EveryN(n) => write!(f, "every {n}"),
            Durability::Interval(t) => write!(f, "interval ({} ms)", t.as_secs_f64() * 1e3),
            Durability::Checkpoint => f.write_str("checkpoint"),
            Durability::None => f.write_str("none"),
        }
    }
}

/// How commits of 4 KiB and more are stored when that pays. Readers take every codec of the build, whatever is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// Snappy: fast, for text and JSON a third to two thirds smaller. Needs the feature `snappy`.
    Snappy,
    /// LZ4. No build has it so far.
    Lz4,
    /// Zstandard at a level. No build has it so far.
    Zstd(i32),
}

impl From<bool> for Compression {
    /// `true` is Snappy.
    fn from(on: bool) -> Self {
        if on { Compression::Snappy } else { Compression::None }
    }
}

/// Options of one put.
///
/// ```
/// # use cortenkv::{Db, Durability, PutOptions};
/// # use std::time::Duration;
/// # let db = Db::open_in_memory()?;
/// let options = PutOptions::new().ttl(Duration::from_secs(60)).durability(Durability::Always);
/// db.put_with(b"session", b"42", options)?;
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct PutOptions {
    pub(crate) lifetime: Lifetime,
    pub(crate) durability: Option<Durability>,
}

impl PutOptions {
    /// The default time to live of the keyspace if it has one, else none; the durability of the database.
    pub fn new() -> Self {
        Self::default()
    }

    /// The entry ends after this time, counted from now by the wall clock. Fractions of a millisecond count as one.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.lifetime = Lifetime::Ttl(ttl);
        self
    }

    /// The entry stays until it is replaced, whatever the default time to live of the keyspace is.
    pub fn no_ttl(mut self) -> Self {
        self.lifetime = Lifetime::Endless;
        self
    }

    /// The durability of this put only.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }
}

/// How long an entry is to live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// As its keyspace says.
    #[default]
    Default,
    Ttl(Duration),
    Endless,
}

impl From<Option<Duration>> for Lifetime {
    /// `None` is the default of the keyspace.
    fn from(ttl: Option<Duration>) -> Self {
        ttl.map_or(Lifetime::Default, Lifetime::Ttl)
    }
}

/// A listener to the progress of an opening.
pub(crate) type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// What the index is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct IndexOptions {
    /// Shards of the hash table; `None` leaves it to the index.
    pub(crate) shards: Option<u32>,
    /// Makes do with a few shards; for tests.
    pub(crate) few_shards: bool,
    /// Whether keys are kept in order; `None` means "if the build can".
    pub(crate) ordered: Option<bool>,
    /// Makes runs so small that every few puts a merge is due; for tests.
    pub(crate) tiny_runs: bool,
}

/// The shards of the hash table that a database may have.
const INDEX_SHARDS: std::ops::RangeInclusive<u32> = 64..=1024; // LIMIT: what was measured.

impl IndexOptions {
    fn validate(&self) -> Result<()> {
        match self.shards {
            Some(shards) if !(INDEX_SHARDS.contains(&shards) && shards.is_power_of_two()) => {
                return Err(Error::invalid(format!(
                    "the index cannot have {shards} shards; use a power of two from 64 to 1024, or leave it out"
                )));
            }
            _ if !parts::BUILD.index && (self.few_shards || self.shards.is_some()) => {
                return Err(Error::unsupported(
                    "index_shards is set, but this build has no hash index; enable the feature `index`",
                ));
            }
            _ => {}
        }
        if (self.ordered == Some(true) || self.tiny_runs) && !parts::BUILD.ordered {
            return Err(Error::unsupported(
                "ordered is set, but this build keeps no key order; enable the feature `ordered`",
            ));
        }
        Ok(())
    }
}

/// LIMIT: threads of a pool.
const WORKERS_MAX: u32 = 256;

/// Refuses a number of workers that can never be.
pub(crate) fn check_workers(workers: u32, workers_max: u32) -> Result<()> {
    if workers > WORKERS_MAX {
        return Err(Error::invalid(format!(
            "sched.worker_count is {workers}; it may be 0 (automatic) to {WORKERS_MAX}"
        )));
    }
    match workers_max {
        0 => Err(Error::invalid("sched.max_workers is 0; it must be at least 1")),
        _ => Ok(()),
    }
}

/// Everything that an opening can be told; the builder fills it in.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) durability: Durability,
    pub(crate) compression: Compression,
    pub(crate) segment_bytes: u64,
    pub(crate) checkpoint_threshold_bytes: u64,
    pub(crate) tickets_max: usize,
    pub(crate) manual: bool,
    pub(crate) salvage: bool,
    pub(crate) read_only: bool,
    pub(crate) verify_reads: bool,
    pub(crate) allow_writable_by_others: bool,
    pub(crate) platform: Platform,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) progress: Option<ProgressFn>,
    pub(crate) index: IndexOptions,
    /// `None`: in the background where the build can.
    pub(crate) async_compaction: Option<bool>,
    /// `None`: kept where the build can.
    pub(crate) index_images: Option<bool>,
    /// Bytes of log after which an image is written; for tests.
    pub(crate) image_log_bytes_min: Option<u64>,
    /// Options of parts that no build has so far; [`Options::validate`] refuses them by name.
    pub(crate) write_back_cache: bool,
    pub(crate) cache_capacity_bytes: u64,
    pub(crate) memory_budget_bytes: u64,
    pub(crate) snapshots: SnapshotOptions,
    /// The reserve of a full disk, `None` for automatic.
    pub(crate) reserve_bytes: Option<u64>,
    /// The workers of the pool, 0 for automatic, and the most that this comes to.
    pub(crate) workers: (u32, u32),
    /// The pool, in place of one by `workers`.
    pub(crate) pool: Option<WorkerPool>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            durability: Durability::default(),
            compression: Compression::None,
            segment_bytes: 0,
            checkpoint_threshold_bytes: 0,
            tickets_max: 65_536,
            manual: false,
            salvage: false,
            read_only: false,
            verify_reads: true,
            allow_writable_by_others: false,
            platform: Platform::default(),
            clock: Arc::new(parts::SystemClock),
            progress: None,
            index: IndexOptions::default(),
            async_compaction: None,
            index_images: None,
            image_log_bytes_min: None,
            write_back_cache: false,
            cache_capacity_bytes: 0,
            memory_budget_bytes: 0,
            snapshots: SnapshotOptions::default(),
            reserve_bytes: None,
            workers: (0, WORKERS_MAX),
            pool: None,
        }
    }
}

impl Options {
    /// Refuses what can never work, and what this build cannot do.
    pub(crate) fn validate(&self) -> Result<()> {
        self.durability.validate()?;
        self.index.validate()?;
        match self.compression {
            Compression::None => {}
            Compression::Snappy if parts::BUILD.snappy => {}
            Compression::Snappy => {
                return Err(Error::unsupported(
                    "compression is set to Snappy, but this build has no codec; enable the feature `snappy`",
                ));
            }
            other => {
                return Err(Error::unsupported(format!(
                    "compression is set to {other:?}, but this version has no such codec; use Snappy or None"
                )));
            }
        }
        parts::check_compaction(self)?;
        parts::check_images(self)?;
        let absent = [
            ("write_back_cache", self.write_back_cache),
            ("cache_capacity", self.cache_capacity_bytes != 0),
            ("memory_budget", self.memory_budget_bytes != 0),
        ];
        if let Some((name, _)) = absent.iter().find(|(_, set)| *set) {
            return Err(Error::unsupported(format!(
                "{name} is set, but this version has no such part; leave it off"
            )));
        }
        check_workers(self.workers.0, self.workers.1)
    }

    /// Whether keys are kept in order.
    pub(crate) fn is_ordered(&self) -> bool {
        parts::BUILD.ordered && self.index.ordered != Some(false)
    }

    /// The durability that a single operation asked for, checked.
    pub(crate) fn durability_of(&self, asked: Option<Durability>) -> Result<Durability> {
        match asked {
            Some(durability) => durability.validate().map(|()| durability),
            None => Ok(self.durability),
        }
    }
}
