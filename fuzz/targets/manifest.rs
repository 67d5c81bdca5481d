//! A manifest from arbitrary bytes: as they are, and as edits behind a header, with right checksums.

#![no_main]

use cortenkv::fuzzing::{header, manifest, refinish};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    manifest(data);
    let mut file = data.to_vec();
    refinish(&mut file);
    manifest(&file);
    for features in [0, 1] {
        let mut file = header(features);
        file.extend_from_slice(data);
        manifest(&file);
        refinish(&mut file);
        manifest(&file);
    }
});
