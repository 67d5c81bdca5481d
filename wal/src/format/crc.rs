//! CRC32C of short bytes without the fixed cost of the library: most records are short, and every read verifies one.
//!
//! The library splits its input for three units that work side by side, which pays from 768 bytes on; for a record of 136
//! bytes the splitting took 330 instructions in two calls, where the words themselves take 60.
//!
//! Unsafe code: the instruction needs a processor that has it, which is asked for. Everything else, and every other
//! processor, is the library's.
#![allow(unsafe_code, reason = "the named file for the intrinsic; see above")]

/// The shortest input that the library computes in three parts.
#[cfg(target_arch = "x86_64")]
const LONG_BYTES_MIN: usize = 768;

/// CRC32C of some bytes.
#[inline]
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc32c_append(0, bytes)
}

/// CRC32C of some bytes behind others, whose CRC32C is `crc`.
#[inline]
pub(crate) fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() < LONG_BYTES_MIN && is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instruction.
        return unsafe { append_short(crc, bytes) };
    }
    crc32c::crc32c_append(crc, bytes)
}

/// CRC32C of some bytes and of words behind them.
#[inline]
pub(crate) fn crc32c_with_words(bytes: &[u8], words: [u64; 4]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() < LONG_BYTES_MIN && is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instruction.
        return unsafe { append_words(append_short(0, bytes), words) };
    }
    append_words_by_library(crc32c::crc32c(bytes), words)
}

/// CRC32C of words behind bytes whose CRC32C is `crc`.
#[inline]
pub(crate) fn crc32c_append_words(crc: u32, words: [u64; 4]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instruction.
        return unsafe { append_words(crc, words) };
    }
    append_words_by_library(crc, words)
}

fn append_words_by_library(crc: u32, words: [u64; 4]) -> u32 {
    words.into_iter().fold(crc, |crc, word| crc32c::crc32c_append(crc, &word.to_le_bytes()))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
#[inline]
fn append_short(crc: u32, bytes: &[u8]) -> u32 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};
    let (words, rest) = bytes.as_chunks::<8>();
    let crc = words
        .iter()
        .fold(u64::from(!crc), |crc, word| _mm_crc32_u64(crc, u64::from_le_bytes(*word)));
    !rest.iter().fold(crc as u32, |crc, byte| _mm_crc32_u8(crc, *byte))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
#[inline]
fn append_words(crc: u32, words: [u64; 4]) -> u32 {
    use std::arch::x86_64::_mm_crc32_u64;
    !(words.into_iter().fold(u64::from(!crc), |crc, word| _mm_crc32_u64(crc, word)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_alignment_agrees_with_the_library() {
        let bytes: Vec<u8> =
            (0..1_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let words = [1, u64::MAX, 0x0123_4567_89ab_cdef, 0];
        let tail: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        for start in 0..8 {
            for len in (0..300).chain(760..776) {
                let part = &bytes[start..start + len];
                let expected = crc32c::crc32c(part);
                assert_eq!(crc32c(part), expected, "{len} bytes from {start}");
                let behind = crc32c::crc32c_append(7, part);
                assert_eq!(crc32c_append(7, part), behind, "{len} bytes from {start}");
                let whole = crc32c::crc32c_append(expected, &tail);
                assert_eq!(crc32c_with_words(part, words), whole, "{len} bytes from {start}");
                assert_eq!(crc32c_append_words(expected, words), whole);
                assert_eq!(append_words_by_library(expected, words), whole);
            }
        }
    }
}
