//! Records that take no memory: key and version of each are computed from its number, so that nothing but the index
//! is counted or waited for.

use cortenkv_index::{
    Address, Hint, KeyBatch, KeyOwner, KeyState, Location, NewEntry, Probe, Version,
};
use xxhash_rust::xxh3::xxh3_64;

/// Units of 8 bytes from one record to the next: records of 16 + 100 bytes with their heads.
const STRIDE_UNITS: u64 = 17;
/// How often a record can be replaced: its units beside the first are the places of those that follow.
pub const REPLACEMENTS_MAX: u64 = STRIDE_UNITS - 1;
/// Bytes of a key at least: it holds a mixed number and the number.
const KEY_BYTES_MIN: usize = 16;

/// Records with keys of one length, numbered from 0. Keys look random: their order is not that of the numbers.
#[derive(Debug, Clone, Copy)]
pub struct ComputedRecords {
    key_bytes: usize,
}

impl ComputedRecords {
    /// Records with keys of this length.
    ///
    /// # Panics
    /// When that is less than 16.
    pub fn new(key_bytes: usize) -> Self {
        assert!(key_bytes >= KEY_BYTES_MIN, "a key of {key_bytes} bytes cannot hold its number");
        ComputedRecords { key_bytes }
    }

    /// The key of a record; `key` is a buffer to use again.
    pub fn key(&self, number: u64, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(&mixed(number).to_be_bytes());
        key.extend_from_slice(&number.to_be_bytes());
        key.resize(self.key_bytes, b'k');
    }

    /// What an index is told about a record, with the key that [`key`](Self::key) made.
    ///
    /// # Panics
    /// When the number is beyond what addresses reach (3 * 10^10).
    pub fn offer<'a>(&self, number: u64, key: &'a [u8]) -> NewEntry<'a> {
        let bits = number * STRIDE_UNITS;
        let address = Address::from_bits(bits).expect("few records");
        NewEntry { hash: xxh3_64(key), keyspace: 0, key, address, version: version(bits) }
    }

    /// As [`offer`](Self::offer), for the `n`-th record that replaces the first of its number.
    ///
    /// # Panics
    /// When `n` is [`REPLACEMENTS_MAX`] or more, or the number beyond what addresses reach.
    pub fn offer_again<'a>(&self, number: u64, n: u64, key: &'a [u8]) -> NewEntry<'a> {
        assert!(n < REPLACEMENTS_MAX, "a record is replaced {REPLACEMENTS_MAX} times at most");
        let bits = number * STRIDE_UNITS + 1 + n;
        let address = Address::from_bits(bits).expect("few records");
        NewEntry { hash: xxh3_64(key), keyspace: 0, key, address, version: version(bits) }
    }

    /// Whether the record at an address has this key.
    pub fn probe_key(&self, address: Address, key: &[u8]) -> Probe {
        let number = address.to_bits() / STRIDE_UNITS;
        let same = key[..8] == mixed(number).to_be_bytes() && key[8..16] == number.to_be_bytes();
        if same { Probe::Same(version(address.to_bits())) } else { Probe::Other }
    }
}

impl Location for ComputedRecords {
    fn probe(&self, address: Address, _keyspace: u32, key: &[u8]) -> Probe {
        self.probe_key(address, key)
    }
}

impl KeyOwner for ComputedRecords {
    fn states(
        &self,
        _keyspace: u32,
        keys: &KeyBatch,
        states: &mut Vec<KeyState>,
    ) -> cortenkv_index::Result<()> {
        // Every key that was ever installed is live, at the place that its number says.
        states.clear();
        states.extend(keys.iter().map(|key| {
            let number = key[8..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
            let address = Address::from_bits(number * STRIDE_UNITS);
            KeyState::Live(address.map(|address| Hint { segment: 0, address }))
        }));
        Ok(())
    }
}

/// The version of the record at an address: later addresses of a number are newer.
fn version(bits: u64) -> Version {
    Version { seq: bits + 1, tombstone: false, segment: 0 }
}

/// A reversible mix (the finalizer of SplitMix64), so no two numbers share one.
pub fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_found_by_its_own_key_only() {
        let records = ComputedRecords::new(64);
        let (mut key, mut other) = (Vec::new(), Vec::new());
        records.key(7, &mut key);
        records.key(8, &mut other);
        assert_eq!((key.len(), key == other), (64, false));
        for offered in [records.offer(7, &key), records.offer_again(7, 15, &key)] {
            assert_eq!(records.probe_key(offered.address, &key), Probe::Same(offered.version));
            assert_eq!(records.probe_key(offered.address, &other), Probe::Other);
        }
    }
}
