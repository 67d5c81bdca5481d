//! The memory that looking at many keys takes, asked for ahead: what scans do, 16 keys at a time.

use crate::address::Address;
use crate::core::Core;
use crate::record::KeyspaceId;

impl Core {
    /// Asks for the memory that looking at these keys takes: the records at places that are known, else the entries and the
    /// records that they are likely to name.
    pub(crate) fn prefetch_keys<'k>(
        &self,
        keyspace: KeyspaceId,
        keys: impl Iterator<Item = (&'k [u8], Option<Address>)> + Clone,
    ) {
        let unknown = keys.clone().filter(|(_, place)| place.is_none());
        unknown.clone().for_each(|(key, _)| self.index.prefetch(keyspace, key));
        let known = keys.filter_map(|(_, place)| place);
        known.for_each(|address| self.prefetch_record(address));
        let guessed = unknown.filter_map(|(key, _)| self.index.guess(keyspace, key));
        guessed.for_each(|address| self.prefetch_record(address));
    }
}
