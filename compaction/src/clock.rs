//! Time as a seam: pacing and waiting ask a [`Clock`], never the machine, so that a test can set and replay time.

use std::fmt;
use std::time::Duration;

/// A source of time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Time since a fixed but arbitrary moment of this process; never goes back.
    fn monotonic(&self) -> Duration;
}

mod system {
    #![expect(
        clippy::disallowed_methods,
        reason = "this is the seam: the one place that reads the clock"
    )]

    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    /// The monotonic clock of the operating system.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct SystemClock;

    static START: OnceLock<Instant> = OnceLock::new();

    impl super::Clock for SystemClock {
        fn monotonic(&self) -> Duration {
            START.get_or_init(Instant::now).elapsed()
        }
    }
}

pub use system::SystemClock;
