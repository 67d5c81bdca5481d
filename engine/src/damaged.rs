//! Look-ups beside damage: which record of a key counts when some that may be of it cannot be read.
//!
//! A record that could not be read when another of its key was installed stays in the index beside that one, so from then on
//! keys may have several entries ([`Core::met_unreadable`]). The other is a newer one where a user wrote it. But it may be an
//! older one: compaction moves what is dead meanwhile, and an opening offers everything again that its image does not cover.
//!
//! # Failure
//! The newest record that can be read is the answer only where it is newer than whatever stands in the places that cannot be
//! read: damage must not bring an older value back. Otherwise the key answers the error (S5).

use crate::address::Address;
use crate::core::{Core, Probe};
use crate::error::Result;
use crate::parts::bugs::{Bug, planted};
use crate::record::{KeyspaceId, Rank, RecordRef};
use crate::slots::COMPACTED_ID_MIN;

impl Core {
    /// The newest record of a key by all entries of the index, and what `facts` says of it.
    ///
    /// # Errors
    /// What kept a record from being read that may be of the key and newer than all others.
    #[cold]
    pub(crate) fn newest_of_all<T: Copy>(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        facts: impl Fn(&RecordRef<'_>) -> T,
    ) -> Result<Option<(Rank, Address, T)>> {
        let mut newest: Option<(Rank, Address, T)> = None;
        let mut unread = Vec::new();
        self.index.find(keyspace, key, |address| {
            let read = self.read_at(address, |record, _| {
                let is_it = record.keyspace == keyspace && record.key == key;
                is_it.then(|| (record.rank(), address, facts(record)))
            });
            match read {
                Ok(Some(Some(found))) if newest.is_none_or(|(rank, ..)| rank < found.0) => {
                    newest = Some(found);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Probe::Gone,
                Err(error) => unread.push((address, error)),
            }
            // Not `Same`, which would end the search.
            Probe::Other
        });
        let is_newer = |than| newest.is_some_and(|(rank, ..)| self.is_newer(rank, than));
        match unread.into_iter().find(|(address, _)| !is_newer(*address)) {
            Some((_, error)) => Err(error),
            None => Ok(newest),
        }
    }

    /// True if a record of a key is newer than a record of it that may stand at an address and cannot be read.
    fn is_newer(&self, rank: Rank, than: Address) -> bool {
        // As long as every installation could read what stood there, no key has two entries: that one is of another key.
        if !self.met_unreadable() || planted(Bug::OlderShownForDamaged) {
            return true;
        }
        let is_newer = self.slots.with(than, |mounted| {
            // The log is in the order of its commits; compacted segments are in the order of keys.
            let is_behind = rank.location.segment == mounted.segment.id()
                && rank.location.segment < COMPACTED_ID_MIN
                && rank.location.offset > than.offset();
            is_behind || rank.seq > mounted.segment.last_seq()
        });
        is_newer == Some(true)
    }
}
