//! From the index to the segments: every entry leads to an intact record, and the key of that record leads back.

use super::newest::newest;
use super::{FindingKind, Verifier};
use crate::address::Address;
use crate::log::LogSegment;
use crate::record::RecordRef;
use crate::slots::Mounted;

impl Verifier<'_> {
    /// Follows every entry of the index.
    pub(super) fn follow_entries(&mut self) {
        let core = self.core;
        core.index.for_each_address(|address| {
            self.report.entries += 1;
            self.follow(address);
        });
    }

    fn follow(&mut self, address: Address) {
        let core = self.core;
        let check = |mounted: &Mounted| match &mounted.segment {
            LogSegment::Memory(_) => Ok(()),
            LogSegment::Durable(segment) => segment.check(address.offset()),
        };
        // An empty slot: its segment was retired since the entry was read, and the entry moved before that.
        let Some(checked) = core.slots.with(address, check) else { return };
        let shown = checked.and_then(|()| {
            core.read_at(address, |record, _| self.lead_back(record)).map(Option::unwrap_or_default)
        });
        if let Err(error) = shown {
            self.note_error(&error);
        }
    }

    fn lead_back(&mut self, record: &RecordRef<'_>) {
        let version = (record.seq, record.tombstone);
        let core = self.core;
        let leads_back = |newest: Option<super::newest::Newest>| {
            newest.is_some_and(|newest| newest.version() >= version)
        };
        match newest(core, record.keyspace, record.key) {
            Ok(newest) if leads_back(newest) => {}
            // A tombstone is forgotten at any time, and an expired value as one.
            Ok(None) if record.tombstone || record.expires_at_ms.is_some() => {}
            Ok(_) => {
                let what = "an entry of the index leads here, and its key does not".to_owned();
                self.note_record(FindingKind::Index, record, what);
            }
            Err(_) => {}
        }
    }
}
