//! What becomes of a record of a segment that is rewritten: the one place that decides what may be forgotten.
//!
//! # Invariants
//! Rule 2: a tombstone, or an expired put, may hide an older put of its key that a rebuild of the index would bring back. So
//! it is forgotten only if no other segment with an older put may hold the key; until then it stays, as a tombstone of the
//! same number.
//!
//! # Failure
//! A key with a record that cannot be read keeps all its records: the job fails and leaves the segment alone.

use std::sync::atomic::Ordering::Relaxed;

use cortenkv_compaction::{Fate, SegmentId};

use super::store::Store;
use crate::address::Address;
use crate::core::{Core, Probe};
use crate::error::{Error, Result};
use crate::record::{KeyspaceId, RecordRef};
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
        match self.hides_older(core, record, address, victims)? {
            true => Ok(Fate::Tombstone),
            false => Ok(Fate::Forget),
        }
    }
}

/// True if the record is the newest of its key.
fn is_newest(core: &Core, record: &RecordRef<'_>, address: Address) -> Result<bool> {
    let (mut is_newest, mut failure) = (false, None::<Error>);
    core.index.find(record.keyspace, record.key, |at| {
        if at == address {
            is_newest = true;
            return Probe::Same(record.rank());
        }
        match core.read_at(at, |other, _| is_of_key(other, record).then(|| other.rank())) {
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
        _ if core.met_unreadable() => is_newest_of_all(core, record, address),
        _ => Ok(is_newest),
    }
}

/// The long way: an entry that could not be read when its successor was installed stands beside it. If it is that of this
/// record it is taken out, since its segment goes.
#[cold]
fn is_newest_of_all(core: &Core, record: &RecordRef<'_>, address: Address) -> Result<bool> {
    let (mut is_there, mut is_newest) = (false, true);
    core.index.find(record.keyspace, record.key, |at| {
        if at == address {
            is_there = true;
            return Probe::Other;
        }
        let newer = |other: &RecordRef<'_>| is_of_key(other, record) && other.rank() > record.rank();
        match core.read_at(at, |other, _| newer(other)) {
            Ok(Some(newer)) => is_newest &= !newer,
            Ok(None) => return Probe::Gone,
            // If it is of this key, both stay, and the numbers decide.
            Err(_) => {}
        }
        // Not `Same`, which would end the search.
        Probe::Other
    });
    if is_there && !is_newest {
        take_out(core, record.keyspace, record.key, address)?;
    }
    Ok(is_there && is_newest)
}

fn is_of_key(other: &RecordRef<'_>, record: &RecordRef<'_>) -> bool {
    other.key == record.key && other.keyspace == record.keyspace
}

/// Takes the entry of a key out of the index if it has this address.
pub(super) fn take_out(
    core: &Core,
    keyspace: KeyspaceId,
    key: &[u8],
    address: Address,
) -> Result<()> {
    let was = core.read_at(address, |found, _| found.tombstone)?;
    if core.index.remove(keyspace, key, address) {
        let counters = &core.counters;
        let count = if was == Some(true) { &counters.tombstones } else { &counters.keys };
        count.fetch_sub(1, Relaxed);
    }
    Ok(())
}
