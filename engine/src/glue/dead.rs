//! The dead bits of all segments, by slot.
//!
//! # Concurrency
//! As dead bits: a look takes no lock, and the first mark in a segment allocates.

use std::sync::OnceLock;

use cortenkv_index::{Address, DeadBits};

const PAGE_SLOTS: usize = 256;
const PAGES: usize = (1 << 16) / PAGE_SLOTS;

type Page = Box<[OnceLock<DeadBits>]>;

/// Which records have been replaced, of every segment that an address can name.
pub(super) struct DeadTable {
    pages: Box<[OnceLock<Page>]>,
}

impl DeadTable {
    pub(super) fn new() -> Self {
        DeadTable { pages: (0..PAGES).map(|_| OnceLock::new()).collect() }
    }

    #[inline]
    pub(super) fn set(&self, address: Address) {
        let (page, slot) = place(address);
        let page =
            self.pages[page].get_or_init(|| (0..PAGE_SLOTS).map(|_| OnceLock::new()).collect());
        let bits = page[slot].get_or_init(|| DeadBits::new(Address::SEGMENT_BYTES_MAX));
        bits.set(address.offset_bytes());
    }

    pub(super) fn is_set(&self, address: Address) -> bool {
        let (page, slot) = place(address);
        let bits = self.pages[page].get().and_then(|page| page[slot].get());
        bits.is_some_and(|bits| bits.is_set(address.offset_bytes()))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let pages = self.pages.iter().filter_map(OnceLock::get);
        let bits = pages.clone().flat_map(|page| page.iter().filter_map(OnceLock::get));
        size_of_val(&*self.pages)
            + pages.map(|page| size_of_val(&**page)).sum::<usize>()
            // Those in the pages themselves are counted.
            + bits.map(|bits| bits.memory_bytes() - size_of::<DeadBits>()).sum::<usize>()
    }
}

fn place(address: Address) -> (usize, usize) {
    let slot = usize::from(address.slot());
    (slot / PAGE_SLOTS, slot % PAGE_SLOTS)
}
