//! The records of a group, plain or compressed: the input is what follows the sequence number.

#![no_main]

use cortenkv_wal::fuzzing::{GROUP, HEADER_BYTES, group, header, put_frame};
use libfuzzer_sys::fuzz_target;

const SALT: u64 = 5;

fuzz_target!(|data: &[u8]| {
    let mut file = header([1; 16], 1, SALT);
    put_frame(&mut file, HEADER_BYTES, GROUP, 7, data);
    group(&file[HEADER_BYTES..], SALT, HEADER_BYTES as u64);
});
