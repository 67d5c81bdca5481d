//! The clock of a build without the log crate: the same trait and types by name and shape.

use std::fmt;
use std::time::Duration;

/// A source of time.
///
/// `monotonic` never goes back within a process. `wall_ms` is the civil time that expiries are measured by.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Time since a fixed but arbitrary moment of this process.
    fn monotonic(&self) -> Duration;

    /// Milliseconds since 1970-01-01 UTC; never goes back within a process.
    fn wall_ms(&self) -> u64;
}

mod system {
    #![expect(
        clippy::disallowed_methods,
        reason = "this is the seam: the one place that reads the clocks"
    )]

    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    /// The clocks of the operating system.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct SystemClock;

    static START: OnceLock<Instant> = OnceLock::new();
    /// The latest wall time handed out, so that a clock that is set back does not make time go back.
    static WALL_MS_MAX: AtomicU64 = AtomicU64::new(0);

    impl super::Clock for SystemClock {
        fn monotonic(&self) -> Duration {
            START.get_or_init(Instant::now).elapsed()
        }

        fn wall_ms(&self) -> u64 {
            let now_ms = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
            WALL_MS_MAX.fetch_max(now_ms, Relaxed).max(now_ms)
        }
    }
}

pub use system::SystemClock;
