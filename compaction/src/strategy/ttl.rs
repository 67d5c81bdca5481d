//! The `ttl` strategy: segments in which most of what lives has expired.
//!
//! An expired record is live to the accounting until a rewrite meets it: nobody tells of its death. It comes to an end
//! because what is rewritten has not expired, or became a tombstone, which does not expire.

use super::round::fill;
use super::{Choice, Limits, Reason, Strategy};
use crate::stats::{SegmentStats, ratio};

/// Segments with at least [`Limits::expired_ratio_min`] of expired bytes, the most expired first.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ttl;

impl Strategy for Ttl {
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice {
        let expired = |s: &SegmentStats| ratio(s.expired_bytes, s.live_bytes);
        let is_worthwhile = |s: &&SegmentStats| {
            s.sealed && s.expired_bytes > 0 && expired(s) >= limits.expired_ratio_min
        };
        let mut victims: Vec<_> = segments.iter().filter(is_worthwhile).collect();
        victims.sort_by(|a, b| expired(b).total_cmp(&expired(a)).then(a.id.cmp(&b.id)));
        fill(victims, limits, Reason::Expired)
    }
}
