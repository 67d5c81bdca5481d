//! Filling one round: shared by the strategies, so that all keep the same limits.

use super::{Choice, Limits, Reason};
use crate::stats::{SegmentId, SegmentStats, space_amplification};

/// The victims of one round so far.
pub(super) struct Round<'a> {
    limits: &'a Limits,
    segments: Vec<SegmentId>,
    live_bytes: u64,
}

impl<'a> Round<'a> {
    pub(super) fn new(limits: &'a Limits) -> Self {
        Round { limits, segments: Vec::new(), live_bytes: 0 }
    }

    /// Takes a segment in; false if the round is full without it.
    pub(super) fn take(&mut self, segment: &SegmentStats) -> bool {
        let live_bytes = self.live_bytes.saturating_add(segment.live_bytes);
        let is_full = self.segments.len() >= self.limits.segments_max.max(1);
        if is_full || (!self.segments.is_empty() && live_bytes > self.limits.live_bytes_max) {
            return false;
        }
        self.segments.push(segment.id);
        self.live_bytes = live_bytes;
        true
    }

    pub(super) fn choice(self, reason: Reason) -> Choice {
        if self.segments.is_empty() {
            Choice::Nothing
        } else {
            Choice::Compact { segments: self.segments, reason }
        }
    }
}

/// As many of `candidates` as one round holds.
pub(super) fn fill<'a>(
    candidates: impl IntoIterator<Item = &'a SegmentStats>,
    limits: &Limits,
    reason: Reason,
) -> Choice {
    let mut round = Round::new(limits);
    candidates.into_iter().take_while(|segment| round.take(segment)).for_each(drop);
    round.choice(reason)
}

/// Segments without a live record: they cost nothing, so they go at any amplification.
pub(super) fn pick_empty(segments: &[SegmentStats], limits: &Limits) -> Choice {
    let empty = segments.iter().filter(|s| s.sealed && s.live_bytes == 0 && s.live_records == 0);
    fill(empty, limits, Reason::Empty)
}

/// Whether a rewrite for the sake of garbage is of use. Without garbage it frees nothing, and the same segment would be
/// picked for ever.
pub(super) fn is_worthwhile(segment: &SegmentStats, limits: &Limits) -> bool {
    segment.sealed
        && segment.garbage_bytes() >= limits.garbage_bytes_min.max(1)
        && segment.garbage_ratio() >= limits.garbage_ratio_min
}

/// Empty segments if there are any; else the candidates in their order until the store would be within its target.
pub(super) fn pick_until_target(
    segments: &[SegmentStats],
    limits: &Limits,
    sort: impl FnOnce(&mut Vec<&SegmentStats>),
) -> Choice {
    let empty = pick_empty(segments, limits);
    if empty != Choice::Nothing {
        return empty;
    }
    let mut total_bytes: u64 = segments.iter().map(|segment| segment.total_bytes).sum();
    let live_bytes: u64 = segments.iter().map(|segment| segment.live_bytes).sum();
    let mut candidates: Vec<_> = segments.iter().filter(|s| is_worthwhile(s, limits)).collect();
    sort(&mut candidates);
    let mut round = Round::new(limits);
    for segment in candidates {
        let is_good = space_amplification(total_bytes, live_bytes) <= limits.target();
        if is_good || !round.take(segment) {
            break;
        }
        total_bytes -= segment.garbage_bytes();
    }
    round.choice(Reason::Amplification)
}
