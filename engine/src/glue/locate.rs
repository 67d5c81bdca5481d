//! Records in the log as the point index asks about them while it installs.

use std::cell::Cell;
use std::sync::atomic::Ordering::Release;

use super::index::{ours, version};
use crate::address::Address;
use crate::core::Core;
use crate::record::Footprint;

/// Compares records with the key of an installation, and remembers what the index does not of the last one of the key.
pub(super) struct Locate<'a> {
    pub(super) core: &'a Core,
    last: Cell<Option<(Address, Footprint)>>,
}

impl<'a> Locate<'a> {
    pub(super) fn new(core: &'a Core) -> Self {
        Locate { core, last: Cell::new(None) }
    }

    /// True if the record at an address, which was looked at last, never expires.
    #[inline]
    pub(super) fn saw_lasting(&self, address: Address) -> bool {
        self.last.get().is_some_and(|(last, was)| last == address && was.expires_at_ms.is_none())
    }

    /// That of a record which was replaced a moment ago.
    #[inline]
    pub(super) fn footprint_of(&self, address: Address) -> Footprint {
        match self.last.get() {
            Some((last, footprint)) if last == address => footprint,
            _ => {
                let read = self.core.read_at(address, |record, _| record.footprint());
                // It was read when it was replaced. If that is over by now, so is its segment, and nothing counts it.
                read.ok().flatten().unwrap_or_default()
            }
        }
    }
}

impl cortenkv_index::Location for Locate<'_> {
    fn probe(
        &self,
        address: cortenkv_index::Address,
        keyspace: u32,
        key: &[u8],
    ) -> cortenkv_index::Probe {
        let address = ours(address);
        let probed = self.core.read_at(address, |record, _| {
            if record.keyspace != keyspace || record.key != key {
                return cortenkv_index::Probe::Other;
            }
            self.last.set(Some((address, record.footprint())));
            cortenkv_index::Probe::Same(version(record.rank()))
        });
        match probed {
            Ok(Some(probe)) => probe,
            Ok(None) => cortenkv_index::Probe::Gone,
            Err(_) => {
                // It stays in the index beside the new one, so that its key answers the error.
                // ORDERING: Release, pairs with the load in `Core::met_unreadable`, and precedes the entry of the successor.
                self.core.met_unreadable.store(true, Release);
                cortenkv_index::Probe::Other
            }
        }
    }

    fn prefetch(&self, address: cortenkv_index::Address) {
        self.core.prefetch_record(ours(address));
    }
}
