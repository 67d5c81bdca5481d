//! What a snapshot may cost: the bounds of age and bytes, and the figures of a leak.
//!
//! # Concurrency
//! Looked at by whoever opens or reads one, by background work once a second, and by compaction when it keeps a segment.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::registry::View;
use crate::core::Core;
use crate::stats::SnapshotStats;

/// How old a snapshot may become unless the builder says otherwise.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(3_600);
/// LIMIT: what snapshots may retain unless the builder says otherwise: so much, or a quarter of what lives.
const RETAINED_BYTES_MIN: u64 = 256 << 20;

impl Core {
    /// Gives up the snapshots that are too old, and the oldest ones while too much is kept for them. True if there was one.
    pub(crate) fn give_up_snapshots(&self) -> bool {
        let mut any = false;
        while let Some(oldest) = self.snapshots.oldest() {
            if !self.is_too_old(&oldest) && !self.retain_too_much() {
                break;
            }
            any = true;
            self.give_up(&oldest);
        }
        any
    }

    pub(super) fn is_too_old(&self, view: &View) -> bool {
        let age = self.clock().monotonic().saturating_sub(view.opened_at);
        age > self.options.snapshots.age_max
    }

    fn retain_too_much(&self) -> bool {
        let retained_bytes = self.snapshots.retained_bytes();
        if retained_bytes <= RETAINED_BYTES_MIN.min(self.options.snapshots.least_bytes()) {
            return false;
        }
        let of_live = || (self.compaction.live_bytes() / 4).max(RETAINED_BYTES_MIN);
        retained_bytes > self.options.snapshots.retained_bytes_max.unwrap_or_else(of_live)
    }

    /// A snapshot shows nothing any more, and what it kept is released.
    pub(super) fn give_up(&self, view: &View) {
        if view.give_up() {
            self.snapshots.given_up.fetch_add(1, Relaxed);
        }
        // Also if somebody else has marked it: it is over when this returns.
        self.end_snapshot(view);
    }

    pub(crate) fn snapshot_stats(&self) -> SnapshotStats {
        let (open, versions, version_bytes) = self.snapshots.totals();
        let age = |oldest: Arc<View>| self.clock().monotonic().saturating_sub(oldest.opened_at);
        SnapshotStats {
            open,
            oldest_age_ms: self.snapshots.oldest().map_or(0, |it| age(it).as_millis() as u64),
            versions,
            version_bytes,
            retained_bytes: self.snapshots.retained_bytes(),
            given_up: self.snapshots.given_up.load(Relaxed),
        }
    }
}

/// What snapshots may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotOptions {
    pub(crate) age_max: Duration,
    /// `None`: a quarter of what lives.
    pub(crate) retained_bytes_max: Option<u64>,
}

impl SnapshotOptions {
    /// Less is within every bound.
    fn least_bytes(&self) -> u64 {
        self.retained_bytes_max.unwrap_or(RETAINED_BYTES_MIN)
    }
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        SnapshotOptions { age_max: AGE_MAX, retained_bytes_max: None }
    }
}

impl crate::open::Builder {
    /// How old a snapshot may become, one hour unless set: then it is given up, so that one which somebody forgot does
    /// not hold space for ever. Its reads answer `SnapshotTooOld`.
    pub fn snapshot_age_max(mut self, age: Duration) -> Self {
        self.options.snapshots.age_max = age;
        self
    }

    /// The bytes that may stay for snapshots alone: of segments that compaction has emptied, and in memory of values that
    /// were replaced. Beyond it the oldest snapshot is given up. Unless set, a quarter of what lives, at least 256 MiB.
    pub fn snapshot_retained_bytes_max(mut self, bytes: u64) -> Self {
        self.options.snapshots.retained_bytes_max = Some(bytes);
        self
    }
}
