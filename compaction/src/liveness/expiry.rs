//! When the bytes of a segment expire, in 97 numbers: steps that grow with the distance from the segment's beginning.
//!
//! A record with a time to live of t goes to a step that ends at most t / 4 + 16 s after it expires, so "this step has
//! passed" is certain, and late by a quarter at most.

use std::sync::atomic::{AtomicU64, Ordering};

/// Distances below this are one step.
const FIRST_STEP_MS_LOG2: u32 = 14;
/// Steps to a doubling of the distance.
const STEPS_PER_OCTAVE: usize = 4;
const OCTAVES: usize = 24;
/// The first step, four for each octave up to 8 years, and one without an end.
const STEPS: usize = 1 + STEPS_PER_OCTAVE * OCTAVES + 1;

#[derive(Debug)]
pub(super) struct ExpiryHistogram {
    base_ms: u64,
    earliest_ms: AtomicU64,
    steps: [AtomicU64; STEPS],
}

impl ExpiryHistogram {
    /// Counts from `created_ms`, or if that is not known (0) from the first expiry that is met.
    pub(super) fn new(created_ms: u64, first_expiry_ms: u64) -> Self {
        let base_ms = if created_ms == 0 { first_expiry_ms } else { created_ms };
        ExpiryHistogram {
            base_ms,
            earliest_ms: AtomicU64::new(u64::MAX),
            steps: [const { AtomicU64::new(0) }; STEPS],
        }
    }

    pub(super) fn add(&self, expires_at_ms: u64, bytes: u64) {
        self.earliest_ms.fetch_min(expires_at_ms, Ordering::Relaxed);
        self.step(expires_at_ms).fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, expires_at_ms: u64, bytes: u64) {
        let less = |sum: u64| Some(sum.saturating_sub(bytes));
        let _ = self.step(expires_at_ms).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Bytes that have expired for certain.
    pub(super) fn expired_bytes(&self, now_ms: u64) -> u64 {
        if now_ms < self.earliest_ms() {
            return 0;
        }
        let passed = (0..STEPS).take_while(|&step| {
            end_ms(step).is_some_and(|end_ms| self.base_ms.saturating_add(end_ms) <= now_ms)
        });
        passed.map(|step| self.steps[step].load(Ordering::Relaxed)).sum()
    }

    pub(super) fn base_ms(&self) -> u64 {
        self.base_ms
    }

    pub(super) fn earliest_ms(&self) -> u64 {
        self.earliest_ms.load(Ordering::Relaxed)
    }

    pub(super) fn export(&self) -> Vec<u64> {
        let mut bytes: Vec<u64> =
            self.steps.iter().map(|step| step.load(Ordering::Relaxed)).collect();
        bytes.truncate(bytes.iter().rposition(|&bytes| bytes > 0).map_or(0, |last| last + 1));
        bytes
    }

    pub(super) fn import(base_ms: u64, earliest_ms: u64, bytes: &[u64]) -> Option<Self> {
        let mut expiry = ExpiryHistogram::new(base_ms, base_ms);
        expiry.earliest_ms = earliest_ms.into();
        for (step, &bytes) in bytes.iter().enumerate() {
            *expiry.steps.get_mut(step)? = bytes.into();
        }
        Some(expiry)
    }

    fn step(&self, expires_at_ms: u64) -> &AtomicU64 {
        &self.steps[step_of(expires_at_ms.saturating_sub(self.base_ms))]
    }
}

fn step_of(distance_ms: u64) -> usize {
    let Some(octave) = (distance_ms >> FIRST_STEP_MS_LOG2).checked_ilog2() else { return 0 };
    let quarter = (distance_ms >> (octave + FIRST_STEP_MS_LOG2 - 2)) as usize % STEPS_PER_OCTAVE;
    (1 + octave as usize * STEPS_PER_OCTAVE + quarter).min(STEPS - 1)
}

/// The first distance beyond a step; `None` for the last one.
fn end_ms(step: usize) -> Option<u64> {
    if step == STEPS - 1 {
        return None;
    }
    let octave = step.saturating_sub(1) / STEPS_PER_OCTAVE;
    let quarters = if step == 0 { 4 } else { 5 + (step - 1) % STEPS_PER_OCTAVE } as u64;
    Some(quarters << (octave as u32 + FIRST_STEP_MS_LOG2 - 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_ends_behind_its_distances_and_at_most_a_quarter_later() {
        for distance_ms in (0..200_000u64).chain((17..38).flat_map(|n| [(1 << n) - 1, 1 << n])) {
            let end_ms = end_ms(step_of(distance_ms)).expect("not the last step");
            assert!(end_ms > distance_ms, "{distance_ms}");
            assert!(end_ms - distance_ms <= distance_ms / 4 + (1 << 14), "{distance_ms} {end_ms}");
        }
        assert_eq!(step_of(u64::MAX), STEPS - 1);
        assert_eq!(end_ms(STEPS - 1), None);
    }

    #[test]
    fn what_has_expired_is_never_more_than_what_has_expired() {
        let expiry = ExpiryHistogram::new(1_000_000, 0);
        let ttls_ms = [1_000, 60_000, 3_600_000, 86_400_000, u64::MAX / 2];
        ttls_ms.iter().for_each(|ttl_ms| expiry.add(1_000_000 + ttl_ms, 1));
        for after_ms in [0, 999, 1_000, 59_999, 100_000, 5_000_000, 200_000_000] {
            let expired = ttls_ms.iter().filter(|&&ttl_ms| ttl_ms <= after_ms).count() as u64;
            let counted = expiry.expired_bytes(1_000_000 + after_ms);
            assert!(counted <= expired, "{counted} of {expired} after {after_ms} ms");
        }
        assert_eq!(expiry.expired_bytes(1_000_000 + 200_000_000), 4);
        expiry.remove(1_000_000 + 60_000, 1);
        assert_eq!(expiry.expired_bytes(1_000_000 + 200_000_000), 3);
        let bytes = expiry.export();
        let copy = ExpiryHistogram::import(expiry.base_ms(), expiry.earliest_ms(), &bytes).unwrap();
        assert_eq!(copy.export(), bytes);
        assert!(ExpiryHistogram::import(0, 0, &[0; STEPS + 1]).is_none());
    }
}
