//! Time to live: when an entry ends, and whether it has ended.
//!
//! An expiry is an absolute moment, fixed at the put: milliseconds of the wall clock in 48 bits, saturating. Every path
//! that shows an entry asks [`is_expired`], and nothing else decides it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// LIMIT: the last moment that a record can carry, in the year 10889. A longer life is cut to it.
pub(crate) const EXPIRES_AT_MS_MAX: u64 = (1 << 48) - 1;

/// The moment at which an entry put at `now_ms` ends. A fraction of a millisecond counts as a whole one, so that no
/// entry ends early.
pub(crate) fn expires_at_ms(now_ms: u64, ttl: Duration) -> u64 {
    now_ms.saturating_add(to_ms(ttl)).min(EXPIRES_AT_MS_MAX)
}

/// Whole milliseconds, rounded up; saturating.
pub(crate) fn to_ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// True from the very millisecond on at which the entry ends.
pub(crate) fn is_expired(expires_at_ms: Option<u64>, now_ms: u64) -> bool {
    expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
}

/// The moment in the form that users see.
pub(crate) fn to_system_time(at_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_ends_at_its_last_millisecond_and_not_before() {
        let at_ms = expires_at_ms(1_000, Duration::from_millis(5));
        assert!(!is_expired(Some(at_ms), 1_004));
        assert!(is_expired(Some(at_ms), 1_005));
        assert!(!is_expired(None, u64::MAX));
    }

    #[test]
    fn a_part_of_a_millisecond_is_rounded_up() {
        assert_eq!(expires_at_ms(10, Duration::from_nanos(1)), 11);
        assert_eq!(expires_at_ms(10, Duration::ZERO), 10);
    }

    // Reliability 4, "TTL overflow".
    #[test]
    fn an_endless_life_saturates() {
        assert_eq!(expires_at_ms(u64::MAX - 1, Duration::MAX), EXPIRES_AT_MS_MAX);
        assert_eq!(expires_at_ms(1_000, Duration::MAX), EXPIRES_AT_MS_MAX);
        assert_eq!(expires_at_ms(0, Duration::from_secs(u64::MAX)), EXPIRES_AT_MS_MAX);
    }
}
