//! The `repack` strategy: every segment that was never compacted is rewritten once, the oldest first, so that all records come
//! into the form of outputs (sorted by key, compressed) although there is no garbage to give back.
//!
//! It costs one more write of each byte, so it waits until nobody writes. What comes out is of an older class and is not
//! picked again.

use super::round::fill;
use super::{Choice, Limits, Reason, Strategy};
use crate::stats::{AgeClass, SegmentStats};

/// Rewrites what was never compacted, when the store is idle.
#[derive(Debug, Clone, Copy, Default)]
pub struct Repack;

impl Strategy for Repack {
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice {
        if !limits.idle {
            return Choice::Nothing;
        }
        let is_new = |segment: &&SegmentStats| segment.sealed && segment.class == AgeClass::New;
        let mut new: Vec<&SegmentStats> = segments.iter().filter(is_new).collect();
        new.sort_by_key(|segment| segment.created);
        fill(new, limits, Reason::Repack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_segments_are_picked_once_when_the_store_is_idle() {
        let mut segments: Vec<SegmentStats> =
            (1..4).map(|id| SegmentStats::new(id, 1 << 20, 1 << 20)).collect();
        segments[0].class = AgeClass::SurvivedOnce;
        segments[2] = segments[2].active();
        let busy = Limits::default();
        assert_eq!(Repack.pick(&segments, &busy), Choice::Nothing);
        let idle = Limits { idle: true, ..busy };
        let picked = Choice::Compact { segments: vec![2], reason: Reason::Repack };
        assert_eq!(Repack.pick(&segments, &idle), picked);
        segments[1].class = AgeClass::New.survived();
        assert_eq!(Repack.pick(&segments, &idle), Choice::Nothing);
    }
}
