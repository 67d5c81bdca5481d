//! The newest record of each key of a replay, until the index can take them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::parts::Liveness;
use crate::record::{Footprint, KeyspaceId, Rank, RecordRef};

/// What is known of the newest record of a key.
type Newest = (Rank, Footprint);

/// The newest record of each key of a replay, in key order.
#[derive(Default)]
pub(crate) struct ReplayTable {
    newest: BTreeMap<(KeyspaceId, Box<[u8]>), Newest>,
}

impl ReplayTable {
    pub(super) fn absorb<'a>(
        &mut self,
        records: impl Iterator<Item = RecordRef<'a>>,
        liveness: &Liveness,
    ) {
        for record in records {
            let offered = (record.rank(), record.footprint());
            liveness.add(offered.0.location.segment, offered.1);
            match self.newest.entry((record.keyspace, record.key.into())) {
                Entry::Vacant(vacant) => {
                    vacant.insert(offered);
                }
                Entry::Occupied(mut occupied) => {
                    let newest = occupied.get_mut();
                    let loser = offered.min(*newest);
                    liveness.dead(loser.0.location.segment, loser.1);
                    *newest = offered.max(*newest);
                }
            }
        }
    }

    /// The number of keys, those of tombstones included.
    pub(crate) fn len(&self) -> usize {
        self.newest.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.newest.iter().map(|((keyspace, key), (rank, footprint))| RecordRef {
            location: rank.location,
            seq: rank.seq,
            keyspace: *keyspace,
            tombstone: rank.tombstone,
            expires_at_ms: footprint.expires_at_ms,
            // What the index does not keep.
            in_batch: false,
            key,
            value: &[],
        })
    }

    /// A keyspace that has records and that nobody knows.
    pub(crate) fn unknown_keyspace(
        &self,
        mut is_known: impl FnMut(KeyspaceId) -> bool,
    ) -> Option<KeyspaceId> {
        let mut last_known = None;
        let mut ids = self.newest.keys().map(|(keyspace, _)| *keyspace);
        ids.find(|&id| {
            let is_new = last_known != Some(id);
            last_known = Some(id);
            is_new && !is_known(id)
        })
    }
}
