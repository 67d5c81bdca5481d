//! Time as a seam: the log asks a [`Clock`], never the machine, so that a test can set and replay time.

use std::fmt;
use std::time::Duration;

/// A source of time.
///
/// `monotonic` never goes back within a process. `wall_ms` is the civil time that files carry; the log never decides
/// the order of anything by it.
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

/// A clock that stands still until it is told to move.
#[cfg(feature = "test-util")]
#[derive(Debug, Default)]
pub struct ManualClock {
    monotonic_ns: std::sync::atomic::AtomicU64,
    wall_ms: std::sync::atomic::AtomicU64,
}

#[cfg(feature = "test-util")]
impl ManualClock {
    /// A clock at the given wall time.
    pub fn at_wall_ms(wall_ms: u64) -> Self {
        ManualClock { monotonic_ns: Default::default(), wall_ms: wall_ms.into() }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        use std::sync::atomic::Ordering::Relaxed;
        self.monotonic_ns.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.wall_ms.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

#[cfg(feature = "test-util")]
impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(std::sync::atomic::Ordering::Relaxed)
    }
}
