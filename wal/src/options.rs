//! What a user can set: durability modes and the options of a log.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::known::KnownSegment;
use crate::retire::{RetiredSegment, validate_retired};
use crate::vfs::{OsVfs, Vfs};

/// When a commit is acknowledged. The contract of each mode, which the crash suites check:
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
/// A commit is durable together with everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Sync before each acknowledgement; concurrent commits share the sync.
    Always,
    /// As `Always`, but the leader of a sync may wait for other writers.
    Group {
        /// The longest that a leader waits. It also ends the wait early: it never waits longer than a fraction of
        /// the usual duration of a sync, and not at all for a lone writer.
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
}

impl Default for Durability {
    fn default() -> Self {
        Durability::group()
    }
}

/// How appended bytes reach the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TailKind {
    /// `Written` when the default durability is `Always` or `Group`, else `Mapped`; `Written` where mapping is
    /// impossible.
    #[default]
    Auto,
    /// Stored into a shared mapping: the fastest append that survives SIGKILL.
    Mapped,
    /// Staged in memory and written by the leader of the sync, in one `pwrite` for the group: the fastest sync.
    Written,
}

/// Who does the work that no caller waits for: interval syncs, preparing segments, leading for futures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Background {
    /// Two threads of the log: one syncs, one makes room.
    #[default]
    Thread,
    /// The caller, through `Wal::step`: one thread can then drive everything in a seeded order.
    Manual,
}

/// What recovery does about damage that no crash explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Damage {
    /// Open fails with `Corruption`, and nothing is changed.
    #[default]
    Refuse,
    /// Keep every intact commit, skip what is damaged, and count it in the report.
    Salvage,
}

/// The options of a log. Make one with `WalOptions::default()` and the setters.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WalOptions {
    /// Of every append that does not say otherwise.
    pub durability: Durability,
    /// Compress commits of 4 KiB and more with Snappy when it pays. `true` without the feature `snappy` is `Unsupported`.
    pub compression: bool,
    /// Nominal size of a segment in bytes; 0 = by the size of the log (1, 4, 16, 64 MiB). At most 64 MiB.
    pub segment_bytes: u64,
    /// Space is reserved in windows of this many bytes (a multiple of 4096); 0 = 1 MiB, or less in smaller segments.
    pub window_bytes: u64,
    /// In `Checkpoint` mode, unsynced bytes past which a background sync starts; 0 = only on request.
    pub checkpoint_threshold_bytes: u64,
    /// How appended bytes reach the file.
    pub tail: TailKind,
    /// Who does the background work.
    pub background: Background,
    /// What recovery does about damage.
    pub damage: Damage,
    /// Open although group or others may write to the directory.
    pub allow_writable_by_others: bool,
    /// Bound of pending tickets; beyond it `append_async` answers `Busy`.
    pub tickets_max: usize,
    /// The identity of the owner, in every segment header; a segment of another owner is refused. Zero = take that of
    /// the log that is there, or a random one for a new log.
    pub owner: [u8; 16],
    /// Sixteen bytes of the owner's choice in every segment header (the engine keeps its hash id and seed there).
    pub owner_data: [u8; 16],
    /// Segments that were retired by [`Wal::retire`](crate::Wal::retire), as their owner has written down: recovery goes
    /// through them as if they were there and empty, and removes what a crash left of their files.
    pub retired: Vec<RetiredSegment>,
    /// Segments whose records the owner has already: recovery takes them for intact up to these ends, reads no more of them
    /// than their first frame, and does not replay them. What does not look as it is said to is scanned and replayed;
    /// that it was durable counts in any case, so commits of it that are missing are damage.
    pub known: Vec<KnownSegment>,
    /// Whether recovery offers the records to the handler, as it does unless this is off: then the owner asks for those of
    /// each segment by [`Wal::replay`](crate::Wal::replay), once it can read others at the same time.
    pub replay: bool,
    /// The file system.
    pub vfs: Arc<dyn Vfs>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Called from time to time while the log is opened.
    pub progress: Option<ProgressCallback>,
}

/// How far an open has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the log that were verified or replayed so far.
    pub bytes_done: u64,
    /// All that there are: each byte is verified once and replayed once.
    pub bytes_total: u64,
}

/// A function that is told how far an open has come.
#[derive(Clone)]
pub struct ProgressCallback(Arc<dyn Fn(Progress) + Send + Sync>);

impl ProgressCallback {
    /// Wraps a function. It is called from several threads, at most a few times per segment.
    pub fn new(callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        ProgressCallback(Arc::new(callback))
    }

