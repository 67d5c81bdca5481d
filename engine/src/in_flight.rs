//! Installs under way: how a reader without a lock avoids seeing half a batch (rule 13).
//!
//! # The contract
//! - The installer of a commit with several records calls [`InFlight::begin`] before the first of them reaches the index
//!   and drops the [`Guard`] after the last. A commit of one record needs none.
//! - A range may cover many commits, but its readers wait for the last of them: one range for each commit is best.
//! - While a guard lives its owner must not wait for a reader, and must not drop it inside a lock that a reader takes.
//! - What takes an entry away without leaving a record behind (the tombstones that a database in memory forgets) happens
//!   after the last record of the commit is in the index: a reader that finds nothing has no record that would tell it to
//!   wait.
//! - A reader that finds a record with `in_batch` calls [`InFlight::wait_if_under_way`] with its number before it shows
//!   the record, and holds no lock meanwhile. After `true` the key may have a newer record: it looks the key up again.
//!
//! Whoever has seen one record of a batch so sees all of them, or what replaced them. A reader whose record was replaced
//! by a later commit sees that one and has not seen the batch.
//!
//! # Layout
//! `taken` has a bit for each slot with a range in it, and one more: somebody is parked. Zero, the usual value, is the
//! whole answer to most readers.
//!
//! # Concurrency
//! A reader that is not told to wait reads one word, or as many ranges as there are installs under way; it takes no lock.
//! One that has to wait spins, yields, and then parks; installers touch the lock of the parked only to wake them.
//!
//! Why a reader that passes sees everything: it read the index entry that the installer stored after registering, so of
//! every word here it sees the registration or something later. Later means that the range was emptied or its bit
//! cleared, both by release after the last record was installed, and the reader loads both by acquire. The bit is only
//! changed by read-modify-writes, so a clear stays visible through all that follow it.
//!
//! # Failure
//! An installer that panics drops its guard: the log closes by itself then, and readers are not left waiting.

use crate::record::SeqNo;
use crate::sync::checked::atomic::AtomicU64;
use crate::sync::checked::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::checked::{Condvar, Mutex, lock, pause, wait};

/// LIMIT: so many commits are installed at one moment; the next installer waits for a slot. Under loom two, which is
/// enough to run out of.
const SLOTS: usize = if cfg!(loom) { 2 } else { 63 };
const ALL_SLOTS: u64 = (1 << SLOTS) - 1;
const PARKED: u64 = 1 << 63;

/// The first number of a slot without a range: no number is as large.
const EMPTY: SeqNo = SeqNo::MAX;

/// The commits that are being installed.
pub(crate) struct InFlight {
    taken: AtomicU64,
    slots: [Slot; SLOTS],
    parked: Mutex<()>,
    moved: Condvar,
}

/// A range of numbers, on a cache line of its own.
#[repr(align(64))]
struct Slot {
    first: AtomicU64,
    last: AtomicU64,
}

/// The range is under way until this is dropped.
#[must_use = "the installs are under way only while the guard lives"]
pub(crate) struct Guard<'a> {
    in_flight: &'a InFlight,
    slot: usize,
}

impl InFlight {
    pub(crate) fn new() -> Self {
        let slot = |_| Slot { first: AtomicU64::new(EMPTY), last: AtomicU64::new(0) };
        InFlight {
            taken: AtomicU64::new(0),
            slots: std::array::from_fn(slot),
            parked: Mutex::new(()),
            moved: Condvar::new(),
        }
    }

