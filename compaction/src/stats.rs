//! What a strategy knows about one segment.

/// The number of a segment, never used again.
pub type SegmentId = u64;

/// How often the records of a segment have survived a compaction.
///
/// Records that survived tend to survive again, so each class has output segments of its own: hot and cold records part,
/// and cold segments stay full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgeClass {
    /// Written by the user, never compacted.
    #[default]
    New,
    /// Survived one compaction.
    SurvivedOnce,
    /// Survived two or more.
    SurvivedTwice,
}

impl AgeClass {
    /// The class of what survives a compaction of this one.
    pub fn survived(self) -> Self {
        match self {
            AgeClass::New => AgeClass::SurvivedOnce,
            AgeClass::SurvivedOnce | AgeClass::SurvivedTwice => AgeClass::SurvivedTwice,
        }
    }
}

/// The size of one segment, and how much of it is worth what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentStats {
    /// Which segment.
    pub id: SegmentId,
    /// Grows with the order of creation; what a segment's age is counted from. The id, unless the owner says otherwise.
    pub created: u64,
    /// How often its records have survived.
    pub class: AgeClass,
    /// True if it holds large values only, see [`Limits::large_bytes_min`](crate::Limits::large_bytes_min).
    pub large: bool,
    /// True if nothing is appended any more and all of it is on the disk; only such a segment may be picked.
    pub sealed: bool,
    /// The bytes of all records in it.
    pub total_bytes: u64,
    /// The bytes of live records, tombstones among them; never more than `total_bytes`.
    pub live_bytes: u64,
    /// Live records, tombstones among them.
    pub live_records: u64,
    /// Live tombstones.
    pub tombstones: u64,
    /// The bytes of live tombstones.
    pub tombstone_bytes: u64,
    /// Those of `tombstone_bytes` that a rewrite cannot drop now, because another segment may hold what they delete.
    pub waiting_bytes: u64,
    /// The bytes of tombstones in other segments that wait until this one is rewritten.
    pub blocks_bytes: u64,
    /// The bytes of live records that expire one day or have expired.
    pub expiring_bytes: u64,
    /// Those of `expiring_bytes` that have expired for certain; a lower bound.
    pub expired_bytes: u64,
    /// No record of the segment expires before, in milliseconds of the wall clock; `None` if none expires.
    pub earliest_expiry_ms: Option<u64>,
}

impl SegmentStats {
    /// Numbers of a sealed segment of new records, none of which is a tombstone or expires. `created` is the id.
    ///
    /// # Panics
    /// If more bytes are live than there are.
    pub fn new(id: SegmentId, total_bytes: u64, live_bytes: u64) -> Self {
        assert!(
            live_bytes <= total_bytes,
            "segment {id} cannot have {live_bytes} live bytes of {total_bytes}"
        );
        SegmentStats {
            id,
            created: id,
            class: AgeClass::New,
            large: false,
            sealed: true,
            total_bytes,
            live_bytes,
            live_records: 0,
            tombstones: 0,
            tombstone_bytes: 0,
            waiting_bytes: 0,
            blocks_bytes: 0,
            expiring_bytes: 0,
            expired_bytes: 0,
            earliest_expiry_ms: None,
        }
    }

    /// The same numbers for a segment that is still written.
    pub fn active(self) -> Self {
        SegmentStats { sealed: false, ..self }
    }

    /// The same segment while a job rewrites it: not to be picked, and its garbage as good as gone.
    pub fn in_work(self) -> Self {
        SegmentStats { sealed: false, total_bytes: self.live_bytes, ..self }
    }

    /// The bytes of dead records.
    pub fn garbage_bytes(&self) -> u64 {
        self.total_bytes - self.live_bytes
    }

    /// Dead bytes by all bytes, 0 to 1; 0 for an empty segment.
    pub fn garbage_ratio(&self) -> f64 {
        ratio(self.garbage_bytes(), self.total_bytes)
    }

    /// The bytes of tombstones that a rewrite may drop: nothing is known that they wait for.
    pub fn free_tombstone_bytes(&self) -> u64 {
        self.tombstone_bytes.saturating_sub(self.waiting_bytes)
    }

    /// Tombstones by live records, 0 to 1.
    pub fn tombstone_ratio(&self) -> f64 {
        ratio(self.tombstones, self.live_records)
    }
}

/// `part` by `whole`, 0 where there is no whole.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// All bytes by live bytes: 1 without garbage, infinite if everything is dead, 1 for an empty store.
pub fn space_amplification(total_bytes: u64, live_bytes: u64) -> f64 {
    if total_bytes == live_bytes { 1.0 } else { total_bytes as f64 / live_bytes as f64 }
}

/// The garbage beyond what a target of space amplification allows, in bytes: the work that compaction is behind by.
pub fn debt_bytes(total_bytes: u64, live_bytes: u64, space_amplification_target: f64) -> u64 {
    // A float of so many bytes is exact to 1 in 2^53, and a negative or absurd target saturates.
    total_bytes.saturating_sub((live_bytes as f64 * space_amplification_target) as u64)
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
        assert_eq!(SegmentStats::new(1, 4, 1).tombstone_ratio(), 0.0);
    }

    #[test]
    fn debt_is_what_lies_above_the_target() {
        assert_eq!(debt_bytes(200, 100, 1.5), 50);
        assert_eq!(debt_bytes(150, 100, 1.5), 0);
        assert_eq!(debt_bytes(100, 100, 1.5), 0);
        assert_eq!(debt_bytes(100, 0, 1.5), 100);
    }

    #[test]
    #[should_panic(expected = "segment 7 cannot have 5 live bytes of 4")]
    fn more_live_than_there_is_is_refused() {
        SegmentStats::new(7, 4, 5);
    }
}
