//! Which segment stands in which slot: what leads from an address to the bytes of a record.
//!
//! # Invariants
//! - An address that was read from the index under a pin leads to its segment, or to nothing, as long as that pin lasts:
//!   a slot that was emptied is given to another segment only after a grace period (rule 10).
//!
//! # Concurrency
//! [`SlotTable::with`] takes no lock and touches no count that readers share: a page, which is made once, and a cell. What
//! it shows stays readable until it returns. Assigning and retiring slots takes a mutex, once per segment.

use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Mutex, OnceLock};

use crate::address::{Address, Location, SLOTS_MAX};
use crate::error::{Error, Result};
use crate::log::LogSegment;
use crate::parts::{SegmentLiveness, SlotCell};
use crate::sync::lock;

const PAGE_SLOTS: usize = 256;

/// Ids of compacted segments start here.
pub(crate) const COMPACTED_ID_MIN: u64 = 1 << 63;

/// One page of the table.
type Page = Box<[SlotCell<Mounted>]>;

/// A segment in its slot.
pub(crate) struct Mounted {
    pub(crate) segment: LogSegment,
    /// What is live in it.
    pub(crate) liveness: SegmentLiveness,
}

/// Which segment stands in which slot.
pub(crate) struct SlotTable {
    pages: Box<[OnceLock<Page>]>,
    /// The slot of the newest segment of the log: nearly every record that is installed lies in it.
    newest: AtomicUsize,
    /// How often slots were given back.
    given_back: AtomicU64,
    pub(crate) book: Mutex<Book>,
}

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) assigned: HashMap<u64, u16>,
    /// Slots that were never given out start here.
    pub(crate) unused: usize,
    pub(crate) free: Vec<u16>,
    newest_id: u64,
}

impl SlotTable {
    pub(crate) fn new() -> Self {
        let pages = (0..SLOTS_MAX / PAGE_SLOTS).map(|_| OnceLock::new()).collect();
        SlotTable {
            pages,
            newest: AtomicUsize::new(0),
            given_back: AtomicU64::new(0),
            book: Mutex::default(),
        }
    }

    /// The address of a location; a segment seen for the first time is mounted in a slot. `note` is shown the segment.
    ///
    /// # Errors
    /// `LimitExceeded` when all slots are taken, and what `mount` answers.
    #[inline]
    pub(crate) fn address(
        &self,
        location: Location,
        mount: impl FnOnce(u64, u16) -> Result<Mounted>,
        note: impl Fn(&Mounted),
    ) -> Result<Address> {
        // ORDERING: Acquire, pairs with the store in `assign`; the cell publishes itself.
        let newest = self.newest.load(Acquire);
        let note_newest = |mounted: &Mounted| {
            let is_newest = mounted.segment.id() == location.segment;
            if is_newest {
                note(mounted);
            }
            is_newest
        };
        if self.cell(newest).and_then(|cell| cell.with(note_newest)) == Some(true) {
            return Ok(Address::new(newest as u16, location.offset));
        }
        let address = Address::new(self.assign(location.segment, mount)?, location.offset);
        self.with(address, note);
        Ok(address)
    }

    #[cold]
    fn assign(&self, id: u64, mount: impl FnOnce(u64, u16) -> Result<Mounted>) -> Result<u16> {
        let mut book = lock(&self.book);
        if let Some(&slot) = book.assigned.get(&id) {
            return Ok(slot);
        }
        let slot = book.take_slot()?;
        let mounted = mount(id, slot).inspect_err(|_| book.free.push(slot))?;
        self.put(slot, mounted);
        book.assigned.insert(id, slot);
        // Compaction asks for segments that nobody writes, and for its own, which have the highest numbers.
        if (book.newest_id..COMPACTED_ID_MIN).contains(&id) {
            book.newest_id = id;
            // ORDERING: Release, pairs with the load in `address`.
            self.newest.store(usize::from(slot), Release);
        }
        Ok(slot)
    }

