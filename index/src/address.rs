//! The address of a record, packed into 39 bits so that an index entry fits one word beside its tag.
//!
//! # Layout
//! ```text
//! bit 38            23 22                    0
//!     [ slot: 16 bits ][ offset / 8: 23 bits ]
//! ```
//! The slot is the owner's short name for one segment; the offset is counted in logical bytes from the segment's start.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

const SLOT_BITS: u32 = 16;
const OFFSET_BITS: u32 = 23;

/// Where a record is: a segment slot and an offset that is a multiple of 8 bytes.
///
/// Two records that exist at the same time have different addresses; the owner of the records sees to that. Addresses
/// order by slot, then by offset, which says nothing about age: slots are given out again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(u64);

impl Address {
    /// The number of bits of [`Address::to_bits`] that can be set.
    pub const BITS: u32 = SLOT_BITS + OFFSET_BITS;
    /// Offsets are multiples of this many bytes.
    pub const UNIT_BYTES: u32 = 8;
    /// The lowest address in the order of addresses.
    pub const MIN: Address = Address(0);
    /// The highest one.
    pub const MAX: Address = Address((1 << Self::BITS) - 1);
    /// The bytes of a segment that addresses can reach: 64 MiB.
    pub const SEGMENT_BYTES_MAX: u32 = Self::UNIT_BYTES << OFFSET_BITS; // LIMIT: 23 bits of 8-byte units.

    /// Packs a slot and an offset in bytes.
    ///
    /// # Errors
    /// `InvalidArgument` if the offset is not a multiple of 8; `LimitExceeded` if it is 64 MiB or more.
    pub fn new(slot: u16, offset_bytes: u32) -> Result<Address> {
        if !offset_bytes.is_multiple_of(Self::UNIT_BYTES) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("offset {offset_bytes} is not a multiple of 8; records start on 8 bytes"),
            ));
        }
        if offset_bytes >= Self::SEGMENT_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "offset {offset_bytes} is beyond the 64 MiB that an address reaches; use smaller segments"
                ),
            ));
        }
        Ok(Address(u64::from(slot) << OFFSET_BITS | u64::from(offset_bytes / Self::UNIT_BYTES)))
    }

    /// Unpacks what [`Address::to_bits`] gave; `None` if a bit above the 39th is set.
    pub fn from_bits(bits: u64) -> Option<Address> {
        (bits >> Self::BITS == 0).then_some(Address(bits))
    }

    /// The packed form: 39 bits, the rest zero.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The slot of the segment.
    pub fn slot(self) -> u16 {
        (self.0 >> OFFSET_BITS) as u16
    }

    /// The offset in the segment in bytes, a multiple of 8.
    pub fn offset_bytes(self) -> u32 {
        (self.0 & ((1 << OFFSET_BITS) - 1)) as u32 * Self::UNIT_BYTES
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Shows `slot:offset`, the offset in bytes.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.slot(), self.offset_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corners_of_the_address_space_survive_packing() {
        for slot in [0, 1, 255, u16::MAX] {
            for offset in [0, 8, 4096, Address::SEGMENT_BYTES_MAX - 8] {
                let address = Address::new(slot, offset).expect("legal");
                assert_eq!((address.slot(), address.offset_bytes()), (slot, offset));
                assert_eq!(Address::from_bits(address.to_bits()), Some(address));
                assert_eq!(address.to_bits() >> 39, 0);
            }
        }
    }

    #[test]
    fn a_crooked_or_far_offset_is_refused_by_kind() {
        let kind = |offset| Address::new(0, offset).map_err(|e| e.kind());
        assert_eq!(kind(7), Err(ErrorKind::InvalidArgument));
        assert_eq!(kind(Address::SEGMENT_BYTES_MAX), Err(ErrorKind::LimitExceeded));
        assert_eq!(kind(u32::MAX - 7), Err(ErrorKind::LimitExceeded));
        assert_eq!(Address::from_bits(1 << 39), None);
    }
}
