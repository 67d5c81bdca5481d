//! The manual clock of a build without the log crate.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Clock;

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct ManualClock {
    monotonic_ns: AtomicU64,
    wall_ms: AtomicU64,
}

impl ManualClock {
    /// A clock at the given wall time.
    pub fn at_wall_ms(wall_ms: u64) -> Self {
        ManualClock { monotonic_ns: AtomicU64::default(), wall_ms: wall_ms.into() }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        self.monotonic_ns.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.wall_ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Relaxed)
    }
}
