//! What becomes of a record of a segment that is rewritten: the one place that decides what may be forgotten.
//!
//! # Invariants
//! Rule 2: a tombstone, or an expired put, may hide an older put of its key that a rebuild of the index would bring back. So
//! it is forgotten only if no other segment with an older put may hold the key; until then it stays, as a tombstone of the
//! same number.
//!
//! # Failure
//! A record that cannot be read fails the job, which leaves the segment alone.

use cortenkv_compaction::{Fate, Record, SegmentId};

use super::store::{Store, gone};
use crate::address::Address;
use crate::core::{Core, Probe};
use crate::error::Result;
use crate::record::Rank;
use crate::ttl;

impl Store {
    /// Decides about a record. `victims` go with it.
    pub(super) fn fate_of(
        &self,
        core: &Core,
        record: &Record<'_>,
        victims: &[SegmentId],
    ) -> Result<Fate> {
        let address = Address::from(record.token);
        if !is_newest(core, record, address) {
            return Ok(Fate::Drop);
        }
        let fate = core.read_at(address, |record, _| {
            let is_over = record.expires_at_ms.is_some()
                && ttl::is_expired(record.expires_at_ms, core.now_ms());
            if !record.tombstone && !is_over {
                return Ok(Fate::Keep);
            }
            match self.older.hides_older(core, record, address, victims)? {
                true => Ok(Fate::Tombstone),
                false => Ok(Fate::Forget),
            }
        })?;
        // A victim is in its slot as long as its job runs.
        fate.unwrap_or_else(|| Err(gone()))
    }
}

/// True if the index points at this very record. Of a key with several entries, one of which cannot be read, each counts.
fn is_newest(core: &Core, record: &Record<'_>, address: Address) -> bool {
    let mut is_newest = false;
    core.index.find(record.keyspace, record.key, |at| {
        is_newest = at == address;
        // Whatever other records are: nothing has to be read to know that they are others.
        if is_newest { Probe::Same(Rank::default()) } else { Probe::Other }
    });
    is_newest
}