    /// Takes slots back that no reader can know of any more.
    #[allow(dead_code, reason = "a build without compaction retires no segment")]
    pub(crate) fn give_back(&self, slots: impl IntoIterator<Item = u16>) {
        // ORDERING: Release, pairs with the load in `times_given_back`, and precedes that another segment gets one of them.
        self.given_back.fetch_add(1, Release);
        lock(&self.book).free.extend(slots);
    }

    /// While this stays what it was, an address leads to the segment that it led to, or to nothing: for whoever keeps
    /// addresses without a pin, and asks under one.
    #[inline]
    pub(crate) fn times_given_back(&self) -> u64 {
        // ORDERING: Acquire, see `give_back`.
        self.given_back.load(Acquire)
    }

    /// Puts a segment in a slot; the book is the caller's affair.
    pub(crate) fn put(&self, slot: u16, mounted: Mounted) {
        let page = self.pages[usize::from(slot) / PAGE_SLOTS]
            .get_or_init(|| (0..PAGE_SLOTS).map(|_| SlotCell::empty()).collect());
        page[usize::from(slot) % PAGE_SLOTS].set(Some(mounted));
    }

    /// Shows the segment that an address leads to. `None`: it was retired since the address was read, so look the key up
    /// again.
    #[inline]
    pub(crate) fn with<R>(&self, address: Address, show: impl FnOnce(&Mounted) -> R) -> Option<R> {
        self.cell(address.slot())?.with(show)
    }

    #[inline]
    pub(crate) fn cell(&self, slot: usize) -> Option<&SlotCell<Mounted>> {
        Some(&self.pages[slot / PAGE_SLOTS].get()?[slot % PAGE_SLOTS])
    }

    /// The location behind an address; `None` when its segment was retired.
    pub(crate) fn location(&self, address: Address) -> Option<Location> {
        let segment = self.with(address, |mounted| mounted.segment.id())?;
        Some(Location { segment, offset: address.offset() })
    }
}

impl Book {
    fn take_slot(&mut self) -> Result<u16> {
        if let Some(slot) = self.free.pop() {
            return Ok(slot);
        }
        let slot = u16::try_from(self.unused).map_err(|_| {
            Error::limit(format!(
                "the database has {SLOTS_MAX} segments, which is the most; compact it, or export it and import it into \
                 a new one"
            ))
        })?;
        self.unused += 1;
        Ok(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{OFFSET_BITS, UNIT_BYTES};
    use crate::parts::Compaction;

    fn at(table: &SlotTable, segment: u64, offset: u32) -> Result<Address> {
        let mounted = |id, _| {
            let (segment, liveness) = (LogSegment::Memory(id), Compaction::none().liveness(id));
            Ok(Mounted { segment, liveness })
        };
        table.address(Location { segment, offset }, mounted, |_| {})
    }

    #[test]
    fn an_address_leads_back_to_its_location() {
        let table = SlotTable::new();
        let offset_max = ((1 << OFFSET_BITS) - 1) * UNIT_BYTES;
        for segment in [0, 7, 1 << 40, u64::MAX - 1, 7, 0] {
            for offset in [0, 8, offset_max] {
                let location = Location { segment, offset };
                let address = at(&table, segment, offset).unwrap();
                assert_eq!(table.location(address), Some(location));
            }
        }
    }

    #[test]
    fn the_last_slot_is_usable_and_the_one_after_it_is_refused() {
        let table = SlotTable::new();
        for segment in 0..SLOTS_MAX as u64 {
            at(&table, segment, 0).unwrap();
        }
        let last = Location { segment: SLOTS_MAX as u64 - 1, offset: 8 };
        assert_eq!(table.location(at(&table, last.segment, 8).unwrap()), Some(last));
        assert_eq!(at(&table, SLOTS_MAX as u64, 0).unwrap_err().code(), 4);
    }

    #[test]
    fn a_segment_that_cannot_be_opened_takes_no_slot() {
        let table = SlotTable::new();
        let first = Location { segment: 1, offset: 0 };
        assert!(table.address(first, |_, _| Err(Error::invalid("gone")), |_| {}).is_err());
        assert!(table.location(Address::new(0, 0)).is_none());
        assert_eq!(at(&table, 2, 0).unwrap().slot(), 0);
    }
}
