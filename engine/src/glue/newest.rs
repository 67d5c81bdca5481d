//! Where the newest records of many keys are, 16 keys at a time: what merges ask.
//!
//! # Invariants
//! What is answered was so at some moment of the call. A place that is not marked dead is that of the newest record still
//! (`glue/ordered.rs`).
//!
//! # Failure
//! Once a record could not be read while its successor came, a key may have several records, and what is found here may be
//! an older one: ask [`Core::met_unreadable`] afterwards.

use crate::address::Address;
use crate::core::{Core, Probe};
use crate::read_many::{BATCH_KEYS, Candidates};
use crate::record::{KeyspaceId, Rank};

/// What there is of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// No record.
    Nothing,
    /// A record, which may be a tombstone, and when it expires.
    At(Address, Rank, Option<u64>),
    /// A record that cannot be read, of this key or of another.
    Unreadable,
}

/// A batch on its way through the index.
struct Placing<'a, 'k> {
    core: &'a Core,
    keyspace: KeyspaceId,
    keys: &'a [&'k [u8]],
    seen: [Seen; BATCH_KEYS],
}

impl Candidates for Placing<'_, '_> {
    fn probe(&mut self, n: usize, address: Address) -> Probe {
        let probed = self.core.read_at(address, |record, _| {
            let is_it = record.key == self.keys[n] && record.keyspace == self.keyspace;
            is_it.then(|| (record.rank(), record.expires_at_ms))
        });
        match probed {
            Ok(Some(Some((rank, expires_at_ms)))) => {
                self.seen[n] = Seen::At(address, rank, expires_at_ms);
                Probe::Same(rank)
            }
            Ok(Some(None)) => Probe::Other,
            Ok(None) => Probe::Gone,
            Err(_) => {
                self.seen[n] = Seen::Unreadable;
                Probe::Other
            }
        }
    }

    fn prefetch(&mut self, _n: usize, address: Address) {
        self.core.prefetch_record(address);
    }
}

impl Core {
    /// Looks for the newest records of at most [`BATCH_KEYS`] keys.
    pub(super) fn find_newest(&self, keyspace: KeyspaceId, keys: &[&[u8]]) -> [Seen; BATCH_KEYS] {
        let seen = [Seen::Nothing; BATCH_KEYS];
        let mut placing = Placing { core: self, keyspace, keys, seen };
        self.index.find_batch(keyspace, keys, &mut placing);
        placing.seen
    }
}
