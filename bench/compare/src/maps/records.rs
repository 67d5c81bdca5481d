//! A flat array of records in memory, which plays the log of an index.
//!
//! # Layout
//! Words of 8 bytes: head (the number of the key), key (2), sequence number, value of 100 bytes (13). A record's
//! address is the place of its first word.
//!
//! # Concurrency
//! Words are relaxed atomics: what makes a record visible is the index, which publishes its address. Who looks at a
//! record holds a pin from before its address was read; see [`Spares`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cortenkv_index::{Address, Grace, Location, Probe, Version, prefetch};

use super::map::MapKey;

/// Words of a record.
const WORDS: u64 = 17;
/// Records that wait between being replaced and being written again, for each thread.
pub const SPARES: u64 = if cfg!(test) { 256 } else { 1 << 16 };
/// Of them, those that share a grace period: few enough that some are always ready or waiting.
const SPARE_BLOCK: usize = SPARES as usize / 8;

/// The records.
pub struct FlatRecords {
    words: Vec<AtomicU64>,
}

impl FlatRecords {
    /// Room for so many, every page of it touched.
    pub fn new(records: u64) -> Self {
        FlatRecords { words: (0..records * WORDS).map(AtomicU64::new).collect() }
    }

    /// Writes head, key and sequence number of a record. Its value is not the concern of an index.
    pub fn write(&self, place: u64, number: u64, key: &MapKey, seq: u64) -> Address {
        let base = (place * WORDS) as usize;
        let [first, second] = key_words(&key.0);
        self.words[base].store(number, Relaxed);
        self.words[base + 1].store(first, Relaxed);
        self.words[base + 2].store(second, Relaxed);
        self.words[base + 3].store(seq, Relaxed);
        Address::from_bits(place * WORDS).expect("2^39 words are more than fit in memory")
    }

    /// The place of the record at an address.
    pub fn place(address: Address) -> u64 {
        address.to_bits() / WORDS
    }

    /// The number in the head of a record.
    pub fn number(&self, address: Address) -> u64 {
        self.words[address.to_bits() as usize].load(Relaxed)
    }

    /// Begins to load a record.
    #[inline]
    pub fn prefetch_record(&self, address: Address) {
        prefetch(&self.words[address.to_bits() as usize]);
    }

    /// Whether the record at an address has this key.
    #[inline]
    pub fn probe_key(&self, address: Address, key: &[u8; 16]) -> Probe {
        let base = address.to_bits() as usize;
        let found = [self.words[base + 1].load(Relaxed), self.words[base + 2].load(Relaxed)];
        match found == key_words(key) {
            true => Probe::Same(Version {
                seq: self.words[base + 3].load(Relaxed),
                tombstone: false,
                segment: 0,
            }),
            false => Probe::Other,
        }
    }
}

impl Location for FlatRecords {
    fn probe(&self, address: Address, _keyspace: u32, key: &[u8]) -> Probe {
        match key.try_into() {
            Ok(key) => self.probe_key(address, key),
            Err(_) => Probe::Other,
        }
    }

    fn prefetch(&self, address: Address) {
        self.prefetch_record(address);
    }
}

fn key_words(key: &[u8; 16]) -> [u64; 2] {
    let word = |at: usize| key[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    [word(0), word(8)]
}

/// The records of one thread that nothing points at, first in first out: as a log, it writes where it has not written
/// for long.
///
/// A record that was replaced may still be looked at by who read its address before, so it is written again only after
/// a grace period, as the owner of an index must see to.
pub struct Spares {
    ready: VecDeque<u64>,
    freed: Vec<u64>,
    waiting: VecDeque<(Grace, Vec<u64>)>,
}

impl Spares {
    /// The spares of a thread: [`SPARES`] records from `first` on.
    pub fn new(first: u64) -> Self {
        let ready = (first..first + SPARES).collect();
        Spares { ready, freed: Vec::with_capacity(SPARE_BLOCK), waiting: VecDeque::new() }
    }

    /// Takes the oldest one. Waits if another thread holds a pin for as long as it takes to use up all others.
    pub fn take(&mut self) -> u64 {
        loop {
            if let Some(place) = self.ready.pop_front() {
                return place;
            }
            if self.waiting.front().is_some_and(|(grace, _)| grace.is_over()) {
                self.ready.extend(self.waiting.pop_front().into_iter().flat_map(|block| block.1));
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// Puts back a record that nothing points at any more.
    pub fn put(&mut self, place: u64) {
        self.freed.push(place);
        if self.freed.len() == SPARE_BLOCK {
            let block = std::mem::replace(&mut self.freed, Vec::with_capacity(SPARE_BLOCK));
            self.waiting.push_back((Grace::begin(), block));
        }
    }
}
