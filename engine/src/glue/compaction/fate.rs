//! What becomes of a record of a segment that is rewritten: the one place that decides what may be forgotten.
//!
//! # Invariants
//! Rule 2: a tombstone, or an expired put, may hide an older put of its key that a rebuild of the index would bring back. So
//! it is forgotten only if no other segment with an older put may hold the key; until then it stays, as a tombstone of the
//! same number. While a snapshot is open, nothing is forgotten that is newer than what was installed before it began; and a put
//! has expired only if it had when the oldest snapshot was opened. What the compaction filter of a keyspace drops is treated as
//! an expired put; no filter is asked while a snapshot is open.
//!
//! # Failure
//! A record that cannot be read fails the job, which leaves the segment alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;

use cortenkv_compaction::{Fate, Record, SegmentId};

use super::access::gone;
use super::store::Store;
use crate::address::Address;
use crate::core::{Core, Probe};
use crate::error::Result;
use crate::keyspace::FilterDecision;
use crate::record::{Rank, RecordRef, SeqNo};
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
        if !is_newest(core, record, address)? {
            return Ok(Fate::Drop);
        }
        // Only now: what is the newest of its key, and history, is so to the snapshots that will be opened, too.
        let horizon = core.snapshots.horizon(core.clock());
        let fate = core.read_at(address, |record, _| {
            let is_over = record.tombstone || ttl::is_expired(record.expires_at_ms, horizon.now_ms);
            // Without a snapshot nothing bounds the horizon.
            if !is_over && (horizon.seq < SeqNo::MAX || !self.is_filtered(core, record)) {
                return Ok(Fate::Keep);
            }
            if record.seq > horizon.seq {
                // A version that a snapshot keeps would come back to another one.
                self.older.keep_for_snapshots(address);
                return Ok(Fate::Tombstone);
            }
            match self.older.hides_older(core, record, address, victims)? {
                true => Ok(Fate::Tombstone),
                false => Ok(Fate::Forget),
            }
        })?;
        // A victim is in its slot as long as its job runs.
        fate.unwrap_or_else(|| Err(gone()))
    }

    /// True if the filter of its keyspace drops a put that lives. It is foreign code: one that panics has said nothing.
    fn is_filtered(&self, core: &Core, record: &RecordRef<'_>) -> bool {
        let Some(filter) = core.catalog.filter(record.keyspace) else { return false };
        let asked = AssertUnwindSafe(|| filter(record.key, record.value));
        match catch_unwind(asked) {
            Ok(decision) => decision == FilterDecision::Drop,
            Err(_) => {
                self.faults.note_filter_panic();
                false
            }
        }
    }
}

/// True if the index points at this very record, and it is the newest of its key.
fn is_newest(core: &Core, record: &Record<'_>, address: Address) -> Result<bool> {
    let mut is_there = false;
    core.index.find(record.keyspace, record.key, |at| {
        is_there = at == address;
        // Whatever other records are: nothing has to be read to know that they are others.
        if is_there { Probe::Same(Rank::default()) } else { Probe::Other }
    });
    match is_there && core.met_unreadable() {
        true => is_newest_of_all(core, record, address),
        false => Ok(is_there),
    }
}

/// The long way: an entry that could not be read when its successor was installed stands beside it. If it is that of this
/// record it is taken out, since its segment goes.
#[cold]
fn is_newest_of_all(core: &Core, record: &Record<'_>, address: Address) -> Result<bool> {
    let rank_at = |at| {
        core.read_at(at, |other, _| {
            let is_it = other.key == record.key && other.keyspace == record.keyspace;
            is_it.then(|| other.rank())
        })
    };
    let rank = rank_at(address)?.flatten();
    let mut is_newest = true;
    core.index.find(record.keyspace, record.key, |at| {
        match rank_at(at) {
            Ok(Some(other)) => is_newest &= other <= rank,
            Ok(None) => return Probe::Gone,
            // If it is of this key both stay, and the numbers decide.
            Err(_) => {}
        }
        // Not `Same`, which would end the search.
        Probe::Other
    });
    if !is_newest {
        take_out(core, record)?;
    }
    Ok(is_newest)
}

/// Takes the entry of a record out of the index if the index still points at it.
pub(super) fn take_out(core: &Core, record: &Record<'_>) -> Result<()> {
    let address = Address::from(record.token);
    let was = core.read_at(address, |found, _| found.tombstone)?;
    // An image begins when no entry is about to change.
    let _shared = crate::sync::read(&core.gate);
    // Key order may know a put that was filtered as one that stays.
    core.index.mark_dead(address);
    if core.index.remove(record.keyspace, record.key, address) {
        let counters = &core.counters;
        let count = if was == Some(true) { &counters.tombstones } else { &counters.keys };
        count.fetch_sub(1, Relaxed);
    }
    Ok(())
}
