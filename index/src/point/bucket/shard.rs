//! One shard: the operations on entries. Growth is in `resize`.
//!
//! # Concurrency
//! A look-up takes no lock and waits for nobody. It looks at most twice at each table that is current while it runs, and
//! there is another one only when a resize of the shard ended meanwhile.
//!
//! A change is one compare-and-swap of one slot. It is tried again only when another change of the same slot came first,
//! or when the shard began or ended a resize: so some operation always ends (lock-freedom), whoever is stopped wherever.
//! A change that meets a resize first moves the group that it is about, with whoever else is at it.

use std::ops::ControlFlow;

use super::geometry::Cell;
use super::memory::{Link, Linked, Slot};
use super::metrics::{Memory, ResizeCounters};
use super::resize::Sizes;
use super::table::{Look, Table, Walked};
use super::word::Word;
use crate::address::Address;
use crate::bugs::{Bug, planted};
use crate::point::{Entry, Location, NewEntry, Outcome, Probe};
use crate::reclaim::Guard;
use crate::stops::{Stop, stop};
use crate::sync::atomic::{AtomicU64, Ordering};

/// A shard. Readers read its first line; the count of entries, which writers change, is on the second.
#[repr(align(128))]
pub(super) struct Shard {
    pub(super) current: Link<Table>,
    pub(super) sizes: Sizes,
    pub(super) live: Live,
}

/// The number of entries, modulo 2^64: a removal may be counted before the insert that it undoes.
#[repr(align(64))]
pub(super) struct Live(AtomicU64);

impl Live {
    pub(super) fn of(entries: u64) -> Live {
        Live(AtomicU64::new(entries))
    }

    pub(super) fn count(&self) -> u64 {
        let counted = self.0.load(Ordering::Relaxed) as i64;
        counted.max(0) as u64
    }
}

/// What a shard needs of the index that it is part of.
pub(super) struct Shared {
    pub(super) memory: Memory,
    pub(super) resizes: ResizeCounters,
}

/// How one attempt on one slot ended.
enum Attempt {
    Done,
    /// The slot is frozen: the group is moving.
    Moved,
}

/// What is to be installed in one table.
struct Place<'a, L: ?Sized> {
    new: &'a NewEntry<'a>,
    locate: &'a L,
    tag: u32,
    word: Word,
}

impl<L: Location + ?Sized> Place<'_, L> {
    /// Tries a slot that is not of another tag, and sets `outcome` if that ends the walk. Out of line, to keep the walk short.
    #[inline(never)]
    fn install(
        &self,
        slot: &Slot,
        mut found: Word,
        on_replace: &mut impl FnMut(Option<Entry>),
        outcome: &mut Outcome,
    ) -> ControlFlow<Attempt> {
        let &Place { new, locate, tag, word } = self;
        loop {
            if found == word {
                *outcome = Outcome::Present;
                return ControlFlow::Break(Attempt::Done);
            }
            let old = if let Some(address) = found.address_if(tag) {
                match locate.probe(address, new.keyspace, new.key) {
                    Probe::Same(version) => Some(Entry { address, version }),
                    Probe::Other => return ControlFlow::Continue(()),
                    Probe::Gone => {
                        let again = slot.load();
                        if again == found {
                            return ControlFlow::Continue(());
                        }
                        found = again;
                        continue;
                    }
                }
            } else if found == Word::EMPTY {
                None
            } else if found.is_frozen() {
                return ControlFlow::Break(Attempt::Moved);
            } else {
                return ControlFlow::Continue(());
            };
            if let Some(old) = old
                && !new.entry().supersedes(&old)
            {
                *outcome = Outcome::Stale(old);
                return ControlFlow::Break(Attempt::Done);
            }
            on_replace(old);
            stop(Stop::BeforeInstall);
            match slot.replace(found, word) {
                Ok(()) => {
                    *outcome = old.map_or(Outcome::Inserted, Outcome::Replaced);
                    return ControlFlow::Break(Attempt::Done);
                }
                Err(_) if planted(Bug::LostSlotPassedOver) && old.is_none() => {
                    return ControlFlow::Continue(());
                }
                Err(changed) => found = changed,
            }
        }
    }
}

impl Shard {
    pub(super) fn new(sizes: Sizes, shared: &Shared) -> Self {
        let table = Table::empty(sizes.first_geometry(), sizes.first_used_max(), &shared.memory);
        Shard { current: Link::to(table), sizes, live: Live::of(0) }
    }

    pub(super) fn table<'g>(&'g self, guard: &'g Guard) -> &'g Table {
        match self.current.load(guard) {
            Linked::To(table) => table,
            Linked::Null | Linked::FrozenNull => unreachable!("a shard always has a table"),
        }
    }

    /// The entry that `verify` accepts.
    #[inline]
    pub(super) fn find(
        &self,
        cell: Cell,
        guard: &Guard,
        mut verify: impl FnMut(Address) -> Probe,
    ) -> Option<Address> {
        loop {
            let table = self.table(guard);
            match table.look(cell, guard, &mut verify) {
                Look::Found(address) => return Some(address),
                Look::Absent => return None,
                Look::Moving => {}
            }
            if let Some(found) = Self::find_moving(table, cell, guard, &mut verify) {
                return found;
            }
        }
    }

