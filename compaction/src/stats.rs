//! What a strategy knows about one segment.

/// The number of a segment: grows with age and is never used again.
pub type SegmentId = u64;

/// The size of one segment and how much of it is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentStats {
    /// Which segment.
    pub id: SegmentId,
    /// The bytes of all records in it.
    pub total_bytes: u64,
    /// The bytes of the records that must be kept; never more than `total_bytes`.
    pub live_bytes: u64,
    /// True if nothing is appended any more and all of it is on the disk; only such a segment may be picked.
    pub sealed: bool,
}

impl SegmentStats {
    /// Numbers of a sealed segment.
    ///
    /// # Panics
    /// If more bytes are live than there are.
    pub fn new(id: SegmentId, total_bytes: u64, live_bytes: u64) -> Self {
        assert!(
            live_bytes <= total_bytes,
            "segment {id} cannot have {live_bytes} live bytes of {total_bytes}"
        );
        SegmentStats { id, total_bytes, live_bytes, sealed: true }
    }

    /// The same numbers for a segment that is still written.
    pub fn active(self) -> Self {
        SegmentStats { sealed: false, ..self }
    }

    /// The bytes of dead records.
    pub fn garbage_bytes(&self) -> u64 {
        self.total_bytes - self.live_bytes
    }

    /// Dead bytes by all bytes, 0 to 1; 0 for an empty segment.
    pub fn garbage_ratio(&self) -> f64 {
        if self.total_bytes == 0 {
            0.0
        } else {
            self.garbage_bytes() as f64 / self.total_bytes as f64
        }
    }
}

/// All bytes by live bytes: 1 without garbage, infinite if everything is dead, 1 for an empty store.
pub fn space_amplification(total_bytes: u64, live_bytes: u64) -> f64 {
    if total_bytes == live_bytes { 1.0 } else { total_bytes as f64 / live_bytes as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_have_no_holes_at_zero() {
        assert_eq!(space_amplification(0, 0), 1.0);
        assert_eq!(space_amplification(10, 0), f64::INFINITY);
        assert_eq!(space_amplification(15, 10), 1.5);
        assert_eq!(SegmentStats::new(1, 0, 0).garbage_ratio(), 0.0);
        assert_eq!(SegmentStats::new(1, 4, 1).garbage_ratio(), 0.75);
    }

    #[test]
    #[should_panic(expected = "segment 7 cannot have 5 live bytes of 4")]
    fn more_live_than_there_is_is_refused() {
        SegmentStats::new(7, 4, 5);
    }
}
