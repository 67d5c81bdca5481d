//! The settings of a database as data: what a configuration file holds, and the presets.
//!
//! With the feature `serde` a [`Config`] reads from and writes to any format; names and defaults in TOML:
//!
//! ```toml
//! [wal]
//! compression = "none"            # none, snappy
//! segment_bytes = 0               # 0 = by the size of the database
//! checkpoint_threshold_bytes = 0  # mode "checkpoint": sync in the background past so many bytes; 0 = never
//! reserve_bytes = 1048576         # kept for what frees space on a full disk; 0 = none, left out = by what lives
//!
//! [wal.fsync]
//! mode = "group"                  # always, group, every_n, interval, checkpoint, none
//! interval_ms = 1                 # group: longest wait of a leader; interval: period of the timer
//! max_batch_size = 100            # group: commits that end the wait; every_n: n
//!
//! [index]
//! shards = 0                      # of the hash table: 0 = 256, else a power of two from 64 to 1024
//! ordered = true                  # false: no key order, and scans answer Unsupported
//!
//! [sched]
//! worker_count = 0                # 0 = automatic: twice the larger of processors and databases
//! max_workers = 256               # the most that "automatic" comes to
//! ```

use std::time::Duration;

use crate::error::{Error, Result};
use crate::options::{Compression, Durability, Options};
use crate::parts;

/// The settings of a database. Start from a preset and change what differs.
///
/// ```
/// let mut config = cortenkv::Config::production();
/// config.wal.fsync.interval_ms = 2;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct Config {
    /// The log.
    pub wal: WalConfig,
    /// The index.
    pub index: IndexConfig,
    /// Background workers.
    pub sched: SchedConfig,
    /// The old switch: `true` means mode `always`, `false` means `none`. It wins over a mode that was left at its
    /// default, and must not contradict another one.
    #[deprecated(note = "set wal.fsync.mode to \"always\" or \"none\"")]
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub fsync_on_commit: Option<bool>,
}

/// The section `[wal]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct WalConfig {
    /// When commits are synced.
    pub fsync: FsyncConfig,
    /// The codec of commits of 4 KiB and more.
    pub compression: Compression,
    /// Nominal size of a log segment in bytes; 0 = by the size of the database.
    pub segment_bytes: u64,
    /// In mode `checkpoint`: unsynced bytes past which a background sync starts; 0 = only on request.
    pub checkpoint_threshold_bytes: u64,
    /// Bytes of the disk that are kept for what frees space; 0 = none, `None` = automatic. See
    /// [`Builder::reserve_bytes`](crate::Builder::reserve_bytes).
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub reserve_bytes: Option<u64>,
}

/// The section `[wal.fsync]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct FsyncConfig {
    /// The durability mode.
    pub mode: FsyncMode,
    /// `group`: the longest wait of a leader; `interval`: the period of the timer. In milliseconds.
    pub interval_ms: u64,
    /// `group`: so many waiting commits end the wait; `every_n`: the n.
    pub max_batch_size: u32,
}

impl Default for FsyncConfig {
    fn default() -> Self {
        FsyncConfig { mode: FsyncMode::Group, interval_ms: 1, max_batch_size: 100 }
    }
}

/// The name of a durability mode in a file; [`Durability`] says what each promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum FsyncMode {
    /// [`Durability::Always`].
    Always,
    /// [`Durability::Group`].
    #[default]
    Group,
    /// [`Durability::EveryN`].
    EveryN,
    /// [`Durability::Interval`].
    Interval,
    /// [`Durability::Checkpoint`].
    Checkpoint,
    /// [`Durability::None`].
    None,
}

/// The section `[index]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct IndexConfig {
    /// Shards of the hash table: 0 = 256, else a power of two from 64 to 1024.
    pub shards: u32,
    /// Whether keys are kept in order for scans, where the build can.
    pub ordered: bool,
}

impl Default for IndexConfig {
    fn default() -> Self {
        IndexConfig { shards: 0, ordered: true }
    }
}

/// The section `[sched]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct SchedConfig {
    /// Background workers; 0 = automatic: twice the larger of processors and databases. At most 256. Databases of a process
    /// with the same two settings share their workers.
    pub worker_count: u32,
    /// The most workers that "automatic" comes to.
    pub max_workers: u32,
}

impl Default for SchedConfig {
    fn default() -> Self {
        SchedConfig { worker_count: 0, max_workers: 256 }
    }
}

impl Config {
    fn with_fsync(mode: FsyncMode, interval_ms: u64, max_batch_size: u32) -> Self {
        let fsync = FsyncConfig { mode, interval_ms, max_batch_size };
        Config { wal: WalConfig { fsync, ..WalConfig::default() }, ..Config::default() }
    }

    /// For data that must not be lost: `Group`, 1 ms, 100 commits. These are the defaults.
    ///
    /// Loss window: none. What was acknowledged survives a crash and a power cut.
    pub fn production() -> Self {
        Config::with_fsync(FsyncMode::Group, 1, 100)
    }

