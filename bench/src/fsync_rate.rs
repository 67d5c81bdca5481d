//! How fast the disk of this minute syncs: the yardstick beside every durable number.
//!
//! One thread overwrites blocks that are allocated and written already, 128 bytes at a time, and calls fdatasync after
//! each: no file grows, so the file system has no metadata to write, and nothing but the device is waited for.
//!
//! The blocks are written ahead in pieces of 4 KiB. On ext4 with large folios (Linux 6.18) a file that was filled in
//! larger pieces is cached in larger folios, and then each small overwrite makes the sync write more than its block.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::latency::{Latency, LatencySummary};

const FILE_BYTES: u64 = 2 << 20;
const WRITE_BYTES: usize = 128;
/// From one write to the next: what a record of 128 bytes takes in a log.
const STRIDE_BYTES: u64 = 160;
const PIECE_BYTES: u64 = 4096;

/// What a probe found.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct FsyncRate {
    /// Write and sync pairs per second.
    pub per_second: f64,
    /// How long the pairs took.
    pub latency: LatencySummary,
}

/// Creates a file with `bytes` bytes (rounded up to 4 KiB) allocated, written and synced.
pub fn create_prewritten(path: &Path, bytes: u64) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    let piece = [0u8; PIECE_BYTES as usize];
    for index in 0..bytes.div_ceil(PIECE_BYTES) {
        file.write_all_at(&piece, index * PIECE_BYTES)?;
    }
    // DURABILITY: length and allocation reach the disk here, so that later syncs write data only.
    file.sync_all()?;
    Ok(file)
}

/// Measures the rate on the file system of `dir` for about this long; at least one sync.
pub fn measure(dir: &Path, window: Duration) -> Result<FsyncRate> {
    let path = dir.join("fsync-rate.tmp");
    let result = measure_at(&path, window)
        .context(|| format!("measuring the fsync rate in {} failed", dir.display()));
    // Best effort: the probe may have failed before the file was there, and the directory is removed as a whole anyway.
    let _ = std::fs::remove_file(&path);
    result
}

fn measure_at(path: &Path, window: Duration) -> io::Result<FsyncRate> {
    let file = create_prewritten(path, FILE_BYTES)?;
    let record = [0x5a; WRITE_BYTES];
    let mut latency = Latency::new();
    let mut offset = 0;
    let start = Instant::now();
    let mut now = start;
    loop {
        file.write_all_at(&record, offset)?;
        // DURABILITY: the sync that is measured.
        file.sync_data()?;
        offset += STRIDE_BYTES;
        if offset + STRIDE_BYTES > FILE_BYTES {
            offset = 0;
        }
        let before = now;
        now = Instant::now();
        latency.record(now - before);
        if now - start >= window {
            break;
        }
    }
    let latency = latency.summary();
    Ok(FsyncRate { per_second: latency.samples as f64 / (now - start).as_secs_f64(), latency })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_measures_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let rate = measure(dir.path(), Duration::from_millis(20)).unwrap();
        assert!(rate.per_second > 0.0);
        assert!(rate.latency.samples >= 1);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_probe_without_a_directory_says_where() {
        let error = measure(Path::new("/nowhere/at/all"), Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
    }
}
