//! What a map or an index must do to be measured at the work of a point index.
//!
//! Every arm maps a key of 16 bytes to where a record would be. Maps hold the key and a `u64`, as a store would that
//! keeps its keys in memory; an index holds no keys and verifies each hit in the record, which the maps need not do.

use std::hash::{BuildHasher, Hash, Hasher};
use std::path::Path;

use cortenkv_bench::Result;
use cortenkv_bench::computed_records::mixed;
use xxhash_rust::xxh3::xxh3_64;

/// A key: a mixed number, which gives keys an order that looks random, and the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapKey(pub [u8; 16]);

impl MapKey {
    /// The key of a number.
    pub fn of(number: u64) -> Self {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&mixed(number).to_be_bytes());
        key[8..].copy_from_slice(&number.to_be_bytes());
        MapKey(key)
    }

    /// Whether these bytes are a key, as a scan checks each that it sees.
    pub fn is_key(bytes: &[u8]) -> bool {
        bytes.len() == 16
            && bytes
                .last_chunk()
                .is_some_and(|number| *bytes == MapKey::of(u64::from_be_bytes(*number)).0)
    }
}

impl Hash for MapKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The derived hash would also write the length.
        state.write(&self.0);
    }
}

/// The hash that every arm uses, so that none wins by a cheaper one: xxh3 of the 16 bytes at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Xxh3;

impl BuildHasher for Xxh3 {
    type Hasher = Xxh3Hasher;

    fn build_hasher(&self) -> Xxh3Hasher {
        Xxh3Hasher(0)
    }
}

/// See [`Xxh3`].
#[derive(Debug)]
pub struct Xxh3Hasher(u64);

impl Hasher for Xxh3Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// How large a case is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Keys.
    pub keys: u64,
    /// Threads that will have a session.
    pub threads: usize,
}

/// A kind of map: one arm.
pub trait MapKind: Send + Sync {
    /// A short name without spaces.
    fn name(&self) -> String;

    /// Every setting.
    fn settings(&self) -> String;

    /// Whether it can walk in key order.
    fn has_order(&self) -> bool;

    /// Whether it has rows of this work beside scans and memory; an arm that differs in one work only has that one.
    fn has_row(&self, work: PointWork) -> bool {
        let _ = work;
        true
    }

    /// Keys that one look-up takes.
    fn batch_keys(&self) -> usize {
        1
    }

    /// An empty map, which may keep files in `dir`. What is not the map, such as records, is made here and not counted
    /// as its memory.
    fn open(&self, size: Size, dir: &Path) -> Result<Box<dyn Map>>;
}

/// The works on single keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointWork {
    /// New keys.
    Insert,
    /// Look-ups.
    Get,
    /// Another value for a key that is there.
    Replace,
    /// Keys that are there are taken out.
    Remove,
    /// Look-ups and replacements.
    Mixed,
}

/// An open map.
pub trait Map: Send + Sync {
    /// What one thread works with; each thread takes one with its own number.
    fn session(&self, thread: usize) -> Box<dyn MapSession + '_>;

    /// Does what is left of background work.
    fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Bytes that were allocated before the map itself and stay, by the counter of allocations.
    fn bytes_beside(&self) -> i64 {
        0
    }
}

/// The work of one thread. Each answer is whether the map did what it should.
pub trait MapSession {
    /// Puts a new key.
    fn insert(&mut self, number: u64) -> bool;

    /// Looks a key up that is there; true if what was found belongs to it.
    fn get(&mut self, number: u64) -> bool;

    /// Looks many keys up.
    fn get_batch(&mut self, numbers: &[u64]) -> bool {
        numbers.iter().all(|&number| self.get(number))
    }

    /// Gives a key that is there another value.
    fn replace(&mut self, number: u64) -> bool;

    /// Takes a key out that is there.
    fn remove(&mut self, number: u64) -> bool;

    /// Walks from a key that is there over so many, in order, or to the end; looks at each.
    fn scan(&mut self, number: u64, count: usize) -> bool;
}

/// Looks at the keys of a scan: every one must be a key, and greater than the one before.
pub struct ScanCheck {
    last: MapKey,
    left: usize,
    is_right: bool,
}

impl ScanCheck {
    /// A scan of `count` keys from the key of `number` on.
    pub fn new(number: u64, count: usize) -> Self {
        ScanCheck { last: MapKey::of(number), left: count, is_right: false }
    }

    /// Sees the next key; false when that was the last, or a wrong one.
    pub fn see(&mut self, key: &[u8]) -> bool {
        // The first key is the one that was asked for.
        let is_first = !self.is_right;
        self.is_right = MapKey::is_key(key)
            && if is_first { *key == self.last.0 } else { *key > self.last.0[..] };
        if !self.is_right {
            self.left = 0;
            return false;
        }
        self.last.0.copy_from_slice(key);
        self.left -= 1;
        self.left > 0
    }

    /// Whether everything was right.
    pub fn is_right(&self) -> bool {
        self.is_right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_right_only_in_order_and_from_its_key_on() {
        let (low, high) = match MapKey::of(1) < MapKey::of(2) {
            true => (1, 2),
            false => (2, 1),
        };
        let see = |start, keys: &[u64]| {
            let mut check = ScanCheck::new(start, 3);
            for &number in keys {
                check.see(&MapKey::of(number).0);
            }
            check.is_right()
        };
        assert!(see(low, &[low, high]));
        assert!(!see(high, &[high, low]));
        assert!(!see(high, &[low]));
        assert!(!see(low, &[]));
        assert!(!see(low, &[low, low]));
        assert!(!ScanCheck::new(low, 3).see(&[0; 16]));
    }
}