    /// For many writers that can wait a little longer: `Group`, 5 ms, 200 commits.
    ///
    /// Loss window: none. What was acknowledged survives a crash and a power cut; each acknowledgement may take up to
    /// 5 ms longer.
    pub fn high_performance() -> Self {
        Config::with_fsync(FsyncMode::Group, 5, 200)
    }

    /// A sync for every 100 commits, and compression where the build has it.
    ///
    /// Loss window: none when the process dies; at most the newest 99 acknowledged commits when the power fails,
    /// however old they are.
    pub fn balanced() -> Self {
        Config::with_fsync(FsyncMode::EveryN, 1, 100).compressed()
    }

    /// For bulk work that can be repeated: a sync each 100 ms, and compression where the build has it.
    ///
    /// Loss window: none when the process dies; the acknowledged commits of the last 100 ms, plus the duration of two
    /// syncs, when the power fails.
    pub fn high_throughput() -> Self {
        Config::with_fsync(FsyncMode::Interval, 100, 100).compressed()
    }

    /// `Always`: a sync starts at once for each commit, and only commits that arrive meanwhile share one.
    ///
    /// Loss window: none. What was acknowledged survives a crash and a power cut.
    pub fn max_safety() -> Self {
        Config::with_fsync(FsyncMode::Always, 1, 100)
    }

    /// For measuring everything but the disk: `None`.
    ///
    /// Loss window: none when the process dies; everything since the last full segment or `sync()` when the power
    /// fails. Not for data that matters.
    pub fn benchmark() -> Self {
        Config::with_fsync(FsyncMode::None, 1, 100)
    }

    fn compressed(mut self) -> Self {
        self.wal.compression = Compression::from(parts::BUILD.snappy);
        self
    }

    /// The durability that the settings describe.
    ///
    /// # Errors
    /// `InvalidArgument` when `fsync_on_commit` contradicts `wal.fsync.mode`.
    pub fn durability(&self) -> Result<Durability> {
        let FsyncConfig { mode, interval_ms, max_batch_size } = self.wal.fsync;
        let wait = Duration::from_millis(interval_ms);
        Ok(match self.effective_mode(mode)? {
            FsyncMode::Always => Durability::Always,
            FsyncMode::Group => Durability::Group { max_wait: wait, max_batch: max_batch_size },
            FsyncMode::EveryN => Durability::EveryN(max_batch_size),
            FsyncMode::Interval => Durability::Interval(wait),
            FsyncMode::Checkpoint => Durability::Checkpoint,
            FsyncMode::None => Durability::None,
        })
    }

    fn effective_mode(&self, mode: FsyncMode) -> Result<FsyncMode> {
        #[expect(deprecated, reason = "the one reader of the old switch")]
        let Some(on_commit) = self.fsync_on_commit else { return Ok(mode) };
        let legacy = if on_commit { FsyncMode::Always } else { FsyncMode::None };
        if mode != FsyncMode::default() && mode != legacy {
            return Err(Error::invalid(format!(
                "fsync_on_commit = {on_commit} contradicts wal.fsync.mode = {mode:?}; remove fsync_on_commit"
            )));
        }
        Ok(legacy)
    }

    /// Lays the settings over the options of a builder.
    pub(crate) fn apply_to(&self, options: &mut Options) -> Result<()> {
        options.durability = self.durability()?;
        options.compression = self.wal.compression;
        options.segment_bytes = self.wal.segment_bytes;
        options.checkpoint_threshold_bytes = self.wal.checkpoint_threshold_bytes;
        options.reserve_bytes = self.wal.reserve_bytes;
        options.index.shards = Some(self.index.shards).filter(|shards| *shards > 0);
        options.index.ordered = (!self.index.ordered).then_some(false);
        options.workers = (self.sched.worker_count, self.sched.max_workers);
        options.pool = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // D2
    #[test]
    fn the_defaults_are_group_1_ms_100_and_automatic_256() {
        let config = Config::default();
        let group = Durability::Group { max_wait: Duration::from_millis(1), max_batch: 100 };
        assert_eq!(config.durability().unwrap(), group);
        assert_eq!((config.sched.worker_count, config.sched.max_workers), (0, 256));
        assert_eq!(config, Config::production());
    }

    // D10
    #[test]
    #[expect(deprecated, reason = "the old switch is what is tested")]
    fn fsync_on_commit_maps_to_always_and_none_and_may_not_contradict() {
        let mut config = Config { fsync_on_commit: Some(true), ..Config::default() };
        assert_eq!(config.durability().unwrap(), Durability::Always);
        config.fsync_on_commit = Some(false);
        assert_eq!(config.durability().unwrap(), Durability::None);
        config.wal.fsync.mode = FsyncMode::Interval;
        assert_eq!(config.durability().unwrap_err().code(), 3);
    }

    // D11, S4
    #[test]
    fn every_preset_says_what_it_promises() {
        let durable = |config: Config| config.durability().unwrap().is_durable();
        assert!(durable(Config::production()) && durable(Config::high_performance()));
        assert!(durable(Config::max_safety()));
        assert!(!durable(Config::balanced()) && !durable(Config::high_throughput()));
        assert_eq!(Config::balanced().durability().unwrap(), Durability::EveryN(100));
        assert_eq!(Config::benchmark().durability().unwrap(), Durability::None);
    }
}
