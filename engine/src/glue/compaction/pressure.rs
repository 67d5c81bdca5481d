//! Back-pressure: writers wait in proportion to how far compaction is behind, so that garbage cannot grow without bound.
//!
//! # Invariants
//! No delay below a debt of 64 MiB or a sixteenth of what lives; from there on writers slow down in proportion, to 4 MiB a
//! second when a quarter of what lives is too much. None is longer than 100 ms at a time (U4): a slope and never a cliff.
//!
//! # Concurrency
//! A delay of a small write is shorter than a thread can sleep, so delays are added up until somebody sleeps them off. The
//! one who sleeps holds no lock.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cortenkv_compaction::BackPressure;

/// The shortest sleep that is worth one.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// Debt that delays nobody, and how much more there is at the end of the slope.
const DEBT_FREE_BYTES_MIN: u64 = 64 << 20;
const SLOPE_BYTES_MIN: u64 = 192 << 20;

/// Who writes waits here.
#[derive(Default)]
pub(super) struct Pressure {
    /// What lived when it was last summed up.
    live_bytes: AtomicU64,
    /// Delays that nobody has slept off yet, in nanoseconds.
    owed_ns: AtomicU64,
    slept_ns: AtomicU64,
}

impl Pressure {
    /// Delays a write, given how far compaction is behind.
    #[inline]
    pub(super) fn delay(&self, debt_bytes: u64, write_bytes: u64) {
        if debt_bytes > DEBT_FREE_BYTES_MIN {
            self.delay_behind(debt_bytes, write_bytes);
        }
    }

    /// So much lives.
    pub(super) fn note_live(&self, live_bytes: u64) {
        self.live_bytes.store(live_bytes, Relaxed);
    }

    /// What lived when it was last summed up.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Relaxed)
    }

    fn slope(&self) -> BackPressure {
        let live_bytes = self.live_bytes();
        let mut slope = BackPressure::default();
        slope.debt_free_bytes = DEBT_FREE_BYTES_MIN.max(live_bytes / 16);
        slope.debt_full_bytes = slope.debt_free_bytes + SLOPE_BYTES_MIN.max(live_bytes * 3 / 16);
        slope
    }

    #[cold]
    fn delay_behind(&self, debt_bytes: u64, write_bytes: u64) {
        let slope = self.slope();
        let delay_ns = slope.delay(debt_bytes, write_bytes).as_nanos() as u64;
        let owed_ns = self.owed_ns.fetch_add(delay_ns, Relaxed) + delay_ns;
        if owed_ns < SLEEP_MIN.as_nanos() as u64 {
            return;
        }
        let taken = self.owed_ns.fetch_update(Relaxed, Relaxed, |owed| owed.checked_sub(owed_ns));
        if taken.is_ok() {
            let nap = Duration::from_nanos(owed_ns).min(slope.delay_max);
            crate::sync::sleep(nap);
            self.slept_ns.fetch_add(nap.as_nanos() as u64, Relaxed);
        }
    }

    /// How long writers have slept.
    pub(super) fn slept(&self) -> Duration {
        Duration::from_nanos(self.slept_ns.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_delays_add_up_and_no_debt_costs_nothing() {
        let pressure = Pressure::default();
        let slope = pressure.slope();
        (0..1_000).for_each(|_| pressure.delay(slope.debt_free_bytes, 1 << 20));
        assert_eq!(pressure.slept(), Duration::ZERO);
        let (debt, bytes) = (slope.debt_full_bytes, 1 << 10);
        (0..100).for_each(|_| pressure.delay(debt, bytes));
        let owed = Duration::from_nanos(pressure.owed_ns.load(Relaxed));
        assert_eq!(pressure.slept() + owed, slope.delay(debt, bytes) * 100);
        assert!(owed < SLEEP_MIN && pressure.slept() >= SLEEP_MIN);
        // One call never sleeps longer than the bound.
        pressure.delay(u64::MAX, 1 << 30);
        assert!(pressure.slept() < slope.delay(debt, bytes) * 100 + slope.delay_max * 2);
    }

    #[test]
    fn a_large_database_may_be_further_behind() {
        let pressure = Pressure::default();
        assert_eq!(pressure.slope().debt_free_bytes, 64 << 20);
        pressure.note_live(16 << 30);
        assert_eq!(pressure.slope().debt_free_bytes, 1 << 30);
        assert_eq!(pressure.slope().debt_full_bytes, 4 << 30);
    }
}
