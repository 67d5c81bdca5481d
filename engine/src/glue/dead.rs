//! The dead bits of all segments, by slot.
//!
//! # Concurrency
//! As dead bits: a look takes no lock, and the first mark in a segment allocates. Bits go only when another segment gets the
//! slot, which no reader knows of then.

use std::sync::{Mutex, OnceLock};

use cortenkv_index::{Address, DeadBits};

use crate::parts::SlotCell;
use crate::sync::lock;

const PAGE_SLOTS: usize = 256;
const PAGES: usize = (1 << 16) / PAGE_SLOTS;

type Page = Box<[SlotCell<DeadBits>]>;

/// Which records have been replaced, of every segment that an address can name.
pub(super) struct DeadTable {
    pages: Box<[OnceLock<Page>]>,
    /// Held while bits are made.
    making: Mutex<()>,
}

impl DeadTable {
    pub(super) fn new() -> Self {
        let pages = (0..PAGES).map(|_| OnceLock::new()).collect();
        DeadTable { pages, making: Mutex::default() }
    }

    #[inline]
    pub(super) fn set(&self, address: Address) {
        let is_set = |bits: &DeadBits| {
            bits.set(address.offset_bytes());
        };
        if self.cell(address.slot()).and_then(|cell| cell.with(is_set)).is_none() {
            self.set_first(address);
        }
    }

    #[cold]
    fn set_first(&self, address: Address) {
        let _making = lock(&self.making);
        let cell = self.cell_or_new(address.slot());
        if cell.with(|bits| bits.set(address.offset_bytes())).is_none() {
            let bits = DeadBits::new(Address::SEGMENT_BYTES_MAX);
            bits.set(address.offset_bytes());
            cell.set(Some(bits));
        }
    }

    /// The cell of a slot, made if it is the first of its page.
    pub(super) fn cell_or_new(&self, slot: u16) -> &SlotCell<DeadBits> {
        let (page, slot) = place(slot);
        let new = || (0..PAGE_SLOTS).map(|_| SlotCell::empty()).collect();
        &self.pages[page].get_or_init(new)[slot]
    }

    #[inline]
    pub(super) fn is_set(&self, address: Address) -> bool {
        let is_set = |bits: &DeadBits| bits.is_set(address.offset_bytes());
        self.cell(address.slot()).and_then(|cell| cell.with(is_set)) == Some(true)
    }

    /// Forgets what was known of the segment in a slot that another one gets.
    pub(super) fn clear(&self, slot: u16) {
        if let Some(cell) = self.cell(slot) {
            cell.set(None);
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let pages = self.pages.iter().filter_map(OnceLock::get);
        let bits = pages.clone().flat_map(|page| page.iter());
        size_of_val(&*self.pages)
            + pages.map(|page| size_of_val(&**page)).sum::<usize>()
            + bits.filter_map(|cell| cell.with(DeadBits::memory_bytes)).sum::<usize>()
    }

    #[inline]
    fn cell(&self, slot: u16) -> Option<&SlotCell<DeadBits>> {
        let (page, slot) = place(slot);
        Some(&self.pages[page].get()?[slot])
    }
}

#[inline]
fn place(slot: u16) -> (usize, usize) {
    let slot = usize::from(slot);
    (slot / PAGE_SLOTS, slot % PAGE_SLOTS)
}
