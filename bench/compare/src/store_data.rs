//! Keys and values that check themselves: whatever a store answers can be told from what it should answer.
//!
//! # Layout of a value
//! Number of the key (8 bytes), generation (8), bytes that no codec makes smaller, and last a mix of both (8).

use cortenkv_bench::computed_records::mixed;
use cortenkv_bench::seed::SplitMix64;

use crate::store::{KEY_BYTES, Key};

/// Values begin somewhere in here; it stays in the cache of a core.
const POOL_BYTES: usize = 1 << 16;
const WORD: usize = 8;
/// A value holds three words at least.
pub const VALUE_BYTES_MIN: usize = 3 * WORD;

/// The key of a number: 16 decimal digits, in the order of the numbers, as benches of stores have them. Stored keys
/// are even, so that missing ones lie between them.
pub fn key(number: u64) -> Key {
    digits(2 * number)
}

/// A key that is never stored, between [`key`] of the same number and the next.
pub fn missing_key(number: u64) -> Key {
    digits(2 * number + 1)
}

fn digits(mut number: u64) -> Key {
    let mut key = [b'0'; KEY_BYTES];
    for pair in key.rchunks_exact_mut(2) {
        let two = (number % 100) as u8;
        (pair[0], pair[1]) = (b'0' + two / 10, b'0' + two % 10);
        number /= 100;
    }
    key
}

/// Makes and checks values of one length.
pub struct Values {
    value_bytes: usize,
    pool: Vec<u8>,
}

impl Values {
    /// Values of this length.
    ///
    /// # Panics
    /// Below [`VALUE_BYTES_MIN`].
    pub fn new(value_bytes: usize, seed: u64) -> Self {
        assert!(
            value_bytes >= VALUE_BYTES_MIN,
            "a value of {value_bytes} bytes cannot check itself"
        );
        let mut pool = vec![0; POOL_BYTES + value_bytes];
        SplitMix64::new(seed).fill(&mut pool);
        Values { value_bytes, pool }
    }

    /// The value of a key in a generation.
    pub fn make(&self, number: u64, generation: u64, value: &mut Vec<u8>) {
        let filler = self.value_bytes - VALUE_BYTES_MIN;
        value.clear();
        value.extend_from_slice(&number.to_le_bytes());
        value.extend_from_slice(&generation.to_le_bytes());
        value.extend_from_slice(self.filler(number, generation, filler));
        value.extend_from_slice(&check_word(number, generation).to_le_bytes());
    }

    /// Whether this is a value of the key, by its length and its three words: what each measured read asks.
    pub fn is_of(&self, number: u64, value: &[u8]) -> bool {
        value.len() == self.value_bytes
            && word(value, 0) == number
            && word(value, value.len() - WORD) == check_word(number, word(value, WORD))
    }

    /// Whether every byte is right.
    pub fn is_whole(&self, number: u64, value: &[u8]) -> bool {
        let middle = 2 * WORD..value.len().saturating_sub(WORD);
        self.is_of(number, value)
            && value[middle.clone()] == *self.filler(number, word(value, WORD), middle.len())
    }

    fn filler(&self, number: u64, generation: u64, len: usize) -> &[u8] {
        let start = check_word(number, generation) as usize % POOL_BYTES;
        &self.pool[start..start + len]
    }
}

fn check_word(number: u64, generation: u64) -> u64 {
    mixed(number ^ generation.rotate_left(40))
}

fn word(value: &[u8], at: usize) -> u64 {
    value[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_order_of_numbers_and_missing_ones_lie_between() {
        assert_eq!(&key(1234), b"0000000000002468");
        assert_eq!(&missing_key(1234), b"0000000000002469");
        assert!(key(49) < missing_key(49) && missing_key(49) < key(50));
    }

    #[test]
    fn a_value_of_another_key_or_with_a_wrong_byte_is_told() {
        let values = Values::new(100, 1);
        let mut value = Vec::new();
        values.make(7, 3, &mut value);
        assert_eq!(value.len(), 100);
        assert!(values.is_of(7, &value) && values.is_whole(7, &value));
        assert!(!values.is_of(8, &value) && !values.is_of(7, &value[..99]));
        for at in 0..value.len() {
            value[at] ^= 1;
            assert!(!values.is_whole(7, &value), "byte {at}");
            value[at] ^= 1;
        }
        assert!(!values.is_whole(7, &[]) && !values.is_of(7, &[]));
    }
}
