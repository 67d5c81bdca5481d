//! The `small-segments` strategy: sealed segments under a quarter of the nominal size are merged, so that many opens and
//! many small jobs do not leave many files.
//!
//! Only segments whose records go to the same output stream are merged, and at least two: what comes out is one segment
//! fewer or one class older, so it comes to an end. A store that is written merges only when a whole job is full of small
//! segments, since most of them will soon be emptier; an idle one leaves at most [`Limits::merge_segments_min`] - 1 tiny
//! segments of each stream.

use std::collections::BTreeMap;

use super::round::Round;
use super::{Choice, Limits, Reason, Strategy};
use crate::stats::{AgeClass, SegmentStats};

/// Merges small segments, the smallest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct SmallSegments;

impl Strategy for SmallSegments {
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice {
        let small_bytes = limits.segment_bytes / 4;
        let mut streams: BTreeMap<(AgeClass, bool), Vec<&SegmentStats>> = BTreeMap::new();
        for segment in segments.iter().filter(|s| s.sealed && s.total_bytes < small_bytes) {
            streams.entry((segment.class.survived(), segment.large)).or_default().push(segment);
        }
        for mut small in streams.into_values() {
            small.sort_by_key(|segment| (segment.live_bytes, segment.id));
            let merged = merge(&small, limits);
            if merged != Choice::Nothing {
                return merged;
            }
        }
        Choice::Nothing
    }
}

/// As many as fit one segment, if that is of use.
fn merge(small: &[&SegmentStats], limits: &Limits) -> Choice {
    let (mut round, mut taken, mut live_bytes) = (Round::new(limits), 0, 0);
    for segment in small {
        if live_bytes + segment.live_bytes > limits.segment_bytes || !round.take(segment) {
            break;
        }
        live_bytes += segment.live_bytes;
        taken += 1;
    }
    let is_enough = if limits.idle {
        taken >= limits.merge_segments_min || live_bytes >= limits.segment_bytes / 4
    } else {
        taken >= limits.segments_max
    };
    if taken >= 2 && is_enough { round.choice(Reason::Small) } else { Choice::Nothing }
}
