//! How long operations took: a histogram with three significant digits, and the numbers that reports print.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// LIMIT: longer operations are recorded as this long.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// The latencies of one operation. Each thread fills its own; they are merged at the end.
#[derive(Debug, Clone)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    /// An empty histogram: 1 ns to ten minutes.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)
            .expect("bounds and digits are constants that the histogram accepts");
        Latency { histogram }
    }

    /// Records one operation.
    pub fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(LATENCY_NS_MAX).max(1);
        self.histogram.saturating_record(nanoseconds);
    }

    /// Adds what another thread recorded.
    pub fn merge(&mut self, other: &Latency) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
    }

    /// The numbers that reports print.
    pub fn summary(&self) -> LatencySummary {
        let at = |quantile| self.histogram.value_at_quantile(quantile);
        LatencySummary {
            samples: self.histogram.len(),
            mean_ns: self.histogram.mean(),
            p50_ns: at(0.50),
            p95_ns: at(0.95),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: self.histogram.max(),
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Latency::new()
    }
}

/// Quantiles of one operation in nanoseconds, exact to three digits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// How many operations were timed; fewer than were done when the driver samples.
    pub samples: u64,
    /// Mean.
    pub mean_ns: f64,
    /// Median.
    pub p50_ns: u64,
    /// One in 20 took longer.
    pub p95_ns: u64,
    /// One in 100 took longer.
    pub p99_ns: u64,
    /// One in 1000 took longer.
    pub p999_ns: u64,
    /// One in 10,000 took longer; 0 in results from before it was kept.
    #[serde(default)]
    pub p9999_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_histograms_equal_one_histogram_of_everything() {
        let (mut left, mut right, mut whole) = (Latency::new(), Latency::new(), Latency::new());
        for i in 1..=10_000u64 {
            let latency = Duration::from_nanos(i * 37);
            if i % 3 == 0 {
                left.record(latency)
            } else {
                right.record(latency)
            }
            whole.record(latency);
        }
        left.merge(&right);
        assert_eq!(left.summary(), whole.summary());
        assert_eq!(left.summary().samples, 10_000);
    }

    #[test]
    fn quantiles_are_exact_to_three_digits() {
        let mut latency = Latency::new();
        for microseconds in 1..=1000 {
            latency.record(Duration::from_micros(microseconds));
        }
        let summary = latency.summary();
        for (found, exact) in
            [(summary.p50_ns, 500_000.0), (summary.p99_ns, 990_000.0), (summary.max_ns, 1e6)]
        {
            assert!((found as f64 / exact - 1.0).abs() < 0.002, "{found} is not {exact}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_kept_at_the_bound() {
        let mut latency = Latency::new();
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(100_000));
        let summary = latency.summary();
        assert_eq!(summary.samples, 2);
        assert!(summary.max_ns >= LATENCY_NS_MAX);
    }
}
