//! Where a record lives: its place in the log, and the 39 bits that the index keeps of it.
//!
//! # Layout
//! An [`Address`] is a 16-bit slot and a 23-bit offset in units of 8 bytes. [`SlotTable`] has the reader of the segment
//! that stands in each slot.
//!
//! # Invariants
//! A slot names one segment for the life of the table: an address read long ago never leads to another segment.
//!
//! # Concurrency
//! [`SlotTable::segment`] takes no lock and touches no shared count: a page and a slot, both written once. Assigning a
//! slot takes a mutex, once per segment.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Mutex, OnceLock};

use crate::error::{Error, Result};
use crate::log::LogSegment;
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

    #[inline]
    fn slot(self) -> usize {
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

/// One page of the table; a slot that was never assigned is empty.
type Page = Box<[OnceLock<LogSegment>]>;

/// Which segment stands in which slot.
pub(crate) struct SlotTable {
    pages: Box<[OnceLock<Page>]>,
    /// The slot assigned last: nearly every record that is installed lies in its segment.
    newest: AtomicUsize,
    assigned: Mutex<HashMap<u64, u16>>,
}

impl SlotTable {
    pub(crate) fn new() -> Self {
        let pages = (0..SLOTS_MAX / PAGE_SLOTS).map(|_| OnceLock::new()).collect();
        SlotTable { pages, newest: AtomicUsize::new(0), assigned: Mutex::default() }
    }

    /// The address of a location; a segment seen for the first time is opened and gets a slot.
    ///
    /// # Errors
    /// `LimitExceeded` when all slots are taken, and what `open` answers.
    #[inline]
    pub(crate) fn address(
        &self,
        location: Location,
        open: impl FnOnce(u64) -> Result<LogSegment>,
    ) -> Result<Address> {
        // ORDERING: Acquire, pairs with the store in `assign`; the slot publishes itself.
        let newest = self.newest.load(Acquire);
        let is_newest = self.slot(newest).is_some_and(|segment| segment.id() == location.segment);
        let slot = if is_newest { newest as u16 } else { self.assign(location.segment, open)? };
        Ok(Address::new(slot, location.offset))
    }

    #[cold]
    fn assign(&self, id: u64, open: impl FnOnce(u64) -> Result<LogSegment>) -> Result<u16> {
        let mut assigned = lock(&self.assigned);
        if let Some(&slot) = assigned.get(&id) {
            return Ok(slot);
        }
        let slot = u16::try_from(assigned.len()).map_err(|_| {
            Error::limit(format!(
                "the database has {SLOTS_MAX} log segments, which is the most; export it and import it into a new one"
            ))
        })?;
        let segment = open(id)?;
        let page = self.pages[usize::from(slot) / PAGE_SLOTS]
            .get_or_init(|| (0..PAGE_SLOTS).map(|_| OnceLock::new()).collect());
        // Nobody else sets it: `assigned` counts the slots under its lock.
        page[usize::from(slot) % PAGE_SLOTS].get_or_init(|| segment);
        assigned.insert(id, slot);
        // ORDERING: Release, pairs with the load in `address`.
        self.newest.store(usize::from(slot), Release);
        Ok(slot)
    }

    /// The segment that an address leads to. `None`: it was retired since the address was read, so look the key up again.
    /// No slot is retired so far; once compaction does it, this is the only place that readers learn it from.
    #[inline]
    pub(crate) fn segment(&self, address: Address) -> Option<&LogSegment> {
        self.slot(address.slot())
    }

    #[inline]
    fn slot(&self, slot: usize) -> Option<&LogSegment> {
        self.pages[slot / PAGE_SLOTS].get()?[slot % PAGE_SLOTS].get()
    }

    /// The location behind an address that this table made.
    pub(crate) fn location(&self, address: Address) -> Location {
        let segment = self.segment(address);
        debug_assert!(segment.is_some(), "an address names a slot that was never assigned");
        Location { segment: segment.map_or(0, LogSegment::id), offset: address.offset() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(id: u64) -> Result<LogSegment> {
        Ok(LogSegment::Memory(id))
    }

    #[test]
    fn an_address_leads_back_to_its_location() {
        let table = SlotTable::new();
        let offset_max = ((1 << OFFSET_BITS) - 1) * UNIT_BYTES;
        for segment in [0, 7, 1 << 40, u64::MAX - 1, 7, 0] {
            for offset in [0, 8, offset_max] {
                let location = Location { segment, offset };
                assert_eq!(table.location(table.address(location, open).unwrap()), location);
            }
        }
    }

    #[test]
    fn the_last_slot_is_usable_and_the_one_after_it_is_refused() {
        let table = SlotTable::new();
        for segment in 0..SLOTS_MAX as u64 {
            table.address(Location { segment, offset: 0 }, open).unwrap();
        }
        let last = Location { segment: SLOTS_MAX as u64 - 1, offset: 8 };
        assert_eq!(table.location(table.address(last, open).unwrap()), last);
        let more = Location { segment: SLOTS_MAX as u64, offset: 0 };
        assert_eq!(table.address(more, open).unwrap_err().code(), 4);
    }

    #[test]
    fn a_segment_that_cannot_be_opened_takes_no_slot() {
        let table = SlotTable::new();
        let at = |segment| Location { segment, offset: 0 };
        assert!(table.address(at(1), |_| Err(Error::invalid("gone"))).is_err());
        assert!(table.segment(Address::new(0, 0)).is_none());
        assert_eq!(table.address(at(2), open).unwrap().slot(), 0);
    }
}
