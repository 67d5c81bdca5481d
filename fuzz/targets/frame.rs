//! One frame from arbitrary bytes at an arbitrary place: as they are, and with a right checksum.

#![no_main]

use cortenkv_wal::fuzzing::{finish_frame_at, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((place, bytes)) = data.split_first_chunk::<8>() else { return };
    let salt = u64::from_le_bytes(*place);
    let offset = salt >> 40 << 3;
    frame(bytes, salt, offset);
    let mut finished = bytes.to_vec();
    // The checksum covers what the length says, so the bytes are cut there.
    let stored_bytes = finished.get(4..7).map_or(0, |length| {
        usize::from(length[0]) + (usize::from(length[1]) << 8) + (usize::from(length[2]) << 16)
    }) * 8;
    finished.truncate(stored_bytes);
    finish_frame_at(&mut finished, salt, offset);
    frame(&finished, salt, offset);
});
