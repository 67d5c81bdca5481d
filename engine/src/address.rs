//! Where a record lives: its place in the log, and the 39 bits that the index keeps of it.
//!
//! # Layout
//! An [`Address`] is a 16-bit slot and a 23-bit offset in units of 8 bytes. `slots.rs` knows which segment stands in which
//! slot.

/// A place in the log: a segment, and the logical offset in bytes within it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Location {
    pub(crate) segment: u64,
    /// A multiple of 8, below 64 MiB.
    pub(crate) offset: u32,
}

pub(crate) const OFFSET_BITS: u32 = 23;
pub(crate) const UNIT_BYTES: u32 = 8;
/// LIMIT: 65,536 segments in one database; a slot is 16 bits of an index entry.
pub(crate) const SLOTS_MAX: usize = 1 << 16;

/// What the index keeps of a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address(u64);

impl Address {
    pub(crate) fn new(slot: u16, offset: u32) -> Self {
        debug_assert!(offset.is_multiple_of(UNIT_BYTES) && offset / UNIT_BYTES < 1 << OFFSET_BITS);
        Address(u64::from(slot) << OFFSET_BITS | u64::from(offset / UNIT_BYTES))
    }

    #[inline]
    pub(crate) fn slot(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    #[inline]
    pub(crate) fn offset(self) -> u32 {
        (self.0 & ((1 << OFFSET_BITS) - 1)) as u32 * UNIT_BYTES
    }
}

/// The 39 bits, the rest zero.
impl From<Address> for u64 {
    #[inline]
    fn from(address: Address) -> u64 {
        address.0
    }
}

/// From what the other conversion gave.
impl From<u64> for Address {
    #[inline]
    fn from(bits: u64) -> Address {
        debug_assert_eq!(bits >> (16 + OFFSET_BITS), 0);
        Address(bits)
    }
}