    pub(crate) fn call(&self, progress: Progress) {
        (self.0)(progress);
    }
}

impl std::fmt::Debug for ProgressCallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProgressCallback")
    }
}

impl Default for WalOptions {
    fn default() -> Self {
        WalOptions {
            durability: Durability::default(),
            compression: false,
            segment_bytes: 0,
            window_bytes: 0,
            checkpoint_threshold_bytes: 0,
            tail: TailKind::Auto,
            background: Background::Thread,
            damage: Damage::Refuse,
            allow_writable_by_others: false,
            tickets_max: 65_536,
            owner: [0; 16],
            owner_data: [0; 16],
            retired: Vec::new(),
            known: Vec::new(),
            replay: true,
            vfs: Arc::new(OsVfs::new()),
            clock: Arc::new(SystemClock),
            progress: None,
        }
    }
}

/// Smallest segment: a header, and a few records.
pub const SEGMENT_BYTES_MIN: u64 = 16 << 10;
/// Largest segment: 2^23 units of 8 bytes, so that an address fits the index entry of the engine.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// Setters.
        impl WalOptions {
            $($(#[$doc])* #[must_use] pub fn $name(mut self, $name: $type) -> Self { self.$name = $name; self })*
        }
    };
}

setters! {
    /// Sets [`WalOptions::durability`].
    durability: Durability,
    /// Sets [`WalOptions::compression`].
    compression: bool,
    /// Sets [`WalOptions::segment_bytes`].
    segment_bytes: u64,
    /// Sets [`WalOptions::window_bytes`].
    window_bytes: u64,
    /// Sets [`WalOptions::checkpoint_threshold_bytes`].
    checkpoint_threshold_bytes: u64,
    /// Sets [`WalOptions::tail`].
    tail: TailKind,
    /// Sets [`WalOptions::background`].
    background: Background,
    /// Sets [`WalOptions::damage`].
    damage: Damage,
    /// Sets [`WalOptions::allow_writable_by_others`].
    allow_writable_by_others: bool,
    /// Sets [`WalOptions::tickets_max`].
    tickets_max: usize,
    /// Sets [`WalOptions::owner`].
    owner: [u8; 16],
    /// Sets [`WalOptions::owner_data`].
    owner_data: [u8; 16],
    /// Sets [`WalOptions::retired`].
    retired: Vec<RetiredSegment>,
    /// Sets [`WalOptions::known`].
    known: Vec<KnownSegment>,
    /// Sets [`WalOptions::replay`].
    replay: bool,
    /// Sets [`WalOptions::vfs`].
    vfs: Arc<dyn Vfs>,
    /// Sets [`WalOptions::clock`].
    clock: Arc<dyn Clock>,
    /// Sets [`WalOptions::progress`].
    progress: Option<ProgressCallback>,
}

impl WalOptions {
    /// Whether appends are stored through a mapping.
    pub(crate) fn is_mapped(&self) -> bool {
        match self.tail {
            TailKind::Mapped => true,
            TailKind::Written => false,
            TailKind::Auto => !self.durability.is_durable(),
        }
    }

    /// Refuses what can never work.
    pub(crate) fn validate(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::new(ErrorKind::InvalidArgument, text));
        validate_durability(self.durability)?;
        validate_retired(&self.retired)?;
        if self.segment_bytes != 0
            && !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
        {
            return invalid(format!(
                "segment_bytes is {}; it must be 0 or between {SEGMENT_BYTES_MIN} and {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            ));
        }
        if !self.window_bytes.is_multiple_of(4096) || self.window_bytes > SEGMENT_BYTES_MAX {
            return invalid(format!(
                "window_bytes is {}; it must be 0 or a multiple of 4096 up to {SEGMENT_BYTES_MAX}",
                self.window_bytes
            ));
        }
        if self.compression && !cfg!(feature = "snappy") {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "compression is on, but this build has no codec; enable the feature `snappy`",
            ));
        }
        Ok(())
    }
}

#[inline]
pub(crate) fn validate_durability(durability: Durability) -> Result<()> {
    match durability {
        Durability::Interval(t) if t.is_zero() => Err(Error::new(
            ErrorKind::InvalidArgument,
            "a sync interval of zero never ends; use Durability::Always to sync each commit",
        )),
        Durability::EveryN(0) => Err(Error::new(
            ErrorKind::InvalidArgument,
            "EveryN(0) means nothing; use EveryN(1) or Durability::Always to sync each commit",
        )),
        _ => Ok(()),
    }
}