    /// Registers commits whose records are about to be installed, the first and the last number included.
    pub(crate) fn begin(&self, first_seq: SeqNo, last_seq: SeqNo) -> Guard<'_> {
        debug_assert!(first_seq <= last_seq && last_seq < EMPTY);
        let slot = self.take_slot();
        // ORDERING: Release, pairs with the acquire loads in `names`: who reads this range has seen the end of the range
        // that stood here before, since `take_slot` acquired it.
        self.slots[slot].last.store(last_seq, Release);
        self.slots[slot].first.store(first_seq, Release);
        Guard { in_flight: self, slot }
    }

    /// Waits until the commit is installed in full; false when it was already.
    #[inline]
    pub(crate) fn wait_if_under_way(&self, seq: SeqNo) -> bool {
        if !self.is_under_way(seq) {
            return false;
        }
        self.wait_for(seq);
        true
    }

    /// True when the commit may not be installed in full yet.
    #[inline]
    pub(crate) fn is_under_way(&self, seq: SeqNo) -> bool {
        // ORDERING: Acquire, pairs with the release in `Guard::drop`: zero means that everything registered has ended.
        let taken = self.taken.load(Acquire);
        taken != 0 && self.names(taken, seq)
    }

    fn names(&self, taken: u64, seq: SeqNo) -> bool {
        let mut left = taken & ALL_SLOTS;
        while left != 0 {
            let slot = &self.slots[left.trailing_zeros() as usize];
            // ORDERING: Acquire, pairs with the release stores in `begin` and `Guard::drop`: a range that is gone, or has
            // made room for another, is installed. Halves of two ranges at worst make somebody wait who need not.
            if slot.first.load(Acquire) <= seq && seq <= slot.last.load(Acquire) {
                return true;
            }
            left &= left - 1;
        }
        false
    }

    #[cold]
    fn wait_for(&self, seq: SeqNo) {
        for round in 0.. {
            if !self.is_under_way(seq) {
                return;
            }
            if !pause(round) {
                break;
            }
        }
        self.park_while(|taken| self.names(taken, seq));
    }

    fn take_slot(&self) -> usize {
        let mut taken = self.taken.load(Relaxed);
        loop {
            let slot = (!taken).trailing_zeros() as usize;
            if slot >= SLOTS {
                self.park_while(|taken| taken & ALL_SLOTS == ALL_SLOTS);
                taken = self.taken.load(Relaxed);
                continue;
            }
            // ORDERING: Acquire, pairs with the release of whoever freed the slot; see `begin`.
            match self.taken.compare_exchange(taken, taken | 1 << slot, Acquire, Relaxed) {
                Ok(_) => return slot,
                Err(now) => taken = now,
            }
        }
    }

    /// Parks as long as `holds` says so of `taken`; it may only do so while some slot is taken.
    fn park_while(&self, holds: impl Fn(u64) -> bool) {
        let mut parked = lock(&self.parked);
        loop {
            let mut taken = self.taken.load(Acquire);
            loop {
                if !holds(taken) {
                    return;
                }
                // A bit of a slot is set with it, so the owner of that slot sees the mark and takes the lock to wake.
                // ORDERING: AcqRel and Acquire: `holds` looks at ranges behind what is seen here.
                match self.taken.compare_exchange(taken, taken | PARKED, AcqRel, Acquire) {
                    Ok(_) => break,
                    Err(now) => taken = now,
                }
            }
            parked = wait(&self.moved, parked);
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let InFlight { taken, slots, parked, moved } = self.in_flight;
        // ORDERING: Release, pairs with the loads in `names`: every record of the range is in the index.
        slots[self.slot].first.store(EMPTY, Release);
        // ORDERING: Release, pairs with the load in `is_under_way`, and with `take_slot` of the next owner.
        let before = taken.fetch_and(!(1 << self.slot | PARKED), Release);
        if before & PARKED != 0 {
            // Who set the mark holds the lock until it sleeps; all of them look again.
            drop(lock(parked));
            moved.notify_all();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_ranges_under_way_are_waited_for() {
        let in_flight = InFlight::new();
        assert!(!in_flight.wait_if_under_way(7));
        let first = in_flight.begin(5, 7);
        let second = in_flight.begin(20, 20);
        let under_way: Vec<_> = (0..30).filter(|&seq| in_flight.is_under_way(seq)).collect();
        assert_eq!(under_way, [5, 6, 7, 20]);
        drop(first);
        assert!(!in_flight.wait_if_under_way(7));
        assert!(in_flight.is_under_way(20));
        drop(second);
        assert!(!in_flight.is_under_way(20));
    }

    #[test]
    fn readers_park_until_the_end_and_installers_until_a_slot_is_free() {
        let in_flight = InFlight::new();
        let mut guards: Vec<_> = (0..SLOTS as u64).map(|seq| in_flight.begin(seq, seq)).collect();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| in_flight.wait_if_under_way(3));
            // It has to look before its range ends.
            while in_flight.taken.load(Acquire) & PARKED == 0 {
                std::thread::yield_now();
            }
            // Whether this one sleeps already when a slot becomes free does not matter.
            let installer = scope.spawn(|| drop(in_flight.begin(100, 100)));
            drop(guards.remove(3));
            assert!(reader.join().unwrap());
            installer.join().unwrap();
        });
        drop(guards);
        assert_eq!(in_flight.taken.load(Acquire), 0);
    }
}
