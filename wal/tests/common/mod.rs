//! What the suites on the simulated file system share: a log with tiny segments, and a handler that keeps the newest
//! version of each key.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cortenkv_wal::clock::ManualClock;
use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::vfs::sim::Image;
use cortenkv_wal::{
    Background, Batch, Durability, Location, RecordKind, RecordRef, RecoveryReport, ReplayHandler,
    Result, Wal, WalOptions,
};

pub const DIR: &str = "log";
pub const SEED: u64 = 7;

/// Newest version of each key: sequence, value (`None` for a delete), expiry, place.
pub type Versions = BTreeMap<Vec<u8>, (u64, Option<Vec<u8>>, Option<u64>, Location)>;

#[derive(Debug, Default)]
pub struct Model {
    pub versions: Mutex<Versions>,
}

impl ReplayHandler for Model {
    fn apply(&self, records: &[RecordRef<'_>]) {
        let mut versions = self.versions.lock().unwrap();
        for record in records {
            let value = (record.kind == RecordKind::Put).then(|| record.value.to_vec());
            let version = (record.seq, value, record.expires_at_ms, record.location);
            match versions.get(record.key) {
                Some(known) if known.0 > record.seq => {}
                _ => drop(versions.insert(record.key.to_vec(), version)),
            }
        }
    }
}

impl Model {
    /// Keys with their values; deleted ones have none.
    pub fn content(&self) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
        let versions = self.versions.lock().unwrap();
        versions.iter().map(|(key, version)| (key.clone(), version.1.clone())).collect()
    }

    pub fn keys(&self) -> Vec<String> {
        let versions = self.versions.lock().unwrap();
        versions.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }
}

/// Tiny segments, no thread, a clock that stands still.
pub fn options(sim: &SimVfs) -> WalOptions {
    WalOptions::default()
        .vfs(Arc::new(sim.clone()))
        .clock(Arc::new(ManualClock::at_wall_ms(1_700_000_000_000)))
        .background(Background::Manual)
        .durability(Durability::Always)
        .segment_bytes(16 << 10)
        .window_bytes(4096)
}

pub fn open(options: WalOptions) -> Result<(Wal, RecoveryReport, Arc<Model>)> {
    let model = Arc::new(Model::default());
    let (wal, report) = Wal::open(DIR, options, model.clone())?;
    Ok((wal, report, model))
}

pub fn put(key: &str, value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(0, key.as_bytes(), value).unwrap();
    batch
}

pub fn segment_path(id: u64) -> String {
    format!("{DIR}/{id:016x}.seg")
}

/// The segment files of an image, oldest first.
pub fn segments(image: &Image) -> Vec<String> {
    let is_segment = |path: &&Path| path.extension().is_some_and(|e| e == "seg");
    image.paths().filter(is_segment).map(|path| path.display().to_string()).collect()
}

/// Bytes that no codec makes smaller, the same in every run.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(next).collect()
}
