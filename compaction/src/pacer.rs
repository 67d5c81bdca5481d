//! How fast compaction may read and write: a token bucket that says how long to wait, and never sleeps itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// Limits the rate of jobs. One pacer may be shared by many jobs; together they keep the rate.
pub trait Pacer: Send + Sync + 'static {
    /// How long to wait before the next piece of work; zero to go on now.
    fn wait(&self) -> Duration;

    /// So many bytes were read and written.
    fn charge(&self, bytes: u64);
}

/// No limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unpaced;

impl Pacer for Unpaced {
    fn wait(&self) -> Duration {
        Duration::ZERO
    }

    fn charge(&self, _bytes: u64) {}
}

/// A bucket of `burst` bytes that fills at a steady rate.
///
/// Work is charged after it is done, so the bucket may be overdrawn by one piece of work; the next one waits until the
/// debt is paid.
#[derive(Debug)]
pub struct TokenBucket {
    clock: Arc<dyn Clock>,
    state: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    bytes_per_second: u64,
    burst_bytes: u64,
    /// Bytes times one thousand million, so that no rate loses a fraction; below 0 while overdrawn.
    tokens: i128,
    filled_at: Duration,
}

const SCALE: i128 = 1_000_000_000;

impl TokenBucket {
    /// A full bucket. A rate of 0 means no limit.
    pub fn new(bytes_per_second: u64, burst_bytes: u64, clock: Arc<dyn Clock>) -> Self {
        let filled_at = clock.monotonic();
        let tokens = i128::from(burst_bytes) * SCALE;
        let state = Bucket { bytes_per_second, burst_bytes, tokens, filled_at };
        TokenBucket { clock, state: Mutex::new(state) }
    }

    /// Changes the rate, from now on; 0 means no limit.
    pub fn set_rate(&self, bytes_per_second: u64) {
        self.with(|bucket| bucket.bytes_per_second = bytes_per_second);
    }

    fn with<R>(&self, use_it: impl FnOnce(&mut Bucket) -> R) -> R {
        let now = self.clock.monotonic();
        let mut bucket = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed_ns = now.saturating_sub(bucket.filled_at).as_nanos() as i128;
        let full = i128::from(bucket.burst_bytes) * SCALE;
        let gained = passed_ns.saturating_mul(i128::from(bucket.bytes_per_second));
        bucket.tokens = bucket.tokens.saturating_add(gained).min(full);
        bucket.filled_at = bucket.filled_at.max(now);
        use_it(&mut bucket)
    }
}

impl Pacer for TokenBucket {
    fn wait(&self) -> Duration {
        self.with(|bucket| {
            if bucket.tokens >= 0 || bucket.bytes_per_second == 0 {
                return Duration::ZERO;
            }
            let rate = u128::from(bucket.bytes_per_second);
            let wait_ns = bucket.tokens.unsigned_abs().div_ceil(rate);
            Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX))
        })
    }

    fn charge(&self, bytes: u64) {
        self.with(|bucket| {
            if bucket.bytes_per_second > 0 {
                bucket.tokens -= i128::from(bytes) * SCALE;
            }
        });
    }
}
