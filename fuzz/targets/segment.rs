//! The scan of a whole segment file: the input is what follows the header, as it is and with right checksums.

#![no_main]

use cortenkv_wal::fuzzing::{header, refinish, segment};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut file = header([1; 16], 1, 5);
    file.extend_from_slice(data);
    segment(&file);
    refinish(&mut file);
    segment(&file);
});
