//! Which segment stands in which slot: what leads from an address to the bytes of a record.
//!
//! # Invariants
//! - An address that was read from the index under a pin leads to its segment, or to nothing, as long as that pin lasts:
//!   a slot that was emptied is given to another segment only after a grace period (rule 10).
//!
//! # Concurrency
//! [`SlotTable::with`] takes no lock and touches no count that readers share: a page, which is made once, and a cell. What
//! it shows stays readable until it returns. Assigning and retiring slots takes a mutex, once per segment.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Mutex, OnceLock};

use crate::address::{Address, Location, SLOTS_MAX};
use crate::error::{Error, Result};
use crate::log::LogSegment;
use crate::parts::{Grace, SegmentLiveness, SlotCell};
use crate::sync::lock;

const PAGE_SLOTS: usize = 256;

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
    /// The slot assigned last: nearly every record that is installed lies in its segment.
    newest: AtomicUsize,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    assigned: HashMap<u64, u16>,
    /// Slots that were never given out start here.
    unused: usize,
    free: Vec<u16>,
    /// Emptied slots that readers may still know of.
    leaving: VecDeque<(Grace, Vec<u16>)>,
}

impl SlotTable {
    pub(crate) fn new() -> Self {
        let pages = (0..SLOTS_MAX / PAGE_SLOTS).map(|_| OnceLock::new()).collect();
        SlotTable { pages, newest: AtomicUsize::new(0), book: Mutex::default() }
    }

    /// The address of a location; a segment seen for the first time is mounted in a slot. `note` is shown the segment.
    ///
    /// # Errors
    /// `LimitExceeded` when all slots are taken, and what `mount` answers.
    #[inline]
    pub(crate) fn address(
        &self,
        location: Location,
        mount: impl FnOnce(u64) -> Result<Mounted>,
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
    fn assign(&self, id: u64, mount: impl FnOnce(u64) -> Result<Mounted>) -> Result<u16> {
        let mut book = lock(&self.book);
        if let Some(&slot) = book.assigned.get(&id) {
            return Ok(slot);
        }
        let mounted = mount(id)?;
        let slot = book.take_slot()?;
        let page = self.pages[usize::from(slot) / PAGE_SLOTS]
            .get_or_init(|| (0..PAGE_SLOTS).map(|_| SlotCell::empty()).collect());
        page[usize::from(slot) % PAGE_SLOTS].set(Some(mounted));
        book.assigned.insert(id, slot);
        // ORDERING: Release, pairs with the load in `address`.
        self.newest.store(usize::from(slot), Release);
        Ok(slot)
    }

    /// Shows the segment that an address leads to. `None`: it was retired since the address was read, so look the key up
    /// again.
    #[inline]
    pub(crate) fn with<R>(&self, address: Address, show: impl FnOnce(&Mounted) -> R) -> Option<R> {
        self.cell(address.slot())?.with(show)
    }

    #[inline]
    fn cell(&self, slot: usize) -> Option<&SlotCell<Mounted>> {
        Some(&self.pages[slot / PAGE_SLOTS].get()?[slot % PAGE_SLOTS])
    }

    /// The location behind an address; `None` when its segment was retired.
    pub(crate) fn location(&self, address: Address) -> Option<Location> {
        let segment = self.with(address, |mounted| mounted.segment.id())?;
        Some(Location { segment, offset: address.offset() })
    }

    /// Takes segments out of their slots: addresses lead to nothing from now on. The slots are given out again by a later
    /// [`SlotTable::reuse`].
    pub(crate) fn retire(&self, ids: &[u64]) {
        let mut book = lock(&self.book);
        let slots: Vec<u16> = ids.iter().filter_map(|id| book.assigned.remove(id)).collect();
        for slot in &slots {
            if let Some(cell) = self.cell(usize::from(*slot)) {
                cell.set(None);
            }
        }
        if !slots.is_empty() {
            book.leaving.push_back((Grace::begin(), slots));
        }
    }

    /// Gives out again the slots that no reader can know of any more; `forget` is told of each before.
    pub(crate) fn reuse(&self, mut forget: impl FnMut(u16)) {
        let mut book = lock(&self.book);
        while book.leaving.front().is_some_and(|(grace, _)| grace.is_over()) {
            let Some((_, slots)) = book.leaving.pop_front() else { return };
            slots.iter().for_each(|slot| forget(*slot));
            book.free.extend(slots);
        }
    }

    /// True while emptied slots wait for readers.
    pub(crate) fn is_waiting(&self) -> bool {
        !lock(&self.book).leaving.is_empty()
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

    fn at(table: &SlotTable, segment: u64, offset: u32) -> Result<Address> {
        let mounted = |id| {
            let (segment, liveness) = (LogSegment::Memory(id), SegmentLiveness::none());
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
        assert!(table.address(first, |_| Err(Error::invalid("gone")), |_| {}).is_err());
        assert!(table.location(Address::new(0, 0)).is_none());
        assert_eq!(at(&table, 2, 0).unwrap().slot(), 0);
    }

    // Rule 10.
    #[test]
    fn a_retired_segment_is_gone_at_once_and_its_slot_comes_back_after_the_readers() {
        let table = SlotTable::new();
        let [old, kept] =
            [1, 2].map(|segment| table.address(Location { segment, offset: 0 }, open).unwrap());
        let pin = crate::parts::pin();
        table.retire(&[1, 9]);
        assert!(table.location(old).is_none() && table.location(kept).is_some());
        let mut told = Vec::new();
        (0..100).for_each(|_| table.reuse(|slot| told.push(slot)));
        let _ = pin;
        assert!(told.is_empty() && table.is_waiting());
        drop(pin);
        let next = |segment| at(&table, segment, 0).unwrap().slot();
        assert_eq!(next(3), 2, "not in the place of the old one");
        if crate::parts::REUSES_SLOTS {
            assert!((0..1_000_000).any(|_| {
                table.reuse(|slot| told.push(slot));
                !told.is_empty()
            }));
            assert_eq!((told, next(4)), (vec![old.slot() as u16], old.slot()));
        }
    }
}
