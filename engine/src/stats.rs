//! What a database tells about itself: figures, the report of its opening, the progress of it, the parts of the build.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::core::Installed;
use crate::record::SeqNo;

mod opening;
mod transactions;

pub use opening::{LostKey, LostPlace, OpenReport, SalvagedSegment};
pub(crate) use transactions::TransactionCounters;
pub use transactions::TransactionStats;

/// Which parts this build has; the others have stand-ins, or answer `Unsupported`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Build {
    /// Databases on disk.
    pub wal: bool,
    /// Snappy compression.
    pub snappy: bool,
    /// The point index that keeps no keys.
    pub index: bool,
    /// Scans in key order.
    pub ordered: bool,
    /// The crate of the caches.
    pub cache: bool,
    /// The crate of compaction.
    pub compaction: bool,
}

/// The figures of a database at one moment. Counts that change meanwhile may differ by what is under way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Stats {
    /// The parts of the build.
    pub build: Build,
    /// True for a database that is gone with the process.
    pub in_memory: bool,
    /// The durability of commits that ask for no other.
    pub durability: String,
    /// Keyspaces, the default one included.
    pub keyspaces: u64,
    /// Keys that have a value, over all keyspaces; expired ones count until something else is written to them.
    pub keys: u64,
    /// Keys whose newest record is a tombstone.
    pub tombstones: u64,
    /// The number of the newest commit in the log.
    pub last_seq: SeqNo,
    /// The number up to which commits survive a power cut; 0 in memory.
    pub durable_seq: SeqNo,
    /// Memory of the index in bytes: of its hash table, key order and dead bits.
    pub index_bytes: u64,
    /// The index.
    pub index: IndexStats,
    /// Bytes of values that are pinned: by `get_pinned`, and by `get` of values beyond 64 KiB. Each keeps its whole
    /// segment mapped.
    pub pinned_bytes: u64,
    /// The log.
    pub log: LogStats,
    /// Snapshots, and what they cost.
    pub snapshots: SnapshotStats,
    /// Transactions and conditional writes.
    pub transactions: TransactionStats,
    /// Compaction.
    pub compaction: CompactionStats,
    /// The workers, which other databases may share.
    pub pool: PoolStats,
    /// How the database was opened.
    pub open: OpenReport,
}

/// The figures of the index. Those of parts that the build or the database lacks are 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct IndexStats {
    /// Entries, those of tombstones included.
    pub entries: u64,
    /// Shards of the hash table.
    pub shards: u64,
    /// Times that a shard grew or shrank.
    pub resizes: u64,
    /// Memory of the hash table in bytes.
    pub point_bytes: u64,
    /// Whether keys are kept in order.
    pub ordered: bool,
    /// Memory of key order in bytes.
    pub order_bytes: u64,
    /// Bytes of key order in mapped files, which the system may drop from memory.
    pub order_mapped_bytes: u64,
    /// Memory in bytes of the bits that say which records were replaced.
    pub dead_bits_bytes: u64,
    /// Keys in the mutable part of key order, those that wait for a merge included.
    pub delta_keys: u64,
    /// Range partitions of the mutable part.
    pub partitions: u64,
    /// How evenly inserts spread over them, in thousandths; 1000 is even.
    pub entropy_permille: u64,
    /// Sorted runs that a scan merges, the most of all keyspaces.
    pub runs: u64,
    /// Keys in runs; one in several runs counts in each.
    pub run_keys: u64,
    /// Keys in runs that scans pass over.
    pub skipped_keys: u64,
    /// Keys that merges have written since the opening.
    pub merged_keys: u64,
    /// Dead keys that background work has dropped since the opening.
    pub dropped_keys: u64,
    /// Times that the order of a keyspace was rebuilt because a run was damaged.
    pub rebuilds: u64,
    /// Files of runs.
    pub run_files: u64,
    /// Runs that stayed in memory because their file could not be written or mapped.
    pub run_file_failures: u64,
}

impl IndexStats {
    /// Bytes of main memory.
    pub fn memory_bytes(&self) -> u64 {
        self.point_bytes + self.order_bytes + self.dead_bits_bytes
    }
}

/// The snapshots that are open, and what they cost: of a leak the age of the oldest grows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SnapshotStats {
    /// Open ones, those of iterators included.
    pub open: u64,
    /// Age of the oldest in milliseconds.
    pub oldest_age_ms: u64,
    /// Replaced versions that are remembered for them.
    pub versions: u64,
    /// Memory that this takes, in bytes.
    pub version_bytes: u64,
    /// Bytes that are there for them only: on disk, of segments that compaction has emptied; in memory, of values that were
    /// replaced.
    pub retained_bytes: u64,
    /// Snapshots that were given up since the opening, because they were too old or kept too much.
    pub given_up: u64,
}

