//! One slot of the table: a word that is an entry, or says that there is none.
//!
//! # Layout
//! ```text
//! bit 63     62      61         39 38                            0
//!  [frozen][entry][ tag: 23 bits ][ address: slot 16, offset / 8 23 ]
//! ```
//! A word without the entry bit is one of the three markers, perhaps frozen.
//!
//! # Invariants
//! A slot goes through its states in one direction only, and to the next table only from a frozen one:
//! ```text
//! UNINIT -> EMPTY -> entry -> entry of the same key -> .. -> DELETED        any of them but UNINIT -> frozen, the end
//!        \-> entry (copied from the table before)
//! ```
//! So a slot belongs to one key from its first entry on, and an EMPTY slot never had one.

use crate::address::Address;

/// Bits of the hash that an entry keeps.
pub(super) const TAG_BITS: u32 = 23;

const TAG_SHIFT: u32 = Address::BITS;
const ENTRY: u64 = 1 << 62;
const FROZEN: u64 = 1 << 63;
const IDENTITY_MASK: u64 = ENTRY | ((1 << TAG_BITS) - 1) << TAG_SHIFT;

const _: () = assert!(Address::BITS + TAG_BITS + 2 == u64::BITS);

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u64);

impl Word {
    /// Memory as it comes: the slot was not filled from the table before yet.
    pub(super) const UNINIT: Word = Word(0);
    /// Free, and was always free in this table.
    pub(super) const EMPTY: Word = Word(1);
    /// An entry was taken out.
    pub(super) const DELETED: Word = Word(2);

    /// An entry; `tag` has [`TAG_BITS`] bits.
    pub(super) fn entry(tag: u32, address: Address) -> Word {
        debug_assert!(tag < 1 << TAG_BITS);
        Word(ENTRY | u64::from(tag) << TAG_SHIFT | address.to_bits())
    }

    pub(super) fn from_bits(bits: u64) -> Word {
        Word(bits)
    }

    /// From bits that were stored outside the process; `None` for what no slot of a table at rest holds.
    pub(super) fn from_stored(bits: u64) -> Option<Word> {
        let word = Word(bits);
        let is_marker = word == Word::EMPTY || word == Word::DELETED;
        (is_marker || word.is_thawed_entry()).then_some(word)
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// The address of an entry with this tag that is not frozen.
    #[inline]
    pub(super) fn address_if(self, tag: u32) -> Option<Address> {
        let wanted = ENTRY | u64::from(tag) << TAG_SHIFT;
        let address = Address::from_bits(self.0 & ((1 << Address::BITS) - 1));
        address.filter(|_| self.0 & (FROZEN | IDENTITY_MASK) == wanted)
    }

    /// True for an entry that is not frozen.
    #[inline]
    pub(super) fn is_thawed_entry(self) -> bool {
        self.0 & (FROZEN | ENTRY) == ENTRY
    }

    /// True for two entries of one tag, whether frozen or not.
    #[inline]
    pub(super) fn has_tag_of(self, other: Word) -> bool {
        (self.0 ^ other.0) & IDENTITY_MASK == 0
    }

    pub(super) fn is_entry(self) -> bool {
        self.0 & ENTRY != 0
    }

    pub(super) fn is_frozen(self) -> bool {
        self.0 & FROZEN != 0
    }

    pub(super) fn frozen(self) -> Word {
        Word(self.0 | FROZEN)
    }

    pub(super) fn thawed(self) -> Word {
        Word(self.0 & !FROZEN)
    }

    /// The tag of an entry.
    pub(super) fn tag(self) -> u32 {
        ((self.0 & IDENTITY_MASK & !ENTRY) >> TAG_SHIFT) as u32
    }

    /// The address of an entry.
    pub(super) fn address(self) -> Option<Address> {
        Address::from_bits(self.0 & ((1 << Address::BITS) - 1)).filter(|_| self.is_entry())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_and_address_survives_packing_and_no_marker_looks_like_one() {
        for tag in [0, 1, 0x2A_AAAA, (1 << TAG_BITS) - 1] {
            for address in [Address::MIN, Address::MAX] {
                for word in [Word::entry(tag, address), Word::entry(tag, address).frozen()] {
                    let found = (!word.is_frozen()).then_some(address);
                    assert!(word.is_entry() && word.is_thawed_entry() != word.is_frozen());
                    assert_eq!((word.address_if(tag), word.address_if(tag ^ 1)), (found, None));
                    assert_eq!((word.tag(), word.address()), (tag, Some(address)));
                    assert!(word.has_tag_of(Word::entry(tag, Address::MIN)));
                    assert!(!word.has_tag_of(Word::entry(tag ^ 1, address)));
                    assert_eq!(word.thawed(), Word::entry(tag, address));
                }
            }
        }
        for marker in [Word::UNINIT, Word::EMPTY, Word::DELETED] {
            for word in [marker, marker.frozen()] {
                assert!(!word.is_entry() && !word.is_thawed_entry());
                assert_eq!((word.address_if(0), word.address()), (None, None));
                assert_eq!(word.thawed(), marker);
            }
        }
    }
}
