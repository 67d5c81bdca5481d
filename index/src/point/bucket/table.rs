//! One table of a shard: groups of buckets, what did not fit beside them, and the link to the table that comes next.
//!
//! # Layout
//! ```text
//! bucket  = 8 slots = one cache line
//! group   = 16 buckets                     overflow[group] -> block of 7 slots -> block -> ..
//! a key is looked for in: home bucket, home ^ 1, home ^ 2, .. home ^ 15, then the blocks of its group
//! ```
//!
//! # Invariants
//! - The slots that a key may stand in have one order, the same for everybody, and a key takes the first EMPTY one. As
//!   an EMPTY slot never had an entry ([`Word`]), a look-up may stop at the first, and of two writers of one new key
//!   both want the same slot: one of them wins, and the other finds its entry.
//! - A group of this table is either whole (its last slot is not UNINIT) or still what the table before says it is.
//!   Nothing but the copy from there is stored into a group before it is whole.
//! - [`Table::next`] is set only in the table that the shard calls current, whose groups are all whole.

use std::ops::ControlFlow;

use super::content::Content;
use super::geometry::{BUCKET_SLOTS, Cell, GROUP_BUCKETS, GROUP_SLOTS, Geometry};
use super::memory::{Link, Linked, Slot, Slots};
use super::metrics::Memory;
use super::word::Word;
use crate::address::Address;
use crate::bugs::{Bug, planted};
use crate::point::Probe;
use crate::reclaim::Guard;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Slots of one overflow block: with its link it fills a cache line.
pub(super) const BLOCK_SLOTS: usize = if cfg!(any(loom, shuttle)) { 1 } else { 7 };

/// Slots beyond those of a full group.
#[repr(align(64))]
pub(super) struct Block {
    pub(super) slots: [Slot; BLOCK_SLOTS],
    pub(super) next: Link<Block>,
}

impl Block {
    /// A block that begins with these entries, at most [`BLOCK_SLOTS`].
    pub(super) fn with(words: &[Word]) -> Box<Block> {
        let word = |n| words.get(n).copied().unwrap_or(Word::EMPTY);
        Box::new(Block { slots: std::array::from_fn(|n| Slot::new(word(n))), next: Link::null() })
    }
}

/// A table.
pub(super) struct Table {
    pub(super) geometry: Geometry,
    pub(super) slots: Slots,
    pub(super) overflow: Box<[Link<Block>]>,
    pub(super) next: Link<Table>,
    pub(super) progress: Progress,
}

/// What only writers look at; on a line of its own, away from what readers read.
#[repr(align(64))]
pub(super) struct Progress {
    /// More slots in use than this, and the table is replaced.
    pub(super) used_max: u64,
    /// How many tables the shard had before.
    pub(super) generation: u32,
    pub(super) memory: Memory,
    /// Slots that are not EMPTY.
    pub(super) used: AtomicU64,
    /// Groups that are whole.
    pub(super) whole: AtomicU32,
    /// Where the next helper looks for a group that is not.
    pub(super) cursor: AtomicU32,
}

/// How a walk over the slots of a key ended.
pub(super) enum Walked<'g, R> {
    Stopped(R),
    /// Behind the last slot: here the next block goes.
    End(&'g Link<Block>),
    /// Behind the last slot of a frozen group.
    FrozenEnd,
}

/// What a look-up found.
pub(super) enum Look {
    Found(Address),
    Absent,
    /// A slot that is frozen, or not filled yet: another table knows.
    Moving,
}

impl Table {
    /// A table whose groups are all whole and empty.
    pub(super) fn empty(geometry: Geometry, used_max: u64, memory: &Memory) -> Box<Table> {
        let table = Table::uninit(geometry, used_max, 0, memory);
        for slot in table.slots.iter() {
            slot.begin(Word::EMPTY);
        }
        table.progress.whole.store(geometry.groups(), Ordering::Relaxed);
        table
    }

    /// A table to be filled from the one before.
    pub(super) fn uninit(
        geometry: Geometry,
        used_max: u64,
        generation: u32,
        memory: &Memory,
    ) -> Box<Table> {
        let table = Box::new(Table {
            geometry,
            slots: Slots::uninit(geometry.groups() as usize * GROUP_SLOTS),
            overflow: (0..geometry.groups()).map(|_| Link::null()).collect(),
            next: Link::null(),
            progress: Progress {
                used_max,
                generation,
                memory: memory.clone(),
                used: AtomicU64::new(0),
                whole: AtomicU32::new(0),
                cursor: AtomicU32::new(0),
            },
        });
        memory.add(table.bytes());
        table
    }

