//! The address hint: where the live record of a key was when its run was made.

use crate::address::Address;

/// Where the live record of a key was when a merge asked for it.
///
/// A hint may be stale: the record may have been replaced, moved or deleted since, and its slot may have gone to
/// another segment. It counts only if `segment` still stands in the slot of `address` and the record's dead bit is
/// clear; else the point index decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hint {
    /// The owner's number of the segment, which is never given out again, as opposed to its slot.
    pub segment: u64,
    /// The address of the record; its slot was the segment's at that time.
    pub address: Address,
}

impl Hint {
    /// What a hint names whose segment is known to be gone: no owner gives this number to a segment.
    pub const NO_SEGMENT: u64 = u64::MAX;
}
