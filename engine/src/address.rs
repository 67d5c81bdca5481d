//! Where a record lives: its place in the log, and the 39 bits that the index keeps of it.
//!
//! # Layout
//! An [`Address`] is a 16-bit slot and a 23-bit offset in units of 8 bytes. [`SlotTable`] maps slots to segment ids.
//!
//! # Invariants
//! A slot names one segment for the life of the table: an address read long ago never leads to another segment.
//!
//! # Concurrency
//! [`SlotTable::location`] takes no lock. Assigning a slot takes a mutex, once per segment.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Mutex, OnceLock};

use crate::error::{Error, Result};
use crate::sync::lock;

/// A place in the log: a segment, and the logical offset in bytes within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Location {
    pub(crate) segment: u64,
    /// A multiple of 8, below 64 MiB.
    pub(crate) offset: u32,
}

const OFFSET_BITS: u32 = 23;
const UNIT_BYTES: u32 = 8;
/// LIMIT: 65,536 segments in one database; a slot is 16 bits of an index entry.
const SLOTS_MAX: usize = 1 << 16;
const PAGE_SLOTS: usize = 256;

/// What the index keeps of a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address(u64);

impl Address {
    fn new(slot: u16, offset: u32) -> Self {
        debug_assert!(offset.is_multiple_of(UNIT_BYTES) && offset / UNIT_BYTES < 1 << OFFSET_BITS);
        Address(u64::from(slot) << OFFSET_BITS | u64::from(offset / UNIT_BYTES))
    }

    fn slot(self) -> usize {
        (self.0 >> OFFSET_BITS) as usize
    }

    fn offset(self) -> u32 {
        (self.0 & ((1 << OFFSET_BITS) - 1)) as u32 * UNIT_BYTES
    }
}

/// The 39 bits, the rest zero.
impl From<Address> for u64 {
    fn from(address: Address) -> u64 {
        address.0
    }
}

/// From what the other conversion gave.
impl From<u64> for Address {
    fn from(bits: u64) -> Address {
        debug_assert_eq!(bits >> (16 + OFFSET_BITS), 0);
        Address(bits)
    }
}

/// One page of the table: a segment id plus one by slot, 0 where the slot is free.
type Page = Box<[AtomicU64]>;

/// Which segment stands in which slot.
#[derive(Debug)]
pub(crate) struct SlotTable {
    pages: Box<[OnceLock<Page>]>,
    assigned: Mutex<HashMap<u64, u16>>,
}

impl SlotTable {
    pub(crate) fn new() -> Self {
        let pages = (0..SLOTS_MAX / PAGE_SLOTS).map(|_| OnceLock::new()).collect();
        SlotTable { pages, assigned: Mutex::default() }
    }

    /// The address of a location; a segment seen for the first time gets a slot.
    ///
    /// # Errors
    /// `LimitExceeded` when all slots are taken.
    pub(crate) fn address(&self, location: Location) -> Result<Address> {
        let mut assigned = lock(&self.assigned);
        if let Some(&slot) = assigned.get(&location.segment) {
            return Ok(Address::new(slot, location.offset));
        }
        let slot = u16::try_from(assigned.len()).map_err(|_| {
            Error::limit(format!(
                "the database has {SLOTS_MAX} log segments, which is the most; export it and import it into a new one"
            ))
        })?;
        let page = self.pages[usize::from(slot) / PAGE_SLOTS]
            .get_or_init(|| (0..PAGE_SLOTS).map(|_| AtomicU64::new(0)).collect());
        // ORDERING: pairs with the acquire load in `location`; publishes nothing beyond the id itself.
        page[usize::from(slot) % PAGE_SLOTS].store(location.segment + 1, Release);
        assigned.insert(location.segment, slot);
        Ok(Address::new(slot, location.offset))
    }

    /// The location behind an address that this table made.
    pub(crate) fn location(&self, address: Address) -> Location {
        let page = self.pages[address.slot() / PAGE_SLOTS].get();
        // ORDERING: pairs with the release store in `address`.
        let stored = page.map_or(0, |page| page[address.slot() % PAGE_SLOTS].load(Acquire));
        debug_assert_ne!(stored, 0, "an address names a slot that was never assigned");
        Location { segment: stored.wrapping_sub(1), offset: address.offset() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_back_to_its_location() {
        let table = SlotTable::new();
        let offset_max = ((1 << OFFSET_BITS) - 1) * UNIT_BYTES;
        for segment in [0, 7, 1 << 40, u64::MAX - 1] {
            for offset in [0, 8, offset_max] {
                let location = Location { segment, offset };
                assert_eq!(table.location(table.address(location).unwrap()), location);
            }
        }
    }

    #[test]
    fn the_last_slot_is_usable_and_the_one_after_it_is_refused() {
        let table = SlotTable::new();
        for segment in 0..SLOTS_MAX as u64 {
            table.address(Location { segment, offset: 0 }).unwrap();
        }
        let last = Location { segment: SLOTS_MAX as u64 - 1, offset: 8 };
        assert_eq!(table.location(table.address(last).unwrap()), last);
        let error = table.address(Location { segment: SLOTS_MAX as u64, offset: 0 }).unwrap_err();
        assert_eq!(error.code(), 4);
    }
}
