//! The knobs of [`RunsOrdered`](super::RunsOrdered).

use std::fmt;
use std::sync::Arc;

use super::super::run::{RamRuns, RunStore};

/// Keys longer than this are not kept.
pub(super) const KEY_BYTES_MAX: usize = 64 << 10; // LIMIT: what a block of a run can hold.

/// The knobs of [`RunsOrdered`](super::RunsOrdered). The defaults suit keyspaces of any size.
#[derive(Clone)]
#[non_exhaustive]
pub struct RunsOptions {
    /// Where large runs go; small ones stay in memory.
    pub store: Arc<dyn RunStore>,
    /// The mutable part of a keyspace is sealed once it holds this many keys (16 Ki)...
    pub delta_keys_min: usize,
    /// ...or one in 32 of the keys of the keyspace, if that is more, but at most this many (256 Ki)...
    pub delta_keys_max: usize,
    /// ...or this many bytes (64 MiB).
    pub delta_bytes_max: usize,
    /// The mutable part is also sealed once walks have met as many dead keys in it as it has keys, and at least this
    /// many (256).
    pub delta_dead_min: usize,
    /// Partitions of the mutable part once there are keys to choose bounds from (16).
    pub partitions_start: usize,
    /// A partition with more keys is split (1,000).
    pub partition_keys_max: usize,
    /// The most partitions of a keyspace (1,024).
    pub partitions_max: usize,
    /// The spread of inserts is looked at once this many came (4,096).
    pub spread_inserts: usize,
    /// With more runs than this some are merged (4).
    pub runs_max: usize,
    /// Runs of at most this many keys (32 Ki) and 4 MiB stay in memory, larger ones go to the store.
    pub ram_run_keys_max: usize,
    /// A run is cut into pieces of this many keys (128 Ki) or 8 MiB, which are stored one by one: a merge holds
    /// one of them in memory.
    pub piece_keys_max: usize,
    /// A unit of background work merges about this many keys (4 Ki).
    pub chunk_keys: usize,
}

impl RunsOptions {
    /// Bytes of a run that may stay in memory.
    pub(super) const RAM_RUN_BYTES_MAX: usize = 4 << 20; // LIMIT: memory of runs of long keys.
    /// Bytes of a piece of a run.
    pub(super) const PIECE_BYTES_MAX: usize = 8 << 20; // LIMIT: memory of a merge of long keys.

    /// The keys at which a mutable part is sealed, beside runs of so many keys.
    pub(super) fn delta_keys(&self, run_keys: usize) -> usize {
        (run_keys / 32).min(self.delta_keys_max).max(self.delta_keys_min)
    }
}

impl Default for RunsOptions {
    fn default() -> Self {
        RunsOptions {
            store: Arc::new(RamRuns),
            delta_keys_min: 16 << 10,
            delta_keys_max: 256 << 10,
            delta_bytes_max: 64 << 20,
            delta_dead_min: 256,
            partitions_start: 16,
            partition_keys_max: 1_000,
            partitions_max: 1_024,
            spread_inserts: 4_096,
            runs_max: 4,
            ram_run_keys_max: 32 << 10,
            piece_keys_max: 128 << 10,
            chunk_keys: 4 << 10,
        }
    }
}

impl fmt::Debug for RunsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunsOptions")
            .field("delta_keys_min", &self.delta_keys_min)
            .field("delta_keys_max", &self.delta_keys_max)
            .field("delta_bytes_max", &self.delta_bytes_max)
            .field("delta_dead_min", &self.delta_dead_min)
            .field("partitions_start", &self.partitions_start)
            .field("partition_keys_max", &self.partition_keys_max)
            .field("partitions_max", &self.partitions_max)
            .field("spread_inserts", &self.spread_inserts)
            .field("runs_max", &self.runs_max)
            .field("ram_run_keys_max", &self.ram_run_keys_max)
            .field("piece_keys_max", &self.piece_keys_max)
            .field("chunk_keys", &self.chunk_keys)
            .finish_non_exhaustive()
    }
}
