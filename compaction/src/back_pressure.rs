//! Back-pressure: how long a write should wait when compaction is behind, as a function of how far behind it is.
//!
//! The delay is proportional to the debt, as in the proportional controllers of ScyllaDB's compaction ("Dynamic priority
//! adjustment", backlog controllers, 2018) and of Linux's dirty-page balancing: a store that is a little behind is slowed a
//! little, and finds its balance where writes and compaction are equally fast. What it avoids is the cliff of "slowdown"
//! and "stop" triggers, whose stalls Luo and Carey measured ("On Performance Stability in LSM-based Storage Systems",
//! VLDB 2019).

use std::time::Duration;

/// A straight line from no delay to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackPressure {
    /// Up to this debt nothing is delayed.
    pub debt_free_bytes: u64,
    /// From this debt on the delay grows no more.
    pub debt_full_bytes: u64,
    /// The delay of 1 MiB of writes at full debt.
    pub delay_per_mib: Duration,
    /// No call is delayed longer.
    pub delay_max: Duration,
}

/// From 256 MiB of debt on; at 1 GiB writes are slowed to 4 MiB a second. No call waits longer than 100 ms.
impl Default for BackPressure {
    fn default() -> Self {
        BackPressure {
            debt_free_bytes: 256 << 20,
            debt_full_bytes: 1 << 30,
            delay_per_mib: Duration::from_millis(250),
            delay_max: Duration::from_millis(100), // LIMIT: stall of one call.
        }
    }
}

impl BackPressure {
    /// How long a write of `write_bytes` should wait while compaction is `debt_bytes` behind (see
    /// [`debt_bytes`](crate::debt_bytes)). The caller waits, outside every lock, and counts the time.
    pub fn delay(&self, debt_bytes: u64, write_bytes: u64) -> Duration {
        let full = self.debt_full_bytes.saturating_sub(self.debt_free_bytes).max(1);
        let debt = debt_bytes.saturating_sub(self.debt_free_bytes).min(full);
        // At most 2^64 * 2^64 / 2^20: the second division comes before the second product.
        let debt_share = u128::from(debt) * (1 << 32) / u128::from(full);
        let per_mib_ns = self.delay_per_mib.as_nanos().min(1 << 40);
        let written_ns = (u128::from(write_bytes) * per_mib_ns) >> 20;
        let delay_ns = written_ns.saturating_mul(debt_share) >> 32;
        let delay_ns = delay_ns.min(self.delay_max.as_nanos()).min(u128::from(u64::MAX));
        Duration::from_nanos(delay_ns as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_in_proportion_from_zero_and_is_bounded() {
        let pressure = BackPressure::default();
        let (free, full) = (pressure.debt_free_bytes, pressure.debt_full_bytes);
        let delay = |debt, bytes| pressure.delay(debt, bytes);
        assert_eq!(delay(0, 1 << 20), Duration::ZERO);
        assert_eq!(delay(free, 1 << 20), Duration::ZERO);
        assert_eq!(delay(full, 1 << 16), pressure.delay_per_mib / 16);
        assert_eq!(delay(u64::MAX, 1 << 16), delay(full, 1 << 16));
        assert_eq!(delay(full, u64::MAX), pressure.delay_max);
        assert_eq!(delay(free + (full - free) / 2, 1 << 16), pressure.delay_per_mib / 32);
        let steps: Vec<Duration> =
            (0..=100).map(|n| delay(free + (full - free) / 100 * n, 1 << 16)).collect();
        let largest = steps.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(
            steps.is_sorted() && largest <= delay(full, 1 << 16) / 90,
            "a cliff of {largest:?}"
        );
    }

    #[test]
    fn absurd_limits_neither_panic_nor_divide_by_zero() {
        let pressure = BackPressure {
            debt_free_bytes: 9,
            debt_full_bytes: 3,
            delay_per_mib: Duration::MAX,
            delay_max: Duration::MAX,
        };
        assert_eq!(pressure.delay(9, u64::MAX), Duration::ZERO);
        assert!(pressure.delay(u64::MAX, u64::MAX) > Duration::ZERO);
    }
}
