//! Bare syncs: what one durable write costs on this disk without a store.

#![expect(clippy::disallowed_methods, reason = "measures the file system itself")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use crate::bench::samples::{Figures, Samples};
use crate::failure::{Failure, Result};

const FILE_BYTES: u64 = 1 << 20;
const WRITE_BYTES: usize = 128;

/// Writes 128 bytes into blocks that exist, and syncs, again and again.
///
/// # Errors
/// As the operating system says.
pub fn syncs(dir: &Path, time: Duration, name: &'static str) -> Result<Figures> {
    let path = dir.join("sync-probe");
    let cannot = |error: io::Error| Failure::io("measure syncs in", &path, &error);
    let file = File::create(&path).map_err(cannot)?;
    // Blocks that are there already: only then is a sync one write.
    file.write_all_at(&vec![1; FILE_BYTES as usize], 0).map_err(cannot)?;
    file.sync_all().map_err(cannot)?;
    let mut samples = Samples::start(name);
    while samples.elapsed() < time {
        let offset = samples.count() * WRITE_BYTES as u64 % FILE_BYTES;
        let write_and_sync = || {
            file.write_all_at(&[2; WRITE_BYTES], offset)?;
            file.sync_data()
        };
        samples.measure(write_and_sync).map_err(cannot)?;
    }
    Ok(samples.finish())
}
