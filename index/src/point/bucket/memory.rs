//! The memory of the bucket index: slots as the allocator zeroes them, and links to what many threads read.
//!
//! The only file of this kind with unsafe code. Why it is needed: a table may be read while it is replaced, and a reader
//! that counted references would write to a line that every other reader reads; and slots that are zero by birth cost a
//! new table no pass over its memory.
//!
//! # Invariants
//! - What a [`Link`] points at came out of a `Box`, is shared from then on, and goes back into a `Box` in two ways only:
//!   after [`Link::advance`] took it out of the last link that led to it, or by a unique borrow of the link.
//! - What was taken out is dropped by [`Guard::retire`], when no reader that could have loaded it holds a guard any more.
#![allow(unsafe_code, reason = "the named file for it; see above")]

use std::marker::PhantomData;

use super::word::Word;
use crate::bugs::{Bug, planted};
use crate::reclaim::Guard;
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// A slot of a table.
#[derive(Debug)]
pub(super) struct Slot(AtomicU64);

impl Slot {
    pub(super) fn new(word: Word) -> Slot {
        Slot(AtomicU64::new(word.bits()))
    }

    /// Gives a slot of a table that nobody else has yet its first word.
    pub(super) fn begin(&self, word: Word) {
        // ORDERING: Relaxed: the link that will lead to the table publishes it.
        self.0.store(word.bits(), Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> Word {
        // ORDERING: Acquire, pairs with the Release of every store of a word: the record that an entry points at was
        // written before, and whoever finds a frozen word finds the next table.
        Word::from_bits(self.0.load(Ordering::Acquire))
    }

    /// Replaces `old` by `new`; what stands there instead when it does not.
    pub(super) fn replace(&self, old: Word, new: Word) -> Result<(), Word> {
        // ORDERING: Release publishes what came before (the record, the order of keys, the dead bit of `old`); Acquire
        // on failure, as in `load`.
        self.0
            .compare_exchange(old.bits(), new.bits(), Ordering::AcqRel, Ordering::Acquire)
            .map(|_| ())
            .map_err(Word::from_bits)
    }

    /// Makes the word final and returns it, thawed.
    pub(super) fn freeze(&self) -> Word {
        let mut word = self.load();
        while !word.is_frozen() && !planted(Bug::FillWithoutFreeze) {
            match self.replace(word, word.frozen()) {
                Ok(()) => break,
                Err(changed) => word = changed,
            }
        }
        word.thawed()
    }
}

/// Slots that begin as [`Word::UNINIT`], each bucket on a cache line of its own.
pub(super) struct Slots {
    /// What was allocated; the slots begin at the first cache line in it.
    #[cfg(not(any(loom, shuttle)))]
    memory: std::ptr::NonNull<u8>,
    #[cfg(not(any(loom, shuttle)))]
    start: std::ptr::NonNull<Slot>,
    #[cfg(not(any(loom, shuttle)))]
    len: usize,
    #[cfg(any(loom, shuttle))]
    slots: Box<[Slot]>,
}

#[cfg(not(any(loom, shuttle)))]
mod zeroed {
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::ops::Deref;
    use std::ptr::NonNull;

    use super::{Slot, Slots};

    /// A cache line.
    const ALIGN_BYTES: usize = 64;

    impl Slots {
        /// # Panics
        /// If the size does not fit the address space; a missing page aborts, as everywhere.
        pub(in super::super) fn uninit(len: usize) -> Slots {
            let layout = Slots::layout(len);
            // SAFETY: the layout is not empty, see `layout`.
            let memory = unsafe { alloc_zeroed(layout) };
            let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
            let to_line = memory.addr().get().wrapping_neg() % ALIGN_BYTES;
            // SAFETY: `layout` has room for that many bytes before the slots.
            let start = unsafe { memory.add(to_line) }.cast::<Slot>();
            Slots { memory, start, len }
        }

        /// Room for the slots behind the next cache line. Asking for the alignment itself would cost a pass over all of
        /// it: the allocator of the system hands out zeroed pages at its own alignment only, and writes zeroes else.
        fn layout(len: usize) -> Layout {
            assert!(len > 0, "a table has slots");
            let slots = Layout::array::<Slot>(len).expect("a table fits the address space");
            let size = slots.size() + ALIGN_BYTES - align_of::<Slot>();
            Layout::from_size_align(size, align_of::<Slot>()).expect("a table fits as well")
        }

        pub(in super::super) fn bytes(&self) -> usize {
            Slots::layout(self.len).size()
        }
    }

    impl Deref for Slots {
        type Target = [Slot];

        fn deref(&self) -> &[Slot] {
            // SAFETY: `uninit` allocated `len` slots from `start` on, aligned to more than a slot needs, and zeroed: all
            // zeroes is a valid atomic integer. They live as long as `self`, and are only reached through atomics.
            unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
        }
    }

    impl Drop for Slots {
        fn drop(&mut self) {
            // SAFETY: allocated by `uninit` with the same layout; slots have no destructor; `self` is unique here.
            unsafe { dealloc(self.memory.as_ptr(), Slots::layout(self.len)) };
        }
    }

    // SAFETY: `Slots` owns its memory as a `Box<[Slot]>` would, and `Slot` is an atomic integer.
    unsafe impl Send for Slots {}
    // SAFETY: shared access goes through atomic integers only.
    unsafe impl Sync for Slots {}
}

#[cfg(any(loom, shuttle))]
impl Slots {
    pub(super) fn uninit(len: usize) -> Slots {
        Slots { slots: (0..len).map(|_| Slot::new(Word::UNINIT)).collect() }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.slots)
    }
}

#[cfg(any(loom, shuttle))]
impl std::ops::Deref for Slots {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        &self.slots
    }
}