/// The figures of compaction since the opening; all 0 for a database in memory and in a build without it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CompactionStats {
    /// Jobs that were finished.
    pub jobs: u64,
    /// Jobs that were given up because they failed again and again.
    pub jobs_given_up: u64,
    /// Steps of jobs that failed.
    pub failures: u64,
    /// Bytes of the records that finished jobs have read.
    pub bytes_read: u64,
    /// Bytes of the records that they have written.
    pub bytes_written: u64,
    /// Segments, those of the log included.
    pub segments: u64,
    /// Segments that were given up.
    pub segments_retired: u64,
    /// Segments that were written.
    pub segments_written: u64,
    /// Bytes of all records in all segments.
    pub record_bytes: u64,
    /// Bytes of those that live: the newest of each key, tombstones included.
    pub live_bytes: u64,
    /// Bytes of garbage beyond what is good enough.
    pub debt_bytes: u64,
    /// Time that writers were made to wait because compaction was far behind, in microseconds.
    pub delay_us: u64,
    /// Time that writers have compacted themselves, because there are no workers (`async_compaction(false)`), in
    /// microseconds.
    pub writer_work_us: u64,
    /// Damaged segments that jobs have met. They are left alone until the database is opened again; what is intact in them is
    /// read as before.
    pub damaged_segments: Vec<DamagedSegment>,
    /// Times that files of retired segments could not be removed; the next opening removes them.
    pub files_not_removed: u64,
    /// Times that a compaction filter has panicked; the entry that it was asked about stayed.
    pub filter_panics: u64,
    /// The newest error of a job.
    pub last_error: Option<String>,
}

/// A segment that could not be compacted because it is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct DamagedSegment {
    /// Its number.
    pub id: u64,
    /// Its file.
    pub file: PathBuf,
    /// Where the damage was met, in bytes from the start of the file.
    pub offset: u64,
    /// A sentence.
    pub what: String,
}

/// The figures of a pool of workers; all 0 for a database that has none: in memory, `manual`, or without `async_compaction`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PoolStats {
    /// Threads.
    pub workers: u64,
    /// Steps that were done for the databases that are open.
    pub steps: u64,
    /// Tasks that could be worked on, if a worker were free, on average over the databases, in thousandths.
    pub queue_depth_permille: u64,
    /// Each database that is open.
    pub queues: Vec<QueueStats>,
}

/// The figures of one database in a pool of workers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct QueueStats {
    /// Its directory.
    pub name: String,
    /// Tasks that could be worked on, if a worker were free.
    pub depth: u64,
    /// Tasks that a worker is at.
    pub running: u64,
    /// Tasks that wait for time to pass, or for something to happen.
    pub waiting: u64,
    /// Steps that were done.
    pub steps: u64,
}

/// What a call of [`Db::compact`](crate::Db::compact) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CompactionReport {
    /// Jobs that were done.
    pub jobs: u64,
    /// Segments that were given up.
    pub segments_retired: u64,
    /// Segments that were written.
    pub segments_written: u64,
    /// Bytes of the records that were read.
    pub bytes_read: u64,
    /// Bytes of the records that were written.
    pub bytes_written: u64,
}

/// The figures of the log since it was opened, or since `Db::reset_stats`. In memory all that concerns the disk is 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct LogStats {
    /// Commits appended.
    pub commits: u64,
    /// Records appended.
    pub records: u64,
    /// Records that a database in memory holds; overwritten and deleted ones are gone. 0 on disk.
    pub records_held: u64,
    /// Bytes appended, as they are stored.
    pub bytes: u64,
    /// Bytes appended, before compression.
    pub bytes_raw: u64,
    /// Segments that exist.
    pub segments: u64,
    /// Syncs that made commits durable.
    pub syncs: u64,
    /// Groups of commits that shared a sync.
    pub groups: u64,
    /// Commits in those groups.
    pub grouped_commits: u64,
    /// The largest group.
    pub group_commits_max: u64,
    /// From the start of a group to the moment that it was durable and visible, summed over groups, in microseconds.
    pub group_latency_total_us: u64,
    /// The longest of those, in microseconds.
    pub group_latency_max_us: u64,
    /// Wall-clock milliseconds at the end of the last group; 0 before the first.
    pub last_group_at_ms: u64,
    /// Times that a commit had to prepare a segment or reserve space itself.
    pub stalls: u64,
    /// Time that commits spent so, in microseconds.
    pub stall_time_us: u64,
    /// Commits that were refused because the disk was full.
    pub full_refusals: u64,
    /// Pending tickets.
    pub tickets: u64,
}

impl LogStats {
    /// Commits in a group, on average.
    pub fn group_commits_mean(&self) -> f64 {
        mean(self.grouped_commits, self.groups)
    }

    /// Latency of a group in microseconds, on average.
    pub fn group_latency_mean_us(&self) -> f64 {
        mean(self.group_latency_total_us, self.groups)
    }
}

fn mean(total: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total as f64 / count as f64 }
}

/// How far an opening has come; the listener is set by `Builder::progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the log that were verified or replayed.
    pub bytes_done: u64,
    /// Bytes of the log in all, counted as often as each is read.
    pub bytes_total: u64,
}

/// Counts that the engine keeps itself.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) keys: AtomicU64,
    pub(crate) tombstones: AtomicU64,
    pub(crate) transactions: TransactionCounters,
    /// Shared with the pinned values, which may outlive the database.
    pub(crate) pinned_bytes: Arc<AtomicU64>,
}

impl Counters {
    /// Follows what became of a record in the index.
    #[inline]
    pub(crate) fn installed(&self, tombstone: bool, outcome: Installed, forgets_tombstones: bool) {
        let count = |tombstone| if tombstone { &self.tombstones } else { &self.keys };
        let is_kept = !(tombstone && forgets_tombstones);
        match outcome {
            Installed::Stale | Installed::Present => return,
            Installed::Inserted => {}
            // The usual one: what it takes away it gives back.
            Installed::Replaced { was, .. } if was.tombstone == tombstone && is_kept => return,
            Installed::Replaced { was, .. } => {
                count(was.tombstone).fetch_sub(1, Relaxed);
            }
        }
        if is_kept {
            count(tombstone).fetch_add(1, Relaxed);
        }
    }
}
