//! Where the newest records of keys in order are, by the hints of the order: found ahead, with the memory that looking at
//! them takes asked for.
//!
//! # Invariants
//! A place was that of the newest record of its key at some moment of the call. It is so still for as long as the record
//! is not marked dead.

use crate::address::Address;
use crate::core::Core;
use crate::parts::{self, KeyWalk};
use crate::record::KeyspaceId;

impl Core {
    /// Finds the places of the keys of a batch from `first` on, `None` where the index has to be asked, and asks for
    /// the memory: of the records, or of the entries and the records that they are likely to name.
    pub(crate) fn find_places(
        &self,
        keyspace: KeyspaceId,
        keys: &KeyWalk,
        first: usize,
        places: &mut [Option<Address>],
    ) {
        if !self.index.knows_dead() {
            // Every place would be asked for again.
            return;
        }
        let mut are_unknown = false;
        for (n, place) in places.iter_mut().enumerate() {
            let hint = keys.hint(first + n);
            *place = hint.and_then(|(segment, address)| self.hinted(segment, address));
            if place.is_none() {
                self.index.prefetch(keyspace, keys.key(first + n));
                are_unknown = true;
            }
        }
        if !are_unknown {
            return;
        }
        for (n, _) in places.iter().enumerate().filter(|(_, place)| place.is_none()) {
            let guessed = self.index.guess(keyspace, keys.key(first + n));
            guessed.into_iter().for_each(|address| self.prefetch_record(address));
        }
    }

    /// The address of a hint if its record is the newest of its key, whose memory is asked for then.
    #[inline]
    fn hinted(&self, segment_id: u64, address: Address) -> Option<Address> {
        self.slots.with(address, |mounted| {
            let segment = &mounted.segment;
            if segment.id() != segment_id || self.index.may_be_dead(address) {
                return None;
            }
            segment.prefetchable(address.offset()).into_iter().for_each(parts::prefetch);
            Some(address)
        })?
    }
}
