//! The owner of the records in the kit: a list in memory that plays the log.

use std::sync::{PoisonError, RwLock};

use super::mix;
use crate::{Address, Entry, Location, NewEntry, Probe, Version};

const SLOTS: usize = 8;

/// How the kit hashes its keys. Only the first is kind to an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashing {
    /// Every bit good.
    Good,
    /// Four different hashes in all.
    Few,
    /// The same hash for every key.
    Constant,
    /// Good low bits, the upper 32 all zero: one shard gets everything.
    LowBits,
}

impl Hashing {
    /// The hash of a key.
    pub fn hash(self, keyspace: u32, key: &[u8]) -> u64 {
        let start = mix(u64::from(keyspace) + 1);
        let good = key.iter().fold(start, |hash, &byte| mix(hash ^ u64::from(byte)));
        match self {
            Hashing::Good => good,
            Hashing::Few => mix(good % 4),
            Hashing::Constant => 0x5EED_5EED_5EED_5EED,
            Hashing::LowBits => good >> 32,
        }
    }
}

#[derive(Debug, Clone)]
struct Record {
    keyspace: u32,
    key: Vec<u8>,
    entry: Entry,
}

/// Records that index entries point at. They are never retired, so [`Probe::Gone`] is left to the cases that
/// want it.
#[derive(Debug)]
pub struct Records {
    hashing: Hashing,
    all: RwLock<Vec<Record>>,
}

impl Records {
    /// An empty list.
    pub fn new(hashing: Hashing) -> Self {
        Records { hashing, all: RwLock::default() }
    }

    /// The hash of a key.
    pub fn hash(&self, keyspace: u32, key: &[u8]) -> u64 {
        self.hashing.hash(keyspace, key)
    }

    /// Appends a record to the segment in `slot` (below 8). Segment ids and slots are in different orders.
    pub fn append(
        &self,
        slot: usize,
        keyspace: u32,
        key: &[u8],
        seq: u64,
        tombstone: bool,
    ) -> Entry {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let offset_bytes = all.len() as u32 * Address::UNIT_BYTES;
        let address = Address::new((slot % SLOTS) as u16, offset_bytes).expect("few records");
        let segment = (slot % SLOTS * 5 + 3) as u64 % SLOTS as u64;
        let entry = Entry { address, version: Version { seq, tombstone, segment } };
        all.push(Record { keyspace, key: key.to_vec(), entry });
        entry
    }

    /// What an index is told about a record.
    pub fn offer<'a>(&self, keyspace: u32, key: &'a [u8], entry: Entry) -> NewEntry<'a> {
        let Entry { address, version } = entry;
        NewEntry { hash: self.hash(keyspace, key), keyspace, key, address, version }
    }

    /// The key and the entry of the record at an address.
    pub fn read(&self, address: Address) -> (u32, Vec<u8>, Entry) {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let record = &all[place(address)];
        assert_eq!(record.entry.address, address, "the index made up an address");
        (record.keyspace, record.key.clone(), record.entry)
    }

    /// The number of records.
    pub fn len(&self) -> usize {
        self.all.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True if there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Location for Records {
    fn probe(&self, address: Address, keyspace: u32, key: &[u8]) -> Probe {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let record = &all[place(address)];
        assert_eq!(record.entry.address, address, "the index made up an address");
        if record.keyspace == keyspace && record.key == key {
            Probe::Same(record.entry.version)
        } else {
            Probe::Other
        }
    }
}

fn place(address: Address) -> usize {
    (address.offset_bytes() / Address::UNIT_BYTES) as usize
}
