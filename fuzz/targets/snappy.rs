//! Bounded decompression against `snap` itself: the same bytes, or a refusal where the claim is out of reach.

#![no_main]

use cortenkv_wal::fuzzing::snappy;
use libfuzzer_sys::fuzz_target;

/// More than any input of the fuzzer reaches, so that what the reference allocates stays small.
const RAW_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((claimed, stream)) = data.split_first_chunk::<4>() else { return };
    let claimed = u32::from_le_bytes(*claimed);
    let bounded = snappy(stream, claimed);
    if let Some(bytes) = &bounded {
        assert_eq!(bytes.len(), claimed as usize);
        assert!(bytes.len() <= 22 * stream.len() + 64);
    }
    let true_len = snap::raw::decompress_len(stream).unwrap_or(usize::MAX);
    if true_len <= RAW_BYTES_MAX {
        let reference = snap::raw::Decoder::new().decompress_vec(stream).ok();
        if let Some(bytes) = &bounded {
            assert_eq!(reference.as_ref(), Some(bytes));
        }
        // Every sound stream is within the bound, so a right claim is believed.
        assert_eq!(snappy(stream, true_len as u32), reference);
    }
});
