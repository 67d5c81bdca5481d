//! What an installation asks of the records that the index points at: which key they belong to, and how they compare.
//!
//! # Concurrency
//! The caller holds a pin of the index, so what it asks about is readable; a record may be replaced meanwhile.

use crate::address::Address;
use crate::core::Core;
use crate::record::{KeyspaceId, Rank};

/// What stands at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probed {
    /// A record of the key in question.
    Same { rank: Rank, can_expire: bool },
    /// A record of another key, or one that cannot be read.
    Other,
    /// No record any more: it was replaced, and forgotten, after the index was read.
    Gone,
}

/// The records behind the addresses of an index.
pub(crate) trait Records {
    /// Compares the record at an address with a key.
    fn probe(&self, address: Address, keyspace: KeyspaceId, key: &[u8]) -> Probed;

    /// Asks for the memory of a record that will probably be looked at: a hint.
    fn prefetch(&self, address: Address);
}

impl Records for Core {
    fn probe(&self, address: Address, keyspace: KeyspaceId, key: &[u8]) -> Probed {
        let probed = self.read_at(address, |record, _| {
            if record.keyspace == keyspace && record.key == key {
                Probed::Same { rank: record.rank(), can_expire: record.expires_at_ms.is_some() }
            } else {
                Probed::Other
            }
        });
        match probed {
            Ok(probed) => probed.unwrap_or(Probed::Gone),
            Err(_) => {
                // It stays in the index beside the new one, so that its key answers the error.
                self.note_unreadable();
                Probed::Other
            }
        }
    }

    fn prefetch(&self, address: Address) {
        self.prefetch_record(address);
    }
}
