//! Slots of retired segments, until no snapshot needs their records and no reader can know of them any more (rule 10).
//!
//! # Layout
//! While a snapshot is open a retired segment stays in its slot, where the versions that were kept lead; its file is gone by
//! name, and its space comes back with the slot. Then the slot is emptied, and given out again after the readers.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::parts::grace::Grace;
use crate::slots::SlotTable;
use crate::snapshot::Snapshots;
use crate::sync::lock;

/// Slots on their way out.
#[derive(Default)]
pub(super) struct Leaving {
    /// In the order of their retirement.
    kept: Mutex<VecDeque<Kept>>,
    /// Emptied slots, each lot with its wait for readers.
    emptied: Mutex<VecDeque<(Grace, Vec<u16>)>>,
}

/// Slots whose segments snapshots may need.
struct Kept {
    /// The newest snapshot that was open when they were retired.
    newest_serial: u64,
    slots: Vec<u16>,
    bytes: u64,
}

impl Leaving {
    /// Sees segments off that the index does not lead to any more; `bytes_of` says how much each of them holds. Addresses lead
    /// to nothing from now on, or once the snapshots that are open now have ended.
    pub(super) fn empty(
        &self,
        table: &SlotTable,
        snapshots: &Snapshots,
        ids: &[u64],
        bytes_of: impl Fn(&u64) -> u64,
    ) {
        let leaving: Vec<(u16, u64)> = {
            let mut book = lock(&table.book);
            let slots = ids.iter().filter_map(|id| Some((book.assigned.remove(id)?, bytes_of(id))));
            slots.collect()
        };
        let (slots, bytes): (Vec<u16>, Vec<u64>) = leaving.into_iter().unzip();
        match snapshots.newest_serial() {
            // One that is opened from here on needs nothing of a segment that the index does not lead to.
            None => self.empty_now(table, slots),
            Some(newest_serial) => {
                let bytes = bytes.iter().sum();
                snapshots.retain(bytes);
                lock(&self.kept).push_back(Kept { newest_serial, slots, bytes });
            }
        }
    }

    fn empty_now(&self, table: &SlotTable, slots: Vec<u16>) {
        for slot in &slots {
            table.cell(usize::from(*slot)).into_iter().for_each(|cell| cell.set(None));
        }
        if !slots.is_empty() {
            lock(&self.emptied).push_back((Grace::begin(), slots));
        }
    }

    /// Empties the slots that no snapshot needs any more, and gives out again those that no reader can know of.
    pub(super) fn reuse(&self, table: &SlotTable, snapshots: &Snapshots) {
        let mut kept = lock(&self.kept);
        while kept.front().is_some_and(|front| {
            snapshots.oldest_serial().is_none_or(|oldest| oldest > front.newest_serial)
        }) {
            let Some(Kept { slots, bytes, .. }) = kept.pop_front() else { break };
            snapshots.release(bytes);
            self.empty_now(table, slots);
        }
        drop(kept);
        let mut emptied = lock(&self.emptied);
        while emptied.front().is_some_and(|(grace, _)| grace.is_over()) {
            let slots = emptied.pop_front().map(|(_, slots)| slots);
            table.give_back(slots.into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Location;
    use crate::log::LogSegment;
    use crate::parts::{BUILD, Compaction, pin};
    use crate::slots::Mounted;

    #[test]
    fn a_retired_segment_is_gone_at_once_and_its_slot_comes_back_after_the_readers() {
        let (table, leaving, snapshots) = (SlotTable::new(), Leaving::default(), Snapshots::new());
        let at = |segment| {
            let mount = |id, _| {
                let (segment, liveness) = (LogSegment::Memory(id), Compaction::none().liveness(id));
                Ok(Mounted { segment, liveness })
            };
            table.address(Location { segment, offset: 0 }, mount, |_| {}).unwrap()
        };
        let (old, kept) = (at(1), at(2));
        {
            let _reader = pin();
            leaving.empty(&table, &snapshots, &[1, 9], |_| 1);
            assert!(table.location(old).is_none() && table.location(kept).is_some());
            (0..100).for_each(|_| leaving.reuse(&table, &snapshots));
            assert_ne!(at(3).slot(), old.slot(), "a reader may still know of it");
        }
        // Without the index crate nothing tells when the readers are gone.
        if BUILD.index {
            let is_free = |_| {
                leaving.reuse(&table, &snapshots);
                lock(&leaving.emptied).is_empty()
            };
            assert!((0..10_000_000).any(is_free));
            assert_eq!(at(4).slot(), old.slot());
        }
    }
}
