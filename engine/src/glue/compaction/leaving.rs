//! Slots of retired segments, until no reader can know of them any more (rule 10).

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::parts::grace::Grace;
use crate::slots::SlotTable;
use crate::sync::lock;

/// Emptied slots, each lot with its wait for readers.
#[derive(Default)]
pub(super) struct Leaving(Mutex<VecDeque<(Grace, Vec<u16>)>>);

impl Leaving {
    /// Takes segments out of their slots: addresses lead to nothing from now on.
    pub(super) fn empty(&self, table: &SlotTable, ids: &[u64]) {
        let slots: Vec<u16> = {
            let mut book = lock(&table.book);
            ids.iter().filter_map(|id| book.assigned.remove(id)).collect()
        };
        for slot in &slots {
            table.cell(usize::from(*slot)).into_iter().for_each(|cell| cell.set(None));
        }
        if !slots.is_empty() {
            lock(&self.0).push_back((Grace::begin(), slots));
        }
    }

    /// Gives out again the slots that no reader can know of any more.
    pub(super) fn reuse(&self, table: &SlotTable) {
        let mut leaving = lock(&self.0);
        while leaving.front().is_some_and(|(grace, _)| grace.is_over()) {
            let slots = leaving.pop_front().map(|(_, slots)| slots);
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
        let (table, leaving) = (SlotTable::new(), Leaving::default());
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
            leaving.empty(&table, &[1, 9]);
            assert!(table.location(old).is_none() && table.location(kept).is_some());
            (0..100).for_each(|_| leaving.reuse(&table));
            assert_ne!(at(3).slot(), old.slot(), "a reader may still know of it");
        }
        // Without the index crate nothing tells when the readers are gone.
        if BUILD.index {
            let is_free = |_| {
                leaving.reuse(&table);
                lock(&leaving.0).is_empty()
            };
            assert!((0..10_000_000).any(is_free));
            assert_eq!(at(4).slot(), old.slot());
        }
    }
}