    /// [`Shard::find`] in a group that is moving to the next table; `None` if that one has become the current one.
    #[cold]
    fn find_moving(
        table: &Table,
        cell: Cell,
        guard: &Guard,
        verify: &mut impl FnMut(Address) -> Probe,
    ) -> Option<Option<Address>> {
        let Linked::To(next) = table.next.load(guard) else {
            unreachable!("a slot is frozen only once there is a next table")
        };
        if planted(Bug::FrozenTakenForPresent) {
            return table.look_frozen(cell, guard, verify, || true);
        }
        match next.look(cell, guard, verify) {
            Look::Found(address) => return Some(Some(address)),
            Look::Absent => return Some(None),
            Look::Moving => {}
        }
        let has_moved = || next.is_whole(next.geometry.group(cell));
        if has_moved() {
            return None;
        }
        // At this moment nobody could have changed the entries of the group in the next table, so what stands in this
        // one, frozen or not, is the present.
        table.look_frozen(cell, guard, verify, has_moved)
    }

    /// The table to change the entries of this cell in: the current one, or the next one with their group whole.
    pub(super) fn writable<'g>(
        &'g self,
        cell: Cell,
        shared: &Shared,
        guard: &'g Guard,
    ) -> &'g Table {
        let table = self.table(guard);
        match table.next.load(guard) {
            Linked::To(next) => {
                self.help(table, next, next.geometry.group(cell), shared, guard);
                next
            }
            Linked::Null | Linked::FrozenNull => table,
        }
    }

    pub(super) fn install<L: Location + ?Sized>(
        &self,
        cell: Cell,
        new: &NewEntry<'_>,
        locate: &L,
        mut on_replace: impl FnMut(Option<Entry>),
        shared: &Shared,
        guard: &Guard,
    ) -> Outcome {
        loop {
            let table = self.writable(cell, shared, guard);
            let tag = table.geometry.tag(cell);
            let place = Place { new, locate, tag, word: Word::entry(tag, new.address) };
            let mut outcome = Outcome::Inserted;
            let walked = table.walk(cell, guard, |slot| {
                let found = slot.load();
                if found.is_thawed_entry() && !found.has_tag_of(place.word) {
                    // Of another key, as most that are met.
                    return ControlFlow::Continue(());
                }
                place.install(slot, found, &mut on_replace, &mut outcome)
            });
            match walked {
                Walked::Stopped(Attempt::Done) => {}
                Walked::End(end) => {
                    on_replace(None);
                    stop(Stop::BeforeInstall);
                    if !table.extend(end, place.word) {
                        continue;
                    }
                    outcome = Outcome::Inserted;
                }
                Walked::Stopped(Attempt::Moved) | Walked::FrozenEnd => continue,
            }
            if outcome == Outcome::Inserted {
                stop(Stop::BeforeCount);
                self.count_insert(table, shared, guard);
            }
            return outcome;
        }
    }

    fn count_insert(&self, table: &Table, shared: &Shared, guard: &Guard) {
        // ORDERING: Relaxed: counts that publish nothing.
        self.live.0.fetch_add(1, Ordering::Relaxed);
        let used = table.progress.used.fetch_add(1, Ordering::Relaxed) + 1;
        if used > table.progress.used_max {
            self.begin_resize(table, shared, guard);
        }
    }

    /// Replaces the entry with this address by `new`, or takes it out.
    pub(super) fn change(
        &self,
        cell: Cell,
        old: Address,
        new: Option<Address>,
        shared: &Shared,
        guard: &Guard,
    ) -> bool {
        loop {
            let table = self.writable(cell, shared, guard);
            let tag = table.geometry.tag(cell);
            let expected = Word::entry(tag, old);
            let replacement = new.map_or(Word::DELETED, |address| Word::entry(tag, address));
            let walked = table.walk(cell, guard, |slot| {
                let found = slot.load();
                if found.is_frozen() {
                    return ControlFlow::Break(None);
                }
                if found == Word::EMPTY {
                    return ControlFlow::Break(Some(false));
                }
                if found != expected {
                    return ControlFlow::Continue(());
                }
                stop(Stop::BeforeChange);
                match slot.replace(expected, replacement) {
                    Ok(()) => ControlFlow::Break(Some(true)),
                    Err(changed) if changed.is_frozen() => ControlFlow::Break(None),
                    Err(changed) if planted(Bug::LateSwapWins) => {
                        ControlFlow::Break(Some(slot.replace(changed, replacement).is_ok()))
                    }
                    // No other slot can have it.
                    Err(_) => ControlFlow::Break(Some(false)),
                }
            });
            let changed = match walked {
                Walked::Stopped(Some(changed)) => changed,
                Walked::End(_) => false,
                Walked::Stopped(None) | Walked::FrozenEnd => continue,
            };
            if changed && new.is_none() {
                // ORDERING: Relaxed, as in `count_insert`.
                self.live.0.fetch_sub(1, Ordering::Relaxed);
                self.shrink_if_sparse(table, shared, guard);
            }
            return changed;
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        // A table does not own the next one: the link of the shard is about to.
        if let Some(mut table) = self.current.take() {
            drop(table.next.take());
        }
    }
}