    fn bytes(&self) -> usize {
        size_of::<Table>() + self.slots.bytes() + size_of_val(&*self.overflow)
    }

    /// The first slot of the home bucket, to be prefetched.
    pub(super) fn home(&self, cell: Cell) -> &Slot {
        &self.slots[self.geometry.home_bucket(cell) * BUCKET_SLOTS]
    }

    /// Visits the slots that a key of this cell may stand in, in their order.
    #[inline]
    pub(super) fn walk<'g, R>(
        &'g self,
        cell: Cell,
        guard: &'g Guard,
        mut visit: impl FnMut(&'g Slot) -> ControlFlow<R>,
    ) -> Walked<'g, R> {
        let home = self.geometry.home_bucket(cell);
        for step in 0..GROUP_BUCKETS {
            let first = (home ^ step) * BUCKET_SLOTS;
            for slot in &self.slots[first..first + BUCKET_SLOTS] {
                if let ControlFlow::Break(result) = visit(slot) {
                    return Walked::Stopped(result);
                }
            }
        }
        self.walk_overflow(home / GROUP_BUCKETS, guard, visit)
    }

    #[cold]
    fn walk_overflow<'g, R>(
        &'g self,
        group: usize,
        guard: &'g Guard,
        mut visit: impl FnMut(&'g Slot) -> ControlFlow<R>,
    ) -> Walked<'g, R> {
        let mut link = &self.overflow[group];
        loop {
            let block = match link.load(guard) {
                Linked::To(block) => block,
                Linked::Null => return Walked::End(link),
                Linked::FrozenNull => return Walked::FrozenEnd,
            };
            for slot in &block.slots {
                if let ControlFlow::Break(result) = visit(slot) {
                    return Walked::Stopped(result);
                }
            }
            link = &block.next;
        }
    }

    /// Looks for the entry that `verify` accepts.
    #[inline]
    pub(super) fn look(
        &self,
        cell: Cell,
        guard: &Guard,
        verify: &mut impl FnMut(Address) -> Probe,
    ) -> Look {
        let tag = self.geometry.tag(cell);
        let walked = self.walk(cell, guard, |slot| {
            let mut word = slot.load();
            if planted(Bug::DeletedTakenForEnd) && word == Word::DELETED {
                return ControlFlow::Break(Look::Absent);
            }
            loop {
                let Some(address) = word.address_if(tag) else {
                    return if word.is_thawed_entry() || word == Word::DELETED {
                        ControlFlow::Continue(())
                    } else if word == Word::EMPTY {
                        ControlFlow::Break(Look::Absent)
                    } else {
                        ControlFlow::Break(Look::Moving)
                    };
                };
                match verify(address) {
                    Probe::Same(_) => return ControlFlow::Break(Look::Found(address)),
                    Probe::Other => return ControlFlow::Continue(()),
                    Probe::Gone => {
                        let again = slot.load();
                        if again == word {
                            return ControlFlow::Continue(());
                        }
                        word = again;
                    }
                }
            }
        });
        match walked {
            Walked::Stopped(look) => look,
            Walked::End(_) => Look::Absent,
            Walked::FrozenEnd => Look::Moving,
        }
    }

    /// Looks among entries that may be frozen; the answer counts as long as the group that they go to is not whole, which
    /// `has_moved` tells. `None` if a record is gone because that group has become whole.
    pub(super) fn look_frozen(
        &self,
        cell: Cell,
        guard: &Guard,
        verify: &mut impl FnMut(Address) -> Probe,
        has_moved: impl Fn() -> bool,
    ) -> Option<Option<Address>> {
        let tag = self.geometry.tag(cell);
        let walked = self.walk(cell, guard, |slot| {
            let mut word = slot.load().thawed();
            loop {
                if word == Word::EMPTY {
                    return ControlFlow::Break(Some(None));
                }
                let Some(address) = word.address_if(tag) else { return ControlFlow::Continue(()) };
                match verify(address) {
                    Probe::Same(_) => return ControlFlow::Break(Some(Some(address))),
                    Probe::Other => return ControlFlow::Continue(()),
                    Probe::Gone => {
                        let again = slot.load().thawed();
                        if again != word {
                            word = again;
                        } else if has_moved() {
                            return ControlFlow::Break(None);
                        } else {
                            // It still stands here: waiting for whoever moves the group would be no use.
                            return ControlFlow::Continue(());
                        }
                    }
                }
            }
        });
        match walked {
            Walked::Stopped(found) => found,
            Walked::End(_) | Walked::FrozenEnd => Some(None),
        }
    }

    /// An address that the key of this cell may have, from its home bucket: worth a prefetch.
    #[inline]
    pub(super) fn guess(&self, cell: Cell) -> Option<Address> {
        let tag = self.geometry.tag(cell);
        let first = self.geometry.home_bucket(cell) * BUCKET_SLOTS;
        for slot in &self.slots[first..first + BUCKET_SLOTS] {
            let word = slot.load();
            if let Some(address) = word.address_if(tag) {
                return Some(address);
            }
            if word == Word::EMPTY {
                return None;
            }
        }
        None
    }

    /// True if all slots of the group were filled from the table before.
    pub(super) fn is_whole(&self, group: u32) -> bool {
        if planted(Bug::WholeByFirstSlot) {
            return self.group_slots(group)[0].load() != Word::UNINIT;
        }
        self.last_slot(group).load() != Word::UNINIT
    }

    /// True if all groups were.
    pub(super) fn is_all_whole(&self) -> bool {
        // ORDERING: Acquire, pairs with the AcqRel in `fill`: all slots are seen filled.
        self.progress.whole.load(Ordering::Acquire) == self.geometry.groups()
    }

    fn last_slot(&self, group: u32) -> &Slot {
        &self.slots[(group as usize + 1) * GROUP_SLOTS - 1]
    }

    fn group_slots(&self, group: u32) -> &[Slot] {
        &self.slots[group as usize * GROUP_SLOTS..][..GROUP_SLOTS]
    }

    /// Visits all words of a group in a fixed order, frozen ones too.
    pub(super) fn for_each_word(&self, group: u32, guard: &Guard, mut visit: impl FnMut(Word)) {
        for slot in self.group_slots(group) {
            visit(slot.load());
        }
        let mut link = &self.overflow[group as usize];
        while let Linked::To(block) = link.load(guard) {
            block.slots.iter().for_each(|slot| visit(slot.load()));
            link = &block.next;
        }
    }

    /// Makes all slots of a group final, and visits their words in a fixed order.
    pub(super) fn freeze(&self, group: u32, guard: &Guard, mut visit: impl FnMut(Word)) {
        for slot in self.group_slots(group) {
            visit(slot.freeze());
        }
        let mut link = &self.overflow[group as usize];
        while let Some(block) = link.freeze(guard) {
            block.slots.iter().for_each(|slot| visit(slot.freeze()));
            link = &block.next;
        }
    }

    /// Stores what a group begins with. Everybody who does so stores the same, so it does not matter who comes first,
    /// and whoever is late changes nothing.
    pub(super) fn fill(&self, group: u32, content: &Content) {
        let mut placed = 0;
        if let Some(chain) = content.overflow_chain() {
            let blocks = content.overflow.len().div_ceil(BLOCK_SLOTS);
            match self.overflow[group as usize].publish(chain) {
                Ok(()) => {
                    self.progress.memory.add(blocks * size_of::<Block>());
                    placed += content.overflow.len() as u64;
                }
                Err(chain) => {
                    drop_chain(chain);
                }
            }
        }
        let mut completes = false;
        for (slot, &word) in self.group_slots(group).iter().zip(&content.slots) {
            let was_first = slot.replace(Word::UNINIT, word).is_ok();
            placed += u64::from(was_first && word != Word::EMPTY);
            completes = was_first;
            if planted(Bug::LateFill) && !was_first {
                let _ = slot.replace(slot.load().thawed(), word);
            }
        }
        // ORDERING: Relaxed: a count; growth depends on it roughly.
        self.progress.used.fetch_add(placed, Ordering::Relaxed);
        if completes {
            // ORDERING: AcqRel, pairs with the Acquire in `is_all_whole`.
            self.progress.whole.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Puts a new block with one entry where a walk ended; false if another one is there.
    pub(super) fn extend(&self, end: &Link<Block>, word: Word) -> bool {
        let added = end.publish(Block::with(&[word])).is_ok();
        if added {
            self.progress.memory.add(size_of::<Block>());
        }
        added
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let mut bytes = self.bytes();
        for link in &mut self.overflow {
            if let Some(chain) = link.take() {
                bytes += drop_chain(chain);
            }
        }
        self.progress.memory.subtract(bytes);
    }
}

/// Drops blocks one by one: a long chain must not recurse. Returns their bytes.
fn drop_chain(first: Box<Block>) -> usize {
    let (mut bytes, mut rest) = (0, Some(first));
    while let Some(mut block) = rest {
        bytes += size_of::<Block>();
        rest = block.next.take();
    }
    bytes
}
