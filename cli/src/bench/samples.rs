//! Latencies of one operation, and what they come to.

use std::time::Duration;

use serde::Serialize;

use crate::bench::now;
use crate::units;

/// LIMIT: latencies that are kept; beyond it operations are only counted.
const SAMPLES_MAX: usize = 4 << 20;

/// Latencies as they are measured.
pub struct Samples {
    name: &'static str,
    started: Duration,
    count: u64,
    latencies_ns: Vec<u64>,
}

/// What latencies come to.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub name: &'static str,
    pub count: u64,
    pub per_second: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub longest_ns: u64,
}

impl Samples {
    pub fn start(name: &'static str) -> Self {
        Samples { name, started: now(), count: 0, latencies_ns: Vec::new() }
    }

    /// Does an operation, and takes its time.
    ///
    /// # Errors
    /// That of the operation.
    pub fn measure<T, E>(&mut self, operation: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let started = now();
        let answer = operation();
        let latency = now() - started;
        self.count += 1;
        if self.latencies_ns.len() < SAMPLES_MAX {
            self.latencies_ns.push(latency.as_nanos() as u64);
        }
        answer
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn elapsed(&self) -> Duration {
        now() - self.started
    }

    /// The figures, of an empty list zeros.
    pub fn finish(mut self) -> Figures {
        let per_second = units::rate(self.count, self.elapsed());
        self.latencies_ns.sort_unstable();
        Figures {
            name: self.name,
            count: self.count,
            per_second,
            p50_ns: percentile(&self.latencies_ns, 50),
            p99_ns: percentile(&self.latencies_ns, 99),
            longest_ns: self.latencies_ns.last().copied().unwrap_or(0),
        }
    }
}

/// The least latency that so many of a hundred do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50, 99));
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99)), (7, 7));
        assert_eq!(percentile(&[], 50), 0);
        assert_eq!(percentile(&[1, 9], 99), 9);
    }
}