/// A pointer that readers follow under a guard: null, to a `T`, and perhaps frozen.
pub(super) struct Link<T> {
    /// Bit 0 is the mark of a frozen link.
    pointer: AtomicPtr<T>,
    owns: PhantomData<Box<T>>,
}

/// What a link leads to.
pub(super) enum Linked<'g, T> {
    /// Nothing yet.
    Null,
    /// Nothing, for ever.
    FrozenNull,
    To(&'g T),
}

const FROZEN: usize = 1;

impl<T: Send + Sync + 'static> Link<T> {
    pub(super) fn null() -> Self {
        Link { pointer: AtomicPtr::new(std::ptr::null_mut()), owns: PhantomData }
    }

    pub(super) fn to(target: Box<T>) -> Self {
        Link { pointer: AtomicPtr::new(Box::into_raw(target)), owns: PhantomData }
    }

    /// What the link leads to, as long as the guard is held.
    pub(super) fn load<'g>(&'g self, _guard: &'g Guard) -> Linked<'g, T> {
        // ORDERING: Acquire, pairs with the Release of `publish` and `advance`: the target is whole.
        self.target(self.pointer.load(Ordering::Acquire))
    }

    fn target<'g>(&'g self, pointer: *mut T) -> Linked<'g, T> {
        let frozen = pointer.addr() & FROZEN != 0;
        let pointer = pointer.map_addr(|addr| addr & !FROZEN);
        // SAFETY: a pointer in a link is null or came out of a `Box`; the target is not dropped while the guard of the
        // caller is held (`advance`, `take`), and only shared references to it exist.
        match unsafe { pointer.as_ref() } {
            Some(target) => Linked::To(target),
            None if frozen => Linked::FrozenNull,
            None => Linked::Null,
        }
    }

    /// True if the link leads nowhere yet.
    pub(super) fn is_null(&self) -> bool {
        self.pointer.load(Ordering::Relaxed).is_null()
    }

    /// Sets a link that is null. Else gives the box back.
    pub(super) fn publish(&self, target: Box<T>) -> Result<(), Box<T>> {
        let pointer = Box::into_raw(target);
        // ORDERING: Release publishes the target; the failure tells nothing.
        let set = self.pointer.compare_exchange(
            std::ptr::null_mut(),
            pointer,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        match set {
            Ok(_) => Ok(()),
            // SAFETY: it came out of a box above and was not shared.
            Err(_) => Err(unsafe { Box::from_raw(pointer) }),
        }
    }

    /// Makes what the link leads to final, and returns it.
    pub(super) fn freeze<'g>(&'g self, _guard: &'g Guard) -> Option<&'g T> {
        let mut pointer = self.pointer.load(Ordering::Acquire);
        while pointer.addr() & FROZEN == 0 && !planted(Bug::ChainNotFrozen) {
            // ORDERING: as in `publish` and `load`.
            let frozen = self.pointer.compare_exchange(
                pointer,
                pointer.map_addr(|addr| addr | FROZEN),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match frozen {
                Ok(_) => break,
                Err(changed) => pointer = changed,
            }
        }
        match self.target(pointer) {
            Linked::To(target) => Some(target),
            Linked::Null | Linked::FrozenNull => None,
        }
    }

    /// Lets this link lead to `next`, which `next` link leads to, instead of `old`; retires `old` and is true, if nobody
    /// did so before. `next` passes from that link to this one: the owner of `old` must not drop it.
    pub(super) fn advance(&self, old: &T, next: &Link<T>, guard: &Guard) -> bool {
        let old = std::ptr::from_ref(old).cast_mut();
        let next = next.pointer.load(Ordering::Acquire);
        debug_assert!(!next.is_null());
        // ORDERING: Release publishes what `next` holds to those who load this link only.
        let moved =
            self.pointer.compare_exchange(old, next, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if moved {
            // SAFETY: it came out of a box (a link held it), and this was the last link to it: readers that come now
            // load `next`, and those that came before hold guards.
            guard.retire(unsafe { Box::from_raw(old) });
        }
        moved
    }

    /// Takes the target out; nobody else can reach it.
    pub(super) fn take(&mut self) -> Option<Box<T>> {
        let pointer = std::mem::replace(&mut self.pointer, AtomicPtr::new(std::ptr::null_mut()));
        let pointer = pointer.load(Ordering::Relaxed).map_addr(|addr| addr & !FROZEN);
        // SAFETY: the borrow is unique, so no reader is left, and the pointer came out of a box.
        (!pointer.is_null()).then(|| unsafe { Box::from_raw(pointer) })
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn slots_begin_uninit_on_whole_lines() {
        for len in [8, 128, 8 * 1024] {
            let slots = Slots::uninit(len);
            assert_eq!((slots.len(), slots.bytes()), (len, len * 8 + 56));
            assert!(slots.iter().all(|slot| slot.load() == Word::UNINIT));
            assert_eq!(slots.as_ptr().addr() % 64, 0);
        }
    }

    /// A table begins under a put: it must not cost a pass over memory that is touched group by group later.
    #[cfg(target_os = "linux")]
    #[test]
    #[expect(clippy::disallowed_methods, reason = "what the system says of this process")]
    fn a_large_table_takes_no_memory_before_it_is_filled() {
        let resident_bytes = || {
            let text = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
            let pages: usize =
                text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
            pages * 4096
        };
        let before = resident_bytes();
        let slots = Slots::uninit(64 << 20);
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < slots.bytes() / 8, "{grown} of {} bytes were touched", slots.bytes());
    }

    #[test]
    fn a_frozen_word_and_a_frozen_link_are_final() {
        let slot = Slot::new(Word::EMPTY);
        assert_eq!(slot.freeze(), Word::EMPTY);
        assert_eq!(slot.replace(Word::EMPTY, Word::DELETED), Err(Word::EMPTY.frozen()));

        let guard = crate::reclaim::pin();
        let link = Link::null();
        assert!(matches!(link.load(&guard), Linked::Null));
        assert!(link.freeze(&guard).is_none());
        assert!(matches!(link.load(&guard), Linked::FrozenNull));
        assert!(link.publish(Box::new(1)).is_err());

        let mut link = Link::to(Box::new(2));
        assert_eq!(link.freeze(&guard), Some(&2));
        assert!(matches!(link.load(&guard), Linked::To(2)));
        assert_eq!(link.take(), Some(Box::new(2)));
    }
}
