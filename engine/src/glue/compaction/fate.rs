//! What becomes of a record of a segment that is rewritten: the one place that decides what may be forgotten.
//!
//! # Invariants
//! Rule 2: a tombstone, or an expired put, may hide an older put of its key that a rebuild of the index would bring back. So
//! it is forgotten only if no other segment with an older put may hold the key; until then it stays, as a tombstone of the
//! same number.
//!
//! # Failure
//! A key with a record that cannot be read keeps all its records: the job fails and leaves the segment alone.

use cortenkv_compaction::{Fate, SegmentId};

use super::store::Store;
use crate::address::Address;
use crate::core::{Core, Probe};
use crate::error::{Error, Result};
use crate::record::RecordRef;
use crate::ttl;

impl Store {
    /// Decides about the record at an address. `victims` go with it.
    pub(super) fn fate_of(
        &self,
        core: &Core,
        record: &RecordRef<'_>,
        address: Address,
        victims: &[SegmentId],
    ) -> Result<Fate> {
        if !is_newest(core, record, address)? {
            return Ok(Fate::Drop);
        }
        let is_over =
            record.expires_at_ms.is_some() && ttl::is_expired(record.expires_at_ms, core.now_ms());
        if !record.tombstone && !is_over {
            return Ok(Fate::Keep);
        }
        match self.older.hides_older(core, record, address, victims)? {
            true => Ok(Fate::Tombstone),
            false => Ok(Fate::Forget),
        }
    }
}

/// True if the index points at this very record.
fn is_newest(core: &Core, record: &RecordRef<'_>, address: Address) -> Result<bool> {
    let (mut is_newest, mut failure) = (false, None::<Error>);
    core.index.find(record.keyspace, record.key, |at| {
        if at == address {
            is_newest = true;
            return Probe::Same(record.rank());
        }
        let is_it =
            |other: &RecordRef<'_>| other.key == record.key && other.keyspace == record.keyspace;
        match core.read_at(at, |other, _| is_it(other).then(|| other.rank())) {
            Ok(Some(Some(rank))) => Probe::Same(rank),
            Ok(Some(None)) => Probe::Other,
            Ok(None) => Probe::Gone,
            Err(error) => {
                failure = Some(error);
                Probe::Other
            }
        }
    });
    match failure {
        Some(failure) if !is_newest => Err(failure),
        _ => Ok(is_newest),
    }
}
