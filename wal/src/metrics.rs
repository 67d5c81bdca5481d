//! What the log counts. Counters are relaxed: exact at rest, and never a cost that one writer imposes on another.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters since the log was opened or [`reset`](crate::Wal::reset_stats).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct WalStats {
    /// Commits appended.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes appended as stored, marks and chain frames included.
    pub bytes_stored: u64,
    /// Bytes appended before compression.
    pub bytes_raw: u64,
    /// Calls of fdatasync on segments that made commits durable.
    pub syncs: u64,
    /// Groups made durable (row D4: total batches).
    pub groups: u64,
    /// Commits in those groups (row D4: total records).
    pub grouped_commits: u64,
    /// The largest group.
    pub group_commits_max: u64,
    /// From the moment that a leader took over until its group was durable and installed, summed over groups.
    pub group_latency_total: Duration,
    /// The longest of those.
    pub group_latency_max: Duration,
    /// Wall-clock milliseconds at the end of the last group; 0 before the first.
    pub last_group_at_ms: u64,
    /// Segments left for the next.
    pub rotations: u64,
    /// Times that an append had to prepare a segment or reserve space itself.
    pub stalls: u64,
    /// Time that appends spent so.
    pub stall_time: Duration,
    /// Appends that were refused because the disk was full.
    pub full_refusals: u64,
    /// Segments in the log, the one being written included.
    pub segments: u64,
    /// Pending tickets.
    pub tickets: u64,
    /// Running ratio of raw to stored bytes of the commits that were tried for compression, in 1/256; it starts at the
    /// 294 (1.15) below which commits are stored as they are.
    pub compression_ratio_256: u32,
}

impl WalStats {
    /// Commits per group, on average (row D4).
    pub fn group_commits_mean(&self) -> f64 {
        if self.groups == 0 { 0.0 } else { self.grouped_commits as f64 / self.groups as f64 }
    }

    /// Latency of a group, on average (row D4).
    pub fn group_latency_mean(&self) -> Duration {
        let groups = u32::try_from(self.groups).unwrap_or(u32::MAX);
        self.group_latency_total.checked_div(groups).unwrap_or_default()
    }
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter,)* }
        impl Counters {
            pub(crate) fn reset(&self) { $(self.$name.0.store(0, Relaxed);)* }
        }
    };
}

/// A relaxed counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Adds where the caller is the only writer (it holds the append lock): no locked instruction.
    pub(crate) fn add_exclusive(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub(crate) fn max(&self, n: u64) {
        self.0.fetch_max(n, Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

counters! {
    commits, records, bytes_stored, bytes_raw, syncs, groups, grouped_commits, group_commits_max, group_latency_total_ns,
    group_latency_max_ns, last_group_at_ms, rotations, stalls, stall_time_ns, full_refusals,
}

impl Counters {
    pub(crate) fn observe_group(&self, commits: u64, latency: Duration, now_ms: u64) {
        let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.groups.add(1);
        self.grouped_commits.add(commits);
        self.group_commits_max.max(commits);
        self.group_latency_total_ns.add(latency_ns);
        self.group_latency_max_ns.max(latency_ns);
        self.last_group_at_ms.set(now_ms);
    }

    pub(crate) fn snapshot(
        &self,
        segments: u64,
        tickets: u64,
        compression_ratio_256: u32,
    ) -> WalStats {
        WalStats {
            commits: self.commits.get(),
            records: self.records.get(),
            bytes_stored: self.bytes_stored.get(),
            bytes_raw: self.bytes_raw.get(),
            syncs: self.syncs.get(),
            groups: self.groups.get(),
            grouped_commits: self.grouped_commits.get(),
            group_commits_max: self.group_commits_max.get(),
            group_latency_total: Duration::from_nanos(self.group_latency_total_ns.get()),
            group_latency_max: Duration::from_nanos(self.group_latency_max_ns.get()),
            last_group_at_ms: self.last_group_at_ms.get(),
            rotations: self.rotations.get(),
            stalls: self.stalls.get(),
            stall_time: Duration::from_nanos(self.stall_time_ns.get()),
            full_refusals: self.full_refusals.get(),
            segments,
            tickets,
            compression_ratio_256,
        }
    }
}
